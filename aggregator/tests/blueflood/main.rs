//! The sink `blueflood` over real sockets: what is sent, what is stored how often, and what becomes of the rest.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test ends at the first surprise"
)]

mod faults;
mod login;
#[allow(
    dead_code,
    unreachable_pub,
    missing_docs,
    reason = "others use it as well"
)]
mod mock;
mod recorded;
mod refused;
mod runner;
mod settings;
mod tls;

use serde_json::{Value, json};
use tributary_aggregator::key::Tags;
use tributary_aggregator::point::{Batch, Point, PointKind, Timestamp};
use tributary_aggregator::sink::{Amount, Sink, SinkError, build};

use mock::{Blueflood, Server, millis, start};

/// A point of now.
pub(crate) fn point(name: &str, value: f64) -> Point {
    point_at(name, value, millis())
}

/// A point of a time, in milliseconds.
pub(crate) fn point_at(name: &str, value: f64, time: i64) -> Point {
    Point {
        base: name.into(),
        suffix: None,
        tags: Tags::default(),
        kind: PointKind::Gauge,
        value,
        timestamp: Timestamp::from_millis(time),
        check: None,
    }
}

pub(crate) fn batch(points: Vec<Point>) -> Batch {
    Batch {
        points: points.into(),
        ..Batch::default()
    }
}

/// Points `m0`, `m1`, …
pub(crate) fn points(count: usize) -> Vec<Point> {
    (0..count)
        .map(|number| point(&format!("m{number}"), 1.5))
        .collect()
}

/// A sink with these settings besides the address and short waits.
pub(crate) fn sink(blueflood: &Server<Blueflood>, settings: Value) -> Box<dyn Sink> {
    sink_at(&blueflood.url(), settings)
}

pub(crate) fn sink_at(url: &str, settings: Value) -> Box<dyn Sink> {
    build("blueflood", "bf", &with_defaults(url, settings)).unwrap()
}

pub(crate) fn with_defaults(url: &str, settings: Value) -> Value {
    let mut config = json!({
        "url": url, "tenant": "123", "backoff": "20ms", "max_backoff": "50ms", "interval": "0s",
    });
    for (key, value) in settings.as_object().unwrap() {
        config[key] = value.clone();
    }
    config
}

/// Writes until it is done, as the runner does; the failures on the way, and the end.
pub(crate) async fn write(
    sink: &mut Box<dyn Sink>,
    batch: &Batch,
) -> (Vec<SinkError>, Result<usize, usize>) {
    let mut failures = Vec::new();
    for _ in 0..100 {
        match sink.write(batch).await {
            Ok(Amount { points, .. }) => return (failures, Ok(points)),
            Err(SinkError::Fatal { lost, .. }) => return (failures, Err(lost.points)),
            Err(error) => {
                let SinkError::Retriable {
                    after: Some(after), ..
                } = &error
                else {
                    panic!("{error:?} does not say when");
                };
                tokio::time::sleep(*after).await;
                failures.push(error);
            }
        }
    }
    panic!("no end: {failures:?}")
}

/// A Blueflood, and a sink that sends there.
pub(crate) async fn pair(settings: Value) -> (Server<Blueflood>, Box<dyn Sink>) {
    let blueflood = start().await;
    let sink = sink(&blueflood, settings);
    (blueflood, sink)
}
