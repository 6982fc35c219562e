//! How long to wait before the next attempt.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(5);

/// Doubling waits from 0.1 s to 5 s, each cut by up to a half at random so that proxies do not knock all at once.
#[derive(Debug)]
pub(super) struct Backoff {
    attempts: u32,
}

impl Backoff {
    pub(super) fn new() -> Self {
        Self { attempts: 0 }
    }

    /// Failures since the last [`Self::reset`].
    pub(super) fn attempts(&self) -> u32 {
        self.attempts
    }

    /// Counts a failure and gives the wait after it.
    pub(super) fn next(&mut self) -> Duration {
        let full = FIRST
            .saturating_mul(1_u32.checked_shl(self.attempts).unwrap_or(u32::MAX))
            .min(LONGEST);
        self.attempts = self.attempts.saturating_add(1);
        full.mul_f64(0.5 + fastrand::f64() / 2.0)
    }

    /// It worked.
    pub(super) fn reset(&mut self) {
        self.attempts = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_seconds_and_no_further_until_it_works_again() {
        let mut backoff = Backoff::new();
        for attempt in 0..100 {
            let wait = backoff.next();
            let full = FIRST * (1 << attempt.min(10));
            assert!(
                wait >= full.min(LONGEST) / 2 && wait <= full.min(LONGEST),
                "{attempt}: {wait:?}"
            );
        }
        assert_eq!(backoff.attempts(), 100);
        backoff.reset();
        assert!(backoff.next() <= FIRST);
    }
}
