//! What can happen between this sink and Datadog: counters and log lines, written together.

use std::sync::Arc;

use tributary_node::repeats::Repeats;

use super::body::Route;
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

    /// A request has ended so.
    pub(super) fn request(&self, route: Route, outcome: &'static str) {
        metrics::DATADOG_REQUESTS
            .with([
                self.sink.clone().into(),
                route.as_str().into(),
                outcome.into(),
            ])
            .increment(1);
    }

    /// The key was refused.
    pub(super) fn bad_key(&self, said: &str) {
        if let Some(more) = self.told.tell(&"key") {
            tracing::error!(
                sink = &*self.sink,
                said,
                "Datadog refuses the API key (or the site is another): nothing is sent until it is right{more}"
            );
        }
    }

    /// Points, checks or events are lost; one of them is the `example`.
    pub(super) fn refused(
        &self,
        route: Route,
        lost: usize,
        cause: &'static str,
        example: &str,
        said: &str,
    ) {
        metrics::DATADOG_REFUSED
            .with([
                self.sink.clone().into(),
                route.as_str().into(),
                cause.into(),
            ])
            .increment(lost as u64);
        if let Some(more) = self.told.tell(&route.as_str()) {
            let example: String = example.chars().take(200).collect();
            tracing::warn!(
                sink = &*self.sink,
                endpoint = route.as_str(),
                lost,
                cause,
                example,
                said,
                "refused by Datadog for good{more}"
            );
        }
    }

    /// A body was taken, with complaints.
    pub(super) fn complained(&self, route: Route, errors: &[String]) {
        metrics::DATADOG_COMPLAINTS
            .with([self.sink.clone().into(), route.as_str().into()])
            .increment(errors.len() as u64);
        if let Some(more) = self.told.tell(&"complaint") {
            let first = errors.first().map(String::as_str).unwrap_or_default();
            let first: String = first.chars().take(200).collect();
            tracing::warn!(
                sink = &*self.sink,
                endpoint = route.as_str(),
                errors = errors.len(),
                first,
                "Datadog took a body and found fault with it{more}"
            );
        }
    }
}
