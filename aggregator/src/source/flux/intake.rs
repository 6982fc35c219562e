//! From good metrics to points that are with the sinks, and to marks that have moved.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_util::task::TaskTracker;

use super::FluxConfig;
use super::aggregate::Aggregates;
use super::event::{PointsMet, RedisAway};
use super::item::Item;
use super::keys::Pass;
use super::marks::{Admitted, Marks, Moved};
use super::memory::{Memory, Remembered};
use super::outbox::Outbox;
use super::quota::{Parted, Quotas};
use super::redis::Shared;
use super::tallies::Tallies;
use crate::key::Tags;
use crate::metrics;
use crate::point::{Point, PointKind, Timestamp};
use crate::receipt::{Pending, Receipt};
use crate::source::Outlets;

/// How long, at the end, the sinks may take with the last points before we go on without knowing. Their marks are moved if they do it later.
const LAST_FATES: Duration = Duration::from_secs(2);

/// Takes what requests bring.
pub(super) struct Intake {
    outlets: Outlets,
    tallies: Tallies,
    marks: Marks,
    quotas: Quotas,
    aggregates: Aggregates,
    memory: Option<Outbox<Memory>>,
    shared: Option<Outbox<Shared>>,
    /// Whether points are on the disk before a request is answered.
    persist: bool,
    next_request: AtomicU64,
    /// Requests under way, and what waits for the fates of points.
    waiting: TaskTracker,
    waited_for: AtomicU64,
    /// Set when the sinks are about to go.
    closed: AtomicBool,
}

/// Why nothing of a request was stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NotStored {
    /// It could not be written to the disk.
    Disk,
    /// We are about to end.
    Leaving,
}

/// What became of a request's items.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Taken {
    /// The names of those that were taken, as they were posted.
    pub(super) within: Vec<String>,
    /// The names of those for which the namespace's quota has no room.
    pub(super) over: Vec<String>,
    /// How many metrics the namespace may have.
    pub(super) limit: usize,
}

impl Intake {
    /// What outlives restarts comes from `remembered`; its points are still to be [handed over](Self::resume).
    pub(super) fn new(
        config: &FluxConfig,
        outlets: Outlets,
        memory: Option<Memory>,
        shared: Option<Shared>,
        remembered: &mut Remembered,
    ) -> Self {
        let filled = config.zero_fill_namespaces.iter();
        let kept = filled.chain(&config.last_known_value_namespaces).cloned();
        let marks = Marks::new(
            config.check_last_timestamp,
            config.rules().max_age,
            kept.collect(),
        );
        marks.raise(std::mem::take(&mut remembered.marks));
        let newest = remembered.queue.iter().map(|(request, _)| *request).max();
        Self {
            outlets,
            tallies: Tallies::default(),
            marks,
            quotas: Quotas::new(config.quotas.clone(), std::mem::take(&mut remembered.names)),
            aggregates: Aggregates::new(&config.aggregate_namespaces),
            persist: config.persist_queue && memory.is_some(),
            memory: memory.map(Outbox::new),
            shared: shared.map(Outbox::new),
            next_request: AtomicU64::new(newest.map_or(0, |newest| newest + 1)),
            waiting: TaskTracker::new(),
            waited_for: AtomicU64::new(0),
            closed: AtomicBool::new(false),
        }
    }

    /// Runs what takes a request's items to its end, also when its client gives up; the end of the source waits for it.
    pub(super) fn under_way<F>(&self, request: F) -> JoinHandle<F::Output>
    where
        F: Future<Output: Send + 'static> + Send + 'static,
    {
        self.waiting.spawn(request)
    }

    pub(super) fn tallies(&self) -> &Tallies {
        &self.tallies
    }

