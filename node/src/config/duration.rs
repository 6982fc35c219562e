//! A span of time as people write it: `10s`, `1m30s`, `1.5h`, `500ms`, `100us`; Go's notation.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A span of time, not negative, in nanoseconds up to 292 years.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Duration(std::time::Duration);

/// Why a text is not a [`Duration`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    /// Nothing, or something that is no number with a unit.
    #[error("{0:?} is not a duration, write it like 10s, 1m30s or 500ms")]
    Malformed(String),
    /// A number alone.
    #[error("{0:?} lacks a unit, write for instance {0}s or {0}ms")]
    NoUnit(String),
    /// Letters that name no unit.
    #[error("{unit:?} in {text:?} is not a unit of time, use h, m, s, ms, us or ns")]
    Unit {
        /// The whole text.
        text: String,
        /// The letters.
        unit: String,
    },
    /// Below zero.
    #[error("{0:?} is negative")]
    Negative(String),
    /// More than can be counted in nanoseconds.
    #[error("{0:?} is too long")]
    TooLong(String),
}

// Longest first, so that `ms` is not read as `m`.
const UNITS: [(&str, u64); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("μs", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

// === impl Duration ===

impl Duration {
    /// No time at all.
    pub const ZERO: Self = Self(std::time::Duration::ZERO);

    /// So many seconds.
    pub const fn seconds(seconds: u64) -> Self {
        Self(std::time::Duration::from_secs(seconds))
    }

    /// So many milliseconds.
    pub const fn millis(millis: u64) -> Self {
        Self(std::time::Duration::from_millis(millis))
    }

    /// The standard library's type.
    pub const fn get(self) -> std::time::Duration {
        self.0
    }

    /// Whether it is zero, which many keys read as "off".
    pub const fn is_zero(self) -> bool {
        self.0.is_zero()
    }
}

impl From<std::time::Duration> for Duration {
    fn from(duration: std::time::Duration) -> Self {
        Self(duration)
    }
}

impl From<Duration> for std::time::Duration {
    fn from(duration: Duration) -> Self {
        duration.0
    }
}

impl FromStr for Duration {
    type Err = DurationError;

    fn from_str(text: &str) -> Result<Self, DurationError> {
        let malformed = || DurationError::Malformed(text.to_owned());
        let mut rest = text.trim();
        if rest.starts_with('-') {
            return Err(DurationError::Negative(text.to_owned()));
        }
        rest = rest.strip_prefix('+').unwrap_or(rest);
        if rest == "0" {
            return Ok(Self::ZERO);
        }
        if rest.is_empty() {
            return Err(malformed());
        }
        let mut nanos: u128 = 0;
        while !rest.is_empty() {
            let (number, after) = split(rest, |c| c.is_ascii_digit() || c == '.');
            let (unit, after) = split(after, |c| !c.is_ascii_digit() && c != '.');
            rest = after;
            if unit.is_empty() && nanos == 0 && !number.is_empty() {
                return Err(DurationError::NoUnit(text.to_owned()));
            }
            let scale = UNITS
                .iter()
                .find(|(name, _)| *name == unit)
                .map(|(_, scale)| *scale);
            let Some(scale) = scale else {
                return Err(if unit.is_empty() || number.is_empty() {
                    malformed()
                } else {
                    DurationError::Unit {
                        text: text.to_owned(),
                        unit: unit.to_owned(),
                    }
                });
            };
            nanos += scaled(number, u128::from(scale)).ok_or_else(malformed)?;
            if nanos > i64::MAX as u128 {
                return Err(DurationError::TooLong(text.to_owned()));
            }
        }
        let nanos = u64::try_from(nanos).map_err(|_| DurationError::TooLong(text.to_owned()))?;
        Ok(Self(std::time::Duration::from_nanos(nanos)))
    }
}

/// Cuts `text` where `belongs` first fails.
pub(super) fn split(text: &str, belongs: impl Fn(char) -> bool) -> (&str, &str) {
    text.split_at(text.find(|c| !belongs(c)).unwrap_or(text.len()))
}

/// A decimal number times `scale`, the rest below one cut off; `None` where `number` is none. Saturates.
pub(super) fn scaled(number: &str, scale: u128) -> Option<u128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
        return None;
    }
    let mut total: u128 = 0;
    for digit in whole.chars() {
        total = total
            .saturating_mul(10)
            .saturating_add(u128::from(digit.to_digit(10)?));
    }
    total = total.saturating_mul(scale);
    // Eighteen digits are finer than a nanosecond of an hour or a byte of a tebibyte.
    let (mut part, mut place) = (0u128, 1u128);
    for digit in fraction.chars().take(18) {
        part = part * 10 + u128::from(digit.to_digit(10)?);
        place *= 10;
    }
    Some(total.saturating_add(part.saturating_mul(scale) / place))
}

