//! How a sink is doing, for those who ask.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use serde::Serialize;

use super::happened::{DropReason, Label, Tally, Verdict};
use super::queue::Queue;
use super::{Amount, SinkError};

/// The longest text of an error that is kept.
const LONGEST: usize = 500;

/// One sink's record since the program started, under its name.
#[derive(Debug, Default)]
pub(super) struct Health(Mutex<Record>);

#[derive(Debug, Clone, Default, Serialize)]
struct Record {
    /// Points that it wrote.
    written: u64,
    /// Points that it has no way to carry.
    skipped: u64,
    /// Points that are lost, by `reason`.
    dropped: BTreeMap<&'static str, u64>,
    /// Milliseconds since the Unix epoch.
    last_success: Option<u64>,
    last_error: Option<LastError>,
    /// How long the last write took, whether it succeeded or not.
    last_duration_ms: Option<f64>,
}

#[derive(Debug, Clone, Serialize)]
struct LastError {
    /// Milliseconds since the Unix epoch.
    at: u64,
    message: String,
}

/// What is told of a sink.
#[derive(Debug, Serialize)]
pub(crate) struct SinkReport {
    name: Arc<str>,
    kind: Arc<str>,
    /// Points and events that wait, with those that are being written.
    queued: usize,
    /// How many may wait.
    queue_bound: usize,
    #[serde(flatten)]
    record: Record,
}

/// A view of a sink that outlives a change of its settings.
#[derive(Debug, Clone)]
pub(crate) struct SinkView {
    pub(super) label: Label,
    pub(super) queue: Arc<Queue>,
}

/// What is decided for one sink about the points of a series.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct SinkVerdict {
    sink: Arc<str>,
    /// Points that the sink gets.
    given: usize,
    /// Points that it does not get, by why.
    withheld: BTreeMap<&'static str, usize>,
}

impl Health {
    pub(super) fn wrote(&self, given: Amount, written: Amount) {
        let mut record = self.0.lock();
        record.written += written.points as u64;
        record.skipped += (given - written).points as u64;
    }

    /// A write ended.
    pub(super) fn ended(&self, result: Result<(), &SinkError>, took: Duration) {
        let now = unix_millis(SystemTime::now());
        let mut record = self.0.lock();
        record.last_duration_ms = Some(took.as_secs_f64() * 1e3);
        match result {
            Ok(()) => record.last_success = Some(now),
            Err(error) => {
                let message = error.to_string().chars().take(LONGEST).collect();
                record.last_error = Some(LastError { at: now, message });
            }
        }
    }

    pub(super) fn lost(&self, lost: Amount, reason: DropReason) {
        if lost.points > 0 {
            let mut record = self.0.lock();
            *record.dropped.entry(reason.as_str()).or_default() += lost.points as u64;
        }
    }
}

impl SinkView {
    /// Its state now.
    pub(crate) fn report(&self) -> SinkReport {
        let (queued, queue_bound) = self.queue.fill();
        SinkReport {
            name: Arc::clone(&self.label.name),
            kind: Arc::clone(&self.label.kind),
            queued: queued.total(),
            queue_bound,
            record: self.queue.health.0.lock().clone(),
        }
    }

    /// Points that are lost, by why.
    pub(crate) fn dropped(&self) -> BTreeMap<&'static str, u64> {
        self.queue.health.0.lock().dropped.clone()
    }

    /// Its name.
    pub(crate) fn name(&self) -> &Arc<str> {
        &self.label.name
    }
}

impl SinkVerdict {
    pub(super) fn of(label: &Label, tally: Tally) -> Self {
        let withheld = Verdict::ALL
            .into_iter()
            .filter(|verdict| *verdict != Verdict::Flushed)
            .map(|verdict| (verdict.as_str(), tally.of(verdict)))
            .filter(|(_, points)| *points > 0);
        Self {
            sink: Arc::clone(&label.name),
            given: tally.of(Verdict::Flushed),
            withheld: withheld.collect(),
        }
    }
}

/// Milliseconds since the Unix epoch.
pub(crate) fn unix_millis(at: SystemTime) -> u64 {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
