//! Finished points as JSON lines, version 1: what the sink `kafka` writes and the source `kafka` reads as `tributary-json`.
//!
//! One object on a line is one point:
//!
//! | key | |
//! |---|---|
//! | `v` | 1 |
//! | `name` | text |
//! | `suffix` | text that follows the name, as `.99percentile` does; left out where there is none |
//! | `tags` | a list of texts, `key:value` or a bare word; left out where there are none |
//! | `kind` | `counter`, `gauge`, `integer` or `status` |
//! | `value` | a finite number that reads back as the same double |
//! | `time` | nanoseconds since 1970, a whole number |
//! | `message`, `hostname` | what a service check said, and of which host; left out for other points |
//!
//! A reader takes no notice of keys that it does not know, and refuses another version.

use std::borrow::Cow;
use std::sync::Arc;

use serde::{Deserialize, Serialize, Serializer};
use serde_json::value::RawValue;

use crate::key::{SEPARATOR, Tags};
use crate::point::{CheckText, Point, PointKind, Timestamp};

/// The version that is written, and the only one that is read.
const VERSION: u64 = 1;

#[derive(Serialize)]
struct Written<'a> {
    v: u64,
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    suffix: Option<&'a str>,
    #[serde(skip_serializing_if = "Tags::is_empty", serialize_with = "as_list")]
    tags: &'a Tags,
    kind: &'static str,
    value: f64,
    time: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hostname: Option<&'a str>,
}

fn as_list<S: Serializer>(tags: &Tags, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(tags.iter())
}

#[derive(Deserialize)]
struct Read<'a> {
    v: u64,
    #[serde(borrow)]
    name: Cow<'a, str>,
    #[serde(borrow, default)]
    suffix: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    tags: Vec<Cow<'a, str>>,
    kind: Kind,
    /// As it stands there: serde_json reads numbers fast, and not to the last digit.
    #[serde(borrow)]
    value: &'a RawValue,
    time: i64,
    #[serde(borrow, default)]
    message: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    hostname: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Counter,
    Gauge,
    Integer,
    Status,
}

/// Why a line is no point.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum JsonError {
    /// No JSON, or not the keys.
    #[error("{0}")]
    Syntax(String),
    /// Another `v`.
    #[error("version {0} is not known here")]
    Version(u64),
    /// No finite number.
    #[error("`value` is no finite number")]
    Value,
    /// Nothing.
    #[error("`name` is empty")]
    Name,
    /// What separates tags in memory.
    #[error("a tag holds the character U+001F")]
    Tag,
}

impl JsonError {
    /// A short word for counters.
    pub(crate) fn cause(&self) -> &'static str {
        match self {
            Self::Syntax(_) => "json",
            Self::Version(_) => "version",
            Self::Value => "value",
            Self::Name => "empty_name",
            Self::Tag => "tag",
        }
    }
}

/// Appends a point's line, with its line feed.
///
/// # Errors
/// None that a finite value can cause.
pub(crate) fn write(out: &mut Vec<u8>, point: &Point) -> serde_json::Result<()> {
    let check = point.check.as_deref();
    let line = Written {
        v: VERSION,
        name: &point.base,
        suffix: point.suffix.as_deref(),
        tags: &point.tags,
        kind: point.kind.as_str(),
        value: point.value,
        time: point.timestamp.nanos(),
        message: check.map(|check| check.message.as_str()),
        hostname: check.and_then(|check| check.hostname.as_deref()),
    };
    serde_json::to_writer(&mut *out, &line)?;
    out.push(b'\n');
    Ok(())
}

