//! An event: `_e{title length,text length}:title|text[|section…]`.
//!
//! Sections come in any order, each at most once: `d:` date, `h:` host, `k:` aggregation key, `p:` priority, `s:` source, `t:` alert type,
//! `#tags`. The fields of later protocol versions are skipped; any other section is an error.

use std::time::{SystemTime, UNIX_EPOCH};

use super::error::EventError;
use super::field::{cut, is_origin, seconds, set_once, with_line_breaks};
use crate::sample::Event;

pub(super) const PREFIX: &[u8] = b"_e{";

/// Lengths decide where title and text end, so that both may hold pipes.
pub(super) fn parse(line: &[u8]) -> Result<Event, EventError> {
    let (header, body) = cut(line, b':');
    let lengths = header
        .strip_prefix(PREFIX)
        .and_then(|header| header.strip_suffix(b"}"))
        .ok_or(EventError::NoWrapper)?;
    let body = body.ok_or(EventError::NoWrapper)?;
    let (title_length, text_length) = cut(lengths, b',');
    let title_length = length(title_length)?;
    let text_length = length(text_length.ok_or(EventError::NoComma)?)?;

    let (title, after_title) = declared(body, title_length)?;
    let (text, sections) = declared(after_title.ok_or(EventError::LengthMismatch)?, text_length)?;
    let mut read = Sections::default();
    if let Some(sections) = sections {
        for section in sections.split(|byte| *byte == b'|') {
            read.section(section)?;
        }
    }
    Ok(Event {
        title: string(title)?,
        text: with_line_breaks(&string(text)?).into_owned(),
        timestamp: read.date.unwrap_or_else(now),
        hostname: read.hostname,
        aggregation_key: read.aggregation_key,
        priority: read.priority.unwrap_or("normal"),
        source_type: read.source_type,
        alert_type: read.alert_type.unwrap_or("info"),
        tags: read.tags.unwrap_or_default(),
    })
}

#[derive(Default)]
struct Sections {
    date: Option<i64>,
    hostname: Option<String>,
    aggregation_key: Option<String>,
    priority: Option<&'static str>,
    source_type: Option<String>,
    alert_type: Option<&'static str>,
    tags: Option<Vec<String>>,
}

impl Sections {
    fn section(&mut self, section: &[u8]) -> Result<(), EventError> {
        let first = match section {
            [] => return Err(EventError::EmptySection),
            [b'#', tags @ ..] => set_once(&mut self.tags, sorted_tags(tags)?),
            [b'd', b':', date @ ..] => {
                set_once(&mut self.date, seconds(date).ok_or(EventError::BadDate)?)
            }
            [b'h', b':', hostname @ ..] => set_once(&mut self.hostname, string(hostname)?),
            [b'k', b':', key @ ..] => set_once(&mut self.aggregation_key, string(key)?),
            [b's', b':', source @ ..] => set_once(&mut self.source_type, string(source)?),
            [b'p', b':', name @ ..] => set_once(
                &mut self.priority,
                one_of(&["normal", "low"], name).ok_or(EventError::BadPriority)?,
            ),
            [b't', b':', name @ ..] => set_once(
                &mut self.alert_type,
                one_of(&["error", "warning", "info", "success"], name)
                    .ok_or(EventError::BadAlertType)?,
            ),
            other if is_origin(other) => true,
            _ => return Err(EventError::UnknownSection),
        };
        if first {
            Ok(())
        } else {
            Err(EventError::SectionTwice)
        }
    }
}

fn length(digits: &[u8]) -> Result<usize, EventError> {
    std::str::from_utf8(digits)
        .ok()
        .and_then(|digits| digits.parse().ok())
        .filter(|length| *length > 0)
        .ok_or(EventError::BadLength)
}

/// The first `length` bytes, and what follows the pipe behind them.
fn declared(bytes: &[u8], length: usize) -> Result<(&[u8], Option<&[u8]>), EventError> {
    match bytes.split_at_checked(length) {
        Some((field, [])) => Ok((field, None)),
        Some((field, [b'|', rest @ ..])) => Ok((field, Some(rest))),
        _ => Err(EventError::LengthMismatch),
    }
}

fn string(bytes: &[u8]) -> Result<String, EventError> {
    let text = std::str::from_utf8(bytes).map_err(|_| EventError::NotUtf8)?;
    Ok(text.to_owned())
}

fn sorted_tags(tags: &[u8]) -> Result<Vec<String>, EventError> {
    let text = std::str::from_utf8(tags).map_err(|_| EventError::NotUtf8)?;
    let mut tags: Vec<String> = text.split(',').map(str::to_owned).collect();
    tags.sort_unstable();
    Ok(tags)
}

fn one_of(names: &[&'static str], name: &[u8]) -> Option<&'static str> {
    names.iter().copied().find(|known| known.as_bytes() == name)
}

fn now() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| {
            i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
        })
}
