use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use super::*;
use crate::flush::{Aggregate, FlushSettings, Percentiles, Role, emit};
use crate::key::Kind;
use crate::point::Point;
use crate::sample::{Check, Sample, Value};

fn number(name: &str, kind: Kind, value: f64) -> Sample<'_> {
    Sample {
        name: name.as_bytes(),
        kind,
        tags: None,
        value: Value::Number(value),
        rate: 1.0,
    }
}

/// What a global emits of an interval: name, tags, kind and value of each point, sorted.
pub(super) fn emitted(interval: Interval) -> Vec<String> {
    let settings = FlushSettings {
        role: Role::Global,
        percentiles: Percentiles::new(&[0.5, 0.99]).unwrap(),
        aggregates: Aggregate::ALL.into_iter().collect(),
        distributions: false,
        timestamp: 1_700_000_000,
    };
    let line = |point: &Point| {
        format!(
            "{}|{}|{}|{}",
            point.name(),
            point.tags,
            point.kind.as_str(),
            point.value
        )
    };
    let mut lines: Vec<_> = emit(interval, &settings).points.iter().map(line).collect();
    lines.sort();
    lines
}

#[test]
fn each_kind_is_merged_by_its_own_rule() {
    let table = Table::new(TableConfig::default());
    let mut writer = table.writer();
    for value in [1.0, 4.0] {
        writer.sample(&number("c", Kind::Counter, value)).unwrap();
        writer.sample(&number("g", Kind::Gauge, value)).unwrap();
    }
    let scaled = Sample {
        rate: 0.1,
        ..number("c", Kind::Counter, 1.0)
    };
    writer.sample(&scaled).unwrap();
    let rated_gauge = Sample {
        rate: 0.1,
        ..number("g", Kind::Gauge, 7.0)
    };
    writer.sample(&rated_gauge).unwrap();
    for member in [b"a", b"b", b"a"] {
        let sample = Sample {
            value: Value::Member(member),
            ..number("s", Kind::Set, 0.0)
        };
        writer.sample(&sample).unwrap();
    }
    for status in [2, 1] {
        let check = Check {
            status,
            message: "busy",
            hostname: None,
            timestamp: None,
        };
        let sample = Sample {
            value: Value::Status(check),
            ..number("sc", Kind::Status, 0.0)
        };
        writer.sample(&sample).unwrap();
    }
    let interval = table.take();
    assert_eq!((interval.counts.processed, interval.counts.series), (11, 4));
    assert_eq!(
        emitted(interval),
        ["c||counter|15", "g||gauge|7", "sc||status|1", "s||gauge|2"]
    );
}

#[test]
fn an_interval_ends_with_its_take() {
    let table = Table::new(TableConfig::default());
    let mut writer = table.writer();
    writer.sample(&number("c", Kind::Counter, 1.0)).unwrap();
    let first = table.take();
    writer.sample(&number("c", Kind::Counter, 2.0)).unwrap();
    let second = table.take();
    assert_eq!(first.ended, second.started);
    assert_eq!(emitted(first), ["c||counter|1"]);
    assert_eq!(emitted(second), ["c||counter|2"]);
    assert!(table.take().is_empty());
}

#[test]
fn a_refused_sample_is_counted_and_leaves_no_series() {
    let table = Table::new(TableConfig::default());
    let mut writer = table.writer();
    let good = number("a", Kind::Timer, 1.0);
    let (nan, nothing) = (f64::NAN, f64::INFINITY);
    let cases = [
        (
            Sample {
                name: b"\xff",
                ..good
            },
            "invalid_utf8",
        ),
        (
            Sample {
                tags: Some(b"\xff"),
                ..good
            },
            "invalid_utf8",
        ),
        (Sample { name: b"", ..good }, "empty_name"),
        (
            Sample {
                value: Value::Number(nan),
                ..good
            },
            "not_finite",
        ),
        (
            Sample {
                value: Value::Number(nothing),
                ..good
            },
            "not_finite",
        ),
        (
            Sample {
                value: Value::Member(b"a"),
                ..good
            },
            "type_mismatch",
        ),
        (
            Sample {
                kind: Kind::Set,
                ..good
            },
            "type_mismatch",
        ),
        (Sample { rate: 0.0, ..good }, "rate"),
        (Sample { rate: 1.5, ..good }, "rate"),
        (Sample { rate: nan, ..good }, "rate"),
        (
            Sample {
                rate: 1e-42,
                ..good
            },
            "rate",
        ),
    ];
    for (sample, cause) in &cases {
        assert_eq!(
            writer.sample(sample).unwrap_err().cause(),
            *cause,
            "{sample:?}"
        );
    }
    let interval = table.take();
    assert!(interval.is_empty());
    assert_eq!(
        (interval.counts.processed, interval.counts.samples_refused),
        (0, cases.len() as u64)
    );
}

