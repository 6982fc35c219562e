//! What can happen on the way to a sink: a struct each, whose `emit` writes counters and log line together.
//!
//! Names and labels that Veneur has are kept. For each sink, and over time:
//! `flushed_metrics{status:flushed}` = `sink.metrics_flushed_total` + `sink.metrics_skipped_total` + `sink.metrics_dropped_total` + what waits.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::{Amount, SinkError};

/// A sink as self-metrics and logs speak of it: labels `sink_name` and `sink_kind`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Label {
    /// The configured name.
    pub name: Arc<str>,
    /// The kind.
    pub kind: Arc<str>,
}

/// The self-metrics of sinks, each with what it counts.
pub const METRICS: &[(&str, &str)] = &[
    (
        FLUSHED_METRICS,
        "points of each flush, by what was decided for the sink: `status`",
    ),
    (METRICS_FLUSHED, "points that the sink has written"),
    (METRICS_SKIPPED, "points that the sink has no way to carry"),
    (
        METRICS_DROPPED,
        "points that were meant for the sink and are lost, by `reason`",
    ),
    (EVENTS_FLUSHED, "events that the sink has written"),
    (EVENTS_SKIPPED, "events that the sink does not carry"),
    (
        EVENTS_DROPPED,
        "events that were meant for the sink and are lost, by `reason`",
    ),
    (FLUSH_DURATION, "how long one write took, in milliseconds"),
    (
        WRITE_ERRORS,
        "writes that failed; `retriable` says whether the batch was kept",
    ),
    (
        FILE_REOPENED,
        "times that a file was found rotated away and opened anew",
    ),
];

const FLUSHED_METRICS: &str = "flushed_metrics";
const METRICS_FLUSHED: &str = "sink.metrics_flushed_total";
const METRICS_SKIPPED: &str = "sink.metrics_skipped_total";
const METRICS_DROPPED: &str = "sink.metrics_dropped_total";
const EVENTS_FLUSHED: &str = "sink.events_flushed_total";
const EVENTS_SKIPPED: &str = "sink.events_skipped_total";
const EVENTS_DROPPED: &str = "sink.events_dropped_total";
const FLUSH_DURATION: &str = "sink.metric_flush_total_duration_ms";
const WRITE_ERRORS: &str = "sink.write_errors_total";
const FILE_REOPENED: &str = "sink.file_reopened_total";

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
            count(FLUSHED_METRICS, self.sink, Some(("status", status)), points);
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
        count(METRICS_FLUSHED, sink, None, written.points);
        count(METRICS_SKIPPED, sink, None, skipped.points);
        count(EVENTS_FLUSHED, sink, None, written.events);
        count(EVENTS_SKIPPED, sink, None, skipped.events);
        let milliseconds = self.took.as_secs_f64() * 1e3;
        metrics::histogram!(FLUSH_DURATION, "sink_name" => sink.name.clone(), "sink_kind" => sink.kind.clone()).record(milliseconds);
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
        count(WRITE_ERRORS, self.sink, Some(("retriable", label)), 1);
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
        count(
            METRICS_DROPPED,
            self.sink,
            Some(("reason", reason)),
            self.lost.points,
        );
        count(
            EVENTS_DROPPED,
            self.sink,
            Some(("reason", reason)),
            self.lost.events,
        );
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
        count(FILE_REOPENED, self.sink, None, 1);
        tracing::info!(sink = &*self.sink.name, path = %self.path.display(), "file was rotated away, opened anew");
    }
}

/// Adds to a counter with a sink's labels and at most one more. Adding nothing makes no series.
fn count(
    name: &'static str,
    sink: &Label,
    more: Option<(&'static str, &'static str)>,
    amount: usize,
) {
    if amount == 0 {
        return;
    }
    let mut labels = vec![
        metrics::Label::new("sink_name", sink.name.clone()),
        metrics::Label::new("sink_kind", sink.kind.clone()),
    ];
    labels.extend(more.map(|(key, value)| metrics::Label::from_static_parts(key, value)));
    metrics::counter!(name, labels).increment(amount as u64);
}
