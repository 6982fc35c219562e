//! What waits for one destination, bounded in bytes.
//!
//! Requests append to the open batch; the destination's task takes batches out. What the task has taken counts until it says what became
//! of it, so [`Queue::bytes`] is all the memory that a destination holds.
//!
//! Metrics whose sender waits until they are merged keep apart from those whose sender does not: no batch has both. The former are the
//! sender's until it is told otherwise, so where there is no room for them they are not taken; the latter have nobody else, so the oldest of
//! them go.
//!
//! What always holds:
//! - an append never waits: over the bound, the oldest batch without a stamp that is not under way goes, and the caller learns how much
//!   that was;
//! - no batch is longer than [`Limits::batch_bytes`], but for one with a single metric that is longer by itself;
//! - a retired queue is empty and stays so.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::Notify;
use tributary_proto::scan;

use super::batch::{Batch, OpenBatch};
use super::budget::Budget;
use crate::ledger::Account;
use crate::receipt::Claim;

/// The bounds of one destination's queue.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Bytes queued and under way together.
    pub bytes: usize,
    /// Bytes that a batch grows to.
    pub batch_bytes: usize,
    /// Metrics that a batch grows to.
    pub batch_metrics: u32,
    /// How long an open batch waits for more while another one is under way.
    pub linger: Duration,
}

impl Limits {
    /// Limits for a queue of this many bytes: batches of 4,000 metrics or 1 MiB, or less where the queue is small.
    pub fn of_queue(bytes: usize) -> Self {
        Self {
            bytes,
            batch_bytes: (bytes / 8).clamp(1, 1 << 20),
            batch_metrics: 4000,
            linger: Duration::from_millis(5),
        }
    }
}

/// The queue has been retired: nothing of what was to be appended is in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retired;

/// Why stamped metrics were not queued.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NotQueued {
    /// The queue has been retired.
    Retired,
    /// There is no room for them.
    Full,
}

/// What the task finds when it asks for the next batch.
#[derive(Debug)]
pub(super) enum Next {
    Batch(Batch),
    /// Nobody waits for it any more: it is not to be sent, and has left the queue.
    Late(Batch),
    /// The open batch may still grow until then.
    Linger(Instant),
    Empty,
}

/// What the queue is for at present.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Open,
    /// Everything goes out at once, then the task ends.
    Draining,
    /// The ring has no place for it any more. It takes stamped metrics that belong to it still, and the task ends when it is idle.
    Leaving,
    /// Nothing comes in any more; the task ends after what is under way.
    Retired,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Queue {
    budget: Arc<Budget>,
    account: Arc<Account>,
    state: Mutex<State>,
    /// For the task, the only one that waits.
    changed: Notify,
}

#[derive(Debug)]
struct State {
    limits: Limits,
    phase: Phase,
    sealed: VecDeque<Batch>,
    plain: OpenBatch,
    stamped: OpenBatch,
    /// In `sealed`, the open batches and under way.
    held: Sum,
    /// The stamped ones of these.
    held_stamped: Sum,
}

/// An amount of metrics.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sum {
    pub bytes: usize,
    pub metrics: u64,
}

/// What was left in a queue that is given up.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Left {
    pub plain: u64,
    pub stamped: u64,
}

impl Queue {
    pub(super) fn new(limits: Limits, budget: Arc<Budget>, account: Arc<Account>) -> Self {
        Self {
            budget,
            account,
            state: Mutex::new(State {
                limits,
                phase: Phase::Open,
                sealed: VecDeque::new(),
                plain: OpenBatch::new(false),
                stamped: OpenBatch::new(true),
                held: Sum::default(),
                held_stamped: Sum::default(),
            }),
            changed: Notify::new(),
        }
    }

    /// These are its bounds from now on. What is queued beyond them goes when more comes.
    pub(super) fn set_limits(&self, limits: Limits) {
        self.state.lock().limits = limits;
    }

    /// Bytes queued and under way.
    pub(super) fn bytes(&self) -> usize {
        self.state.lock().held.bytes
    }

    /// Metrics queued and under way.
    pub(super) fn metrics(&self) -> u64 {
        self.state.lock().held.metrics
    }

