//! What can happen on the way to a sink: a struct each, whose `emit` writes counters and log line together.
//!
//! Names and labels that Veneur has are kept. For each sink, and over time:
//! `flushed_metrics{status:flushed}` = `sink.metrics_flushed_total` + `sink.metrics_skipped_total` + `sink.metrics_dropped_total` + what waits.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ::metrics::{Counter, SharedString};

use super::{Amount, SinkError};
use crate::metrics;

/// A sink as self-metrics and logs speak of it: labels `sink_name` and `sink_kind`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Label {
    /// The configured name.
    pub name: Arc<str>,
    /// The kind.
    pub kind: Arc<str>,
}

/// What was decided about a point for one sink.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The sink gets it.
    Flushed,
    /// No rule routes it there.
    Skipped,
    /// Its name is over `max_name_length`.
    MaxNameLength,
    /// One of its tags is over `max_tag_length`.
    MaxTagLength,
    /// It has more tags than `max_tags`.
    MaxTags,
    /// Its value is NaN or infinite, which no sink gets.
    NotFinite,
}

impl Verdict {
    pub(super) const ALL: [Self; 6] = [
        Self::Flushed,
        Self::Skipped,
        Self::MaxNameLength,
        Self::MaxTagLength,
        Self::MaxTags,
        Self::NotFinite,
    ];

    /// As in the label `status`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Flushed => "flushed",
            Self::Skipped => "skipped",
            Self::MaxNameLength => "max_name_length",
            Self::MaxTagLength => "max_tag_length",
            Self::MaxTags => "max_tags",
            Self::NotFinite => "not_finite",
        }
    }
}

/// How many points of one flush had each verdict.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally([usize; Verdict::ALL.len()]);

impl Tally {
    /// Counts one point.
    pub fn add(&mut self, verdict: Verdict) {
        if let Some(count) = self.0.get_mut(verdict as usize) {
            *count += 1;
        }
    }

    /// How many had that verdict.
    pub fn of(&self, verdict: Verdict) -> usize {
        self.0.get(verdict as usize).copied().unwrap_or_default()
    }
}

/// A flush's points were selected for a sink.
#[derive(Debug)]
pub struct PointsSelected<'a> {
    /// Whose.
    pub sink: &'a Label,
    /// How many had each verdict.
    pub tally: Tally,
}

impl PointsSelected<'_> {
    /// Counts, and logs for debugging what is no routing.
    pub fn emit(self) {
        for verdict in Verdict::ALL {
            let points = self.tally.of(verdict);
            if points == 0 {
                continue;
            }
            let status = verdict.as_str();
            add(points, || {
                metrics::FLUSHED_METRICS.with([name(self.sink), kind(self.sink), status.into()])
            });
            if !matches!(verdict, Verdict::Flushed | Verdict::Skipped) {
                tracing::debug!(
                    sink = &*self.sink.name,
                    points,
                    status,
                    "points held back from a sink"
                );
            }
        }
    }
}

/// Points came while others still waited, or none did.
#[derive(Debug)]
pub struct QueueFound<'a> {
    /// Whose.
    pub sink: &'a Label,
    /// What waited or was being written.
    pub queued: Amount,
    /// How much may wait.
    pub bound: usize,
}

impl QueueFound<'_> {
    /// Shows it.
    pub fn emit(self) {
        let share = self.queued.total() as f64 / self.bound.max(1) as f64;
        metrics::SINK_QUEUE_FILL
            .with([name(self.sink), kind(self.sink)])
            .set(share);
    }
}

/// A batch was written.
#[derive(Debug)]
pub struct BatchWritten<'a> {
    /// By whom.
    pub sink: &'a Label,
    /// All that was in it.
    pub given: Amount,
    /// What of it the sink took; the rest it skipped.
    pub written: Amount,
    /// How long the write took.
    pub took: Duration,
}

