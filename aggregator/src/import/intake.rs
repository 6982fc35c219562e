//! The place where imported metrics enter the table, whatever way they came.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;
use prost::Message;
use tokio::sync::RwLock;
use tokio::task::coop::consume_budget;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;
use tracing::debug;
use tributary_proto::ack::Unacknowledged;
use tributary_proto::metricpb::Metric;
use tributary_proto::scan::Stamp;

use super::dedup::{Dedup, DedupBounds, Verdict};
use super::event::{MemorySized, MetricsImported};
use crate::table::{Table, Writer};

/// Writers that wait for their next use; more than this are not kept.
const IDLE_WRITERS: usize = 64;

/// Metrics of a long stream after which the counters are brought up to date.
const TALLY_EVERY: u64 = 256;

/// Metrics that are judged and merged at one go: enough that locks, and the wait for memory, are a small part of the work, few enough that no other waits long
/// for the locks.
pub(super) const CHUNK: usize = 512;

/// What imported metrics are merged into.
pub trait Merge: Send {
    /// Merges one metric, or says why not by a short cause that counters carry.
    fn merge(&mut self, metric: Metric) -> Result<(), &'static str>;

    /// Merges the metric that `bytes` encode.
    fn merge_encoded(&mut self, bytes: Bytes) -> Result<(), &'static str> {
        let metric = Metric::decode(bytes).map_err(|_| "decode")?;
        self.merge(metric)
    }

    /// Merges the metrics that `batch` encodes, and tells what became of each, in any order.
    fn merge_batch(
        &mut self,
        batch: Vec<Bytes>,
        outcome: &mut dyn FnMut(Result<(), &'static str>),
    ) {
        for metric in batch {
            outcome(self.merge_encoded(metric));
        }
    }
}

impl Merge for Writer {
    fn merge(&mut self, metric: Metric) -> Result<(), &'static str> {
        self.import(metric).map_err(|error| {
            debug!(%error, "metric refused at import");
            error.cause()
        })
    }

    fn merge_encoded(&mut self, bytes: Bytes) -> Result<(), &'static str> {
        self.import_bytes(&bytes).map_err(|error| {
            debug!(%error, "metric refused at import");
            error.cause()
        })
    }

    fn merge_batch(
        &mut self,
        batch: Vec<Bytes>,
        outcome: &mut dyn FnMut(Result<(), &'static str>),
    ) {
        self.import_batch(&batch, |merged| {
            outcome(merged.map_err(|error| {
                debug!(%error, "metric refused at import");
                error.cause()
            }));
        });
    }
}

/// The interval that a table takes at present, of a global that is aligned to the clock. All in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpenInterval {
    /// The time of its points, since the Unix epoch: a multiple of the length.
    pub time: u64,
    /// How long it is.
    pub length: u64,
}

impl OpenInterval {
    /// Whether what is handed over as of this interval can be merged. One that ends between ours is of a global with other intervals, and says
    /// nothing here.
    fn takes(self, interval: u64) -> bool {
        interval == self.time || !interval.is_multiple_of(self.length.max(1))
    }
}

/// What is known of a metric before it is merged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Judgement {
    /// It has no stamp.
    Unstamped,
    Stamped(Verdict),
    /// It was handed over for an interval that is not open here. It was not seen before, nor does it count as seen now.
    OtherInterval,
}

/// Hands out writers, one for each request under way, and takes them back; knows which stamped metrics came before.
pub struct Intake {
    make: Box<dyn Fn() -> Box<dyn Merge> + Send + Sync>,
    idle: Mutex<Vec<Box<dyn Merge>>>,
    dedup: Mutex<Dedup>,
    /// Which interval is open, if that matters. Held while handed-over metrics are merged: the interval does not end meanwhile.
    interval: RwLock<Option<OpenInterval>>,
    closed: CancellationToken,
    /// The tallies that are open.
    open: TaskTracker,
    start: Instant,
    /// When metrics came last, in milliseconds after the start.
    last: AtomicU64,
}

impl fmt::Debug for Intake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Intake").finish_non_exhaustive()
    }
}

impl Intake {
    /// An intake whose writers come from `make`, with its memory of stamps.
    pub fn new(
        dedup: DedupBounds,
        make: impl Fn() -> Box<dyn Merge> + Send + Sync + 'static,
    ) -> Arc<Self> {
        Arc::new(Self {
            make: Box::new(make),
            idle: Mutex::default(),
            dedup: Mutex::new(Dedup::new(dedup, Instant::now())),
            interval: RwLock::new(None),
            closed: CancellationToken::new(),
            open: TaskTracker::new(),
            start: Instant::now(),
            last: AtomicU64::new(0),
        })
    }

