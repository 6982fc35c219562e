//! A service check: `_sc|name|status[|section…]`.
//!
//! Sections: `d:` date, `h:` host, `#tags` in any order, each at most once, then `m:` message. Clients put the fields of later protocol
//! versions behind the message; these are skipped wherever they stand. Any other section is an error.

use super::error::CheckError;
use super::field::{is_origin, seconds, set_once, with_line_breaks};
use crate::key::Kind;
use crate::sample::{Check, Sample, Value};

pub(super) const PREFIX: &[u8] = b"_sc";

pub(super) fn parse(line: &[u8], take: impl FnOnce(Sample<'_>)) -> Result<(), CheckError> {
    let mut sections = line.split(|byte| *byte == b'|');
    if sections.next() != Some(PREFIX) {
        return Err(CheckError::NoPrefix);
    }
    let name = sections.next().ok_or(CheckError::NoName)?;
    if name.is_empty() {
        return Err(CheckError::EmptyName);
    }
    let status = match sections.next() {
        Some(&[digit @ b'0'..=b'3']) => digit - b'0',
        _ => return Err(CheckError::BadStatus),
    };
    let mut read = Sections::default();
    for section in sections {
        read.section(section)?;
    }
    let message = with_line_breaks(read.message.unwrap_or_default());
    take(Sample {
        name,
        kind: Kind::Status,
        tags: read.tags,
        value: Value::Status(Check {
            status,
            message: &message,
            hostname: read.hostname,
            timestamp: read.date,
        }),
        rate: 1.0,
    });
    Ok(())
}

#[derive(Default)]
struct Sections<'a> {
    date: Option<i64>,
    hostname: Option<&'a str>,
    tags: Option<&'a [u8]>,
    message: Option<&'a str>,
}

impl<'a> Sections<'a> {
    fn section(&mut self, section: &'a [u8]) -> Result<(), CheckError> {
        if is_origin(section) {
            return Ok(());
        }
        if section.is_empty() {
            return Err(CheckError::EmptySection);
        }
        if self.message.is_some() {
            return Err(CheckError::MessageNotLast);
        }
        let first = match section {
            [b'#', tags @ ..] => set_once(&mut self.tags, tags),
            [b'd', b':', date @ ..] => {
                set_once(&mut self.date, seconds(date).ok_or(CheckError::BadDate)?)
            }
            [b'h', b':', hostname @ ..] => set_once(&mut self.hostname, text(hostname)?),
            [b'm', b':', message @ ..] => set_once(&mut self.message, text(message)?),
            _ => return Err(CheckError::UnknownSection),
        };
        if first {
            Ok(())
        } else {
            Err(CheckError::SectionTwice)
        }
    }
}

fn text(bytes: &[u8]) -> Result<&str, CheckError> {
    std::str::from_utf8(bytes).map_err(|_| CheckError::NotUtf8)
}
