//! The program's own counters, as a test sees them.

use std::collections::BTreeMap;
use std::sync::Arc;

use metrics::{
    Counter, CounterFn, Gauge, Histogram, Key, KeyName, LocalRecorderGuard, Metadata, Recorder,
    SharedString, Unit,
};
use parking_lot::Mutex;

/// Counters by `name{label=value,…}`.
#[derive(Debug, Clone, Default)]
pub(crate) struct Counters(Arc<Mutex<BTreeMap<String, u64>>>);

impl Counters {
    /// Records what this thread counts, until the guard is dropped: for tests on a runtime of one thread.
    pub(crate) fn record(&'static self) -> LocalRecorderGuard<'static> {
        metrics::set_default_local_recorder(self)
    }

    /// A recorder that lives as long as the program, which the guard asks for.
    pub(crate) fn leaked() -> &'static Self {
        Box::leak(Box::default())
    }

    /// A counter's value; 0 if it was never counted.
    pub(crate) fn get(&self, key: &str) -> u64 {
        self.0.lock().get(key).copied().unwrap_or(0)
    }

    /// The sum of a counter over all its labels.
    pub(crate) fn sum(&self, name: &str) -> u64 {
        let counters = self.0.lock();
        let of_name = counters
            .iter()
            .filter(|(key, _)| key.split('{').next() == Some(name));
        of_name.map(|(_, value)| value).sum()
    }
}

struct One(Counters, String);

impl CounterFn for One {
    fn increment(&self, value: u64) {
        *self.0.0.lock().entry(self.1.clone()).or_default() += value;
    }

    fn absolute(&self, value: u64) {
        self.0.0.lock().insert(self.1.clone(), value);
    }
}

impl Recorder for Counters {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        let labels: Vec<_> = key
            .labels()
            .map(|label| format!("{}={}", label.key(), label.value()))
            .collect();
        let name = match labels.as_slice() {
            [] => key.name().to_owned(),
            labels => format!("{}{{{}}}", key.name(), labels.join(",")),
        };
        Counter::from_arc(Arc::new(One(self.clone(), name)))
    }

    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::noop()
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}