    /// The usual intake: what comes in is merged into a table.
    pub fn into_table(table: &Arc<Table>, dedup: DedupBounds) -> Arc<Self> {
        let table = Arc::clone(table);
        Self::new(dedup, move || Box::new(table.writer()))
    }

    /// Begins another interval with what `cut` does. What is handed over is merged before it or after it, and as of the right interval.
    pub async fn begin<T>(&self, interval: Option<OpenInterval>, cut: impl FnOnce() -> T) -> T {
        let mut open = self.interval.write().await;
        *open = interval;
        cut()
    }

    /// Judges each metric by its stamp, under one lock. What is judged new counts as merged from here on.
    fn judge(
        &self,
        stamps: &[Option<(Stamp, u64)>],
        open: Option<OpenInterval>,
        judgements: &mut Vec<Judgement>,
    ) {
        judgements.clear();
        if stamps.iter().all(Option::is_none) {
            judgements.resize(stamps.len(), Judgement::Unstamped);
            return;
        }
        let now = Instant::now();
        let mut dedup = self.dedup.lock();
        dedup.sweep(now);
        judgements.extend(stamps.iter().map(|stamp| match *stamp {
            None => Judgement::Unstamped,
            Some((stamp, interval)) => {
                let taken = interval == 0 || open.is_none_or(|open| open.takes(interval));
                match taken || dedup.knows(stamp) {
                    true => Judgement::Stamped(dedup.admit(stamp, now)),
                    false => Judgement::OtherInterval,
                }
            }
        }));
    }

    /// Completes when nothing has come for so long, counted from now on at the earliest.
    pub async fn quiet(&self, time: Duration) {
        let from = Instant::now();
        loop {
            let last = self.start + Duration::from_millis(self.last.load(Ordering::Relaxed));
            match time.checked_sub(last.max(from).elapsed()) {
                None | Some(Duration::ZERO) => return,
                Some(left) => tokio::time::sleep(left).await,
            }
        }
    }

    fn note_arrival(&self) {
        let now = self.start.elapsed().as_millis();
        let now = u64::try_from(now).unwrap_or(u64::MAX);
        self.last.fetch_max(now, Ordering::Relaxed);
    }

    /// Takes nothing more in; when it returns, all that was taken is merged.
    ///
    /// Requests are turned away as unavailable from here on, so that their senders bring them to another owner; but who repeats what is merged
    /// here is told so as before.
    pub async fn close(&self) {
        self.closed.cancel();
        self.open.close();
        self.open.wait().await;
    }

    /// Ends when nothing more is taken in.
    pub(super) async fn closed(&self) {
        self.closed.cancelled().await;
    }

    /// The positions of the metrics that were not seen before.
    pub(super) fn unknown(&self, metrics: impl Iterator<Item = Bytes>) -> Unacknowledged {
        let dedup = self.dedup.lock();
        let seen = |metric: &Bytes| Stamp::of(metric).is_some_and(|stamp| dedup.knows(stamp));
        (0..)
            .zip(metrics)
            .filter(|(_, metric)| !seen(metric))
            .map(|(position, _)| position)
            .collect()
    }

    /// Opens a tally for one request, unless the intake is closed: `protocol` is what counters and logs call the way in.
    pub(super) fn open(self: &Arc<Self>, protocol: &'static str) -> Option<Tally> {
        // In this order: whoever closes either waits for this tally, or has closed before.
        let open = self.open.token();
        if self.closed.is_cancelled() {
            return None;
        }
        let writer = self.idle.lock().pop();
        Some(Tally {
            _open: open,
            writer: Some(writer.unwrap_or_else(|| (self.make)())),
            intake: Arc::clone(self),
            protocol,
            merged: 0,
            repeated: 0,
            skipped: BTreeMap::new(),
            stamps: Vec::new(),
            judgements: Vec::new(),
            seen: 0,
            of_other_intervals: Unacknowledged::default(),
        })
    }
}

/// Merges metrics and counts what became of them. Counters are written as it goes, and when it is dropped.
pub(super) struct Tally {
    _open: TaskTrackerToken,
    /// Taken out only by `drop`.
    writer: Option<Box<dyn Merge>>,
    intake: Arc<Intake>,
    protocol: &'static str,
    merged: u64,
    repeated: u64,
    skipped: BTreeMap<&'static str, u64>,
    /// Both reused from chunk to chunk.
    stamps: Vec<Option<(Stamp, u64)>>,
    judgements: Vec<Judgement>,
    /// Encoded metrics so far, and which of them were not taken because they were handed over for another interval.
    seen: u32,
    of_other_intervals: Unacknowledged,
}

