//! One pass over a metric's fields.

use std::str;

use super::metric::{ScanError, Stamp, ValueField};
use super::tags::{TAGS_KEY, TagIter};
use super::wire::{DELIMITED, FIXED64, Field, Reader, VARINT, WireError};

/// The numbers of the fields of `metricpb.Metric`.
mod number {
    pub(super) const NAME: u32 = 1;
    pub(super) const TAGS: u32 = 2;
    pub(super) const TYPE: u32 = 3;
    pub(super) const COUNTER: u32 = 5;
    pub(super) const GAUGE: u32 = 6;
    pub(super) const HISTOGRAM: u32 = 7;
    pub(super) const SET: u32 = 8;
    pub(super) const SCOPE: u32 = 9;
    pub(super) const ORIGIN: u32 = 1001;
    pub(super) const FLUSH: u32 = 1002;
    pub(super) const INDEX: u32 = 1003;
    pub(super) const INTERVAL: u32 = 1004;
}

/// The key of `Metric.name` as one byte.
const NAME_KEY: u8 = 0x0a;

/// What the pass over a message found, and where.
#[derive(Default)]
pub(super) struct Found {
    /// Where the name's content lies.
    name: (usize, usize),
    /// From the first tag's key to the last tag's end.
    tags: (usize, usize),
    /// Whether all text stands as every known sender writes it: first the name, then the tags, each shorter than 128 bytes.
    plain: bool,
    pub(super) kind: i32,
    pub(super) scope: i32,
    pub(super) value: Option<ValueField>,
    /// How many value fields there are.
    values: u32,
    /// The last one's content: how many bytes it has, and how many follow it.
    content: (usize, usize),
    origin: u64,
    flush: u64,
    index: u32,
    /// 0 if there is none.
    pub(super) interval: u64,
}

impl Found {
    /// Reads every field once.
    #[inline]
    pub(super) fn find(metric: &[u8]) -> Result<Self, WireError> {
        let mut found = Self::default();
        let mut reader = Reader(metric);
        found.plain_text(&mut reader);
        while !reader.0.is_empty() {
            let start = metric.len() - reader.0.len();
            let field = reader.field()?;
            if field.number > number::TAGS {
                found.other(field, &mut reader)?;
                continue;
            }
            field.must_be(DELIMITED)?;
            reader.delimited()?;
            found.plain = false;
            // The name is found again by `checked_text`.
            if field.number == number::TAGS {
                let first = if found.tags.1 == 0 {
                    start
                } else {
                    found.tags.0
                };
                found.tags = (first, metric.len() - reader.0.len());
            }
        }
        Ok(found)
    }

    /// The stamp, if there is one.
    #[inline]
    pub(super) fn stamp(&self) -> Option<Stamp> {
        (self.origin != 0).then_some(Stamp {
            origin: self.origin,
            flush: self.flush,
            index: self.index,
        })
    }

    /// What the value field holds, if there is exactly one: several are for a decoder to put together.
    #[inline]
    pub(super) fn content<'a>(&self, metric: &'a [u8]) -> Option<&'a [u8]> {
        let (length, left) = self.content;
        let end = metric.len().checked_sub(left)?;
        let content = metric.get(end.checked_sub(length)?..end)?;
        (self.values == 1).then_some(content)
    }

    /// Reads a name and tags from the start of a message, as long as they are plain.
    #[inline]
    fn plain_text(&mut self, reader: &mut Reader<'_>) {
        let whole = reader.0.len();
        let Some(rest) = reader.short(NAME_KEY) else {
            return;
        };
        self.plain = true;
        self.name = (2, whole - rest.len());
        reader.0 = rest;
        let start = whole - rest.len();
        while let Some(rest) = reader.short(TAGS_KEY) {
            reader.0 = rest;
            self.tags = (start, whole - rest.len());
        }
    }

    /// Reads a field that holds no text of the key.
    #[inline]
    fn other(&mut self, field: Field, reader: &mut Reader<'_>) -> Result<(), WireError> {
        match field.number {
            number::TYPE => {
                field.must_be(VARINT)?;
                // Enums are truncated to 32 bits, as every implementation does.
                self.kind = reader.varint()? as i32;
            }
            number::COUNTER => return self.value(field, reader, ValueField::Counter),
            number::GAUGE => return self.value(field, reader, ValueField::Gauge),
            number::HISTOGRAM => return self.value(field, reader, ValueField::Histogram),
            number::SET => return self.value(field, reader, ValueField::Set),
            number::SCOPE => {
                field.must_be(VARINT)?;
                self.scope = reader.varint()? as i32;
            }
            number::ORIGIN => {
                field.must_be(FIXED64)?;
                self.origin = reader.fixed64()?;
            }
            number::FLUSH => {
                field.must_be(VARINT)?;
                self.flush = reader.varint()?;
            }
            number::INDEX => {
                field.must_be(VARINT)?;
                self.index = reader.varint()? as u32;
            }
            number::INTERVAL => {
                field.must_be(VARINT)?;
                self.interval = reader.varint()?;
            }
            _ => reader.skip(field)?,
        }
        Ok(())
    }

    #[inline]
    fn value(
        &mut self,
        field: Field,
        reader: &mut Reader<'_>,
        value: ValueField,
    ) -> Result<(), WireError> {
        field.must_be(DELIMITED)?;
        let content = reader.delimited()?;
        self.value = Some(value);
        self.values = self.values.saturating_add(1);
        self.content = (content.len(), reader.0.len());
        Ok(())
    }

    /// The name and the tags, every string of them checked to be UTF-8.
    #[inline]
    pub(super) fn text<'a>(&self, metric: &'a [u8]) -> Result<(&'a str, TagIter<'a>), ScanError> {
        if !self.plain {
            return self.checked_text(metric);
        }
        // One look at everything from the name to the last tag, keys and lengths included, is cheaper than one for each string.
        // It says the same: keys and lengths are ASCII here, so no character reaches across them.
        let (start, name_end) = self.name;
        let end = name_end.max(self.tags.1);
        let span = metric.get(start..end).unwrap_or_default();
        let Ok(text) = str::from_utf8(span) else {
            return self.checked_text(metric);
        };
        let (name, tags) = text.split_at_checked(name_end - start).unwrap_or_default();
        Ok((name, TagIter::plain(tags)))
    }

    /// [`text`](Self::text) string by string: for long strings, unusual orders, and to name the field that is not UTF-8.
    #[inline(never)]
    fn checked_text<'a>(&self, metric: &'a [u8]) -> Result<(&'a str, TagIter<'a>), ScanError> {
        let mut name = "";
        let mut reader = Reader(metric);
        while !reader.0.is_empty() {
            let field = reader.field()?;
            match field.number {
                // Names that a later one overrides are looked at too, as a decoder would.
                number::NAME | number::TAGS => {
                    let text = str::from_utf8(reader.delimited()?).map_err(|_| {
                        let field = field.number;
                        ScanError::Utf8 { field }
                    })?;
                    if field.number == number::NAME {
                        name = text;
                    }
                }
                _ => reader.skip(field)?,
            }
        }
        let (start, end) = self.tags;
        let tags = metric.get(start..end).unwrap_or_default();
        Ok((name, TagIter::any(tags)))
    }
}
