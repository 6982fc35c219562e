//! Forward: sampler state sent upstream, to one proxy or several, or to a topic of Kafka. It is the state of this process, or what others have forwarded and a
//! source has brought (the `relay` module).
//!
//! ```text
//! flush → stamp and encode → queue → destination that answers → answer
//!                              ↑___________________|  what is not acknowledged: again, until it is too old
//! ```
//!
//! What always holds:
//! - [`Forwarder::send`] never waits, and a destination that is slow or gone holds up neither the flush nor another destination;
//! - memory is bounded by [`Retention::bytes`] and a few flushes that wait to be encoded; what goes over it is given up oldest first;
//! - every metric handed over is in the end acknowledged, still in the [`Backlog`], or counted as lost by cause
//!   ([`Forwarder::ledger`] has the sums);
//! - to receivers that recognise repeats ([`tributary_proto::ack`]) every metric is sent until it is acknowledged, and only what is not
//!   acknowledged is sent again; to others no metric is sent again that may have been taken (the `outcome` module has the policy);
//! - what one receiver does not acknowledge for long stays out of the way of what comes after it;
//! - every metric carries its stamp, `origin`, `flush` and `index`, and a repeat carries the same one.

mod address;
mod batch;
mod config;
mod destination;
mod dispatch;
mod event;
mod follow;
mod grpc;
mod json;
#[cfg(feature = "kafka")]
mod kafka;
mod ledger;
mod outcome;
mod pause;
mod queue;
mod relay;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};
use tributary_node::discovery::Discovery;
use tributary_proto::metricpb::Metric;
use tributary_proto::scan;

pub use address::AddressError;
pub use batch::BatchLimits;
pub use config::{ForwardConfig, Protocol};
#[cfg(feature = "kafka")]
pub use kafka::ForwardKafka;
pub use ledger::{Backlog, Ledger};
pub use queue::Retention;

use batch::Owners;
use config::settings;
use dispatch::{Flush, Shared};
use event::FlushTaken;
use ledger::Loss;

/// Flushes that may wait to be encoded. Encoding waits for nothing, so that a second one is rare.
const WAITING_FLUSHES: usize = 4;

/// Time for counting what is lost at the end.
const COUNTING: Duration = Duration::from_secs(1);

/// What failures of TLS are counted by: the settings' key.
pub const HOP: &str = "forward_tls";

/// Whether metrics could be forwarded to `address`, with or without TLS: `host:port`, `http://host:port` or `https://host:port`. Connects nowhere.
pub fn check_address(address: &str, tls: bool) -> Result<(), AddressError> {
    address::Address::parse(address, tls).map(drop)
}

/// Takes flushes and delivers them in the background. Dropping it stops that: what is left is counted as lost; see [`Forwarder::drain`].
#[derive(Debug)]
pub struct Forwarder {
    shared: Arc<Shared>,
    /// What is in force.
    config: Arc<Mutex<ForwardConfig>>,
    /// Ends the discovery of destinations, if they are discovered.
    discovering: Option<DropGuard>,
    flushes: mpsc::Sender<Flush>,
    flush: AtomicU64,
    closed: AtomicBool,
}

impl Forwarder {
    /// Checks the addresses and starts, within a tokio runtime. Connections are made when there is something to send.
    pub fn start(config: ForwardConfig) -> Result<Self, AddressError> {
        if config.names_nobody() {
            return Err(AddressError::None);
        }
        Self::begin(config)
    }

    /// Starts, within a tokio runtime, without a destination: those are whom `discovery` names. What is handed over before waits for the first.
    pub fn discover(
        config: ForwardConfig,
        discovery: Box<dyn Discovery>,
    ) -> Result<Self, AddressError> {
        let addresses = Vec::new();
        let mut forwarder = Self::begin(ForwardConfig {
            addresses,
            ..config
        })?;
        let stop = CancellationToken::new();
        let (shared, config) = (Arc::clone(&forwarder.shared), Arc::clone(&forwarder.config));
        let following = follow::follow(discovery, shared, config);
        tokio::spawn(stop.clone().run_until_cancelled_owned(following));
        forwarder.discovering = Some(stop.drop_guard());
        Ok(forwarder)
    }

    fn begin(config: ForwardConfig) -> Result<Self, AddressError> {
        let shared = Arc::new(Shared::new(settings(&config, None)?));
        let (flushes, waiting) = mpsc::channel(WAITING_FLUSHES);
        tokio::spawn(Arc::clone(&shared).encode(waiting));
        tokio::spawn(Arc::clone(&shared).dispatch());
        Ok(Self {
            shared,
            config: Arc::new(Mutex::new(config)),
            discovering: None,
            flushes,
            flush: AtomicU64::new(0),
            closed: AtomicBool::new(false),
        })
    }

    /// Goes over to other settings. What waits goes to the new destinations, with the same stamps; what is under way ends where it is. Destinations
    /// that are discovered stay. On an error nothing changes.
    pub fn reconfigure(&self, config: &ForwardConfig) -> Result<(), AddressError> {
        let mut in_force = self.config.lock();
        let mut config = config.clone();
        if self.discovering.is_some() {
            config.addresses.clone_from(&in_force.addresses);
        } else if config.names_nobody() {
            return Err(AddressError::None);
        }
        change(&self.shared, &mut in_force, config)
    }

