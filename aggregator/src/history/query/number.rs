//! Numbers as Python writes them.

use std::fmt::Write as _;

/// Appends `repr` of a float: `1.0`, `1e-07`, `4294967296.0`, `inf`.
pub(in super::super) fn push_float(text: &mut String, value: f64) {
    if !value.is_finite() {
        text.push_str(match value {
            value if value.is_nan() => "nan",
            value if value > 0.0 => "inf",
            _ => "-inf",
        });
        return;
    }
    let (digits, exponent) = shortest(value);
    if value.is_sign_negative() {
        text.push('-');
    }
    let (whole, fraction) = match usize::try_from(exponent) {
        Ok(exponent) if exponent < 16 => (exponent + 1, 0),
        Err(_) if exponent >= -4 => (0, exponent.unsigned_abs() as usize - 1),
        _ => {
            let (first, rest) = digits.split_at(1);
            let dot = if rest.is_empty() { "" } else { "." };
            return push_scientific(text, &format!("{first}{dot}{rest}"), exponent);
        }
    };
    let (before, after) = digits.split_at(whole.min(digits.len()));
    text.push_str(if whole == 0 { "0" } else { before });
    text.extend(std::iter::repeat_n('0', whole - before.len()));
    text.push('.');
    text.extend(std::iter::repeat_n('0', fraction));
    text.push_str(if after.is_empty() { "0" } else { after });
}

/// The shortest digits that read back as the value, without zeros at either end, and the power of ten of the first. Where two are as short and as near,
/// Python takes the even one; so does Ryū, but not Rust's own formatting.
fn shortest(value: f64) -> (String, i32) {
    let mut buffer = ryu::Buffer::new();
    let (mantissa, exponent) = split(buffer.format_finite(value.abs()));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let all = format!("{whole}{fraction}");
    let digits = all.trim_start_matches('0');
    let place = i32::try_from(whole.len() + digits.len()).unwrap_or_default()
        - i32::try_from(all.len()).unwrap_or_default();
    match digits.trim_end_matches('0') {
        "" => ("0".to_owned(), 0),
        digits => (digits.to_owned(), exponent + place - 1),
    }
}

/// Appends a float as `%g` does: six digits that count.
pub(super) fn push_short(text: &mut String, value: f64) {
    if !value.is_finite() {
        return push_float(text, value);
    }
    let digits = format!("{value:.5e}");
    let (mantissa, exponent) = split(&digits);
    if !(-4..6).contains(&exponent) {
        return push_scientific(text, trimmed(mantissa), exponent);
    }
    let places = usize::try_from(5 - exponent).unwrap_or_default();
    text.push_str(trimmed(&format!("{value:.places$}")));
}

fn split(digits: &str) -> (&str, i32) {
    let (mantissa, exponent) = digits.split_once('e').unwrap_or((digits, "0"));
    (mantissa, exponent.parse().unwrap_or_default())
}

fn trimmed(number: &str) -> &str {
    match number.contains('.') {
        true => number.trim_end_matches('0').trim_end_matches('.'),
        false => number,
    }
}

fn push_scientific(text: &mut String, mantissa: &str, exponent: i32) {
    let sign = if exponent < 0 { '-' } else { '+' };
    let _ = write!(text, "{mantissa}e{sign}{:02}", exponent.unsigned_abs());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_look_as_in_python() {
        for (value, repr, short) in [
            (1.0, "1.0", "1"),
            (-0.0, "-0.0", "-0"),
            (0.1, "0.1", "0.1"),
            (4294967296.0, "4294967296.0", "4.29497e+09"),
            (1e-7, "1e-07", "1e-07"),
            (1.5e-5, "1.5e-05", "1.5e-05"),
            (0.0001, "0.0001", "0.0001"),
            (123456.5, "123456.5", "123456"),
            (1e15, "1000000000000000.0", "1e+15"),
            (1e16, "1e+16", "1e+16"),
            (-1.25e300, "-1.25e+300", "-1.25e+300"),
            (1.0 / 3.0, "0.3333333333333333", "0.333333"),
            (0.0, "0.0", "0"),
            (0.000123, "0.000123", "0.000123"),
            (120.0, "120.0", "120"),
            (9007199254740993.0, "9007199254740992.0", "9.0072e+15"),
            (2_000_000_000_000_003.3, "2000000000000003.2", "2e+15"),
            (5e-324, "5e-324", "4.94066e-324"),
            (f64::MAX, "1.7976931348623157e+308", "1.79769e+308"),
            (f64::INFINITY, "inf", "inf"),
        ] {
            let (mut long, mut brief) = (String::new(), String::new());
            push_float(&mut long, value);
            push_short(&mut brief, value);
            assert_eq!((long.as_str(), brief.as_str()), (repr, short));
        }
    }
}
