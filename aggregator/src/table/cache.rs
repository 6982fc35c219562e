//! A writer's memory of raw bytes: from a sample's name, kind and tag section, as they came, to its [`Key`].
//!
//! Sorting tags and building strings costs more than all the rest of taking a sample in, so it is done once for each spelling of a key. Two
//! generations bound the memory: when the recent one is full it becomes the older one and the older one is forgotten; a hit in the older one
//! moves the entry to the recent one. So the last `capacity` different spellings are always remembered, and at most twice as many are held.
//!
//! There may be a thousand writers, one for each connection. So all of a table's have an [`Allowance`] together: once that is used up, a writer that
//! learns new spellings keeps to its equal share and forgets its own old ones. Hits cost nothing of that: only learning looks there.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::key::{Key, Kind};
use crate::sample::Sample;

/// A writer may always remember about this many spellings.
const LEAST: usize = 256;

/// How many spellings all writers of a table may hold. They stay below `limit`, and at worst, where idle writers hold it all and active ones
/// live off their shares, below twice that and [`LEAST`] for each generation of a writer.
#[derive(Debug)]
pub(super) struct Allowance {
    limit: usize,
    held: AtomicUsize,
    writers: AtomicUsize,
}

impl Allowance {
    pub(super) fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self {
            limit,
            held: AtomicUsize::new(0),
            writers: AtomicUsize::new(0),
        })
    }

    /// One more is held; tells how many one generation of a writer may have now.
    fn hold(&self) -> usize {
        if self.held.fetch_add(1, Ordering::Relaxed) < self.limit {
            return usize::MAX;
        }
        let generations = 2 * self.writers.load(Ordering::Relaxed).max(1);
        (self.limit / generations).max(LEAST)
    }

    fn forget(&self, count: usize) {
        self.held.fetch_sub(count, Ordering::Relaxed);
    }
}

/// From raw bytes to keys.
#[derive(Debug)]
pub(super) struct KeyCache {
    recent: HashTable<Spelling>,
    older: HashTable<Spelling>,
    capacity: usize,
    /// How many the recent generation may have now: the capacity, or less where the allowance is used up.
    allowed: usize,
    allowance: Arc<Allowance>,
}

/// What the look-up of a hit reads stands here and in `raw`, and nowhere else: each further place is a cache miss.
#[derive(Debug)]
struct Spelling {
    hash: u64,
    /// The name, and the tags behind it.
    raw: Box<[u8]>,
    key: Arc<Key>,
    key_hash: u64,
    name_length: u32,
    kind: Kind,
}

/// The raw bytes that are looked up.
#[derive(Debug, Clone, Copy)]
pub(super) struct Probe<'a> {
    name: &'a [u8],
    kind: Kind,
    tags: &'a [u8],
    hash: u64,
}

/// Where a spelling was found: true until the cache is told to make the next one.
#[derive(Debug, Clone, Copy)]
pub(super) struct Found {
    place: usize,
    /// The key's.
    pub(super) key_hash: u64,
}

impl KeyCache {
    /// Remembers at least the last `capacity` spellings (and one, if that is 0), while the allowance lasts.
    pub(super) fn new(capacity: usize, allowance: Arc<Allowance>) -> Self {
        allowance.writers.fetch_add(1, Ordering::Relaxed);
        let capacity = capacity.max(1);
        Self {
            recent: HashTable::new(),
            older: HashTable::new(),
            capacity,
            allowed: capacity,
            allowance,
        }
    }

    /// The key of these bytes: remembered, or made by `make` and remembered unless that fails.
    ///
    /// The caller may replace the key that it gets by an equal one that others hold already.
    pub(super) fn get_or_make<E>(
        &mut self,
        probe: Probe<'_>,
        make: impl FnOnce() -> Result<Key, E>,
    ) -> Result<&mut Arc<Key>, E> {
        if self.recent.len() >= self.allowed {
            self.allowance.forget(self.older.len());
            self.older = std::mem::take(&mut self.recent);
        }
        let same = |spelling: &Spelling| probe.is(spelling);
        let spelling = match self
            .recent
            .entry(probe.hash, same, |spelling| spelling.hash)
        {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(place) => {
                let spelling = match self.older.find_entry(probe.hash, same) {
                    Ok(known) => known.remove().0,
                    Err(_) => {
                        let key = make()?;
                        self.allowed = self.capacity.min(self.allowance.hold());
                        probe.spelling(key)
                    }
                };
                place.insert(spelling).into_mut()
            }
        };
        Ok(&mut spelling.key)
    }

