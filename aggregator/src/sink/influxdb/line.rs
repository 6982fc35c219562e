//! Points and events as InfluxDB's line protocol, written without allocating.
//!
//! `measurement,tag=value,… field=value,… timestamp`: points that follow one another with the same base, tags and time are the fields of one line.
//!
//! Source: the reference of the line protocol in InfluxDB's documentation; what its parser makes of backslashes, and which names it refuses, was tried with
//! InfluxDB 1.6.7.

use std::io::Write as _;
use std::ops::Range;

use xxhash_rust::xxh3::xxh3_64;

use crate::key::{SEPARATOR, Tags};
use crate::point::{Batch, Point, PointKind};
use crate::sample::Event;

/// More fields than this go into a further line, which InfluxDB puts to the first: finding a field that comes twice must not take long.
const MOST_FIELDS: usize = 64;

/// Names that InfluxDB keeps for itself; with them as a key it refuses the whole line.
const RESERVED: [&str; 3] = ["time", "_field", "_measurement"];

/// How names become lines.
#[derive(Debug, Clone)]
pub struct LineFormat {
    /// Stands in front of each measurement.
    pub prefix: String,
    /// The field of points without a suffix.
    pub value_field: String,
    /// The tag that holds the host; empty: none.
    pub host_tag: String,
    /// The measurement of events.
    pub events: String,
}

impl Default for LineFormat {
    fn default() -> Self {
        Self {
            prefix: String::new(),
            value_field: "value".to_owned(),
            host_tag: "host".to_owned(),
            events: "events".to_owned(),
        }
    }
}

/// How many texts could not be carried as they are, by why.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Changed {
    /// A character that has no place there: control characters, a backslash at the end or before a space, a `#` at the beginning of a line. It became `_`.
    pub character: u64,
    /// A key that InfluxDB keeps for itself. It got a `_` at its end.
    pub reserved: u64,
    /// A tag without a key. It was left out.
    pub no_key: u64,
    /// A tag whose key another has as well. It was left out.
    pub repeated: u64,
}

/// Writes lines. Its memory is kept from line to line.
#[derive(Debug)]
pub struct LineWriter {
    format: LineFormat,
    tags: Vec<TagAt>,
    /// Places of the points of the line, sorted by field.
    fields: Vec<usize>,
    /// The tags of an event.
    joined: String,
    measurement: String,
    changed: Changed,
}

/// Where a tag is among joined ones.
#[derive(Debug, Clone, Copy)]
struct TagAt {
    start: usize,
    /// Of the key.
    key_end: usize,
    /// Where the value starts; `None` for a bare word.
    value: Option<usize>,
    end: usize,
}

/// The host's place sorts behind every other.
const HOST: TagAt = TagAt {
    start: usize::MAX,
    key_end: 0,
    value: None,
    end: 0,
};

/// What a text is in a line: decides what must be escaped.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Measurement,
    /// Key or value.
    Tag,
    Field,
}

impl LineWriter {
    /// A writer of that format.
    pub fn new(format: LineFormat) -> Self {
        Self {
            format,
            tags: Vec::new(),
            fields: Vec::new(),
            joined: String::new(),
            measurement: String::new(),
            changed: Changed::default(),
        }
    }

    /// Appends the line that starts with the item `items.start` of the batch, its points being the first items and its events the next. How many items went
    /// into it: at least one, and none behind `items.end`. Nothing is appended for what has no name: it cannot be carried.
    pub fn write(&mut self, batch: &Batch, items: Range<usize>, out: &mut Vec<u8>) -> usize {
        let points = batch.points.get(items.start..).unwrap_or_default();
        let points = points.get(..items.len()).unwrap_or(points);
        let Some(first) = points.first() else {
            if let Some(event) = batch.events.get(items.start - batch.points.len()) {
                self.event(batch, event, out);
            }
            return 1;
        };
        self.gather(points);
        let taken = self.fields.len();
        if self.format.prefix.is_empty() && first.base.is_empty() {
            return taken;
        }
        self.measurement.clear();
        self.measurement.push_str(&self.format.prefix);
        self.measurement.push_str(&first.base);
        push_measurement(&self.measurement, &mut self.changed, out);
        let host = first
            .check
            .as_ref()
            .and_then(|check| check.hostname.as_deref());
        // What only passes through was not measured here.
        let own = (!batch.interval.is_zero()).then_some(&*batch.hostname);
        self.tags_of(&first.tags);
        self.push_tags(first.tags.joined(), host.or(own).unwrap_or_default(), out);
        let value_field = &self.format.value_field;
        let mut before = b' ';
        for point in self.fields.iter().filter_map(|at| points.get(*at)) {
            out.push(before);
            before = b',';
            push_key(
                field(point, value_field),
                Part::Field,
                &mut self.changed,
                out,
            );
            out.push(b'=');
            push_value(point, out);
        }
        if let Some(check) = &first.check
            && !check.message.is_empty()
        {
            out.extend_from_slice(b",message=");
            push_text(&check.message, out);
        }
        push_end(first.timestamp.nanos(), out);
        taken
    }