impl Tally {
    /// Merges the encoded metrics of a chunk that did not come before, and lets other tasks run now and then. The chunk is empty after that.
    ///
    /// A metric is marked before it is merged, so that of two deliveries at the same time one merges it. One that is refused stays marked:
    /// its repeat would be refused, too, and must not be counted twice.
    pub(super) async fn merge_encoded(&mut self, chunk: &mut Vec<Bytes>) {
        self.intake.note_arrival();
        let intake = Arc::clone(&self.intake);
        let mut judgements = std::mem::take(&mut self.judgements);
        self.stamps.clear();
        // Read before any lock is taken.
        let stamps = chunk.iter().map(|metric| Stamp::and_interval(metric));
        self.stamps.extend(stamps);
        let handed_over = |stamp: &Option<(Stamp, u64)>| stamp.is_some_and(|(_, of)| of != 0);
        let interval = match self.stamps.iter().any(handed_over) {
            true => Some(intake.interval.read().await),
            false => None,
        };
        let open = interval.as_deref().copied().flatten();
        intake.judge(&self.stamps, open, &mut judgements);
        let mut batch = Vec::with_capacity(chunk.len());
        for (metric, judgement) in chunk.drain(..).zip(&judgements) {
            match judgement {
                Judgement::Unstamped | Judgement::Stamped(Verdict::New) => batch.push(metric),
                Judgement::Stamped(Verdict::Repeat) => self.repeated += 1,
                Judgement::Stamped(Verdict::Forgotten) => self.skip("stamp_forgotten", 1),
                Judgement::Stamped(Verdict::Absurd) => self.skip("stamp_absurd", 1),
                Judgement::OtherInterval => {
                    let next = self.seen.saturating_add(1);
                    self.of_other_intervals.push(self.seen..next);
                }
            }
            self.seen = self.seen.saturating_add(1);
        }
        let metrics = judgements.len();
        self.judgements = judgements;
        self.merge_batch(batch);
        drop(interval);
        // All at once is no more than a chunk: others get their turn between two.
        for _ in 0..metrics {
            consume_budget().await;
        }
    }

    fn merge_batch(&mut self, batch: Vec<Bytes>) {
        let Some(writer) = &mut self.writer else {
            return;
        };
        let (merged, skipped) = (&mut self.merged, &mut self.skipped);
        writer.merge_batch(batch, &mut |outcome| match outcome {
            Ok(()) => *merged += 1,
            Err(cause) => *skipped.entry(cause).or_default() += 1,
        });
        if self.merged >= TALLY_EVERY {
            self.write();
        }
    }

    /// The positions of the encoded metrics that were not taken, because they were handed over for an interval that is not open here.
    pub(super) fn of_other_intervals(&mut self) -> Unacknowledged {
        std::mem::take(&mut self.of_other_intervals)
    }

    /// Merges one metric of a way in that has no stamps.
    pub(super) fn merge(&mut self, metric: Metric) {
        self.intake.note_arrival();
        if let Some(writer) = &mut self.writer {
            let outcome = writer.merge(metric);
            self.count(outcome);
        }
    }

    fn count(&mut self, outcome: Result<(), &'static str>) {
        match outcome {
            Ok(()) => {
                self.merged += 1;
                if self.merged >= TALLY_EVERY {
                    self.write();
                }
            }
            Err(cause) => self.skip(cause, 1),
        }
    }

    /// Counts metrics that were not merged.
    pub(super) fn skip(&mut self, cause: &'static str, count: u64) {
        *self.skipped.entry(cause).or_default() += count;
    }

    /// Brings the counters up to date.
    pub(super) fn write(&mut self) {
        if self.merged == 0 && self.repeated == 0 && self.skipped.is_empty() {
            return;
        }
        MetricsImported {
            protocol: self.protocol,
            merged: self.merged,
            repeated: self.repeated,
            skipped: &self.skipped,
        }
        .emit();
        let (bytes, origins) = {
            let dedup = self.intake.dedup.lock();
            (dedup.bytes(), dedup.origins())
        };
        MemorySized { bytes, origins }.emit();
        self.merged = 0;
        self.repeated = 0;
        self.skipped.clear();
    }
}

impl Drop for Tally {
    fn drop(&mut self) {
        self.write();
        if let Some(writer) = self.writer.take() {
            let mut idle = self.intake.idle.lock();
            if idle.len() < IDLE_WRITERS {
                idle.push(writer);
            }
        }
    }
}