    /// Where a spelling with this hash is probably remembered, by the few bits of it that stand apart from the spellings: these are in the nearest cache.
    /// One guess in some twenty is wrong.
    #[inline]
    pub(super) fn guess(&self, hash: u64) -> Option<usize> {
        self.recent.find_bucket_index(hash, |_| true)
    }

    /// Reads the spelling, so that it is near when [`KeyCache::find`] reads it; the number means nothing.
    #[inline]
    pub(super) fn warm(&self, guess: usize) -> u64 {
        let spelling = self.recent.get_bucket(guess);
        spelling.map_or(0, |spelling| {
            spelling.hash ^ u64::from(spelling.name_length)
        })
    }

    /// The same for the bytes that the spelling points to, once that is near.
    #[inline]
    pub(super) fn warm_bytes(&self, guess: usize) -> u8 {
        self.recent.get_bucket(guess).map_or(0, |spelling| {
            let byte = |at| spelling.raw.get(at).copied().unwrap_or_default();
            byte(0) ^ byte(64) ^ byte(spelling.raw.len().wrapping_sub(1))
        })
    }

    /// Where these bytes are remembered, if they were seen of late.
    #[inline]
    pub(super) fn find(&self, probe: Probe<'_>, guess: Option<usize>) -> Option<Found> {
        let is_right = |place: &usize| {
            let spelling = self.recent.get_bucket(*place);
            spelling.is_some_and(|spelling| probe.is(spelling))
        };
        let place = guess.filter(is_right).or_else(|| {
            self.recent
                .find_bucket_index(probe.hash, |spelling| probe.is(spelling))
        })?;
        let key_hash = self.recent.get_bucket(place)?.key_hash;
        Some(Found { place, key_hash })
    }

    /// The key that was found.
    #[inline]
    pub(super) fn key(&self, found: Found) -> Option<&Arc<Key>> {
        self.recent
            .get_bucket(found.place)
            .map(|spelling| &spelling.key)
    }

    /// As [`KeyCache::key`], to be replaced by an equal one.
    #[inline]
    pub(super) fn key_mut(&mut self, found: Found) -> Option<&mut Arc<Key>> {
        self.recent
            .get_bucket_mut(found.place)
            .map(|spelling| &mut spelling.key)
    }

    fn len(&self) -> usize {
        self.recent.len() + self.older.len()
    }
}

impl<'a> Probe<'a> {
    #[inline]
    pub(super) fn of(sample: &Sample<'a>) -> Self {
        Self::new(sample.name, sample.kind, sample.tags)
    }

    #[inline]
    fn new(name: &'a [u8], kind: Kind, tags: Option<&'a [u8]>) -> Self {
        let tags = tags.unwrap_or_default();
        // The name's hash as the tags' seed keeps its end apart from their beginning: both may hold any byte.
        let seed = xxh3_64_with_seed(name, kind as u64);
        Self {
            name,
            kind,
            tags,
            hash: xxh3_64_with_seed(tags, seed),
        }
    }

    /// The same, where the hash is known.
    #[inline]
    pub(super) fn hashed(sample: &Sample<'a>, hash: u64) -> Self {
        Self {
            name: sample.name,
            kind: sample.kind,
            tags: sample.tags.unwrap_or_default(),
            hash,
        }
    }

    pub(super) fn hash(&self) -> u64 {
        self.hash
    }

    #[inline]
    fn is(&self, spelling: &Spelling) -> bool {
        self.hash == spelling.hash
            && self.kind == spelling.kind
            && self.name.len() == spelling.name_length as usize
            && spelling
                .raw
                .split_at_checked(self.name.len())
                .is_some_and(|(name, tags)| tags == self.tags && name == self.name)
    }

    fn spelling(&self, key: Key) -> Spelling {
        Spelling {
            hash: self.hash,
            raw: [self.name, self.tags].concat().into(),
            key_hash: key.hash64(),
            key: Arc::new(key),
            name_length: self.name.len() as u32,
            kind: self.kind,
        }
    }
}

