//! What Flux tells of itself, under its own names: counts of each minute.

use std::sync::atomic::{AtomicU64, Ordering};

use super::item::Item;
use super::telegraf::Why;

/// Counts since the last reading.
#[derive(Debug, Default)]
pub(super) struct Tallies {
    /// Points handed over.
    pub(super) added: AtomicU64,
    /// Points that go into an aggregate.
    pub(super) added_to_aggregation: AtomicU64,
    /// Points that every sink has.
    pub(super) sent: AtomicU64,
    pub(super) already_received: AtomicU64,
    pub(super) over_quota: AtomicU64,
    non_numeric: AtomicU64,
    invalid_key: AtomicU64,
    invalid_parameters: AtomicU64,
    invalid_timestamp: AtomicU64,
    invalid_value: AtomicU64,
    metric_name: AtomicU64,
}

impl Tallies {
    pub(super) fn add(counter: &AtomicU64, count: usize) {
        counter.fetch_add(count as u64, Ordering::Relaxed);
    }

    /// A request was refused for that cause; empty where it was not.
    pub(super) fn refused(&self, cause: &str) {
        let counter = match cause {
            "" => return,
            "invalid_key" | "no_key" => &self.invalid_key,
            "invalid_timestamp" => &self.invalid_timestamp,
            "invalid_value" => &self.invalid_value,
            "metric_name" => &self.metric_name,
            _ => &self.invalid_parameters,
        };
        Self::add(counter, 1);
    }

    /// A metric of a telegraf batch was dropped.
    pub(super) fn dropped(&self, why: Why) {
        let counter = match why {
            Why::NonNumeric => &self.non_numeric,
            Why::Late | Why::Timestamp => &self.invalid_timestamp,
            Why::NoHost => &self.invalid_parameters,
            Why::Name => &self.metric_name,
        };
        Self::add(counter, 1);
    }

    /// The metrics of the time since the last call, under a prefix; `waiting` points have no fate yet.
    pub(super) fn items(&self, prefix: &str, waiting: u64, now: i64) -> Vec<Item> {
        let counters = [
            ("worker.metrics_sent_to_graphite", &self.sent),
            ("worker.discarded.already_received", &self.already_received),
            ("listen.added_to_queue", &self.added),
            (
                "listen.added_to_aggregation_queue",
                &self.added_to_aggregation,
            ),
            ("listen.dropped_non_numeric_metrics", &self.non_numeric),
            ("listen.over_quota_metrics_count", &self.over_quota),
            ("listen.discarded.invalid_key", &self.invalid_key),
            (
                "listen.discarded.invalid_parameters",
                &self.invalid_parameters,
            ),
            (
                "listen.discarded.invalid_timestamp",
                &self.invalid_timestamp,
            ),
            ("listen.discarded.invalid_value", &self.invalid_value),
            ("listen.discarded.metric_name", &self.metric_name),
        ];
        let counts = counters.map(|(name, counter)| (name, counter.swap(0, Ordering::Relaxed)));
        let size = ("worker.httpMetricDataQueue.size", waiting);
        let all = counts.into_iter().chain([size]);
        let item = |(name, count): (&str, u64)| Item {
            posted: String::new(),
            name: format!("{prefix}.{name}"),
            seconds: now,
            value: count as f64,
            fill: true,
        };
        all.map(item).collect()
    }
}
