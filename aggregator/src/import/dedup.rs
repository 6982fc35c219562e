//! Which stamped metrics have been merged: each is merged at most once, however often it is delivered.
//!
//! A sender numbers its flushes, and the metrics in each flush (`origin`, `flush`, `index`: `proto/metricpb/metric.proto`). [`Dedup`] keeps one
//! bitmap for each origin and flush, so a repeat is recognised whichever proxy it came through and however the batch was cut.
//!
//! What always holds:
//! - the first delivery of a stamp is [`Verdict::New`], every later one is not;
//! - memory stays within the bound: over it the bitmaps that were touched longest ago go, and what they knew is remembered as one number for
//!   the origin, the flush up to which nothing can be told apart any more ([`Verdict::Forgotten`]);
//! - an origin that has been silent for the window is forgotten whole: no sender keeps a batch that long.

use std::collections::{BTreeMap, HashMap};
use std::mem::size_of;
use std::time::{Duration, Instant};

use tributary_proto::scan::Stamp;

/// What is known of a stamp.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Never seen: merge it. It counts as seen from now on.
    New,
    /// Merged before.
    Repeat,
    /// Of a flush whose bitmap had to go: whether it was merged cannot be told.
    Forgotten,
    /// The index is larger than any flush: taken for a hostile stamp.
    Absurd,
}

/// How much is remembered, and how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DedupBounds {
    /// Heap bytes of all bitmaps and their places. One flush takes about 150 and an eighth for each of its metrics.
    pub bytes: usize,
    /// How long an origin or a flush is remembered after its last metric. Longer than any sender's retention and its last attempt.
    pub window: Duration,
}

impl Default for DedupBounds {
    fn default() -> Self {
        Self {
            bytes: 64 << 20,
            window: Duration::from_secs(15 * 60),
        }
    }
}

/// The stamps merged in the last while.
#[derive(Debug)]
pub(super) struct Dedup {
    bounds: DedupBounds,
    origins: HashMap<u64, Origin>,
    bytes: usize,
    swept: Instant,
}

#[derive(Debug)]
struct Origin {
    flushes: BTreeMap<u64, Bitmap>,
    /// Flushes up to this one are forgotten.
    forgotten: Option<u64>,
    touched: Instant,
}

/// Indices from 0 on in one piece, because most flushes are small and there are many of them; those above in chunks, because one global sees a
/// part of a flush's indices and a flush may hold millions.
#[derive(Debug)]
struct Bitmap {
    low: Vec<u64>,
    chunks: BTreeMap<u32, Box<Chunk>>,
    touched: Instant,
}

type Chunk = [u64; CHUNK_WORDS];

/// 4,096 indices, 512 bytes.
const CHUNK_WORDS: usize = 64;
const CHUNK_BITS: u32 = 4_096;

/// The low piece grows by so many words at a time, up to a chunk's.
const LOW_STEP: usize = 8;

/// A flush of more metrics than this is none.
const MAX_INDEX: u32 = 64 << 20;

/// What a map's entry costs beside its value, roughly: its key, and its share of the node, which may be half empty.
const ENTRY: usize = 80;
const CHUNK_BYTES: usize = size_of::<Chunk>() + ENTRY;
const FLUSH_BYTES: usize = size_of::<Bitmap>() + ENTRY;
const ORIGIN_BYTES: usize = size_of::<Origin>() + ENTRY;

/// How often what is too old is looked for.
const SWEEP: Duration = Duration::from_secs(5);

// === impl Dedup ===

impl Dedup {
    /// Remembers nothing yet.
    pub(super) fn new(bounds: DedupBounds, now: Instant) -> Self {
        Self {
            bounds,
            origins: HashMap::new(),
            bytes: 0,
            swept: now,
        }
    }

    /// Whether the stamp is new; if so it is remembered.
    pub(super) fn admit(&mut self, stamp: Stamp, now: Instant) -> Verdict {
        if stamp.index > MAX_INDEX {
            return Verdict::Absurd;
        }
        let mut grown = 0;
        let origin = self.origins.entry(stamp.origin).or_insert_with(|| {
            grown += ORIGIN_BYTES;
            Origin {
                flushes: BTreeMap::new(),
                forgotten: None,
                touched: now,
            }
        });
        origin.touched = now;
        if origin.forgotten.is_some_and(|last| stamp.flush <= last) {
            return Verdict::Forgotten;
        }
        let bitmap = origin.flushes.entry(stamp.flush).or_insert_with(|| {
            grown += FLUSH_BYTES;
            Bitmap {
                low: Vec::new(),
                chunks: BTreeMap::new(),
                touched: now,
            }
        });
        bitmap.touched = now;
        let verdict = bitmap.set(stamp.index, &mut grown);
        self.bytes += grown;
        if self.bytes > self.bounds.bytes {
            self.shrink(stamp);
        }
        verdict
    }