impl fmt::Display for Duration {
    /// The shortest notation that reads back as the same value.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanos = self.0.as_nanos();
        if nanos == 0 {
            return f.write_str("0s");
        }
        if nanos < 1_000_000_000 {
            let (unit, scale) = match nanos {
                0..1_000 => ("ns", 1),
                1_000..1_000_000 => ("us", 1_000),
                _ => ("ms", 1_000_000),
            };
            return write!(f, "{}{unit}", Decimal { nanos, scale });
        }
        let (seconds, below) = (nanos / 1_000_000_000, nanos % 1_000_000_000);
        let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
        if hours > 0 {
            write!(f, "{hours}h")?;
        }
        if minutes > 0 {
            write!(f, "{minutes}m")?;
        }
        if seconds > 0 || below > 0 {
            let nanos = seconds * 1_000_000_000 + below;
            write!(
                f,
                "{}s",
                Decimal {
                    nanos,
                    scale: 1_000_000_000
                }
            )?;
        }
        Ok(())
    }
}

struct Decimal {
    nanos: u128,
    scale: u128,
}

impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.nanos / self.scale)?;
        let (mut rest, mut scale) = (self.nanos % self.scale, self.scale);
        if rest > 0 {
            f.write_str(".")?;
        }
        while rest > 0 {
            scale /= 10;
            write!(f, "{}", rest / scale)?;
            rest %= scale;
        }
        Ok(())
    }
}

impl fmt::Debug for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Duration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Duration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = Duration;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a duration like 10s")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Duration, E> {
                text.parse().map_err(E::custom)
            }
            fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<Duration, E> {
                // Seconds or milliseconds? Veneur's files write a unit, so a bare number is a slip.
                if number == 0 {
                    Ok(Duration::ZERO)
                } else {
                    self.visit_str(&number.to_string())
                }
            }
            fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<Duration, E> {
                self.visit_str(&number.to_string())
            }
            fn visit_f64<E: serde::de::Error>(self, number: f64) -> Result<Duration, E> {
                self.visit_str(&number.to_string())
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

impl JsonSchema for Duration {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "Duration".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "format": "duration"})
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations_are_read_as_go_reads_them() {
        for (text, nanos) in [
            ("10s", 10_000_000_000),
            ("1m30s", 90_000_000_000),
            ("1.5h", 5_400_000_000_000),
            ("500ms", 500_000_000),
            ("100us", 100_000),
            ("100µs", 100_000),
            ("7ns", 7),
            ("0s", 0),
            ("0", 0),
            (".5s", 500_000_000),
            ("1.s", 1_000_000_000),
            ("+2s", 2_000_000_000),
            ("1h0m0.25s", 3_600_250_000_000),
        ] {
            let read: Duration = text
                .parse()
                .unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(read.get(), std::time::Duration::from_nanos(nanos), "{text}");
        }
    }

    #[test]
    fn what_is_no_duration_is_refused_with_a_reason() {
        for (text, reason) in [
            ("10", "lacks a unit"),
            ("", "is not a duration"),
            ("s", "is not a duration"),
            ("-1s", "is negative"),
            ("10 parsecs", "is not a unit of time"),
            ("1.2.3s", "is not a duration"),
            ("1m30", "is not a duration"),
            ("999999999999h", "is too long"),
            ("1d", "is not a unit of time"),
        ] {
            let error = text.parse::<Duration>().expect_err(text).to_string();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }

    #[test]
    fn a_bare_number_is_refused_with_a_hint() {
        let error = serde_json::from_str::<Duration>("10")
            .expect_err("a number")
            .to_string();
        assert!(error.contains("10s"), "{error}");
        assert_eq!(
            serde_json::from_str::<Duration>("0").ok(),
            Some(Duration::ZERO)
        );
    }

    proptest! {
        #[test]
        fn what_is_displayed_reads_back_the_same(nanos in 0..=i64::MAX as u64) {
            let duration = Duration::from(std::time::Duration::from_nanos(nanos));
            prop_assert_eq!(duration.to_string().parse::<Duration>(), Ok(duration));
        }

        #[test]
        fn no_text_panics(text in "[-+0-9.hmsunµ ]{0,24}") {
            let _ = text.parse::<Duration>();
        }
    }
}
