//! What can happen on the way to a destination: a struct each, whose `emit` writes counters and log line together.

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ::metrics::{Counter, Gauge, SharedString};
use tributary_node::repeats::Repeats;
use tributary_node::telemetry::Presence;

use super::spool::Found;
use crate::metrics;

/// A destination as self-metrics and logs speak of it.
#[derive(Debug)]
pub(super) struct Named {
    /// The sink's configured name.
    sink: Arc<str>,
    /// As configured.
    destination: Arc<str>,
    /// Whether it is connected.
    pub(super) up: Gauge,
    /// Points in memory.
    pub(super) queued: Gauge,
    /// Bytes on disk.
    pub(super) spooled: Gauge,
    written: Counter,
    resent: Counter,
    repeats: Repeats<&'static str>,
    /// Keeps its self-metrics.
    _presence: Presence,
}

/// Why points are lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cause {
    /// Too many waited in memory, and these were the oldest.
    QueueFull,
    /// Too many waited on disk, and these were the oldest.
    SpoolFull,
    /// They still waited in memory when the sink ended.
    Shutdown,
}

/// Why there is no connection, or none any more.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unreachable {
    /// The host's name has no address.
    #[error("cannot find {host}: {error}")]
    Name {
        /// The name.
        host: String,
        /// What the resolver said.
        error: io::Error,
    },
    /// Nobody listens there, or it cannot be reached.
    #[error("cannot connect: {0}")]
    Connect(io::Error),
    /// It was not connected in time.
    #[error("not connected within {0:?}")]
    ConnectTimeout(Duration),
    /// No TLS connection.
    #[error("{0}")]
    Tls(io::Error),
    /// It has closed the connection.
    #[error("it closed the connection")]
    Closed,
    /// The connection broke.
    #[error("the connection broke: {0}")]
    Broken(io::Error),
    /// It takes nothing.
    #[error("it took nothing for {0:?}")]
    Stalled(Duration),
}

impl Named {
    pub(super) fn new(sink: Arc<str>, destination: Arc<str>) -> Self {
        let labels = || -> [SharedString; 2] { [sink.clone().into(), destination.clone().into()] };
        let up = metrics::SINK_DESTINATION_UP.with(labels());
        up.set(0.0);
        Self {
            up,
            queued: metrics::SINK_DESTINATION_QUEUED.with(labels()),
            spooled: metrics::SINK_DESTINATION_SPOOLED.with(labels()),
            written: metrics::SINK_DESTINATION_WRITTEN.with(labels()),
            resent: metrics::SINK_DESTINATION_RESENT.with(labels()),
            repeats: Repeats::default(),
            _presence: Presence::of(&destination),
            sink,
            destination,
        }
    }

    /// Points were written to the connection.
    pub(super) fn wrote(&self, points: usize) {
        self.written.increment(points as u64);
    }

    /// Points that were written are written again, because the connection has ended since.
    pub(super) fn writes_again(&self, points: usize) {
        self.resent.increment(points as u64);
    }

    /// Both.
    fn labels(&self, more: &'static str) -> [SharedString; 3] {
        [
            self.sink.clone().into(),
            self.destination.clone().into(),
            more.into(),
        ]
    }
}

impl Cause {
    fn as_str(self) -> &'static str {
        match self {
            Self::QueueFull => "queue_full",
            Self::SpoolFull => "spool_full",
            Self::Shutdown => "shutdown",
        }
    }
}

impl Unreachable {
    fn cause(&self) -> &'static str {
        match self {
            Self::Name { .. } => "name",
            Self::Connect(error) if error.kind() == io::ErrorKind::ConnectionRefused => "refused",
            Self::Connect(_) => "connect",
            Self::ConnectTimeout(_) => "timeout",
            Self::Tls(_) => "tls",
            Self::Closed => "closed",
            Self::Broken(_) => "broken",
            Self::Stalled(_) => "stalled",
        }
    }
}

/// Points for a destination are lost.
#[derive(Debug)]
pub(super) struct PointsLost<'a> {
    pub(super) named: &'a Named,
    /// How many; nothing happens for none.
    pub(super) points: u64,
    pub(super) cause: Cause,
}

