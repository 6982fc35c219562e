//! Metrics of the usual form, many at a time and never decoded.
//!
//! What merging costs most then is waiting for memory: a series' place in the map, its key, its name, its tags and its sampler are each somewhere else. So a
//! batch is put in order by shard, and of each shard all series are looked at before the first of them is changed: their memory comes at the same time.
//! One lock serves all of them.

use std::hint::black_box;
use std::ops::Range;

use tributary_proto::scan::{Scanned, ValueField, value};

use super::{Contribution, ImportError, Of, Sent, import_scope, of_type};
use crate::key::{Key, Kind, SEPARATOR, Tags};
use crate::sketch::{HyperLogLog, ReceivedDigest};
use crate::table::wanted::{KeyParts, NamedParts};
use crate::table::writer::Writer;
use crate::table::{Brought, position};

/// How much of the memory for a batch's tags is kept for the next one, in bytes.
const TAGS_KEPT: usize = 64 << 10;

/// A metric of the usual form.
pub(super) struct Plain<'a> {
    pub(super) of: Of<'a>,
    pub(super) value: PlainValue<'a>,
}

/// What it brings, digests and sets still encoded.
#[derive(Clone, Copy)]
pub(super) enum PlainValue<'a> {
    Total(i64),
    Level(f64),
    Digest(&'a [u8]),
    Set(&'a [u8]),
}

/// One of a batch.
struct Entry<'a> {
    plain: Plain<'a>,
    /// Where its tags are among those of the batch.
    tags: Range<usize>,
    hash: u64,
}

impl Writer {
    /// Merges encoded metrics as [`Writer::import_bytes`] does one by one, and tells what became of each, in no particular order. Those of one series are
    /// merged in theirs.
    pub fn import_batch<B: AsRef<[u8]>>(
        &mut self,
        metrics: &[B],
        mut outcome: impl FnMut(Result<(), ImportError>),
    ) {
        self.joined.clear();
        let entries = match self.taps.open() {
            Some(_) => None,
            None => self.read_batch(metrics),
        };
        match entries {
            Some(entries) => {
                for left in self.merge_batch(&entries, &mut outcome) {
                    if let Some(bytes) = metrics.get(left) {
                        outcome(self.import_bytes(bytes.as_ref()));
                    }
                }
            }
            // One that may be of any form keeps its place among all others.
            None => metrics
                .iter()
                .for_each(|bytes| outcome(self.import_bytes(bytes.as_ref()))),
        }
        self.joined.shrink_to(TAGS_KEPT);
    }

    /// `None` unless all are of the usual form.
    fn read_batch<'a, B: AsRef<[u8]>>(&mut self, metrics: &'a [B]) -> Option<Vec<Entry<'a>>> {
        let mut entries = Vec::with_capacity(metrics.len());
        for bytes in metrics {
            let metric = Scanned::scan(bytes.as_ref()).ok()?;
            let plain = Plain::of(&metric)?;
            let start = self.joined.len();
            join_sorted(&mut self.joined, metric.tags());
            let tags = start..self.joined.len();
            let Of {
                name, kind, scope, ..
            } = plain.of;
            let joined = self.joined.get(tags.clone()).unwrap_or_default();
            let hash = Key::hash_of(name, kind, scope, joined);
            entries.push(Entry { plain, tags, hash });
        }
        Some(entries)
    }

    /// Merges what can be merged at once, and gives the places of the rest: what finds no room under the cap, and what turns out to be no digest or set.
    fn merge_batch(
        &mut self,
        entries: &[Entry<'_>],
        outcome: &mut impl FnMut(Result<(), ImportError>),
    ) -> Vec<usize> {
        let Self {
            table,
            names,
            joined,
            received,
            ..
        } = self;
        let shards = table.shards.len();
        let shard_of = |entry: &Entry<'_>| position(entry.hash, shards);
        let mut order: Vec<(u32, u32)> = (0..)
            .zip(entries)
            .map(|(place, entry)| (shard_of(entry) as u32, place))
            .collect();
        order.sort_unstable();
        let mut left = Vec::new();
        for same_shard in order.chunk_by(|a, b| a.0 == b.0) {
            let of_shard = || {
                let places = same_shard.iter().map(|&(_, place)| place as usize);
                places.filter_map(|place| Some((place, entries.get(place)?)))
            };
            let Some((_, first)) = of_shard().next() else {
                continue;
            };
            let mut shard = table.shard(first.hash).lock();
            let seen = of_shard().map(|(_, entry)| shard.look_at(entry.hash));
            black_box(seen.fold(0, u64::wrapping_add));
            for (place, entry) in of_shard() {
                let Of {
                    name,
                    kind,
                    scope,
                    sent,
                } = entry.plain.of;
                let parts = KeyParts {
                    name,
                    kind,
                    scope,
                    tags: joined.get(entry.tags.clone()).unwrap_or_default(),
                    hash: entry.hash,
                };
                let mut wanted = NamedParts { parts, names };
                let merged = shard.seat(&mut wanted).is_some_and(|seat| {
                    let change = seat.change(|sampler| {
                        let contribution = entry.plain.value.contribution(received).ok_or(())?;
                        let changed = contribution.merge_into(sampler, sent, received);
                        changed.map_err(|_| ())
                    });
                    change.is_ok()
                });
                if merged {
                    shard.count(Brought::Import);
                    table.watched.note(entry.hash, sent.origin());
                    outcome(Ok(()));
                } else {
                    left.push(place);
                }
            }
        }
        left.sort_unstable();
        left
    }
}

