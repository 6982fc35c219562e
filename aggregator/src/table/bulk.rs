//! Many samples at once.
//!
//! A sample alone costs mostly waiting: its spelling, its series and its sampler stand in a dozen places of memory that nobody has looked at
//! for a while, and each is known only once the one before has come. And between two samples stands a lock, past which a processor reads nothing ahead.
//! So many samples go through each step together, in loops so short that a processor runs many rounds ahead: the waits of one step are waited for at the
//! same time. Shards are locked once for all of their samples, and as many at once as it takes for some [`TOGETHER`].
//!
//! Several locks are held only here, and always taken in the order of the shards: so two writers never wait for each other. What comes out is what [`Writer::sample`] makes of the samples one after the other: those of one series keep their order.

use std::hint::black_box;
use std::sync::atomic::Ordering;

use parking_lot::MutexGuard;

use super::cache::{Found, KeyCache, Probe};
use super::shard::{Seat, Shard};
use super::wanted::Wanted;
use super::writer::{Observation, SampleError};
use super::{Brought, Writer, position};
use crate::sample::Sample;

/// Fewer samples than this go one by one: there is nothing to wait for together.
const FEW: usize = 4;

/// So many samples' series are looked for at the same time. Other writers wait for that long, a few microseconds.
const TOGETHER: usize = 48;

/// Room that is kept from one call to the next.
#[derive(Debug, Default)]
pub(super) struct Bulk {
    /// Where each shard's samples end in `order`.
    ends: Vec<usize>,
    /// Places of samples, by shard and then as they came.
    order: Vec<usize>,
    /// Where the series of the samples at hand are: which of the locked shards, and where in it.
    places: Vec<(usize, Option<usize>)>,
    /// Of the samples at hand, those whose series found no room.
    homeless: Vec<usize>,
}

/// A sample on its way.
struct Staged<'a> {
    place: usize,
    hash: u64,
    observation: Observation<'a>,
    guess: Option<usize>,
    found: Option<Found>,
}

/// What becomes of refused samples.
struct Refusals<F> {
    tell: F,
    count: u64,
}

impl<F: FnMut(usize, SampleError)> Refusals<F> {
    #[cold]
    fn refuse(&mut self, place: usize, error: SampleError) {
        self.count += 1;
        (self.tell)(place, error);
    }
}

