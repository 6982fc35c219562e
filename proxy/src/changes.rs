//! The last changes of the ring, for those who ask what happened.

use std::collections::VecDeque;

use parking_lot::Mutex;
use serde::Serialize;

/// Changes that are kept.
const KEPT: usize = 20;

/// Addresses that are named of those that came or went with one change; the others are only counted.
const NAMED: usize = 10;

/// One change of the ring.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Change {
    /// In milliseconds since the Unix epoch.
    pub(crate) at: u64,
    /// The ring that came into force by it.
    pub(crate) generation: u64,
    /// `discovery` (who is there), `interval` (those that waited for the boundary joined), `settings`, or `availability` (failover, and back).
    pub(crate) cause: &'static str,
    pub(crate) added: Moved,
    pub(crate) removed: Moved,
}

/// Who joined, or who left.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Moved {
    count: usize,
    /// The first of them.
    named: Vec<String>,
}

impl Moved {
    pub(crate) fn of(addresses: &[String]) -> Self {
        Self {
            count: addresses.len(),
            named: addresses.iter().take(NAMED).cloned().collect(),
        }
    }
}

/// The last changes; see the module.
#[derive(Debug, Default)]
pub(crate) struct Changes(Mutex<VecDeque<Change>>);

impl Changes {
    pub(crate) fn note(&self, change: Change) {
        let mut kept = self.0.lock();
        if kept.len() == KEPT {
            kept.pop_back();
        }
        kept.push_front(change);
    }

    /// The newest first.
    pub(crate) fn last(&self) -> Vec<Change> {
        self.0.lock().iter().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_last_are_kept_and_few_addresses_of_each() {
        let changes = Changes::default();
        let addresses: Vec<_> = (0..30).map(|n| format!("g{n}:1")).collect();
        for generation in 1..=30 {
            changes.note(Change {
                at: 1,
                generation,
                cause: "discovery",
                added: Moved::of(&addresses),
                removed: Moved::default(),
            });
        }
        let last = changes.last();
        assert_eq!(last.len(), KEPT);
        assert_eq!((last[0].generation, last[19].generation), (30, 11));
        assert_eq!(
            (last[0].added.count, last[0].added.named.len()),
            (30, NAMED)
        );
    }
}
