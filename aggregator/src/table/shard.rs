//! One lock's part of the table.

use std::sync::Arc;

use hashbrown::HashTable;
use hashbrown::hash_table::{Entry, VacantEntry};

use super::Brought;
use super::cap::{Cap, Standing};
use super::census::Census;
use super::overflow::standing;
use super::sampler::Sampler;
use super::wanted::Wanted;
use crate::key::Key;

/// Series of one part of the key space. Aligned so that two shards' locks never share a cache line.
#[derive(Debug)]
#[repr(align(128))]
pub(super) struct Shard {
    series: HashTable<Series>,
    /// What this map was expected to hold when it was made.
    expected: usize,
    /// Samples merged.
    pub(super) processed: u64,
    /// Imported metrics merged.
    pub(super) imported: u64,
    /// Of both, those merged into an overflow series in place of their own.
    pub(super) folded: u64,
    census: Census,
    /// Shared by all shards of the interval.
    cap: Arc<Cap>,
}

/// One series in the interval.
#[derive(Debug)]
pub(crate) struct Series {
    /// Which one.
    pub(crate) key: Arc<Key>,
    /// What was merged so far.
    pub(crate) sampler: Sampler,
    /// How many samples and imports that was. Written where `sampler` is written anyway.
    pub(crate) merged: u32,
}

/// Where a series is, or would be put.
pub(super) enum Seat<'a> {
    Taken(&'a mut Series),
    Free(FreeSeat<'a>),
}

/// Room that was found for a new series.
pub(super) struct FreeSeat<'a> {
    place: VacantEntry<'a, Series>,
    key: Arc<Key>,
    standing: Standing,
    census: &'a mut Census,
    cap: &'a Cap,
}

impl Shard {
    /// Makes room for so many series; `census` is empty.
    pub(super) fn new(expected: usize, census: Census, cap: Arc<Cap>) -> Self {
        Self {
            series: HashTable::with_capacity(expected),
            expected,
            processed: 0,
            imported: 0,
            folded: 0,
            census,
            cap,
        }
    }

    /// What makes an empty shard with room for as many series as now, so that a steady load never rehashes; after a peak half of the surplus is
    /// given up each time. To be called outside of the lock, as it asks for memory.
    pub(super) fn next(&self) -> impl FnOnce(Arc<Cap>) -> Self + use<> {
        let expected = self.expected_series();
        let census = self.census.next();
        move |cap| Self::new(expected, census, cap)
    }

    fn expected_series(&self) -> usize {
        let now = self.series.len();
        now.max(usize::midpoint(self.expected, now))
    }

    /// How many series there are.
    pub(super) fn len(&self) -> usize {
        self.series.len()
    }

    pub(super) fn into_parts(self) -> (HashTable<Series>, Census) {
        (self.series, self.census)
    }

    /// One more sample or import was merged.
    #[inline]
    pub(super) fn count(&mut self, brought: Brought) {
        match brought {
            Brought::Sample => self.processed += 1,
            Brought::Import => self.imported += 1,
        }
    }

    /// Reads a little of everything that merging into the series with this hash will read, so that it is near by then. The result means nothing; whoever asks for
    /// several series before the first is needed waits once for all of them.
    #[inline]
    pub(super) fn look_at(&self, hash: u64) -> u64 {
        let found = self.series.find(hash, |series| series.key.hash64() == hash);
        found.map_or(0, |Series { key, sampler, .. }| {
            let (name, tags) = (key.name().as_bytes(), key.tags().joined().as_bytes());
            let ends = [name.first(), tags.first(), tags.last()];
            let ends = ends.into_iter().flatten().copied().map(u64::from);
            ends.fold(sampler.look(), u64::wrapping_add)
        })
    }

    /// Where a series with this hash probably is, by the few bits of it that stand apart from the series: these are in the nearest cache.
    #[inline]
    pub(super) fn guess(&self, hash: u64) -> Option<usize> {
        self.series.find_bucket_index(hash, |_| true)
    }

    /// Where a series is that is here under this very copy of its key: true until the next one is put in.
    #[inline]
    pub(super) fn find(&self, hash: u64, key: &Arc<Key>, guess: Option<usize>) -> Option<usize> {
        let same = |series: &Series| Arc::ptr_eq(&series.key, key);
        let is_right = |place: &usize| self.series.get_bucket(*place).is_some_and(same);
        guess
            .filter(is_right)
            .or_else(|| self.series.find_bucket_index(hash, same))
    }

    /// The series that was found.
    #[inline]
    pub(super) fn found(&self, place: usize) -> Option<&Series> {
        self.series.get_bucket(place)
    }

