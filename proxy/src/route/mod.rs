//! From undecoded metrics to the queues of the destinations that own them.
//!
//! A request loads the [`Tables`] once, scans each metric for its key, looks up the owner, and appends to each destination's queue in one
//! go. Metrics stay slices of the request until they are copied into the batch that is sent. What is allocated is allocated for a
//! request, not for a metric.
//!
//! A request whose metrics are stamped, and whose sender therefore can repeat them, is taken in another way than others: it is routed by the
//! ring of its flush, refused whole if there is no room, and answered when its metrics are merged.
//!
//! What always holds: a metric of a request is skipped and counted, or handed to exactly one destination; and all metrics of a request are
//! placed by one and the same table, except those whose destination left meanwhile.

mod shown;
mod sort;
mod table;

use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use tributary_node::tap::Taps;
use tributary_proto::scan::{self, Scanned};

use crate::changes::Changes;
use crate::destination::{Batch, Budget, Held};
use crate::event::{MetricsLost, MetricsRouted, Protocol};
use crate::ledger::{self, Ledger};
use crate::receipt::Receipt;

pub(crate) use table::wall_clock;
pub use table::{RING_HISTORY, Table, Tables};

use crate::destination::Destination;
use sort::Sorted;

/// There is no destination to route to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no destination is known")]
pub struct NoDestination;

/// Why a request was refused whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refused {
    /// There is no destination to route to.
    #[error(transparent)]
    NoDestination(#[from] NoDestination),
    /// The sender keeps its metrics, since no memory is left for them here.
    #[error("the proxy holds as much as it may")]
    Full,
}

/// What became of a request that was taken.
#[derive(Debug)]
pub(crate) enum Taken {
    /// Its metrics are queued, and nobody waits for them.
    Queued,
    /// Its sender is answered when its metrics are merged.
    Waiting(Waiting),
}

/// A request that waits.
#[derive(Debug)]
pub(crate) struct Waiting {
    /// What for.
    pub receipt: Receipt,
    /// How many metrics it has, routed or skipped.
    pub metrics: u64,
    /// The memory that waiting takes.
    pub held: Held,
}

/// What became of a request's metrics.
#[derive(Debug, Default)]
pub struct Routed {
    /// Metrics that are queued.
    pub metrics: u64,
    /// Metrics that cannot be routed.
    pub skipped: Skipped,
    /// Where they are.
    pub parts: Vec<Part>,
}

/// The metrics of a request that went to one destination.
#[derive(Debug)]
pub struct Part {
    /// The destination.
    pub destination: Arc<Destination>,
    /// How many.
    pub metrics: u64,
}

/// Metrics skipped, by cause.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Skipped(Vec<(&'static str, u64)>);

impl Skipped {
    /// Adds some.
    pub fn add(&mut self, cause: &'static str, metrics: u64) {
        match self.0.iter_mut().find(|entry| entry.0 == cause) {
            Some(entry) => entry.1 += metrics,
            None => self.0.push((cause, metrics)),
        }
    }

    /// Each cause with its number.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.0.iter().copied()
    }

    /// How many in all.
    pub fn total(&self) -> u64 {
        self.iter().map(|(_, metrics)| metrics).sum()
    }
}

/// See the module.
#[derive(Debug)]
pub struct Router {
    tables: ArcSwap<Tables>,
    budget: Arc<Budget>,
    ledger: Ledger,
    taps: Taps,
    changes: Changes,
}

impl Router {
    /// Routes by `table`.
    pub fn new(table: Table, budget: Arc<Budget>) -> Self {
        Self {
            tables: ArcSwap::from_pointee(Tables::new(table)),
            budget,
            ledger: Ledger::default(),
            taps: Taps::default(),
            changes: Changes::default(),
        }
    }

    /// Shows to these taps what is routed.
    pub fn with_taps(mut self, taps: Taps) -> Self {
        self.taps = taps;
        self
    }

    /// The table of this moment.
    pub fn table(&self) -> Arc<Table> {
        self.tables.load().current().clone()
    }

    /// The table of this moment, those before it, and the one that is to come.
    pub fn tables(&self) -> Arc<Tables> {
        self.tables.load_full()
    }

