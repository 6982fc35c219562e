//! Where to forward to, how, and within what bounds.

use std::sync::Arc;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tributary_node::tls::Connector;

use super::AddressError;
use super::batch::BatchLimits;
use super::destination::{Destination, Pool};
use super::dispatch::Settings;
#[cfg(feature = "kafka")]
use super::kafka::{ForwardKafka, KafkaLink, MESSAGE_BYTES};
use super::queue::Retention;

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
    pub(super) fn names_nobody(&self) -> bool {
        #[cfg(feature = "kafka")]
        if self.topic.is_some() {
            return false;
        }
        self.addresses.is_empty()
    }
}

/// Checks the addresses; connects nowhere. Destinations of the pool `before` are taken over.
pub(super) fn settings(
    config: &ForwardConfig,
    before: Option<&Pool>,
) -> Result<Settings, AddressError> {
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
                bytes: config.batch.bytes.min(MESSAGE_BYTES),
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
    let name = KafkaLink::name(topic);
    match before.and_then(|before| before.named(&name)) {
        Some(known) => Ok(known),
        None => Destination::topic(place, topic, timeout).map(Arc::new),
    }
}
