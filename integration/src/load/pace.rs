//! Sending at a rate.

use std::time::{Duration, Instant};

/// A sender that is behind makes up for at most this much.
const LONGEST_DEBT: Duration = Duration::from_millis(200);

/// When the next piece may leave.
#[derive(Debug)]
pub(super) struct Pace {
    /// Metrics a second; `None`: at once.
    rate: Option<f64>,
    due: Instant,
}

impl Pace {
    pub(super) fn new(rate: Option<f64>) -> Self {
        Self {
            rate: rate.filter(|rate| *rate > 0.0),
            due: Instant::now(),
        }
    }

    /// How long to wait before `metrics` more leave.
    pub(super) fn next(&mut self, metrics: usize) -> Duration {
        let Some(rate) = self.rate else {
            return Duration::ZERO;
        };
        let now = Instant::now();
        if let Some(earliest) = now.checked_sub(LONGEST_DEBT) {
            self.due = self.due.max(earliest);
        }
        let wait = self.due.saturating_duration_since(now);
        self.due += Duration::from_secs_f64(metrics as f64 / rate);
        wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_rate_nothing_waits_and_with_one_each_piece_waits_for_those_before_it() {
        assert_eq!(Pace::new(None).next(1_000_000), Duration::ZERO);
        let mut pace = Pace::new(Some(10.0));
        assert_eq!(pace.next(20), Duration::ZERO);
        let wait = pace.next(20);
        assert!(wait > Duration::from_secs(1), "{wait:?}");
        assert!(wait <= Duration::from_secs(2), "{wait:?}");
    }
}
