//! Numbers as Go's `strconv.ParseFloat` reads them, because Veneur's users send what that accepts.
//!
//! Decimals with optional sign, point and exponent; hexadecimal floats, which must have a `p` exponent; underscores between digits. Not taken:
//! infinities, NaN, anything that rounds to infinity, surrounding spaces. The value is the nearest double, ties to even.

/// The nearest finite double, or `None` where the text is no number.
#[inline]
pub(super) fn parse(text: &[u8]) -> Option<f64> {
    short_decimal(text).or_else(|| any(text))
}

/// A longer run of digits may not fit a u64.
const SHORT: usize = 18;

/// Powers of ten that a double holds exactly, as far as [`SHORT`] digits can need them.
const POWERS: [f64; SHORT + 1] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16,
    1e17, 1e18,
];

/// Nearly all values of the field. Digits and power of ten are both exact doubles, so that their one division rounds correctly. `None` says
/// nothing about the text: [`any`] decides.
#[inline]
pub(in crate::source) fn short_decimal(text: &[u8]) -> Option<f64> {
    let (negative, digits) = sign(text);
    if digits.len() > SHORT {
        return None;
    }
    let mut mantissa = 0_u64;
    let mut after_point = None;
    for (position, &byte) in digits.iter().enumerate() {
        let digit = byte.wrapping_sub(b'0');
        if digit < 10 {
            mantissa = mantissa * 10 + u64::from(digit);
        } else if byte == b'.' && after_point.is_none() {
            after_point = Some(position + 1);
        } else {
            return None;
        }
    }
    let places = after_point.map_or(0, |start| digits.len() - start);
    let no_digit = digits.len() == usize::from(after_point.is_some());
    if no_digit || mantissa > 1 << f64::MANTISSA_DIGITS {
        return None;
    }
    let whole = mantissa as f64;
    let value = if places == 0 {
        whole
    } else {
        whole / POWERS.get(places)?
    };
    Some(if negative { -value } else { value })
}

fn sign(text: &[u8]) -> (bool, &[u8]) {
    match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        _ => (false, text),
    }
}

/// The whole syntax.
#[cold]
fn any(text: &[u8]) -> Option<f64> {
    let (negative, number) = sign(text);
    let hexadecimal = matches!(number, [b'0', b'x' | b'X', ..]);
    let without_underscores;
    let number = if number.contains(&b'_') {
        if !underscores_stand_between_digits(number, hexadecimal) {
            return None;
        }
        without_underscores = number
            .iter()
            .copied()
            .filter(|byte| *byte != b'_')
            .collect::<Vec<u8>>();
        without_underscores.as_slice()
    } else {
        number
    };
    let magnitude = match number {
        [b'0', b'x' | b'X', digits @ ..] => hexadecimal_float(digits)?,
        _ => decimal_float(number)?,
    };
    Some(if negative { -magnitude } else { magnitude })
}

/// Before each underscore stands a digit (the `0x` counts as one), and after it too.
fn underscores_stand_between_digits(number: &[u8], hexadecimal: bool) -> bool {
    let is_digit = |byte: &u8| {
        byte.is_ascii_digit()
            || (hexadecimal && (byte.is_ascii_hexdigit() || matches!(byte, b'x' | b'X')))
    };
    let mut before = None;
    let mut bytes = number.iter().peekable();
    while let Some(byte) = bytes.next() {
        if *byte == b'_' {
            let after = bytes.peek().copied();
            if !before.is_some_and(is_digit) || !after.is_some_and(is_digit) {
                return false;
            }
        }
        before = Some(byte);
    }
    true
}

/// Unsigned. Words such as `inf` hold other letters than a number may.
fn decimal_float(number: &[u8]) -> Option<f64> {
    let first = number.first()?;
    let is_number =
        |byte: &u8| byte.is_ascii_digit() || matches!(byte, b'.' | b'+' | b'-' | b'e' | b'E');
    if matches!(first, b'+' | b'-') || !number.iter().all(is_number) {
        return None;
    }
    let value: f64 = std::str::from_utf8(number).ok()?.parse().ok()?;
    value.is_finite().then_some(value)
}