    /// Whether the stamp was seen and is remembered.
    pub(super) fn knows(&self, stamp: Stamp) -> bool {
        let origin = self.origins.get(&stamp.origin);
        let bitmap = origin.and_then(|origin| origin.flushes.get(&stamp.flush));
        bitmap.is_some_and(|bitmap| bitmap.is_set(stamp.index))
    }

    /// Forgets what is older than the window; cheap to call before every batch.
    pub(super) fn sweep(&mut self, now: Instant) {
        if now.saturating_duration_since(self.swept) < SWEEP {
            return;
        }
        self.swept = now;
        let window = self.bounds.window;
        let old = |touched: Instant| now.saturating_duration_since(touched) > window;
        let mut freed = 0;
        self.origins.retain(|_, origin| {
            let keep = !old(origin.touched);
            if keep {
                while let Some((&flush, bitmap)) = origin.flushes.first_key_value()
                    && old(bitmap.touched)
                {
                    freed += origin.forget(flush);
                }
            } else {
                freed += origin.bytes();
            }
            keep
        });
        self.bytes = self.bytes.saturating_sub(freed);
    }

    /// Heap bytes in use, roughly.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// How many senders are remembered.
    pub(super) fn origins(&self) -> usize {
        self.origins.len()
    }

    /// Frees an eighth of the bound, oldest flushes first, but never the flush of `spare`.
    ///
    /// An eighth at once, because each call looks at everything there is.
    fn shrink(&mut self, spare: Stamp) {
        let mut oldest: Vec<(Instant, u64, u64)> = self
            .origins
            .iter()
            .flat_map(|(&origin, state)| {
                let flushes = state.flushes.iter();
                flushes.map(move |(&flush, bitmap)| (bitmap.touched, origin, flush))
            })
            .filter(|&(_, origin, flush)| (origin, flush) != (spare.origin, spare.flush))
            .collect();
        oldest.sort_unstable();
        let goal = self.bounds.bytes - self.bounds.bytes / 8;
        for (_, origin, flush) in oldest {
            if self.bytes <= goal {
                return;
            }
            if let Some(state) = self.origins.get_mut(&origin) {
                self.bytes = self.bytes.saturating_sub(state.forget(flush));
            }
        }
        // Only names are left: the ones longest silent go, too.
        let mut silent: Vec<(Instant, u64)> = self
            .origins
            .iter()
            .filter(|&(&origin, state)| origin != spare.origin && state.flushes.is_empty())
            .map(|(&origin, state)| (state.touched, origin))
            .collect();
        silent.sort_unstable();
        for (_, origin) in silent {
            if self.bytes <= goal {
                return;
            }
            if let Some(state) = self.origins.remove(&origin) {
                self.bytes = self.bytes.saturating_sub(state.bytes());
            }
        }
    }
}

// === impl Origin ===

impl Origin {
    /// Drops the bitmap of `flush` and of all before it; the bytes that frees.
    fn forget(&mut self, flush: u64) -> usize {
        let kept = self.flushes.split_off(&flush.saturating_add(1));
        let gone = std::mem::replace(&mut self.flushes, kept);
        self.forgotten = self.forgotten.max(Some(flush));
        gone.values().map(Bitmap::bytes).sum()
    }

    fn bytes(&self) -> usize {
        ORIGIN_BYTES + self.flushes.values().map(Bitmap::bytes).sum::<usize>()
    }
}

// === impl Bitmap ===

impl Bitmap {
    fn set(&mut self, index: u32, grown: &mut usize) -> Verdict {
        let place = (index % CHUNK_BITS) as usize;
        let word = match index / CHUNK_BITS {
            0 => {
                if self.low.len() <= place / 64 {
                    let words = (place / 64 + 1).next_multiple_of(LOW_STEP);
                    *grown += (words - self.low.len()) * size_of::<u64>();
                    self.low.reserve_exact(words - self.low.len());
                    self.low.resize(words, 0);
                }
                self.low.get_mut(place / 64)
            }
            number => {
                let chunk = self.chunks.entry(number).or_insert_with(|| {
                    *grown += CHUNK_BYTES;
                    Box::new([0; CHUNK_WORDS])
                });
                chunk.get_mut(place / 64)
            }
        };
        let Some(word) = word else {
            return Verdict::Absurd;
        };
        let bit = 1 << (place % 64);
        if *word & bit != 0 {
            return Verdict::Repeat;
        }
        *word |= bit;
        Verdict::New
    }

    fn is_set(&self, index: u32) -> bool {
        let place = (index % CHUNK_BITS) as usize;
        let word = match index / CHUNK_BITS {
            0 => self.low.get(place / 64),
            number => self
                .chunks
                .get(&number)
                .and_then(|chunk| chunk.get(place / 64)),
        };
        word.is_some_and(|word| word & (1 << (place % 64)) != 0)
    }