impl Writer {
    /// As [`Writer::sample`] for each of them in order, in much less time; `refused` is told the place of each that is refused, in any order.
    pub fn samples(&mut self, samples: &[Sample<'_>], mut refused: impl FnMut(usize, SampleError)) {
        if samples.len() < FEW || self.taps.open().is_some() {
            for (place, sample) in samples.iter().enumerate() {
                if let Err(error) = self.sample(sample) {
                    refused(place, error);
                }
            }
            return;
        }
        let mut refusals = Refusals {
            tell: refused,
            count: 0,
        };
        let mut staged = stage(samples, &mut refusals);
        if self.find_spellings(samples, &mut staged, &mut refusals) {
            self.merge_staged(&staged, &mut refusals);
        } else {
            for staged in &staged {
                let merged = samples.get(staged.place).map(|s| self.merge_sample(s));
                if let Some(Err(error)) = merged {
                    refusals.refuse(staged.place, error);
                }
            }
        }
        if refusals.count > 0 {
            let counter = &self.table.refused.samples;
            counter.fetch_add(refusals.count, Ordering::Relaxed);
        }
    }

    /// Finds the keys of all; those that are not known yet are made. False if they are more than the cache holds at once.
    fn find_spellings<F: FnMut(usize, SampleError)>(
        &mut self,
        samples: &[Sample<'_>],
        staged: &mut Vec<Staged<'_>>,
        refusals: &mut Refusals<F>,
    ) -> bool {
        let Self {
            table,
            cache,
            names,
            ..
        } = self;
        for staged in staged.iter_mut() {
            staged.guess = cache.guess(staged.hash);
        }
        let guesses = || staged.iter().filter_map(|staged| staged.guess);
        black_box(guesses().fold(0, |sum, guess| sum ^ cache.warm(guess)));
        black_box(guesses().fold(0, |sum, guess| sum ^ cache.warm_bytes(guess)));
        let probe = |staged: &Staged<'_>| {
            let sample = samples.get(staged.place)?;
            Some(Probe::hashed(sample, staged.hash))
        };
        let find_all = |cache: &KeyCache, staged: &mut [Staged<'_>]| {
            let mut all = true;
            for staged in staged {
                staged.found = probe(staged).and_then(|probe| cache.find(probe, staged.guess));
                all &= staged.found.is_some();
            }
            all
        };
        if find_all(cache, staged) {
            return true;
        }
        staged.retain(|staged| {
            let (None, Some(sample)) = (staged.found, samples.get(staged.place)) else {
                return true;
            };
            let probe = Probe::hashed(sample, staged.hash);
            let made = cache.get_or_make(probe, || table.canon.key_of(names, sample));
            made.map_err(|error| refusals.refuse(staged.place, error))
                .is_ok()
        });
        find_all(cache, staged)
    }

    fn merge_staged<F: FnMut(usize, SampleError)>(
        &mut self,
        staged: &[Staged<'_>],
        refusals: &mut Refusals<F>,
    ) {
        let Self {
            table, cache, bulk, ..
        } = self;
        bulk.sort(staged, table.shards.len());
        let Bulk {
            ends,
            order,
            places,
            homeless,
        } = bulk;
        let mut shards = table.shards.iter().zip(&*ends);
        let mut locked = Vec::with_capacity(TOGETHER.min(shards.len()));
        let mut start = 0;
        while start < staged.len() {
            let mut end = start;
            places.clear();
            while end < start + TOGETHER
                && let Some((shard, &shard_end)) = shards.next()
            {
                if shard_end > end {
                    places.resize(shard_end - start, (locked.len(), None));
                    locked.push(shard.lock());
                    end = shard_end;
                }
            }
            let Some(group) = order.get(start..end).filter(|group| !group.is_empty()) else {
                break;
            };
            start = end;
            let each = || group.iter().filter_map(|at| staged.get(*at));
            find_series(cache, &locked, each, places);
            // One new series may move all others.
            let all_known = places.iter().all(|(_, place)| place.is_some());
            for ((at, staged), &(shard, place)) in group.iter().zip(each()).zip(&*places) {
                let Some(shard) = locked.get_mut(shard) else {
                    continue;
                };
                let seat = match (place.filter(|_| all_known), staged.found) {
                    (Some(place), _) => shard.found_seat(place),
                    (None, Some(found)) => match cache.key_mut(found) {
                        Some(mut key) => shard.seat(&mut key),
                        None => None,
                    },
                    (None, None) => None,
                };
                match seat.map(|seat| staged.merge_into(seat)) {
                    Some(Ok(())) => shard.count(Brought::Sample),
                    Some(Err(error)) => refusals.refuse(staged.place, error),
                    None => homeless.push(*at),
                }
            }
            locked.clear();
            // Without a lock: the overflow series may be in any shard.
            for staged in homeless.drain(..).filter_map(|at| staged.get(at)) {
                let Some(key) = staged.found.and_then(|found| cache.key_mut(found)) else {
                    continue;
                };
                let folded = table.fold(Wanted::parts(&key), Brought::Sample, |sampler| {
                    staged.observation.merge_into(sampler)
                });
                if let Err(error) = folded {
                    refusals.refuse(staged.place, error);
                }
            }
        }
    }
}

impl Bulk {
    /// Brings samples into the order of their shards; those of one stay in theirs.
    fn sort(&mut self, staged: &[Staged<'_>], shards: usize) {
        let shard = |staged: &Staged<'_>| {
            let hash = staged.found.map_or(0, |found| found.key_hash);
            position(hash, shards)
        };
        // First where each shard's begin; writing one moves that on, until it is where they end.
        self.ends.clear();
        self.ends.resize(shards, 0);
        for staged in staged {
            if let Some(count) = self.ends.get_mut(shard(staged)) {
                *count += 1;
            }
        }
        let mut sum = 0;
        for count in &mut self.ends {
            sum += std::mem::replace(count, sum);
        }
        self.order.clear();
        self.order.resize(staged.len(), 0);
        for (at, staged) in staged.iter().enumerate() {
            if let Some(next) = self.ends.get_mut(shard(staged)) {
                if let Some(place) = self.order.get_mut(*next) {
                    *place = at;
                }
                *next += 1;
            }
        }
    }
}

impl Staged<'_> {
    #[inline]
    fn merge_into(&self, seat: Seat<'_>) -> Result<(), SampleError> {
        seat.change(|sampler| self.observation.merge_into(sampler))
    }
}

/// Finds the series of samples in the locked shards, as far as they are there, and brings their samplers near.
fn find_series<'s, I: Iterator<Item = &'s Staged<'s>>>(
    cache: &KeyCache,
    locked: &[MutexGuard<'_, Shard>],
    each: impl Fn() -> I,
    places: &mut [(usize, Option<usize>)],
) {
    for (staged, (shard, place)) in each().zip(places.iter_mut()) {
        let guess = |found: Found| locked.get(*shard)?.guess(found.key_hash);
        *place = staged.found.and_then(guess);
    }
    let series = |shard: usize, place: Option<usize>| locked.get(shard)?.found(place?);
    for &(shard, place) in places.iter() {
        black_box(series(shard, place).map_or(0, |series| series.merged));
    }
    for (staged, (shard, place)) in each().zip(places.iter_mut()) {
        let guess = *place;
        let find = |found: Found| {
            let key = cache.key(found)?;
            locked.get(*shard)?.find(found.key_hash, key, guess)
        };
        *place = staged.found.and_then(find);
    }
    let found = || {
        let series = places.iter().map(|&(shard, place)| series(shard, place));
        each().zip(series)
    };
    for (staged, series) in found() {
        if let Some(series) = series {
            staged.observation.warm(&series.sampler);
        }
    }
    for (staged, series) in found() {
        if let Some(series) = series {
            staged.observation.warm_end(&series.sampler);
        }
    }
}

/// Checks samples and hashes their bytes.
fn stage<'a, F: FnMut(usize, SampleError)>(
    samples: &'a [Sample<'_>],
    refusals: &mut Refusals<F>,
) -> Vec<Staged<'a>> {
    let mut staged = Vec::with_capacity(samples.len());
    for (place, sample) in samples.iter().enumerate() {
        match Observation::of(sample) {
            Ok(observation) => staged.push(Staged {
                place,
                hash: Probe::of(sample).hash(),
                observation,
                guess: None,
                found: None,
            }),
            Err(error) => refusals.refuse(place, error),
        }
    }
    staged
}

#[cfg(test)]
mod tests;
