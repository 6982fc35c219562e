//! What happens in a proxy, as types: each writes its log line and its counters together.
//!
//! Names that Veneur's proxies have are kept, with their meaning. What can happen very often is counted each time and logged once in a
//! while for each destination and cause.

use std::sync::LazyLock;
use std::time::Duration;

use tracing::{debug, error, info, warn};

use tributary_node::metrics::DISCOVERY_ERRORS;
use tributary_node::repeats::{More, Repeats};

use crate::metrics;
use crate::route::Skipped;

/// Holds back log lines that repeat, by what they tell, whom it concerns, and the cause.
static REPEATS: LazyLock<Repeats<(&'static str, String, &'static str)>> =
    LazyLock::new(Repeats::default);

fn tell(what: &'static str, whom: &str, cause: &'static str) -> Option<More> {
    REPEATS.tell(&(what, whom.to_owned(), cause))
}

/// How metrics reach a proxy; the names are Veneur's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    Unary,
    Stream,
    Http,
}

impl Protocol {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Unary => "grpc-single",
            Self::Stream => "grpc-stream",
            Self::Http => "http",
        }
    }
}

/// Metrics of one request, or one stretch of a stream, were queued for their destinations.
#[derive(Debug)]
pub(crate) struct MetricsRouted<'a> {
    pub protocol: Protocol,
    pub metrics: u64,
    pub skipped: &'a Skipped,
    /// Scan, look-up and queueing.
    pub took: Duration,
}

impl MetricsRouted<'_> {
    pub(crate) fn emit(&self) {
        let protocol = self.protocol.name();
        metrics::METRICS_ROUTED
            .with([protocol.into()])
            .increment(self.metrics);
        metrics::PROXY_DURATION.record(self.took.as_nanos() as f64);
        for (cause, metrics) in self.skipped.iter() {
            MetricsSkipped {
                protocol: self.protocol,
                cause,
                metrics,
                detail: "cannot be routed",
            }
            .emit();
        }
    }
}

/// Metrics of a request were skipped while the others went on.
#[derive(Debug)]
pub(crate) struct MetricsSkipped<'a> {
    pub protocol: Protocol,
    pub cause: &'static str,
    pub metrics: u64,
    pub detail: &'a str,
}

impl MetricsSkipped<'_> {
    pub(crate) fn emit(&self) {
        let (protocol, cause) = (self.protocol.name(), self.cause);
        metrics::IMPORT_ERRORS
            .with([protocol.into(), cause.into()])
            .increment(self.metrics);
        if let Some(more) = tell("skipped", protocol, cause) {
            warn!(
                protocol,
                cause,
                metrics = self.metrics,
                detail = self.detail,
                "metrics skipped{more}"
            );
        }
    }
}

/// A request was answered.
#[derive(Debug)]
pub(crate) struct RequestServed {
    pub protocol: Protocol,
    pub took: Duration,
}

impl RequestServed {
    pub(crate) fn emit(&self) {
        metrics::IMPORT_DURATION
            .with([self.protocol.name().into()])
            .record(self.took.as_nanos() as f64);
    }
}

/// A whole request was refused, and nothing of it taken.
#[derive(Debug)]
pub(crate) struct RequestRefused<'a> {
    pub protocol: Protocol,
    /// Veneur's `deflate`, `json` and `unknown_content_encoding`; ours `empty`, `framing`, `too_large`, `no_destination`, `total_full`, `stream`.
    pub cause: &'static str,
    /// What the sender is told.
    pub detail: &'a str,
}

impl RequestRefused<'_> {
    pub(crate) fn emit(&self) {
        let (protocol, cause) = (self.protocol.name(), self.cause);
        metrics::REQUESTS_REFUSED
            .with([protocol.into(), cause.into()])
            .increment(1);
        if let Some(more) = tell("refused", protocol, cause) {
            warn!(
                protocol,
                cause,
                detail = self.detail,
                "request refused{more}"
            );
        }
    }
}

/// A batch reached its destination.
#[derive(Debug)]
pub(crate) struct BatchDelivered<'a> {
    pub destination: &'a str,
    pub metrics: u32,
    pub bytes: usize,
    pub took: Duration,
}

