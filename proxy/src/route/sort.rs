//! A request's metrics, sorted by their owners.

use tributary_node::tap::Taps;
use tributary_proto::scan::{self, Scanned};

use super::shown::show;
use super::table::{Spot, Way};
use super::{Part, Skipped};
use crate::receipt::Receipt;

/// A request's metrics by owner: a chain of them for each.
pub(super) struct Sorted<'t, 'm> {
    way: &'t Way<'t>,
    entries: Vec<Entry<'m>>,
    lanes: Vec<Lane>,
    stamped: usize,
}

/// A metric, its position in the request, and the next one of the same owner.
struct Entry<'m> {
    metric: &'m [u8],
    position: u32,
    next: u32,
}

/// One owner's chain.
#[derive(Clone, Copy)]
struct Lane {
    first: u32,
    last: u32,
    metrics: u32,
    size: usize,
}

const NONE: u32 = u32::MAX;

/// Metrics whose owners are looked up together. A ring's table is larger than a core's own cache, and the metrics that pass through push it out
/// of there: looked up one by one each look-up waits for memory, and together they wait at the same time.
const BLOCK: usize = 64;

impl<'t, 'm> Sorted<'t, 'm> {
    /// For as many metrics.
    pub(super) fn new(way: &'t Way<'t>, metrics: usize) -> Self {
        let empty = Lane {
            first: NONE,
            last: NONE,
            metrics: 0,
            size: 0,
        };
        Self {
            way,
            entries: Vec::with_capacity(metrics),
            lanes: vec![empty; way.lanes().len()],
            stamped: 0,
        }
    }

    /// Adds a request's metrics, in its order.
    pub(super) fn extend(
        &mut self,
        metrics: impl Iterator<Item = &'m [u8]>,
        skipped: &mut Skipped,
    ) {
        let mut key = Vec::with_capacity(256);
        let mut block = Vec::with_capacity(BLOCK);
        // A request has fewer metrics than bytes.
        for (position, metric) in (0_u32..).zip(metrics) {
            let scanned = match Scanned::scan(metric) {
                Ok(scanned) => scanned,
                Err(error) => {
                    skipped.add(error.cause(), 1);
                    continue;
                }
            };
            self.stamped += usize::from(scanned.stamp.is_some());
            block.push((self.way.spot(&scanned, &mut key), metric, position));
            if block.len() == BLOCK {
                self.add_block(&mut block, skipped);
            }
        }
        self.add_block(&mut block, skipped);
    }

    /// Adds what is in `block`, and empties it.
    fn add_block(&mut self, block: &mut Vec<(Spot, &'m [u8], u32)>, skipped: &mut Skipped) {
        let mut owners = [None; BLOCK];
        for (owner, (spot, _, _)) in owners.iter_mut().zip(&*block) {
            *owner = self.way.lane_at(*spot);
        }
        for (owner, (_, metric, position)) in owners.into_iter().zip(block.drain(..)) {
            self.add(owner, metric, position, skipped);
        }
    }

    #[inline]
    fn add(
        &mut self,
        owner: Option<usize>,
        metric: &'m [u8],
        position: u32,
        skipped: &mut Skipped,
    ) {
        // Every owner has its lane.
        let lane = owner.and_then(|owner| self.lanes.get_mut(owner));
        let (Some(lane), Ok(index)) = (lane, u32::try_from(self.entries.len())) else {
            skipped.add("no_owner", 1);
            return;
        };
        match self.entries.get_mut(lane.last as usize) {
            Some(last) => last.next = index,
            None => lane.first = index,
        }
        lane.last = index;
        lane.metrics += 1;
        lane.size += scan::framed_len(metric.len());
        self.entries.push(Entry {
            metric,
            position,
            next: NONE,
        });
    }

    /// Whether each of its metrics carries a stamp.
    pub(super) fn is_stamped(&self) -> bool {
        self.stamped >= self.entries.len()
    }

    /// Queues each lane. Returns the metrics of destinations that have left.
    pub(super) fn deliver(&self, parts: &mut Vec<Part>, taps: &Taps) -> Vec<&'m [u8]> {
        let mut left = Vec::new();
        for (destination, lane) in self.way.lanes().iter().zip(&self.lanes) {
            if lane.metrics == 0 {
                continue;
            }
            let metrics = u64::from(lane.metrics);
            let chain = self.chain(lane).map(|entry| entry.metric);
            match destination.append(lane.size, metrics, chain) {
                Ok(()) => {
                    show(
                        taps,
                        destination,
                        self.chain(lane).map(|entry| entry.metric),
                    );
                    parts.push(Part {
                        destination: (*destination).clone(),
                        metrics,
                    });
                }
                Err(_) => left.extend(self.chain(lane).map(|entry| entry.metric)),
            }
        }
        left
    }

    /// Queues each lane for a sender that waits until it is merged.
    pub(super) fn entrust(&self, receipt: &mut Receipt, taps: &Taps) {
        for (destination, lane) in self.way.lanes().iter().zip(&self.lanes) {
            if lane.metrics == 0 {
                continue;
            }
            show(
                taps,
                destination,
                self.chain(lane).map(|entry| entry.metric),
            );
            let positions = self.chain(lane).map(|entry| entry.position).collect();
            let claim = receipt.claim(positions);
            let chain = self.chain(lane).map(|entry| entry.metric);
            destination.entrust(lane.size, chain, claim);
        }
    }

    fn chain(&self, lane: &Lane) -> impl Iterator<Item = &Entry<'m>> {
        let mut next = lane.first;
        std::iter::from_fn(move || {
            let entry = self.entries.get(next as usize)?;
            next = entry.next;
            Some(entry)
        })
    }
}
