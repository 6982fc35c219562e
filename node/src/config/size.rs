//! A number of bytes as people write it: `2MiB`, `64kB`, `1024`.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::duration::{scaled, split};

/// A number of bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Size(u64);

/// Why a text is not a [`Size`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SizeError {
    /// No number in front.
    #[error("{0:?} is not a size, write it like 2MiB, 64kB or 1024")]
    Malformed(String),
    /// Letters that name no unit.
    #[error(
        "{unit:?} in {text:?} is not a unit of size, use B, kB, KiB, MB, MiB, GB, GiB, TB or TiB"
    )]
    Unit {
        /// The whole text.
        text: String,
        /// The letters.
        unit: String,
    },
    /// More than can be addressed.
    #[error("{0:?} is too large")]
    TooLarge(String),
}

// The first name of a unit is the one that is shown.
const UNITS: [(&[&str], u64); 9] = [
    (&["", "b"], 1),
    (&["KiB", "ki"], 1 << 10),
    (&["MiB", "mi"], 1 << 20),
    (&["GiB", "gi"], 1 << 30),
    (&["TiB", "ti"], 1 << 40),
    (&["kB", "k"], 1_000),
    (&["MB", "m"], 1_000_000),
    (&["GB", "g"], 1_000_000_000),
    (&["TB", "t"], 1_000_000_000_000),
];

// === impl Size ===

impl Size {
    /// So many bytes.
    pub const fn bytes(bytes: u64) -> Self {
        Self(bytes)
    }

    /// So many kibibytes.
    pub const fn kib(kib: u64) -> Self {
        Self(kib << 10)
    }

    /// So many mebibytes.
    pub const fn mib(mib: u64) -> Self {
        Self(mib << 20)
    }

    /// The bytes.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The bytes as a length; what this machine cannot address becomes its largest length.
    pub fn as_usize(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

impl FromStr for Size {
    type Err = SizeError;

    fn from_str(text: &str) -> Result<Self, SizeError> {
        let malformed = || SizeError::Malformed(text.to_owned());
        let (number, unit) = split(text.trim(), |c| c.is_ascii_digit() || c == '.');
        let unit = unit.trim();
        let scale = UNITS
            .iter()
            .find(|(names, _)| names.iter().any(|name| name.eq_ignore_ascii_case(unit)));
        if number.is_empty() {
            return Err(malformed());
        }
        let Some((_, scale)) = scale else {
            return Err(SizeError::Unit {
                text: text.to_owned(),
                unit: unit.to_owned(),
            });
        };
        let bytes = scaled(number, u128::from(*scale)).ok_or_else(malformed)?;
        u64::try_from(bytes)
            .map(Self)
            .map_err(|_| SizeError::TooLarge(text.to_owned()))
    }
}

impl fmt::Display for Size {
    /// In the largest unit that divides it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let best = UNITS
            .iter()
            .filter(|(_, scale)| self.0 > 0 && self.0.is_multiple_of(*scale))
            .max_by_key(|(_, scale)| *scale);
        match best {
            Some(([name, ..], scale)) => write!(f, "{}{name}", self.0 / scale),
            _ => write!(f, "{}", self.0),
        }
    }
}

impl fmt::Debug for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Size {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = Size;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a size like 2MiB")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Size, E> {
                text.parse().map_err(E::custom)
            }
            fn visit_u64<E: serde::de::Error>(self, bytes: u64) -> Result<Size, E> {
                Ok(Size(bytes))
            }
            fn visit_i64<E: serde::de::Error>(self, bytes: i64) -> Result<Size, E> {
                u64::try_from(bytes)
                    .map(Size)
                    .map_err(|_| E::custom(format!("{bytes} is negative")))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

impl JsonSchema for Size {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "Size".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": ["string", "integer"], "format": "size"})
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sizes_are_read_with_decimal_and_binary_units() {
        for (text, bytes) in [
            ("2MiB", 2 << 20),
            ("64kB", 64_000),
            ("64KB", 64_000),
            ("1024", 1024),
            ("1024B", 1024),
            ("1.5 GiB", 3 << 29),
            ("16Mi", 16 << 20),
            ("0", 0),
        ] {
            assert_eq!(text.parse(), Ok(Size(bytes)), "{text}");
        }
        assert_eq!(serde_json::from_str::<Size>("4096").ok(), Some(Size(4096)));
    }

    #[test]
    fn what_is_no_size_is_refused_with_a_reason() {
        for (text, reason) in [
            ("", "is not a size"),
            ("MiB", "is not a size"),
            ("-1", "is not a size"),
            ("1..2kB", "is not a size"),
            ("2 bananas", "is not a unit of size"),
            ("99999999TiB", "is too large"),
        ] {
            let error = text.parse::<Size>().expect_err(text).to_string();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }

    #[test]
    fn a_size_is_shown_in_the_largest_unit_that_divides_it() {
        assert_eq!(Size::mib(2).to_string(), "2MiB");
        assert_eq!(Size::bytes(64_000).to_string(), "64kB");
        assert_eq!(Size::bytes(1025).to_string(), "1025");
        assert_eq!(Size::bytes(0).to_string(), "0");
    }

    proptest! {
        #[test]
        fn what_is_displayed_reads_back_the_same(bytes: u64) {
            prop_assert_eq!(Size(bytes).to_string().parse::<Size>(), Ok(Size(bytes)));
        }
    }
}
