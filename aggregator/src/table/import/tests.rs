use std::sync::Arc;

use tributary_proto::metricpb::{
    CounterValue, GaugeValue, HistogramValue, Scope as WireScope, SetValue,
};
use tributary_proto::tdigest::{Centroid, MergingDigestData};

use super::*;
use crate::table::tests::emitted;
use crate::table::{Table, TableConfig};

fn metric(name: &str, r#type: Type, scope: WireScope, value: Option<Value>) -> Metric {
    let mut metric = Metric {
        name: name.to_owned(),
        value,
        ..Metric::default()
    };
    metric.set_type(r#type);
    metric.set_scope(scope);
    metric
}

fn counter(value: i64) -> Option<Value> {
    Some(Value::Counter(CounterValue { value }))
}

fn gauge(value: f64) -> Option<Value> {
    Some(Value::Gauge(GaugeValue { value }))
}

fn data(centroids: &[(f64, f64)], min: f64, max: f64) -> MergingDigestData {
    let centroid = |&(mean, weight)| Centroid {
        mean,
        weight,
        samples: Vec::new(),
    };
    MergingDigestData {
        main_centroids: centroids.iter().map(centroid).collect(),
        compression: 100.0,
        min,
        max,
        reciprocal_sum: 1.0,
    }
}

fn digest(data: MergingDigestData) -> Option<Value> {
    Some(Value::Histogram(HistogramValue {
        t_digest: Some(data),
    }))
}

fn set_bytes(members: &[&str]) -> Vec<u8> {
    let mut sketch = HyperLogLog::default();
    members
        .iter()
        .for_each(|member| sketch.insert(member.as_bytes()));
    sketch.to_bytes()
}

fn set(bytes: Vec<u8>) -> Option<Value> {
    Some(Value::Set(SetValue {
        hyper_log_log: bytes.into(),
    }))
}

/// One well-formed metric of each type.
fn good() -> Vec<Metric> {
    vec![
        metric("c", Type::Counter, WireScope::Global, counter(5)),
        metric("g", Type::Gauge, WireScope::Global, gauge(2.5)),
        metric(
            "h",
            Type::Histogram,
            WireScope::Mixed,
            digest(data(&[(1.0, 1.0), (3.0, 1.0)], 1.0, 3.0)),
        ),
        metric(
            "t",
            Type::Timer,
            WireScope::Global,
            digest(data(&[(4.0, 2.0)], 3.0, 5.0)),
        ),
        metric(
            "s",
            Type::Set,
            WireScope::Mixed,
            set(set_bytes(&["a", "b"])),
        ),
    ]
}

/// One metric for each way to be malformed, with its cause.
fn malformed() -> Vec<(Metric, &'static str)> {
    let histogram = |data| metric("h", Type::Histogram, WireScope::Mixed, digest(data));
    let centroid = |mean, weight| histogram(data(&[(1.0, 1.0), (mean, weight)], 1.0, 3.0));
    let (nan, inf) = (f64::NAN, f64::INFINITY);
    let numbered = |mut metric: Metric, r#type, scope| {
        metric.r#type = r#type;
        metric.scope = scope;
        metric
    };
    let one = || digest(data(&[(1.0, 1.0)], 1.0, 1.0));
    let whole = set_bytes(&["a", "b"]);
    let mut other_precision = HyperLogLog::default().to_bytes();
    other_precision[1] = 12;
    let mut cases = vec![
        (
            metric("", Type::Counter, WireScope::Global, counter(1)),
            "empty_name",
        ),
        (numbered(good().remove(0), 5, 0), "unknown_type"),
        (numbered(good().remove(0), -1, 0), "unknown_type"),
        (numbered(good().remove(2), 2, 3), "unknown_scope"),
        (
            metric("c", Type::Counter, WireScope::Global, None),
            "missing_value",
        ),
        (
            metric("g", Type::Gauge, WireScope::Global, None),
            "missing_value",
        ),
        (
            metric("s", Type::Set, WireScope::Mixed, None),
            "missing_value",
        ),
        (
            metric("t", Type::Timer, WireScope::Global, None),
            "missing_value",
        ),
        (
            metric(
                "h",
                Type::Histogram,
                WireScope::Global,
                Some(Value::Histogram(HistogramValue { t_digest: None })),
            ),
            "missing_value",
        ),
        (
            metric("g", Type::Gauge, WireScope::Global, counter(1)),
            "type_mismatch",
        ),
        (
            metric("c", Type::Counter, WireScope::Global, gauge(1.0)),
            "type_mismatch",
        ),
        (
            metric("s", Type::Set, WireScope::Mixed, one()),
            "type_mismatch",
        ),
        (
            metric("h", Type::Histogram, WireScope::Mixed, set(whole.clone())),
            "type_mismatch",
        ),
        (
            metric("t", Type::Timer, WireScope::Mixed, gauge(1.0)),
            "type_mismatch",
        ),
        (
            metric("h", Type::Histogram, WireScope::Local, one()),
            "local_scope",
        ),
        (
            metric("t", Type::Timer, WireScope::Local, one()),
            "local_scope",
        ),
        (
            metric("s", Type::Set, WireScope::Local, set(whole.clone())),
            "local_scope",
        ),
        (
            metric("g", Type::Gauge, WireScope::Global, gauge(nan)),
            "not_finite",
        ),
        (
            metric("g", Type::Gauge, WireScope::Global, gauge(-inf)),
            "not_finite",
        ),
        (histogram(data(&[], 1.0, 3.0)), "empty_digest"),
        (centroid(nan, 1.0), "digest_mean"),
        (centroid(inf, 1.0), "digest_mean"),
        (centroid(2.0, 0.0), "digest_weight"),
        (centroid(2.0, -1.0), "digest_weight"),
        (centroid(2.0, nan), "digest_weight"),
        (centroid(2.0, inf), "digest_weight"),
        (
            histogram(data(&[(1.0, f64::MAX), (2.0, f64::MAX)], 1.0, 2.0)),
            "digest_weight_overflow",
        ),
        (histogram(data(&[(1.0, 1.0)], nan, 3.0)), "digest_range"),
        (histogram(data(&[(1.0, 1.0)], 3.0, 1.0)), "digest_range"),
        (
            histogram(MergingDigestData {
                compression: nan,
                ..data(&[(1.0, 1.0)], 1.0, 1.0)
            }),
            "digest_compression",
        ),
        (
            metric("s", Type::Set, WireScope::Mixed, set(other_precision)),
            "set_precision",
        ),
    ];
    let cut = (0..whole.len()).map(|length| (whole[..length].to_vec(), "set_truncated"));
    let longer = ([&whole[..], &[0]].concat(), "set_trailing");
    for (bytes, cause) in cut.chain([longer]) {
        cases.push((metric("s", Type::Set, WireScope::Mixed, set(bytes)), cause));
    }
    cases
}

