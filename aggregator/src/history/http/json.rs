//! JSON as Python's `json.dumps` lays it out, which clients that compare texts expect.

use std::fmt::Write as _;

use super::super::query::push_float;

/// Appends a text with its quotes. `ascii`: other characters are written by their codes.
pub(super) fn push_text(json: &mut String, text: &str, ascii: bool) {
    json.push('"');
    for c in text.chars() {
        match c {
            '"' => json.push_str("\\\""),
            '\\' => json.push_str("\\\\"),
            '\n' => json.push_str("\\n"),
            '\r' => json.push_str("\\r"),
            '\t' => json.push_str("\\t"),
            '\u{8}' => json.push_str("\\b"),
            '\u{c}' => json.push_str("\\f"),
            c if c < ' ' || (ascii && !(' '..='~').contains(&c)) => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    let _ = write!(json, "\\u{unit:04x}");
                }
            }
            c => json.push(c),
        }
    }
    json.push('"');
}

/// Appends a value; what is no number is `null`, and what is infinite a number that reads as that.
pub(super) fn push_value(json: &mut String, value: f64) {
    match value {
        value if value.is_nan() => json.push_str("null"),
        f64::INFINITY => json.push_str("1e9999"),
        f64::NEG_INFINITY => json.push_str("-1e9999"),
        value => push_float(json, value),
    }
}

/// Appends a list.
pub(super) fn push_list<T>(
    json: &mut String,
    items: impl IntoIterator<Item = T>,
    mut push: impl FnMut(&mut String, T),
) {
    json.push('[');
    for (number, item) in items.into_iter().enumerate() {
        if number > 0 {
            json.push_str(", ");
        }
        push(json, item);
    }
    json.push(']');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_look_as_pythons() {
        let text = |ascii| {
            let mut json = String::new();
            push_text(&mut json, "a\"\\\n\u{1}\u{7f}é😀", ascii);
            json
        };
        assert_eq!(text(true), r#""a\"\\\n\u0001\u007f\u00e9\ud83d\ude00""#);
        assert_eq!(text(false), "\"a\\\"\\\\\\n\\u0001\u{7f}é😀\"");
    }
}
