//! Points, checks and events as lines, and lines as packets.
//!
//! <https://docs.datadoghq.com/extend/dogstatsd/datagram_shell/> has the lines of DogStatsD, Etsy's `docs/metric_types.md` those of plain statsd. Numbers
//! are written with all digits that give the same double back, and never with an exponent.

use std::fmt::Write as _;

use super::Progress;
use super::config::Checks;
use crate::graphite::naming::Naming;
use crate::point::{Batch, Point, PointKind};
use crate::sample::Event;

/// How lines look.
#[derive(Debug)]
pub(super) struct Lines {
    /// How name and tags become one; `None` for DogStatsD's tags.
    pub(super) naming: Option<Naming>,
    /// With its dot.
    pub(super) prefix: String,
    pub(super) checks: Checks,
    pub(super) events: bool,
    pub(super) timestamps: bool,
    /// Whether the last line of a packet ends with LF as well.
    pub(super) ended: bool,
    /// How long a line may be.
    pub(super) most: usize,
    /// Kept from line to line, so that formatting does not allocate.
    pub(super) line: String,
}

impl Lines {
    /// Fills a packet from where `progress` is, and says where it then is. An empty packet: there is nothing left.
    pub(super) fn fill(
        &mut self,
        packet: &mut Vec<u8>,
        most: usize,
        batch: &Batch,
        mut progress: Progress,
    ) -> Progress {
        packet.clear();
        for point in batch.points.iter().skip(progress.done.points) {
            if self.point(point) {
                if !self.append(packet, most) {
                    return progress;
                }
                progress.written.points += 1;
            }
            progress.done.points += 1;
        }
        for event in batch.events.iter().skip(progress.done.events) {
            if self.event(event) {
                if !self.append(packet, most) {
                    return progress;
                }
                progress.written.events += 1;
            }
            progress.done.events += 1;
        }
        progress
    }

    /// Puts the line into the packet, if there is room.
    fn append(&self, packet: &mut Vec<u8>, most: usize) -> bool {
        let between = usize::from(!self.ended && !packet.is_empty());
        let needed = self.line.len() + between + usize::from(self.ended);
        if packet.len() + needed > most {
            return false;
        }
        if between > 0 {
            packet.push(b'\n');
        }
        packet.extend_from_slice(self.line.as_bytes());
        if self.ended {
            packet.push(b'\n');
        }
        true
    }

    fn fits(&self) -> bool {
        self.line.len() + usize::from(self.ended) <= self.most
    }

    /// Whether the point has a line, which then is in `line`.
    fn point(&mut self, point: &Point) -> bool {
        self.line.clear();
        if point.kind == PointKind::Status {
            match self.checks {
                Checks::Skip => return false,
                Checks::Check => {
                    self.check(point);
                    return self.fits();
                }
                Checks::Gauge => {}
            }
        }
        self.name(point);
        // A server would read these as a service check and as an event.
        if self.line.is_empty() || self.line.starts_with("_sc") || self.line.starts_with("_e{") {
            return false;
        }
        let negative = point.kind != PointKind::Counter && point.value < 0.0;
        if negative {
            // A gauge with a sign is added to what it was, to all but DogStatsD: so it is set to 0 first, in the same packet.
            let name = self.line.clone();
            self.line.push_str(":0|g");
            self.sections(point);
            self.line.push('\n');
            self.line.push_str(&name);
        }
        let kind = match point.kind {
            PointKind::Counter => 'c',
            PointKind::Gauge | PointKind::Integer | PointKind::Status => 'g',
        };
        // -0 would be a sign, too.
        let value = if point.value == 0.0 { 0.0 } else { point.value };
        // Writing into memory cannot fail.
        let _ = write!(self.line, ":{value}|{kind}");
        self.sections(point);
        self.fits()
    }

    fn name(&mut self, point: &Point) {
        let start = self.line.len();
        match &self.naming {
            Some(naming) => naming.push_path(point, &mut self.line),
            None => {
                let _ = write!(self.line, "{}{}", self.prefix, point.name());
            }
        }
        let bad =
            |c: char| c.is_control() || c.is_whitespace() || matches!(c, ':' | '|' | '@' | '#');
        replace(&mut self.line, start, bad);
    }

    fn tags<'a>(&mut self, tags: impl Iterator<Item = &'a str>) {
        if self.naming.is_some() {
            return;
        }
        for (place, tag) in tags.enumerate() {
            self.line.push_str(if place == 0 { "|#" } else { "," });
            let start = self.line.len();
            self.line.push_str(tag);
            replace(&mut self.line, start, |c| {
                c.is_control() || matches!(c, ',' | '|')
            });
        }
    }

    fn sections(&mut self, point: &Point) {
        self.tags(point.tags.iter());
        if self.timestamps {
            let _ = write!(self.line, "|T{}", point.timestamp.seconds());
        }
    }

    fn check(&mut self, point: &Point) {
        self.line.push_str("_sc|");
        self.name(point);
        let _ = write!(
            self.line,
            "|{}|d:{}",
            point.value,
            point.timestamp.seconds()
        );
        let said = point.check.as_deref();
        self.section("h:", said.and_then(|said| said.hostname.as_deref()));
        self.tags(point.tags.iter());
        if let Some(said) = said
            && !said.message.is_empty()
        {
            self.line.push_str("|m:");
            let start = self.line.len();
            self.text(&said.message.replace("m:", "m\\:"));
            replace(&mut self.line, start, |c| c == '|');
        }
    }

    /// Whether the event has a line.
    fn event(&mut self, event: &Event) -> bool {
        self.line.clear();
        if !self.events {
            return false;
        }
        self.text(&event.title);
        let title = self.line.len();
        self.text(&event.text);
        let text = self.line.len() - title;
        let header = format!("_e{{{title},{text}}}:");
        self.line.insert(title, '|');
        self.line.insert_str(0, &header);
        let _ = write!(self.line, "|d:{}", event.timestamp);
        self.section("h:", event.hostname.as_deref());
        self.section("k:", event.aggregation_key.as_deref());
        self.section("p:", Some(event.priority));
        self.section("s:", event.source_type.as_deref());
        self.section("t:", Some(event.alert_type));
        self.tags(event.tags.iter().map(String::as_str));
        self.fits()
    }

    fn section(&mut self, key: &str, value: Option<&str>) {
        if let Some(value) = value {
            self.line.push('|');
            self.line.push_str(key);
            let start = self.line.len();
            self.line.push_str(value);
            replace(&mut self.line, start, |c| c.is_control() || c == '|');
        }
    }

    /// Free text, on one line.
    fn text(&mut self, text: &str) {
        for c in text.chars() {
            match c {
                '\n' => self.line.push_str("\\n"),
                c if c.is_control() && c != '\t' => self.line.push('_'),
                c => self.line.push(c),
            }
        }
    }
}

/// Puts `_` for what would end a field or a line, from a place on.
fn replace(line: &mut String, start: usize, bad: impl Fn(char) -> bool) {
    if line.get(start..).is_some_and(|text| text.contains(&bad)) {
        let rest = line.split_off(start);
        line.extend(rest.chars().map(|c| if bad(c) { '_' } else { c }));
    }
}
