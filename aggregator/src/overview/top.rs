//! The names with the most series and the most samples, and the tags that make so many.
//!
//! The table's census knows the names with the most series at no cost. The exact numbers take a walk over each interval's series (about 60 ns a
//! series, on the thread that computes the flush) and are made for two minutes after somebody asked.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hashbrown::HashMap;
use parking_lot::Mutex;
use serde::Serialize;

use super::short;
use crate::key::Tags;
use crate::sketch::HyperLogLog;
use crate::table::{Interval, NameCount};

/// How long flushes count after somebody asked.
const WANTED_FOR: Duration = Duration::from_secs(120);

/// Names that are told.
const TOLD: usize = 15;

/// Names that are told apart, 64 bytes each. The order in which series come is that of their hashes, so one with many series is met early.
const NAMES: usize = 1 << 16;

/// Tag keys that are told apart for one name, 8 kB each at most.
const TAG_KEYS: usize = 32;

/// What the last flush counted, and until when flushes do.
#[derive(Debug, Default)]
pub(super) struct Top(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    wanted_until: Option<Instant>,
    counted: Option<Arc<Counted>>,
}

/// One interval, counted.
#[derive(Debug, Serialize)]
struct Counted {
    /// The interval's, in seconds since the Unix epoch.
    timestamp: i64,
    /// Different names; no more than 65536 are told apart.
    names: usize,
    /// The names with the most series, most first.
    by_series: Vec<Name>,
    /// The names with the most samples and imports, most first.
    by_samples: Vec<Name>,
}

#[derive(Debug, Clone, Serialize)]
struct Name {
    name: String,
    series: u64,
    /// Samples and imports.
    samples: u64,
    /// Keys of tags by how many different values they have, most first; the key of words without a colon is empty. Estimated to about 1 %.
    tags: Vec<TagKey>,
}

#[derive(Debug, Clone, Serialize)]
struct TagKey {
    key: String,
    values: u64,
}

/// What `/api/top` answers.
#[derive(Debug, Serialize)]
pub(super) struct Answer {
    /// The last interval that was counted; none before the first flush after the first question.
    counted: Option<Arc<Counted>>,
    /// The names with the most series of the last interval; estimates where there are thousands.
    census: Vec<CensusName>,
}

#[derive(Debug, Serialize)]
struct CensusName {
    name: String,
    series: u64,
}

#[derive(Default, Clone, Copy)]
struct Tally {
    series: u64,
    samples: u64,
}

impl Top {
    /// Counts an interval if somebody wants to know.
    pub(super) fn look(&self, interval: &Interval, timestamp: i64) {
        let wanted = {
            let mut state = self.0.lock();
            let wanted = state
                .wanted_until
                .is_some_and(|until| Instant::now() < until);
            if !wanted {
                // Old numbers would be taken for new ones.
                state.counted = None;
            }
            wanted
        };
        if wanted {
            let counted = Arc::new(count(interval, timestamp));
            self.0.lock().counted = Some(counted);
        }
    }

    /// What is known; flushes count from now on for some time.
    pub(super) fn answer(&self, census: &[NameCount]) -> Answer {
        let mut state = self.0.lock();
        state.wanted_until = Some(Instant::now() + WANTED_FOR);
        Answer {
            counted: state.counted.clone(),
            census: census
                .iter()
                .map(|NameCount { name, series }| CensusName {
                    name: short(name),
                    series: *series,
                })
                .collect(),
        }
    }
}