    /// Hands items over. When it returns, their points are with the outlet, and, with a persisted queue, on the disk.
    ///
    /// # Errors
    /// [`NotStored`]: none is.
    pub(super) async fn take(
        self: &Arc<Self>,
        pass: &Pass,
        items: Vec<Item>,
        now: i64,
    ) -> Result<Taken, NotStored> {
        let mut taken = Taken::default();
        let items = match self.quotas.part(pass.namespace.as_ref(), items) {
            Err(all) => all,
            Ok(parted) => self.within_quota(pass, parted, &mut taken),
        };
        taken.within = items.iter().map(|item| item.posted.clone()).collect();
        let (aggregated, rest): (Vec<_>, Vec<_>) = items
            .into_iter()
            .partition(|item| self.aggregates.concern(item));
        if !rest.is_empty() {
            self.learn(&rest).await;
            let request = self.next_request.fetch_add(1, Ordering::Relaxed);
            self.store(request, rest, now, self.persist).await?;
        }
        // Last: what is refused comes again, and would count twice.
        self.aggregate(aggregated, now);
        Ok(taken)
    }

    fn aggregate(self: &Arc<Self>, items: Vec<Item>, now: i64) {
        if items.is_empty() {
            return;
        }
        self.close_intervals(now, false);
        let count = items.len();
        let take = |item| self.aggregates.take(item, now).err();
        let too_many: Vec<_> = items.into_iter().filter_map(take).collect();
        met("passed", too_many.len());
        met("aggregated", count - too_many.len());
        Tallies::add(&self.tallies.added_to_aggregation, count - too_many.len());
        self.pass_on(&too_many);
    }

    fn within_quota(&self, pass: &Pass, parted: Parted, taken: &mut Taken) -> Vec<Item> {
        taken.limit = parted.limit;
        taken.over = parted.over.into_iter().map(|item| item.posted).collect();
        met("over_quota", taken.over.len());
        Tallies::add(&self.tallies.over_quota, taken.over.len());
        if let (Some(memory), Some(namespace)) = (&self.memory, &pass.namespace)
            && !parted.new.is_empty()
        {
            let new = parted.new.into_iter();
            let new = new.map(|name| (Arc::clone(namespace), name));
            memory.note(|changes| changes.names.extend(new));
        }
        parted.within
    }

    /// Learns what other instances have taken. Without an answer what is known here has to do.
    async fn learn(&self, items: &[Item]) {
        let Some(shared) = self.shared.as_ref().filter(|_| self.marks.check()) else {
            return;
        };
        let checked = items.iter().filter(|item| !item.fill);
        let names: Vec<&str> = checked.map(|item| item.name.as_str()).collect();
        match shared.keeper().marks(&names).await {
            Ok(marks) => self.marks.raise(marks),
            Err(error) => RedisAway { error: &error }.emit(),
        }
    }

    /// Hands over what did not come before, and tells whether that was anything.
    async fn store(
        self: &Arc<Self>,
        request: u64,
        items: Vec<Item>,
        now: i64,
        persist: bool,
    ) -> Result<bool, NotStored> {
        let Admitted {
            items,
            claims,
            repeated,
            unmarked,
        } = self.marks.admit(items, now);
        met("already_received", repeated);
        Tallies::add(&self.tallies.already_received, repeated);
        metrics::FLUX_UNMARKED.increment(unmarked as u64);
        if items.is_empty() {
            return Ok(false);
        }
        let points: Vec<_> = items.iter().map(point).collect();
        let on_disk = match self.memory.as_ref().filter(|_| persist) {
            None => Ok(()),
            Some(memory) => {
                memory.note(|changes| drop(changes.queued.insert(request, items.into())));
                memory.send().await.map_err(|_| NotStored::Disk)
            }
        };
        // Without sinks nobody would write them, and nobody say so.
        let open = match self.closed.load(Ordering::SeqCst) {
            true => Err(NotStored::Leaving),
            false => Ok(()),
        };
        if let Err(reason) = on_disk.and(open) {
            self.take_back(request, &claims, persist).await;
            return Err(reason);
        }
        met("passed", points.len());
        Tallies::add(&self.tallies.added, points.len());
        self.hand_over(points, claims, request);
        Ok(true)
    }

