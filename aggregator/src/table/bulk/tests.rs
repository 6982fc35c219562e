use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::key::Kind;
use crate::sample::{Check, Value};
use crate::table::{Interval, Table, TableConfig};

/// A sample's parts, to be borrowed from.
#[derive(Debug, Clone)]
struct Parts {
    name: Vec<u8>,
    kind: Kind,
    tags: Option<Vec<u8>>,
    number: f64,
    member: Option<Vec<u8>>,
    rate: f64,
}

impl Parts {
    fn sample(&self) -> Sample<'_> {
        let value = match (self.kind, &self.member) {
            (Kind::Status, _) => Value::Status(Check {
                status: 1,
                message: "m",
                hostname: None,
                timestamp: None,
            }),
            (_, Some(member)) => Value::Member(member),
            (_, None) => Value::Number(self.number),
        };
        Sample {
            name: &self.name,
            kind: self.kind,
            tags: self.tags.as_deref(),
            value,
            rate: self.rate,
        }
    }
}

/// Few names and tags, so that series come again and again, in several spellings; some are refused.
fn parts() -> impl Strategy<Value = Parts> {
    let kinds = [
        Kind::Counter,
        Kind::Gauge,
        Kind::Histogram,
        Kind::Timer,
        Kind::Set,
        Kind::Status,
    ];
    let name = prop_oneof![
        9 => prop::sample::select(vec!["a", "ab", "b", ""]).prop_map(|n| n.as_bytes().to_vec()),
        1 => Just(vec![0xff]),
    ];
    let tags = prop::sample::select(vec!["", "b", "x:1,y:2", "y:2,x:1", "veneurglobalonly,x:1"]);
    (
        name,
        prop::sample::select(kinds.to_vec()),
        prop::option::of(tags.prop_map(|tags| tags.as_bytes().to_vec())),
        prop_oneof![20 => -1e6..1e6, 1 => Just(f64::NAN)],
        any::<bool>(),
        prop_oneof![20 => Just(1.0), 5 => Just(0.1), 1 => Just(0.0), 1 => Just(1e-300)],
    )
        .prop_map(|(name, kind, tags, number, odd, rate)| Parts {
            name,
            kind,
            tags,
            number,
            // A wrong one now and then.
            member: ((kind == Kind::Set) != (odd && number > 9e5))
                .then(|| number.to_string().into_bytes()),
            rate,
        })
}

fn shown(interval: &Interval) -> (BTreeMap<String, String>, String) {
    let series = interval.series().map(|series| {
        let key = format!("{:?}", series.key);
        (key, format!("{:?} {}", series.sampler, series.merged))
    });
    (series.collect(), format!("{:?}", interval.counts))
}

proptest! {
    #[test]
    fn samples_at_once_are_what_they_are_one_by_one(
        intervals in prop::collection::vec(
            prop::collection::vec(prop::collection::vec(parts(), 0..40), 0..6), 1..4),
        max_series in prop::sample::select(vec![0, 1000, 3]),
        cached_keys in prop::sample::select(vec![1000, 2]),
        shards in prop::sample::select(vec![1, 2, 64]),
    ) {
        let config = || TableConfig { max_series, cached_keys, shards, ..TableConfig::default() };
        let (bulk, single) = (Table::new(config()), Table::new(config()));
        let (mut bulk_writer, mut single_writer) = (bulk.writer(), single.writer());
        for batches in intervals {
            for batch in batches {
                let samples: Vec<_> = batch.iter().map(Parts::sample).collect();
                let mut refused = Vec::new();
                bulk_writer.samples(&samples, |place, error| refused.push((place, error)));
                refused.sort_by_key(|(place, _)| *place);
                let mut expected = Vec::new();
                for (place, sample) in samples.iter().enumerate() {
                    if let Err(error) = single_writer.sample(sample) {
                        expected.push((place, error));
                    }
                }
                prop_assert_eq!(refused, expected);
            }
            let (taken, expected) = (bulk.take(), single.take());
            // Over the cap it is up to the order of different series which of them find room.
            if max_series == 3 {
                prop_assert_eq!(taken.counts.processed, expected.counts.processed);
                prop_assert_eq!(taken.counts.samples_refused, expected.counts.samples_refused);
            } else {
                prop_assert_eq!(shown(&taken), shown(&expected));
            }
        }
    }
}

#[test]
fn writers_at_the_same_time_lose_nothing() {
    const ROUNDS: usize = 500;
    let table = Table::new(TableConfig {
        shards: 4,
        ..TableConfig::default()
    });
    let names: Vec<String> = (0..100).map(|number| format!("n{number}")).collect();
    let taken = std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let samples: Vec<_> = names
                    .iter()
                    .map(|name| Sample {
                        name: name.as_bytes(),
                        kind: Kind::Counter,
                        tags: None,
                        value: Value::Number(1.0),
                        rate: 1.0,
                    })
                    .collect();
                let mut writer = table.writer();
                for _ in 0..ROUNDS {
                    writer.samples(&samples, |place, error| panic!("{place}: {error}"));
                }
            });
        }
        // Intervals end meanwhile.
        (0..20).map(|_| table.take().counts.processed).sum::<u64>()
    });
    let rest = table.take().counts.processed;
    assert_eq!(taken + rest, (3 * ROUNDS * names.len()) as u64);
}
