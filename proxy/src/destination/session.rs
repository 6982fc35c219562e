//! What happens on one connection: batches go out, and what becomes of them is booked.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::sync::mpsc::UnboundedSender;
use tributary_proto::ack::Unacknowledged;

use super::backoff::Backoff;
use super::batch::{Batch, Load};
use super::grpc::Method;
use super::link::Link;
use super::outcome::{Answer, Failure, Outcome};
use super::queue::Next;
use super::{Destination, Repeats};
use crate::event::{BatchDelivered, ForwardFailed, StreamingInstead};

/// Batches under way at a time, once the destination has taken one. Until then it is one: a destination that hangs, or does not know the
/// method, shows itself at the cost of a single batch.
const IN_FLIGHT: usize = 4;

/// A destination that has left the ring is let go after this time without anything to send: repeats of what it has merged may still come.
const LETTING_GO: Duration = Duration::from_secs(2);

/// See the module.
pub(super) struct Session<'a> {
    destination: &'a Destination,
    orphans: &'a UnboundedSender<Batch>,
    /// The method that the destination knows, as far as it has said so.
    method: Method,
    /// Whether it has taken anything.
    delivered: bool,
    /// How many batches may be under way.
    window: usize,
    /// Whether the connection is of no more use.
    broken: bool,
    /// Nothing is sent until then.
    paused_until: Option<Instant>,
    busy: Backoff,
    under_way: HashMap<u64, Batch>,
    sent: u64,
    /// When the destination last answered, or was first sent something that it could answer.
    heard: Instant,
    /// Since when there is nothing to do for a destination that is off the ring.
    idle_since: Option<Instant>,
}

/// What was sent, how, and what became of it.
struct Landed {
    /// `None` for a question whether anybody answers.
    batch: Option<u64>,
    method: Method,
    answer: Answer,
    /// Metrics that could not be part of it.
    unfit: u32,
    took: Duration,
}

impl<'a> Session<'a> {
    pub(super) fn new(destination: &'a Destination, orphans: &'a UnboundedSender<Batch>) -> Self {
        Self {
            destination,
            orphans,
            method: Method::Unary,
            delivered: false,
            window: 1,
            broken: false,
            paused_until: None,
            busy: Backoff::new(),
            under_way: HashMap::new(),
            sent: 0,
            heard: Instant::now(),
            idle_since: None,
        }
    }

    /// Whether the destination has taken anything.
    pub(super) fn has_delivered(&self) -> bool {
        self.delivered
    }

    /// Sends until the connection is of no more use or the queue is finished; nothing is under way afterwards.
    pub(super) async fn run(&mut self, link: &Link) {
        let queue = &self.destination.queue;
        let mut flights = FuturesUnordered::new();
        loop {
            let now = Instant::now();
            self.broken |= link.is_closed();
            self.end_pause(now, link);
            let mut wake = self.paused_until;
            let paused = self.paused_until.is_some();
            while !paused && !self.broken && flights.len() < self.window {
                match queue.next(flights.len()) {
                    Next::Batch(mut batch) => {
                        batch.depart();
                        self.listen(flights.is_empty());
                        let load = batch.load().clone();
                        flights.push(self.fly(link, Some(self.sent), load));
                        self.under_way.insert(self.sent, batch);
                        self.sent += 1;
                    }
                    Next::Late(batch) => self.give_back("late", &batch),
                    Next::Linger(until) => {
                        wake = Some(until);
                        break;
                    }
                    Next::Empty => break,
                }
            }
            let silent = self.destination.circuit.cause().is_some();
            if flights.is_empty() {
                if self.broken || queue.is_finished() || self.is_let_go(now) {
                    return;
                }
                if silent && !paused {
                    if link.can_probe() {
                        self.listen(true);
                        flights.push(self.fly(link, None, Load::nothing()));
                    } else {
                        self.pause();
                        continue;
                    }
                }
            } else if !silent {
                let stalls = self.heard + self.destination.settings.load().stall_after;
                if now >= stalls {
                    self.stall();
                } else {
                    wake = Some(wake.map_or(stalls, |wake| wake.min(stalls)));
                }
            }
            if let Some(idle_since) = self.idle_since {
                let until = idle_since + LETTING_GO;
                wake = Some(wake.map_or(until, |wake| wake.min(until)));
            }
            tokio::select! {
                Some(landed) = flights.next() => self.land(landed),
                () = queue.changed() => {}
                () = link.closed(), if !self.broken => {}
                () = sleep_until(wake), if wake.is_some() => {}
            }
        }
    }