    /// Appends metrics that take `size` bytes as entries of a list. Returns how many had to go: the oldest, and any that would fill half of
    /// the queue by itself.
    pub(super) fn append<'m>(
        &self,
        size: usize,
        metrics: impl Iterator<Item = &'m [u8]>,
    ) -> Result<u64, Retired> {
        let mut state = self.state.lock();
        if matches!(state.phase, Phase::Retired | Phase::Leaving) {
            return Err(Retired);
        }
        let mut dropped = self.push(&mut state, false, size, metrics, None);
        while state.held.bytes > state.limits.bytes {
            match self.drop_oldest_of(&mut state) {
                0 => break,
                metrics => dropped += metrics,
            }
        }
        Ok(dropped)
    }

    /// Appends stamped metrics that take `size` bytes as entries of a list, if there is room for all of them. Returns how many were left
    /// out because they would fill half of the queue each.
    pub(super) fn append_stamped<'m>(
        &self,
        size: usize,
        metrics: impl Iterator<Item = &'m [u8]>,
        claim: Claim,
    ) -> Result<u64, NotQueued> {
        let mut state = self.state.lock();
        if state.phase == Phase::Retired {
            return Err(NotQueued::Retired);
        }
        if state.held.bytes.saturating_add(size) > state.limits.bytes {
            return Err(NotQueued::Full);
        }
        Ok(self.push(&mut state, true, size, metrics, Some(claim)))
    }

    /// Returns how many metrics were left out.
    fn push<'m>(
        &self,
        state: &mut State,
        stamped: bool,
        size: usize,
        metrics: impl Iterator<Item = &'m [u8]>,
        mut claim: Option<Claim>,
    ) -> u64 {
        let limits = state.limits;
        let before = state.held;
        let was_idle = state.unsealed() == 0 && state.sealed.is_empty();
        let sealed_before = state.sealed.len();
        let open = match stamped {
            true => &mut state.stamped,
            false => &mut state.plain,
        };
        let buffers = self.budget.buffers();
        open.reserve(size.min(limits.batch_bytes), buffers);
        let mut left_out = 0;
        // Since the batch was opened, or begun for this claim.
        let mut unclaimed = 0;
        for metric in metrics {
            let length = scan::framed_len(metric.len());
            if length > limits.bytes / 2 {
                left_out += 1;
                // The claim's ranges go on: it is merged with its neighbours, since repeating it is of no use.
                unclaimed += 1;
                continue;
            }
            let full = open.bytes() + length > limits.batch_bytes
                || open.metrics() >= limits.batch_metrics;
            if full {
                if let Some(claim) = &mut claim {
                    open.claim(claim.split_first(std::mem::take(&mut unclaimed)));
                }
                state.sealed.extend(open.seal());
                open.reserve(length, buffers);
            }
            let bytes_before = open.bytes();
            open.push(metric);
            unclaimed += 1;
            state.held.bytes += open.bytes() - bytes_before;
            state.held.metrics += 1;
        }
        match claim {
            Some(claim) if open.metrics() > 0 => open.claim(claim),
            Some(claim) => claim.merged(),
            None => {}
        }
        let added = state.held.since(before);
        if stamped {
            state.held_stamped.add(added);
        }
        self.budget.add(added.bytes);
        self.account.enter(added.metrics);
        if was_idle || state.sealed.len() > sealed_before {
            self.changed.notify_one();
        }
        left_out
    }

    /// Drops the oldest batch without stamps that is not under way. Returns its metrics, 0 if there was none.
    pub(super) fn drop_oldest(&self) -> u64 {
        self.drop_oldest_of(&mut self.state.lock())
    }

    fn drop_oldest_of(&self, state: &mut State) -> u64 {
        let oldest = state.sealed.iter().position(|batch| !batch.is_stamped());
        let oldest = match oldest {
            Some(oldest) => state.sealed.remove(oldest),
            None => state.plain.seal(),
        };
        oldest.map_or(0, |batch| {
            self.forget(state, &batch);
            u64::from(batch.metrics())
        })
    }

    /// The next batch to send when `under_way` are sent and not answered. What is taken must come back by [`Self::done`] or
    /// [`Self::put_back`].
    pub(super) fn next(&self, under_way: usize) -> Next {
        let mut state = self.state.lock();
        let phase = state.phase;
        let first_sealed = state.sealed.front().map(Batch::since);
        let first_open = state.oldest_open().map(|open| open.since());
        let batch = match (first_sealed, first_open) {
            (None, None) => return Next::Empty,
            // An open one that has been overtaken by full ones of the other kind is not left behind.
            (Some(sealed), Some(open)) if open < sealed => state.seal_oldest(),
            (Some(_), _) => state.sealed.pop_front(),
            (None, Some(open)) => {
                let linger_until = open + state.limits.linger;
                if under_way > 0 && phase == Phase::Open && Instant::now() < linger_until {
                    return Next::Linger(linger_until);
                }
                state.seal_oldest()
            }
        };
        let Some(batch) = batch else {
            return Next::Empty;
        };
        if batch.is_stamped() && !batch.is_waited_for() {
            self.forget(&mut state, &batch);
            return Next::Late(batch);
        }
        Next::Batch(batch)
    }

    /// A batch that was taken is settled.
    pub(super) fn done(&self, batch: &Batch) {
        self.forget(&mut self.state.lock(), batch);
    }

    /// A batch that was settled is over: its memory is for others.
    pub(super) fn recycle(&self, batch: Batch) {
        self.budget.buffers().put(batch.into_message());
    }

    /// A batch that was taken goes again, before all others. If nobody else waits for it, a queue that is leaving gives it back to the
    /// caller, and one that is retired gives back any.
    pub(super) fn put_back(&self, batch: Batch) -> Option<Batch> {
        let mut state = self.state.lock();
        match state.phase {
            Phase::Open | Phase::Draining => {}
            Phase::Leaving if batch.is_stamped() => {}
            Phase::Leaving | Phase::Retired => {
                self.forget(&mut state, &batch);
                return Some(batch);
            }
        }
        state.sealed.push_front(batch);
        None
    }

    /// A stamped batch that was taken is settled, which held as much as this when it was taken.
    pub(super) fn release(&self, sum: Sum) {
        self.forget_sum(&mut self.state.lock(), sum, true);
    }

    /// Lets go of a batch's bytes.
    fn forget(&self, state: &mut State, batch: &Batch) {
        self.forget_sum(state, batch.sum(), batch.is_stamped());
    }

    fn forget_sum(&self, state: &mut State, sum: Sum, stamped: bool) {
        state.held.take(sum);
        if stamped {
            state.held_stamped.take(sum);
        }
        self.budget.sub(sum.bytes);
        self.account.leave(sum.metrics);
    }

    /// Takes no more metrics without stamps from now on, and gives out those that are not under way.
    pub(super) fn leave(&self) -> Vec<Batch> {
        let mut state = self.state.lock();
        if state.phase == Phase::Open {
            state.phase = Phase::Leaving;
        }
        let batches = self.give_out(&mut state, false);
        drop(state);
        self.changed.notify_one();
        batches
    }

    /// Undoes [`Self::leave`], unless it is too late for that.
    pub(super) fn rejoin(&self) -> bool {
        let mut state = self.state.lock();
        if state.phase == Phase::Leaving {
            state.phase = Phase::Open;
        }
        state.phase == Phase::Open
    }

    /// Gives out what is not under way: the batches with stamps, or those without.
    pub(super) fn unsent(&self, stamped: bool) -> Vec<Batch> {
        self.give_out(&mut self.state.lock(), stamped)
    }

    fn give_out(&self, state: &mut State, stamped: bool) -> Vec<Batch> {
        let open = match stamped {
            true => state.stamped.seal(),
            false => state.plain.seal(),
        };
        state.sealed.extend(open);
        let (out, stay): (Vec<Batch>, Vec<Batch>) = std::mem::take(&mut state.sealed)
            .into_iter()
            .partition(|batch| batch.is_stamped() == stamped);
        state.sealed = stay.into();
        for batch in &out {
            self.forget(state, batch);
        }
        out
    }

    /// Asks the task to send everything at once and to end then.
    pub(super) fn drain(&self) {
        let mut state = self.state.lock();
        if matches!(state.phase, Phase::Open | Phase::Leaving) {
            state.phase = Phase::Draining;
        }
        drop(state);
        self.changed.notify_one();
    }

    /// Whether the task, with nothing under way, may end.
    pub(super) fn is_finished(&self) -> bool {
        let state = self.state.lock();
        match state.phase {
            Phase::Open | Phase::Leaving => false,
            Phase::Draining => state.held.bytes == 0,
            Phase::Retired => true,
        }
    }

    /// Whether the ring has no place for it any more.
    pub(super) fn is_leaving(&self) -> bool {
        self.state.lock().phase == Phase::Leaving
    }

    /// Whether it holds nothing and is only waited with because something might still come.
    pub(super) fn is_idle_and_leaving(&self) -> bool {
        let state = self.state.lock();
        state.phase == Phase::Leaving && state.held.bytes == 0
    }

    /// Retires it if it is leaving and empty.
    pub(super) fn retire_if_idle(&self) {
        let mut state = self.state.lock();
        if state.phase == Phase::Leaving && state.held.bytes == 0 {
            state.phase = Phase::Retired;
        }
    }

    /// Completes when there may be something new to send, or the phase changed.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Forgets everything, also what is under way. Returns how many metrics that were.
    pub(super) fn abandon(&self) -> Left {
        let mut state = self.state.lock();
        state.phase = Phase::Retired;
        state.sealed.clear();
        state.plain = OpenBatch::new(false);
        state.stamped = OpenBatch::new(true);
        let held = std::mem::take(&mut state.held);
        let stamped = std::mem::take(&mut state.held_stamped).metrics;
        self.budget.sub(held.bytes);
        self.account.leave(held.metrics);
        Left {
            plain: held.metrics - stamped,
            stamped,
        }
    }
}

impl State {
    fn unsealed(&self) -> u32 {
        self.plain.metrics() + self.stamped.metrics()
    }

    /// The open batch that holds something longest.
    fn oldest_open(&mut self) -> Option<&mut OpenBatch> {
        let (plain, stamped) = (&mut self.plain, &mut self.stamped);
        match (plain.metrics() > 0, stamped.metrics() > 0) {
            (false, false) => None,
            (true, true) if stamped.since() < plain.since() => Some(stamped),
            (true, _) => Some(plain),
            (false, true) => Some(stamped),
        }
    }

    fn seal_oldest(&mut self) -> Option<Batch> {
        self.oldest_open().and_then(OpenBatch::seal)
    }
}

impl Sum {
    fn add(&mut self, more: Self) {
        self.bytes += more.bytes;
        self.metrics += more.metrics;
    }

    fn take(&mut self, less: Self) {
        self.bytes -= less.bytes;
        self.metrics -= less.metrics;
    }

    fn since(self, before: Self) -> Self {
        Self {
            bytes: self.bytes - before.bytes,
            metrics: self.metrics - before.metrics,
        }
    }
}

#[cfg(test)]
mod tests;
