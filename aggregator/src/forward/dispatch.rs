//! The two tasks behind a forwarder: one encodes flushes, the other hands batches to destinations that answer.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use parking_lot::{Mutex, RwLock};
use tokio::sync::{Notify, mpsc};
use tokio::task::coop::consume_budget;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use tributary_proto::metricpb::Metric;

use super::batch::{Batch, BatchLimits, MAX_MESSAGE, Owners, Packer, TooLarge};
use super::destination::{Destination, Pool, Wants};
use super::event::{
    AttemptFailed, BacklogSized, BatchDelivered, DestinationChanged, PartAcknowledged,
};
use super::ledger::{Books, Loss};
use super::outcome::{Failure, Fate, Next, after};
use super::pause::pause_after;
use super::queue::{Queue, Retention};
use super::unix_milliseconds;

/// How often batches are looked through for those that are too old, when nothing else happens.
const TICK: Duration = Duration::from_secs(1);

/// The longest pause once the program is about to end.
const IN_A_HURRY: Duration = Duration::from_millis(500);

/// What is said of metrics that are left when everything stops.
const ENDS: &str = "the program ends";

/// One flush on its way to be encoded.
#[derive(Debug)]
pub(super) struct Flush {
    /// Counted from 1.
    pub number: u64,
    /// In the order of their stamps.
    pub metrics: Vec<Metric>,
    /// When it was handed over.
    pub since: Instant,
    /// When it took place, in milliseconds since the Unix epoch.
    pub owners: Owners,
}

/// What the tasks and the forwarder share.
#[derive(Debug)]
pub(super) struct Shared {
    origin: u64,
    settings: RwLock<Settings>,
    queue: Mutex<Queue>,
    pub(super) books: Books,
    /// There may be something to hand out: a batch came, or a destination is free.
    changed: Notify,
    /// The program is about to end: nothing waits for long.
    hurry: CancellationToken,
    /// At the end, what certainly nobody has taken is put here instead of being lost, if that is wanted.
    withdrawn: Mutex<Option<Vec<Batch>>>,
    stop: CancellationToken,
}

/// What may change while it runs.
#[derive(Debug)]
pub(super) struct Settings {
    pub pool: Arc<Pool>,
    pub limits: BatchLimits,
    pub retention: Retention,
}

impl Shared {
    pub(super) fn new(settings: Settings) -> Self {
        Self {
            origin: fastrand::u64(1..),
            settings: RwLock::new(settings),
            queue: Mutex::default(),
            books: Books::default(),
            changed: Notify::new(),
            hurry: CancellationToken::new(),
            withdrawn: Mutex::default(),
            stop: CancellationToken::new(),
        }
    }

    pub(super) fn origin(&self) -> u64 {
        self.origin
    }

    /// Goes over to other destinations and bounds. What is under way ends where it is.
    pub(super) fn reconfigure(&self, settings: Settings) {
        *self.settings.write() = settings;
        self.queue.lock().release(Instant::now());
        self.changed.notify_one();
    }

    pub(super) fn pool(&self) -> Arc<Pool> {
        Arc::clone(&self.settings.read().pool)
    }

    /// From now on pauses are short; what waits for its time is tried at once.
    pub(super) fn hurry(&self) {
        self.hurry.cancel();
        self.queue.lock().release(Instant::now());
        self.changed.notify_one();
    }

    /// Ends both tasks; what is left is lost.
    pub(super) fn stop(&self) {
        self.stop.cancel();
    }

    /// Ends both tasks; what is left and certainly was not taken waits for [`Shared::withdrawn`].
    pub(super) fn withdraw(&self) {
        self.withdrawn.lock().get_or_insert_default();
        self.stop();
    }

    /// What was left when everything stopped.
    pub(super) fn withdrawn(&self) -> Vec<Batch> {
        self.withdrawn.lock().take().unwrap_or_default()
    }

    /// Everything stops, and this batch is left.
    fn leave_behind(&self, batch: Batch) {
        let certain = !batch.uncertain && !batch.sent.load(Ordering::Relaxed);
        let mut withdrawn = self.withdrawn.lock();
        match withdrawn.as_mut() {
            Some(withdrawn) if certain => {
                // Under the lock: whoever waits for the books to be settled finds the batch.
                self.books.withdraw(&batch);
                withdrawn.push(batch);
            }
            _ => {
                drop(withdrawn);
                self.give_up(&batch, Loss::Shutdown, ENDS);
            }
        }
    }

    /// Gives a batch up. Who can bring it again does so, and then it is as if it never had been here; all else is lost.
    fn give_up(&self, batch: &Batch, loss: Loss, detail: &str) {
        let metrics = batch.metrics as usize;
        if batch.receipt.is_waited_for() && loss.is_of_now() {
            self.books.withdraw(batch);
            batch.receipt.lose(metrics);
        } else {
            self.books.lose(batch, loss, detail);
            batch.receipt.refuse(metrics);
        }
    }