impl<'a> Plain<'a> {
    /// `None` where a decoder has to say what the metric is, or what is wrong with it.
    #[inline]
    pub(super) fn of(metric: &Scanned<'a>) -> Option<Self> {
        let kind = of_type(metric.kind);
        let content = metric.content?;
        let value = match (kind, metric.value?) {
            (Kind::Counter, ValueField::Counter) => PlainValue::Total(value::counter(content)?),
            (Kind::Gauge, ValueField::Gauge) => {
                let level = value::gauge(content)?;
                level.is_finite().then_some(PlainValue::Level(level))?
            }
            (Kind::Histogram | Kind::Timer, ValueField::Histogram) => {
                PlainValue::Digest(value::inner(content)?)
            }
            (Kind::Set, ValueField::Set) => PlainValue::Set(value::inner(content)?),
            _ => return None,
        };
        let stamp = metric.stamp;
        let (origin, flush) = stamp.map_or((0, 0), |stamp| (stamp.origin, stamp.flush));
        let of = Of {
            name: metric.name,
            kind,
            scope: import_scope(metric.name, kind, metric.scope).ok()?,
            sent: Sent::of(origin, flush, metric.interval),
        };
        Some(Self { of, value })
    }
}

impl PlainValue<'_> {
    /// Reads what is still encoded, as [`Contribution::of`] does with what is decoded; `None` where a decoder has to say what it is.
    #[inline]
    pub(super) fn contribution(self, received: &mut ReceivedDigest) -> Option<Contribution> {
        match self {
            Self::Total(total) => Some(Contribution::Total(total)),
            Self::Level(level) => Some(Contribution::Level(level)),
            Self::Digest(data) => {
                let is_whole = received.read(data) && !received.is_empty();
                is_whole.then_some(Contribution::Digest)
            }
            Self::Set(bytes) => HyperLogLog::from_bytes(bytes).ok().map(Contribution::Set),
        }
    }
}

/// Appends tags to `joined` as [`Tags::joined`] has them, sorted. A tag that holds the separator counts as two, which have to be apart before they are sorted:
/// a tier above gets them as two.
#[inline]
pub(super) fn join_sorted<'a>(joined: &mut String, tags: impl Iterator<Item = &'a str> + Clone) {
    let start = joined.len();
    let (mut count, mut last, mut is_sorted) = (0, "", true);
    for tag in tags.clone() {
        Tags::join(joined, tag, count == 0);
        is_sorted &= last <= tag;
        last = tag;
        count += 1;
    }
    let text = joined.as_bytes().get(start..).unwrap_or_default();
    let separators = text.iter().filter(|byte| **byte == SEPARATOR as u8);
    if is_sorted && (count == 0 || separators.count() < count) {
        return;
    }
    let mut apart: Vec<&str> = tags.flat_map(|tag| tag.split(SEPARATOR)).collect();
    apart.sort_unstable();
    joined.truncate(start);
    for (position, tag) in apart.into_iter().enumerate() {
        Tags::join(joined, tag, position == 0);
    }
}
