//! Who is on the ring, with which weight, and who joins it when.
//!
//! A destination that goes leaves at once: what is sent to it is lost time. One that comes waits for a boundary of intervals, by the wall
//! clock, the first one that is half an interval away or more, so that no key has two owners within an interval, and so that all proxies change over at the same moment although each hears of it at
//! its own. A weight that changes moves keys between destinations that live, and waits likewise.
//!
//! What always holds:
//! - as long as anybody is known somebody who has weight is on the ring;
//! - whoever joins does so at a multiple of the interval, unless nobody else is left; likewise for another weight;
//! - the outcome depends on what was discovered between which middles of intervals alone;
//! - from the middle of an interval on, it is known who joins at its end.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use crate::ring::Member;

/// An addition that is heard of in this last part of an interval, one half, waits for the boundary after the next: other proxies may hear of it a
/// little later, and whoever leaves in it hands over to those who will be on the ring.
const MARGIN: u64 = 2;

/// See the module. Moments are milliseconds since the Unix epoch.
#[derive(Debug, Clone)]
pub(crate) struct Roster {
    interval: u64,
    /// In the order in which they are added to a ring.
    discovered: Vec<Member>,
    /// Those of them that have been dead for too long.
    dead: HashSet<Arc<str>>,
    /// Those on the ring, with the weights that count.
    active: HashMap<Arc<str>, u16>,
    /// Which weight counts from when on, for those that join and for those that get another one. Of one address there are two at most: what is
    /// heard of in the last moments of an interval comes after what was to be at its end.
    pending: BTreeMap<(u64, Arc<str>), u16>,
}

impl Roster {
    /// Nobody yet, with boundaries at multiples of `interval`.
    pub(crate) fn new(interval: Duration) -> Self {
        Self {
            interval: (interval.as_millis() as u64).max(1),
            discovered: Vec::new(),
            dead: HashSet::new(),
            active: HashMap::new(),
            pending: BTreeMap::new(),
        }
    }

    /// These are discovered now, and no others. One of them at least must have a weight.
    pub(crate) fn discover(&mut self, members: Vec<Member>, now: u64) {
        self.discovered = members;
        self.settle(now);
    }

    /// These count as gone although they are discovered.
    pub(crate) fn bury(&mut self, dead: HashSet<Arc<str>>, now: u64) {
        self.dead = dead;
        self.settle(now);
    }

    /// Lets that happen whose time has come. Returns the boundary, if there was any.
    pub(crate) fn advance(&mut self, now: u64) -> Option<u64> {
        let mut boundary = None;
        while let Some(entry) = self.pending.first_entry()
            && entry.key().0 <= now
        {
            let ((due, address), weight) = entry.remove_entry();
            self.active.insert(address, weight);
            boundary = Some(due);
        }
        if boundary.is_some() {
            self.keep_an_owner();
        }
        boundary
    }

    /// All that are discovered.
    pub(crate) fn discovered(&self) -> &[Member] {
        &self.discovered
    }

    /// Those on the ring, in order.
    pub(crate) fn active(&self) -> Vec<Member> {
        let members = self.discovered.iter().filter_map(|member| {
            let weight = *self.active.get(&member.address)?;
            let address = member.address.clone();
            Some(Member { address, weight })
        });
        members.collect()
    }

    /// When the ring changes next, and who is on it then, in order.
    pub(crate) fn next(&self) -> Option<(u64, Vec<Member>)> {
        let ((due, _), _) = self.pending.first_key_value()?;
        let mut then = self.clone();
        then.advance(*due);
        Some((*due, then.active()))
    }

    /// Those that wait to join, or for the weight that they have here, in order.
    pub(crate) fn pending(&self) -> Vec<Member> {
        let waits = |member: &&Member| self.pending.keys().any(|key| key.1 == member.address);
        self.discovered.iter().filter(waits).cloned().collect()
    }

    /// Those that may be on the ring: all that live, or just all if no other owner would be better.
    fn eligible(&self) -> HashMap<Arc<str>, u16> {
        let weighed = |member: &Member| (member.address.clone(), member.weight);
        let alive = |member: &&Member| !self.dead.contains(&member.address);
        let living: HashMap<_, _> = self.discovered.iter().filter(alive).map(weighed).collect();
        match living.values().any(|weight| *weight > 0) {
            true => living,
            false => self.discovered.iter().map(weighed).collect(),
        }
    }

