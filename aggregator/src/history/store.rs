//! All series, in shards.

use std::collections::HashMap;
use std::mem::size_of;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering};

use parking_lot::{Mutex, RwLock};
use xxhash_rust::xxh3::xxh3_64;

use super::series::{Layout, Series};
use crate::metrics;

/// Locks are held for one series, or for a walk over one of so many parts.
const SHARDS: usize = 64;

/// A path that is longer is not kept, in bytes.
pub(super) const LONGEST_PATH: usize = 1024;

/// How far ahead of the clock a point's time may be, in seconds: one that is far ahead would push out all that is there.
const AHEAD: i64 = 600;

/// How often what is older than the retention is looked for, in seconds.
const SWEEP: i64 = 60;

/// What a series takes besides its values and the bytes of its path: its place in a table that may be half empty, the counts of its path, its place
/// in the index, and what the allocator adds to three blocks.
const OVERHEAD: usize =
    2 * (size_of::<(Arc<str>, Series)>() + 1) + 16 + 2 * size_of::<Arc<str>>() + 48;

/// The series by their paths. All times are seconds since 1970.
#[derive(Debug)]
pub(super) struct Store {
    layout: Layout,
    max_bytes: usize,
    shards: Vec<RwLock<HashMap<Arc<str>, Series>>>,
    bytes: AtomicUsize,
    series: AtomicUsize,
    /// Changes with the set of paths.
    generation: AtomicU64,
    writes: AtomicU64,
    swept: AtomicI64,
    evicting: Mutex<()>,
    index: Mutex<(u64, Arc<[Arc<str>]>)>,
}

/// Why a point is not kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dropped {
    Late,
    Future,
    PathTooLong,
}

impl Dropped {
    pub(super) const ALL: [Self; 3] = [Self::Late, Self::Future, Self::PathTooLong];

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Late => "late",
            Self::Future => "future",
            Self::PathTooLong => "path_too_long",
        }
    }
}

/// Values on a grid: one for each step that begins in `start..end`, NaN where there is none.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Fetched {
    pub(super) start: i64,
    pub(super) end: i64,
    pub(super) step: i64,
    pub(super) values: Vec<f64>,
}

impl Store {
    pub(super) fn new(layout: Layout, max_bytes: usize) -> Self {
        Self {
            layout,
            max_bytes,
            shards: (0..SHARDS).map(|_| RwLock::default()).collect(),
            bytes: AtomicUsize::new(0),
            series: AtomicUsize::new(0),
            generation: AtomicU64::new(0),
            writes: AtomicU64::new(0),
            swept: AtomicI64::new(i64::MIN),
            evicting: Mutex::new(()),
            index: Mutex::new((0, Arc::from([]))),
        }
    }

    pub(super) fn layout(&self) -> Layout {
        self.layout
    }

    /// Bytes that are taken, as counted.
    pub(super) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    pub(super) fn max_bytes(&self) -> usize {
        self.max_bytes
    }

    pub(super) fn series(&self) -> usize {
        self.series.load(Ordering::Relaxed)
    }

    /// Keeps a point. `step` is its series', if that is known.
    pub(super) fn put(
        &self,
        path: &str,
        time: i64,
        value: f64,
        step: Option<i64>,
        now: i64,
    ) -> Result<(), Dropped> {
        if path.len() > LONGEST_PATH {
            return Err(Dropped::PathTooLong);
        }
        if time <= now.saturating_sub(self.layout.retention) {
            return Err(Dropped::Late);
        }
        if time > now.saturating_add(AHEAD) {
            return Err(Dropped::Future);
        }
        let place = place_of(path);
        let Some(shard) = self.shards.get(place) else {
            return Ok(());
        };
        let written = self.writes.fetch_add(1, Ordering::Relaxed);
        let mut shard = shard.write();
        let kept = match shard.get_mut(path) {
            Some(series) => {
                let before = series.bytes();
                let kept = series.put(time, value, step, self.layout);
                series.written = written;
                self.grow(series.bytes().saturating_sub(before));
                self.shrink(before.saturating_sub(series.bytes()));
                kept
            }
            None => {
                let mut series = Series::new(step, self.layout);
                let kept = series.put(time, value, step, self.layout);
                series.written = written;
                self.grow(cost(path, &series));
                shard.insert(path.into(), series);
                self.series.fetch_add(1, Ordering::Relaxed);
                self.generation.fetch_add(1, Ordering::Release);
                kept
            }
        };
        drop(shard);
        if self.bytes() > self.max_bytes {
            self.evict();
        }
        if kept { Ok(()) } else { Err(Dropped::Late) }
    }

