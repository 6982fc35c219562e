//! Self-metrics as typed constants, so that a name is written once and its documentation beside it.
//!
//! Each crate has one `metrics.rs` with a table of them, made by [`catalogue!`](crate::catalogue). Code that has something to tell uses
//! the constants: the kind, the name and the number of tags are then checked by the compiler. From the tables come the page
//! `docs/metrics.md`, the `# HELP` lines on `/metrics`, and the tests that compare them with what running programs, dashboards and
//! alert rules use.

use metrics::{Key, KeyName, Label, SharedString, with_recorder};

use super::recorder::METADATA;

/// What a self-metric is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metric {
    /// As statsd has it, without the prefix.
    pub name: &'static str,
    /// How values add up.
    pub kind: Kind,
    /// What a value counts or measures: `metrics`, `ns`, `bytes`.
    pub unit: &'static str,
    /// The tags that every series has, in order; each is one of [`TAGS`].
    pub tags: &'static [&'static str],
    /// What it says, in one sentence.
    pub meaning: &'static str,
    /// When an operator should look closer; empty: by itself, never.
    pub worry: &'static str,
}

/// How a self-metric's values add up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Grows; statsd gets each interval's increment, Prometheus the total since start.
    Counter,
    /// The state now.
    Gauge,
    /// Many values: a distribution for statsd, a summary for Prometheus.
    Histogram,
}

/// A tag that self-metrics may have.
#[derive(Debug, Clone, Copy)]
pub struct Tag {
    /// Its key.
    pub name: &'static str,
    /// What its values are.
    pub values: &'static str,
    /// What keeps their number small.
    pub bound: &'static str,
}

/// The tag whose values come and go while a program runs; see [`super::Presence`].
pub const DESTINATION: &str = "destination";

const WORDS: &str = "words of the program";

/// Every tag there is. A tag that is not here is a tag whose number of values nobody has thought about.
#[rustfmt::skip]
pub const TAGS: &[Tag] = &[
    Tag { name: "cause", values: "why", bound: "words of the program, and HTTP status codes" },
    Tag { name: DESTINATION, values: "the address that was forwarded to; `other` for those beyond the bound, empty where there is none",
        bound: "1,000 values; gauges of one that left are dropped after 10 seconds, its counters after 2 minutes" },
    Tag { name: "endpoint", values: "which part of an API was asked", bound: WORDS },
    Tag { name: "event", values: "what happened", bound: WORDS },
    Tag { name: "fate", values: "what became of it", bound: WORDS },
    Tag { name: "file", values: "a certificate's file", bound: "the configuration" },
    Tag { name: "global_veneur", values: "`true` at a global, `false` at an agent", bound: "two values" },
    Tag { name: "hop", values: "which connections: the key of their TLS settings", bound: "the configuration's keys" },
    Tag { name: "metric_type", values: "the type of series, as Veneur names it", bound: WORDS },
    Tag { name: "outcome", values: "how it went", bound: WORDS },
    Tag { name: "packet_type", values: "what was read: `metric`, `event`, `service_check`, `carbon_line`, `carbon_item`, `carbon_frame` or `unknown`", bound: WORDS },
    Tag { name: "part", values: "by which protocol: `grpc`, `json` or `kafka`", bound: WORDS },
    Tag { name: "protocol", values: "how it came in", bound: WORDS },
    Tag { name: "reason", values: "why", bound: WORDS },
    Tag { name: "retriable", values: "`true` where it is tried again", bound: "two values" },
    Tag { name: "service", values: "what discovery looks for; `static` for a list in the configuration", bound: "the configuration" },
    Tag { name: "sink_kind", values: "the kind of a sink", bound: "the configuration" },
    Tag { name: "sink_name", values: "the name of a sink", bound: "the configuration" },
    Tag { name: "source_name", values: "the name of a source", bound: "the configuration" },
    Tag { name: "state", values: "how it is", bound: WORDS },
    Tag { name: "status", values: "how it went, or what was decided", bound: WORDS },
    Tag { name: "topic", values: "a topic of Kafka, or the expression that it was found by", bound: "the configuration" },
    Tag { name: "type", values: "the type of OpenTelemetry's data points", bound: WORDS },
    Tag { name: "unit", values: "what is counted", bound: WORDS },
    Tag { name: "version", values: "the program's version", bound: "one value" },
];

/// A counter with so many tags.
#[derive(Debug)]
pub struct Counter<const TAGS: usize>(Series<TAGS>);

/// A gauge with so many tags.
#[derive(Debug)]
pub struct Gauge<const TAGS: usize>(Series<TAGS>);

/// A histogram with so many tags.
#[derive(Debug)]
pub struct Histogram<const TAGS: usize>(Series<TAGS>);

#[derive(Debug)]
struct Series<const TAGS: usize> {
    metric: &'static Metric,
    /// What a metric without tags is known by, hashed at compile time.
    untagged: Key,
}

