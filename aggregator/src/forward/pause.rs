//! How long to wait before the next attempt.

use std::time::Duration;

/// The pause after a first failure; it doubles with each further one.
const FIRST: Duration = Duration::from_millis(100);
/// The longest pause: a destination that is back is used again within seconds.
const LONGEST: Duration = Duration::from_secs(5);

/// The pause after so many failures in a row, with up to half of it taken off at random, so that agents do not come all at once.
pub(super) fn pause_after(failures: u32) -> Duration {
    jittered(failures, fastrand::f64())
}

/// `random` is at least 0 and below 1.
fn jittered(failures: u32, random: f64) -> Duration {
    let doublings = failures.saturating_sub(1).min(16);
    let pause = (FIRST * (1 << doublings)).min(LONGEST);
    pause.mul_f64(1.0 - random / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_seconds_and_differ() {
        assert_eq!(jittered(1, 0.0), FIRST);
        assert_eq!(jittered(3, 0.0), FIRST * 4);
        assert_eq!(jittered(u32::MAX, 0.0), LONGEST);
        assert_eq!(jittered(2, 0.5), FIRST * 3 / 2);
    }
}
