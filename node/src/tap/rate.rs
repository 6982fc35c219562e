//! How many metrics a tap shows.

use std::str::FromStr;
use std::time::{Duration, Instant};

/// The most that a tap may be asked for: people read less, and programs have better sources.
const MOST_A_SECOND: f64 = 10_000.0;

/// So many in a time, as in `50/s`, `10/m` or `50` (a second).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rate {
    a_second: f64,
}

/// Not a rate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("rate {0:?} is none: write it like 50/s or 10/m, at most 10000/s")]
pub struct RateError(String);

impl Default for Rate {
    fn default() -> Self {
        Self { a_second: 100.0 }
    }
}

impl FromStr for Rate {
    type Err = RateError;

    fn from_str(text: &str) -> Result<Self, RateError> {
        let wrong = || RateError(text.to_owned());
        let (number, seconds) = match text.split_once('/') {
            None | Some((_, "s")) => (text.trim_end_matches("/s"), 1.0),
            Some((number, "m")) => (number, 60.0),
            Some(_) => return Err(wrong()),
        };
        let number: u32 = number.parse().map_err(|_| wrong())?;
        let a_second = f64::from(number) / seconds;
        match a_second > 0.0 && a_second <= MOST_A_SECOND {
            true => Ok(Self { a_second }),
            false => Err(wrong()),
        }
    }
}

/// Lets so many through, and at first as many as a second brings.
#[derive(Debug)]
pub(super) struct Bucket {
    a_second: f64,
    left: f64,
    filled: Instant,
}

// === impl Bucket ===

impl Bucket {
    pub(super) fn new(rate: Rate) -> Self {
        Self {
            a_second: rate.a_second,
            left: rate.a_second.max(1.0),
            filled: Instant::now(),
        }
    }

    pub(super) fn take(&mut self) -> bool {
        self.take_at(Instant::now())
    }

    fn take_at(&mut self, now: Instant) -> bool {
        let since = now.saturating_duration_since(self.filled);
        // Not for each metric of a burst: clocks are finer than a part of a token.
        if since >= Duration::from_millis(1) {
            self.filled = now;
            let most = self.a_second.max(1.0);
            self.left = (self.left + since.as_secs_f64() * self.a_second).min(most);
        }
        let passes = self.left >= 1.0;
        if passes {
            self.left -= 1.0;
        }
        passes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_read_and_bounded() {
        let a_second = |text: &str| text.parse::<Rate>().map(|rate| rate.a_second);
        assert_eq!(a_second("50/s"), Ok(50.0));
        assert_eq!(a_second("50"), Ok(50.0));
        assert_eq!(a_second("30/m"), Ok(0.5));
        for bad in [
            "", "0", "0/s", "-1", "x/s", "5/h", "10001", "5/s/s", "/s", "1.5",
        ] {
            assert!(a_second(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn as_many_pass_as_the_rate_says() {
        let mut bucket = Bucket::new("10/s".parse().unwrap());
        let start = bucket.filled;
        let passed = |bucket: &mut Bucket, at| (0..100).filter(|_| bucket.take_at(at)).count();
        assert_eq!(passed(&mut bucket, start), 10);
        assert_eq!(passed(&mut bucket, start + Duration::from_millis(500)), 5);
        assert_eq!(passed(&mut bucket, start + Duration::from_secs(60)), 10);
        let mut slow = Bucket::new("6/m".parse().unwrap());
        let start = slow.filled;
        assert_eq!(passed(&mut slow, start), 1);
        assert_eq!(passed(&mut slow, start + Duration::from_secs(5)), 0);
        assert_eq!(passed(&mut slow, start + Duration::from_secs(11)), 1);
    }
}