fn table() -> Arc<Table> {
    Table::new(TableConfig::default())
}

#[test]
fn each_malformed_metric_is_refused_with_its_cause_and_leaves_no_series() {
    for (metric, cause) in malformed() {
        let table = table();
        let error = table.writer().import(metric.clone()).unwrap_err();
        assert_eq!(error.cause(), cause, "{metric:?}");
        let interval = table.take();
        assert!(interval.is_empty(), "{metric:?}");
        assert_eq!(
            (interval.counts.imported, interval.counts.imports_refused),
            (0, 1)
        );
    }
}

#[test]
fn the_rest_of_a_batch_is_merged_as_if_the_bad_ones_were_not_there() {
    let (alone, among) = (table(), table());
    let mut writer = alone.writer();
    for metric in good() {
        writer.import(metric).unwrap();
    }
    let mut writer = among.writer();
    let mut bad = malformed().into_iter();
    for metric in good() {
        for (malformed, _) in bad.by_ref().take(7) {
            writer.import(malformed).unwrap_err();
        }
        writer.import_bytes(&metric.encode_to_vec()).unwrap();
    }
    for (malformed, _) in bad {
        writer.import(malformed).unwrap_err();
    }
    let expected = emitted(alone.take());
    assert!(expected.contains(&"s||gauge|2".to_owned()), "{expected:?}");
    assert_eq!(emitted(among.take()), expected);
}

/// Many series of all types, some of them several times, with bad ones between.
fn load() -> Vec<Vec<u8>> {
    let mut load = Vec::new();
    for round in 0..3 {
        for series in 0..200 {
            let mut metric = good().swap_remove(series % 5);
            metric.tags = vec![format!("z:{}", series / 5), "a:1".to_owned()];
            if let Some(Value::Gauge(gauge)) = &mut metric.value {
                gauge.value = f64::from(round);
            }
            load.push(metric.encode_to_vec());
        }
    }
    load
}

