//! A connection's memory of paths: from raw bytes to the series that they name.
//!
//! Clients send the same paths again and again. Taking a path apart and making its strings costs more than all the rest of a point, so it is done once
//! for each path of a connection; a repeated path allocates nothing. Two generations bound the memory: when the recent one is full it becomes the older
//! one, and the older one is forgotten; a hit in the older one moves there.
//!
//! There may be a thousand connections, so all of a source's have an allowance together. Once that is used up, a connection remembers nothing new.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use hashbrown::HashMap;

use crate::key::{Kind, Tags};

/// How many paths one generation holds.
const GENERATION: usize = 16 * 1024;

/// What all connections of a source may hold, in bytes, roughly.
const ALLOWANCE: usize = 64 * 1024 * 1024;

/// What an entry takes besides its strings.
const ENTRY: usize = 160;

/// What a path names.
#[derive(Debug, Clone)]
pub(super) struct Series {
    pub(super) base: Arc<str>,
    pub(super) tags: Tags,
    /// Where points are aggregated.
    pub(super) sample: Option<Arc<SampleKey>>,
}

/// The parts of a sample that its path decides.
#[derive(Debug)]
pub(super) struct SampleKey {
    pub(super) kind: Kind,
    /// Separated by commas.
    pub(super) tags: Option<String>,
}

/// What all connections of a source may still remember, in bytes.
#[derive(Debug)]
pub(super) struct Allowance(AtomicUsize);

impl Default for Allowance {
    fn default() -> Self {
        Self(AtomicUsize::new(ALLOWANCE))
    }
}

impl Allowance {
    fn take(&self, bytes: usize) -> bool {
        let taken = self
            .0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
                left.checked_sub(bytes)
            });
        taken.is_ok()
    }

    fn give_back(&self, bytes: usize) {
        self.0.fetch_add(bytes, Ordering::Relaxed);
    }
}

/// The paths that one connection has sent.
#[derive(Debug)]
pub(super) struct SeriesCache {
    recent: HashMap<Box<[u8]>, Series>,
    older: HashMap<Box<[u8]>, Series>,
    allowance: Arc<Allowance>,
}

impl SeriesCache {
    pub(super) fn new(allowance: Arc<Allowance>) -> Self {
        Self {
            recent: HashMap::new(),
            older: HashMap::new(),
            allowance,
        }
    }

    /// The series of a path: remembered, or made by `make` and remembered unless that fails.
    #[inline]
    pub(super) fn get_or_make<E>(
        &mut self,
        path: &[u8],
        make: impl FnOnce(&[u8]) -> Result<Series, E>,
    ) -> Result<Series, E> {
        if let Some(known) = self.recent.get(path) {
            return Ok(known.clone());
        }
        self.promote_or_make(path, make)
    }

    #[cold]
    fn promote_or_make<E>(
        &mut self,
        path: &[u8],
        make: impl FnOnce(&[u8]) -> Result<Series, E>,
    ) -> Result<Series, E> {
        if self.recent.len() >= GENERATION {
            self.allowance.give_back(held(&self.older));
            self.older = std::mem::take(&mut self.recent);
        }
        if let Some((path, known)) = self.older.remove_entry(path) {
            self.recent.insert(path, known.clone());
            return Ok(known);
        }
        let series = make(path)?;
        if self.allowance.take(cost(path)) {
            self.recent.insert(path.into(), series.clone());
        }
        Ok(series)
    }
}

impl Drop for SeriesCache {
    fn drop(&mut self) {
        let held = held(&self.recent) + held(&self.older);
        self.allowance.give_back(held);
    }
}

fn held(generation: &HashMap<Box<[u8]>, Series>) -> usize {
    generation.keys().map(|path| cost(path)).sum()
}

/// The path itself, and a copy of it in name and tags.
fn cost(path: &[u8]) -> usize {
    ENTRY + 2 * path.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(path: &[u8]) -> Result<Series, ()> {
        Ok(Series {
            base: String::from_utf8_lossy(path).into(),
            tags: Tags::default(),
            sample: None,
        })
    }

    fn forbidden(_: &[u8]) -> Result<Series, ()> {
        Err(())
    }

    #[test]
    fn a_repeated_path_is_the_same_memory() {
        let mut cache = SeriesCache::new(Arc::default());
        let first = cache.get_or_make(b"a.b", series).unwrap();
        let again = cache.get_or_make(b"a.b", forbidden).unwrap();
        assert!(Arc::ptr_eq(&first.base, &again.base));
        assert!(cache.get_or_make(b"bad", forbidden).is_err());
        assert_eq!(&*cache.get_or_make(b"bad", series).unwrap().base, "bad");
    }

    #[test]
    fn the_last_paths_of_any_number_are_remembered_and_the_allowance_comes_back() {
        let allowance = Arc::new(Allowance::default());
        let mut cache = SeriesCache::new(Arc::clone(&allowance));
        let path = |number: usize| format!("path.{number}").into_bytes();
        for number in 0..3 * GENERATION {
            cache.get_or_make(&path(number), series).unwrap();
        }
        for number in 2 * GENERATION..3 * GENERATION {
            assert!(cache.get_or_make(&path(number), forbidden).is_ok());
        }
        assert!(cache.get_or_make(&path(0), forbidden).is_err());
        assert!(cache.recent.len() + cache.older.len() <= 2 * GENERATION);
        drop(cache);
        assert_eq!(allowance.0.load(Ordering::Relaxed), ALLOWANCE);
    }

    #[test]
    fn without_allowance_nothing_is_remembered_and_all_goes_on() {
        let allowance = Arc::new(Allowance(AtomicUsize::new(cost(b"a"))));
        let mut cache = SeriesCache::new(allowance);
        for _ in 0..2 {
            assert!(cache.get_or_make(b"a", series).is_ok());
            assert!(cache.get_or_make(b"b", series).is_ok());
        }
        assert_eq!(cache.recent.len(), 1);
    }
}
