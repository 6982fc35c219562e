//! Points and events as the content of objects.

use std::io::{self, Write};

use flate2::Compression;
use flate2::write::GzEncoder;

use super::config::{Format, Packing};
use super::failure::Failure;
use crate::point::{Batch, Point, PointKind};
use crate::sink::Amount;
use crate::sink::localfile::jsonl;

/// Makes objects.
#[derive(Debug)]
pub(super) struct Encoder {
    pub(super) format: Format,
    pub(super) packing: Packing,
    /// An object is closed once it is so long.
    pub(super) longest: usize,
}

/// One object, and where the next one begins.
#[derive(Debug)]
pub(super) struct Object {
    pub(super) body: Vec<u8>,
    /// Points and events of the batch that are in it or in those before it, or skipped.
    pub(super) done: Amount,
    /// How much is in this one.
    pub(super) written: Amount,
}

/// How many points are formatted and compressed before other tasks get their turn.
const CHUNK: usize = 256;

const HEADER: [&str; 8] = [
    "name",
    "type",
    "value",
    "timestamp",
    "tags",
    "hostname",
    "interval",
    "message",
];

enum Body {
    Plain(Vec<u8>),
    Gzip(Box<GzEncoder<Vec<u8>>>),
}

impl Encoder {
    /// What names of objects end with.
    pub(super) fn ending(&self) -> &'static str {
        match (self.format, self.packing) {
            (Format::Tsv, Packing::Gzip) => "tsv.gz",
            (Format::Tsv, Packing::None) => "tsv",
            (Format::Csv, Packing::Gzip) => "csv.gz",
            (Format::Csv, Packing::None) => "csv",
            (Format::Jsonl, Packing::Gzip) => "jsonl.gz",
            (Format::Jsonl, Packing::None) => "jsonl",
        }
    }

    /// The object's `Content-Type`.
    pub(super) fn media_type(&self) -> &'static str {
        match (self.packing, self.format) {
            (Packing::Gzip, _) => "application/gzip",
            (Packing::None, Format::Tsv) => "text/tab-separated-values",
            (Packing::None, Format::Csv) => "text/csv",
            (Packing::None, Format::Jsonl) => "application/x-ndjson",
        }
    }

    /// Makes the next object of a batch. The same place gives the same object each time.
    pub(super) async fn object(&self, batch: &Batch, from: Amount) -> Result<Object, Failure> {
        let failed = |error: io::Error| Failure::encoding(&error);
        let mut body = Body::new(self.packing);
        let mut lines = Vec::new();
        let mut object = Object {
            body: Vec::new(),
            done: from,
            written: Amount::default(),
        };
        if self.format == Format::Csv {
            row(&mut lines, b',', &HEADER.map(str::to_owned)).map_err(failed)?;
        }
        let points = batch.points.get(from.points..).unwrap_or_default();
        for chunk in points.chunks(CHUNK) {
            for point in chunk {
                if self.point(&mut lines, batch, point).map_err(failed)? {
                    object.written.points += 1;
                }
            }
            object.done.points += chunk.len();
            body.take(&mut lines).map_err(failed)?;
            tokio::task::yield_now().await;
            if body.len() >= self.longest {
                object.body = body.finish().map_err(failed)?;
                return Ok(object);
            }
        }
        let events = batch.events.get(from.events..).unwrap_or_default();
        if self.format == Format::Jsonl {
            for event in events {
                jsonl::event(&mut lines, batch, event).map_err(failed)?;
            }
            object.written.events = events.len();
        }
        object.done.events += events.len();
        body.take(&mut lines).map_err(failed)?;
        object.body = body.finish().map_err(failed)?;
        Ok(object)
    }

    /// Appends a point's line. False: the format has no place for it.
    fn point(&self, lines: &mut Vec<u8>, batch: &Batch, point: &Point) -> io::Result<bool> {
        match self.format {
            Format::Jsonl => jsonl::point(lines, batch, point)?,
            Format::Csv => row(lines, b',', &csv_fields(batch, point))?,
            Format::Tsv => match tsv_fields(batch, point) {
                Some(fields) => row(lines, b'\t', &fields)?,
                None => return Ok(false),
            },
        }
        Ok(true)
    }
}

impl Body {
    fn new(packing: Packing) -> Self {
        match packing {
            Packing::Gzip => {
                Self::Gzip(Box::new(GzEncoder::new(Vec::new(), Compression::default())))
            }
            Packing::None => Self::Plain(Vec::new()),
        }
    }

    fn take(&mut self, lines: &mut Vec<u8>) -> io::Result<()> {
        match self {
            Self::Plain(body) => body.append(lines),
            Self::Gzip(encoder) => encoder.write_all(lines)?,
        }
        lines.clear();
        Ok(())
    }

    /// How long it is so far; a compressed one a little more.
    fn len(&self) -> usize {
        match self {
            Self::Plain(body) => body.len(),
            Self::Gzip(encoder) => encoder.get_ref().len(),
        }
    }

    fn finish(self) -> io::Result<Vec<u8>> {
        match self {
            Self::Plain(body) => Ok(body),
            Self::Gzip(encoder) => encoder.finish(),
        }
    }
}

fn row(out: &mut Vec<u8>, delimiter: u8, fields: &[String]) -> io::Result<()> {
    let mut writer = csv::WriterBuilder::new()
        .delimiter(delimiter)
        .from_writer(out);
    writer.write_record(fields)?;
    writer.flush()
}

fn hostname<'a>(batch: &'a Batch, point: &'a Point) -> &'a str {
    let check = point.check.as_deref();
    let own = check.and_then(|check| check.hostname.as_deref());
    own.unwrap_or(&batch.hostname)
}

/// As [`HEADER`] says.
fn csv_fields(batch: &Batch, point: &Point) -> [String; 8] {
    let check = point.check.as_deref();
    [
        point.name().to_string(),
        point.kind.as_str().to_owned(),
        point.value.to_string(),
        point.timestamp.seconds().to_string(),
        point.tags.to_string(),
        hostname(batch, point).to_owned(),
        batch.interval.as_secs_f64().to_string(),
        check.map_or_else(String::new, |check| check.message.clone()),
    ]
}

/// Veneur's columns: name, tags, type, host, interval, time, value, day. It has none for a service check.
fn tsv_fields(batch: &Batch, point: &Point) -> Option<[String; 8]> {
    let seconds = batch.interval.as_secs_f64();
    let (kind, value) = match point.kind {
        PointKind::Counter if seconds > 0.0 => ("rate", point.value / seconds),
        PointKind::Counter => ("count", point.value),
        PointKind::Gauge | PointKind::Integer => ("gauge", point.value),
        PointKind::Status => return None,
    };
    let time = jiff::Timestamp::from_second(point.timestamp.seconds()).unwrap_or_default();
    Some([
        point.name().to_string(),
        format!("{{{}}}", point.tags),
        kind.to_owned(),
        batch.hostname.to_string(),
        batch.interval.as_secs().to_string(),
        time.strftime("%Y-%m-%d %H:%M:%S").to_string(),
        value.to_string(),
        time.strftime("%Y%m%d").to_string(),
    ])
}