    fn fly<'l>(
        &self,
        link: &'l Link,
        batch: Option<u64>,
        load: Load,
    ) -> impl Future<Output = Landed> + use<'l> {
        let method = self.method;
        let within = self.destination.settings.load().forward_timeout;
        async move {
            let start = Instant::now();
            let (answer, unfit) = link.send(&load, method, within).await;
            Landed {
                batch,
                method,
                answer,
                unfit,
                took: start.elapsed(),
            }
        }
    }

    /// Something is sent; if it is the `first`, the destination has time to answer from now on.
    fn listen(&mut self, first: bool) {
        if first {
            self.heard = Instant::now();
        }
        self.idle_since = None;
    }

    /// Whether a destination that is off the ring has had nothing to do for a while.
    fn is_let_go(&mut self, now: Instant) -> bool {
        let queue = &self.destination.queue;
        if !queue.is_idle_and_leaving() {
            self.idle_since = None;
            return false;
        }
        if now < *self.idle_since.get_or_insert(now) + LETTING_GO {
            return false;
        }
        queue.retire_if_idle();
        queue.is_finished()
    }

    /// Sends nothing for a while.
    fn pause(&mut self) {
        self.paused_until = Some(Instant::now() + self.busy.next());
    }

    fn end_pause(&mut self, now: Instant, link: &Link) {
        if self.paused_until.is_some_and(|until| until <= now) {
            self.paused_until = None;
            // The next batch shows whether it is still busy; of one that cannot be asked, also whether it answers at all.
            if self.destination.circuit.cause() == Some(BUSY) || !link.can_probe() {
                self.destination.resume();
            }
        }
    }

    /// The destination does not answer: those who wait are told so. What is under way stays, since an answer may come yet.
    fn stall(&mut self) {
        self.destination.suspend("stalled");
        self.under_way.values_mut().for_each(Batch::release);
    }

    fn land(&mut self, landed: Landed) {
        let Landed { answer, method, .. } = landed;
        if answer.outcome.is_answer() {
            self.heard = Instant::now();
            let taken = answer.outcome == Outcome::Delivered;
            self.destination.note(taken, answer.dedup);
            if !matches!(answer.outcome, Outcome::Busy(_)) {
                self.destination.resume();
            }
        }
        let batch = landed.batch.and_then(|id| self.under_way.remove(&id));
        let Some(mut batch) = batch else {
            return self.probed(answer.outcome);
        };
        let vouched = answer.turned_away.filter(|_| answer.dedup);
        match answer.outcome {
            Outcome::Delivered => {
                self.delivered = true;
                self.window = IN_FLIGHT;
                self.busy.reset();
                let metrics = batch.metrics() - landed.unfit;
                let delivered = BatchDelivered {
                    destination: &self.destination.address,
                    metrics,
                    bytes: batch.bytes(),
                    took: landed.took,
                };
                delivered.emit();
                self.destination.account.deliver(u64::from(metrics));
                self.destination.lose("unfit", u64::from(landed.unfit));
                self.destination.queue.done(&batch);
                batch.acknowledge();
                self.destination.queue.recycle(batch);
            }
            Outcome::NotImplemented if method == Method::Unary => {
                self.stream_instead();
                batch.not_taken();
                self.again(batch);
            }
            Outcome::NotImplemented => {
                let detail = "knows neither SendMetrics nor SendMetricsV2";
                self.settle(batch, &Failure::new("unimplemented", detail), None);
            }
            Outcome::NotSent(failure) => {
                self.broken = true;
                self.failed(&failure, true);
                batch.not_taken();
                self.again(batch);
            }
            // One that is gone from discovery says of each metric whether it has it: it is asked on, and what it does not have is for its new owner.
            Outcome::Busy(failure) if self.goes_on(&mut batch, vouched.as_ref()) => {
                self.failed(&failure, true);
                self.orphan(batch);
            }
            Outcome::Busy(failure) => {
                self.window = 1;
                self.pause();
                self.destination.suspend(BUSY);
                if batch.is_stamped() {
                    self.failed(&failure, false);
                    self.destination.queue.done(&batch);
                    self.vouched(&mut batch, vouched.as_ref());
                    self.give_back(failure.cause, &batch);
                } else {
                    self.failed(&failure, true);
                    self.again(batch);
                }
            }
            Outcome::Refused(failure) => {
                self.window = 1;
                self.settle(batch, &failure, vouched.as_ref());
            }
            Outcome::Unknown(failure) => {
                self.window = 1;
                let recognised = self.destination.repeats() == Repeats::Recognised;
                if recognised && batch.is_stamped() && batch.is_waited_for() {
                    batch.maybe_taken();
                    self.failed(&failure, true);
                    self.again(batch);
                } else {
                    self.settle(batch, &failure, None);
                }
            }
        }
    }

    /// What an empty list has shown; that there was an answer is known already.
    fn probed(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::NotImplemented => self.stream_instead(),
            Outcome::Busy(_) => {
                self.destination.suspend(BUSY);
                self.pause();
            }
            Outcome::NotSent(_) => self.broken = true,
            Outcome::Unknown(_) => self.pause(),
            Outcome::Delivered | Outcome::Refused(_) => {}
        }
    }

    fn stream_instead(&mut self) {
        if self.method == Method::Unary {
            self.method = Method::Stream;
            let streaming = StreamingInstead {
                destination: &self.destination.address,
            };
            streaming.emit();
        }
    }

    fn failed(&self, failure: &Failure, retried: bool) {
        let failed = ForwardFailed {
            destination: &self.destination.address,
            cause: failure.cause,
            detail: &failure.detail,
            retried,
        };
        failed.emit();
    }

    /// The batch does not go again from here. What is stamped is left to its sender, unless the destination would not recognise it: then it
    /// must not come again, as with senders that do not stamp.
    fn settle(&self, mut batch: Batch, failure: &Failure, vouched: Option<&Unacknowledged>) {
        self.failed(failure, false);
        self.destination.queue.done(&batch);
        let left = batch.is_stamped() && self.destination.repeats() != Repeats::Unrecognised;
        if left {
            self.vouched(&mut batch, vouched);
            self.give_back(failure.cause, &batch);
        } else {
            batch.acknowledge();
            self.destination
                .lose(failure.cause, u64::from(batch.metrics()));
        }
    }

    /// The batch goes again: from here, or on the ring that this destination has left.
    fn again(&self, batch: Batch) {
        let Some(batch) = self.destination.queue.put_back(batch) else {
            // Those who were told that it is unavailable are not made to wait for this.
            if self.destination.circuit.cause().is_some() {
                self.destination.release();
            }
            return;
        };
        if batch.is_stamped() {
            return self.give_back("retired", &batch);
        }
        self.orphan(batch);
    }

    /// The batch goes where the ring says now.
    fn orphan(&self, batch: Batch) {
        let metrics = u64::from(batch.metrics());
        match self.orphans.send(batch) {
            Ok(()) => self.destination.account.reroute(metrics),
            Err(_) => self.destination.lose("shutdown", metrics),
        }
    }

    /// Books what a destination that turned a batch away vouches for. Returns whether that was understood.
    fn vouched(&self, batch: &mut Batch, vouched: Option<&Unacknowledged>) -> bool {
        let merged = vouched.and_then(|left| batch.turned_away(left));
        self.destination
            .account
            .deliver(u64::from(merged.unwrap_or(0)));
        merged.is_some()
    }

    /// Whether a stamped batch that was turned away goes to another owner. It is out of the queue then, and holds only what was not merged.
    fn goes_on(&self, batch: &mut Batch, vouched: Option<&Unacknowledged>) -> bool {
        let queue = &self.destination.queue;
        if vouched.is_none() || !batch.is_stamped() || !queue.is_leaving() {
            return false;
        }
        let bytes_and_all = batch.sum();
        let understood = self.vouched(batch, vouched);
        if understood {
            queue.release(bytes_and_all);
        }
        understood
    }

    /// Leaves a batch that is out of the queue to its senders; whoever waits is told when it is dropped.
    fn give_back(&self, cause: &'static str, batch: &Batch) {
        self.destination
            .give_back(cause, u64::from(batch.metrics()));
    }
}

/// The cause of a circuit that the destination opened itself.
const BUSY: &str = "busy";

async fn sleep_until(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time.into()).await,
        None => std::future::pending().await,
    }
}
