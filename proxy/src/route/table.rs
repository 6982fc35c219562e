//! Which ring was, is and will be in force.
//!
//! What always holds: a ring is in force from one moment to the next one's; of any moment it can be told which ring that is, for as long as
//! rings are kept. So a metric that is delivered late, or again, by whichever proxy, goes where it went at first.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tributary_proto::scan::Scanned;

use crate::destination::Destination;
use crate::ignore::IgnoredTags;
use crate::ring::Ring;

/// How long a ring is kept that is no longer in force.
pub const RING_HISTORY: Duration = Duration::from_secs(600);

/// The wall clock, in milliseconds since the Unix epoch.
pub(crate) fn wall_clock() -> u64 {
    SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |since| since.as_millis() as u64)
}

/// A ring, what belongs into its keys, and its destinations: swapped whole.
#[derive(Debug)]
pub struct Table {
    generation: u64,
    /// From when on it is in force, in milliseconds since the Unix epoch.
    since: u64,
    ring: Arc<Ring>,
    ignored: Arc<IgnoredTags>,
    /// One for each of the ring's members, in their order.
    destinations: Vec<Arc<Destination>>,
}

impl Table {
    /// A table whose destinations stand in the order of the ring's members, in force from `since` on, in milliseconds since the Unix epoch. Tags in
    /// `ignored` are not part of the key.
    pub fn new(
        generation: u64,
        since: u64,
        ring: Arc<Ring>,
        ignored: Arc<IgnoredTags>,
        destinations: Vec<Arc<Destination>>,
    ) -> Self {
        debug_assert!(
            ring.members().len() == destinations.len()
                && ring
                    .members()
                    .iter()
                    .zip(&destinations)
                    .all(|(member, destination)| member.address == *destination.address()),
            "a table has the destinations of its ring"
        );
        Self {
            generation,
            since,
            ring,
            ignored,
            destinations,
        }
    }

    /// Counts the tables of this process, from 0, the empty one.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// From when on it is in force, in milliseconds since the Unix epoch.
    pub fn since(&self) -> u64 {
        self.since
    }

    /// The ring.
    pub fn ring(&self) -> &Arc<Ring> {
        &self.ring
    }

    /// Tags that are left out of the key.
    pub fn ignored(&self) -> &Arc<IgnoredTags> {
        &self.ignored
    }

    /// The destinations, in the order of the ring's members.
    pub fn destinations(&self) -> &[Arc<Destination>] {
        &self.destinations
    }

    /// Where a metric's key falls on the ring. `key` is room to work in.
    #[inline]
    fn spot(&self, metric: &Scanned<'_>, key: &mut Vec<u8>) -> u64 {
        key.clear();
        metric.routing_key(
            |tag| self.ignored.contains(tag),
            |piece| key.extend_from_slice(piece),
        );
        self.ring.spot(key)
    }

    /// Where an address stands among them.
    fn place_of(&self, address: &str) -> Option<usize> {
        self.destinations
            .iter()
            .position(|destination| **destination.address() == *address)
    }
}

/// The table of this moment, those before it, and the one that is to come.
#[derive(Debug)]
pub struct Tables {
    current: Arc<Table>,
    next: Option<Arc<Table>>,
    /// The newest first.
    past: Vec<Arc<Table>>,
}

impl Tables {
    pub(super) fn new(current: Table) -> Self {
        Self {
            current: Arc::new(current),
            next: None,
            past: Vec::new(),
        }
    }

    /// The one in force.
    pub fn current(&self) -> &Arc<Table> {
        &self.current
    }

    /// The one that is known to come.
    pub fn next(&self) -> Option<&Arc<Table>> {
        self.next.as_ref()
    }

    /// The one in force at a moment, in milliseconds since the Unix epoch: the oldest one that is known, if need be.
    pub fn at(&self, moment: u64) -> &Arc<Table> {
        self.next
            .iter()
            .chain([&self.current])
            .chain(&self.past)
            .find(|table| table.since <= moment)
            .or_else(|| self.past.last())
            .unwrap_or(&self.current)
    }

    /// With another table in force, and `next` to come. What nobody can ask for any more is let go.
    pub(super) fn with(&self, current: Arc<Table>, next: Option<Arc<Table>>, now: u64) -> Self {
        let mut past = self.past.clone();
        let superseded = current.generation != self.current.generation;
        if superseded && !self.current.destinations.is_empty() {
            past.insert(0, self.current.clone());
        }
        // A table's end is the beginning of the one after it.
        let horizon = now.saturating_sub(RING_HISTORY.as_millis() as u64);
        let mut end = current.since;
        past.retain(|table| {
            let kept = end >= horizon;
            end = table.since;
            kept
        });
        Self {
            current,
            next,
            past,
        }
    }