    /// The books.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// The last changes of the ring.
    pub(crate) fn changes(&self) -> &Changes {
        &self.changes
    }

    /// Routes by `current` from now on, which may be the table that is in force already, and by `next` what was flushed after its beginning.
    /// To be called from one place only.
    pub fn swap(&self, current: Arc<Table>, next: Option<Arc<Table>>) {
        let tables = self.tables.load().with(current, next, wall_clock());
        self.tables.store(Arc::new(tables));
    }

    /// Queues the metrics of a request, or of a stretch of a stream, and counts them.
    ///
    /// # Errors
    /// [`NoDestination`]; nothing was taken.
    pub(crate) fn route<'m>(
        &self,
        protocol: Protocol,
        metrics: impl ExactSizeIterator<Item = &'m [u8]>,
    ) -> Result<Routed, NoDestination> {
        let start = Instant::now();
        let received = metrics.len() as u64;
        let placed = self.place(metrics);
        match &placed {
            Ok(routed) => self.book(protocol, received, routed, start),
            Err(_) => self.refuse("no_destination", received),
        }
        placed
    }

    /// Takes a unary request: stamped metrics in the way of the module's description, and others as [`Self::route`] does. `flushed_at` is the
    /// time of their flush in milliseconds since the Unix epoch; the sender is answered `within` that time.
    ///
    /// # Errors
    /// [`Refused`]; nothing was taken.
    pub(crate) fn take<'m>(
        &self,
        metrics: impl ExactSizeIterator<Item = &'m [u8]> + Clone,
        bytes: usize,
        flushed_at: Option<u64>,
        within: Duration,
    ) -> Result<Taken, Refused> {
        if !begins_stamped(metrics.clone()) {
            self.route(Protocol::Unary, metrics)?;
            return Ok(Taken::Queued);
        }
        let start = Instant::now();
        let received = metrics.len() as u64;
        let tables = self.tables.load();
        if tables.current().destinations().is_empty() {
            self.refuse("no_destination", received);
            return Err(NoDestination.into());
        }
        let Some(_reserved) = self.make_room(bytes) else {
            self.refuse("total_full", received);
            return Err(Refused::Full);
        };
        let way = tables.way(flushed_at);
        let mut routed = Routed::default();
        let mut sorted = Sorted::new(&way, metrics.len());
        sorted.extend(metrics, &mut routed.skipped);
        if !sorted.is_stamped() {
            // Not all of them would be recognised if they came again.
            self.place_sorted(&sorted, &mut routed);
            self.book(Protocol::Unary, received, &routed, start);
            return Ok(Taken::Queued);
        }
        let mut receipt = Receipt::new(start + within);
        self.ledger.intake(|intake| intake.waiting += received);
        sorted.entrust(&mut receipt, &self.taps);
        routed.metrics = receipt.positions() as u64;
        self.book(Protocol::Unary, received, &routed, start);
        let held = self.budget.hold(receipt.positions() * POSITION);
        Ok(Taken::Waiting(Waiting {
            receipt,
            metrics: received,
            held,
        }))
    }

    /// Routes a batch again that a destination which has left was never sent, or vouches not to have merged.
    pub fn reroute(&self, batch: Batch) {
        let list = batch.list();
        if batch.is_stamped() {
            return self.reroute_claimed(&list, batch);
        }
        let routed = scan::entries(&list)
            .map_err(|_| NoDestination)
            .and_then(|metrics| self.place(metrics));
        if let Err(NoDestination) = routed {
            self.lose(u64::from(batch.metrics()));
        }
    }

    /// Those who wait go on waiting. One metric at a time, since each may have another owner, and few come this way.
    fn reroute_claimed(&self, list: &[u8], mut batch: Batch) {
        let tables = self.tables.load();
        let way = tables.way(None);
        let to_come = tables.next().map(|next| next.since());
        let way_to_come = tables.way(to_come);
        let mut key = Vec::new();
        for (metric, claim) in Batch::claimed(list, batch.take_claims()) {
            let lane = Scanned::scan(metric).ok().and_then(|scanned| {
                // What is handed over for an interval to come is for its owner then.
                let way = match to_come.is_some_and(|to_come| scanned.interval >= to_come) {
                    true => &way_to_come,
                    false => &way,
                };
                way.lane(&scanned, &mut key)
                    .and_then(|lane| way.lanes().get(lane))
            });
            match lane {
                Some(destination) => {
                    shown::show(&self.taps, destination, std::iter::once(metric));
                    let size = scan::framed_len(metric.len());
                    destination.entrust(size, std::iter::once(metric), claim);
                }
                // It was routed before, and a ring that has members is never followed by one that has none.
                None => {
                    claim.merged();
                    self.lose(1);
                }
            }
        }
    }

    fn place<'m>(
        &self,
        metrics: impl ExactSizeIterator<Item = &'m [u8]>,
    ) -> Result<Routed, NoDestination> {
        let mut routed = Routed::default();
        let tables = self.tables.load();
        if tables.current().destinations().is_empty() {
            return Err(NoDestination);
        }
        let way = tables.way(None);
        let mut sorted = Sorted::new(&way, metrics.len());
        sorted.extend(metrics, &mut routed.skipped);
        self.place_sorted(&sorted, &mut routed);
        Ok(routed)
    }

    fn place_sorted(&self, sorted: &Sorted<'_, '_>, routed: &mut Routed) {
        let mut left = sorted.deliver(&mut routed.parts, &self.taps);
        // A destination that left after the table was loaded is not in the table that took that one's place.
        for _ in 0..MOST_SWAPS {
            if left.is_empty() {
                break;
            }
            let tables = self.tables.load();
            let way = tables.way(None);
            let mut sorted = Sorted::new(&way, left.len());
            sorted.extend(left.into_iter(), &mut routed.skipped);
            left = sorted.deliver(&mut routed.parts, &self.taps);
        }
        self.lose(left.len() as u64);
        routed.metrics = routed.parts.iter().map(|part| part.metrics).sum();
        while self.budget.is_exceeded() && self.shed(|_| true) {}
    }

    fn book(&self, protocol: Protocol, received: u64, routed: &Routed, start: Instant) {
        MetricsRouted {
            protocol,
            metrics: routed.metrics,
            skipped: &routed.skipped,
            took: start.elapsed(),
        }
        .emit();
        self.ledger.intake(|intake| {
            intake.received += received;
            for (cause, metrics) in routed.skipped.iter() {
                ledger::add(&mut intake.skipped, cause, metrics);
            }
        });
    }

    fn refuse(&self, cause: &'static str, metrics: u64) {
        self.ledger.intake(|intake| {
            intake.received += metrics;
            ledger::add(&mut intake.refused, cause, metrics);
        });
    }

    /// Room for a request whose sender keeps it otherwise. What waits without hope makes way for it; what is on its way does not.
    fn make_room(&self, bytes: usize) -> Option<Held> {
        loop {
            let held = self.budget.reserve(bytes);
            if held.is_some() || !self.shed(|destination| !destination.is_available()) {
                return held;
            }
        }
    }

    /// Drops the oldest batch of the destination that holds most, of those that `may` pay: it pays that fills the memory. False if nothing
    /// can be dropped.
    fn shed(&self, may: impl Fn(&Destination) -> bool) -> bool {
        let table = self.table();
        let mut fullest: Vec<_> = table
            .destinations()
            .iter()
            .filter(|destination| may(destination))
            .map(|destination| (destination.queued_bytes(), destination))
            .collect();
        fullest.sort_by_key(|entry| std::cmp::Reverse(entry.0));
        fullest.iter().any(|(_, destination)| destination.shed())
    }

    fn lose(&self, metrics: u64) {
        if metrics > 0 {
            self.ledger
                .intake(|intake| ledger::add(&mut intake.lost, "no_destination", metrics));
            MetricsLost {
                destination: "",
                cause: "no_destination",
                metrics,
            }
            .emit();
        }
    }
}

/// Whether the first metric that can be read carries a stamp.
fn begins_stamped<'m>(mut metrics: impl Iterator<Item = &'m [u8]>) -> bool {
    metrics
        .find_map(|metric| Scanned::scan(metric).ok())
        .is_some_and(|scanned| scanned.stamp.is_some())
}

/// Tables that may be swapped in while one request is routed.
const MOST_SWAPS: usize = 4;

/// Bytes that a position of a request that waits takes.
const POSITION: usize = size_of::<u32>();