fn merged_as_one_by_one(load: &[Vec<u8>], max_series: usize) {
    let table = || {
        Table::new(TableConfig {
            max_series,
            ..TableConfig::default()
        })
    };
    let (single, batch) = (table(), table());
    let mut writer = single.writer();
    let mut expected: Vec<_> = load
        .iter()
        .map(|bytes| writer.import_bytes(bytes).map_err(|error| error.cause()))
        .collect();
    let mut writer = batch.writer();
    let mut outcomes = Vec::new();
    for part in load.chunks(256) {
        writer.import_batch(part, |outcome| {
            outcomes.push(outcome.map_err(|error| error.cause()));
        });
    }
    expected.sort_unstable();
    outcomes.sort_unstable();
    assert_eq!(outcomes, expected);
    let (single, batch) = (single.take(), batch.take());
    assert_eq!(batch.counts, single.counts);
    assert_eq!(emitted(batch), emitted(single));
}

#[test]
fn a_batch_is_merged_as_its_metrics_are_one_by_one() {
    merged_as_one_by_one(&load(), 0);
}

#[test]
fn a_batch_with_bad_metrics_is_merged_as_its_metrics_are_one_by_one() {
    for (bad, cause) in malformed() {
        let mut load = load();
        load.truncate(250);
        load.insert(7, bad.encode_to_vec());
        load.insert(200, bad.encode_to_vec());
        load.push(b"\x0a\xff".to_vec());
        assert!(load.len() <= 256, "{cause}");
        merged_as_one_by_one(&load, 0);
    }
}

#[test]
fn a_metric_of_a_batch_that_is_not_of_the_usual_form_keeps_its_place() {
    let mut load: Vec<_> = load().into_iter().take(100).collect();
    let mut unusual = metric("g", Type::Gauge, WireScope::Global, gauge(77.0)).encode_to_vec();
    // A field that only a decoder passes over: a group.
    unusual.extend([0x9b, 0x06, 0x9c, 0x06]);
    load.push(unusual);
    load.push(metric("g", Type::Gauge, WireScope::Global, gauge(78.0)).encode_to_vec());
    merged_as_one_by_one(&load, 0);
}

#[test]
fn a_batch_over_the_cap_is_folded_as_its_metrics_are_one_by_one() {
    // Of counters alone: which gauge comes last to an overflow series is nobody's promise.
    let load: Vec<_> = (0..250)
        .map(|series| {
            let mut metric = metric("c", Type::Counter, WireScope::Global, counter(series));
            metric.tags = vec![format!("n:{series}")];
            metric.encode_to_vec()
        })
        .collect();
    let table = Table::new(TableConfig {
        max_series: 10,
        ..TableConfig::default()
    });
    let mut merged = 0;
    table.writer().import_batch(&load, |outcome| {
        outcome.unwrap();
        merged += 1;
    });
    assert_eq!(merged, 250);
    let interval = table.take();
    assert_eq!(
        (interval.counts.imported, interval.counts.series),
        (250, 11)
    );
    assert_eq!(interval.counts.folded, 240);
    let lines = emitted(interval);
    let values = lines
        .iter()
        .filter_map(|line| line.rsplit('|').next()?.parse::<f64>().ok());
    assert_eq!(values.sum::<f64>(), 31_125.0);
}

#[test]
fn a_gauge_that_is_handed_over_gives_way_to_any_other() {
    let table = Table::new(TableConfig::default());
    let mut writer = table.writer();
    let mut value_after = |sent: &[(u64, f64)]| {
        for &(interval, value) in sent {
            let metric = Metric {
                origin: 7,
                flush: 1,
                interval,
                ..metric("g", Type::Gauge, WireScope::Global, gauge(value))
            };
            writer.import(metric).unwrap();
        }
        emitted(table.take())
    };
    assert_eq!(value_after(&[(20_000, 1.0)]), ["g||gauge|1"]);
    assert_eq!(value_after(&[(0, 2.0), (20_000, 1.0)]), ["g||gauge|2"]);
    assert_eq!(value_after(&[(1, 1.0), (0, 2.0)]), ["g||gauge|2"]);
}

#[test]
fn a_gauge_of_an_older_flush_that_comes_late_does_not_take_the_place_of_a_newer_one() {
    let table = Table::new(TableConfig::default());
    let mut writer = table.writer();
    let mut value_after = |sent: &[(u64, u64, f64)]| {
        for &(origin, flush, value) in sent {
            let stamped = Metric {
                origin,
                flush,
                ..metric("g", Type::Gauge, WireScope::Global, gauge(value))
            };
            writer.import(stamped).unwrap();
        }
        emitted(table.take())
    };
    assert_eq!(value_after(&[(7, 3, 30.0), (7, 2, 20.0)]), ["g||gauge|30"]);
    assert_eq!(value_after(&[(7, 2, 20.0), (7, 3, 30.0)]), ["g||gauge|30"]);
    // What comes in the next interval has nothing newer beside it; another sender and one without stamps come last.
    assert_eq!(value_after(&[(7, 1, 10.0)]), ["g||gauge|10"]);
    assert_eq!(value_after(&[(7, 3, 30.0), (8, 1, 1.0)]), ["g||gauge|1"]);
    assert_eq!(value_after(&[(7, 3, 30.0), (0, 0, 5.0)]), ["g||gauge|5"]);
    assert_eq!(
        value_after(&[(7, u64::MAX, 9.0), (7, 3, 30.0)]),
        ["g||gauge|9"]
    );
}

