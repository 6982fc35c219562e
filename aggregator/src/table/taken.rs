//! What the table has to say at the end of an interval: the type writes the log line and the counters together.

use tracing::warn;

use super::{IntervalCounts, NameCount};
use crate::metrics::{FOLDED, SERIES, SERIES_FOLDED};

/// An interval was taken.
#[derive(Debug)]
pub(super) struct IntervalTaken<'a> {
    pub(super) counts: &'a IntervalCounts,
    /// The names with the most series, most first.
    pub(super) worst: &'a [NameCount],
    /// The cap; 0 is none.
    pub(super) max_series: usize,
}

impl IntervalTaken<'_> {
    pub(super) fn emit(self) {
        SERIES.set(self.counts.series as f64);
        if self.counts.folded == 0 {
            return;
        }
        FOLDED.increment(self.counts.folded);
        SERIES_FOLDED.increment(self.counts.folded_series);
        warn!(
            max_series = self.max_series,
            folded = self.counts.folded,
            folded_series = self.counts.folded_series,
            "more series than max_series: new ones lost their tags; {}",
            shown(self.worst)
        );
    }
}

/// Names come from peers, and may be long and of any characters.
fn shown(worst: &[NameCount]) -> String {
    const LONGEST: usize = 80;
    if worst.is_empty() {
        return "names are so many that none stands out".to_owned();
    }
    let show = |NameCount { name, series }: &NameCount| {
        let start: String = name.chars().take(LONGEST).collect();
        let cut = if start.len() < name.len() { "…" } else { "" };
        format!("{start:?}{cut} ({series})")
    };
    let shown: Vec<_> = worst.iter().map(show).collect();
    format!("the most series have {}", shown.join(", "))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, SharedString, Unit};
    use parking_lot::Mutex;

    use super::*;
    use crate::key::Kind;
    use crate::sample::{Sample, Value};
    use crate::table::{Table, TableConfig};

    /// Counters and gauges by name.
    #[derive(Default)]
    struct Recorded(Mutex<BTreeMap<String, Arc<AtomicU64>>>);

    impl Recorded {
        fn cell(&self, key: &Key) -> Arc<AtomicU64> {
            Arc::clone(self.0.lock().entry(key.name().to_owned()).or_default())
        }

        fn of(&self, name: &str) -> Option<u64> {
            let cells = self.0.lock();
            cells.get(name).map(|cell| cell.load(Ordering::Relaxed))
        }
    }

    impl metrics::Recorder for Recorded {
        fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
        fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
        fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

        fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
            Counter::from_arc(self.cell(key))
        }

        fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
            Gauge::from_arc(self.cell(key))
        }

        fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
            Histogram::noop()
        }
    }

    #[test]
    fn each_interval_tells_its_series_and_what_was_folded() {
        let table = Table::new(TableConfig {
            max_series: 3,
            ..TableConfig::default()
        });
        let mut writer = table.writer();
        let mut interval = |series: u32| {
            for tag in (0..series).chain(0..series) {
                let tags = format!("t:{tag}");
                let sample = Sample {
                    name: b"n",
                    kind: Kind::Counter,
                    tags: Some(tags.as_bytes()),
                    value: Value::Number(1.0),
                    rate: 1.0,
                };
                writer.sample(&sample).unwrap();
            }
            let recorded = Recorded::default();
            metrics::with_local_recorder(&recorded, || table.take());
            let of = |name| recorded.of(name);
            let series = of("table.series").map(f64::from_bits);
            (
                series,
                of("table.folded_total"),
                of("table.series_folded_total"),
            )
        };
        assert_eq!(interval(3), (Some(3.0), None, None));
        assert_eq!(interval(8), (Some(4.0), Some(10), Some(5)));
        assert_eq!(interval(0), (Some(0.0), None, None));
    }

    #[test]
    fn names_are_shown_short_and_escaped() {
        let count = |name: &str| NameCount {
            name: name.into(),
            series: 7,
        };
        let worst = [
            count("a\nb"),
            count(&"ü".repeat(81)),
            count(&"x".repeat(80)),
        ];
        let (cut, whole) = ("ü".repeat(80), "x".repeat(80));
        assert_eq!(
            shown(&worst),
            format!("the most series have \"a\\nb\" (7), \"{cut}\"… (7), \"{whole}\" (7)")
        );
        assert_eq!(shown(&[]), "names are so many that none stands out");
    }
}
