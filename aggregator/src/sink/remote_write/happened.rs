//! What can happen between this sink and a server: counters and log lines, written together.

use std::fmt::Display;
use std::sync::Arc;

use tributary_node::repeats::Repeats;

use super::answer::Cause;
use crate::metrics;

/// Tells what happens to one sink.
#[derive(Debug)]
pub(super) struct Events {
    sink: Arc<str>,
    /// One line each in a while, however many samples there are.
    told: Repeats<Cause>,
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
        metrics::REMOTE_WRITE_REQUESTS
            .with([self.sink.clone().into(), outcome.into()])
            .increment(1);
    }

    /// So many totals are kept.
    pub(super) fn totals(&self, totals: usize) {
        metrics::REMOTE_WRITE_SERIES
            .with([self.sink.clone().into()])
            .set(totals as f64);
    }

    /// The server is spoken to in 1.0 from now on.
    pub(super) fn fell_back(&self, said: &str) {
        tracing::info!(
            sink = &*self.sink,
            said,
            "the server does not speak remote write 2.0: going on with 1.0"
        );
    }

    /// Points are lost; one of them is the `example`.
    pub(super) fn refused(&self, points: usize, cause: Cause, example: &impl Display, said: &str) {
        metrics::REMOTE_WRITE_REFUSED
            .with([self.sink.clone().into(), cause.as_str().into()])
            .increment(points as u64);
        if let Some(more) = self.told.tell(&cause) {
            let example: String = example.to_string().chars().take(200).collect();
            tracing::warn!(
                sink = &*self.sink,
                points,
                cause = cause.as_str(),
                ?example,
                said,
                "samples refused for good{more}"
            );
        }
    }
}