/// What follows `0x`: digits with an optional point, `p`, a decimal exponent of two.
fn hexadecimal_float(digits: &[u8]) -> Option<f64> {
    let mark = digits.iter().position(|byte| matches!(byte, b'p' | b'P'))?;
    let (digits, from_mark) = digits.split_at_checked(mark)?;
    let mut exponent = binary_exponent(from_mark.get(1..)?)?;
    let mut mantissa = 0_u64;
    let mut seen_point = false;
    let mut seen_digit = false;
    for &byte in digits {
        let Some(digit) = char::from(byte).to_digit(16) else {
            if byte != b'.' || seen_point {
                return None;
            }
            seen_point = true;
            continue;
        };
        seen_digit = true;
        if mantissa >> 60 == 0 {
            mantissa = mantissa << 4 | u64::from(digit);
            exponent -= if seen_point { 4 } else { 0 };
        } else {
            // Far below the last bit that a double keeps: it can only break a tie.
            mantissa |= u64::from(digit != 0);
            exponent += if seen_point { 0 } else { 4 };
        }
    }
    seen_digit.then(|| nearest_double(mantissa, exponent))?
}

fn binary_exponent(text: &[u8]) -> Option<i64> {
    /// Beyond what any line's digits could make up for.
    const LIMIT: i64 = 1 << 40;
    let (negative, digits) = sign(text);
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let exponent = digits.iter().fold(0_i64, |exponent, digit| {
        (exponent * 10 + i64::from(digit - b'0')).min(LIMIT)
    });
    Some(if negative { -exponent } else { exponent })
}