    /// Undoes what was done for a request that is not accepted: it must not come up after a restart.
    async fn take_back(&self, request: u64, claims: &[Moved], persist: bool) {
        self.marks.settle(claims, true);
        if let Some(memory) = self.memory.as_ref().filter(|_| persist) {
            memory.note(|changes| {
                changes.queued.remove(&request);
                changes.done.push(request);
            });
            // A failure has been told, and the next call tries again.
            let _ = memory.send().await;
        }
    }

    fn hand_over(self: &Arc<Self>, points: Vec<Point>, claims: Vec<Moved>, request: u64) {
        let (receipt, pending) = Receipt::new();
        let count = points.len() as u64;
        self.waited_for.fetch_add(count, Ordering::Relaxed);
        self.outlets.points.pass(points, receipt);
        let intake = Arc::clone(self);
        self.waiting.spawn(async move {
            intake.settle(pending, claims, request, count).await;
        });
    }

    /// The newest time of a metric that the sinks have, as far as it is known.
    pub(super) async fn last(&self, metric: &str) -> Option<i64> {
        if let Some(shared) = &self.shared {
            match shared.keeper().marks(&[metric]).await {
                Ok(marks) => self.marks.raise(marks),
                Err(error) => RedisAway { error: &error }.emit(),
            }
        }
        self.marks.last(metric)
    }

    /// Brings points of one metric to the sinks, in their order and whatever came before, and moves its mark once they have them. A mark that is
    /// too old to matter at the door is not made.
    pub(super) async fn deliver(
        &self,
        metric: &str,
        points: &[(i64, f64)],
        now: i64,
    ) -> Result<(), String> {
        let Some((newest, value)) = points.iter().max_by_key(|(time, _)| *time) else {
            return Ok(());
        };
        let item = |(seconds, value): &(i64, f64)| Item {
            posted: String::new(),
            name: metric.to_owned(),
            seconds: *seconds,
            value: *value,
            fill: true,
        };
        let (receipt, pending) = Receipt::new();
        let all = points.iter().map(|found| point(&item(found))).collect();
        met("passed", points.len());
        self.outlets.points.pass(all, receipt);
        let lost = pending.fate().await.lost;
        if lost > 0 {
            return Err(format!("{lost} points did not get to a sink"));
        }
        Tallies::add(&self.tallies.sent, points.len());
        if self.marks.matters(*newest, now) {
            let moved = vec![(Arc::from(metric), *newest, *value)];
            self.marks.raise(moved.clone());
            if let Some(shared) = &self.shared {
                shared.note(|changes| changes.move_marks(moved.clone()));
            }
            if let Some(memory) = &self.memory {
                memory.note(|changes| changes.move_marks(moved));
            }
            self.keep().await;
        }
        Ok(())
    }

    /// Waits for the fate of a request's points, and keeps what comes of it.
    async fn settle(&self, pending: Pending, claims: Vec<Moved>, request: u64, count: u64) {
        let lost = pending.fate().await.lost;
        self.waited_for.fetch_sub(count, Ordering::Relaxed);
        let sent = usize::try_from(count.saturating_sub(lost)).unwrap_or(usize::MAX);
        Tallies::add(&self.tallies.sent, sent);
        let moved = self.marks.settle(&claims, lost > 0);
        if let Some(shared) = &self.shared {
            shared.note(|changes| changes.move_marks(moved.clone()));
        }
        if let Some(memory) = &self.memory {
            memory.note(|changes| {
                changes.move_marks(moved);
                if self.persist {
                    changes.done.push(request);
                }
            });
        }
        self.keep().await;
    }

