//! What happens at carbon's addresses, and how it is counted.

use std::fmt;
use std::net::SocketAddr;

use crate::metrics;
use crate::source::listen::Complaints;

/// By which of the three ways points come in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    Line,
    Pickle,
    Udp,
}

impl Way {
    /// The `protocol` tag of self-metrics.
    pub(super) fn tag(self) -> &'static str {
        match self {
            Self::Line => "carbon-line",
            Self::Pickle => "carbon-pickle",
            Self::Udp => "carbon-udp",
        }
    }
}

/// What was not taken, and why: the tags of `packet.error_total`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Loss {
    pub(super) packet_type: &'static str,
    pub(super) reason: &'static str,
}

impl Loss {
    pub(super) fn line(reason: &'static str) -> Self {
        Self {
            packet_type: "carbon_line",
            reason,
        }
    }

    pub(super) fn item(reason: &'static str) -> Self {
        Self {
            packet_type: "carbon_item",
            reason,
        }
    }

    pub(super) fn frame(reason: &'static str) -> Self {
        Self {
            packet_type: "carbon_frame",
            reason,
        }
    }
}

/// Lines or items were read, some of them good.
pub(super) struct Received {
    pub(super) way: Way,
    /// Good and bad.
    pub(super) read: u64,
    /// Handed on as points or samples.
    pub(super) taken: u64,
}

impl Received {
    pub(super) fn emit(&self) {
        if self.read > 0 {
            metrics::RECEIVED
                .with([self.way.tag().into()])
                .increment(self.read);
        }
        if self.taken > 0 {
            metrics::CARBON_POINTS
                .with([self.way.tag().into()])
                .increment(self.taken);
        }
    }
}

/// Something that came in was not taken.
pub(super) struct Lost {
    pub(super) loss: Loss,
    pub(super) count: u64,
}

impl Lost {
    /// Counts; the log line is the matter of who sees whole batches.
    pub(super) fn emit(&self) {
        metrics::PACKET_ERRORS
            .with([self.loss.packet_type.into(), self.loss.reason.into()])
            .increment(self.count);
    }
}

/// A peer connected.
pub(super) struct Opened(pub(super) Way);

impl Opened {
    pub(super) fn emit(&self) {
        metrics::CONNECTED.with([self.0.tag().into()]).increment(1);
    }
}

/// A connection ended, on whichever side.
pub(super) struct Closed {
    pub(super) way: Way,
    pub(super) peer: SocketAddr,
    /// Why: the `reason` tag.
    pub(super) reason: &'static str,
    /// What of it was not taken.
    pub(super) lost: u64,
}

impl Closed {
    pub(super) fn emit(&self) {
        let Self {
            way,
            peer,
            reason,
            lost,
        } = self;
        tracing::debug!(protocol = way.tag(), %peer, reason, lost, "connection closed");
        metrics::DISCONNECTED
            .with([way.tag().into(), (*reason).into()])
            .increment(1);
    }
}

/// A peer wanted to connect and could not.
pub(super) struct NotTaken<'a> {
    pub(super) way: Way,
    /// Why: the `reason` tag.
    pub(super) reason: &'static str,
    pub(super) detail: &'a dyn fmt::Display,
}

impl NotTaken<'_> {
    pub(super) fn emit(&self, complaints: &Complaints) {
        metrics::CONNECTIONS_REFUSED
            .with([self.way.tag().into(), self.reason.into()])
            .increment(1);
        complaints.complain(1, || format!("{}: {}", self.reason, self.detail));
    }
}

/// The system could not give us datagrams.
pub(super) struct ReceiveFailed(pub(super) std::io::Error);

impl ReceiveFailed {
    pub(super) fn emit(&self, complaints: &Complaints) {
        metrics::RECEIVE_ERRORS
            .with([Way::Udp.tag().into()])
            .increment(1);
        complaints.complain(1, || format!("cannot receive: {}", self.0));
    }
}