impl BatchWritten<'_> {
    /// Counts, and logs for debugging.
    pub fn emit(self) {
        let Self { sink, written, .. } = self;
        let skipped = self.given - written;
        add(written.points, || {
            metrics::SINK_METRICS_FLUSHED.with([name(sink), kind(sink)])
        });
        add(skipped.points, || {
            metrics::SINK_METRICS_SKIPPED.with([name(sink), kind(sink)])
        });
        add(written.events, || {
            metrics::SINK_EVENTS_FLUSHED.with([name(sink), kind(sink)])
        });
        add(skipped.events, || {
            metrics::SINK_EVENTS_SKIPPED.with([name(sink), kind(sink)])
        });
        let milliseconds = self.took.as_secs_f64() * 1e3;
        metrics::SINK_DURATION
            .with([name(sink), kind(sink)])
            .record(milliseconds);
        tracing::debug!(
            sink = &*sink.name,
            points = written.points,
            events = written.events,
            skipped_points = skipped.points,
            skipped_events = skipped.events,
            milliseconds,
            "batch written"
        );
    }
}

/// A write failed.
#[derive(Debug)]
pub struct WriteFailed<'a> {
    /// Whose.
    pub sink: &'a Label,
    /// How.
    pub error: &'a SinkError,
}

impl WriteFailed<'_> {
    /// Counts and warns. What is lost by it is a [`PointsDropped`] of its own.
    pub fn emit(self) {
        let retriable = matches!(self.error, SinkError::Retriable { .. });
        let label = if retriable { "true" } else { "false" };
        metrics::SINK_ERRORS
            .with([name(self.sink), kind(self.sink), label.into()])
            .increment(1);
        tracing::warn!(
            sink = &*self.sink.name,
            kind = &*self.sink.kind,
            retriable,
            "sink write failed: {}",
            self.error
        );
    }
}

/// Why points that were meant for a sink are lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DropReason {
    /// The queue was at its bound, and these were the oldest.
    QueueFull,
    /// The sink refused them for good.
    WriteError,
    /// They still waited when the program had to end.
    Shutdown,
}

impl DropReason {
    /// As in the label `reason`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::QueueFull => "queue_full",
            Self::WriteError => "write_error",
            Self::Shutdown => "shutdown",
        }
    }
}

/// Points or events that were meant for a sink are lost.
#[derive(Debug)]
pub struct PointsDropped<'a> {
    /// Whose.
    pub sink: &'a Label,
    /// How many; nothing happens for none.
    pub lost: Amount,
    /// Why.
    pub reason: DropReason,
}

impl PointsDropped<'_> {
    /// Counts and warns.
    pub fn emit(self) {
        if self.lost.total() == 0 {
            return;
        }
        let reason = self.reason.as_str();
        let labels = || [name(self.sink), kind(self.sink), reason.into()];
        add(self.lost.points, || {
            metrics::SINK_METRICS_DROPPED.with(labels())
        });
        add(self.lost.events, || {
            metrics::SINK_EVENTS_DROPPED.with(labels())
        });
        tracing::warn!(
            sink = &*self.sink.name,
            kind = &*self.sink.kind,
            points = self.lost.points,
            events = self.lost.events,
            reason,
            "points dropped"
        );
    }
}

/// A file that a sink writes was rotated away, and is opened anew.
#[derive(Debug)]
pub struct FileReopened<'a> {
    /// Whose.
    pub sink: &'a Label,
    /// Its path.
    pub path: &'a Path,
}

impl FileReopened<'_> {
    /// Counts and tells.
    pub fn emit(self) {
        metrics::FILE_REOPENED
            .with([name(self.sink), kind(self.sink)])
            .increment(1);
        tracing::info!(sink = &*self.sink.name, path = %self.path.display(), "file was rotated away, opened anew");
    }
}

fn name(sink: &Label) -> SharedString {
    sink.name.clone().into()
}

fn kind(sink: &Label) -> SharedString {
    sink.kind.clone().into()
}

/// Adds to a counter. Adding nothing makes no series.
fn add(amount: usize, counter: impl FnOnce() -> Counter) {
    if amount > 0 {
        counter().increment(amount as u64);
    }
}
