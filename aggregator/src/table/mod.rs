//! Sampler state by key: what a tier has seen since the last flush.
//!
//! Sources and importers write through a [`Writer`] each; the flush calls [`Table::take`] and gets an [`Interval`]. What always holds:
//! - a sample or an import is either in exactly one interval, whole, or it was refused with a cause that its bringer counts, and left no trace;
//! - taking an interval swaps each shard's map under its lock and does nothing else there, so that writers never wait for a flush;
//! - no interval holds more series than the cap allows; what finds no room is merged into an overflow series, never lost;
//! - a known series is found without building a string: samples by their raw bytes in the writer's cache, imports by a hash of
//!   borrowed parts.

mod bulk;
mod cache;
mod canon;
mod cap;
mod census;
mod dropped;
mod import;
mod intake;
mod interval;
mod names;
mod overflow;
mod sampler;
mod shard;
mod shown;
mod taken;
mod wanted;
mod watched;
mod writer;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use parking_lot::Mutex;
use tributary_node::tap::Taps;

use crate::sample::Event;
use cache::Allowance;
use canon::Canon;
use cap::Cap;
use census::{Census, Summary};
use dropped::EventDropped;
use shard::Shard;
use taken::IntervalTaken;

pub use census::NameCount;
pub use import::ImportError;
pub use interval::{Interval, IntervalCounts};
pub(crate) use sampler::{Distribution, OwnSamples, Sampler, Status};
pub(crate) use shard::Series;
pub(crate) use watched::Watched;
pub use writer::{SampleError, Writer};

/// How a table is laid out.
#[derive(Debug, Clone)]
pub struct TableConfig {
    /// Tags that every sample and event gets; each takes the place of the sample's tags with the same key. Imports stay as they are.
    pub extend_tags: Vec<String>,
    /// How many locks the series are spread over; rounded up to a power of two. More of them cost memory, fewer make writers wait for
    /// each other.
    pub shards: usize,
    /// How many series one interval holds; over it, samples and imports of new ones go to overflow series. 0 is no cap.
    pub max_series: usize,
    /// How many different (name, type, tags) a writer remembers for certain; it holds at most twice as many. All writers together hold about as
    /// many as `max_series` (or the default of that, without a cap), at worst twice as many.
    pub cached_keys: usize,
    /// How many events one interval holds; more are dropped and counted.
    pub max_events: usize,
    /// Who is shown what comes in.
    pub taps: Taps,
}

const DEFAULT_MAX_SERIES: usize = 1_000_000;

impl Default for TableConfig {
    fn default() -> Self {
        Self {
            extend_tags: Vec::new(),
            shards: 64,
            max_series: DEFAULT_MAX_SERIES,
            cached_keys: 1 << 18,
            max_events: 10_000,
            taps: Taps::default(),
        }
    }
}

/// All series of one aggregator, in shards.
#[derive(Debug)]
pub struct Table {
    canon: Canon,
    /// A power of two of them, so that a key's shard is a mask away.
    shards: Box<[Mutex<Shard>]>,
    max_series: usize,
    /// Of the last whole interval.
    worst_names: Mutex<Arc<[NameCount]>>,
    events: Mutex<Vec<Event>>,
    started: Mutex<Instant>,
    refused: Refused,
    watched: Watched,
    cached_keys: usize,
    allowance: Arc<Allowance>,
    max_events: usize,
    taps: Taps,
}

/// What came to be merged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Brought {
    Sample,
    Import,
}

/// What was turned away since the last take, over all writers.
#[derive(Debug, Default)]
struct Refused {
    samples: AtomicU64,
    imports: AtomicU64,
    events: AtomicU64,
}

impl Table {
    /// Makes an empty table; its first interval starts now.
    pub fn new(config: TableConfig) -> Arc<Self> {
        let shards = config.shards.clamp(1, 1 << 12).next_power_of_two();
        let cap = Arc::new(Cap::new(config.max_series));
        Arc::new(Self {
            canon: Canon::new(&config.extend_tags),
            shards: (0..shards)
                .map(|_| Mutex::new(Shard::new(0, Census::new(shards), Arc::clone(&cap))))
                .collect(),
            max_series: config.max_series,
            worst_names: Mutex::new(Arc::new([])),
            events: Mutex::default(),
            started: Mutex::new(Instant::now()),
            refused: Refused::default(),
            watched: Watched::default(),
            cached_keys: config.cached_keys,
            allowance: Allowance::new(match config.max_series {
                0 => DEFAULT_MAX_SERIES,
                limit => limit,
            }),
            max_events: config.max_events,
            taps: config.taps,
        })
    }

    /// Makes a writer: one for each thread or connection that brings samples or imports.
    pub fn writer(self: &Arc<Self>) -> Writer {
        Writer::new(Arc::clone(self))
    }

    /// Takes everything since the last take. What is written meanwhile is in this interval or in the next.
    ///
    /// Also tells how many series there were, and whose there were too many.
    pub fn take(&self) -> Interval {
        let ended = Instant::now();
        let started = std::mem::replace(&mut *self.started.lock(), ended);
        let mut interval = Interval::new(started, ended);
        let mut names = Summary::default();
        let cap = Arc::new(Cap::new(self.max_series));
        for shard in &self.shards {
            let next = shard.lock().next();
            // The new map's memory is asked for outside of the lock.
            let fresh = next(Arc::clone(&cap));
            let taken = std::mem::replace(&mut *shard.lock(), fresh);
            names.add(interval.push(taken));
        }
        interval.events = std::mem::take(&mut *self.events.lock());
        let counts = &mut interval.counts;
        counts.folded_series = names.folded().min(counts.folded);
        counts.samples_refused = self.refused.samples.swap(0, Ordering::Relaxed);
        counts.imports_refused = self.refused.imports.swap(0, Ordering::Relaxed);
        counts.events_dropped = self.refused.events.swap(0, Ordering::Relaxed);
        let worst = names.worst();
        IntervalTaken {
            counts,
            worst: &worst,
            max_series: self.max_series,
        }
        .emit();
        *self.worst_names.lock() = worst;
        interval
    }

    /// The names that had the most series in the last whole interval, most first; at most ten, and none where there are very many names with few
    /// series each.
    pub fn worst_names(&self) -> Arc<[NameCount]> {
        Arc::clone(&self.worst_names.lock())
    }

    /// The shard of a key with this hash. The map inside uses the lowest and the highest bits, so the choice is made by those between.
    fn shard(&self, hash: u64) -> &Mutex<Shard> {
        &self.shards[position(hash, self.shards.len())]
    }

    /// How many series the open interval has.
    pub fn open_series(&self) -> u64 {
        let shards = self.shards.iter();
        shards.map(|shard| shard.lock().len() as u64).sum()
    }

    /// Which series somebody watches come in.
    pub(crate) fn watched(&self) -> &Watched {
        &self.watched
    }

    fn event(&self, mut event: Event) {
        self.canon.extend(&mut event.tags);
        let mut events = self.events.lock();
        if events.len() < self.max_events {
            events.push(event);
        } else {
            drop(events);
            self.refused.events.fetch_add(1, Ordering::Relaxed);
            EventDropped {
                limit: self.max_events,
            }
            .emit();
        }
    }
}

/// The shard, of a power of two of them, of a key with this hash.
fn position(hash: u64, shards: usize) -> usize {
    (hash >> 40) as usize & shards.wrapping_sub(1)
}

#[cfg(test)]
mod tests;