    /// Hands over the flush of this moment, without waiting.
    pub fn send(&self, metrics: Vec<Metric>) {
        self.send_flush(SystemTime::now(), metrics);
    }

    /// Hands over one flush, without waiting. `flushed_at` is when it took place: proxies choose the owner of its metrics by that, so it must not
    /// be the time at which its metrics were ready.
    pub fn send_flush(&self, flushed_at: SystemTime, metrics: Vec<Metric>) {
        self.hand_over(Owners::At(unix_milliseconds(flushed_at)), metrics);
    }

    /// Hands over metrics of an interval that is still open, without waiting: they belong to whoever emits them once they are delivered.
    /// `interval` is that of globals which flush halfway between its multiples.
    pub fn send_to_current_owners(&self, metrics: Vec<Metric>, interval: Option<Duration>) {
        self.hand_over(Owners::Emitting(interval), metrics);
    }

    fn hand_over(&self, owners: Owners, metrics: Vec<Metric>) {
        if metrics.is_empty() {
            return;
        }
        let count = metrics.len();
        let books = &self.shared.books;
        books.hand_over(count as u64);
        if self.closed.load(Ordering::Relaxed) {
            books.refuse(count as u64, Loss::Shutdown);
            return;
        }
        let number = self.flush.fetch_add(1, Ordering::Relaxed) + 1;
        let flush = Flush {
            number,
            metrics,
            since: Instant::now(),
            owners,
        };
        match self.flushes.try_send(flush) {
            Ok(()) => FlushTaken {
                flush: number,
                metrics: count,
            }
            .emit(),
            Err(_) => books.refuse(count as u64, Loss::Busy),
        }
    }

    /// What is handed over and has not met its fate.
    pub fn backlog(&self) -> Backlog {
        self.shared.books.backlog()
    }

    /// What became of everything that was ever handed over.
    pub fn ledger(&self) -> Ledger {
        self.shared.books.ledger()
    }

    /// The random number in this process's stamps.
    pub fn origin(&self) -> u64 {
        self.shared.origin()
    }

    /// Takes no more flushes, and goes on until everything is acknowledged or the deadline has come, with short pauses only. What remains then
    /// is counted as lost and returned.
    pub async fn drain(&self, deadline: Instant) -> Backlog {
        self.closed.store(true, Ordering::Relaxed);
        self.shared.hurry();
        let remained = self.shared.books.settle(deadline).await;
        self.shared.stop();
        // What is under way ends at once and is counted: the program may exit after this.
        self.shared.books.settle(Instant::now() + COUNTING).await;
        remained
    }
}

impl Forwarder {
    /// As [`Forwarder::drain`], but what certainly nobody has taken by then is given back instead of being lost.
    pub async fn reclaim(&self, deadline: Instant) -> Unclaimed {
        self.closed.store(true, Ordering::Relaxed);
        self.shared.hurry();
        self.shared.books.settle(deadline).await;
        self.shared.withdraw();
        self.shared.books.settle(Instant::now() + COUNTING).await;
        let batches = self.shared.withdrawn();
        Unclaimed {
            metrics: batches.iter().map(|batch| u64::from(batch.metrics)).sum(),
            lost: self.ledger().lost.values().sum(),
            bodies: batches.into_iter().map(|batch| batch.body).collect(),
        }
    }
}

/// What [`Forwarder::reclaim`] leaves.
#[derive(Debug, Clone, Default)]
pub struct Unclaimed {
    bodies: Vec<Bytes>,
    metrics: u64,
    lost: u64,
}

impl Unclaimed {
    /// How many metrics there are that nobody has taken.
    pub fn metrics(&self) -> u64 {
        self.metrics
    }

    /// How many more are lost: nobody acknowledged them, and somebody may have taken them; or no receiver would have them.
    pub fn lost(&self) -> u64 {
        self.lost
    }

    /// Each of them, encoded.
    pub fn iter(&self) -> impl Iterator<Item = Bytes> + '_ {
        // They were framed here.
        let framed = self
            .bodies
            .iter()
            .filter_map(|body| scan::frames(body).ok());
        framed.flatten()
    }
}

impl Drop for Forwarder {
    fn drop(&mut self) {
        self.shared.stop();
    }
}

/// Goes over from what is `in_force` to `config`. Destinations that are in both keep their connections and what is known of them; TLS, which follows
/// its files by itself, never changes.
fn change(
    shared: &Shared,
    in_force: &mut ForwardConfig,
    config: ForwardConfig,
) -> Result<(), AddressError> {
    let alike = in_force.protocol == config.protocol && in_force.timeout == config.timeout;
    let before = alike.then(|| shared.pool());
    shared.reconfigure(settings(&config, before.as_deref())?);
    *in_force = config;
    Ok(())
}

fn unix_milliseconds(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