    /// Does away with series that have nothing left within the retention, once in a while.
    pub(super) fn sweep(&self, now: i64) {
        let swept = self.swept.load(Ordering::Relaxed);
        if now.saturating_sub(swept) < SWEEP
            || self
                .swept
                .compare_exchange(swept, now, Ordering::Relaxed, Ordering::Relaxed)
                .is_err()
        {
            return;
        }
        let oldest = now.saturating_sub(self.layout.retention);
        let mut gone = 0;
        for shard in &self.shards {
            shard.write().retain(|path, series| {
                let stays = series.newest > oldest;
                if !stays {
                    gone += 1;
                    self.remove(path, series);
                }
                stays
            });
        }
        if gone > 0 {
            metrics::HISTORY_EVICTED
                .with(["expired".into()])
                .increment(gone);
        }
    }

    /// The values of a path between two times, both excluding the step that holds `from` and including the one that holds `until`, as Whisper files
    /// give them; nothing from before the retention, and nothing after `now`. `Ok(None)` for no such series, or nothing between them; the error is
    /// that of `afford`, which is asked about the number of values first.
    pub(super) fn fetch<E>(
        &self,
        path: &str,
        (from, until): (i64, i64),
        now: i64,
        afford: impl FnOnce(usize) -> Result<(), E>,
    ) -> Result<Option<Fetched>, E> {
        let oldest = now.saturating_sub(self.layout.retention);
        let shard = self.shards.get(place_of(path)).map(|shard| shard.read());
        let Some(series) = shard.as_ref().and_then(|shard| shard.get(path)) else {
            return Ok(None);
        };
        if from > now || until < oldest || series.newest <= oldest {
            return Ok(None);
        }
        let ring = series.ring(self.layout);
        let step = ring.step();
        let next = |time: i64| time - time.rem_euclid(step) + step;
        let (start, mut end) = (next(from.max(oldest)), next(until.min(now)));
        if end <= start {
            end = start + step;
        }
        afford(usize::try_from((end - start) / step).unwrap_or(usize::MAX))?;
        let mut values = Vec::new();
        ring.read(start, end, &mut values);
        Ok(Some(Fetched {
            start,
            end,
            step,
            values,
        }))
    }

    /// All paths, in the order of their bytes.
    pub(super) fn paths(&self) -> Arc<[Arc<str>]> {
        let mut index = self.index.lock();
        let generation = self.generation.load(Ordering::Acquire);
        if index.0 != generation {
            let mut paths = Vec::with_capacity(self.series());
            for shard in &self.shards {
                paths.extend(shard.read().keys().cloned());
            }
            paths.sort_unstable();
            *index = (generation, paths.into());
        }
        Arc::clone(&index.1)
    }

    /// Makes room: the sixteenth of all series that was written least recently goes, as often as it takes.
    fn evict(&self) {
        // Who comes meanwhile leaves it to the one who is at it.
        let Some(_turn) = self.evicting.try_lock() else {
            return;
        };
        let mut gone = 0;
        while self.bytes() > self.max_bytes && self.series() > 0 {
            let mut written = Vec::with_capacity(self.series());
            for shard in &self.shards {
                written.extend(shard.read().values().map(|series| series.written));
            }
            let Some(last) = written.len().div_ceil(16).checked_sub(1) else {
                break;
            };
            let (_, newest, _) = written.select_nth_unstable(last);
            let newest = *newest;
            for shard in &self.shards {
                shard.write().retain(|path, series| {
                    let stays = series.written > newest;
                    if !stays {
                        gone += 1;
                        self.remove(path, series);
                    }
                    stays
                });
            }
        }
        metrics::HISTORY_EVICTED
            .with(["max_bytes".into()])
            .increment(gone);
    }

    fn remove(&self, path: &str, series: &Series) {
        self.shrink(cost(path, series));
        self.series.fetch_sub(1, Ordering::Relaxed);
        self.generation.fetch_add(1, Ordering::Release);
    }

    fn grow(&self, bytes: usize) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    fn shrink(&self, bytes: usize) {
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }
}

fn place_of(path: &str) -> usize {
    // Below SHARDS, so it fits.
    (xxh3_64(path.as_bytes()) % SHARDS as u64) as usize
}

