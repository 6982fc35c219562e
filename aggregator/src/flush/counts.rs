//! What a flush counted, and the self-metrics that say so.

use super::Role;
use crate::key::{Key, Kind, Scope};
use crate::metrics;
use crate::table::IntervalCounts;

/// What one flush counted.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct FlushCounts {
    /// What came in during the interval.
    pub interval: IntervalCounts,
    /// Points that were NaN or infinite (sums of values near the largest float, say) and are not emitted.
    pub points_not_finite: u64,
    /// Series that end at this tier: all of a global's; at an agent those that are not forwarded, so that a fleet's numbers add up.
    ///
    /// Veneur estimates this with a HyperLogLog over each worker's keys; the table holds each key once, so this is exact.
    pub unique_timeseries: u64,
    flushed: [u64; SeriesType::ALL.len()],
    global: bool,
}

/// Series by kind and scope, as Veneur's `metric_type` tells them apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
#[allow(missing_docs, reason = "the names say it all")]
pub enum SeriesType {
    Counter,
    Gauge,
    Histogram,
    Set,
    Timer,
    GlobalCounter,
    GlobalGauge,
    GlobalHistogram,
    GlobalTimer,
    LocalHistogram,
    LocalSet,
    LocalTimer,
    Status,
}

impl SeriesType {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 13] = [
        Self::Counter,
        Self::Gauge,
        Self::Histogram,
        Self::Set,
        Self::Timer,
        Self::GlobalCounter,
        Self::GlobalGauge,
        Self::GlobalHistogram,
        Self::GlobalTimer,
        Self::LocalHistogram,
        Self::LocalSet,
        Self::LocalTimer,
        Self::Status,
    ];

    /// The value of the tag `metric_type`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
            Self::Set => "set",
            Self::Timer => "timer",
            Self::GlobalCounter => "global_counter",
            Self::GlobalGauge => "global_gauge",
            Self::GlobalHistogram => "global_histogram",
            // Veneur's plural.
            Self::GlobalTimer => "global_timers",
            Self::LocalHistogram => "local_histogram",
            Self::LocalSet => "local_set",
            Self::LocalTimer => "local_timer",
            Self::Status => "status",
        }
    }

    fn of(key: &Key) -> Self {
        match (key.kind(), key.scope()) {
            (Kind::Counter, Scope::Global) => Self::GlobalCounter,
            (Kind::Counter, _) => Self::Counter,
            (Kind::Gauge, Scope::Global) => Self::GlobalGauge,
            (Kind::Gauge, _) => Self::Gauge,
            (Kind::Histogram, Scope::Global) => Self::GlobalHistogram,
            (Kind::Histogram, Scope::Local) => Self::LocalHistogram,
            (Kind::Histogram, Scope::Mixed) => Self::Histogram,
            (Kind::Timer, Scope::Global) => Self::GlobalTimer,
            (Kind::Timer, Scope::Local) => Self::LocalTimer,
            (Kind::Timer, Scope::Mixed) => Self::Timer,
            (Kind::Set, Scope::Local) => Self::LocalSet,
            (Kind::Set, _) => Self::Set,
            (Kind::Status, _) => Self::Status,
        }
    }
}

impl FlushCounts {
    pub(super) fn new(role: Role, interval: IntervalCounts) -> Self {
        Self {
            interval,
            global: role == Role::Global,
            ..Self::default()
        }
    }

    pub(super) fn note_series(&mut self, key: &Key, forwarded: bool) {
        self.flushed[SeriesType::of(key) as usize] += 1;
        self.unique_timeseries += u64::from(!forwarded);
    }

    /// How many series of each type there were; types without any are left out.
    pub fn flushed(&self) -> impl Iterator<Item = (SeriesType, u64)> {
        SeriesType::ALL
            .into_iter()
            .zip(self.flushed)
            .filter(|(_, count)| *count > 0)
    }

    /// Writes the self-metrics of this flush: samples, series by type, points that were no numbers and, with `count_unique_timeseries`, the
    /// series that end here. What was imported and what was refused has been counted by those who brought it.
    pub fn emit(&self, count_unique_timeseries: bool) {
        metrics::PROCESSED.increment(self.interval.processed);
        for (series_type, count) in self.flushed() {
            metrics::METRICS_FLUSHED
                .with([series_type.as_str().into()])
                .increment(count);
        }
        if self.points_not_finite > 0 {
            metrics::POINTS_DROPPED
                .with(["not_finite".into()])
                .increment(self.points_not_finite);
        }
        if count_unique_timeseries {
            let global = if self.global { "true" } else { "false" };
            metrics::UNIQUE_TIMESERIES
                .with([global.into()])
                .increment(self.unique_timeseries);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::Tags;

    #[test]
    fn each_type_stands_at_its_number() {
        for (number, series_type) in SeriesType::ALL.into_iter().enumerate() {
            assert_eq!(series_type as usize, number);
        }
    }

    #[test]
    fn series_are_counted_by_type_and_only_those_that_end_here_as_unique() {
        let mut counts = FlushCounts::new(Role::Local, IntervalCounts::default());
        let key = |kind, scope| Key::new("a", kind, Tags::default(), scope);
        counts.note_series(&key(Kind::Timer, Scope::Global), true);
        counts.note_series(&key(Kind::Counter, Scope::Mixed), false);
        counts.note_series(&key(Kind::Counter, Scope::Mixed), false);
        assert_eq!(counts.unique_timeseries, 2);
        let flushed: Vec<_> = counts
            .flushed()
            .map(|(series_type, count)| (series_type.as_str(), count))
            .collect();
        assert_eq!(flushed, [("counter", 2), ("global_timers", 1)]);
    }
}
