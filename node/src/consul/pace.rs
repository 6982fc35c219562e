//! How long to wait: in Consul for a change, and here between questions.

use std::time::{Duration, Instant};

use super::Settings;

/// The time between questions to Consul about one service.
pub(super) struct Pace {
    refresh: Duration,
    least_gap: Duration,
    failures: u32,
    /// Questions that may be asked without a pause between them.
    credit: f64,
    credited: Instant,
}

// Beyond it a Consul that comes back would be noticed too late.
const LONGEST_BACKOFF: Duration = Duration::from_secs(5);
/// A rolling restart of a service is many changes in a row: this many are followed at once, later ones at one a second.
const BURST: f64 = 10.0;
const A_SECOND: f64 = 1.0;

// === impl Pace ===

impl Pace {
    pub(super) fn new(settings: &Settings) -> Self {
        Self {
            refresh: settings.refresh_interval,
            least_gap: settings.least_gap,
            failures: 0,
            credit: BURST,
            credited: Instant::now(),
        }
    }

    /// The wait to ask Consul for: below the refresh interval by a random part, so that many watchers spread, and by
    /// what Consul itself adds, so that the interval is kept.
    pub(super) fn wait(&self) -> Duration {
        self.refresh.mul_f64(0.94 - fastrand::f64() / 16.0)
    }

    /// The pause after a question that was answered and took so long.
    pub(super) fn after_success(&mut self, index: u64, took: Duration, now: Instant) -> Duration {
        self.failures = 0;
        // Without an index Consul answers at once each time: ask by the clock then.
        let gap = if index == 0 {
            self.refresh.max(self.least_gap)
        } else {
            self.least_gap
        };
        gap.saturating_sub(took).max(self.spend(now))
    }

    /// The pause after a question that failed and took so long.
    pub(super) fn after_failure(&mut self, took: Duration, now: Instant) -> Duration {
        let longest = self.refresh.min(LONGEST_BACKOFF).max(self.least_gap);
        let gap = self
            .least_gap
            .saturating_mul(1 << self.failures.min(10))
            .min(longest);
        self.failures = self.failures.saturating_add(1);
        // A question that took its time to fail has waited already, but never ask twice in a row.
        gap.mul_f64(0.75 + fastrand::f64() / 4.0)
            .saturating_sub(took)
            .max(self.least_gap / 2)
            .max(self.spend(now))
    }

    /// Takes one question off the credit. The pause until there is credit again.
    fn spend(&mut self, now: Instant) -> Duration {
        let earned = now.duration_since(self.credited).as_secs_f64() * A_SECOND;
        self.credited = now;
        self.credit = (self.credit + earned).min(BURST) - 1.0;
        Duration::from_secs_f64((-self.credit).max(0.0) / A_SECOND)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pace() -> Pace {
        Pace {
            refresh: Duration::from_secs(30),
            least_gap: Duration::from_secs(1),
            failures: 0,
            credit: BURST,
            credited: Instant::now(),
        }
    }

    #[test]
    fn waits_are_spread_and_stay_within_the_interval_with_what_consul_adds() {
        let waits: Vec<Duration> = (0..1000).map(|_| pace().wait()).collect();
        assert!(
            waits
                .iter()
                .all(|wait| *wait + *wait / 16 <= Duration::from_secs(30))
        );
        assert!(waits.iter().all(|wait| *wait >= Duration::from_secs(26)));
        assert!(waits.iter().max() > waits.iter().min());
    }

    #[test]
    fn questions_keep_their_distance() {
        let (mut pace, now) = (pace(), Instant::now());
        assert_eq!(
            pace.after_success(5, Duration::from_millis(1), now),
            Duration::from_millis(999)
        );
        assert_eq!(
            pace.after_success(5, Duration::from_secs(20), now),
            Duration::ZERO,
            "it waited long enough"
        );
        assert_eq!(
            pace.after_success(0, Duration::ZERO, now),
            Duration::from_secs(30),
            "nothing to wait from"
        );
        let now = now + Duration::from_secs(60);
        let pauses: Vec<f64> = (0..8)
            .map(|_| pace.after_failure(Duration::ZERO, now).as_secs_f64())
            .collect();
        for (pause, longest) in pauses.iter().zip([1.0, 2.0, 4.0, 5.0, 5.0, 5.0, 5.0, 5.0]) {
            assert!((longest * 0.75..=longest).contains(pause), "{pauses:?}");
        }
        pace.after_success(5, Duration::ZERO, now);
        assert!(
            pace.after_failure(Duration::ZERO, now) <= Duration::from_secs(1),
            "a success begins anew"
        );
    }

    #[test]
    fn a_burst_of_changes_is_followed_at_once_and_a_flood_at_one_a_second() {
        let mut pace = Pace {
            least_gap: Duration::from_millis(100),
            ..pace()
        };
        let start = Instant::now();
        let mut now = start;
        let mut asked = Vec::new();
        for _ in 0..40 {
            asked.push(now);
            now += pace.after_success(5, Duration::ZERO, now);
        }
        assert!(
            asked[9] - start <= Duration::from_millis(1_100),
            "{asked:?}"
        );
        let last = asked[39] - asked[29];
        assert!((9.9..10.1).contains(&last.as_secs_f64()), "{last:?}");
    }
}