    /// What was changed since this was asked last.
    pub fn changed(&mut self) -> Changed {
        std::mem::take(&mut self.changed)
    }

    /// Notes the points of the line that starts with the first of these.
    fn gather(&mut self, points: &[Point]) {
        self.fields.clear();
        let value_field = &self.format.value_field;
        let Some(first) = points.first() else { return };
        for (at, point) in points.iter().enumerate() {
            let joins = at == 0
                || at < MOST_FIELDS
                    && point.timestamp == first.timestamp
                    && point.base == first.base
                    && point.tags == first.tags
                    && point.check.is_none()
                    && first.check.is_none();
            if !joins {
                return;
            }
            let key = field(point, value_field);
            let known = |other: &usize| {
                let other = points.get(*other);
                other.map_or("", |other| field(other, value_field)).cmp(key)
            };
            match self.fields.binary_search_by(known) {
                // The same field once more: the next line, which is written over this one.
                Ok(_) => return,
                Err(place) => self.fields.insert(place, at),
            }
        }
    }

    fn event(&mut self, batch: &Batch, event: &Event, out: &mut Vec<u8>) {
        push_measurement(&self.format.events, &mut self.changed, out);
        let mut joined = std::mem::take(&mut self.joined);
        joined.clear();
        for (position, tag) in event.tags.iter().enumerate() {
            Tags::join(&mut joined, tag, position == 0);
        }
        self.tags_in(&joined);
        self.push_tags(
            &joined,
            event.hostname.as_deref().unwrap_or(&batch.hostname),
            out,
        );
        self.joined = joined;
        let mut before = b' ';
        for (key, text) in [
            (
                "aggregation_key",
                event.aggregation_key.as_deref().unwrap_or_default(),
            ),
            ("alert_type", event.alert_type),
            ("priority", event.priority),
            (
                "source_type",
                event.source_type.as_deref().unwrap_or_default(),
            ),
            ("text", &event.text),
            ("title", &event.title),
        ] {
            // One field there must be.
            if !text.is_empty() || key == "title" {
                out.push(before);
                before = b',';
                out.extend_from_slice(key.as_bytes());
                out.push(b'=');
                push_text(text, out);
            }
        }
        // Events have whole seconds, and of two with the same tags and time InfluxDB keeps one: what they say is told apart by up to a millisecond.
        let words = [&*event.title, "\0", &*event.text].map(|text| xxh3_64(text.as_bytes()));
        let apart = words
            .into_iter()
            .fold(0, |sum: u64, word| sum.rotate_left(7) ^ word)
            % 1_000_000;
        let time = event.timestamp.saturating_mul(1_000_000_000);
        push_end(time.saturating_add_unsigned(apart), out);
    }

    fn tags_of(&mut self, tags: &Tags) {
        self.tags_in(tags.joined());
    }

    /// Finds the tags among joined ones, sorted by key, and of those with the same key the first.
    fn tags_in(&mut self, joined: &str) {
        self.tags.clear();
        let mut start = 0;
        for tag in joined.split(SEPARATOR) {
            let end = start + tag.len();
            let colon = memchr::memchr(b':', tag.as_bytes()).map(|at| start + at);
            let key_end = colon.unwrap_or(end);
            if key_end > start {
                let value = colon.map(|colon| colon + 1);
                self.tags.push(TagAt {
                    start,
                    key_end,
                    value,
                    end,
                });
            } else if end > start {
                self.changed.no_key += 1;
            }
            start = end + SEPARATOR.len_utf8();
        }
    }

