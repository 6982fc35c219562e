//! What the targets share: a tier that takes input in as the programs do, and what must hold for all that leaves it.
//!
//! A target asserts; the fuzzer looks for bytes that break an assertion. So everything here panics, and nothing here corrects.

use std::collections::BTreeMap;
use std::sync::Arc;

use prost::Message;
use tributary_aggregator::flush::{
    Aggregate, Emission, FlushSettings, Percentiles, Role, SeriesType, emit,
};
use tributary_aggregator::point::Point;
use tributary_aggregator::table::{Table, TableConfig, Writer};
use tributary_proto::forwardrpc::MetricList;
use tributary_proto::scan::{Scanned, frame_into};

/// The share of a range by which roundings may shift a value inside it.
pub const ROUNDING: f64 = 1e-9;

/// Ascending, with both ends.
const PERCENTILES: [f64; 8] = [0.0, 0.01, 0.25, 0.5, 0.75, 0.99, 0.999, 1.0];

/// One aggregator for one interval.
pub struct Tier {
    role: Role,
    table: Arc<Table>,
    /// The way in.
    pub writer: Writer,
}

impl Tier {
    /// An agent or a global that has room for every series.
    pub fn new(role: Role) -> Self {
        Self::with_room(role, 0)
    }

    /// One that holds at most so many series, 0 for any number. With more than one shard, and a key cache so small that it forgets.
    pub fn with_room(role: Role, max_series: usize) -> Self {
        let table = Table::new(TableConfig {
            shards: 4,
            max_series,
            cached_keys: 8,
            ..TableConfig::default()
        });
        let writer = table.writer();
        Self {
            role,
            table,
            writer,
        }
    }

    /// Ends the interval; what it brings has been checked.
    pub fn flush(self) -> Emission {
        let settings = FlushSettings {
            role: self.role,
            percentiles: Percentiles::new(&PERCENTILES).expect("all are between 0 and 1"),
            aggregates: Aggregate::ALL.into_iter().collect(),
            distributions: false,
            timestamp: 1_700_000_000,
        };
        let emission = emit(self.table.take(), &settings);
        check(&emission, self.role);
        assert!(
            self.table.take().is_empty(),
            "a series is in one interval only"
        );
        emission
    }
}

/// What holds for every flush of every tier.
fn check(emission: &Emission, role: Role) {
    let mut by_suffix: BTreeMap<&str, u64> = BTreeMap::new();
    for point in &emission.points {
        assert!(point.value.is_finite(), "{point:?}");
        assert!(!point.base.is_empty(), "{point:?}");
        *by_suffix.entry(suffix(point)).or_default() += 1;
    }

    // Non-finite points are left out and counted. That may happen to sums and means of extreme values and to nothing else, so
    // every distribution must show its median and, where it ends here, every percentile.
    let series = |wanted: &[SeriesType]| -> u64 {
        let flushed = emission.counts.flushed();
        flushed
            .filter(|(series_type, _)| wanted.contains(series_type))
            .map(|(_, count)| count)
            .sum()
    };
    use SeriesType::{GlobalHistogram, GlobalTimer, Histogram, LocalHistogram, LocalTimer, Timer};
    let local = series(&[LocalHistogram, LocalTimer]);
    let mixed = series(&[Histogram, Timer]);
    let global = series(&[GlobalHistogram, GlobalTimer]);
    let (medians, percentiles) = match role {
        Role::Local => (local + mixed, local),
        Role::Global => (local + mixed + global, local + mixed + global),
    };
    let shown = |suffix: &str| by_suffix.get(suffix).copied().unwrap_or_default();
    assert_eq!(shown(".median"), medians);
    assert_eq!(shown(".0percentile"), percentiles);
    assert_eq!(shown(".100percentile"), percentiles);
    assert_eq!(shown(".99percentile"), percentiles);
    check_percentiles_ascend(&emission.points);

    let total: u64 = emission.counts.flushed().map(|(_, count)| count).sum();
    assert_eq!(total, emission.counts.interval.series);
    assert_eq!(
        emission.counts.unique_timeseries + emission.forward.len() as u64,
        total,
        "every series ends here or goes up"
    );
    if role == Role::Global {
        assert!(emission.forward.is_empty());
    }
    for metric in &emission.forward {
        check_forwarded(metric);
    }
}

/// The percentiles of one series follow each other in the order in which they were configured.
fn check_percentiles_ascend(points: &[Point]) {
    let percentiles: Vec<&Point> = points
        .iter()
        .filter(|point| suffix(point).ends_with("percentile"))
        .collect();
    assert!(percentiles.len().is_multiple_of(PERCENTILES.len()));
    for series in percentiles.chunks(PERCENTILES.len()) {
        let values: Vec<f64> = series.iter().map(|point| point.value).collect();
        assert_ascends(&values);
    }
}

/// Asserts that values ascend, but for what roundings do to values of their range.
pub fn assert_ascends(values: &[f64]) {
    let widest = values
        .iter()
        .fold(0.0_f64, |widest, value| widest.max(value.abs()));
    for pair in values.windows(2) {
        assert!(
            pair[0] - pair[1] <= widest * ROUNDING,
            "{values:?} do not ascend"
        );
    }
}

/// A metric that goes up is one that a proxy can route and that comes out of its bytes as it went in.
fn check_forwarded(metric: &tributary_proto::metricpb::Metric) {
    let bytes = metric.encode_to_vec();
    let scanned = Scanned::scan(&bytes).expect("what is forwarded can be routed");
    assert_eq!(scanned.name, metric.name);
    assert_eq!(scanned.kind, metric.r#type());
    assert!(scanned.value.is_some());
    assert!(scanned.tags().eq(metric.tags.iter().map(String::as_str)));
}

/// What an aggregate or percentile adds to the name; empty for all others.
pub fn suffix(point: &Point) -> &str {
    point.suffix.as_deref().unwrap_or_default()
}

/// What a flush forwards, as the body of a `SendMetrics`.
pub fn body(emission: &Emission) -> bytes::Bytes {
    let mut framed = Vec::new();
    for metric in &emission.forward {
        frame_into(&mut framed, &metric.encode_to_vec());
    }
    let list = MetricList {
        metrics: emission.forward.clone(),
    };
    assert_eq!(framed, list.encode_to_vec(), "frames are a list");
    framed.into()
}