/// What a series takes in all, in bytes.
fn cost(path: &str, series: &Series) -> usize {
    OVERHEAD + path.len() + series.bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_795_000_000;

    fn store(max_bytes: usize) -> Store {
        let layout = Layout {
            retention: 3600,
            usual_step: 10,
        };
        Store::new(layout, max_bytes)
    }

    fn has(store: &Store, path: &str) -> bool {
        store.paths().iter().any(|known| &**known == path)
    }

    fn counted(store: &Store) -> usize {
        let shards = store.shards.iter();
        shards
            .map(|shard| {
                shard
                    .read()
                    .iter()
                    .map(|(path, series)| cost(path, series))
                    .sum::<usize>()
            })
            .sum()
    }

    #[test]
    fn the_count_of_bytes_is_what_is_there_and_stays_below_the_bound() {
        let store = store(100_000);
        for number in 0..2000 {
            for step in 0..4 {
                store
                    .put(&format!("series.{number}"), NOW + step, 1.0, Some(1), NOW)
                    .unwrap();
            }
            assert_eq!(store.bytes(), counted(&store));
            assert!(store.bytes() <= 100_000);
        }
        assert!(store.series() > 50, "{}", store.series());
        assert!(has(&store, "series.1999"), "the newest stays");
        assert!(!has(&store, "series.0"), "the oldest goes");
        assert_eq!(store.paths().len(), store.series());
    }

    #[test]
    fn a_series_that_is_still_written_outlives_those_that_are_not() {
        let store = store(200_000);
        for number in 0..5000 {
            store
                .put(&format!("short.{number}"), NOW, 1.0, Some(10), NOW)
                .unwrap();
            store
                .put("steady", NOW, f64::from(number), Some(10), NOW)
                .unwrap();
        }
        let fetched = store
            .fetch::<()>("steady", (NOW - 10, NOW), NOW, |_| Ok(()))
            .unwrap();
        assert_eq!(fetched.unwrap().values, [4999.0]);
    }

    #[test]
    fn what_is_too_old_or_too_far_ahead_is_told() {
        let store = store(100_000);
        let put = |time| store.put("a", time, 1.0, Some(10), NOW);
        assert_eq!(put(NOW - 3600), Err(Dropped::Late));
        assert_eq!(put(NOW - 3599), Ok(()));
        assert_eq!(put(NOW + AHEAD + 1), Err(Dropped::Future));
        assert_eq!(put(NOW + AHEAD), Ok(()));
        assert_eq!(put(NOW - 3599), Err(Dropped::Late), "the ring has gone on");
        let long = "x".repeat(LONGEST_PATH + 1);
        assert_eq!(
            store.put(&long, NOW, 1.0, None, NOW),
            Err(Dropped::PathTooLong)
        );
    }

    #[test]
    fn series_without_anything_in_the_retention_go() {
        let store = store(100_000);
        store.put("old", NOW, 1.0, Some(10), NOW).unwrap();
        store.put("new", NOW + 600, 1.0, Some(10), NOW).unwrap();
        store.sweep(NOW + 3599);
        assert_eq!(store.series(), 2);
        store.sweep(NOW + 3600);
        assert_eq!(store.series(), 2, "it was looked for a second ago");
        store.sweep(NOW + 3700);
        assert_eq!(
            store.paths().iter().map(|path| &**path).collect::<Vec<_>>(),
            ["new"]
        );
        assert_eq!(store.bytes(), counted(&store));
    }

    #[test]
    fn the_grid_of_an_answer_is_whispers() {
        let store = store(100_000);
        for number in 0..8 {
            store
                .put("a", NOW + 10 * number, number as f64, Some(10), NOW + 100)
                .unwrap();
        }
        let fetch = |from, until| {
            store
                .fetch::<()>("a", (from, until), NOW + 79, |_| Ok(()))
                .unwrap()
                .map(|found| (found.start, found.end, found.values))
        };
        assert_eq!(
            fetch(NOW, NOW + 29),
            Some((NOW + 10, NOW + 30, vec![1.0, 2.0]))
        );
        assert_eq!(
            fetch(NOW + 5, NOW + 30),
            Some((NOW + 10, NOW + 40, vec![1.0, 2.0, 3.0]))
        );
        assert_eq!(
            fetch(NOW + 61, NOW + 500).map(|found| found.1),
            Some(NOW + 80),
            "not after now"
        );
        assert_eq!(fetch(NOW + 80, NOW + 90), None);
        assert_eq!(
            fetch(NOW + 5, NOW + 6),
            Some((NOW + 10, NOW + 20, vec![1.0]))
        );
        assert_eq!(store.fetch("a", (NOW, NOW + 29), NOW + 79, Err), Err(2));
    }
}
