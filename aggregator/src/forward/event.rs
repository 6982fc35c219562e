//! What happens when forwarding, as types: each writes its log line and its counters together.

use std::time::Duration;

use tracing::{debug, info, warn};
use tributary_proto::ack::AckError;

use super::ledger::Backlog;
use crate::metrics;

/// A flush was handed over.
#[derive(Debug)]
pub(super) struct FlushTaken {
    /// Its number, from 1.
    pub flush: u64,
    /// How many metrics it has.
    pub metrics: usize,
}

impl FlushTaken {
    pub(super) fn emit(&self) {
        metrics::FORWARD_METRICS.set(self.metrics as f64);
        debug!(
            flush = self.flush,
            metrics = self.metrics,
            "forwarding a flush"
        );
    }
}

/// A destination has taken a batch.
#[derive(Debug)]
pub(super) struct BatchDelivered<'a> {
    /// Who took it.
    pub destination: &'a str,
    /// How many metrics it had.
    pub metrics: u32,
    /// From the first byte sent to the answer.
    pub took: Duration,
    /// `grpc` or `json`.
    pub part: &'static str,
}

impl BatchDelivered<'_> {
    pub(super) fn emit(&self) {
        metrics::FORWARDED.increment(u64::from(self.metrics));
        metrics::FORWARD_DURATION
            .with([self.part.into()])
            .record(self.took.as_nanos() as f64);
        debug!(
            destination = self.destination,
            metrics = self.metrics,
            took = ?self.took,
            "batch forwarded"
        );
    }
}

/// A destination has acknowledged a part of a batch.
#[derive(Debug)]
pub(super) struct PartAcknowledged<'a> {
    /// Who did.
    pub destination: &'a str,
    /// How many metrics.
    pub metrics: u32,
    /// How many are left.
    pub left: u32,
}

impl PartAcknowledged<'_> {
    pub(super) fn emit(&self) {
        metrics::FORWARDED.increment(u64::from(self.metrics));
        debug!(
            destination = self.destination,
            metrics = self.metrics,
            left = self.left,
            "part of a batch forwarded"
        );
    }
}

/// A destination's word on what it has merged cannot be read: it counts as nothing.
#[derive(Debug)]
pub(super) struct AcknowledgementUnreadable<'a> {
    /// Whose word.
    pub destination: &'a str,
    /// What is wrong with it.
    pub error: AckError,
}

impl AcknowledgementUnreadable<'_> {
    pub(super) fn emit(&self) {
        metrics::ACKS_UNREADABLE.increment(1);
        warn!(
            destination = self.destination,
            error = %self.error,
            "what a forward destination says of merged metrics cannot be read: all of the batch is sent again"
        );
    }
}

/// What waits or is under way has changed.
#[derive(Debug)]
pub(super) struct BacklogSized {
    /// Now.
    pub backlog: Backlog,
}

impl BacklogSized {
    pub(super) fn emit(&self) {
        metrics::BACKLOG_METRICS.set(self.backlog.metrics as f64);
        metrics::BACKLOG_BYTES.set(self.backlog.bytes as f64);
    }
}

/// One attempt failed. Whether its metrics are lost is another event's.
#[derive(Debug)]
pub(super) struct AttemptFailed<'a> {
    /// Who did not take it.
    pub destination: &'a str,
    /// How many metrics it left.
    pub metrics: u32,
    /// Why, for counters.
    pub cause: &'a str,
    /// Why, for people.
    pub detail: &'a str,
    /// Whether it will be tried again.
    pub again: bool,
}

impl AttemptFailed<'_> {
    pub(super) fn emit(&self) {
        metrics::FORWARD_ERRORS
            .with([self.cause.to_owned().into()])
            .increment(1);
        if self.again {
            metrics::RETRIED.increment(u64::from(self.metrics));
        }
        debug!(
            destination = self.destination,
            metrics = self.metrics,
            cause = self.cause,
            detail = self.detail,
            again = self.again,
            "forwarding failed"
        );
    }
}

/// Metrics are lost.
#[derive(Debug)]
pub(super) struct MetricsLost<'a> {
    /// How many.
    pub metrics: u64,
    /// Why: `retention_time`, `retention_bytes`, `too_large`, `busy`, `shutdown`, `unknown_outcome` or `refused`.
    pub cause: &'static str,
    /// For people.
    pub detail: &'a str,
}

impl MetricsLost<'_> {
    pub(super) fn emit(&self) {
        metrics::LOST
            .with([self.cause.into()])
            .increment(self.metrics);
        warn!(
            metrics = self.metrics,
            cause = self.cause,
            detail = self.detail,
            "forwarded metrics lost"
        );
    }
}

/// A destination has stopped answering, or answers again.
#[derive(Debug)]
pub(super) struct DestinationChanged<'a> {
    /// Which.
    pub destination: &'a str,
    /// Whether it answers.
    pub answers: bool,
    /// What it said, or did not.
    pub detail: &'a str,
}

impl DestinationChanged<'_> {
    pub(super) fn emit(&self) {
        metrics::DESTINATION_UP
            .with([self.destination.to_owned().into()])
            .set(f64::from(u8::from(self.answers)));
        if self.answers {
            info!(
                destination = self.destination,
                "forward destination answers again"
            );
        } else {
            warn!(
                destination = self.destination,
                detail = self.detail,
                "forward destination does not answer: its share goes elsewhere, or waits"
            );
        }
    }
}

/// A destination knows only the streaming method, and is spoken to by that from now on.
#[derive(Debug)]
pub(super) struct StreamOnly<'a> {
    /// Which.
    pub destination: &'a str,
}

impl StreamOnly<'_> {
    pub(super) fn emit(&self) {
        info!(
            destination = self.destination,
            "forward destination does not implement SendMetrics: using SendMetricsV2"
        );
    }
}

/// The discovery names other destinations than before.
#[derive(Debug)]
pub(super) struct DestinationsDiscovered<'a> {
    /// Whose instances they are.
    pub service: &'a str,
    /// Those from now on.
    pub addresses: &'a [String],
}

impl DestinationsDiscovered<'_> {
    pub(super) fn emit(&self) {
        metrics::DESTINATIONS.set(self.addresses.len() as f64);
        info!(
            service = self.service,
            destinations = ?self.addresses,
            "forward destinations changed"
        );
    }
}

/// Nobody was named to forward to, or somebody whose address makes no sense.
#[derive(Debug)]
pub(super) struct DiscoveryFailed<'a> {
    /// Whose instances were asked for.
    pub service: &'a str,
    /// What went wrong.
    pub detail: &'a str,
}

impl DiscoveryFailed<'_> {
    pub(super) fn emit(&self) {
        tributary_node::metrics::DISCOVERY_ERRORS
            .with([self.service.to_owned().into()])
            .increment(1);
        warn!(
            service = self.service,
            detail = self.detail,
            "discovery failed, forward destinations stay as they are"
        );
    }
}
