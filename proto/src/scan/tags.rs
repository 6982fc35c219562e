//! A metric's tags, walked in place.

use std::str;

use super::wire::{DELIMITED, Reader, WireError};

/// The number of `Metric.tags`.
const TAGS: u32 = 2;
/// The key of `Metric.tags` as one byte.
pub(super) const TAGS_KEY: u8 = 0x12;

/// The tags of a scanned metric, in the order in which it lists them.
#[derive(Debug, Clone)]
pub struct TagIter<'a>(Place<'a>);

#[derive(Debug, Clone)]
enum Place<'a> {
    /// Tags one after the other, each shorter than 128 bytes, keys and lengths included: no tag needs another look.
    Plain(&'a str),
    /// From the first tag's key to the last tag's end; what lies between tags is passed over.
    Any(Reader<'a>),
}

impl<'a> TagIter<'a> {
    /// The tags of a range that a scan has read; each of them is valid UTF-8.
    pub(super) fn any(range: &'a [u8]) -> Self {
        Self(Place::Any(Reader(range)))
    }

    /// The tags of a range that holds nothing else, with one-byte lengths.
    pub(super) fn plain(text: &'a str) -> Self {
        Self(Place::Plain(text))
    }
}

impl<'a> Iterator for TagIter<'a> {
    type Item = &'a str;

    #[inline]
    fn next(&mut self) -> Option<&'a str> {
        match &mut self.0 {
            Place::Plain(text) => {
                let length = usize::from(*text.as_bytes().get(1)?);
                let (tag, rest) = text.get(2..)?.split_at_checked(length)?;
                *text = rest;
                Some(tag)
            }
            Place::Any(reader) => next_of_any(reader),
        }
    }
}

#[inline(never)]
fn next_of_any<'a>(reader: &mut Reader<'a>) -> Option<&'a str> {
    // The scan has read the range once: an error cannot come up here, and every tag is UTF-8.
    while !reader.0.is_empty() {
        if let Some(tag) = next_field(reader).ok()? {
            return str::from_utf8(tag).ok();
        }
    }
    None
}

fn next_field<'a>(reader: &mut Reader<'a>) -> Result<Option<&'a [u8]>, WireError> {
    let field = reader.field()?;
    if field.number == TAGS && field.wire_type == DELIMITED {
        return reader.delimited().map(Some);
    }
    reader.skip(field)?;
    Ok(None)
}