/// `mantissa · 2^exponent`, rounded once; `None` if that is infinite.
fn nearest_double(mantissa: u64, exponent: i64) -> Option<f64> {
    if mantissa == 0 {
        return Some(0.0);
    }
    let shift_up = mantissa.leading_zeros();
    let mantissa = mantissa << shift_up;
    // The value is 1.… · 2^leading.
    let leading = exponent - i64::from(shift_up) + 63;
    if leading > 1023 {
        return None;
    }
    // Bits under the double's last one: 11 of 64, and more where the double is subnormal.
    let dropped = 11 + (-1022 - leading).max(0);
    if dropped > 64 {
        return Some(0.0);
    }
    let wide = u128::from(mantissa);
    let kept = (wide >> dropped) as u64;
    let rest = wide & ((1 << dropped) - 1);
    let half = 1_u128 << (dropped - 1);
    let round_up = rest > half || (rest == half && kept & 1 == 1);
    let rounded = kept + u64::from(round_up);
    // A normal double's `rounded` holds the leading bit too: it counts as one in the exponent, and a carry moves up by itself.
    let bits = match u64::try_from(leading + 1022) {
        Ok(below_leading) => (below_leading << 52) + rounded,
        Err(_) => rounded,
    };
    let value = f64::from_bits(bits);
    value.is_finite().then_some(value)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_go_accepts_is_accepted() {
        let accepted = [
            ("1", 1.0),
            ("+1", 1.0),
            (".5", 0.5),
            ("5.", 5.0),
            ("1e3", 1000.0),
            ("1.E+3", 1000.0),
            ("1e-400", 0.0),
            ("0e99999999999", 0.0),
            ("1_000", 1000.0),
            ("1_0.0_1e1_0", 10.01e10),
            ("0x1p4", 16.0),
            ("0X1.8P1", 3.0),
            ("-0x.8p+1", -1.0),
            ("0x_1_fp0", 31.0),
            ("0x1p-1074", 5e-324),
            ("0x1p-1075", 0.0),
            ("0x1.8p-1075", 5e-324),
            ("0x1p-99999999999999999999", 0.0),
            ("0x1.fffffffffffffp1023", f64::MAX),
            ("0x1.fffffffffffff7ffffffp1023", f64::MAX),
            ("0x10000000000000000000000000p-100", 1.0),
            ("0x1.00000000000008p0", 1.0),
            ("0x1.000000000000080000000000000001p0", 1.0 + f64::EPSILON),
            ("123456789012345678", 123_456_789_012_345_678.0),
            ("9223372036854775808", 9_223_372_036_854_775_808.0),
        ];
        for (text, value) in accepted {
            assert_eq!(parse(text.as_bytes()), Some(value), "{text}");
        }
    }

    #[test]
    fn what_go_refuses_is_refused() {
        let refused = [
            "",
            "+",
            "-",
            ".",
            "-.",
            "e5",
            ".e5",
            "1e",
            "1e+",
            "--1",
            "+-1",
            " 1",
            "1 ",
            "1,5",
            "1.2.3",
            "_1",
            "1_",
            "1__0",
            "1_.5",
            "1._5",
            "1_e5",
            "1e_5",
            "NaN",
            "nan",
            "Inf",
            "-inf",
            "+Infinity",
            "1e400",
            "-1e400",
            "0x10",
            "0x",
            "0xp1",
            "0x.p1",
            "0x1p",
            "0x1p+",
            "0x1pf",
            "0x1.1.1p1",
            "0x1p1024",
            "0x1.fffffffffffff8p1023",
            "0x1_p1",
            "0x1p_1",
            "0_x1p1",
            "0b1",
            "0o7",
            "1f",
            "١",
            "\u{0}",
        ];
        for text in refused {
            assert_eq!(parse(text.as_bytes()), None, "{text}");
        }
        assert_eq!(parse(b"\xff1"), None);
    }

    #[test]
    fn zero_keeps_its_sign() {
        assert!(parse(b"-0").unwrap().is_sign_negative());
        assert!(parse(b"-0x0p0").unwrap().is_sign_negative());
        assert!(parse(b"+0.0").unwrap().is_sign_positive());
    }

    proptest! {
        #[test]
        fn the_short_way_and_the_standard_library_agree(text in "[+-]?[0-9]{0,18}\\.?[0-9]{0,18}") {
            let expected = text.parse::<f64>().ok();
            prop_assert_eq!(parse(text.as_bytes()).map(f64::to_bits), expected.map(f64::to_bits));
        }

        #[test]
        fn decimals_with_exponents_agree_with_the_standard_library(text in "[+-]?[0-9]{0,20}\\.?[0-9]{0,20}[eE][+-]?[0-9]{1,4}") {
            let expected = text.parse::<f64>().ok().filter(|value| value.is_finite());
            prop_assert_eq!(parse(text.as_bytes()).map(f64::to_bits), expected.map(f64::to_bits));
        }

        #[test]
        fn every_double_survives_as_hexadecimal(bits: u64) {
            let value = f64::from_bits(bits);
            prop_assume!(value.is_finite());
            let fraction = bits & ((1 << 52) - 1);
            let biased = bits >> 52 & 0x7ff;
            let (lead, exponent) = if biased == 0 { (0, -1022) } else { (1, biased as i64 - 1023) };
            let minus = if value.is_sign_negative() { "-" } else { "" };
            let text = format!("{minus}0x{lead}.{fraction:013x}p{exponent}");
            prop_assert_eq!(parse(text.as_bytes()).map(f64::to_bits), Some(bits));
        }

        #[test]
        fn hexadecimal_integers_round_as_the_compiler_rounds_them(wide: u128) {
            let text = format!("0x{wide:x}p0");
            prop_assert_eq!(parse(text.as_bytes()), Some(wide as f64));
        }

        #[test]
        fn no_bytes_panic_and_every_number_is_finite(text: Vec<u8>) {
            prop_assert!(parse(&text).is_none_or(f64::is_finite));
        }

        #[test]
        fn no_text_of_number_letters_panics(text in "[0-9a-fA-FxXpPeE_.+-]{0,40}") {
            prop_assert!(parse(text.as_bytes()).is_none_or(f64::is_finite));
        }
    }
}