    /// Writes those tags, and the host if it is not among them.
    fn push_tags(&mut self, joined: &str, host: &str, out: &mut Vec<u8>) {
        let host_tag = self.format.host_tag.as_str();
        if !host_tag.is_empty() && !host.is_empty() {
            self.tags.push(HOST);
        }
        let text = |range: Range<usize>| joined.get(range).unwrap_or_default();
        let key = |tag: &TagAt| match tag.start {
            usize::MAX => host_tag,
            start => text(start..tag.key_end),
        };
        // They come sorted by their whole text, in which `a-b:1` is before `a:1`.
        self.tags
            .sort_unstable_by(|a, b| key(a).cmp(key(b)).then(a.start.cmp(&b.start)));
        let mut last = "";
        for tag in &self.tags {
            let (name, is_host) = (key(tag), tag.start == usize::MAX);
            if name == last {
                self.changed.repeated += u64::from(!is_host);
                continue;
            }
            last = name;
            let value = match tag.value {
                _ if is_host => host,
                Some(start) => text(start..tag.end),
                None => "true",
            };
            if value.is_empty() {
                continue;
            }
            out.push(b',');
            push_key(name, Part::Tag, &mut self.changed, out);
            out.push(b'=');
            push_name(value, Part::Tag, &mut self.changed, out);
        }
    }
}

/// The suffix without its dot, or the name for none.
fn field<'a>(point: &'a Point, value_field: &'a str) -> &'a str {
    let suffix = point.suffix.as_deref().unwrap_or_default();
    match suffix.strip_prefix('.').unwrap_or(suffix) {
        "" => value_field,
        field => field,
    }
}

fn push_value(point: &Point, out: &mut Vec<u8>) {
    match point.kind {
        PointKind::Integer | PointKind::Status => {
            // What is too large becomes the largest.
            push_integer(point.value.round() as i64, out);
            out.push(b'i');
        }
        PointKind::Counter | PointKind::Gauge => push_float(point.value, out),
    }
}

fn push_end(nanoseconds: i64, out: &mut Vec<u8>) {
    out.push(b' ');
    push_integer(nanoseconds, out);
    out.push(b'\n');
}

fn push_integer(number: i64, out: &mut Vec<u8>) {
    // Writing into memory cannot fail, here and below.
    let _ = write!(out, "{number}");
}

/// The fewest digits that read back as the same number, and never an exponent.
fn push_float(value: f64, out: &mut Vec<u8>) {
    // So far each whole number has a double of its own.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    if value.fract() == 0.0 && value.abs() < EXACT && value != 0.0 {
        return push_integer(value as i64, out);
    }
    let mut buffer = ryu::Buffer::new();
    let text = buffer.format_finite(value);
    if text.contains('e') {
        let _ = write!(out, "{value}");
    } else {
        out.extend_from_slice(text.strip_suffix(".0").unwrap_or(text).as_bytes());
    }
}

/// Text in quotes, which may have several lines.
fn push_text(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    for byte in text.bytes() {
        if matches!(byte, b'"' | b'\\') {
            out.push(b'\\');
        }
        out.push(byte);
    }
    out.push(b'"');
}

fn push_measurement(name: &str, changed: &mut Changed, out: &mut Vec<u8>) {
    // A line that starts so is a comment.
    let name = match name.strip_prefix('#') {
        Some(rest) => {
            changed.character += 1;
            out.push(b'_');
            rest
        }
        None => name,
    };
    push_name(name, Part::Measurement, changed, out);
}

fn push_key(key: &str, part: Part, changed: &mut Changed, out: &mut Vec<u8>) {
    push_name(key, part, changed, out);
    if RESERVED.contains(&key) {
        changed.reserved += 1;
        out.push(b'_');
    }
}

fn push_name(name: &str, part: Part, changed: &mut Changed, out: &mut Vec<u8>) {
    let special = |byte: u8| byte <= b' ' || matches!(byte, b',' | b'=' | b'\\' | 0x7f);
    if !name.bytes().any(special) {
        out.extend_from_slice(name.as_bytes());
        return;
    }
    let mut bytes = name.bytes().peekable();
    let mut as_it_is = true;
    while let Some(byte) = bytes.next() {
        let carried = match byte {
            // In a field's key it would escape what follows; elsewhere it stands for itself, but at the end, where it would escape what comes next, and
            // before a space, where it misleads the search for the end of the line.
            b'\\' => part != Part::Field && !matches!(bytes.peek(), None | Some(b' ')),
            b' ' | b',' => {
                out.push(b'\\');
                true
            }
            b'=' if part != Part::Measurement => {
                out.push(b'\\');
                true
            }
            _ => byte >= b' ' && byte != 0x7f,
        };
        out.push(if carried { byte } else { b'_' });
        as_it_is &= carried;
    }
    changed.character += u64::from(!as_it_is);
}

#[cfg(test)]
mod tests;