impl PointsLost<'_> {
    /// Counts and warns.
    pub(super) fn emit(self) {
        let Self {
            named,
            points,
            cause,
        } = self;
        if points == 0 {
            return;
        }
        let cause = cause.as_str();
        metrics::SINK_DESTINATION_DROPPED
            .with(named.labels(cause))
            .increment(points);
        if let Some(more) = named.repeats.tell(&cause) {
            tracing::warn!(sink = %named.sink, destination = %named.destination, points, cause, "points for a destination dropped{more}");
        }
    }
}

/// A destination is connected.
#[derive(Debug)]
pub(super) struct Connected<'a> {
    pub(super) named: &'a Named,
}

impl Connected<'_> {
    /// Counts and tells.
    pub(super) fn emit(self) {
        let Named {
            sink, destination, ..
        } = self.named;
        metrics::SINK_DESTINATION_CONNECTS
            .with([sink.clone().into(), destination.clone().into()])
            .increment(1);
        tracing::info!(%sink, %destination, "destination connected");
    }
}

/// A destination could not be connected, or is not any more.
#[derive(Debug)]
pub(super) struct Failed<'a> {
    pub(super) named: &'a Named,
    pub(super) why: &'a Unreachable,
}

impl Failed<'_> {
    /// Counts and warns.
    pub(super) fn emit(self) {
        let Self { named, why } = self;
        let cause = why.cause();
        metrics::SINK_DESTINATION_ERRORS
            .with(named.labels(cause))
            .increment(1);
        if let Some(more) = named.repeats.tell(&cause) {
            tracing::warn!(sink = %named.sink, destination = %named.destination, cause, "destination unreachable: {why}{more}");
        }
    }
}

/// A write has waited for a destination for too long, and goes on without it.
#[derive(Debug)]
pub(super) struct FellBehind<'a> {
    pub(super) named: &'a Named,
}

impl FellBehind<'_> {
    /// Warns.
    pub(super) fn emit(self) {
        if let Some(more) = self.named.repeats.tell(&"behind") {
            tracing::warn!(sink = %self.named.sink, destination = %self.named.destination, "destination does not keep up, its points are set aside{more}");
        }
    }
}

/// A spool was opened.
#[derive(Debug)]
pub(super) struct SpoolOpened<'a> {
    pub(super) named: &'a Named,
    pub(super) path: &'a Path,
    pub(super) found: Found,
}

impl SpoolOpened<'_> {
    /// Counts what is damaged and tells.
    pub(super) fn emit(self) {
        let Found {
            points,
            torn,
            damaged,
        } = self.found;
        let named = self.named;
        SpoolDamaged {
            named,
            bytes: damaged,
        }
        .emit();
        tracing::info!(sink = %named.sink, destination = %named.destination, path = %self.path.display(), points, torn_bytes = torn, "spool opened");
    }
}

/// Bytes of a spool cannot be read.
#[derive(Debug)]
pub(super) struct SpoolDamaged<'a> {
    pub(super) named: &'a Named,
    /// How many; nothing happens for none.
    pub(super) bytes: u64,
}

impl SpoolDamaged<'_> {
    /// Counts and tells.
    pub(super) fn emit(self) {
        let Self { named, bytes } = self;
        if bytes > 0 {
            metrics::SINK_SPOOL_DAMAGED
                .with([named.sink.clone().into(), named.destination.clone().into()])
                .increment(bytes);
            tracing::error!(sink = %named.sink, destination = %named.destination, bytes, "a part of a spool is damaged, its points are lost");
        }
    }
}

/// A spool cannot be opened, read or written.
#[derive(Debug)]
pub(super) struct SpoolFailed<'a, E> {
    pub(super) named: &'a Named,
    pub(super) error: E,
}

impl<E: fmt::Display> SpoolFailed<'_, E> {
    /// Counts and tells.
    pub(super) fn emit(self) {
        let Self { named, error } = self;
        metrics::SINK_SPOOL_ERRORS
            .with([named.sink.clone().into(), named.destination.clone().into()])
            .increment(1);
        if let Some(more) = named.repeats.tell(&"spool") {
            tracing::error!(sink = %named.sink, destination = %named.destination, "spool: {error}{more}");
        }
    }
}
