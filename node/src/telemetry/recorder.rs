//! Self-metrics: kept as atomics while the program works, carried to Prometheus and statsd by others' time.
//!
//! Recording a value touches one atomic, or one bucket of a histogram. [`Recorder::collect`] moves what gathered there
//! on; it runs each second and whenever somebody asks for `/metrics`. So a hot path never formats, never sends, and
//! what a histogram gathers is bounded by a second's values.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use metrics::{
    Counter, Gauge, Histogram, Key, KeyName, Label, Metadata, Recorder as _, SharedString, Unit,
};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle, PrometheusRecorder};
use metrics_util::registry::{AtomicStorage, Registry};
use parking_lot::Mutex;

/// Where a value was recorded does not matter to either exporter.
pub(super) static METADATA: Metadata<'static> =
    Metadata::new(module_path!(), metrics::Level::INFO, None);

/// The self-metrics of one program; clones share them.
#[derive(Clone)]
pub struct Recorder {
    inner: Arc<Inner>,
}

struct Inner {
    prefix: String,
    registry: Registry<Key, AtomicStorage>,
    prometheus: PrometheusRecorder,
    handle: PrometheusHandle,
    gathered: Mutex<Gathered>,
}

/// What was moved on and waits for statsd.
#[derive(Default)]
struct Gathered {
    wanted: bool,
    samples: HashMap<Key, Samples>,
}

/// Some of a histogram's values, and how many there were.
#[derive(Debug, Default, Clone, PartialEq)]
pub(super) struct Samples {
    pub(super) kept: Vec<f64>,
    pub(super) seen: u64,
}

/// All self-metrics at one time, with names as the code gives them.
pub(super) struct Snapshot {
    /// Totals since start.
    pub(super) counters: Vec<(Key, u64)>,
    pub(super) gauges: Vec<(Key, f64)>,
    /// Values since the last snapshot.
    pub(super) histograms: Vec<(Key, Samples)>,
}

/// The process has a recorder already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("self-metrics are recorded elsewhere in this process already")]
pub struct InstallError;

// What is kept of a histogram between two reports; beyond it, each value is as likely to be kept as any other.
const MOST_KEPT: usize = 4096;

// === impl Recorder ===

impl Recorder {
    /// A recorder that puts `prefix`, such as `veneur_proxy.`, in front of every name.
    pub fn new(prefix: &str) -> Self {
        let prometheus = PrometheusBuilder::new().build_recorder();
        let handle = prometheus.handle();
        let inner = Inner {
            prefix: prefix.to_owned(),
            registry: Registry::atomic(),
            prometheus,
            handle,
            gathered: Mutex::new(Gathered::default()),
        };
        Self {
            inner: Arc::new(inner),
        }
    }

    /// Makes this the process's recorder, the one that `metrics::counter!` and the like write to.
    ///
    /// # Errors
    /// When the process has one.
    pub fn install(&self) -> Result<(), InstallError> {
        metrics::set_global_recorder(self.clone()).map_err(|_| InstallError)
    }

    /// What stands in front of every name.
    pub fn prefix(&self) -> &str {
        &self.inner.prefix
    }

    /// All self-metrics as Prometheus text; dots in names are underscores there.
    pub fn render(&self) -> String {
        self.collect();
        self.inner.handle.render()
    }

    /// Moves what the histograms gathered on. Call it about once a second.
    pub fn collect(&self) {
        let mut gathered = self.inner.gathered.lock();
        let mut drained: Vec<(Key, Vec<f64>)> = Vec::new();
        self.inner.registry.visit_histograms(|key, bucket| {
            let mut values = Vec::new();
            bucket.clear_with(|block| values.extend_from_slice(block));
            if !values.is_empty() {
                drained.push((key.clone(), values));
            }
        });
        for (key, values) in drained {
            let histogram = self
                .inner
                .prometheus
                .register_histogram(&self.prefixed(&key), &METADATA);
            for value in &values {
                histogram.record(*value);
            }
            if gathered.wanted {
                gathered.samples.entry(key).or_default().add(&values);
            }
        }
        self.inner.registry.visit_counters(|key, total| {
            let counter = self
                .inner
                .prometheus
                .register_counter(&self.prefixed(key), &METADATA);
            counter.absolute(total.load(Ordering::Acquire));
        });
        self.inner.registry.visit_gauges(|key, value| {
            let gauge = self
                .inner
                .prometheus
                .register_gauge(&self.prefixed(key), &METADATA);
            gauge.set(f64::from_bits(value.load(Ordering::Acquire)));
        });
        self.inner.handle.run_upkeep();
    }

    /// Keeps histogram values for [`Self::snapshot`] from now on.
    pub(super) fn keep_samples(&self) {
        self.inner.gathered.lock().wanted = true;
    }