impl Drop for KeyCache {
    fn drop(&mut self) {
        self.allowance.forget(self.len());
        self.allowance.writers.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;
    use crate::key::{Scope, Tags};

    fn cache(capacity: usize) -> KeyCache {
        KeyCache::new(capacity, Allowance::new(usize::MAX))
    }

    /// Looks `name` up and tells whether it had to be made.
    fn is_made(cache: &mut KeyCache, name: &str, kind: Kind, tags: Option<&[u8]>) -> bool {
        let mut made = false;
        let make = || {
            made = true;
            Ok::<_, Infallible>(Key::new(name, kind, Tags::default(), Scope::Mixed))
        };
        let probe = Probe::new(name.as_bytes(), kind, tags);
        let guess = cache.guess(probe.hash());
        let known = cache.find(probe, guess).is_some();
        assert_eq!(known, cache.find(probe, Some(0)).is_some());
        let key = Arc::clone(cache.get_or_make(probe, make).unwrap());
        assert!(!(known && made), "what is found is not made again");
        let found = cache.find(probe, None).unwrap();
        assert!(Arc::ptr_eq(cache.key(found).unwrap(), &key));
        assert_eq!(found.key_hash, key.hash64());
        assert!(cache.guess(probe.hash()).is_some());
        assert_eq!((&**key.name(), key.kind()), (name, kind));
        made
    }

    #[test]
    fn a_known_spelling_is_not_made_again() {
        let mut cache = cache(10);
        assert!(is_made(&mut cache, "a", Kind::Counter, Some(b"x")));
        assert!(!is_made(&mut cache, "a", Kind::Counter, Some(b"x")));
    }

    #[test]
    fn spellings_differ_by_name_kind_and_tags() {
        let mut cache = cache(10);
        assert!(is_made(&mut cache, "a", Kind::Counter, Some(b"bc")));
        assert!(is_made(&mut cache, "ab", Kind::Counter, Some(b"c")));
        assert!(is_made(&mut cache, "a", Kind::Gauge, Some(b"bc")));
        assert!(is_made(&mut cache, "a", Kind::Counter, None));
    }

    #[test]
    fn what_failed_is_not_remembered() {
        let mut cache = cache(10);
        assert_eq!(
            cache
                .get_or_make(Probe::new(b"a", Kind::Counter, None), || Err("no"))
                .unwrap_err(),
            "no"
        );
        assert!(is_made(&mut cache, "a", Kind::Counter, None));
    }

    #[test]
    fn memory_is_bounded_and_what_is_in_use_stays() {
        let mut cache = cache(8);
        assert!(is_made(&mut cache, "used", Kind::Counter, None));
        for number in 0..1000 {
            assert!(is_made(
                &mut cache,
                &format!("n{number}"),
                Kind::Counter,
                None
            ));
            assert!(!is_made(&mut cache, "used", Kind::Counter, None));
            assert!(cache.len() <= 16);
        }
        assert!(
            is_made(&mut cache, "n0", Kind::Counter, None),
            "the oldest is forgotten"
        );
        assert!(!is_made(&mut cache, "n999", Kind::Counter, None));
    }

    #[test]
    fn writers_share_what_all_may_hold_and_the_idle_ones_starve_nobody() {
        const LIMIT: usize = 10_000;
        let allowance = Allowance::new(LIMIT);
        let mut caches: Vec<_> = (0..10)
            .map(|_| KeyCache::new(LIMIT, Arc::clone(&allowance)))
            .collect();
        for round in 0..3 * LIMIT {
            for cache in caches.iter_mut().take(if round < LIMIT { 1 } else { 10 }) {
                is_made(cache, &format!("n{round}"), Kind::Counter, None);
            }
            let held: usize = caches.iter().map(KeyCache::len).sum();
            assert_eq!(held, allowance.held.load(Ordering::Relaxed));
            assert!(held <= 2 * LIMIT, "{held}");
        }
        // What one looks up again and again it still knows.
        for cache in &mut caches {
            for repeated in 0..3 {
                for number in 0..LIMIT / 20 {
                    let made = is_made(cache, &format!("again{number}"), Kind::Counter, None);
                    assert_eq!(made, repeated == 0);
                }
            }
        }
        drop(caches);
        assert_eq!(allowance.held.load(Ordering::Relaxed), 0);
        assert_eq!(allowance.writers.load(Ordering::Relaxed), 0);
    }
}
