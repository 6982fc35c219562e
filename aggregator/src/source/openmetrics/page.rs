//! One page, from its bytes to samples and points.

use std::collections::HashMap;
use std::io::Read as _;
use std::sync::Arc;

use bytes::Bytes;
use flate2::read::MultiGzDecoder;
use http::HeaderMap;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};

use super::counters::{Counters, Growth};
use super::parse::{self, Format, Line, Malformed};
use super::translate::{Named, Rules, Types};
use crate::key::{Kind, Tags};
use crate::point::{Point, PointKind, Timestamp};
use crate::sample::{Sample, Value};
use crate::source::Intake;

/// Where a page's yield goes.
pub(super) enum Taker {
    /// Into the table.
    Samples(Box<dyn Intake>),
    /// To the sinks, once the page has been read.
    Points(Vec<Point>),
}

/// What came of a page.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Yield {
    pub(super) taken: u64,
    pub(super) dropped: HashMap<&'static str, u64>,
    pub(super) resets: u64,
    /// A line that cannot be read, and why.
    pub(super) example: Option<(String, Malformed)>,
}

/// Why nothing of a page is taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum BadPage {
    /// It is packed in a way that we do not know, or cannot be unpacked.
    #[error("its content encoding is not gzip, or broken")]
    Encoding,
    /// It is longer than `max_body`.
    #[error("it is longer than max_body")]
    TooLarge,
    /// Neither of the two formats, or not UTF-8.
    #[error("it is no text of Prometheus' or OpenMetrics: {0}")]
    NotText(String),
    /// An OpenMetrics page without its end.
    #[error("it is cut off: # EOF is missing")]
    Truncated,
    /// Not one line of it is good.
    #[error("not one sample can be read: {0}")]
    Invalid(Malformed),
}

impl BadPage {
    /// As in the label `outcome`.
    pub(super) fn outcome(&self) -> &'static str {
        match self {
            Self::Encoding => "encoding",
            Self::TooLarge => "too_large",
            Self::NotText(_) => "not_text",
            Self::Truncated => "truncated",
            Self::Invalid(_) => "invalid",
        }
    }
}

/// Reads pages of one target.
pub(super) struct Reader {
    pub(super) rules: Arc<Rules>,
    pub(super) counters: Counters,
    pub(super) taker: Taker,
    pub(super) max_body: usize,
    pub(super) max_series: usize,
}

impl Reader {
    /// Takes what is on a page that was fetched `at`. Of a page that is bad nothing is taken.
    pub(super) fn read(
        &mut self,
        headers: &HeaderMap,
        body: Bytes,
        at: Timestamp,
    ) -> Result<Yield, BadPage> {
        let format = format(headers)?;
        let body = self.unpacked(headers, body)?;
        let text = std::str::from_utf8(&body);
        let text = text.map_err(|error| BadPage::NotText(error.to_string()))?;
        if format == Format::OpenMetrics && !ends(text) {
            return Err(BadPage::Truncated);
        }
        self.take(text, format, at)
    }

    fn unpacked(&self, headers: &HeaderMap, body: Bytes) -> Result<Bytes, BadPage> {
        let coding = headers.get(CONTENT_ENCODING).map(|value| value.to_str());
        match coding {
            None | Some(Ok("identity" | "")) if body.len() <= self.max_body => Ok(body),
            None | Some(Ok("identity" | "")) => Err(BadPage::TooLarge),
            Some(Ok(coding)) if coding.eq_ignore_ascii_case("gzip") => {
                let mut unpacked = Vec::new();
                let most = u64::try_from(self.max_body).unwrap_or(u64::MAX);
                MultiGzDecoder::new(&*body)
                    .take(most.saturating_add(1))
                    .read_to_end(&mut unpacked)
                    .map_err(|_| BadPage::Encoding)?;
                match unpacked.len() <= self.max_body {
                    true => Ok(unpacked.into()),
                    false => Err(BadPage::TooLarge),
                }
            }
            Some(_) => Err(BadPage::Encoding),
        }
    }