    /// The series that was found, to be changed.
    #[inline]
    pub(super) fn found_seat(&mut self, place: usize) -> Option<Seat<'_>> {
        self.series.get_bucket_mut(place).map(Seat::Taken)
    }

    /// Finds the wanted series, or room for it; `None` if the cap leaves none.
    #[inline]
    pub(super) fn seat(&mut self, wanted: &mut impl Wanted) -> Option<Seat<'_>> {
        let hash = wanted.parts().hash;
        match self
            .series
            .entry(hash, |series| wanted.is_of(&series.key), rehash)
        {
            Entry::Occupied(known) => {
                let series = known.into_mut();
                wanted.found(&series.key);
                Some(Seat::Taken(series))
            }
            Entry::Vacant(place) => {
                let standing = standing(wanted.parts());
                if !self.cap.admit(standing) {
                    if standing == Standing::Own {
                        self.census.note(hash, true, || wanted.name());
                    }
                    return None;
                }
                Some(Seat::Free(FreeSeat {
                    place,
                    key: wanted.key(),
                    standing,
                    census: &mut self.census,
                    cap: &self.cap,
                }))
            }
        }
    }
}

impl Seat<'_> {
    /// Lets `change` work on the sampler. A new series is put in only if that succeeds.
    #[inline]
    pub(super) fn change<E>(
        self,
        change: impl FnOnce(&mut Sampler) -> Result<(), E>,
    ) -> Result<(), E> {
        match self {
            Self::Taken(series) => {
                change(&mut series.sampler)?;
                series.merged = series.merged.saturating_add(1);
                Ok(())
            }
            Self::Free(seat) => {
                let mut sampler = Sampler::new(seat.key.kind());
                let changed = change(&mut sampler);
                seat.settle(changed.is_ok().then_some(sampler));
                changed
            }
        }
    }
}

impl FreeSeat<'_> {
    /// Puts the series in, or gives its room back.
    fn settle(self, sampler: Option<Sampler>) {
        let Some(sampler) = sampler else {
            return self.cap.release(self.standing);
        };
        if self.standing == Standing::Own {
            let name = || Arc::clone(self.key.name());
            self.census.note(self.key.hash64(), false, name);
        }
        self.place.insert(Series {
            key: self.key,
            sampler,
            merged: 1,
        });
    }
}

fn rehash(series: &Series) -> u64 {
    series.key.hash64()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::{Kind, Scope, Tags};
    use crate::table::wanted::KeyParts;

    fn key(number: usize) -> Arc<Key> {
        Arc::new(Key::new(
            format!("n{number}"),
            Kind::Counter,
            Tags::default(),
            Scope::Mixed,
        ))
    }

    fn empty(max_series: usize) -> Shard {
        Shard::new(0, Census::new(1), Arc::new(Cap::new(max_series)))
    }

    fn put(shard: &mut Shard, mut wanted: impl Wanted) -> bool {
        match shard.seat(&mut wanted) {
            Some(seat) => seat.change(|_| Ok::<_, ()>(())).is_ok(),
            None => false,
        }
    }

    #[test]
    fn writers_come_to_share_one_copy_of_a_key() {
        let mut shard = empty(0);
        let (mut first, mut second) = (key(1), key(1));
        assert!(put(&mut shard, &mut first));
        assert!(put(&mut shard, &mut second));
        assert!(Arc::ptr_eq(&first, &second));
    }

    #[test]
    fn keys_whose_hashes_collide_are_told_apart_by_each_part() {
        let mut shard = empty(0);
        let base = KeyParts {
            name: "n",
            kind: Kind::Counter,
            scope: Scope::Global,
            tags: "",
            hash: Key::hash_of("n", Kind::Counter, Scope::Global, ""),
        };
        let cases = [
            base,
            base,
            KeyParts { name: "m", ..base },
            KeyParts { tags: "a", ..base },
            KeyParts {
                kind: Kind::Gauge,
                ..base
            },
            KeyParts {
                scope: Scope::Mixed,
                ..base
            },
        ];
        let mut found = Vec::new();
        for parts in cases {
            let before = shard.series.len();
            assert!(put(&mut shard, parts));
            found.push(shard.series.len() == before);
        }
        assert_eq!(found, [false, true, false, false, false, false]);
    }

    #[test]
    fn room_follows_the_load_up_at_once_and_down_by_and_by() {
        let mut shard = empty(0);
        for number in 0..1000 {
            assert!(put(&mut shard, &mut key(number)));
        }
        assert_eq!(shard.expected_series(), 1000);
        for _ in 0..20 {
            shard = shard.next()(Arc::new(Cap::new(0)));
        }
        assert_eq!(shard.expected_series(), 0);
    }

    #[test]
    fn a_change_that_fails_takes_no_room() {
        let mut shard = empty(1);
        let mut wanted = key(1);
        let seat = shard.seat(&mut &mut wanted).unwrap();
        assert_eq!(seat.change(|_| Err("no")), Err("no"));
        assert_eq!(shard.series.len(), 0);
        assert!(put(&mut shard, &mut key(2)));
        assert!(!put(&mut shard, &mut key(3)));
        let known = &mut key(2);
        assert!(put(&mut shard, known), "a known series needs no room");
    }
}
