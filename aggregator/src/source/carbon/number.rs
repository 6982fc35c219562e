//! Numbers as Python's `float` reads them, because that is what carbon's clients may rely on.
//!
//! Decimals with optional sign, point and exponent, underscores between digits, `inf`, `infinity` and `nan` in any case, white space at both ends. No
//! hexadecimal. What is too large is infinite, as in Python.

use crate::source::dogstatsd::short_decimal;

/// The nearest double, which may be infinite or NaN; `None` where the text is no number.
#[inline]
pub(super) fn parse(text: &[u8]) -> Option<f64> {
    short_decimal(text).or_else(|| any(text))
}

#[cold]
fn any(text: &[u8]) -> Option<f64> {
    let text = std::str::from_utf8(text).ok()?.trim_ascii();
    if !text.contains('_') {
        return text.parse().ok();
    }
    let bytes = text.as_bytes();
    let is_digit = |at: Option<usize>| {
        at.and_then(|at| bytes.get(at))
            .is_some_and(u8::is_ascii_digit)
    };
    let between_digits = text
        .match_indices('_')
        .all(|(at, _)| is_digit(at.checked_sub(1)) && is_digit(Some(at + 1)));
    between_digits.then(|| text.replace('_', "").parse().ok())?
}

/// A whole number in two's complement, the lowest byte first, as the nearest double; `None` where that would be infinite. No bytes are 0.
pub(super) fn from_little_endian(bytes: &[u8]) -> Option<f64> {
    const WIDE: usize = size_of::<i128>();
    let negative = bytes.last().is_some_and(|byte| *byte >= 0x80);
    let sign = if negative { 0xff } else { 0 };
    // Bytes that only repeat the sign; one of them stays.
    let length = bytes
        .iter()
        .rposition(|byte| *byte != sign)
        .map_or(1, |last| last + 2);
    let bytes = bytes.get(..length).unwrap_or(bytes);
    let (low, high) = bytes.split_at(bytes.len().saturating_sub(WIDE));
    let mut wide = [sign; WIDE];
    for (to, from) in wide.iter_mut().zip(high) {
        *to = *from;
    }
    let mut leading = i128::from_le_bytes(wide);
    // The leading 120 bits decide, and whether anything at all follows: that breaks ties.
    if low.iter().any(|byte| *byte != 0) {
        leading |= 1;
    }
    let shift = i32::try_from(low.len()).ok()?.checked_mul(8)?;
    let value = leading as f64 * 2_f64.powi(shift);
    value.is_finite().then_some(value)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_python_takes_is_taken() {
        for (text, expected) in [
            ("1", 1.0),
            ("-1.5", -1.5),
            ("+.5", 0.5),
            ("5.", 5.0),
            ("1e3", 1000.0),
            ("1E-7", 1e-7),
            (" 42\t", 42.0),
            ("1_000.5", 1000.5),
            ("12345678901234567168", 12345678901234567168.0),
            ("0.0000001", 1e-7),
            ("inf", f64::INFINITY),
            ("-Infinity", f64::NEG_INFINITY),
            ("1e400", f64::INFINITY),
        ] {
            assert_eq!(parse(text.as_bytes()), Some(expected), "{text}");
        }
        for nan in ["nan", "NaN", "-nan"] {
            assert!(parse(nan.as_bytes()).is_some_and(f64::is_nan), "{nan}");
        }
    }

    #[test]
    fn what_python_refuses_is_refused() {
        for text in [
            "", " ", ".", "-", "e5", "1e", "0x10", "1__0", "_1", "1_", "1_.5", "1,5", "one",
            "None", "1 2", "infinit", "1f",
        ] {
            assert_eq!(parse(text.as_bytes()), None, "{text:?}");
        }
        assert_eq!(parse(b"\xff"), None);
    }

    #[test]
    fn long_integers_round_as_python_rounds_them() {
        for (bytes, expected) in [
            (&[][..], Some(0.0)),
            (&[0xff], Some(-1.0)),
            (&[0xff, 0], Some(255.0)),
            (&[0, 0x80], Some(-32768.0)),
            (
                &[
                    0x00, 0xf1, 0x53, 0x65, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
                ],
                Some(1.7e9),
            ),
            (&[0xff; 40], Some(-1.0)),
        ] {
            assert_eq!(from_little_endian(bytes), expected, "{bytes:?}");
        }
        // 2^200, and 2^200 + 2^147 + 1, which is just above the middle of two doubles.
        let mut bytes = [0_u8; 26];
        bytes[25] = 1;
        assert_eq!(from_little_endian(&bytes), Some(2_f64.powi(200)));
        bytes[18] = 8;
        assert_eq!(
            from_little_endian(&bytes),
            Some(2_f64.powi(200)),
            "a tie goes to even"
        );
        bytes[0] = 1;
        let next = f64::from_bits(2_f64.powi(200).to_bits() + 1);
        assert_eq!(from_little_endian(&bytes), Some(next));
        let mut huge = vec![0; 200];
        huge[199] = 1;
        assert_eq!(from_little_endian(&huge), None);
    }

    proptest! {
        #[test]
        fn every_double_comes_back(bits: u64) {
            let value = f64::from_bits(bits);
            prop_assume!(!value.is_nan());
            prop_assert_eq!(parse(format!("{value:?}").as_bytes()), Some(value));
        }

        #[test]
        fn whole_numbers_are_what_the_compiler_makes_of_them(wide: i128, padding in 0..20_usize) {
            let mut bytes = wide.to_le_bytes().to_vec();
            bytes.resize(bytes.len() + padding, if wide < 0 { 0xff } else { 0 });
            prop_assert_eq!(from_little_endian(&bytes), Some(wide as f64));
        }
    }
}