    pub(super) fn snapshot(&self) -> Snapshot {
        self.collect();
        let mut counters = Vec::new();
        let mut gauges = Vec::new();
        self.inner.registry.visit_counters(|key, total| {
            counters.push((key.clone(), total.load(Ordering::Acquire)))
        });
        self.inner.registry.visit_gauges(|key, value| {
            gauges.push((key.clone(), f64::from_bits(value.load(Ordering::Acquire))))
        });
        let histograms = std::mem::take(&mut self.inner.gathered.lock().samples)
            .into_iter()
            .collect();
        Snapshot {
            counters,
            gauges,
            histograms,
        }
    }

    fn prefixed(&self, key: &Key) -> Key {
        let labels: Vec<Label> = key.labels().cloned().collect();
        Key::from_parts(format!("{}{}", self.inner.prefix, key.name()), labels)
    }

    fn prefixed_name(&self, name: &KeyName) -> KeyName {
        KeyName::from(format!("{}{}", self.inner.prefix, name.as_str()))
    }
}

impl std::fmt::Debug for Recorder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Recorder")
            .field("prefix", &self.inner.prefix)
            .finish_non_exhaustive()
    }
}

impl metrics::Recorder for Recorder {
    fn describe_counter(&self, name: KeyName, unit: Option<Unit>, description: SharedString) {
        self.inner
            .prometheus
            .describe_counter(self.prefixed_name(&name), unit, description);
    }

    fn describe_gauge(&self, name: KeyName, unit: Option<Unit>, description: SharedString) {
        self.inner
            .prometheus
            .describe_gauge(self.prefixed_name(&name), unit, description);
    }

    fn describe_histogram(&self, name: KeyName, unit: Option<Unit>, description: SharedString) {
        self.inner
            .prometheus
            .describe_histogram(self.prefixed_name(&name), unit, description);
    }

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        self.inner
            .registry
            .get_or_create_counter(key, |counter| Counter::from_arc(Arc::clone(counter)))
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        self.inner
            .registry
            .get_or_create_gauge(key, |gauge| Gauge::from_arc(Arc::clone(gauge)))
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        self.inner
            .registry
            .get_or_create_histogram(key, |bucket| Histogram::from_arc(Arc::clone(bucket)))
    }
}

// === impl Samples ===

impl Samples {
    fn add(&mut self, values: &[f64]) {
        for value in values {
            self.seen += 1;
            if self.kept.len() < MOST_KEPT {
                self.kept.push(*value);
            } else if let Ok(place) = usize::try_from(fastrand::u64(..self.seen))
                && let Some(kept) = self.kept.get_mut(place)
            {
                *kept = *value;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prometheus_text_has_the_prefix_and_underscores() {
        let recorder = Recorder::new("veneur_proxy.");
        metrics::with_local_recorder(&recorder, || {
            metrics::describe_counter!("forward.error_total", "lost on the way");
            metrics::counter!("forward.error_total", "cause" => "post").increment(3);
            metrics::gauge!("discoverer.destination_number").set(2.0);
            for value in 1..=100 {
                metrics::histogram!("forward.duration_ns").record(f64::from(value));
            }
        });
        let text = recorder.render();
        for line in [
            "# HELP veneur_proxy_forward_error_total lost on the way",
            "veneur_proxy_forward_error_total{cause=\"post\"} 3",
            "veneur_proxy_discoverer_destination_number 2",
            "veneur_proxy_forward_duration_ns_count 100",
            "veneur_proxy_forward_duration_ns_sum 5050",
        ] {
            assert!(
                text.lines().any(|found| found == line),
                "{line}\n  is not in\n{text}"
            );
        }
    }

    #[test]
    fn a_counter_is_the_same_however_often_it_is_asked_for() {
        let recorder = Recorder::new("");
        metrics::with_local_recorder(&recorder, || metrics::counter!("c").increment(1));
        let first = recorder.render();
        assert_eq!(first, recorder.render());
        metrics::with_local_recorder(&recorder, || metrics::counter!("c").increment(1));
        assert!(recorder.render().contains("\nc 2\n"));
    }

    #[test]
    fn what_is_kept_of_a_histogram_is_bounded_and_fair() {
        let mut samples = Samples::default();
        let values: Vec<f64> = (0..100_000).map(f64::from).collect();
        samples.add(&values);
        assert_eq!(samples.seen, 100_000);
        assert_eq!(samples.kept.len(), MOST_KEPT);
        let mean = samples.kept.iter().sum::<f64>() / MOST_KEPT as f64;
        assert!(
            (mean - 50_000.0).abs() < 4_000.0,
            "late values count as much as early ones: {mean}"
        );
    }
}