/// Makes a crate's table of self-metrics: a typed constant for each, and `METRICS`, which lists them all.
///
/// ```
/// mod metrics {
///     tributary_node::catalogue! {
///         Counter WIDGETS = "widgets_total", tags: [cause], unit: "widgets",
///             meaning: "Widgets that came off the line.",
///             worry: "It stands still during a shift.";
///         Gauge BELT = "belt.length_bytes", tags: [], unit: "bytes",
///             meaning: "What lies on the belt.",
///             worry: "";
///     }
/// }
/// metrics::WIDGETS.with(["new".into()]).increment(1);
/// metrics::BELT.set(3.0);
/// assert_eq!(metrics::METRICS[0].name, "widgets_total");
/// ```
#[macro_export]
macro_rules! catalogue {
    ($(
        $kind:ident $constant:ident = $name:literal, tags: [$($tag:ident),*], unit: $unit:literal,
            meaning: $meaning:literal, worry: $worry:literal;
    )*) => {
        /// Every self-metric of this crate.
        pub static METRICS: &[&$crate::telemetry::catalog::Metric] = &[$($constant.metric()),*];

        $(
            #[doc = $meaning]
            pub static $constant: $crate::telemetry::catalog::$kind<
                { <[&str]>::len(&[$(stringify!($tag)),*]) },
            > = $crate::telemetry::catalog::$kind::new(&$crate::telemetry::catalog::Metric {
                name: $name,
                kind: $crate::telemetry::catalog::Kind::$kind,
                unit: $unit,
                tags: &[$(stringify!($tag)),*],
                meaning: $meaning,
                worry: $worry,
            });
        )*
    };
}

/// Tells the process's recorder what these mean, which it shows on `/metrics`.
pub(crate) fn describe(metrics: &[&'static Metric]) {
    with_recorder(|recorder| {
        for metric in metrics {
            let name = KeyName::from_const_str(metric.name);
            match metric.kind {
                Kind::Counter => recorder.describe_counter(name, None, metric.meaning.into()),
                Kind::Gauge => recorder.describe_gauge(name, None, metric.meaning.into()),
                Kind::Histogram => recorder.describe_histogram(name, None, metric.meaning.into()),
            }
        }
    });
}

// === impl Metric ===

impl Metric {
    /// The name as statsd gets it.
    pub fn statsd_name(&self, prefix: &str) -> String {
        format!("{prefix}{}", self.name)
    }

    /// The name on `/metrics`: Prometheus knows no dots.
    pub fn prometheus_name(&self, prefix: &str) -> String {
        self.statsd_name(prefix).replace(['.', '-'], "_")
    }
}

impl Kind {
    /// As people and Prometheus' `# TYPE` lines say; a histogram's values are a summary there.
    pub fn prometheus(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "summary",
        }
    }

    /// The type in a statsd line.
    pub fn statsd(self) -> &'static str {
        match self {
            Self::Counter => "c",
            Self::Gauge => "g",
            Self::Histogram => "d",
        }
    }
}

// === impl Series ===

impl<const TAGS: usize> Series<TAGS> {
    const fn new(metric: &'static Metric) -> Self {
        Self {
            metric,
            untagged: Key::from_static_name(metric.name),
        }
    }

    fn key(&self, values: [SharedString; TAGS]) -> Key {
        let tags = self.metric.tags.iter().zip(values);
        let labels: Vec<Label> = tags.map(|(tag, value)| Label::new(*tag, value)).collect();
        Key::from_parts(self.metric.name, labels)
    }
}

// === impl Counter, Gauge, Histogram ===

impl<const TAGS: usize> Counter<TAGS> {
    /// What [`catalogue!`](crate::catalogue) calls.
    #[doc(hidden)]
    pub const fn new(metric: &'static Metric) -> Self {
        Self(Series::new(metric))
    }

    /// What it is.
    pub const fn metric(&self) -> &'static Metric {
        self.0.metric
    }

    /// The series with these values of its tags, in their order; keep it where it is used often.
    pub fn with(&self, values: [SharedString; TAGS]) -> metrics::Counter {
        let key = self.0.key(values);
        with_recorder(|recorder| recorder.register_counter(&key, &METADATA))
    }
}

impl Counter<0> {
    /// Adds to it.
    pub fn increment(&self, by: u64) {
        with_recorder(|recorder| recorder.register_counter(&self.0.untagged, &METADATA))
            .increment(by);
    }
}

impl<const TAGS: usize> Gauge<TAGS> {
    /// What [`catalogue!`](crate::catalogue) calls.
    #[doc(hidden)]
    pub const fn new(metric: &'static Metric) -> Self {
        Self(Series::new(metric))
    }

    /// What it is.
    pub const fn metric(&self) -> &'static Metric {
        self.0.metric
    }

    /// The series with these values of its tags, in their order; keep it where it is used often.
    pub fn with(&self, values: [SharedString; TAGS]) -> metrics::Gauge {
        let key = self.0.key(values);
        with_recorder(|recorder| recorder.register_gauge(&key, &METADATA))
    }
}

impl Gauge<0> {
    /// It is this now.
    pub fn set(&self, value: f64) {
        with_recorder(|recorder| recorder.register_gauge(&self.0.untagged, &METADATA)).set(value);
    }
}

impl<const TAGS: usize> Histogram<TAGS> {
    /// What [`catalogue!`](crate::catalogue) calls.
    #[doc(hidden)]
    pub const fn new(metric: &'static Metric) -> Self {
        Self(Series::new(metric))
    }

    /// What it is.
    pub const fn metric(&self) -> &'static Metric {
        self.0.metric
    }

    /// The series with these values of its tags, in their order; keep it where it is used often.
    pub fn with(&self, values: [SharedString; TAGS]) -> metrics::Histogram {
        let key = self.0.key(values);
        with_recorder(|recorder| recorder.register_histogram(&key, &METADATA))
    }
}

impl Histogram<0> {
    /// One more value.
    pub fn record(&self, value: f64) {
        with_recorder(|recorder| recorder.register_histogram(&self.0.untagged, &METADATA))
            .record(value);
    }
}
