//! What happened so far, for pages that show it.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::SystemTime;

use crate::point::Timestamp;

/// How many times something happened since the start, and when last.
#[derive(Debug, Default)]
pub struct Tally {
    total: AtomicU64,
    /// In nanoseconds since 1970; 0: never.
    last: AtomicI64,
}

/// What an [`Enricher`](super::Enricher) has done since its start.
#[derive(Debug, Default)]
pub struct Stats {
    /// Events that became points.
    pub enrich: Tally,
    /// Events that did not, because no application is known for them.
    pub enrich_fail: Tally,
    /// Questions to the Cloud Controller that it did not answer, or with an error, in all their tries.
    pub cf_fail: Tally,
    /// Listings of all applications.
    pub refresh: Tally,
}

impl Tally {
    pub(super) fn add(&self, count: u64) {
        if count > 0 {
            self.total.fetch_add(count, Ordering::Relaxed);
            self.last.store(Timestamp::now().nanos(), Ordering::Relaxed);
        }
    }

    /// How many times.
    pub fn total(&self) -> u64 {
        self.total.load(Ordering::Relaxed)
    }

    /// When last; `None`: never.
    pub fn last(&self) -> Option<SystemTime> {
        let nanos = u64::try_from(self.last.load(Ordering::Relaxed)).ok()?;
        (nanos > 0).then(|| SystemTime::UNIX_EPOCH + std::time::Duration::from_nanos(nanos))
    }
}
