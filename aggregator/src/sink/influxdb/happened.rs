//! What can happen between this sink and InfluxDB: counters and log lines, written together.

use std::sync::Arc;

use tributary_node::repeats::Repeats;

use super::line::Changed;
use crate::metrics;
use crate::sink::Amount;

/// Why InfluxDB did not take lines, for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Cause {
    /// It took the other lines of the request and left these out.
    Partial,
    /// It refuses every request that has them.
    Refused,
    /// Too long for one request.
    TooLarge,
}

impl Cause {
    fn as_str(self) -> &'static str {
        match self {
            Self::Partial => "partial",
            Self::Refused => "refused",
            Self::TooLarge => "too_large",
        }
    }
}

/// Tells what happens to one sink.
#[derive(Debug)]
pub(super) struct Events {
    sink: Arc<str>,
    /// By cause: one line each in a while, however many points there are.
    told: Repeats<&'static str>,
}

impl Events {
    /// For the sink of that name.
    pub(super) fn new(sink: &str) -> Self {
        Self {
            sink: sink.into(),
            told: Repeats::default(),
        }
    }

    /// A request has ended so.
    pub(super) fn request(&self, outcome: &'static str) {
        metrics::INFLUXDB_REQUESTS
            .with([self.sink.clone().into(), outcome.into()])
            .increment(1);
    }

    /// Points and events are lost; one of their lines is the `example`, where that is known.
    pub(super) fn refused(&self, lost: Amount, cause: Cause, example: &str, said: &str) {
        let cause = cause.as_str();
        metrics::INFLUXDB_REFUSED
            .with([self.sink.clone().into(), cause.into()])
            .increment(lost.total() as u64);
        if let Some(more) = self.told.tell(&cause) {
            tracing::warn!(
                sink = &*self.sink,
                points = lost.points,
                events = lost.events,
                cause,
                example = ?shortened(example),
                said = ?shortened(said),
                "points refused by InfluxDB for good{more}"
            );
        }
    }

    /// InfluxDB answers, and lets nobody write there.
    pub(super) fn denied(&self, said: &str) {
        if let Some(more) = self.told.tell(&"denied") {
            tracing::error!(
                sink = &*self.sink,
                said = ?shortened(said),
                "InfluxDB does not let us write: look at user or token, and whether the database or bucket exists. Points wait meanwhile{more}"
            );
        }
    }

    /// Texts were written otherwise than they came.
    pub(super) fn changed(&self, changed: Changed) {
        for (cause, texts) in [
            ("character", changed.character),
            ("reserved", changed.reserved),
            ("no_key", changed.no_key),
            ("repeated", changed.repeated),
        ] {
            if texts > 0 {
                metrics::INFLUXDB_CHANGED
                    .with([self.sink.clone().into(), cause.into()])
                    .increment(texts);
            }
        }
    }

    /// What came of asking for it at the start.
    pub(super) fn ping(sink: &str, answer: Result<&str, &str>) {
        match answer {
            Ok(version) => tracing::info!(sink, version, "InfluxDB answers"),
            Err(error) => tracing::warn!(
                sink,
                error,
                "InfluxDB does not answer yet: points wait until it does"
            ),
        }
    }
}

/// As much of a text as a log line takes.
fn shortened(text: &str) -> String {
    text.chars().take(300).collect()
}
