//! Who forwards the few series that somebody asked about.
//!
//! While nobody asks, an import costs one load of a flag more. While somebody does, it costs a look-up under a lock.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

use parking_lot::Mutex;

/// Origins that are told apart for one series: 32 kB.
const ORIGINS: usize = 4096;

/// The imports of a watched series in one interval.
#[derive(Debug, Clone, Default)]
pub(crate) struct Arrivals {
    /// When the last one came.
    pub(crate) last: Option<SystemTime>,
    /// Agents that stamp what they forward, 4096 at most.
    pub(crate) origins: HashSet<u64>,
    /// Imports without a stamp: nobody knows of how many agents.
    pub(crate) unstamped: u64,
}

/// The series that are watched, by the hashes of their keys.
#[derive(Debug, Default)]
pub(crate) struct Watched {
    any: AtomicBool,
    series: Mutex<HashMap<u64, Arrivals>>,
}

impl Watched {
    /// These are watched from now on, and no others. What has been noted of those that stay is kept.
    pub(crate) fn set(&self, hashes: impl Iterator<Item = u64>) {
        let mut series = self.series.lock();
        let mut before = std::mem::take(&mut *series);
        *series = hashes
            .map(|hash| (hash, before.remove(&hash).unwrap_or_default()))
            .collect();
        self.any.store(!series.is_empty(), Ordering::Relaxed);
    }

    /// A metric of this origin (0: not stamped) was merged.
    #[inline]
    pub(super) fn note(&self, hash: u64, origin: u64) {
        if self.any.load(Ordering::Relaxed) {
            self.note_watched(hash, origin);
        }
    }

    #[cold]
    fn note_watched(&self, hash: u64, origin: u64) {
        let mut series = self.series.lock();
        let Some(arrivals) = series.get_mut(&hash) else {
            return;
        };
        arrivals.last = Some(SystemTime::now());
        if origin == 0 {
            arrivals.unstamped += 1;
        } else if arrivals.origins.len() < ORIGINS {
            arrivals.origins.insert(origin);
        }
    }

    /// What has come of a series since this was last asked.
    pub(crate) fn take(&self, hash: u64) -> Option<Arrivals> {
        let mut series = self.series.lock();
        series.get_mut(&hash).map(std::mem::take)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_watched_series_are_noted_and_their_origins_told_apart() {
        let watched = Watched::default();
        watched.note(1, 7);
        watched.set([1, 2].into_iter());
        for (hash, origin) in [(1, 7), (1, 7), (1, 8), (1, 0), (3, 7)] {
            watched.note(hash, origin);
        }
        // Another is watched, too.
        watched.set([1, 3].into_iter());
        let arrivals = watched.take(1).unwrap();
        assert_eq!((arrivals.origins.len(), arrivals.unstamped), (2, 1));
        assert!(arrivals.last.is_some());
        assert!(watched.take(1).unwrap().last.is_none(), "taken once");
        assert!(watched.take(2).is_none());
        assert!(watched.take(3).unwrap().last.is_none());
    }

    #[test]
    fn memory_is_bounded() {
        let watched = Watched::default();
        watched.set([1].into_iter());
        (1..=10_000).for_each(|origin| watched.note(1, origin));
        assert_eq!(watched.take(1).unwrap().origins.len(), ORIGINS);
    }
}