    /// Encodes flushes until the forwarder is dropped.
    pub(super) async fn encode(self: Arc<Self>, mut flushes: mpsc::Receiver<Flush>) {
        while let Some(flush) = flushes.recv().await {
            let limits = self.limits();
            let mut packer =
                Packer::new(limits, self.origin, flush.number, flush.since, flush.owners);
            for metric in flush.metrics {
                match packer.add(metric) {
                    Ok(None) => {}
                    Ok(Some(batch)) => self.enqueue(batch),
                    Err(too_large) => self.lose_metric(&too_large),
                }
                consume_budget().await;
            }
            if let Some(batch) = packer.close() {
                self.enqueue(batch);
            }
            self.books.encoded();
        }
    }

    /// How large a batch may get.
    pub(super) fn limits(&self) -> BatchLimits {
        self.settings.read().limits
    }

    /// Whether so many bytes more fit without anything being given up for them.
    pub(super) fn has_room(&self, bytes: usize) -> bool {
        let bound = self.retention().bytes;
        self.books.backlog().bytes.saturating_add(bytes) <= bound
    }

    /// For how long and how much is kept.
    pub(super) fn retention(&self) -> Retention {
        self.settings.read().retention
    }

    /// Puts a new batch into the queue and makes room for it.
    pub(super) fn enqueue(&self, batch: Batch) {
        self.books.enter(&batch);
        let mut queue = self.queue.lock();
        if self.stop.is_cancelled() {
            drop(queue);
            self.leave_behind(batch);
            return;
        }
        queue.push(batch);
        let bound = self.retention().bytes;
        while self.books.backlog().bytes > bound
            && let Some(oldest) = queue.pop_oldest()
        {
            let detail = "more waits than may be kept";
            self.give_up(&oldest, Loss::RetentionBytes, detail);
        }
        drop(queue);
        self.changed.notify_one();
    }

    /// Hands batches to destinations until the forwarder stops.
    pub(super) async fn dispatch(self: Arc<Self>) {
        loop {
            self.expire();
            let next_due = self.hand_out();
            let backlog = self.books.backlog();
            BacklogSized { backlog }.emit();
            let tick = Instant::now() + TICK;
            tokio::select! {
                () = self.changed.notified() => {}
                () = sleep_until(next_due.map_or(tick, |due| due.min(tick))) => {}
                () = self.stop.cancelled() => break,
            }
        }
        let mut queue = self.queue.lock();
        while let Some(batch) = queue.pop_oldest() {
            self.leave_behind(batch);
        }
    }

    fn expire(&self) {
        let retention = self.retention();
        let mut queue = self.queue.lock();
        while let Some(batch) = queue.pop_expired(&retention, Instant::now()) {
            let detail = "nobody acknowledged it in time";
            self.give_up(&batch, Loss::RetentionTime, detail);
        }
    }

    /// Starts as many deliveries as there are batches and destinations for them. Gives the moment at which there may be more to do.
    fn hand_out(self: &Arc<Self>) -> Option<Instant> {
        let pool = self.pool();
        let mut queue = self.queue.lock();
        let now = Instant::now();
        while let Some(due) = queue.peek_due(now)
            && let wants = Wants::Another(due.tried)
            && let Some(destination) = pool.pick(wants)
            && let Some(batch) = queue.pop_due(now)
        {
            tokio::spawn(Arc::clone(self).deliver(batch, destination, wants));
        }
        while queue.has_fresh()
            && let Some(destination) = pool.pick(Wants::First)
            && let Some(batch) = queue.pop_fresh()
        {
            tokio::spawn(Arc::clone(self).deliver(batch, destination, Wants::First));
        }
        // One that is due already waits for room, which is told when there is some.
        queue.next_due().filter(|due| *due > now)
    }

    /// One attempt with one batch.
    async fn deliver(
        self: Arc<Self>,
        mut batch: Batch,
        destination: Arc<Destination>,
        wants: Wants,
    ) {
        let start = Instant::now();
        batch.take_aim(unix_milliseconds(SystemTime::now()));
        let outcome = tokio::select! {
            outcome = destination.deliver(&batch) => outcome,
            () = self.stop.cancelled() => {
                self.leave_behind(batch);
                return;
            }
        };
        match outcome {
            Ok(()) => {
                destination.succeeded(wants);
                BatchDelivered {
                    destination: &destination.name,
                    metrics: batch.metrics,
                    took: start.elapsed(),
                    part: destination.part(),
                }
                .emit();
                if batch.uncertain {
                    self.books.repeat(&batch);
                }
                self.books.acknowledge(&batch, None);
            }
            Err(failure) => {
                self.judge(&destination, wants, &failure);
                if let Some(rest) = self.split_off(batch, &destination, &failure) {
                    self.decide(rest, &destination, &failure);
                }
            }
        }
        self.changed.notify_one();
    }

