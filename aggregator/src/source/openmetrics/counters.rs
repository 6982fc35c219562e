//! What counters grew by from scrape to scrape.

use std::collections::HashMap;

use xxhash_rust::xxh3::Xxh3;

use super::parse::Sample;

/// A series that is on no page for so many scrapes is forgotten.
const KEPT: u64 = 5;

/// The counters of one target.
#[derive(Debug, Default)]
pub(super) struct Counters {
    /// Scrapes that were taken, with the one that is read now.
    scrape: u64,
    known: HashMap<u128, Known>,
}

#[derive(Debug)]
struct Known {
    value: f64,
    scrape: u64,
}

/// What a counter grew by.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Growth {
    /// It cannot be told: nothing was known of the target before.
    Unknown,
    /// By so much.
    By(f64),
    /// It began anew, and is there since.
    Reset(f64),
}

impl Counters {
    /// A page is read now.
    pub(super) fn begin(&mut self) {
        self.scrape += 1;
    }

    /// A counter is there now. One that is new on a page of a target that is known began there, at zero.
    pub(super) fn growth(&mut self, sample: &Sample<'_>) -> Growth {
        let now = Known {
            value: sample.value,
            scrape: self.scrape,
        };
        match self.known.insert(series(sample), now) {
            None if self.scrape <= 1 => Growth::Unknown,
            None => Growth::By(sample.value),
            Some(before) if sample.value < before.value => Growth::Reset(sample.value),
            Some(before) => Growth::By(sample.value - before.value),
        }
    }

    /// The page has ended.
    pub(super) fn end(&mut self) {
        let scrape = self.scrape;
        self.known.retain(|_, known| known.scrape + KEPT > scrape);
    }
}

fn series(sample: &Sample<'_>) -> u128 {
    let mut hash = Xxh3::new();
    let labels = sample.labels.iter();
    let labels = labels.flat_map(|(key, value)| [&**key, &**value]);
    for text in std::iter::once(&*sample.name).chain(labels) {
        hash.update(&text.len().to_le_bytes());
        hash.update(text.as_bytes());
    }
    hash.digest128()
}