impl BatchDelivered<'_> {
    pub(crate) fn emit(&self) {
        let destination = self.destination.to_owned();
        metrics::METRICS_PROXIED
            .with([destination.into()])
            .increment(u64::from(self.metrics));
        metrics::FORWARD_DURATION.record(self.took.as_nanos() as f64);
        metrics::CONTENT_LENGTH.record(self.bytes as f64);
    }
}

/// A batch was not delivered this time.
#[derive(Debug)]
pub(crate) struct ForwardFailed<'a> {
    pub destination: &'a str,
    pub cause: &'static str,
    pub detail: &'a str,
    /// Whether it goes again.
    pub retried: bool,
}

impl ForwardFailed<'_> {
    pub(crate) fn emit(&self) {
        let destination = self.destination.to_owned();
        metrics::FORWARD_ERRORS
            .with([self.cause.into(), destination.into()])
            .increment(1);
        if let Some(more) = tell("failed", self.destination, self.cause) {
            warn!(
                destination = self.destination,
                cause = self.cause,
                detail = self.detail,
                retried = self.retried,
                "forwarding failed{more}"
            );
        }
    }
}

/// Metrics that no destination will get through this proxy.
#[derive(Debug)]
pub(crate) struct MetricsLost<'a> {
    /// Empty where there is none.
    pub destination: &'a str,
    /// `queue_full`, `total_full`, `no_destination`, `shutdown`, or why forwarding failed.
    pub cause: &'static str,
    pub metrics: u64,
}

impl MetricsLost<'_> {
    pub(crate) fn emit(&self) {
        let destination = self.destination.to_owned();
        metrics::METRICS_FAILED
            .with([self.cause.into(), destination.into()])
            .increment(self.metrics);
        if let Some(more) = tell("lost", self.destination, self.cause) {
            error!(
                destination = self.destination,
                cause = self.cause,
                metrics = self.metrics,
                "metrics lost{more}"
            );
        }
    }
}

/// Metrics that stay with their senders: they are told that these are not known to be merged.
#[derive(Debug)]
pub(crate) struct MetricsReturned<'a> {
    pub destination: &'a str,
    /// `connect`, `connection`, `stalled` or `busy` for a destination that is unavailable; `queue_full`, `late`, `retired`, `shutdown`; or
    /// why forwarding failed.
    pub cause: &'static str,
    pub metrics: u64,
}

impl MetricsReturned<'_> {
    pub(crate) fn emit(&self) {
        let destination = self.destination.to_owned();
        metrics::METRICS_RETURNED
            .with([self.cause.into(), destination.into()])
            .increment(self.metrics);
        if let Some(more) = tell("returned", self.destination, self.cause) {
            info!(
                destination = self.destination,
                cause = self.cause,
                metrics = self.metrics,
                "metrics are left to their senders{more}"
            );
        }
    }
}

/// A request of stamped metrics was answered.
#[derive(Debug)]
pub(crate) struct RequestAcknowledged {
    pub acknowledged: u64,
    pub unacknowledged: u64,
}

impl RequestAcknowledged {
    pub(crate) fn emit(&self) {
        metrics::ACKNOWLEDGED.increment(self.acknowledged);
        metrics::UNACKNOWLEDGED.increment(self.unacknowledged);
    }
}

/// A destination does not answer: senders are not made to wait for it.
#[derive(Debug)]
pub(crate) struct DestinationUnavailable<'a> {
    pub destination: &'a str,
    pub cause: &'static str,
}

impl DestinationUnavailable<'_> {
    pub(crate) fn emit(&self) {
        let destination = self.destination.to_owned();
        metrics::UNAVAILABLE
            .with([self.cause.into(), destination.into()])
            .increment(1);
        if let Some(more) = tell("unavailable", self.destination, self.cause) {
            warn!(
                destination = self.destination,
                cause = self.cause,
                "destination is unavailable{more}"
            );
        }
    }
}

/// A destination answers again.
#[derive(Debug)]
pub(crate) struct DestinationAvailable<'a> {
    pub destination: &'a str,
    pub after: Duration,
}

impl DestinationAvailable<'_> {
    pub(crate) fn emit(&self) {
        metrics::UNAVAILABLE_SECONDS.record(self.after.as_secs_f64());
        if let Some(more) = tell("available", self.destination, "") {
            info!(
                destination = self.destination,
                after = ?self.after,
                "destination is available again{more}"
            );
        }
    }
}

/// A connection to a destination stands.
#[derive(Debug)]
pub(crate) struct Connected<'a> {
    pub destination: &'a str,
}