fn count(interval: &Interval, timestamp: i64) -> Counted {
    let mut names: HashMap<&str, Tally> = HashMap::new();
    for series in interval.series() {
        let name: &str = series.key.name();
        let full = names.len() >= NAMES;
        let tally = match names.get_mut(name) {
            Some(tally) => tally,
            None if full => continue,
            None => names.entry(name).or_default(),
        };
        tally.series += 1;
        tally.samples += u64::from(series.merged);
    }
    let most = |by: fn(&Tally) -> u64| {
        let mut order: Vec<(&str, Tally)> =
            names.iter().map(|(name, tally)| (*name, *tally)).collect();
        order.sort_unstable_by(|a, b| by(&b.1).cmp(&by(&a.1)).then(a.0.cmp(b.0)));
        order.truncate(TOLD);
        order
    };
    let by_series = most(|tally| tally.series);
    let by_samples = most(|tally| tally.samples);
    let told = by_series.iter().chain(&by_samples);
    let mut tags: HashMap<&str, BTreeMap<&str, HyperLogLog>> = told
        .filter(|(_, tally)| tally.series > 1)
        .map(|(name, _)| (*name, BTreeMap::new()))
        .collect();
    if !tags.is_empty() {
        for series in interval.series() {
            if let Some(keys) = tags.get_mut(&**series.key.name()) {
                note_tags(keys, series.key.tags());
            }
        }
    }
    let tags: HashMap<&str, Vec<TagKey>> = tags
        .into_iter()
        .map(|(name, keys)| (name, ranked(keys)))
        .collect();
    let told = |order: Vec<(&str, Tally)>| -> Vec<Name> {
        let told = order.into_iter().map(|(name, tally)| Name {
            name: short(name),
            series: tally.series,
            samples: tally.samples,
            tags: tags.get(name).cloned().unwrap_or_default(),
        });
        told.collect()
    };
    Counted {
        timestamp,
        by_series: told(by_series),
        by_samples: told(by_samples),
        names: names.len(),
    }
}

fn note_tags<'a>(keys: &mut BTreeMap<&'a str, HyperLogLog>, tags: &'a Tags) {
    for tag in tags.iter() {
        let (key, value) = tag.split_once(':').unwrap_or(("", tag));
        let full = keys.len() >= TAG_KEYS;
        match keys.get_mut(key) {
            Some(values) => values.insert(value.as_bytes()),
            None if full => {}
            None => keys.entry(key).or_default().insert(value.as_bytes()),
        }
    }
}

fn ranked(keys: BTreeMap<&str, HyperLogLog>) -> Vec<TagKey> {
    let keys = keys.into_iter().map(|(key, mut values)| TagKey {
        key: short(key),
        values: values.estimate(),
    });
    let mut keys: Vec<_> = keys.collect();
    keys.sort_by_key(|key| std::cmp::Reverse(key.values));
    keys.truncate(5);
    keys
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::Kind;
    use crate::sample::{Sample, Value};
    use crate::table::{Table, TableConfig};

    fn send(table: &Arc<Table>, name: &str, tags: &str) {
        let sample = Sample {
            name: name.as_bytes(),
            kind: Kind::Counter,
            tags: Some(tags.as_bytes()),
            value: Value::Number(1.0),
            rate: 1.0,
        };
        table.writer().sample(&sample).unwrap();
    }

    #[test]
    fn the_name_with_most_series_is_told_with_the_tag_that_makes_them() {
        let table = Table::new(TableConfig::default());
        for user in 0..200 {
            send(
                &table,
                "exploding",
                &format!("env:prod,user:{user},host:h{}", user % 3),
            );
        }
        (0..500).for_each(|_| send(&table, "busy", "env:prod"));
        let top = Top::default();
        top.look(&table.take(), 1);
        assert!(top.answer(&[]).counted.is_none(), "nobody had asked");

        for user in 0..200 {
            send(
                &table,
                "exploding",
                &format!("env:prod,user:{user},host:h{}", user % 3),
            );
        }
        (0..500).for_each(|_| send(&table, "busy", "env:prod"));
        top.look(&table.take(), 2);
        let counted = top.answer(&[]).counted.unwrap();
        assert_eq!((counted.timestamp, counted.names), (2, 2));
        let worst = &counted.by_series[0];
        assert_eq!((worst.name.as_str(), worst.series), ("exploding", 200));
        let keys: Vec<_> = worst
            .tags
            .iter()
            .map(|tag| (tag.key.as_str(), tag.values))
            .collect();
        assert_eq!(keys, [("user", 200), ("host", 3), ("env", 1)]);
        let busiest = &counted.by_samples[0];
        assert_eq!((busiest.name.as_str(), busiest.samples), ("busy", 500));
    }
}