    /// What a failure says about the destination.
    fn judge(self: &Arc<Self>, destination: &Arc<Destination>, wants: Wants, failure: &Failure) {
        if failure.of_a_sound_destination() {
            destination.succeeded(wants);
        } else if destination.failed(wants) {
            DestinationChanged {
                destination: &destination.name,
                answers: false,
                detail: &failure.detail,
            }
            .emit();
            tokio::spawn(Arc::clone(self).revive(Arc::clone(destination)));
        }
    }

    /// Settles what was acknowledged although the attempt failed; gives the rest, with this attempt noted in it.
    fn split_off(
        &self,
        batch: Batch,
        destination: &Destination,
        failure: &Failure,
    ) -> Option<Batch> {
        if batch.uncertain && !matches!(failure.fate, Fate::NotTaken | Fate::NotTried) {
            self.books.repeat(&batch);
        }
        let rest = match &failure.left {
            None => Some(batch),
            Some(left) => {
                let rest = batch.cut(left);
                let left = rest.as_ref().map_or(0, |rest| rest.metrics);
                let acknowledged = batch.metrics.saturating_sub(left);
                PartAcknowledged {
                    destination: &destination.name,
                    metrics: acknowledged,
                    left,
                }
                .emit();
                self.books.acknowledge(&batch, rest.as_ref());
                rest.map(|rest| Batch {
                    failures: if acknowledged > 0 { 0 } else { rest.failures },
                    ..rest
                })
            }
        };
        rest.map(|rest| Batch {
            failures: rest.failures.saturating_add(1),
            tried: Some(destination.place),
            ..rest
        })
    }

    /// Decides about what an attempt has left.
    fn decide(&self, rest: Batch, destination: &Destination, failure: &Failure) {
        let others_recognise = self.pool().recognises_repeats();
        let next = after(failure.fate, failure.repeats, others_recognise);
        AttemptFailed {
            destination: &destination.name,
            metrics: rest.metrics,
            cause: &failure.cause,
            detail: &failure.detail,
            again: matches!(next, Next::Again { .. }),
        }
        .emit();
        match next {
            Next::GiveUp(loss) => self.give_up(&rest, loss, &failure.detail),
            Next::Again { uncertain } => {
                let due = Instant::now() + self.pause(&rest, failure);
                let rest = Batch {
                    uncertain: uncertain || rest.uncertain,
                    // Whoever vouches for not having it lets it go elsewhere.
                    aim: rest.aim.filter(|_| failure.fate != Fate::Spared),
                    sent: Arc::default(),
                    ..rest
                };
                let mut queue = self.queue.lock();
                if self.stop.is_cancelled() {
                    drop(queue);
                    self.leave_behind(rest);
                } else {
                    queue.give_back(rest, due);
                }
            }
        }
    }

    /// How long a batch waits. A destination that failed waits by itself, so the batch may go elsewhere at once; but one that fails
    /// everywhere, or for the sake of something behind a destination, has to wait.
    fn pause(&self, rest: &Batch, failure: &Failure) -> Duration {
        let sound = u32::from(failure.of_a_sound_destination());
        let pause = match rest.failures.saturating_sub(1) + sound {
            0 => Duration::ZERO,
            failures => pause_after(failures),
        };
        match self.hurry.is_cancelled() {
            true => pause.min(IN_A_HURRY),
            false => pause,
        }
    }

    /// Asks a destination that failed, with growing pauses, until it answers, or is none of ours any more.
    async fn revive(self: Arc<Self>, destination: Arc<Destination>) {
        let asking = async {
            loop {
                self.rest(destination.pause()).await;
                if !self.pool().has(&destination) {
                    return false;
                }
                match destination.probe().await {
                    Ok(()) => return true,
                    Err(_) => destination.still_silent(),
                }
            }
        };
        if self.stop.run_until_cancelled(asking).await != Some(true) {
            return;
        }
        destination.answers_again();
        DestinationChanged {
            destination: &destination.name,
            answers: true,
            detail: "",
        }
        .emit();
        self.changed.notify_one();
    }

    /// Sleeps, but not for long once the program is about to end.
    async fn rest(&self, pause: Duration) {
        let hurried = async {
            self.hurry.cancelled().await;
            sleep(IN_A_HURRY).await;
        };
        tokio::select! {
            () = sleep(pause) => {}
            () = hurried => {}
        }
    }

    /// Nobody takes this metric.
    pub(super) fn lose_metric(&self, too_large: &TooLarge) {
        let detail = format!("{} bytes, receivers take {MAX_MESSAGE}", too_large.bytes);
        self.books.lose_one(Loss::TooLarge, &detail);
    }
}
