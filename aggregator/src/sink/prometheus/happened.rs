//! What can happen to the page: counters and log lines, written together.

use std::collections::HashMap;
use std::sync::Arc;

use tributary_node::repeats::Repeats;

use super::store::Refusal;
use crate::metrics;

/// Tells what happens to one sink.
#[derive(Debug)]
pub(super) struct Events {
    sink: Arc<str>,
    told: Repeats<Refusal>,
}

/// The points of one write that are not on the page, by cause.
#[derive(Debug, Default)]
pub(super) struct Refused(HashMap<Refusal, (usize, String)>);

impl Refused {
    /// One more; the first of each cause is the example.
    pub(super) fn add(&mut self, refusal: Refusal, name: impl std::fmt::Display) {
        let entry = self.0.entry(refusal);
        entry.or_insert_with(|| (0, name.to_string())).0 += 1;
    }

    /// How many there were for that cause.
    pub(super) fn of(&self, refusal: Refusal) -> usize {
        self.0.get(&refusal).map_or(0, |(count, _)| *count)
    }
}

impl Events {
    /// For the sink of that name.
    pub(super) fn new(sink: &str) -> Self {
        Self {
            sink: sink.into(),
            told: Repeats::default(),
        }
    }

    /// A write has ended.
    pub(super) fn written(&self, refused: &Refused, series: usize) {
        let label = || self.sink.clone().into();
        metrics::PROMETHEUS_SERIES
            .with([label()])
            .set(series as f64);
        for (refusal, (points, example)) in &refused.0 {
            let cause = refusal.as_str();
            metrics::PROMETHEUS_REFUSED
                .with([label(), cause.into()])
                .increment(*points as u64);
            if let Some(more) = self.told.tell(refusal) {
                let example: String = example.chars().take(200).collect();
                tracing::warn!(
                    sink = &*self.sink,
                    points,
                    cause,
                    ?example,
                    "points are not on the page{more}"
                );
            }
        }
    }

    /// A request was answered so.
    pub(super) fn scraped(sink: &Arc<str>, outcome: &'static str) {
        metrics::PROMETHEUS_SCRAPES
            .with([sink.clone().into(), outcome.into()])
            .increment(1);
    }
}
