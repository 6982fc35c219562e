//! What one flush takes out of the table.

use std::time::Instant;

use hashbrown::HashTable;

use super::census::Census;
use super::position;
use super::shard::{Series, Shard};
use crate::key::Key;
use crate::sample::Event;

/// Everything between two takes.
#[derive(Debug)]
pub struct Interval {
    /// When the take before was.
    pub started: Instant,
    /// When it was taken.
    pub ended: Instant,
    /// Events, in the order in which they came.
    pub events: Vec<Event>,
    /// How much came in.
    pub counts: IntervalCounts,
    shards: Vec<HashTable<Series>>,
}

/// How much came in during one interval.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct IntervalCounts {
    /// Samples merged into this interval.
    pub processed: u64,
    /// Forwarded metrics merged into this interval.
    pub imported: u64,
    /// Different keys.
    pub series: u64,
    /// Samples and forwarded metrics that were merged into an overflow series, because there was no room for one of their own. They are part of
    /// `processed` and `imported`: their values are in the totals, only their tags are lost.
    pub folded: u64,
    /// How many different series those would have been; an estimate where it is thousands.
    pub folded_series: u64,
    /// Samples refused.
    pub samples_refused: u64,
    /// Forwarded metrics refused.
    pub imports_refused: u64,
    /// Events beyond the limit.
    pub events_dropped: u64,
}

impl Interval {
    pub(super) fn new(started: Instant, ended: Instant) -> Self {
        Self {
            started,
            ended,
            events: Vec::new(),
            counts: IntervalCounts::default(),
            shards: Vec::new(),
        }
    }

    /// Adds a shard's series and counts; what it knows of names is for the caller.
    pub(super) fn push(&mut self, shard: Shard) -> Census {
        self.counts.processed += shard.processed;
        self.counts.imported += shard.imported;
        self.counts.folded += shard.folded;
        let (series, census) = shard.into_parts();
        self.counts.series += series.len() as u64;
        self.shards.push(series);
        census
    }

    /// How many series there are.
    pub fn len(&self) -> usize {
        self.shards.iter().map(HashTable::len).sum()
    }

    /// Whether there is no series; there may be events.
    pub fn is_empty(&self) -> bool {
        self.shards.iter().all(HashTable::is_empty)
    }

    /// Each series, in no particular order.
    pub(crate) fn series(&self) -> impl Iterator<Item = &Series> {
        self.shards.iter().flatten()
    }

    /// The series with this key.
    pub(crate) fn find(&self, key: &Key) -> Option<&Series> {
        let hash = key.hash64();
        let shard = self.shards.get(position(hash, self.shards.len()))?;
        shard.find(hash, |series| *series.key == *key)
    }

    /// Each series, in no particular order. Memory is given back shard by shard.
    pub(crate) fn into_series(self) -> impl Iterator<Item = Series> {
        self.shards.into_iter().flatten()
    }
}
