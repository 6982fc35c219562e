//! For tests: a recorder of counters, gauges and histograms that lives as long as the test, on the test's thread.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use metrics::{
    Counter, Gauge, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder, SharedString, Unit,
};
use parking_lot::Mutex;

/// Counters and gauges by name and label values, histograms by the number of their values.
#[derive(Debug, Default)]
pub(super) struct Counts(Mutex<BTreeMap<String, Arc<AtomicU64>>>);

impl Counts {
    /// `name` or `name label label …`, the labels' values without the sink's kind, in the order they were given.
    pub(super) fn get(&self, series: &str) -> u64 {
        self.0
            .lock()
            .get(series)
            .map_or(0, |count| count.load(Ordering::Relaxed))
    }

    /// A gauge, by the same name.
    pub(super) fn gauge(&self, series: &str) -> f64 {
        f64::from_bits(self.get(series))
    }

    fn cell(&self, key: &Key) -> Arc<AtomicU64> {
        let mut series = key.name().to_owned();
        for label in key.labels().filter(|label| label.key() != "sink_kind") {
            series.push(' ');
            series.push_str(label.value());
        }
        Arc::clone(self.0.lock().entry(series).or_default())
    }
}

struct Values(Arc<AtomicU64>);

impl HistogramFn for Values {
    fn record(&self, _: f64) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl Recorder for Counts {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(self.cell(key))
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(self.cell(key))
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::from_arc(Arc::new(Values(self.cell(key))))
    }
}
