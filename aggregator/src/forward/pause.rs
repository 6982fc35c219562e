//! How long to wait before the next attempt.

use std::time::Duration;

use crate::backoff;

/// The pause after a first failure; it doubles with each further one.
const FIRST: Duration = Duration::from_millis(100);

/// The longest pause: a destination that is back is used again within seconds.
const LONGEST: Duration = Duration::from_secs(5);

/// The pause after so many failures in a row, with up to half of it taken off at random, so that agents do not come all at once.
pub(super) fn pause_after(failures: u32) -> Duration {
    backoff::after(FIRST, LONGEST, failures.saturating_sub(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_seconds_from_the_first_failure_on() {
        for (failures, full) in [
            (1, FIRST),
            (2, FIRST * 2),
            (3, FIRST * 4),
            (u32::MAX, LONGEST),
        ] {
            let pause = pause_after(failures);
            assert!(pause >= full / 2 && pause <= full, "{failures}: {pause:?}");
        }
    }
}
