//! Points and events as JSON lines. The order of the keys is fixed: people and programs rely on it.

use std::fmt::Display;
use std::io;

use serde::{Serialize, Serializer};

use crate::key::Tags;
use crate::point::{Batch, Point};
use crate::sample::Event;
use crate::sink::text::Number;

#[derive(Serialize)]
struct PointLine<'a, N: Display> {
    #[serde(serialize_with = "as_text")]
    name: N,
    #[serde(rename = "type")]
    kind: &'static str,
    value: Number,
    timestamp: i64,
    #[serde(serialize_with = "as_list")]
    tags: &'a Tags,
    hostname: &'a str,
    interval: Number,
    #[serde(skip_serializing_if = "str::is_empty")]
    message: &'a str,
}

#[derive(Serialize)]
struct EventLine<'a> {
    name: &'a str,
    #[serde(rename = "type")]
    kind: &'static str,
    text: &'a str,
    timestamp: i64,
    tags: &'a [String],
    hostname: &'a str,
    priority: &'a str,
    alert_type: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    aggregation_key: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    source_type: Option<&'a str>,
}

fn as_text<N: Display, S: Serializer>(name: &N, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(name)
}

fn as_list<S: Serializer>(tags: &Tags, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(tags.iter())
}

/// Appends a point's line.
pub(in crate::sink) fn point(out: &mut Vec<u8>, batch: &Batch, point: &Point) -> io::Result<()> {
    let check = point.check.as_deref();
    let line = PointLine {
        name: point.name(),
        kind: point.kind.as_str(),
        value: Number(point.value),
        timestamp: point.timestamp.seconds(),
        tags: &point.tags,
        hostname: check
            .and_then(|check| check.hostname.as_deref())
            .unwrap_or(&batch.hostname),
        interval: Number::seconds(batch.interval),
        message: check.map_or("", |check| &check.message),
    };
    write_line(out, &line)
}

/// Appends an event's line.
pub(in crate::sink) fn event(out: &mut Vec<u8>, batch: &Batch, event: &Event) -> io::Result<()> {
    let line = EventLine {
        name: &event.title,
        kind: "event",
        text: &event.text,
        timestamp: event.timestamp,
        tags: &event.tags,
        hostname: event.hostname.as_deref().unwrap_or(&batch.hostname),
        priority: event.priority,
        alert_type: event.alert_type,
        aggregation_key: event.aggregation_key.as_deref(),
        source_type: event.source_type.as_deref(),
    };
    write_line(out, &line)
}