    fn settle(&mut self, now: u64) {
        let eligible = self.eligible();
        self.active
            .retain(|address, _| eligible.contains_key(address));
        self.pending.retain(|key, _| eligible.contains_key(&key.1));
        if self.keep_an_owner() {
            return;
        }
        let boundary = self.boundary_after(now);
        for (address, weight) in eligible {
            if self.planned(&address) == Some(weight) {
                continue;
            }
            // What it is to be at a boundary that is still far enough away is taken back.
            let of_another = |key: &(u64, Arc<str>)| key.1 != address || key.0 < boundary;
            self.pending.retain(|key, _| of_another(key));
            if self.planned(&address) != Some(weight) {
                self.pending.insert((boundary, address), weight);
            }
        }
    }

    /// The weight that it has when nothing waits any more.
    fn planned(&self, address: &Arc<str>) -> Option<u16> {
        let mut planned = self.pending.iter().rev();
        let last = planned.find(|(key, _)| key.1 == *address);
        last.map(|(_, weight)| weight)
            .or_else(|| self.active.get(address))
            .copied()
    }

    /// If nobody on the ring has any weight, all that may be there are at once. Tells whether that was so.
    fn keep_an_owner(&mut self) -> bool {
        if self.active.values().any(|weight| *weight > 0) {
            return false;
        }
        self.pending.clear();
        self.active = self.eligible();
        true
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

    /// Members by address, with a weight behind a `*`.
    fn names(members: &str) -> Vec<Member> {
        let member = |member: &str| match member.split_once('*') {
            None => Member::new(member),
            Some((address, weight)) => Member {
                weight: weight.parse().unwrap(),
                ..Member::new(address)
            },
        };
        members.split_whitespace().map(member).collect()
    }

    fn dead(addresses: &str) -> HashSet<Arc<str>> {
        addresses.split_whitespace().map(Arc::from).collect()
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
        roster.bury(dead("b"), 101_000);
        assert_eq!((roster.active(), roster.next()), (names("a"), None));
        roster.bury(HashSet::new(), 104_000);
        assert_eq!(roster.next(), Some((110_000, names("a b"))));
        roster.bury(dead("a b"), 105_000);
        assert!(!roster.active().is_empty());
    }

    #[test]
    fn another_weight_counts_from_the_next_boundary_on() {
        let mut roster = roster("a b");
        roster.discover(names("a*3 b*0"), 103_000);
        assert_eq!(roster.active(), names("a b"));
        assert_eq!(roster.next(), Some((110_000, names("a*3 b*0"))));
        assert_eq!(roster.pending(), names("a*3 b*0"));
        assert_eq!(roster.advance(110_000), Some(110_000));
        assert_eq!((roster.active(), roster.next()), (names("a*3 b*0"), None));
    }

    #[test]
    fn a_weight_that_is_taken_back_in_time_never_counts() {
        let mut roster = roster("a b");
        roster.discover(names("a*3 b"), 101_000);
        roster.discover(names("a*2 b"), 102_000);
        assert_eq!(roster.next(), Some((110_000, names("a*2 b"))));
        roster.discover(names("a b"), 104_000);
        assert_eq!((roster.active(), roster.next()), (names("a b"), None));
        // Too late: other proxies may hear of it after the boundary.
        roster.discover(names("a*3 b"), 104_500);
        roster.discover(names("a b"), 106_000);
        assert_eq!(roster.advance(110_000), Some(110_000));
        assert_eq!(roster.active(), names("a*3 b"));
        assert_eq!(roster.next(), Some((120_000, names("a b"))));
    }

    #[test]
    fn a_drained_destination_owns_again_when_no_other_is_left() {
        let mut roster = roster("a b*0");
        assert_eq!(roster.active(), names("a b*0"));
        roster.discover(names("a b*2"), 101_000);
        roster.discover(names("b*2"), 102_000);
        assert_eq!((roster.active(), roster.next()), (names("b*2"), None));
    }

    #[test]
    fn the_dead_stay_when_only_drained_ones_live() {
        let mut roster = roster("a b*0");
        roster.bury(dead("a"), 101_000);
        assert_eq!(roster.active(), names("a b*0"));
    }
}
