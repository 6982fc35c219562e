//! Sampler state as `metricpb.Metric`.

use tributary_proto::metricpb::metric::Value;
use tributary_proto::metricpb::{self, CounterValue, GaugeValue, HistogramValue, Metric, SetValue};

use crate::key::{Key, Kind, Scope};
use crate::sketch::{HyperLogLog, TDigest};

/// A metric's value.
pub(super) type State = Value;

pub(super) fn counter(value: i64) -> State {
    Value::Counter(CounterValue { value })
}

pub(super) fn gauge(value: f64) -> State {
    Value::Gauge(GaugeValue { value })
}

pub(super) fn set(sketch: &HyperLogLog) -> State {
    Value::Set(SetValue {
        hyper_log_log: sketch.to_bytes().into(),
    })
}

pub(super) fn digest(digest: &mut TDigest) -> State {
    Value::Histogram(HistogramValue {
        t_digest: Some(digest.to_proto()),
    })
}

/// A metric without a stamp.
pub(super) fn metric(key: &Key, value: State) -> Metric {
    let mut metric = Metric {
        name: key.name().to_string(),
        tags: key.tags().iter().map(str::to_owned).collect(),
        value: Some(value),
        ..Metric::default()
    };
    metric.set_type(match key.kind() {
        Kind::Counter => metricpb::Type::Counter,
        Kind::Gauge => metricpb::Type::Gauge,
        Kind::Set => metricpb::Type::Set,
        Kind::Timer => metricpb::Type::Timer,
        // A check has no form to be forwarded in, and never is.
        Kind::Histogram | Kind::Status => metricpb::Type::Histogram,
    });
    metric.set_scope(match key.scope() {
        Scope::Mixed => metricpb::Scope::Mixed,
        Scope::Local => metricpb::Scope::Local,
        Scope::Global => metricpb::Scope::Global,
    });
    metric
}