impl Connected<'_> {
    pub(crate) fn emit(&self) {
        metrics::CONNECTS.with(["success".into()]).increment(1);
        info!(destination = self.destination, "connected");
    }
}

/// An attempt to connect failed; there will be another.
#[derive(Debug)]
pub(crate) struct ConnectFailed<'a> {
    pub destination: &'a str,
    pub detail: &'a str,
    /// Failures before this one in a row: only the first is worth a warning.
    pub before: u32,
    pub next_in: Duration,
}

impl ConnectFailed<'_> {
    pub(crate) fn emit(&self) {
        let (destination, detail) = (self.destination, self.detail);
        metrics::CONNECTS
            .with(["failed_connect".into()])
            .increment(1);
        metrics::FORWARD_ERRORS
            .with(["connect".into(), destination.to_owned().into()])
            .increment(1);
        if self.before == 0 {
            warn!(destination, detail, next_in = ?self.next_in, "cannot connect, trying again");
        } else {
            debug!(destination, detail, next_in = ?self.next_in, "still cannot connect");
        }
    }
}

/// A connection to a destination is gone.
#[derive(Debug)]
pub(crate) struct Disconnected<'a> {
    pub destination: &'a str,
}

impl Disconnected<'_> {
    pub(crate) fn emit(&self) {
        metrics::DISCONNECTS.increment(1);
        info!(destination = self.destination, "disconnected");
    }
}

/// A destination does not know the unary method and gets a stream for each batch from now on.
#[derive(Debug)]
pub(crate) struct StreamingInstead<'a> {
    pub destination: &'a str,
}

impl StreamingInstead<'_> {
    pub(crate) fn emit(&self) {
        info!(
            destination = self.destination,
            "destination does not know SendMetrics, using SendMetricsV2"
        );
    }
}

/// The ring changed.
#[derive(Debug)]
pub(crate) struct RingChanged<'a> {
    pub generation: u64,
    pub destinations: usize,
    pub added: &'a [String],
    pub removed: &'a [String],
    /// On the ring before and after, with another weight.
    pub reweighted: &'a [String],
    /// Discovered, and on the ring, or of this weight, from the next boundary of intervals on.
    pub pending: &'a [String],
    pub took: Duration,
}

impl RingChanged<'_> {
    pub(crate) fn emit(&self) {
        metrics::RING_CHANGES.increment(1);
        metrics::RING_GENERATION.set(self.generation as f64);
        metrics::RING_DESTINATIONS.set(self.destinations as f64);
        info!(
            generation = self.generation,
            destinations = self.destinations,
            added = ?self.added,
            removed = ?self.removed,
            reweighted = ?self.reweighted,
            pending = ?self.pending,
            took = ?self.took,
            "ring changed"
        );
    }
}

/// Destinations were discovered that join the ring later, or get another weight then.
#[derive(Debug)]
pub(crate) struct RingScheduled<'a> {
    pub generation: u64,
    pub pending: &'a [String],
    pub within: Duration,
}

impl RingScheduled<'_> {
    pub(crate) fn emit(&self) {
        info!(
            generation = self.generation,
            pending = ?self.pending,
            within = ?self.within,
            "destinations join the ring, or change their weight, at the next boundary of intervals"
        );
    }
}

/// Discovery gives weights that the ring's algorithm does not know; all count as 1.
#[derive(Debug)]
pub(crate) struct WeightsIgnored<'a> {
    pub algorithm: &'static str,
    /// The first of those that have one.
    pub destination: &'a str,
    pub weight: u16,
}

impl WeightsIgnored<'_> {
    pub(crate) fn emit(&self) {
        warn!(
            algorithm = self.algorithm,
            destination = self.destination,
            weight = self.weight,
            "the ring's algorithm knows no weights: all destinations count alike"
        );
    }
}

/// Discovery failed or named nobody; the ring stays as it is.
#[derive(Debug)]
pub(crate) struct DiscoveryFailed<'a> {
    pub service: &'a str,
    pub detail: &'a str,
}

impl DiscoveryFailed<'_> {
    pub(crate) fn emit(&self) {
        DISCOVERY_ERRORS
            .with([self.service.to_owned().into()])
            .increment(1);
        warn!(
            service = self.service,
            detail = self.detail,
            "discovery failed, destinations stay as they are"
        );
    }
}