fn write_line(out: &mut Vec<u8>, line: &impl Serialize) -> io::Result<()> {
    serde_json::to_writer(&mut *out, line)?;
    out.push(b'\n');
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::point::{CheckText, PointKind, Timestamp};

    fn text(batch: &Batch, what: &Point) -> String {
        let mut out = Vec::new();
        point(&mut out, batch, what).unwrap();
        let mut text = String::from_utf8(out).unwrap();
        assert_eq!(text.pop(), Some('\n'));
        assert!(!text.contains('\n'), "{text}");
        text
    }

    fn batch(hostname: &str, interval: Duration) -> Batch {
        Batch {
            hostname: hostname.into(),
            interval,
            ..Batch::default()
        }
    }

    fn gauge() -> Point {
        Point {
            base: "api.latency".into(),
            suffix: Some(".99percentile".into()),
            tags: Tags::new(["env:prod"]),
            kind: PointKind::Gauge,
            value: 12.5,
            timestamp: Timestamp::from_seconds(1_700_000_000),
            check: None,
        }
    }

    #[test]
    fn a_point_is_one_object_with_its_keys_in_order() {
        let batch = batch("g1", Duration::from_secs(10));
        assert_eq!(
            text(&batch, &gauge()),
            r#"{"name":"api.latency.99percentile","type":"gauge","value":12.5,"timestamp":1700000000,"tags":["env:prod"],"hostname":"g1","interval":10}"#
        );
        let counter = Point {
            suffix: None,
            tags: Tags::default(),
            kind: PointKind::Counter,
            value: 5.0,
            ..gauge()
        };
        assert_eq!(
            text(&batch, &counter),
            r#"{"name":"api.latency","type":"counter","value":5,"timestamp":1700000000,"tags":[],"hostname":"g1","interval":10}"#
        );
    }

    #[test]
    fn a_fraction_of_a_second_is_kept_in_the_interval() {
        let line: Value =
            serde_json::from_str(&text(&batch("", Duration::from_millis(1500)), &gauge())).unwrap();
        assert_eq!(line["interval"], json!(1.5));
        assert_eq!(line["hostname"], json!(""));
    }

    #[test]
    fn a_check_speaks_of_its_own_host_and_has_its_message_last() {
        let batch = batch("g1", Duration::from_secs(10));
        let status = |message: &str, hostname: Option<&str>| Point {
            kind: PointKind::Status,
            value: 2.0,
            suffix: None,
            check: Some(Arc::new(CheckText {
                message: message.to_owned(),
                hostname: hostname.map(str::to_owned),
            })),
            ..gauge()
        };
        assert_eq!(
            text(&batch, &status("down \"now\"\n", Some("db1"))),
            r#"{"name":"api.latency","type":"status","value":2,"timestamp":1700000000,"tags":["env:prod"],"hostname":"db1","interval":10,"message":"down \"now\"\n"}"#
        );
        let line: Value = serde_json::from_str(&text(&batch, &status("", None))).unwrap();
        assert_eq!(line["hostname"], json!("g1"));
        assert_eq!(line.get("message"), None);
    }

    #[test]
    fn an_event_has_its_own_type_and_only_the_fields_that_are_set() {
        let mut sent = Event {
            title: "deploy".to_owned(),
            text: "v5\nby me".to_owned(),
            timestamp: 7,
            hostname: None,
            aggregation_key: None,
            priority: "normal",
            source_type: None,
            alert_type: "info",
            tags: vec!["a".to_owned(), "b:1".to_owned()],
        };
        let batch = batch("g1", Duration::from_secs(10));
        let mut out = Vec::new();
        event(&mut out, &batch, &sent).unwrap();
        sent.aggregation_key = Some("k".to_owned());
        sent.source_type = Some("ci".to_owned());
        sent.hostname = Some("h".to_owned());
        event(&mut out, &batch, &sent).unwrap();
        let text = String::from_utf8(out).unwrap();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(
            lines,
            [
                r#"{"name":"deploy","type":"event","text":"v5\nby me","timestamp":7,"tags":["a","b:1"],"hostname":"g1","priority":"normal","alert_type":"info"}"#,
                r#"{"name":"deploy","type":"event","text":"v5\nby me","timestamp":7,"tags":["a","b:1"],"hostname":"h","priority":"normal","alert_type":"info","aggregation_key":"k","source_type":"ci"}"#,
            ]
        );
    }

    proptest! {
        #[test]
        fn every_line_reads_back_as_the_same_values(
            base in any::<String>(),
            suffix in prop::option::of(any::<String>()),
            tags in prop::collection::vec("[^\u{1f}]{1,12}", 0..5),
            value in any::<f64>().prop_filter("finite", |value| value.is_finite()),
            timestamp in -9_000_000_000_i64..9_000_000_000,
            hostname in any::<String>(),
            milliseconds in 1_u64..100_000,
        ) {
            let sent = Point {
                base: base.as_str().into(),
                suffix: suffix.as_deref().map(Into::into),
                tags: Tags::new(&tags),
                value,
                timestamp: Timestamp::from_seconds(timestamp),
                ..gauge()
            };
            let line = text(&batch(&hostname, Duration::from_millis(milliseconds)), &sent);
            let read: Value = serde_json::from_str(&line).unwrap();
            prop_assert_eq!(&read["name"], &json!(format!("{base}{}", suffix.unwrap_or_default())));
            prop_assert_eq!(&read["tags"], &json!(tags));
            prop_assert_eq!(&read["timestamp"], &json!(timestamp));
            prop_assert_eq!(&read["hostname"], &json!(hostname));
            prop_assert!((read["interval"].as_f64().unwrap() - milliseconds as f64 / 1e3).abs() < 1e-9);
            // serde_json reads numbers fast and not to the last digit; that the text is exact shows where it is read exactly.
            let near = read["value"].as_f64().unwrap();
            prop_assert!((near - value).abs() <= value.abs() * 1e-12 + f64::MIN_POSITIVE, "{} {}", near, value);
            let (_, from_value) = line.split_once(r#","type":"gauge","value":"#).unwrap();
            let (number, _) = from_value.split_once(',').unwrap();
            prop_assert_eq!(number.parse::<f64>(), Ok(value));
        }
    }
}
