//! Which names have how many series.
//!
//! Each shard keeps the few series with the lowest ranks (a rank is a scrambled hash) of all that it was asked for in the interval, whether
//! they found room or not. That is a uniform sample of *different* series: asking for one again changes nothing. From the highest rank kept
//! follows how dense the sample is, and so how many series there are of each name. While a shard has seen no more than it keeps, the
//! numbers are exact; beyond that, a name that has the share `p` of all series is known to about √(1 ÷ (4096 · p)): 5 % for a tenth of them.
//!
//! The costs: a comparison for each series made or folded, and no lock or atomic but the shard's, which is held then anyway.

use std::collections::HashMap;
use std::sync::Arc;

/// How many series are kept over all shards, about.
const KEPT: usize = 4096;

/// How many names are told.
const WORST: usize = 10;

/// Of an estimate that rests on fewer series in the sample nothing is told: each of a million names would seem to have a few hundred.
const FEWEST: u32 = 4;

/// A name and how many different series of it were seen in one interval, those over the cap included. An estimate where there are thousands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NameCount {
    /// The metric's name.
    pub name: Arc<str>,
    /// Different series.
    pub series: u64,
}

/// One shard's sample of the series that it was asked for.
#[derive(Debug)]
pub(super) struct Census {
    /// The lowest ranks, ascending.
    lowest: Vec<Seen>,
    kept: usize,
}

#[derive(Debug)]
struct Seen {
    rank: u64,
    name: Arc<str>,
    folded: bool,
}

impl Census {
    /// One of as many as there are `shards`.
    pub(super) fn new(shards: usize) -> Self {
        Self {
            lowest: Vec::new(),
            kept: (KEPT / shards).max(16),
        }
    }

    /// An empty one of the same size.
    pub(super) fn next(&self) -> Self {
        Self {
            lowest: Vec::new(),
            kept: self.kept,
        }
    }

    /// A series with this hash was asked for: for the first time, or it was folded.
    #[inline]
    pub(super) fn note(&mut self, hash: u64, folded: bool, name: impl FnOnce() -> Arc<str>) {
        let rank = rank(hash);
        let is_full = self.lowest.len() >= self.kept;
        if is_full && self.lowest.last().is_some_and(|last| rank >= last.rank) {
            return;
        }
        let Err(place) = self.lowest.binary_search_by_key(&rank, |seen| seen.rank) else {
            return;
        };
        if is_full {
            self.lowest.pop();
        }
        let name = name();
        self.lowest.insert(place, Seen { rank, name, folded });
    }
}

/// The bits between 40 and 46 chose the shard and are equal in all of it: the free ones come first.
fn rank(hash: u64) -> u64 {
    hash.rotate_left(24)
}

/// The censuses of all shards of one interval, added up.
#[derive(Debug, Default)]
pub(super) struct Summary {
    by_name: HashMap<Arc<str>, Share>,
    folded: f64,
    /// Whether a shard saw more than it kept.
    is_estimate: bool,
}

/// What the sample says of one name.
#[derive(Debug, Default)]
struct Share {
    series: f64,
    sampled: u32,
}

impl Summary {
    pub(super) fn add(&mut self, mut census: Census) {
        // The highest rank tells the density below it, and is no part of what lies below it.
        let density = match census.lowest.len() < census.kept {
            true => 1.0,
            false => {
                self.is_estimate = true;
                census.lowest.pop().map_or(1.0, |highest| {
                    (highest.rank as f64 / u64::MAX as f64).max(f64::MIN_POSITIVE)
                })
            }
        };
        for seen in census.lowest {
            let share = self.by_name.entry(seen.name).or_default();
            share.series += 1.0 / density;
            share.sampled += 1;
            if seen.folded {
                self.folded += 1.0 / density;
            }
        }
    }

    /// How many different series were folded.
    pub(super) fn folded(&self) -> u64 {
        self.folded.round() as u64
    }

    /// The names with the most series, most first. None where no name stands out from thousands.
    pub(super) fn worst(self) -> Arc<[NameCount]> {
        let mut names: Vec<NameCount> = self
            .by_name
            .into_iter()
            .filter(|(_, share)| !self.is_estimate || share.sampled >= FEWEST)
            .map(|(name, share)| NameCount {
                name,
                series: share.series.round() as u64,
            })
            .collect();
        names.sort_unstable_by(|a, b| b.series.cmp(&a.series).then_with(|| a.name.cmp(&b.name)));
        names.truncate(WORST);
        names.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::{Key, Kind, Scope, Tags};

    /// A census of four shards, each series noted `times` times.
    fn summary(names: &[(&str, u32, bool)], times: usize) -> Summary {
        let mut shards: Vec<_> = (0..4).map(|_| Census::new(4)).collect();
        for _ in 0..times {
            for (name, series, folded) in names {
                for number in 0..*series {
                    let tags = Tags::new([format!("n:{number}")]);
                    let key = Key::new(*name, Kind::Counter, tags, Scope::Mixed);
                    let hash = key.hash64();
                    let shard = &mut shards[(hash >> 40) as usize & 3];
                    shard.note(hash, *folded, || Arc::clone(key.name()));
                }
            }
        }
        let mut summary = Summary::default();
        for shard in shards {
            assert!(shard.lowest.len() <= KEPT / 4);
            assert!(shard.lowest.is_sorted_by_key(|seen| seen.rank));
            summary.add(shard);
        }
        summary
    }

    #[test]
    fn few_series_are_counted_exactly_however_often_they_come() {
        let summary = summary(&[("b", 700, false), ("a", 700, true), ("c", 900, false)], 3);
        assert_eq!(summary.folded(), 700);
        let worst = summary.worst();
        let worst: Vec<_> = worst.iter().map(|w| (&*w.name, w.series)).collect();
        assert_eq!(worst, [("c", 900), ("a", 700), ("b", 700)]);
    }

    #[test]
    fn many_series_are_estimated_within_a_few_percent() {
        let summary = summary(
            &[
                ("big", 120_000, true),
                ("mid", 60_000, false),
                ("small", 20_000, true),
            ],
            2,
        );
        let near = |estimate: u64, truth: f64| (estimate as f64 - truth).abs() < 0.15 * truth;
        assert!(near(summary.folded(), 140_000.0), "{}", summary.folded());
        let worst = summary.worst();
        for (at, name, series) in [(0, "big", 120e3), (1, "mid", 60e3), (2, "small", 20e3)] {
            assert_eq!(&*worst[at].name, name);
            assert!(near(worst[at].series, series), "{:?}", worst[at]);
        }
    }

    #[test]
    fn of_names_without_number_none_stands_out_but_the_one_with_many_series() {
        let names: Vec<String> = (0..50_000).map(|number| format!("n{number}")).collect();
        let mut names: Vec<_> = names.iter().map(|name| (&**name, 1, false)).collect();
        assert!(summary(&names, 1).worst().is_empty());
        names.push(("big", 5_000, false));
        let worst = summary(&names, 1).worst();
        assert_eq!(worst.len(), 1);
        assert_eq!(&*worst[0].name, "big");
    }

    #[test]
    fn only_the_worst_names_are_told() {
        let names: Vec<String> = (0..50).map(|number| format!("n{number:02}")).collect();
        let names: Vec<_> = names
            .iter()
            .zip(1..)
            .map(|(name, count)| (&**name, count, false))
            .collect();
        let worst = summary(&names, 1).worst();
        assert_eq!(worst.len(), WORST);
        assert_eq!((&*worst[0].name, worst[0].series), ("n49", 50));
        assert_eq!((&*worst[9].name, worst[9].series), ("n40", 41));
    }
}