    fn take(&mut self, text: &str, format: Format, at: Timestamp) -> Result<Yield, BadPage> {
        let mut types = Types::new();
        let mut out = Yield::default();
        let mut good = 0_usize;
        self.counters.begin();
        for line in text.lines() {
            let sample = match parse::line(line, format) {
                Ok(Line::Nothing) => continue,
                Ok(Line::Type(name, kind)) => {
                    types.insert(name, kind);
                    continue;
                }
                Ok(Line::End) => break,
                Ok(Line::Sample(sample)) => sample,
                Err(error) => {
                    *out.dropped.entry("malformed").or_default() += 1;
                    let shortened = || line.chars().take(200).collect();
                    out.example.get_or_insert_with(|| (shortened(), error));
                    continue;
                }
            };
            good += 1;
            if good > self.max_series {
                *out.dropped.entry("max_series").or_default() += 1;
                continue;
            }
            let Some(named) = self.rules.named(&sample, &types) else {
                continue;
            };
            if !sample.value.is_finite() {
                *out.dropped.entry("not_finite").or_default() += 1;
                continue;
            }
            out.taken += 1;
            let value = match named.kind {
                Kind::Counter => match self.counters.growth(&sample) {
                    // What did not happen need not be told.
                    Growth::Unknown | Growth::By(0.0) => continue,
                    Growth::By(growth) => growth,
                    Growth::Reset(growth) => {
                        out.resets += 1;
                        growth
                    }
                },
                _ => sample.value,
            };
            let at = sample.timestamp.unwrap_or(at);
            if let Err(cause) = self.taker.take(named, value, at) {
                *out.dropped.entry(cause).or_default() += 1;
            }
        }
        self.counters.end();
        if let (0, Some((_, error))) = (good, &out.example) {
            return Err(BadPage::Invalid(*error));
        }
        Ok(out)
    }

    /// Takes a gauge of our own.
    pub(super) fn say(&mut self, name: &str, value: f64, at: Timestamp) {
        // The table refuses no gauge that has a name.
        let _ = self.taker.take(self.rules.own(name), value, at);
    }
}

impl Taker {
    fn take(&mut self, named: Named, value: f64, at: Timestamp) -> Result<(), &'static str> {
        let Named { name, kind, tags } = named;
        match self {
            Self::Samples(intake) => {
                let joined = tags.join(",");
                let sample = Sample {
                    name: name.as_bytes(),
                    kind,
                    tags: (!joined.is_empty()).then_some(joined.as_bytes()),
                    value: Value::Number(value),
                    rate: 1.0,
                };
                intake.sample(&sample).map_err(|refused| refused.cause)
            }
            Self::Points(points) => {
                points.push(Point {
                    base: name.into(),
                    suffix: None,
                    tags: Tags::new(tags),
                    kind: match kind {
                        Kind::Counter => PointKind::Counter,
                        _ => PointKind::Gauge,
                    },
                    value,
                    timestamp: at,
                    check: None,
                });
                Ok(())
            }
        }
    }
}

/// Which of both a page says that it is. One that says nothing is taken for the older.
fn format(headers: &HeaderMap) -> Result<Format, BadPage> {
    let Some(value) = headers.get(CONTENT_TYPE) else {
        return Ok(Format::Text);
    };
    let text = value.to_str().unwrap_or_default();
    let kind = text.split(';').next().unwrap_or_default().trim();
    match kind.to_ascii_lowercase().as_str() {
        "application/openmetrics-text" => Ok(Format::OpenMetrics),
        "" | "text/plain" | "application/octet-stream" => Ok(Format::Text),
        _ => Err(BadPage::NotText(kind.chars().take(100).collect())),
    }
}

/// Whether an OpenMetrics page has its end.
fn ends(text: &str) -> bool {
    text.trim_end().ends_with("# EOF")
}
