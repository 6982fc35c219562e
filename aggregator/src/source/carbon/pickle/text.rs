//! Text of protocol 0: quoted with Python's escapes, or with Unicode's.

/// What stands between the quotes of a byte string's `repr`; `None` if there are none.
pub(super) fn unquoted(line: &[u8]) -> Option<&[u8]> {
    let line = line.trim_ascii();
    let quote = line.first().filter(|quote| matches!(quote, b'\'' | b'"'))?;
    line.get(1..)?.strip_suffix(&[*quote])
}

/// Appends a byte string with its escapes taken back.
pub(super) fn push_unescaped(text: &[u8], into: &mut Vec<u8>) -> Option<()> {
    let mut rest = text;
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        if *byte != b'\\' {
            into.push(*byte);
            continue;
        }
        let (escape, after) = rest.split_first()?;
        rest = after;
        match escape {
            b'\\' | b'\'' | b'"' => into.push(*escape),
            b'n' => into.push(b'\n'),
            b't' => into.push(b'\t'),
            b'r' => into.push(b'\r'),
            b'a' => into.push(7),
            b'b' => into.push(8),
            b'f' => into.push(12),
            b'v' => into.push(11),
            b'x' => {
                let (digits, after) = rest.split_at_checked(2)?;
                rest = after;
                into.push(u8::try_from(hexadecimal(digits)?).ok()?);
            }
            b'0'..=b'7' => {
                let more = rest
                    .iter()
                    .take(2)
                    .take_while(|byte| matches!(byte, b'0'..=b'7'));
                let count = more.count();
                let (digits, after) = rest.split_at_checked(count)?;
                rest = after;
                let value = digits
                    .iter()
                    .fold(u32::from(escape - b'0'), |value, digit| {
                        value * 8 + u32::from(digit - b'0')
                    });
                // As Python 2: three digits may be more than a byte.
                into.push((value & 0xff) as u8);
            }
            // Unknown ones stay as they are.
            other => into.extend([b'\\', *other]),
        }
    }
    Some(())
}

/// Whether [`push_unicode`] would change the text.
pub(super) fn is_plain_unicode(text: &[u8]) -> bool {
    text.is_ascii() && !text.contains(&b'\\')
}

/// Appends text whose bytes are Latin-1 but for `\uXXXX` and `\UXXXXXXXX`, as UTF-8. Half a surrogate pair comes out as bytes that are not UTF-8.
pub(super) fn push_unicode(text: &[u8], into: &mut Vec<u8>) -> Option<()> {
    let mut rest = text;
    let mut high = None;
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        let mut code = u32::from(*byte);
        if *byte == b'\\' {
            let digits = match rest.first() {
                Some(b'u') => 4,
                Some(b'U') => 8,
                _ => 0,
            };
            if digits > 0 {
                let (digits, after) = rest.get(1..)?.split_at_checked(digits)?;
                rest = after;
                code = hexadecimal(digits)?;
            } else if let Some((b'\\', after)) = rest.split_first() {
                // Two of them stand for themselves, and no escape begins with the second.
                push_code(&mut high, code, into)?;
                rest = after;
            }
        }
        push_code(&mut high, code, into)?;
    }
    if high.is_some() {
        into.push(0xff);
    }
    Some(())
}

/// Puts surrogate pairs together, which Python 2 wrote for what lies beyond U+FFFF.
fn push_code(high: &mut Option<u32>, code: u32, into: &mut Vec<u8>) -> Option<()> {
    let code = match (high.take(), code) {
        (Some(high), 0xdc00..=0xdfff) => 0x1_0000 + ((high - 0xd800) << 10) + (code - 0xdc00),
        (Some(_), code) => {
            into.push(0xff);
            code
        }
        (None, code) => code,
    };
    match code {
        0xd800..=0xdbff => *high = Some(code),
        0xdc00..=0xdfff => into.push(0xff),
        code => {
            let mut buffer = [0; 4];
            into.extend_from_slice(char::from_u32(code)?.encode_utf8(&mut buffer).as_bytes());
        }
    }
    Some(())
}

fn hexadecimal(digits: &[u8]) -> Option<u32> {
    digits.iter().try_fold(0_u32, |value, digit| {
        Some(value.checked_mul(16)? + char::from(*digit).to_digit(16)?)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unescaped(line: &str) -> Option<Vec<u8>> {
        let mut into = Vec::new();
        push_unescaped(unquoted(line.as_bytes())?, &mut into)?;
        Some(into)
    }

    fn unicode(text: &[u8]) -> Option<Vec<u8>> {
        let mut into = Vec::new();
        push_unicode(text, &mut into)?;
        Some(into)
    }

    #[test]
    fn escapes_of_byte_strings_are_taken_back() {
        for (line, expected) in [
            ("'a.b'", &b"a.b"[..]),
            ("\"it's\" \r", b"it's"),
            (r"'\'\\\n\x41\101\0'", b"'\\\nAA\0"),
            (r"'m\xc3\xa9'", "mé".as_bytes()),
            (r"'\q'", b"\\q"),
        ] {
            assert_eq!(unescaped(line).as_deref(), Some(expected), "{line}");
        }
        for bad in ["a", "'", "'a\"", r"'\x4'", r"'\xzz'", r"'\'", ""] {
            assert_eq!(unescaped(bad), None, "{bad}");
        }
    }

    #[test]
    fn escapes_of_unicode_strings_are_taken_back() {
        for (text, expected) in [
            (&b"a.b"[..], "a.b"),
            (b"m\xe9tric", "métric"),
            (br"\u00e9\U0001f600", "é😀"),
            (br"\ud83d\ude00", "😀"),
            (br"a\\u0041\n", r"a\\u0041\n"),
            (br"\u005cu0041", r"\u0041"),
        ] {
            assert_eq!(unicode(text).as_deref(), Some(expected.as_bytes()));
        }
        for lone in [&br"\ud83d"[..], br"\ud83dx", br"\ude00"] {
            assert!(std::str::from_utf8(&unicode(lone).unwrap()).is_err());
        }
        for bad in [&br"\u12"[..], br"\uzzzz", br"\Uffffffff"] {
            assert_eq!(unicode(bad), None);
        }
    }
}
