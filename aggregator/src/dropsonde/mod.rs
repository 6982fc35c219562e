//! Events of Cloud Foundry: dropsonde's envelopes, as firehose nozzles write them to Kafka as JSON.
//!
//! [`parse`] reads one payload, [`Event::points`] makes of an event, and of the application that it is about, the points that are stored.
//! Stored are HTTP requests (`HttpStartStop`), logs of applications and of the router (`LogMessage`) and containers' use of resources
//! (`ContainerMetric`).
//!
//! The envelope's fields are those of github.com/cloudfoundry/dropsonde-protocol, as Go's `encoding/json` writes them.

mod base64;
mod guid;
mod json;
mod point;
mod poison;
#[cfg(test)]
mod tests;
mod words;

use std::borrow::Cow;

use self::json::{Container, Envelope, Halves, Http, Log, Text};
use crate::point::Timestamp;

pub use guid::Guid;
pub use poison::Poison;

/// Something that an instance of an application did, or took.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// The application. `None`: the envelope names none, or something that is no GUID, as components of the platform do.
    pub app: Option<Guid>,
    /// Which of the application's instances.
    pub instance: Instance,
    /// When: for a request, when it came.
    pub timestamp: Timestamp,
    /// What.
    pub kind: Kind,
}

/// Which of an application's instances, by its index. Logs may say something else, or nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Instance {
    /// The index.
    Index(i32),
    /// Any other text; empty: not known.
    Other(Box<str>),
}

/// The kinds of events that are stored.
#[derive(Debug, Clone, PartialEq)]
pub enum Kind {
    /// A request that the router, or an application, has answered.
    HttpRequest {
        /// `GET`
        method: Cow<'static, str>,
        /// `200`
        status_code: i32,
        /// From its start to its end, in seconds.
        duration: f64,
        /// The answer's length, in bytes.
        response_size: i64,
    },
    /// A line of a log.
    Log {
        /// `OUT` or `ERR` for what an application wrote, `RTR` for what the router wrote of it.
        stream: Cow<'static, str>,
        /// The line's length, in bytes.
        size: u64,
    },
    /// What the container of an instance takes, and what it may. Sizes are in bytes, no quota is 0.
    Container {
        /// Of one core, in percent.
        cpu: f64,
        /// Memory.
        memory: u64,
        /// Disk.
        disk: u64,
        /// How much memory it may take.
        memory_quota: u64,
        /// How much disk it may take.
        disk_quota: u64,
    },
}

/// Up to here each whole number is a double of its own.
const EXACT: u64 = 1 << 53;

/// Reads an envelope. `None`: it is of a kind, or of a source of logs, that is not stored.
///
/// # Errors
/// Why nothing can be stored of it, now or later.
pub fn parse(payload: &[u8]) -> Result<Option<Event>, Poison> {
    let envelope: Envelope<'_> = serde_json::from_slice(payload)?;
    let unknown = |name: Cow<'_, str>| Poison::name("eventType", &name);
    match words::event_type(envelope.event_type).map_err(unknown)? {
        words::HTTP_START_STOP => {
            let http = envelope.http.ok_or(Poison::NoBody("httpStartStop"))?;
            request(http).map(Some)
        }
        words::LOG_MESSAGE => log(envelope.log.ok_or(Poison::NoBody("logMessage"))?),
        words::CONTAINER_METRIC => {
            let body = envelope
                .container
                .ok_or(Poison::NoBody("containerMetric"))?;
            container(body, envelope.timestamp).map(Some)
        }
        _ => Ok(None),
    }
}

fn request(http: Http<'_>) -> Result<Event, Poison> {
    let start = http.start.ok_or(Poison::NoTimestamp("startTimestamp"))?;
    let stop = http.stop.ok_or(Poison::NoTimestamp("stopTimestamp"))?;
    let took = stop.checked_sub(start);
    let took = took.ok_or(Poison::OutOfRange("stopTimestamp"))?;
    let method = words::method(http.method).map_err(|name| Poison::name("method", &name))?;
    let response_size = http.content_length.unwrap_or_default();
    exact("contentLength", response_size.unsigned_abs())?;
    let guid = |Halves { low, high, .. }| {
        Guid::from_halves(low.unwrap_or_default(), high.unwrap_or_default())
    };
    Ok(Event {
        app: http.application.map(guid),
        instance: Instance::Index(http.instance.unwrap_or_default()),
        timestamp: Timestamp::from_nanos(start),
        kind: Kind::HttpRequest {
            method,
            status_code: http.status_code.unwrap_or_default(),
            duration: seconds(took),
            response_size,
        },
    })
}

fn log(log: Log<'_>) -> Result<Option<Event>, Poison> {
    let source = text(&log.source_type);
    let stream = if source.starts_with("RTR") {
        Cow::Borrowed("RTR")
    } else if source.starts_with("APP") || source.starts_with("App") {
        let unknown = |name: Cow<'_, str>| Poison::name("message_type", &name);
        words::message_type(log.message_type).map_err(unknown)?
    } else {
        return Ok(None);
    };
    let size = base64::decoded_len(text(&log.message)).ok_or(Poison::NotBase64)?;
    let timestamp = log.timestamp.ok_or(Poison::NoTimestamp("timestamp"))?;
    Ok(Some(Event {
        app: Guid::parse(text(&log.application)),
        instance: Instance::of(text(&log.instance)),
        timestamp: Timestamp::from_nanos(timestamp),
        kind: Kind::Log {
            stream,
            size: size as u64,
        },
    }))
}

fn container(body: Container<'_>, timestamp: Option<i64>) -> Result<Event, Poison> {
    let timestamp = timestamp.ok_or(Poison::NoTimestamp("timestamp"))?;
    let quota = |field, bytes: Option<u64>| match bytes {
        None | Some(0) => Err(Poison::NoQuota(field)),
        Some(bytes) => exact(field, bytes),
    };
    let memory_quota = quota("memoryBytesQuota", body.memory_quota)?;
    let disk_quota = quota("diskBytesQuota", body.disk_quota)?;
    Ok(Event {
        app: Guid::parse(text(&body.application)),
        instance: Instance::Index(body.instance.unwrap_or_default()),
        timestamp: Timestamp::from_nanos(timestamp),
        kind: Kind::Container {
            cpu: body.cpu.unwrap_or_default(),
            memory: exact("memoryBytes", body.memory.unwrap_or_default())?,
            disk: exact("diskBytes", body.disk.unwrap_or_default())?,
            memory_quota,
            disk_quota,
        },
    })
}

/// A number that a point's value holds as it is.
fn exact(field: &'static str, number: u64) -> Result<u64, Poison> {
    if number > EXACT {
        return Err(Poison::OutOfRange(field));
    }
    Ok(number)
}

/// Nanoseconds in seconds. Whole ones and the rest are taken apart, so that long spans keep theirs.
fn seconds(nanos: i64) -> f64 {
    const SECOND: i64 = 1_000_000_000;
    (nanos / SECOND) as f64 + (nanos % SECOND) as f64 / SECOND as f64
}

fn text<'a>(text: &'a Option<Text<'_>>) -> &'a str {
    text.as_ref().map_or("", |Text(text)| text)
}

impl Instance {
    fn of(text: &str) -> Self {
        match text.parse::<i32>() {
            // Not `+1` or `007`: these are kept as they are.
            Ok(index) if text == "0" || !text.starts_with(['0', '+', '-']) => Self::Index(index),
            _ => Self::Other(text.into()),
        }
    }
}
