//! Cutting a line into its fields.

use std::borrow::Cow;

use memchr::{memchr, memchr2};

/// What stands before the first `mark`, and what stands after it; `None` where there is no mark.
#[inline]
pub(super) fn cut(bytes: &[u8], mark: u8) -> (&[u8], Option<&[u8]>) {
    cut_at(bytes, memchr(mark, bytes))
}

/// [`cut`] for a mark that is likely within a few bytes: looking at one after the other is faster there than setting out to search.
#[inline]
pub(super) fn cut_near(bytes: &[u8], mark: u8) -> (&[u8], Option<&[u8]>) {
    const NEAR: usize = 12;
    let near = bytes.iter().take(NEAR).position(|byte| *byte == mark);
    if near.is_none() && bytes.len() > NEAR {
        return cut(bytes, mark);
    }
    cut_at(bytes, near)
}

/// What stands before the first of two marks, which one it is, and what stands after it.
#[inline]
pub(super) fn cut_at_either(bytes: &[u8], one: u8, other: u8) -> Option<(&[u8], u8, &[u8])> {
    let position = memchr2(one, other, bytes)?;
    let (before, from_mark) = bytes.split_at_checked(position)?;
    let (mark, after) = from_mark.split_first()?;
    Some((before, *mark, after))
}

#[inline]
fn cut_at(bytes: &[u8], position: Option<usize>) -> (&[u8], Option<&[u8]>) {
    match position.and_then(|position| bytes.split_at_checked(position)) {
        Some((before, from_mark)) => (before, from_mark.get(1..)),
        None => (bytes, None),
    }
}

/// A field that later versions of the protocol add to every kind of line: the sender's container, external data, tag cardinality.
/// They let an agent enrich tags by what it knows of the sender; without such knowledge they mean nothing.
pub(super) fn is_origin(section: &[u8]) -> bool {
    section.starts_with(b"c:") || section.starts_with(b"e:") || section.starts_with(b"card:")
}

/// A whole number of seconds, with an optional sign.
#[inline]
pub(super) fn seconds(bytes: &[u8]) -> Option<i64> {
    /// So many digits never overflow.
    const SAFE: usize = 18;
    if bytes.len() <= SAFE && !bytes.is_empty() && bytes.iter().all(u8::is_ascii_digit) {
        return Some(
            bytes
                .iter()
                .fold(0, |seconds, digit| seconds * 10 + i64::from(digit - b'0')),
        );
    }
    std::str::from_utf8(bytes).ok()?.parse().ok()
}

/// Puts line breaks where the protocol, which cannot carry any, writes a backslash and an n.
pub(super) fn with_line_breaks(text: &str) -> Cow<'_, str> {
    if text.contains("\\n") {
        Cow::Owned(text.replace("\\n", "\n"))
    } else {
        Cow::Borrowed(text)
    }
}

/// Fills a field that may come once. False when it was there already.
pub(super) fn set_once<T>(place: &mut Option<T>, value: T) -> bool {
    place.replace(value).is_none()
}
