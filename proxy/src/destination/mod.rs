//! One global, as the proxy sees it: an address, a queue, a connection, and a task that empties the one into the other.
//!
//! What always holds:
//! - queueing never waits, so a destination that is slow, stopped or gone fills its own queue and delays no other;
//! - every metric that was routed here is delivered, returned to its sender, given back to be routed again, or counted as lost by cause;
//! - what may have been merged is sent again only if it is stamped and the destination has said that it recognises repeats;
//! - a destination is connected to for ever, with pauses of seconds at most, until it is retired.

mod backoff;
mod batch;
mod budget;
mod buffers;
mod circuit;
mod grpc;
mod legacy;
mod link;
mod outcome;
mod queue;
mod session;
mod task;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::mpsc::UnboundedSender;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tributary_node::telemetry::Presence;
use tributary_node::tls::{Alpn, ClientTls, Connector, TlsError};
use tributary_proto::scan;

use crate::event::{DestinationAvailable, DestinationUnavailable, MetricsLost, MetricsReturned};
use crate::ledger::Account;
use crate::receipt::Claim;

pub use batch::Batch;
pub use budget::Budget;
pub(crate) use budget::Held;
pub use queue::{Limits, Retired};

use circuit::Circuit;
use queue::NotQueued;

/// What all destinations of a proxy have in common.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The bounds of each queue.
    pub limits: Limits,
    /// How long a connection may take to stand.
    pub dial_timeout: Duration,
    /// How long an answer may take.
    pub forward_timeout: Duration,
    /// How long a destination may be silent with something under way until senders are no longer made to wait for it.
    pub stall_after: Duration,
    /// How destinations are spoken to by TLS, if they are.
    pub tls: Option<Tls>,
}

/// TLS to destinations. Clones share the certificate.
#[derive(Debug, Clone)]
pub struct Tls {
    /// To those that take gRPC.
    grpc: Connector,
    /// To those that take legacy JSON.
    legacy: Connector,
}

impl Tls {
    /// Reads the files; `None` where the settings ask for no TLS. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// When the files are not right.
    pub fn new(settings: &ClientTls) -> Result<Option<Self>, TlsError> {
        if !settings.is_on() {
            return Ok(None);
        }
        let grpc = Connector::new(settings, HOP, Alpn::Http2)?;
        let legacy = grpc.speaking(Alpn::Http1);
        Ok(Some(Self { grpc, legacy }))
    }
}

/// What failures of TLS are counted by: the settings' key.
const HOP: &str = "forward_tls";

/// A destination and its queue; see the module. It is shared by all requests.
#[derive(Debug)]
pub struct Destination {
    address: Arc<str>,
    settings: ArcSwap<Settings>,
    queue: queue::Queue,
    account: Arc<Account>,
    circuit: Circuit,
    connected: AtomicBool,
    repeats: AtomicU8,
    routed: AtomicU64,
    /// Tells the task to end now, whatever is under way.
    abort: CancellationToken,
}

/// A destination's state for an operator.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Report {
    /// The address as configured or discovered.
    pub address: Arc<str>,
    /// Whether a connection stands.
    pub connected: bool,
    /// Why senders are not made to wait for it, if they are not.
    pub unavailable: Option<&'static str>,
    /// Whether it has said that it recognises repeats.
    pub recognises_repeats: bool,
    /// Metrics queued and under way.
    pub queued_metrics: u64,
    /// Bytes queued and under way.
    pub queued_bytes: usize,
}

/// Whether a destination recognises what it has merged before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Repeats {
    /// It has not answered yet.
    Unsaid,
    /// It took something and did not say so.
    Unrecognised,
    Recognised,
}

impl Destination {
    /// Starts the task of a new destination on `tasks`. Batches that it could not send when it leaves go to `orphans`. `abort` closes
    /// it at once; what is queued or under way then is counted as lost.
    pub fn start(
        address: Arc<str>,
        settings: Settings,
        budget: Arc<Budget>,
        account: Arc<Account>,
        orphans: UnboundedSender<Batch>,
        abort: CancellationToken,
        tasks: &TaskTracker,
    ) -> Arc<Self> {
        let destination = Arc::new(Self {
            address,
            queue: queue::Queue::new(settings.limits, budget, account.clone()),
            settings: ArcSwap::from_pointee(settings),
            account,
            circuit: Circuit::default(),
            connected: AtomicBool::new(false),
            repeats: AtomicU8::new(Repeats::Unsaid as u8),
            routed: AtomicU64::new(0),
            abort,
        });
        let (presence, run) = (
            Presence::of(&destination.address),
            task::run(destination.clone(), orphans),
        );
        tasks.spawn(async move {
            run.await;
            // Others may hold the destination for longer: it has nothing to tell any more.
            drop(presence);
        });
        destination
    }

    /// The address as configured or discovered.
    pub fn address(&self) -> &Arc<str> {
        &self.address
    }

    /// These are its settings from now on.
    pub(crate) fn reconfigure(&self, settings: Settings) {
        self.queue.set_limits(settings.limits);
        self.settings.store(Arc::new(settings));
    }

