use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use tributary_proto::metricpb::metric::Value as Wire;
use tributary_proto::metricpb::{CounterValue, GaugeValue, HistogramValue, Metric, Type};
use tributary_proto::tdigest::{Centroid, MergingDigestData};

use super::*;
use crate::sample::{Check, Sample, Value};
use crate::table::cap::Cap;
use crate::table::tests::emitted;
use crate::table::{Interval, TableConfig, Writer};

fn capped(max_series: usize) -> std::sync::Arc<Table> {
    Table::new(TableConfig {
        shards: 4,
        max_series,
        ..TableConfig::default()
    })
}

fn send(writer: &mut Writer, name: &str, kind: Kind, tags: &str, value: Value<'_>) {
    let sample = Sample {
        name: name.as_bytes(),
        kind,
        tags: Some(tags.as_bytes()),
        value,
        rate: 1.0,
    };
    writer.sample(&sample).unwrap();
}

fn count(writer: &mut Writer, name: &str, tags: &str, amount: f64) {
    send(writer, name, Kind::Counter, tags, Value::Number(amount));
}

fn imported(name: &str, r#type: Type, value: Wire) -> Metric {
    let mut metric = Metric {
        name: name.to_owned(),
        tags: vec!["from:afar".to_owned()],
        value: Some(value),
        ..Metric::default()
    };
    metric.set_type(r#type);
    metric
}

fn total(name: &str, value: i64) -> Metric {
    imported(name, Type::Counter, Wire::Counter(CounterValue { value }))
}

/// The sum of all counters by name.
fn counters(intervals: impl IntoIterator<Item = Interval>) -> BTreeMap<String, f64> {
    let mut sums = BTreeMap::new();
    for series in intervals.into_iter().flat_map(Interval::into_series) {
        if let Sampler::Counter(sum) = series.sampler {
            *sums.entry(series.key.name().to_string()).or_default() += sum.total();
        }
    }
    sums
}

#[test]
fn over_the_cap_new_series_share_one_of_their_name_and_known_ones_go_on() {
    let table = capped(2);
    let mut writer = table.writer();
    for _ in 0..2 {
        for tag in ["a", "b", "c", "d"] {
            count(&mut writer, "n", tag, 1.0);
        }
    }
    count(&mut writer, "m", "", 1.0);
    let interval = table.take();
    let counts = interval.counts;
    assert_eq!((counts.processed, counts.series), (9, 4));
    assert_eq!((counts.folded, counts.folded_series), (5, 3));
    assert_eq!(
        emitted(interval),
        [
            "m|overflow:true|counter|1",
            "n|a|counter|2",
            "n|b|counter|2",
            "n|overflow:true|counter|4",
        ]
    );
}

#[test]
fn the_next_interval_has_the_whole_cap_again() {
    let table = capped(2);
    let mut writer = table.writer();
    for tags in [["a", "b", "c"], ["c", "d", "a"]] {
        tags.iter()
            .for_each(|tag| count(&mut writer, "n", tag, 1.0));
        let kept: Vec<_> = tags[..2]
            .iter()
            .map(|tag| format!("n|{tag}|counter|1"))
            .collect();
        let points = emitted(table.take());
        assert_eq!(points[..2], kept);
        assert_eq!(points[2], "n|overflow:true|counter|1");
    }
}

#[test]
fn each_kind_is_merged_in_its_overflow_series_by_its_own_rule() {
    let table = capped(1);
    let mut writer = table.writer();
    count(&mut writer, "first", "", 1.0);
    for (tag, value) in [("a", 1.0), ("b", 5.0), ("c", 3.0)] {
        send(&mut writer, "g", Kind::Gauge, tag, Value::Number(value));
        send(&mut writer, "t", Kind::Timer, tag, Value::Number(value));
        send(
            &mut writer,
            "s",
            Kind::Set,
            tag,
            Value::Member(tag.as_bytes()),
        );
        let check = Check {
            status: value as u8 % 4,
            message: tag,
            hostname: None,
            timestamp: None,
        };
        send(&mut writer, "sc", Kind::Status, tag, Value::Status(check));
    }
    let points = emitted(table.take());
    for expected in [
        "g|overflow:true|gauge|3",
        "s|overflow:true|gauge|3",
        "sc|overflow:true|status|3",
        "t.count|overflow:true|counter|3",
        "t.max|overflow:true|gauge|5",
        "t.min|overflow:true|gauge|1",
        "t.sum|overflow:true|gauge|9",
    ] {
        assert!(
            points.iter().any(|point| point == expected),
            "{expected}: {points:?}"
        );
    }
}

#[test]
fn kinds_and_scopes_of_a_name_overflow_apart() {
    let table = capped(1);
    let mut writer = table.writer();
    for tags in ["a", "b", "veneurglobalonly,c", "veneurglobalonly,d"] {
        count(&mut writer, "n", tags, 1.0);
        send(&mut writer, "n", Kind::Gauge, tags, Value::Number(1.0));
    }
    let mut overflow: Vec<_> = table
        .take()
        .into_series()
        .filter(|series| series.key.tags().joined() == OVERFLOW_TAG)
        .map(|series| (series.key.kind(), series.key.scope()))
        .collect();
    overflow.sort();
    assert_eq!(
        overflow,
        [
            (Kind::Counter, Scope::Mixed),
            (Kind::Counter, Scope::Global),
            (Kind::Gauge, Scope::Mixed),
            (Kind::Gauge, Scope::Global),
        ]
    );
}

#[test]
fn imports_are_folded_too_and_a_refused_one_leaves_nothing() {
    let table = capped(1);
    let mut writer = table.writer();
    writer.import(total("first", 1)).unwrap();
    writer.import(total("c", 7)).unwrap();
    writer.import(total("c", 8)).unwrap();
    let level = Wire::Gauge(GaugeValue { value: 2.5 });
    writer.import(imported("g", Type::Gauge, level)).unwrap();
    let digest = |mean| {
        Wire::Histogram(HistogramValue {
            t_digest: Some(MergingDigestData {
                main_centroids: vec![Centroid {
                    mean,
                    weight: 2.0,
                    samples: Vec::new(),
                }],
                compression: 100.0,
                min: 4.0,
                max: 4.0,
                reciprocal_sum: 0.5,
            }),
        })
    };
    let bad = imported("bad", Type::Timer, digest(f64::NAN));
    writer.import(bad).unwrap_err();
    let good = imported("t", Type::Timer, digest(4.0));
    writer.import(good).unwrap();

    let interval = table.take();
    let counts = interval.counts;
    assert_eq!((counts.imported, counts.imports_refused), (5, 1));
    assert_eq!((counts.series, counts.folded), (4, 4));
    let points = emitted(interval);
    assert!(points.iter().all(|point| !point.starts_with("bad")));
    for expected in [
        "c|overflow:true|counter|15",
        "first|from:afar|counter|1",
        "g|overflow:true|gauge|2.5",
        "t.50percentile|overflow:true|gauge|4",
    ] {
        assert!(
            points.iter().any(|point| point == expected),
            "{expected}: {points:?}"
        );
    }
}

#[test]
fn names_without_number_end_in_the_last_resort() {
    const NAMES: usize = 500;
    let table = capped(10);
    let mut writer = table.writer();
    for number in 0..NAMES {
        count(&mut writer, &format!("n{number:03}"), "a", 1.0);
    }
    let overflow = Cap::overflow_limit(10);
    let interval = table.take();
    assert_eq!(interval.len(), 10 + overflow + 1);
    let rest = NAMES - 10 - overflow;
    let points = emitted(interval);
    assert_eq!(points[0], "n000|a|counter|1");
    assert_eq!(points[10], "n010|overflow:true|counter|1");
    assert_eq!(
        *points.last().unwrap(),
        format!("tributary.overflow|overflow:true|counter|{rest}")
    );
}

#[test]
fn an_overflow_series_that_somebody_sends_is_the_overflow_series_and_bounded_like_it() {
    let table = capped(1);
    let mut writer = table.writer();
    count(&mut writer, "n", "overflow:true", 1.0);
    count(&mut writer, "n", "a", 1.0);
    count(&mut writer, "n", "b", 1.0);
    assert_eq!(
        emitted(table.take()),
        ["n|a|counter|1", "n|overflow:true|counter|2"]
    );
    for number in 0..100 {
        count(&mut writer, &format!("n{number}"), "overflow:true", 1.0);
    }
    assert_eq!(table.take().len(), Cap::overflow_limit(1) + 1);
}

#[test]
fn the_worst_names_are_those_of_the_last_whole_interval() {
    let table = capped(5);
    let mut writer = table.writer();
    for number in 0..40 {
        count(&mut writer, "bad", &format!("n:{number}"), 1.0);
        count(&mut writer, "good", "", 1.0);
    }
    assert!(table.worst_names().is_empty());
    table.take();
    let worst = table.worst_names();
    let worst: Vec<_> = worst.iter().map(|w| (&*w.name, w.series)).collect();
    assert_eq!(worst, [("bad", 40), ("good", 1)]);
    table.take();
    assert!(table.worst_names().is_empty());
}

#[test]
fn writers_that_race_for_the_last_room_never_exceed_the_cap() {
    const WRITERS: usize = 4;
    const SERIES: usize = 5_000;
    const CAP: usize = 3_000;
    let table = capped(CAP);
    let running = AtomicUsize::new(WRITERS);
    let mut intervals = Vec::new();
    thread::scope(|scope| {
        for number in 0..WRITERS {
            let (table, running) = (&table, &running);
            scope.spawn(move || {
                let mut writer = table.writer();
                for series in 0..SERIES {
                    count(&mut writer, "n", &format!("w:{number},s:{series}"), 1.0);
                }
                running.fetch_sub(1, Ordering::Release);
            });
        }
        while running.load(Ordering::Acquire) > 0 {
            intervals.push(table.take());
        }
    });
    // Nobody races any more: exactly the cap.
    let mut writer = table.writer();
    intervals.push(table.take());
    for series in 0..2 * CAP {
        count(&mut writer, "n", &format!("s:{series}"), 1.0);
    }
    let last = table.take();
    assert_eq!(last.len(), CAP + 1);
    intervals.push(last);
    assert!(intervals.iter().all(|interval| interval.len() <= CAP + 1));
    let sent = WRITERS * SERIES + 2 * CAP;
    assert_eq!(counters(intervals)["n"], sent as f64);
}

mod properties {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn totals_are_right_under_any_cap(
            max_series in 0..30usize,
            steps in vec((0..40usize, 0..6usize, -1_000_000i64..1_000_000, 0..3u8, any::<bool>()), 1..300),
        ) {
            let table = Table::new(TableConfig {
                shards: 2,
                cached_keys: 3,
                max_series,
                ..TableConfig::default()
            });
            let mut writer = table.writer();
            let (mut sent, mut timed, mut accepted) = (0, 0.0, 0);
            let mut intervals = Vec::new();
            for (name, tag, amount, how, take) in steps {
                let (name, tags) = (format!("n{name}"), format!("t:{tag}"));
                match how {
                    0 => count(&mut writer, &name, &tags, amount as f64),
                    1 => writer.import(total(&name, amount)).unwrap(),
                    _ => send(&mut writer, &name, Kind::Timer, &tags, Value::Number(1.0)),
                }
                if how == 2 { timed += 1.0 } else { sent += amount }
                accepted += 1;
                if take && amount % 50 == 0 {
                    intervals.push(table.take());
                }
            }
            intervals.push(table.take());

            let (mut total, mut weight, mut merged) = (0.0, 0.0, 0);
            for interval in intervals {
                let counts = interval.counts;
                let bound = match max_series {
                    0 => usize::MAX,
                    // Two kinds, one of them in two scopes, at the end of the line.
                    cap => cap + Cap::overflow_limit(cap) + 3,
                };
                prop_assert!(interval.len() <= bound);
                prop_assert!(max_series > 0 || counts.folded == 0);
                prop_assert!(counts.folded_series <= counts.folded);
                prop_assert_eq!(counts.series, interval.len() as u64);
                merged += counts.processed + counts.imported;
                for series in interval.into_series() {
                    match series.sampler {
                        Sampler::Counter(sum) => total += sum.total(),
                        Sampler::Distribution(distribution) => weight += distribution.digest.count(),
                        other => prop_assert!(false, "{:?}", other),
                    }
                }
            }
            prop_assert_eq!((total, weight, merged), (sent as f64, timed, accepted));
        }
    }
}
