//! Where points leave: the seam that all sinks use, and the runner that drives them.
//!
//! [`Sinks`] takes each flush's [`Batch`], selects what every sink is to have (routing, limits, tags), and hands it to that sink's own task
//! through its own bounded queue. A sink that is slow or down costs its own queue and nothing else.
//!
//! What always holds:
//! - For each sink, every point of a flush is counted once as selected or not (`flushed_metrics`), and every selected one ends as written,
//!   skipped by the sink, or dropped with a reason. Distributions are another form of their points, and not counted besides them.
//! - A sink sees finite values only.
//! - Handing over a flush never waits for a sink.
//!
//! A new sink is one file (or folder) with a config struct that is a [`registry::Build`], and one line in [`registry`].

pub mod blueflood;
pub mod config;
pub mod datadog;
pub mod debug;
mod filter;
pub mod graphite;
pub mod happened;
mod health;
mod http;
pub mod influxdb;
#[cfg(feature = "kafka")]
mod kafka;
pub mod localfile;
mod matcher;
pub mod otlp;
pub mod prometheus;
mod queue;
#[cfg(test)]
mod recorder;
pub mod registry;
pub mod remote_write;
mod routing;
mod runner;
pub mod s3;
mod select;
pub mod statsd;
mod text;
mod unfinished;

use std::fmt;
use std::ops::{Add, AddAssign, Sub};
use std::time::Duration;

use async_trait::async_trait;

use crate::point::Batch;

pub use crate::options::Problems;
pub use config::{RoutingRule, SinkConfig};
pub(crate) use health::{SinkReport, SinkVerdict, SinkView, unix_millis};
pub use registry::build;
pub use runner::{Sinks, Unwritten, check};

/// A place that takes points.
///
/// The runner calls [`write`](Sink::write) from one task, one batch after the other, and never with an empty batch. The batch may be shared
/// with other sinks, so nothing in it can be changed.
///
/// The documentation of each sink states what it does on failure:
/// - which errors are retriable and which are not, and when it wants to be asked again;
/// - whether a retry can write a point twice;
/// - how long one write can take (a write without a limit of its own holds up its queue, and the oldest batches are dropped there);
/// - what it skips because it cannot carry it.
#[async_trait]
pub trait Sink: Send {
    /// Whether it writes [distributions](crate::point::Distribution): flushes bring them only if a sink does. Must not change.
    fn wants_distributions(&self) -> bool {
        false
    }

    /// How much is put together before it is written.
    fn gather(&self) -> Gather {
        Gather::default()
    }

    /// Writes a batch, and says how much of it was written. What is missing there was skipped: the sink has no way to carry it.
    async fn write(&mut self, batch: &Batch) -> Result<Amount, SinkError>;

    /// Called once when nothing more will be written, at the end of the program or because another takes over: for a sink that has points of its own
    /// which it can still bring to safety. At the end of the program it has as long as that leaves it; it should set itself a bound.
    async fn close(&mut self) {}
}

/// How batches that wait are put together for one write. The default writes each flush, and each batch that passes through, by itself and at once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Gather {
    /// Batches are put together up to so many points and events; one that is bigger is written as it is.
    pub amount: usize,
    /// A write waits until there are so many, or until the oldest has waited so long. A batch that is tried again does not wait.
    pub time: Duration,
}

/// Why a batch was not written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SinkError {
    /// Nothing of the batch counts as written, and the same batch may work later. It stays at the head of the queue, within the queue's bound.
    #[error("{reason}")]
    Retriable {
        /// What went wrong, with the place.
        reason: String,
        /// When to try again, and not before; `None`: with the next flush, or a second later for points that pass through.
        after: Option<Duration>,
    },
    /// Trying again is of no use for what is `lost`; the rest of the batch was written.
    #[error("{reason}")]
    Fatal {
        /// What went wrong, with the place.
        reason: String,
        /// How much of the batch is gone.
        lost: Amount,
    },
}

/// A number of points and events.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Amount {
    /// Points.
    pub points: usize,
    /// Events.
    pub events: usize,
}

impl SinkError {
    /// Some of a batch was refused for good, and the rest was written; `said` is why, of one of those that were refused.
    fn refused(place: impl fmt::Display, lost: Amount, batch: &Batch, said: &str) -> Self {
        let all = Amount::of(batch);
        let mut share = format!("{} of {} points", lost.points, all.points);
        if lost.events > 0 {
            share.push_str(&format!(" and {} of {} events", lost.events, all.events));
        }
        Self::Fatal {
            reason: format!("{place}: {share} were refused for good, one with: {said}"),
            lost,
        }
    }
}

impl Amount {
    /// So many points, and no events.
    pub fn points(points: usize) -> Self {
        Self { points, events: 0 }
    }

    /// All that is in a batch.
    pub fn of(batch: &Batch) -> Self {
        Self {
            points: batch.points.len(),
            events: batch.events.len(),
        }
    }

    /// Points and events together: what a queue's bound counts.
    pub fn total(self) -> usize {
        self.points + self.events
    }
}

impl Add for Amount {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            points: self.points + other.points,
            events: self.events + other.events,
        }
    }
}

impl AddAssign for Amount {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

/// Never below zero.
impl Sub for Amount {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self {
            points: self.points.saturating_sub(other.points),
            events: self.events.saturating_sub(other.events),
        }
    }
}
