//! How numbers and free text are written into lines, without allocating.

use std::fmt::{self, Write as _};
use std::time::Duration;

use serde::{Serialize, Serializer};

/// Whole numbers up to this are exact in a double, and written without a fraction.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// A finite number, as JSON and as text: the shortest that reads back as the same value, whole numbers below 2^53 without `.0` or exponent.
#[derive(Debug, Clone, Copy)]
pub(super) struct Number(pub(super) f64);

impl Number {
    /// A duration in seconds. Not `as_secs_f64`, which adds the fraction after rounding it: 4.565 s would be 4.5649999999999995.
    pub(super) fn seconds(duration: Duration) -> Self {
        Self(duration.as_nanos() as f64 / 1e9)
    }

    fn whole(self) -> Option<i64> {
        (self.0.fract() == 0.0 && self.0.abs() < EXACT).then_some(self.0 as i64)
    }
}

impl Serialize for Number {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.whole() {
            Some(whole) => serializer.serialize_i64(whole),
            None => serializer.serialize_f64(self.0),
        }
    }
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.whole() {
            Some(whole) => write!(f, "{whole}"),
            // Unlike `{}`, this uses an exponent where it is shorter.
            None => write!(f, "{:?}", self.0),
        }
    }
}

/// Free text on one line: `\` and control characters are written as `\\`, `\t`, `\n`, `\r` and `\u{1f}`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Escaped<'a>(pub(super) &'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0;
        while let Some(at) = rest.find(|c: char| c == '\\' || c.is_control()) {
            let (plain, from) = rest.split_at(at);
            f.write_str(plain)?;
            let mut chars = from.chars();
            for escaped in chars.next().into_iter().flat_map(char::escape_default) {
                f.write_char(escaped)?;
            }
            rest = chars.as_str();
        }
        f.write_str(rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_numbers_have_no_fraction_and_others_are_the_shortest_exact_text() {
        for (value, expected) in [
            (5.0, "5"),
            (-0.0, "0"),
            (12.5, "12.5"),
            (-3.0, "-3"),
            (0.1, "0.1"),
            (9_007_199_254_740_991.0, "9007199254740991"),
            (-2.5e-7, "-2.5e-7"),
        ] {
            assert_eq!(Number(value).to_string(), expected);
            assert_eq!(serde_json::to_string(&Number(value)).unwrap(), expected);
        }
        assert_eq!(Number(1e300).to_string(), "1e300");
        assert_eq!(serde_json::to_string(&Number(1e300)).unwrap(), "1e+300");
    }

    #[test]
    fn seconds_are_as_short_as_they_were_configured() {
        for milliseconds in 1..20_000 {
            let seconds = Number::seconds(Duration::from_millis(milliseconds));
            assert_eq!(
                seconds.0,
                format!("{milliseconds}e-3").parse::<f64>().unwrap()
            );
        }
    }

    #[test]
    fn text_that_would_break_a_line_is_escaped() {
        assert_eq!(Escaped("a\tb\nc\\d\re").to_string(), r"a\tb\nc\\d\re");
        assert_eq!(Escaped("plain città").to_string(), "plain città");
        assert_eq!(Escaped("\u{1}").to_string(), r"\u{1}");
    }
}
