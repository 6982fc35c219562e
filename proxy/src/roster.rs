//! Who is on the ring, and who joins it when.
//!
//! A destination that goes leaves at once: what is sent to it is lost time. One that comes waits for a boundary of intervals, by the wall
//! clock, the first one that is half an interval away or more, so that no key has two owners within an interval, and so that all proxies change over at the same moment although each hears of it at
//! its own.
//!
//! What always holds:
//! - as long as anybody is known somebody is on the ring;
//! - whoever joins does so at a multiple of the interval, unless nobody else is left;
//! - the outcome depends on what was discovered between which middles of intervals alone;
//! - from the middle of an interval on, it is known who joins at its end.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

/// An addition that is heard of in this last part of an interval, one half, waits for the boundary after the next: other proxies may hear of it a
/// little later, and whoever leaves in it hands over to those who will be on the ring.
const MARGIN: u64 = 2;

/// See the module. Moments are milliseconds since the Unix epoch.
#[derive(Debug, Clone)]
pub(crate) struct Roster {
    interval: u64,
    /// In the order in which they are added to a ring.
    discovered: Vec<String>,
    /// Those of them that have been dead for too long.
    dead: HashSet<String>,
    active: HashSet<String>,
    /// When each of the others joins.
    pending: BTreeMap<String, u64>,
}

impl Roster {
    /// Nobody yet, with boundaries at multiples of `interval`.
    pub(crate) fn new(interval: Duration) -> Self {
        Self {
            interval: (interval.as_millis() as u64).max(1),
            discovered: Vec::new(),
            dead: HashSet::new(),
            active: HashSet::new(),
            pending: BTreeMap::new(),
        }
    }

    /// These are discovered now, and no others.
    pub(crate) fn discover(&mut self, addresses: Vec<String>, now: u64) {
        self.discovered = addresses;
        self.settle(now);
    }

    /// These count as gone although they are discovered.
    pub(crate) fn bury(&mut self, dead: HashSet<String>, now: u64) {
        self.dead = dead;
        self.settle(now);
    }

    /// Lets those join whose time has come. Returns the boundary, if there were any.
    pub(crate) fn advance(&mut self, now: u64) -> Option<u64> {
        let due = *self.pending.values().filter(|due| **due <= now).max()?;
        let (joining, waiting) = std::mem::take(&mut self.pending)
            .into_iter()
            .partition(|entry| entry.1 <= now);
        self.pending = waiting;
        let joining: BTreeMap<String, u64> = joining;
        self.active.extend(joining.into_keys());
        Some(due)
    }

    /// All that are discovered.
    pub(crate) fn discovered(&self) -> &[String] {
        &self.discovered
    }

    /// Those on the ring, in order.
    pub(crate) fn active(&self) -> Vec<String> {
        self.of(|address| self.active.contains(address))
    }

    /// When the ring changes next, and who is on it then, in order.
    pub(crate) fn next(&self) -> Option<(u64, Vec<String>)> {
        let due = *self.pending.values().min()?;
        let joins = |address: &String| self.pending.get(address).is_some_and(|at| *at <= due);
        let members = self.of(|address| self.active.contains(address) || joins(address));
        Some((due, members))
    }

    /// Those that wait, in order.
    pub(crate) fn pending(&self) -> Vec<String> {
        self.of(|address| self.pending.contains_key(address))
    }

    fn of(&self, chosen: impl Fn(&String) -> bool) -> Vec<String> {
        self.discovered
            .iter()
            .filter(|address| chosen(address))
            .cloned()
            .collect()
    }

    fn settle(&mut self, now: u64) {
        let mut eligible: HashSet<String> = self
            .of(|address| !self.dead.contains(address))
            .into_iter()
            .collect();
        if eligible.is_empty() {
            // All are dead: no other owner would be better.
            eligible = self.discovered.iter().cloned().collect();
        }
        self.active.retain(|address| eligible.contains(address));
        self.pending.retain(|address, _| eligible.contains(address));
        if self.active.is_empty() {
            self.pending.clear();
            self.active = eligible;
            return;
        }
        let due = self.boundary_after(now);
        for address in eligible {
            if !self.active.contains(&address) {
                self.pending.entry(address).or_insert(due);
            }
        }
    }

    /// The boundary at which whoever is heard of now joins.
    fn boundary_after(&self, now: u64) -> u64 {
        let margin = self.interval / MARGIN;
        let boundary = (now / self.interval + 1) * self.interval;
        if boundary - now < margin {
            boundary + self.interval
        } else {
            boundary
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(addresses: &str) -> Vec<String> {
        addresses.split_whitespace().map(str::to_owned).collect()
    }

    fn roster(addresses: &str) -> Roster {
        let mut roster = Roster::new(Duration::from_secs(10));
        roster.discover(names(addresses), 100_000);
        roster
    }

    #[test]
    fn the_first_ring_is_there_at_once() {
        let roster = roster("a b");
        assert_eq!((roster.active(), roster.next()), (names("a b"), None));
    }

    #[test]
    fn whoever_goes_leaves_at_once_and_whoever_comes_joins_at_the_next_boundary() {
        let mut roster = roster("a b c");
        roster.discover(names("a c d"), 103_000);
        assert_eq!(roster.active(), names("a c"));
        assert_eq!(roster.next(), Some((110_000, names("a c d"))));
        assert_eq!(roster.advance(109_999), None);
        assert_eq!(roster.advance(110_003), Some(110_000));
        assert_eq!((roster.active(), roster.next()), (names("a c d"), None));
    }

    #[test]
    fn whoever_comes_in_the_second_half_of_an_interval_waits_for_the_boundary_after_the_next() {
        let mut early = roster("a");
        early.discover(names("a b"), 105_000);
        assert_eq!(early.next().unwrap().0, 110_000);
        let mut late = roster("a");
        late.discover(names("a b"), 105_001);
        assert_eq!(late.next().unwrap().0, 120_000);
        // Each has its own boundary.
        late.discover(names("a b c"), 110_500);
        early.discover(names("a b c"), 109_500);
        assert_eq!(early.next(), Some((110_000, names("a b"))));
        assert_eq!(early.advance(110_000), Some(110_000));
        assert_eq!(early.next(), Some((120_000, names("a b c"))));
        assert_eq!(late.next(), Some((120_000, names("a b c"))));
    }

    #[test]
    fn whoever_left_and_came_back_joins_anew() {
        let mut roster = roster("a b");
        roster.discover(names("a"), 101_000);
        roster.discover(names("a b"), 102_000);
        assert_eq!(roster.active(), names("a"));
        assert_eq!(roster.pending(), names("b"));
        roster.discover(names("a"), 103_000);
        assert_eq!(
            (roster.pending(), roster.advance(110_000)),
            (Vec::new(), None)
        );
    }

    #[test]
    fn when_nobody_is_left_those_that_come_join_at_once() {
        let mut roster = roster("a");
        roster.discover(names("a b"), 101_000);
        roster.discover(names("b c"), 102_000);
        assert_eq!((roster.active(), roster.next()), (names("b c"), None));
    }

    #[test]
    fn the_dead_leave_and_join_again_when_they_are_back_unless_all_are_dead() {
        let mut roster = roster("a b");
        roster.bury(names("b").into_iter().collect(), 101_000);
        assert_eq!((roster.active(), roster.next()), (names("a"), None));
        roster.bury(HashSet::new(), 104_000);
        assert_eq!(roster.next(), Some((110_000, names("a b"))));
        roster.bury(names("a b").into_iter().collect(), 105_000);
        assert!(!roster.active().is_empty());
    }
}
