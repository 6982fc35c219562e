//! How long to wait before what failed is tried again.

use std::time::Duration;

/// Waits that double with each failure, with jitter.
#[derive(Debug)]
pub(crate) struct Backoff {
    first: Duration,
    longest: Duration,
    failures: u32,
}

impl Backoff {
    pub(crate) fn new(first: Duration, longest: Duration) -> Self {
        Self {
            first,
            longest,
            failures: 0,
        }
    }

    /// Something worked.
    pub(crate) fn reset(&mut self) {
        self.failures = 0;
    }

    /// The wait after one more failure: between half of its length and all of it, and no shorter than the server has `asked` for.
    pub(crate) fn next(&mut self, asked: Option<Duration>) -> Duration {
        let wait = self.after(self.failures);
        self.failures = self.failures.saturating_add(1);
        wait.max(asked.unwrap_or_default())
    }

    /// The wait after something that had failed so many times before; what is counted here does not matter to it.
    pub(crate) fn after(&self, failures: u32) -> Duration {
        after(self.first, self.longest, failures)
    }
}

/// The wait after so many failures in a row, the first being 0: `first`, doubled by each up to `longest`, and of that between half and all.
pub(crate) fn after(first: Duration, longest: Duration, failures: u32) -> Duration {
    let doubled = 2_u32.checked_pow(failures).unwrap_or(u32::MAX);
    let full = first.saturating_mul(doubled).min(longest);
    full.mul_f64(0.5 + fastrand::f64() / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest_with_jitter() {
        let second = Duration::from_secs(1);
        for _ in 0..100 {
            let mut backoff = Backoff::new(second, 10 * second);
            for full in [1, 2, 4, 8, 10, 10] {
                let wait = backoff.next(None);
                assert!(
                    wait >= full * second / 2 && wait <= full * second,
                    "{wait:?}"
                );
            }
            for _ in 0..100 {
                assert!(backoff.next(None) <= 10 * second);
            }
            backoff.reset();
            assert!(backoff.next(None) <= second);
            let wait = after(second, 10 * second, u32::MAX);
            assert!(wait >= 5 * second && wait <= 10 * second, "{wait:?}");
        }
    }

    #[test]
    fn a_server_may_ask_for_a_longer_wait_and_for_no_shorter_one() {
        let second = Duration::from_secs(1);
        let mut backoff = Backoff::new(10 * second, 10 * second);
        assert_eq!(backoff.next(Some(60 * second)), 60 * second);
        assert!(backoff.next(Some(second)) >= 5 * second);
    }
}