/// Reads a line without its line feed.
pub(crate) fn read(line: &[u8]) -> Result<Point, JsonError> {
    let read: Read<'_> =
        serde_json::from_slice(line).map_err(|error| JsonError::Syntax(error.to_string()))?;
    if read.v != VERSION {
        return Err(JsonError::Version(read.v));
    }
    if read.name.is_empty() {
        return Err(JsonError::Name);
    }
    if read.tags.iter().any(|tag| tag.contains(SEPARATOR)) {
        return Err(JsonError::Tag);
    }
    let value = read.value.get().parse::<f64>().ok();
    let value = value.filter(|value| value.is_finite());
    let check = (read.message.is_some() || read.hostname.is_some()).then(|| {
        Arc::new(CheckText {
            message: read.message.unwrap_or_default().into_owned(),
            hostname: read.hostname.map(Cow::into_owned),
        })
    });
    Ok(Point {
        base: read.name.into(),
        suffix: read
            .suffix
            .filter(|suffix| !suffix.is_empty())
            .map(Into::into),
        tags: Tags::new(&read.tags),
        kind: match read.kind {
            Kind::Counter => PointKind::Counter,
            Kind::Gauge => PointKind::Gauge,
            Kind::Integer => PointKind::Integer,
            Kind::Status => PointKind::Status,
        },
        value: value.ok_or(JsonError::Value)?,
        timestamp: Timestamp::from_nanos(read.time),
        check,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(point: &Point) -> String {
        let mut out = Vec::new();
        write(&mut out, point).unwrap();
        String::from_utf8(out).unwrap()
    }

    fn gauge() -> Point {
        Point {
            base: "api.latency".into(),
            suffix: Some(".99percentile".into()),
            tags: Tags::new(["env:prod", "bare"]),
            kind: PointKind::Gauge,
            value: 12.5,
            timestamp: Timestamp::from_nanos(1_700_000_000_123_456_789),
            check: None,
        }
    }

    #[test]
    fn the_lines_stay_as_they_are() {
        let plain = r#"{"v":1,"name":"api.latency","suffix":".99percentile","tags":["env:prod","bare"],"kind":"gauge","value":12.5,"time":1700000000123456789}"#;
        assert_eq!(text(&gauge()), format!("{plain}\n"));
        let check = Point {
            base: "up".into(),
            suffix: None,
            tags: Tags::default(),
            kind: PointKind::Status,
            value: 2.0,
            check: Some(Arc::new(CheckText {
                message: "no\nanswer".to_owned(),
                hostname: Some("db-1".to_owned()),
            })),
            ..gauge()
        };
        let line = r#"{"v":1,"name":"up","kind":"status","value":2.0,"time":1700000000123456789,"message":"no\nanswer","hostname":"db-1"}"#;
        assert_eq!(text(&check), format!("{line}\n"));
        assert_eq!(read(line.as_bytes()), Ok(check));
    }

    #[test]
    fn what_is_no_point_is_refused_with_its_cause() {
        let line = |change: (&str, &str)| {
            let line = r#"{"v":1,"name":"a","kind":"gauge","value":1,"time":5}"#;
            let changed = line.replace(change.0, change.1);
            read(changed.as_bytes()).map_err(|error| error.cause())
        };
        assert!(line(("", "")).is_ok());
        assert!(line((r#""v":1"#, r#""v":1,"later":[1]"#)).is_ok());
        assert_eq!(line((r#""v":1"#, r#""v":2"#)), Err("version"));
        assert_eq!(line((r#""name":"a""#, r#""name":"""#)), Err("empty_name"));
        assert_eq!(line((r#""value":1"#, r#""value":1e999"#)), Err("value"));
        assert_eq!(line((r#""value":1"#, r#""value":"1""#)), Err("value"));
        assert_eq!(line(("gauge", "timer")), Err("json"));
        assert_eq!(line((r#","time":5"#, "")), Err("json"));
        assert_eq!(
            line((r#""v":1"#, r#""v":1,"tags":["a\u001fb"]"#)),
            Err("tag")
        );
        assert_eq!(line(("}", "")), Err("json"));
    }

    proptest! {
        #[test]
        fn every_point_comes_back_as_it_was(
            base in ".{1,20}",
            suffix in prop::option::of(".{1,9}"),
            tags in prop::collection::vec("[^\u{1f}]{1,12}", 0..5),
            value in any::<f64>().prop_filter("finite", |value| value.is_finite()),
            time in any::<i64>(),
            message in prop::option::of(any::<String>()),
            hostname in prop::option::of(any::<String>()),
        ) {
            let check = message.map(|message| Arc::new(CheckText { message, hostname }));
            let point = Point {
                base: base.as_str().into(),
                suffix: suffix.as_deref().map(Into::into),
                tags: Tags::new(&tags),
                value,
                timestamp: Timestamp::from_nanos(time),
                check,
                ..gauge()
            };
            let line = text(&point);
            prop_assert_eq!(line.matches('\n').count(), 1);
            let back = read(line.trim_end_matches('\n').as_bytes()).unwrap();
            prop_assert_eq!(back.value.to_bits(), value.to_bits());
            prop_assert_eq!(back, point);
        }

        #[test]
        fn no_bytes_panic(line: Vec<u8>) {
            let _ = read(&line);
        }
    }
}
