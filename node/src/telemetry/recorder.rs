//! Self-metrics: kept as atomics while the program works, carried to Prometheus and statsd by others' time.
//!
//! Recording a value touches one atomic, or one bucket of a histogram. [`Recorder::collect`] moves what gathered there
//! on; it runs each second and whenever somebody asks for `/metrics`. So a hot path never formats, never sends, and
//! what a histogram gathers is bounded by a second's values.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use metrics::{
    Counter, Gauge, Histogram, Key, KeyName, Label, Metadata, Recorder as _, SharedString, Unit,
};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle, PrometheusRecorder};
use metrics_util::MetricKindMask;
use metrics_util::registry::{AtomicStorage, Registry};
use parking_lot::Mutex;

use super::presence::{COUNTERS_STAY, GAUGES_STAY, Values};

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

/// What was moved on, and what of it waits for statsd.
#[derive(Default)]
struct Gathered {
    values: Values,
    /// Each counter's total when it was moved on last.
    totals: HashMap<Key, u64>,
    wanted: bool,
    increments: HashMap<Key, u64>,
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
    /// Increments since the last snapshot.
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

// Each series is moved on right before it is shown, so that what was not is one that was dropped.
const PROMETHEUS_KEEPS: Duration = Duration::from_secs(5);

// === impl Recorder ===

impl Recorder {
    /// A recorder that puts `prefix`, such as `veneur_proxy.`, in front of every name.
    pub fn new(prefix: &str) -> Self {
        let dropped = MetricKindMask::COUNTER | MetricKindMask::GAUGE;
        let prometheus = PrometheusBuilder::new()
            .idle_timeout(dropped, Some(PROMETHEUS_KEEPS))
            .build_recorder();
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

    /// Moves on what gathered. Call it about once a second.
    pub fn collect(&self) {
        self.collect_at(Instant::now());
    }

    /// Gives each gauge as it is shown.
    fn collect_at(&self, now: Instant) -> HashMap<Key, f64> {
        let mut gathered = self.inner.gathered.lock();
        if gathered.values.look(now) {
            self.drop_gone(&mut gathered, now);
        }
        self.move_histograms(&mut gathered);
        self.move_counters(&mut gathered);
        let gauges = self.move_gauges(&mut gathered);
        drop(gathered);
        self.inner.handle.run_upkeep();
        gauges
    }

    fn move_histograms(&self, gathered: &mut Gathered) {
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
    }

    fn move_counters(&self, gathered: &mut Gathered) {
        self.inner.registry.visit_counters(|key, total| {
            let total = total.load(Ordering::Acquire);
            let before = match gathered.totals.get_mut(key) {
                Some(before) => std::mem::replace(before, total),
                None => {
                    gathered.totals.insert(key.clone(), total);
                    0
                }
            };
            let increment = total.saturating_sub(before);
            let other = gathered.values.shown(key);
            let key = other.as_ref().unwrap_or(key);
            // By nothing, too: it shows that the series is still there.
            self.inner
                .prometheus
                .register_counter(&self.prefixed(key), &METADATA)
                .increment(increment);
            if gathered.wanted && increment > 0 {
                *gathered.increments.entry(key.clone()).or_default() += increment;
            }
        });
    }

    fn move_gauges(&self, gathered: &mut Gathered) -> HashMap<Key, f64> {
        let mut gauges: HashMap<Key, f64> = HashMap::new();
        self.inner.registry.visit_gauges(|key, value| {
            let value = f64::from_bits(value.load(Ordering::Acquire));
            let key = gathered.values.shown(key).unwrap_or_else(|| key.clone());
            *gauges.entry(key).or_default() += value;
        });
        for (key, value) in &gauges {
            self.inner
                .prometheus
                .register_gauge(&self.prefixed(key), &METADATA)
                .set(*value);
        }
        gauges
    }

    /// Drops the series of tag values that have been gone for long enough.
    fn drop_gone(&self, gathered: &mut Gathered, now: Instant) {
        let values = &gathered.values;
        self.inner
            .registry
            .retain_gauges(|key, _| !values.gone(key, now, GAUGES_STAY));
        self.inner
            .registry
            .retain_counters(|key, _| !values.gone(key, now, COUNTERS_STAY));
        gathered
            .totals
            .retain(|key, _| !values.gone(key, now, COUNTERS_STAY));
        gathered.values.forget(now);
    }

    /// Keeps increments and histogram values for [`Self::snapshot`] from now on.
    pub(super) fn keep_samples(&self) {
        self.inner.gathered.lock().wanted = true;
    }

    pub(super) fn snapshot(&self) -> Snapshot {
        let gauges = self.collect_at(Instant::now());
        let mut gathered = self.inner.gathered.lock();
        Snapshot {
            counters: gathered.increments.drain().collect(),
            gauges: gauges.into_iter().collect(),
            histograms: gathered.samples.drain().collect(),
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
    use crate::telemetry::presence::{MOST_VALUES, Presence};

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
    fn the_series_of_a_destination_leave_after_it() {
        let (recorder, start) = (Recorder::new(""), Instant::now());
        let presence = Presence::of("gone:1");
        let emit = |destination: &'static str| {
            metrics::with_local_recorder(&recorder, || {
                metrics::gauge!("g", "destination" => destination).set(1.0);
                metrics::counter!("c", "cause" => "x", "destination" => destination).increment(2);
            });
        };
        let _stays = Presence::of("stays:1");
        emit("stays:1");
        emit("gone:1");
        let series = |after: Duration| -> Vec<String> {
            let gauges = recorder.collect_at(start + after);
            let mut keys: Vec<String> = gauges.keys().map(Key::to_string).collect();
            recorder
                .inner
                .registry
                .visit_counters(|key, _| keys.push(key.to_string()));
            keys.retain(|key| key.contains("gone:1"));
            keys.sort();
            keys
        };
        assert_eq!(series(Duration::ZERO).len(), 2);
        assert_eq!(
            series(COUNTERS_STAY * 2).len(),
            2,
            "whoever is there stays, however quiet"
        );
        drop(presence);
        let left = COUNTERS_STAY * 2;
        assert_eq!(series(left).len(), 2, "it has only just left");
        assert_eq!(series(left + GAUGES_STAY).len(), 1, "its gauge is dropped");
        assert_eq!(series(left + COUNTERS_STAY - GAUGES_STAY).len(), 1);
        assert!(series(left + COUNTERS_STAY).is_empty());
        assert!(recorder.render().contains("stays:1"));
        // It is back, and counts from nothing.
        let _presence = Presence::of("gone:1");
        emit("gone:1");
        assert_eq!(series(left + COUNTERS_STAY * 2).len(), 2);
        assert_eq!(recorder.inner.gathered.lock().totals.len(), 2);
    }

    #[test]
    fn what_was_dropped_leaves_prometheus_text() {
        let recorder = Recorder::new("");
        let presence = Presence::of("text:1");
        metrics::with_local_recorder(&recorder, || {
            metrics::gauge!("g", "destination" => "text:1").set(1.0);
        });
        assert!(recorder.render().contains("text:1"));
        drop(presence);
        let start = Instant::now();
        recorder.collect_at(start);
        recorder.collect_at(start + GAUGES_STAY);
        let shown = (0..600).any(|_| {
            std::thread::sleep(Duration::from_millis(100));
            !recorder.render().contains("text:1")
        });
        assert!(shown, "{}", recorder.render());
    }

    #[test]
    fn values_beyond_the_bound_are_added_up_as_other() {
        let recorder = Recorder::new("");
        let addresses: Vec<String> = (0..MOST_VALUES + 5).map(|n| format!("bound:{n}")).collect();
        let _present: Vec<Presence> = addresses.iter().map(|a| Presence::of(a)).collect();
        let count = || {
            metrics::with_local_recorder(&recorder, || {
                for address in &addresses {
                    metrics::counter!("c", "destination" => address.clone()).increment(3);
                    metrics::gauge!("g", "destination" => address.clone()).set(1.0);
                }
            });
        };
        count();
        recorder.keep_samples();
        let text = recorder.render();
        let series = |name: &str| text.lines().filter(|line| line.starts_with(name)).count();
        assert!(series("c{") <= MOST_VALUES + 1 && series("g{") <= MOST_VALUES + 1);
        assert!(text.contains("c{destination=\"other\"} 15\n"), "{text}");
        assert!(text.contains("g{destination=\"other\"} 5\n"), "{text}");
        count();
        let snapshot = recorder.snapshot();
        assert_eq!(snapshot.counters.len(), MOST_VALUES + 1);
        let sum: u64 = snapshot.counters.iter().map(|(_, by)| by).sum();
        assert_eq!(
            sum,
            3 * 2 * addresses.len() as u64,
            "what was counted before statsd was wanted is told, too"
        );
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
