//! Sink `debug`: every point, service check and event as a readable line on standard output.
//!
//! ```text
//! 1700000000 gauge api.latency.99percentile = 12.5 [env:prod] host=g1 interval=10s
//! 1700000000 status db.up = 2 [] host=db1 interval=10s "replication stopped"
//! 1700000000 event "deploy" [team:a] host=g1 priority=normal alert=info "version 5"
//! ```
//!
//! On failure: a standard output that is closed or otherwise fails loses the batch, which is counted; the next batch is tried anew. Nothing is
//! retried, so no line comes twice. A reader that stops reading holds up this sink's queue alone. Nothing is skipped.

use std::fmt;
use std::io::{self, Write};
use std::sync::Arc;

use async_trait::async_trait;
use parking_lot::Mutex;
use schemars::JsonSchema;
use serde::Deserialize;

use super::text::{Escaped, Number};
use super::{Amount, Sink, SinkError, registry};
use crate::point::{Batch, Point};
use crate::sample::Event;

/// Prints every point to standard output. It takes no settings.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DebugConfig {}

impl registry::Build for DebugConfig {
    const EXAMPLE: &'static str = "\
- kind: debug
";

    fn build(self, _: &str) -> Result<Box<dyn Sink>, String> {
        Ok(Box::new(Debug::new(io::stdout())))
    }
}

/// The sink, on any output.
#[derive(Debug)]
struct Debug<W> {
    output: Arc<Mutex<W>>,
}

impl<W: Write + Send + 'static> Debug<W> {
    fn new(output: W) -> Self {
        Self {
            output: Arc::new(Mutex::new(output)),
        }
    }
}

#[async_trait]
impl<W: Write + Send + 'static> Sink for Debug<W> {
    async fn write(&mut self, batch: &Batch) -> Result<Amount, SinkError> {
        let text = render(batch).await;
        let output = Arc::clone(&self.output);
        let written = tokio::task::spawn_blocking(move || {
            let mut output = output.lock();
            output.write_all(text.as_bytes())?;
            output.flush()
        });
        match written
            .await
            .unwrap_or_else(|error| Err(io::Error::other(error)))
        {
            Ok(()) => Ok(Amount::of(batch)),
            Err(error) => Err(SinkError::Fatal {
                reason: format!("standard output: {error}"),
                lost: Amount::of(batch),
            }),
        }
    }
}

async fn render(batch: &Batch) -> String {
    use fmt::Write as _;

    let mut text = String::new();
    for points in batch.points.chunks(super::localfile::CHUNK) {
        for point in points {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{}", PointLine { point, batch });
        }
        tokio::task::yield_now().await;
    }
    for event in &batch.events {
        let _ = writeln!(text, "{}", EventLine { event, batch });
    }
    text
}

struct PointLine<'a> {
    point: &'a Point,
    batch: &'a Batch,
}

impl fmt::Display for PointLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { point, batch } = self;
        let suffix = point.suffix.as_deref().unwrap_or_default();
        write!(
            f,
            "{} {} {}{} = {} [",
            point.timestamp.seconds(),
            point.kind.as_str(),
            Escaped(&point.base),
            Escaped(suffix),
            Number(point.value)
        )?;
        comma_separated(f, point.tags.iter())?;
        let check = point.check.as_deref();
        let host = check
            .and_then(|check| check.hostname.as_deref())
            .unwrap_or(&batch.hostname);
        write!(
            f,
            "] host={} interval={}s",
            Escaped(host),
            Number::seconds(batch.interval)
        )?;
        match check {
            Some(check) if !check.message.is_empty() => {
                write!(f, " \"{}\"", Escaped(&check.message))
            }
            _ => Ok(()),
        }
    }
}

struct EventLine<'a> {
    event: &'a Event,
    batch: &'a Batch,
}

impl fmt::Display for EventLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { event, batch } = self;
        write!(
            f,
            "{} event \"{}\" [",
            event.timestamp,
            Escaped(&event.title)
        )?;
        comma_separated(f, event.tags.iter().map(String::as_str))?;
        let host = event.hostname.as_deref().unwrap_or(&batch.hostname);
        write!(
            f,
            "] host={} priority={} alert={}",
            Escaped(host),
            event.priority,
            event.alert_type
        )?;
        for (key, value) in [
            ("aggregation_key", &event.aggregation_key),
            ("source_type", &event.source_type),
        ] {
            if let Some(value) = value {
                write!(f, " {key}={}", Escaped(value))?;
            }
        }
        write!(f, " \"{}\"", Escaped(&event.text))
    }
}

/// Tags joined by commas, each escaped.
pub(super) fn comma_separated<'a>(
    f: &mut fmt::Formatter<'_>,
    tags: impl Iterator<Item = &'a str>,
) -> fmt::Result {
    for (index, tag) in tags.enumerate() {
        if index > 0 {
            f.write_str(",")?;
        }
        write!(f, "{}", Escaped(tag))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::key::Tags;
    use crate::point::{CheckText, PointKind, Timestamp};

    fn batch() -> Batch {
        let gauge = Point {
            base: "api.latency".into(),
            suffix: Some(".99percentile".into()),
            tags: Tags::new(["env:prod", "odd\ntag"]),
            kind: PointKind::Gauge,
            value: 12.5,
            timestamp: Timestamp::from_seconds(1_700_000_000),
            check: None,
        };
        let check = Point {
            base: "db.up".into(),
            suffix: None,
            tags: Tags::default(),
            kind: PointKind::Status,
            value: 2.0,
            check: Some(Arc::new(CheckText {
                message: "replication\nstopped".to_owned(),
                hostname: Some("db1".to_owned()),
            })),
            ..gauge.clone()
        };
        let event = Event {
            title: "deploy".to_owned(),
            text: "version 5".to_owned(),
            timestamp: 1_700_000_001,
            hostname: None,
            aggregation_key: Some("k".to_owned()),
            priority: "normal",
            source_type: None,
            alert_type: "info",
            tags: vec!["team:a".to_owned()],
        };
        Batch {
            points: vec![gauge, check].into(),
            distributions: Vec::new(),
            events: vec![event],
            hostname: "g1".into(),
            interval: Duration::from_secs(10),
            receipts: Vec::new(),
        }
    }

    #[tokio::test]
    async fn points_checks_and_events_are_one_line_each() {
        let mut sink = Debug::new(Vec::new());
        let batch = batch();
        assert_eq!(
            sink.write(&batch).await,
            Ok(Amount {
                points: 2,
                events: 1
            })
        );
        let text = String::from_utf8(sink.output.lock().clone()).unwrap();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(
            lines,
            [
                r"1700000000 gauge api.latency.99percentile = 12.5 [env:prod,odd\ntag] host=g1 interval=10s",
                r#"1700000000 status db.up = 2 [] host=db1 interval=10s "replication\nstopped""#,
                r#"1700000001 event "deploy" [team:a] host=g1 priority=normal alert=info aggregation_key=k "version 5""#,
            ]
        );
    }

    #[tokio::test]
    async fn a_closed_output_is_an_error_that_loses_the_batch() {
        let (reader, writer) = io::pipe().unwrap();
        drop(reader);
        let error = Debug::new(writer).write(&batch()).await.unwrap_err();
        let SinkError::Fatal { reason, lost } = error else {
            panic!("{error:?}")
        };
        assert!(
            reason.starts_with("standard output: Broken pipe"),
            "{reason}"
        );
        assert_eq!(
            lost,
            Amount {
                points: 2,
                events: 1
            }
        );
    }
}
