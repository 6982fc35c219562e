//! The GUID of an application, in 16 bytes.

use std::fmt;

/// A GUID. It is shown as Cloud Foundry writes it: `f47ac10b-58cc-4372-a567-0e02b2c3d479`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Guid(u128);

/// Where a GUID's text has hyphens.
const HYPHENS: [usize; 4] = [8, 13, 18, 23];

impl Guid {
    /// Reads 32 hexadecimal digits in any letter case, with hyphens after 8, 12, 16 and 20 of them. `None` for any other text.
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() != 36 {
            return None;
        }
        let mut bits = 0;
        for (place, byte) in text.bytes().enumerate() {
            if HYPHENS.contains(&place) {
                if byte != b'-' {
                    return None;
                }
                continue;
            }
            let digit = char::from(byte).to_digit(16)?;
            bits = (bits << 4) | u128::from(digit);
        }
        Some(Self(bits))
    }

    /// From dropsonde's two halves: the 16 bytes are those of `low` and then of `high`, each with its lowest byte first.
    pub fn from_halves(low: u64, high: u64) -> Self {
        let [low, high] = [low, high].map(|half| u128::from(half.swap_bytes()));
        Self((low << 64) | high)
    }
}

impl fmt::Display for Guid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bits = |from: u32, count: u32| (self.0 >> from) & ((1 << count) - 1);
        write!(
            f,
            "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
            bits(96, 32),
            bits(80, 16),
            bits(64, 16),
            bits(48, 16),
            bits(0, 48)
        )
    }
}

impl fmt::Debug for Guid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_make_the_guid_that_cloud_foundry_shows() {
        for (low, high, text) in [
            (
                0x7243_cc58_0bc1_7af4,
                0x79d4_c3b2_020e_67a5,
                "f47ac10b-58cc-4372-a567-0e02b2c3d479",
            ),
            (
                3_045_678_995_047_011_891,
                15_064_251_325_855_190_961,
                "3356a5c7-e86c-442a-b14f-ce5cc4f80ed1",
            ),
            (0, 0, "00000000-0000-0000-0000-000000000000"),
        ] {
            let guid = Guid::from_halves(low, high);
            assert_eq!(guid.to_string(), text);
            assert_eq!(Guid::parse(text), Some(guid));
            assert_eq!(Guid::parse(&text.to_uppercase()), Some(guid));
        }
    }

    #[test]
    fn other_texts_are_no_guids() {
        for text in [
            "",
            "gorouter",
            "f47ac10b58cc4372a5670e02b2c3d479",
            "f47ac10b-58cc-4372-a567-0e02b2c3d47",
            "f47ac10b-58cc-4372-a567-0e02b2c3d4790",
            "f47ac10b-58cc-4372-a567-0e02b2c3d47g",
            "f47ac10b-58cc-4372-a567+0e02b2c3d479",
            "f47ac10b-58cc-4372-a567-0e02b2c3d4ü",
        ] {
            assert_eq!(Guid::parse(text), None, "{text}");
        }
    }
}