    /// Queues undecoded metrics that take `size` bytes as entries of a list; what has to go for them is counted.
    ///
    /// # Errors
    /// [`Retired`] if they have to be routed again on a newer ring.
    pub fn append<'m>(
        &self,
        size: usize,
        count: u64,
        metrics: impl Iterator<Item = &'m [u8]>,
    ) -> Result<(), Retired> {
        let dropped = self.queue.append(size, metrics)?;
        self.account.receive(count);
        self.routed.fetch_add(count, Ordering::Relaxed);
        self.lose("queue_full", dropped);
        Ok(())
    }

    /// Queues stamped metrics, as [`Self::append`], whose sender waits for what becomes of them. What cannot be queued, or would only make
    /// the sender wait in vain, is left to it at once.
    pub(crate) fn entrust<'m>(
        &self,
        size: usize,
        metrics: impl Iterator<Item = &'m [u8]>,
        claim: Claim,
    ) {
        let count = claim.metrics() as u64;
        self.account.receive(count);
        self.routed.fetch_add(count, Ordering::Relaxed);
        if let Some(cause) = self.circuit.cause() {
            return self.give_back(cause, count);
        }
        match self.queue.append_stamped(size, metrics, claim) {
            Ok(left_out) => self.lose("queue_full", left_out),
            Err(NotQueued::Full) => self.give_back("queue_full", count),
            Err(NotQueued::Retired) => self.give_back("retired", count),
        }
        // It may have become unavailable before they were in the queue.
        if self.circuit.cause().is_some() {
            self.release();
        }
    }

    /// Drops its oldest batch because all queues together hold too much. Returns whether there was one.
    pub fn shed(&self) -> bool {
        let dropped = self.queue.drop_oldest();
        self.lose("total_full", dropped);
        dropped > 0
    }

    /// It is off the ring: closes when it is idle, or gone. What was queued and not stamped is the caller's to route again.
    pub fn leave(&self) -> Vec<Batch> {
        let batches = self.queue.leave();
        self.count_rerouted(&batches);
        batches
    }

    /// It is discovered again. False if it has ended meanwhile, and another has to be started.
    pub fn rejoin(&self) -> bool {
        self.queue.rejoin()
    }

    /// Gives out what is queued and not stamped, to be routed again.
    pub fn give_out(&self) -> Vec<Batch> {
        let batches = self.queue.unsent(false);
        self.count_rerouted(&batches);
        batches
    }

    fn count_rerouted(&self, batches: &[Batch]) {
        let metrics = batches.iter().map(|batch| u64::from(batch.metrics()));
        self.account.reroute(metrics.sum());
    }

    /// Sends what is queued without lingering, then closes.
    pub fn drain(&self) {
        self.queue.drain();
    }

    /// Whether it has closed for good.
    pub fn has_ended(&self) -> bool {
        self.queue.is_finished()
    }

    /// Whether there is a connection, and somebody answers on it as far as is known.
    pub fn is_available(&self) -> bool {
        self.connected.load(Ordering::Relaxed) && self.circuit.cause().is_none()
    }

    /// How long it has been unavailable without a break, if it is.
    pub fn unavailable_for(&self) -> Option<Duration> {
        self.circuit.open_for()
    }

    /// Bytes queued and under way.
    pub fn queued_bytes(&self) -> usize {
        self.queue.bytes()
    }

    /// Metrics queued since this was last asked.
    pub fn take_routed(&self) -> u64 {
        self.routed.swap(0, Ordering::Relaxed)
    }

    /// Its state now.
    pub fn report(&self) -> Report {
        Report {
            address: self.address.clone(),
            connected: self.connected.load(Ordering::Relaxed),
            unavailable: self.circuit.cause(),
            recognises_repeats: self.repeats() == Repeats::Recognised,
            queued_metrics: self.queue.metrics(),
            queued_bytes: self.queue.bytes(),
        }
    }

    /// Senders are not made to wait for it from now on.
    fn suspend(&self, cause: &'static str) {
        if self.circuit.open(cause) {
            let destination = &self.address;
            DestinationUnavailable { destination, cause }.emit();
        }
        self.release();
    }

    /// It has answered.
    fn resume(&self) {
        if let Some(after) = self.circuit.close() {
            let destination = &self.address;
            DestinationAvailable { destination, after }.emit();
        }
    }

    /// Leaves what is stamped and not under way to its senders.
    fn release(&self) {
        let cause = self.circuit.cause().unwrap_or("retired");
        for batch in self.queue.unsent(true) {
            self.give_back(cause, u64::from(batch.metrics()));
        }
    }

    /// Remembers what an answer says about repeats.
    fn note(&self, taken: bool, dedup: bool) {
        let repeats = match (dedup, taken) {
            (true, _) => Repeats::Recognised,
            (false, true) => Repeats::Unrecognised,
            // Something in between may have answered.
            (false, false) => return,
        };
        self.repeats.store(repeats as u8, Ordering::Relaxed);
    }

    fn repeats(&self) -> Repeats {
        match self.repeats.load(Ordering::Relaxed) {
            repeats if repeats == Repeats::Recognised as u8 => Repeats::Recognised,
            repeats if repeats == Repeats::Unrecognised as u8 => Repeats::Unrecognised,
            _ => Repeats::Unsaid,
        }
    }

    fn lose(&self, cause: &'static str, metrics: u64) {
        if metrics > 0 {
            self.account.lose(cause, metrics);
            MetricsLost {
                destination: &self.address,
                cause,
                metrics,
            }
            .emit();
        }
    }

    fn give_back(&self, cause: &'static str, metrics: u64) {
        if metrics > 0 {
            self.account.give_back(cause, metrics);
            MetricsReturned {
                destination: &self.address,
                cause,
                metrics,
            }
            .emit();
        }
    }
}

/// How many bytes these metrics take as entries of a list.
pub fn size_of<'m>(metrics: impl Iterator<Item = &'m [u8]>) -> usize {
    metrics.map(|metric| scan::framed_len(metric.len())).sum()
}
