//! One text line: `path value timestamp`, between any white space.

use super::number;

/// A line that is well formed. What its path and numbers mean is not looked at yet.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Line<'a> {
    /// As it came: any bytes but white space, at least one.
    pub path: &'a [u8],
    /// May be NaN or infinite.
    pub value: f64,
    /// In seconds since 1970; −1 stands for now. May be NaN or infinite.
    pub timestamp: f64,
}

/// Why bytes are not a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LineError {
    /// There are fewer or more fields.
    #[error("a line has three fields: path, value, timestamp")]
    Fields,
    /// The second field.
    #[error("the value is no number")]
    Value,
    /// The third field.
    #[error("the timestamp is no number")]
    Timestamp,
}

impl LineError {
    /// A short word for counters.
    pub fn cause(self) -> &'static str {
        match self {
            Self::Fields => "fields",
            Self::Value => "value",
            Self::Timestamp => "timestamp",
        }
    }
}

/// Reads a line, given without its line feed. A line of nothing but white space is `None`.
///
/// # Errors
/// [`LineError`] says which part is wrong.
#[inline]
pub fn parse(line: &[u8]) -> Result<Option<Line<'_>>, LineError> {
    let Some((path, rest)) = field(line) else {
        return Ok(None);
    };
    let (value, rest) = field(rest).ok_or(LineError::Fields)?;
    let (timestamp, rest) = field(rest).ok_or(LineError::Fields)?;
    if field(rest).is_some() {
        return Err(LineError::Fields);
    }
    Ok(Some(Line {
        path,
        value: number::parse(value).ok_or(LineError::Value)?,
        timestamp: number::parse(timestamp).ok_or(LineError::Timestamp)?,
    }))
}

/// The first field and what follows it.
#[inline]
fn field(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let start = text.iter().position(|byte| !is_space(*byte))?;
    let text = text.get(start..)?;
    let end = text.iter().position(|byte| is_space(*byte));
    Some(text.split_at(end.unwrap_or(text.len())))
}

/// ASCII's white space as Python's `str.split` knows it, with the separators U+001C to U+001F.
#[inline]
fn is_space(byte: u8) -> bool {
    byte <= b' ' && matches!(byte, b' ' | b'\t'..=b'\r' | 0x1c..=0x1f)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn line(path: &str, value: f64, timestamp: f64) -> Result<Option<Line<'_>>, LineError> {
        Ok(Some(Line {
            path: path.as_bytes(),
            value,
            timestamp,
        }))
    }

    #[test]
    fn any_white_space_separates() {
        let expected = line("a.b", 1.5, 1.7e9);
        for text in [
            "a.b 1.5 1700000000",
            "a.b 1.5 1700000000\r",
            "  a.b\t 1.5 \x0b\x0c1700000000.0  ",
            "a.b\x1f1.5\x1c1.7e9",
        ] {
            assert_eq!(parse(text.as_bytes()), expected, "{text:?}");
        }
        for blank in ["", " ", "\r", " \t\r"] {
            assert_eq!(parse(blank.as_bytes()), Ok(None), "{blank:?}");
        }
    }

    #[test]
    fn three_fields_there_must_be() {
        for text in ["a", "a 1", "a 1 2 3", "a b 1 1700000000"] {
            assert_eq!(parse(text.as_bytes()), Err(LineError::Fields), "{text:?}");
        }
        assert_eq!(parse(b"a one 1"), Err(LineError::Value));
        assert_eq!(parse(b"a 0x1 1"), Err(LineError::Value));
        assert_eq!(parse(b"a 1 now"), Err(LineError::Timestamp));
    }

    #[test]
    fn paths_keep_every_other_byte() {
        assert_eq!(
            parse("salt/job//dev/sda1;a=b 1 2".as_bytes()),
            line("salt/job//dev/sda1;a=b", 1.0, 2.0)
        );
        let parsed = parse(b"\xff\x00 1 2").unwrap().unwrap();
        assert_eq!(parsed.path, b"\xff\x00");
    }

    proptest! {
        #[test]
        fn no_bytes_panic(text: Vec<u8>) {
            if let Ok(Some(line)) = parse(&text) {
                prop_assert!(!line.path.is_empty() && !line.path.iter().any(|byte| is_space(*byte)));
            }
        }
    }
}