#[test]
fn counters_and_gauges_are_global_whatever_their_scope_says() {
    let table = table();
    let mut writer = table.writer();
    for scope in [WireScope::Mixed, WireScope::Local, WireScope::Global] {
        writer
            .import(metric("c", Type::Counter, scope, counter(1)))
            .unwrap();
        writer
            .import(metric("g", Type::Gauge, scope, gauge(scope as i32 as f64)))
            .unwrap();
    }
    assert_eq!(emitted(table.take()), ["c||counter|3", "g||gauge|2"]);
}

#[test]
fn tags_in_any_order_are_one_series() {
    let table = table();
    let mut writer = table.writer();
    for tags in [&["a:1", "b:2"][..], &["b:2", "a:1"], &["b:2\u{1f}a:1"]] {
        let tags = tags.iter().map(|tag| (*tag).to_owned()).collect();
        let metric = metric("c", Type::Counter, WireScope::Global, counter(1));
        writer.import(Metric { tags, ..metric }).unwrap();
    }
    assert_eq!(emitted(table.take()), ["c|a:1,b:2|counter|3"]);
}

#[test]
fn a_totals_overflow_stays_at_its_end() {
    let table = table();
    let mut writer = table.writer();
    for value in [i64::MAX, 1, 1] {
        writer
            .import(metric(
                "c",
                Type::Counter,
                WireScope::Global,
                counter(value),
            ))
            .unwrap();
    }
    assert_eq!(
        emitted(table.take()),
        [format!("c||counter|{}", i64::MAX as f64)]
    );
}

#[test]
fn a_merge_that_would_overflow_the_weights_leaves_the_series_as_it_was() {
    let table = table();
    let mut writer = table.writer();
    let heavy = || {
        metric(
            "h",
            Type::Histogram,
            WireScope::Mixed,
            digest(data(&[(1.0, 0.6 * DigestError::MAX_WEIGHT)], 1.0, 1.0)),
        )
    };
    writer.import(heavy()).unwrap();
    let error = writer.import(heavy()).unwrap_err();
    assert_eq!(error.cause(), "digest_weight_overflow");
    assert_eq!(
        emitted(table.take()),
        [
            "h.50percentile||gauge|1",
            "h.99percentile||gauge|1",
            "h.median||gauge|1"
        ]
    );
}

#[test]
fn bytes_that_are_no_metric_are_refused() {
    let table = table();
    let mut writer = table.writer();
    assert_eq!(
        writer.import_bytes(b"\x0a\xff").unwrap_err().cause(),
        "decode"
    );
    assert_eq!(
        writer.import_bytes(b"\x0a\x01\xff").unwrap_err().cause(),
        "decode"
    );
    assert_eq!(writer.import_bytes(b"").unwrap_err().cause(), "empty_name");
    assert_eq!(table.take().counts.imports_refused, 3);
}

mod properties {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn bytes() -> impl Strategy<Value = Vec<u8>> {
        let damaged = (
            0..5usize,
            vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
            0..4usize,
        )
            .prop_map(|(which, changes, cut)| {
                let mut bytes = good().remove(which).encode_to_vec();
                for (at, byte) in changes {
                    let at = at.index(bytes.len());
                    bytes[at] = byte;
                }
                bytes.truncate(bytes.len() - cut);
                bytes
            });
        prop_oneof![vec(any::<u8>(), 0..200), damaged]
    }

    proptest! {
        #[test]
        fn any_bytes_are_merged_or_leave_the_table_as_it_was(bytes in bytes()) {
            let (table, untouched) = (table(), table());
            for table in [&table, &untouched] {
                let mut writer = table.writer();
                good().into_iter().for_each(|metric| writer.import(metric).unwrap());
            }
            let merged = table.writer().import_bytes(&bytes).is_ok();
            let interval = table.take();
            prop_assert_eq!(interval.counts.imported, 5 + u64::from(merged));
            let emitted_now = emitted(interval);
            if !merged {
                prop_assert_eq!(emitted_now, emitted(untouched.take()));
            }
        }
    }
}
