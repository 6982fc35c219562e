//! What Flux counts of itself, a minute at a time.

use std::sync::atomic::{AtomicU64, Ordering};

use super::telegraf::Why;

/// Counts since the last reading.
#[derive(Debug, Default)]
pub(super) struct Tallies {
    /// Points for the sinks.
    pub(super) added: AtomicU64,
    non_numeric: AtomicU64,
    invalid_key: AtomicU64,
    invalid_parameters: AtomicU64,
    invalid_timestamp: AtomicU64,
    invalid_value: AtomicU64,
    metric_name: AtomicU64,
}

impl Tallies {
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
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// A metric of a telegraf batch was dropped.
    pub(super) fn dropped(&self, why: Why) {
        let counter = match why {
            Why::NonNumeric => &self.non_numeric,
            Why::Late | Why::Timestamp => &self.invalid_timestamp,
            Why::NoHost => &self.invalid_parameters,
            Why::Name => &self.metric_name,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}
