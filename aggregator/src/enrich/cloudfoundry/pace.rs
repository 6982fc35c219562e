//! How long to wait before what failed is tried again.

use std::time::Duration;

/// The wait after so many failures in a row, the first being 0: `first`, doubled by each up to `longest`, and of that between half and all.
pub(super) fn pause(first: Duration, longest: Duration, failures: u32) -> Duration {
    let doubled = 2_u32.checked_pow(failures).unwrap_or(u32::MAX);
    let full = first.saturating_mul(doubled).min(longest);
    full.mul_f64(0.5 + fastrand::f64() / 2.0)
}

/// A time with up to a tenth more or less.
pub(super) fn spread(time: Duration) -> Duration {
    time.mul_f64(0.9 + fastrand::f64() / 5.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest_with_jitter() {
        let second = Duration::from_secs(1);
        for _ in 0..100 {
            for (failures, full) in [(0, 1), (1, 2), (3, 8), (4, 10), (u32::MAX, 10)] {
                let wait = pause(second, 10 * second, failures);
                let full = full * second;
                assert!(wait >= full / 2 && wait <= full, "{wait:?}");
            }
            let time = spread(10 * second);
            assert!(time >= 9 * second && time <= 11 * second, "{time:?}");
        }
    }
}