    /// Writes what is to be kept. A failure has been told, and the next call tries again.
    async fn keep(&self) {
        let memory = async {
            if let Some(memory) = &self.memory {
                let _ = memory.send().await;
            }
        };
        let shared = async {
            if let Some(shared) = &self.shared {
                let _ = shared.send().await;
            }
        };
        tokio::join!(memory, shared);
    }

    /// Hands over what an earlier run had accepted and no sink had.
    pub(super) async fn resume(self: &Arc<Self>, queue: Vec<(u64, Vec<Item>)>, now: i64) {
        let mut resumed = 0;
        for (request, items) in queue {
            let count = items.len();
            // On the disk it is already.
            let handed_over = self.store(request, items, now, false).await;
            if handed_over == Ok(true) {
                resumed += count;
            }
            // Its fate is noted only where there is a queue; and who came again has none.
            if (handed_over == Ok(false) || !self.persist)
                && let Some(memory) = &self.memory
            {
                memory.note(|changes| changes.done.push(request));
            }
        }
        if resumed > 0 {
            tracing::info!(
                points = resumed,
                "what an earlier run had accepted is handed over"
            );
        }
        self.keep().await;
    }

    /// Gives the points of intervals that are over; with `all`, of those that are not, too.
    pub(super) fn close_intervals(self: &Arc<Self>, now: i64, all: bool) {
        self.pass_on(&self.aggregates.close(now, all));
    }

    /// What is due once a minute: gaps are filled, our own metrics told, and what does not matter any more is forgotten.
    pub(super) async fn minute(self: &Arc<Self>, config: &FluxConfig, now: i64) {
        let mut fills = BTreeMap::new();
        let zero = config.zero_fill_namespaces.iter();
        for namespace in zero {
            let silent = self.marks.silent(namespace, 60, now).into_iter();
            fills.extend(silent.map(|(name, _)| (name, 0.0)));
        }
        for namespace in &config.last_known_value_namespaces {
            fills.extend(self.marks.silent(namespace, 60, now));
        }
        let item = |(name, value): (Arc<str>, f64)| Item {
            posted: String::new(),
            name: name.to_string(),
            seconds: now,
            value,
            fill: true,
        };
        let fills: Vec<_> = fills.into_iter().map(item).collect();
        met("filled", fills.len());
        self.pass_on(&fills);
        if !config.self_metrics_prefix.is_empty() {
            let waiting = self.waited_for.load(Ordering::Relaxed);
            let own = self
                .tallies
                .items(&config.self_metrics_prefix, waiting, now);
            self.pass_on(&own);
        }
        let forgotten = self.marks.forget(now);
        if let Some(memory) = &self.memory {
            memory.note(|changes| changes.forget(forgotten));
        }
        metrics::FLUX_MARKS.set(self.marks.len() as f64);
        self.keep().await;
    }

    /// Hands over points of our own making, for which there are no marks.
    fn pass_on(&self, items: &[Item]) {
        if !items.is_empty() {
            let points = items.iter().map(point).collect();
            self.outlets.points.pass(points, Receipt::default());
        }
    }

    /// Takes no more, waits for the fates of all points, but not for long, and keeps what comes of them.
    pub(super) async fn finish(self: &Arc<Self>, now: i64) {
        self.close_intervals(now, true);
        self.closed.store(true, Ordering::SeqCst);
        self.waiting.close();
        let waited = tokio::time::timeout(LAST_FATES, self.waiting.wait()).await;
        if waited.is_err() {
            let points = self.waited_for.load(Ordering::Relaxed);
            tracing::info!(points, "the sinks still write what came in by Flux");
        }
        self.keep().await;
    }
}

fn met(fate: &'static str, count: usize) {
    PointsMet { fate, count }.emit();
}

fn point(item: &Item) -> Point {
    Point {
        base: item.name.as_str().into(),
        suffix: None,
        tags: Tags::default(),
        kind: PointKind::Gauge,
        value: item.value,
        timestamp: Timestamp::from_seconds(item.seconds),
        check: None,
    }
}