#[test]
fn events_are_extended_and_bounded() {
    let event = Event {
        title: "deploy".into(),
        text: String::new(),
        timestamp: 1,
        hostname: None,
        aggregation_key: None,
        priority: "normal",
        source_type: None,
        alert_type: "info",
        tags: vec!["foo:orig".into(), "a:1".into()],
    };
    let table = Table::new(TableConfig {
        extend_tags: vec!["foo:ext".into()],
        max_events: 1,
        ..TableConfig::default()
    });
    let mut writer = table.writer();
    writer.event(event.clone());
    writer.event(event);
    let interval = table.take();
    assert_eq!(interval.events.len(), 1);
    assert_eq!(interval.events[0].tags, ["a:1", "foo:ext"]);
    assert_eq!(interval.counts.events_dropped, 1);
}

#[test]
fn spellings_of_one_key_share_a_series_over_all_writers() {
    let table = Table::new(TableConfig::default());
    for tags in [&b"b:2,a:1"[..], b"a:1,b:2", b"a:1,veneurlocalonly,b:2"] {
        let sample = Sample {
            tags: Some(tags),
            ..number("c", Kind::Counter, 1.0)
        };
        table.writer().sample(&sample).unwrap();
    }
    assert_eq!(emitted(table.take()), ["c|a:1,b:2|counter|3"]);
}

#[test]
fn nothing_is_lost_or_counted_twice_while_intervals_are_taken() {
    const WRITERS: usize = 4;
    const SAMPLES: usize = 20_000;
    let table = Table::new(TableConfig {
        shards: 8,
        cached_keys: 50,
        ..TableConfig::default()
    });
    let running = AtomicUsize::new(WRITERS);
    let takes = AtomicUsize::new(0);
    let mut intervals = Vec::new();
    thread::scope(|scope| {
        for _ in 0..WRITERS {
            scope.spawn(|| {
                let mut writer = table.writer();
                for round in 0..SAMPLES {
                    // However the threads are scheduled, writers run before, between and after takes.
                    while takes.load(Ordering::Acquire) < round * 3 / SAMPLES {
                        thread::yield_now();
                    }
                    let name = format!("c{}", round % 100);
                    writer.sample(&number(&name, Kind::Counter, 3.0)).unwrap();
                    writer.sample(&number("t", Kind::Timer, 1.0)).unwrap();
                }
                running.fetch_sub(1, Ordering::Release);
            });
        }
        while running.load(Ordering::Acquire) > 0 {
            intervals.push(table.take());
            takes.fetch_add(1, Ordering::Release);
        }
    });
    intervals.push(table.take());
    let (mut processed, mut total, mut timed) = (0, 0.0, 0.0);
    for interval in intervals {
        processed += interval.counts.processed;
        for series in interval.into_series() {
            match series.sampler {
                Sampler::Counter(sum) => total += sum.total(),
                Sampler::Distribution(distribution) => timed += distribution.digest.count(),
                other => panic!("{other:?}"),
            }
        }
    }
    assert_eq!(processed, 2 * (WRITERS * SAMPLES) as u64);
    assert_eq!(
        (total, timed),
        ((3 * WRITERS * SAMPLES) as f64, (WRITERS * SAMPLES) as f64)
    );
}

mod properties {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn counters_are_conserved_over_writers_and_takes(
            steps in vec((0..3usize, 0..5usize, -1_000_000_000i64..1_000_000_000, any::<bool>()), 1..200)
        ) {
            let table = Table::new(TableConfig { shards: 2, cached_keys: 2, ..TableConfig::default() });
            let mut writers: Vec<_> = (0..3).map(|_| table.writer()).collect();
            let mut taken = 0.0;
            let mut expected = 0;
            let mut add_up = |interval: Interval| {
                for series in interval.into_series() {
                    if let Sampler::Counter(sum) = series.sampler {
                        taken += sum.total();
                    }
                }
            };
            for (writer, name, amount, take) in steps {
                let name = format!("c{name}");
                writers[writer].sample(&number(&name, Kind::Counter, amount as f64)).unwrap();
                expected += amount;
                if take {
                    add_up(table.take());
                }
            }
            add_up(table.take());
            prop_assert_eq!(taken, expected as f64);
        }

        #[test]
        fn no_name_and_no_tags_panic(name in vec(any::<u8>(), 0..20), tags in vec(any::<u8>(), 0..40), extend in vec(".{0,5}", 0..3)) {
            let table = Table::new(TableConfig { extend_tags: extend, ..TableConfig::default() });
            let sample = Sample { name: &name, tags: Some(&tags), ..number("", Kind::Counter, 1.0) };
            let taken = table.writer().sample(&sample).is_ok();
            prop_assert_eq!(table.take().len(), usize::from(taken));
        }
    }
}
