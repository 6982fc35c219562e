//! The account of what came in and what became of it, interval by interval: `GET /api/ledger`.
//!
//! It counts from the start of the process. Added up over a fleet at rest, what the agents handed to forwarding is what the globals merged and
//! what was lost with a cause.

use std::collections::VecDeque;
use std::sync::{Arc, OnceLock};

use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};
use parking_lot::Mutex;
use serde::Serialize;

use crate::flush::{FlushCounts, Role};
use crate::forward;
use crate::source::listen::KernelDrops;

/// Intervals that are kept: an hour of those of 10 s.
const KEPT: usize = 360;

/// What one flush found, or the sum of all since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Entry {
    /// Unix time of the flush in seconds; of the last one in a sum.
    pub timestamp: i64,
    /// Samples merged.
    pub samples: u64,
    /// Samples that were well formed and still not taken.
    pub samples_refused: u64,
    /// Forwarded metrics merged; a repeat is not merged.
    pub imported: u64,
    /// Forwarded metrics refused as malformed.
    pub imports_refused: u64,
    /// Different series; in a sum, of each interval.
    pub series: u64,
    /// Samples and imports that were folded into an overflow series; part of `samples` and `imported`.
    pub folded: u64,
    /// Metrics handed to forwarding.
    pub forwarded: u64,
    /// Points handed to the sinks.
    pub points: u64,
    /// Events handed to the sinks.
    pub events: u64,
    /// Points that were NaN or infinite, and events over the interval's limit: not handed to the sinks.
    pub dropped: u64,
    /// How long it took to make points and forwarded metrics of the series, in microseconds.
    pub took_us: u64,
}

/// The accounts of one aggregator. Clones share them.
#[derive(Debug, Clone)]
pub struct Ledger {
    role: Role,
    kept: Arc<Mutex<Kept>>,
    kernel_drops: Arc<OnceLock<KernelDrops>>,
}

#[derive(Debug, Default)]
struct Kept {
    totals: Entry,
    intervals: VecDeque<Entry>,
}

/// What `/api/ledger` answers.
#[derive(Debug, Serialize)]
struct Page {
    role: Role,
    totals: Entry,
    /// Datagrams that the kernel dropped because the program did not read them in time, since the start.
    kernel_dropped_datagrams: u64,
    /// Metrics handed to forwarding, and what became of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    forward: Option<forward::Ledger>,
    intervals: Vec<Entry>,
}

/// Where the page gets forwarding's own accounts from: there may be another forwarder after a reload.
pub type Forwarding = Arc<dyn Fn() -> Option<forward::Ledger> + Send + Sync>;

impl Entry {
    /// What a flush counted on its way.
    pub fn of(counts: &FlushCounts) -> Self {
        let interval = &counts.interval;
        Self {
            samples: interval.processed,
            samples_refused: interval.samples_refused,
            imported: interval.imported,
            imports_refused: interval.imports_refused,
            series: interval.series,
            folded: interval.folded,
            dropped: interval.events_dropped + counts.points_not_finite,
            ..Self::default()
        }
    }

    fn add(&mut self, other: &Self) {
        self.timestamp = other.timestamp;
        self.samples += other.samples;
        self.samples_refused += other.samples_refused;
        self.imported += other.imported;
        self.imports_refused += other.imports_refused;
        self.series += other.series;
        self.folded += other.folded;
        self.forwarded += other.forwarded;
        self.points += other.points;
        self.events += other.events;
        self.dropped += other.dropped;
        self.took_us += other.took_us;
    }
}

impl Ledger {
    /// Empty accounts.
    pub fn new(role: Role) -> Self {
        Self {
            role,
            kept: Arc::default(),
            kernel_drops: Arc::default(),
        }
    }

    /// Enters one flush.
    pub fn enter(&self, entry: Entry) {
        let mut kept = self.kept.lock();
        kept.totals.add(&entry);
        if kept.intervals.len() == KEPT {
            kept.intervals.pop_front();
        }
        kept.intervals.push_back(entry);
    }

    /// The sum since the start, and the last intervals, so many at most.
    pub(crate) fn recent(&self, intervals: usize) -> (Entry, Vec<Entry>) {
        let kept = self.kept.lock();
        let older = kept.intervals.len().saturating_sub(intervals);
        let recent = kept.intervals.iter().skip(older).copied().collect();
        (kept.totals, recent)
    }

    /// Datagrams that the kernel dropped, since the start.
    pub(crate) fn kernel_dropped(&self) -> u64 {
        self.kernel_drops.get().map_or(0, KernelDrops::total)
    }

    /// Lets it show what the kernel drops.
    pub fn watch(&self, drops: KernelDrops) {
        // Listeners are opened once.
        let _ = self.kernel_drops.set(drops);
    }

    /// The route, for the admin server.
    pub fn router(&self, forwarding: Forwarding) -> Router {
        Router::new()
            .route("/api/ledger", get(show))
            .with_state((self.clone(), forwarding))
    }

    fn page(&self, forward: Option<forward::Ledger>) -> Page {
        let kept = self.kept.lock();
        Page {
            role: self.role,
            totals: kept.totals,
            kernel_dropped_datagrams: self.kernel_dropped(),
            forward,
            intervals: kept.intervals.iter().copied().collect(),
        }
    }
}

async fn show(State((ledger, forwarding)): State<(Ledger, Forwarding)>) -> Json<Page> {
    Json(ledger.page(forwarding()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn totals_outlive_the_intervals_that_are_kept() {
        let ledger = Ledger::new(Role::Global);
        for timestamp in 1..=400 {
            ledger.enter(Entry {
                timestamp,
                imported: 2,
                ..Entry::default()
            });
        }
        let page = ledger.page(None);
        assert_eq!((page.totals.imported, page.totals.timestamp), (800, 400));
        assert_eq!(page.intervals.len(), KEPT);
        assert_eq!(page.intervals[0].timestamp, 41);
    }
}
