//! From a request to metrics, or to the answer that refuses it.

use std::fmt;

use serde::de::{Deserializer, SeqAccess, Visitor};

use super::element::{ElementError, JsonMetric};
use super::loose::Element;
use super::zlib::{InflateError, inflate};
use crate::metricpb::Metric;

/// What a request holds.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Import {
    /// The metrics in the request's order.
    pub metrics: Vec<Metric>,
    /// What could not be taken, by cause.
    pub skipped: Vec<Skipped>,
}

/// Elements of one request that were skipped for the same cause.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Skipped {
    /// [`ElementError::cause`] of all of them.
    pub cause: &'static str,
    /// How many there are.
    pub count: u64,
    /// The first one's error, for the log.
    pub first: ElementError,
}

/// The answer to a request that is refused as a whole. One that is not is answered with 202 and an empty body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The HTTP status.
    pub status: u16,
    /// The response's body, ending in a line feed; the content type is `text/plain; charset=utf-8`.
    pub body: String,
    /// The cause to count it by: `unknown_content_encoding`, `deflate`, `json`, `empty` or `too_large`.
    pub cause: &'static str,
}

impl Refusal {
    fn new(status: u16, cause: &'static str, text: impl fmt::Display) -> Self {
        let body = format!("{text}\n");
        Self {
            status,
            body,
            cause,
        }
    }
}

/// Reads the body of a `POST /import`, at most `cap` bytes of JSON. Statuses and texts are Veneur's where it has them.
///
/// Elements that make no metric are skipped. If there is no metric at all and an element was not even well formed, the request is
/// refused with that element's error, as Veneur does whenever it finds one.
///
/// # Errors
/// The answer to give: 415 for an encoding other than none and `deflate`, 413 for a body over the cap, 400 for one that is not a
/// zlib stream or not a JSON array, is empty, or has only empty elements.
pub fn parse_import(
    content_encoding: Option<&str>,
    body: &[u8],
    cap: usize,
) -> Result<Import, Refusal> {
    let inflated;
    let json = match content_encoding.unwrap_or_default() {
        "" if body.len() > cap => {
            let text = format_args!("body has more than {cap} bytes");
            return Err(Refusal::new(413, "too_large", text));
        }
        "" => body,
        "deflate" => {
            inflated = inflate(body, cap).map_err(|error| match error {
                InflateError::TooLong(_) => Refusal::new(413, "too_large", error),
                _ => Refusal::new(400, "deflate", error),
            })?;
            &inflated
        }
        other => return Err(Refusal::new(415, "unknown_content_encoding", other)),
    };
    let mut intake = Intake::default();
    decode(json, |element| intake.take(element)).map_err(|error| {
        let text = error_text(json, &error);
        Refusal::new(400, "json", text)
    })?;
    intake.finish()
}

/// Elements as they come in.
#[derive(Default)]
struct Intake {
    import: Import,
    elements: usize,
    empty: usize,
    malformed: Option<ElementError>,
}

impl Intake {
    fn take(&mut self, element: Result<JsonMetric, ElementError>) {
        self.elements += 1;
        let metric = element.and_then(|element| {
            self.empty += usize::from(element.is_empty());
            element.into_metric()
        });
        match metric {
            Ok(metric) => self.import.metrics.push(metric),
            Err(error) => self.skip(error),
        }
    }

    fn skip(&mut self, error: ElementError) {
        let cause = error.cause();
        if error.is_malformed() && self.malformed.is_none() {
            self.malformed = Some(error.clone());
        }
        let skipped = &mut self.import.skipped;
        match skipped.iter_mut().find(|skipped| skipped.cause == cause) {
            Some(skipped) => skipped.count += 1,
            None => skipped.push(Skipped {
                cause,
                count: 1,
                first: error,
            }),
        }
    }

    fn finish(self) -> Result<Import, Refusal> {
        if self.elements == 0 {
            return Err(Refusal::new(400, "empty", "Received empty /import request"));
        }
        if self.empty == self.elements {
            let text = "Received empty or improperly-formed metrics";
            return Err(Refusal::new(400, "empty", text));
        }
        match self.malformed {
            Some(error) if self.import.metrics.is_empty() => Err(Refusal::new(400, "json", error)),
            _ => Ok(self.import),
        }
    }
}

/// Go's words for the commonest mistake, a body that is no JSON at all; serde's for the others.
fn error_text(json: &[u8], error: &serde_json::Error) -> String {
    let text = json.trim_ascii_start();
    match text
        .utf8_chunks()
        .next()
        .and_then(|chunk| chunk.valid().chars().next())
    {
        None if text.is_empty() => "EOF".to_owned(),
        Some(first) if !"[{\"-0123456789tfn".contains(first) => {
            format!("invalid character {first:?} looking for beginning of value")
        }
        _ => error.to_string(),
    }
}

/// Reads a JSON array element by element and hands each to `take`. `null` is an empty array, as in Go.
///
/// # Errors
/// Syntax errors, and anything that is not an array. Elements before the error have been handed over by then.
pub fn decode(
    json: &[u8],
    take: impl FnMut(Result<JsonMetric, ElementError>),
) -> Result<(), serde_json::Error> {
    let mut deserializer = serde_json::Deserializer::from_slice(json);
    deserializer.deserialize_any(Elements(take))?;
    deserializer.end()
}

struct Elements<F>(F);

impl<'de, F: FnMut(Result<JsonMetric, ElementError>)> Visitor<'de> for Elements<F> {
    type Value = ();

    fn expecting(&self, into: &mut fmt::Formatter<'_>) -> fmt::Result {
        into.write_str("an array of metrics")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut elements: A) -> Result<(), A::Error> {
        while let Some(Element(element)) = elements.next_element()? {
            (self.0)(element);
        }
        Ok(())
    }
}

/// Writes elements as a JSON array.
#[allow(
    clippy::expect_used,
    reason = "text and lists of text always have a JSON form, and memory takes every byte"
)]
pub fn encode(metrics: &[JsonMetric]) -> Vec<u8> {
    serde_json::to_vec(metrics).expect("JSON in memory")
}
