//! What can happen between this sink and its receiver: counters and log lines, written together.

use std::sync::Arc;

use tributary_node::repeats::Repeats;

use super::answer::Answer;
use crate::metrics;

/// Tells what happens to one sink.
#[derive(Debug)]
pub(super) struct Events {
    sink: Arc<str>,
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

    /// A request with so many data points has ended so. What failed as a whole is told by whoever runs the sink.
    pub(super) fn answered(&self, answer: &Answer, data_points: usize) {
        metrics::OTLP_SENT
            .with([self.sink.clone().into(), answer.outcome().into()])
            .increment(1);
        let rejected = match answer {
            Answer::Taken { rejected, .. } => *rejected,
            Answer::Refused { .. } => data_points,
            Answer::Later { .. } => 0,
        };
        if rejected > 0 {
            metrics::OTLP_REJECTED
                .with([self.sink.clone().into()])
                .increment(rejected as u64);
        }
        if let Answer::Taken { rejected, said } = answer
            && (*rejected > 0 || !said.is_empty())
            && let Some(more) = self.told.tell(&answer.outcome())
        {
            let sink = &*self.sink;
            tracing::warn!(
                sink,
                rejected,
                data_points,
                said,
                "the receiver has taken a request with reservations{more}"
            );
        }
    }

    /// Points cannot be sent as the settings want it.
    pub(super) fn skipped(&self, points: usize) {
        if points > 0
            && let Some(more) = self.told.tell(&"skipped")
        {
            tracing::warn!(
                sink = &*self.sink,
                points,
                "points are not sent: counters below zero with `monotonic_counters`, more series than `max_series`, or longer than `max_request_bytes`{more}"
            );
        }
    }
}