    fn bytes(&self) -> usize {
        FLUSH_BYTES + self.low.len() * size_of::<u64>() + self.chunks.len() * CHUNK_BYTES
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use std::collections::HashSet;

    use super::*;

    fn dedup(bytes: usize) -> (Dedup, Instant) {
        let now = Instant::now();
        let window = Duration::from_secs(60);
        (Dedup::new(DedupBounds { bytes, window }, now), now)
    }

    fn stamp(origin: u64, flush: u64, index: u32) -> Stamp {
        Stamp {
            origin,
            flush,
            index,
        }
    }

    #[test]
    fn a_stamp_is_new_once() {
        let (mut dedup, now) = dedup(1 << 20);
        assert_eq!(dedup.admit(stamp(1, 1, 0), now), Verdict::New);
        assert_eq!(dedup.admit(stamp(1, 1, 0), now), Verdict::Repeat);
        for other in [
            stamp(1, 1, 1),
            stamp(1, 2, 0),
            stamp(2, 1, 0),
            stamp(1, 1, 4_096),
        ] {
            assert_eq!(dedup.admit(other, now), Verdict::New, "{other:?}");
        }
    }

    #[test]
    fn an_older_flush_may_come_after_a_newer_one() {
        let (mut dedup, now) = dedup(1 << 20);
        assert_eq!(dedup.admit(stamp(1, 9, 3), now), Verdict::New);
        assert_eq!(dedup.admit(stamp(1, 2, 3), now), Verdict::New);
        assert_eq!(dedup.admit(stamp(1, 2, 3), now), Verdict::Repeat);
    }

    #[test]
    fn a_stamp_is_remembered_for_the_window_and_no_longer() {
        let (mut dedup, start) = dedup(1 << 20);
        dedup.admit(stamp(1, 1, 0), start);
        let later = start + Duration::from_secs(50);
        dedup.sweep(later);
        assert_eq!(dedup.admit(stamp(1, 1, 0), later), Verdict::Repeat);
        dedup.sweep(later + Duration::from_secs(61));
        assert_eq!((dedup.origins(), dedup.bytes()), (0, 0));
    }

    #[test]
    fn an_old_flush_of_a_sender_that_still_sends_is_forgotten_for_good() {
        let (mut dedup, start) = dedup(1 << 20);
        dedup.admit(stamp(1, 1, 0), start);
        let later = start + Duration::from_secs(61);
        dedup.admit(stamp(1, 7, 0), later);
        dedup.sweep(later);
        assert_eq!(dedup.admit(stamp(1, 1, 5), later), Verdict::Forgotten);
        assert_eq!(dedup.admit(stamp(1, 7, 0), later), Verdict::Repeat);
    }

    #[test]
    fn a_small_flush_takes_little_memory() {
        let (mut dedup, now) = dedup(1 << 20);
        for flush in 1..=100 {
            for index in 0..1_000 {
                dedup.admit(stamp(1, flush, index), now);
            }
        }
        assert!(dedup.bytes() / 100 < 150 + 1_000 / 8, "{}", dedup.bytes());
    }

    #[test]
    fn bytes_are_counted_in_and_out_alike() {
        let (mut dedup, now) = dedup(1 << 20);
        for index in (0..50_000).step_by(777) {
            dedup.admit(stamp(1, 1, index), now);
        }
        let counted: usize = dedup.origins.values().map(Origin::bytes).sum();
        assert_eq!(dedup.bytes(), counted);
    }

    #[test]
    fn a_hostile_index_takes_no_memory() {
        let (mut dedup, now) = dedup(1 << 20);
        assert_eq!(dedup.admit(stamp(1, 1, u32::MAX), now), Verdict::Absurd);
        assert_eq!(dedup.bytes(), 0);
        dedup.admit(stamp(1, 1, 64 << 20), now);
        assert!(dedup.bytes() < 1_000);
    }

    #[test]
    fn memory_stays_within_the_bound_and_nothing_is_new_twice() {
        let bound = 64 << 10;
        let (mut dedup, now) = dedup(bound);
        let mut seen = HashSet::new();
        let mut random = fastrand::Rng::with_seed(1);
        for step in 0..50_000_u64 {
            let at = now + Duration::from_millis(step);
            let some = stamp(
                1 + random.u64(..500),
                1 + random.u64(..40),
                random.u32(..20_000),
            );
            if dedup.admit(some, at) == Verdict::New {
                // An origin that was forgotten whole would start afresh; with this many active ones flushes go first.
                assert!(
                    seen.insert((some.origin, some.flush, some.index)),
                    "{some:?} was new twice"
                );
            }
            assert!(dedup.bytes() <= bound + CHUNK_BYTES + FLUSH_BYTES + ORIGIN_BYTES);
        }
    }

    proptest! {
        #[test]
        fn property_each_stamp_is_new_exactly_once(stamps in proptest::collection::vec((1u64..4, 1u64..6, 0u32..9_000), 0..400)) {
            let (mut dedup, now) = dedup(16 << 20);
            let mut seen = HashSet::new();
            for (origin, flush, index) in stamps {
                let expected = if seen.insert((origin, flush, index)) { Verdict::New } else { Verdict::Repeat };
                prop_assert_eq!(dedup.admit(stamp(origin, flush, index), now), expected);
            }
        }
    }
}