    /// The way of metrics that were flushed at this moment, or of those that do not say.
    pub(super) fn way<'t>(&'t self, flushed_at: Option<u64>) -> Way<'t> {
        let mut lanes: Vec<&'t Arc<Destination>> = self.current.destinations.iter().collect();
        let then = flushed_at
            .map(|moment| self.at(moment))
            .filter(|table| !Arc::ptr_eq(table, &self.current));
        let then = then.map(|table| {
            // Those that are to come are members as good as any; those that were must be there still.
            let is_to_come = table.generation > self.current.generation;
            let lane = |destination: &'t Arc<Destination>| {
                let place = self.current.place_of(destination.address());
                if place.is_none() && (is_to_come || destination.is_available()) {
                    lanes.push(destination);
                    return Some(lanes.len() - 1);
                }
                place
            };
            (&**table, table.destinations.iter().map(lane).collect())
        });
        Way {
            now: &self.current,
            then,
            lanes,
        }
    }
}

/// Where metrics go: to their owner of another moment where it is there still, and otherwise to that of this moment.
#[derive(Debug)]
pub(super) struct Way<'t> {
    now: &'t Table,
    /// A table, and for each of its members the lane of its destination.
    then: Option<(&'t Table, Vec<Option<usize>>)>,
    lanes: Vec<&'t Arc<Destination>>,
}

impl<'t> Way<'t> {
    /// The destinations; each has its lane.
    pub(super) fn lanes(&self) -> &[&'t Arc<Destination>] {
        &self.lanes
    }

    /// The lane of a metric. `key` is room to work in.
    pub(super) fn lane(&self, metric: &Scanned<'_>, key: &mut Vec<u8>) -> Option<usize> {
        self.lane_at(self.spot(metric, key))
    }

    /// Where a metric's key falls. `key` is room to work in.
    #[inline]
    pub(super) fn spot(&self, metric: &Scanned<'_>, key: &mut Vec<u8>) -> Spot {
        Spot {
            now: self.now.spot(metric, key),
            then: match &self.then {
                Some((then, _)) => then.spot(metric, key),
                None => 0,
            },
        }
    }

    /// The lane of what falls there.
    #[inline]
    pub(super) fn lane_at(&self, spot: Spot) -> Option<usize> {
        if let Some((then, lanes)) = &self.then {
            let owner = then.ring.owner_at(spot.then);
            if let Some(Some(lane)) = owner.and_then(|owner| lanes.get(owner)) {
                return Some(*lane);
            }
        }
        self.now.ring.owner_at(spot.now)
    }
}

/// Where a key falls on the rings of a [`Way`].
#[derive(Debug, Clone, Copy)]
pub(super) struct Spot {
    now: u64,
    /// Means nothing if there is no other moment's ring.
    then: u64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ring::Algorithm;

    /// Tables count as superseded only where they have destinations, and these have none: the past is put together by hand.
    fn table(generation: u64, since: u64) -> Arc<Table> {
        let ring = Ring::build(Algorithm::Hashring, []).unwrap();
        Arc::new(Table::new(
            generation,
            since,
            ring.into(),
            Arc::default(),
            Vec::new(),
        ))
    }

    #[test]
    fn each_moment_has_its_ring() {
        let tables = Tables {
            current: table(3, 300),
            next: Some(table(4, 400)),
            past: vec![table(2, 200), table(1, 100)],
        };
        let at = |moment| tables.at(moment).generation();
        assert_eq!(
            [0, 100, 199, 200, 300, 399, 400, 900].map(at),
            [1, 1, 1, 2, 3, 3, 4, 4]
        );
    }

    #[test]
    fn a_ring_is_kept_until_nobody_asks_for_its_time() {
        let history = RING_HISTORY.as_millis() as u64;
        let tables = Tables {
            current: table(3, 300),
            next: None,
            past: vec![table(2, 200), table(1, 100)],
        };
        let kept = |now| {
            let after = tables.with(tables.current.clone(), None, now);
            after
                .past
                .iter()
                .map(|table| table.generation)
                .collect::<Vec<_>>()
        };
        // The first ended at 200, the second at 300.
        assert_eq!(kept(200 + history), [2, 1]);
        assert_eq!(kept(201 + history), [2]);
        assert_eq!(kept(301 + history), [0; 0]);
    }
}
