//! Forward: sampler state sent upstream, to one proxy or several.
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
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};
use tributary_node::discovery::Discovery;
use tributary_node::tls::Connector;
use tributary_proto::metricpb::Metric;
use tributary_proto::scan;

pub use address::AddressError;
pub use batch::BatchLimits;
#[cfg(feature = "kafka")]
pub use kafka::ForwardKafka;
pub use ledger::{Backlog, Ledger};
pub use queue::Retention;

use batch::Owners;
use destination::{Destination, Pool};
use dispatch::{Flush, Settings, Shared};
use event::FlushTaken;
use ledger::Loss;

/// Flushes that may wait to be encoded. Encoding waits for nothing, so that a second one is rare.
const WAITING_FLUSHES: usize = 4;

/// Time for counting what is lost at the end.
const COUNTING: Duration = Duration::from_secs(1);

/// What failures of TLS are counted by: the settings' key.
pub const HOP: &str = "forward_tls";

/// A stream's part of a flush, in bytes: a usual flush goes as one.
const STREAM_BYTES: usize = 16 << 20;

/// How metrics travel upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// gRPC, a list of metrics in each call. A destination that does not know the method gets `stream` from then on.
    #[default]
    Unary,
    /// gRPC, a stream for each flush, as Veneur's last agents do it.
    Stream,
    /// `POST /import` with JSON and zlib, as Veneur's first proxies and globals want it.
    Json,
}

/// Where to forward to, and within what bounds.
#[derive(Debug, Clone)]
pub struct ForwardConfig {
    /// `host:port` or `http://host:port` each, `https://host:port` with TLS. Their load is shared. Not used where they are discovered.
    pub addresses: Vec<String>,
    /// A topic in the place of addresses.
    #[cfg(feature = "kafka")]
    pub topic: Option<ForwardKafka>,
    /// With it, all of them are spoken to by TLS.
    pub tls: Option<Connector>,
    /// How metrics travel.
    pub protocol: Protocol,
    /// An attempt that has no answer by then has failed. Connecting gets a fifth of it.
    pub timeout: Duration,
    /// How large a batch may get. Streams take no notice: theirs is as much of a flush as fits in 16 MiB.
    pub batch: BatchLimits,
    /// Batches under way to one destination at a time: at most four until it has said that it recognises repeats. One that acknowledges takes as
    /// long as the slowest global behind it, so that there should be room for a whole flush.
    pub at_once: usize,
    /// For how long and how much is kept while no destination takes it.
    pub retention: Retention,
}

impl Default for ForwardConfig {
    fn default() -> Self {
        Self {
            addresses: Vec::new(),
            #[cfg(feature = "kafka")]
            topic: None,
            tls: None,
            protocol: Protocol::default(),
            timeout: Duration::from_secs(10),
            batch: BatchLimits {
                metrics: 2_000,
                bytes: 1 << 20,
            },
            at_once: 32,
            retention: Retention {
                time: Duration::from_secs(300),
                bytes: 64 << 20,
            },
        }
    }
}

impl ForwardConfig {
    /// Whether it names anybody.
    fn names_nobody(&self) -> bool {
        #[cfg(feature = "kafka")]
        if self.topic.is_some() {
            return false;
        }
        self.addresses.is_empty()
    }
}

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

/// Checks the addresses; connects nowhere. Destinations of the pool `before` are taken over.
fn settings(config: &ForwardConfig, before: Option<&Pool>) -> Result<Settings, AddressError> {
    let first = before.map_or(0, Pool::next_place);
    let destinations: Vec<_> = (first..)
        .zip(&config.addresses)
        .map(|(place, address)| {
            if let Some(known) = before.and_then(|before| before.named(address)) {
                return Ok(known);
            }
            Destination::new(place, address, config).map(Arc::new)
        })
        .collect::<Result<_, _>>()?;
    let limits = match config.protocol {
        Protocol::Unary | Protocol::Json => config.batch,
        Protocol::Stream => BatchLimits {
            metrics: u32::MAX,
            bytes: STREAM_BYTES,
        },
    };
    #[cfg(feature = "kafka")]
    let (destinations, limits) = match &config.topic {
        None => (destinations, limits),
        Some(topic) => (
            vec![writer(topic, first, config.timeout, before)?],
            BatchLimits {
                bytes: config.batch.bytes.min(kafka::MESSAGE_BYTES),
                ..config.batch
            },
        ),
    };
    Ok(Settings {
        pool: Arc::new(Pool::new(destinations, config.at_once)),
        limits,
        retention: config.retention,
    })
}

/// The one of the pool `before`, or a new one.
#[cfg(feature = "kafka")]
fn writer(
    topic: &ForwardKafka,
    place: usize,
    timeout: Duration,
    before: Option<&Pool>,
) -> Result<Arc<Destination>, AddressError> {
    let name = kafka::KafkaLink::name(topic);
    match before.and_then(|before| before.named(&name)) {
        Some(known) => Ok(known),
        None => Destination::topic(place, topic, timeout).map(Arc::new),
    }
}

fn unix_milliseconds(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
