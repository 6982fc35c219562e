//! What waits for one destination, and what is known about it: shared by the sink, which adds, and the destination's [`courier`](super::courier),
//! which takes away.

use std::collections::VecDeque;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::chunk::Chunk;
use super::happened::{Cause, FellBehind, Named, PointsLost, SpoolFailed};
use super::spool::Spool;
use crate::receipt::Receipt;

/// See the module.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) named: Named,
    /// How many points may wait in memory.
    bound: usize,
    state: Mutex<State>,
    /// For the courier: there is something to send.
    pub(super) news: Notify,
    /// For the sink: something was sent.
    eased: Notify,
    /// Set once it is open, which may take until another has let go of it.
    spool: OnceLock<Arc<Spool>>,
}

#[derive(Debug, Default)]
struct State {
    queue: VecDeque<Item>,
    points: usize,
    next: u64,
    /// A write has waited for it in vain, and it has not caught up since.
    behind: bool,
    up: bool,
    last_error: Option<String>,
    /// When it took something last.
    eased: Option<Instant>,
}

/// How long a write waits for a destination.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    /// When the write began.
    pub(super) since: Instant,
    /// As long as it takes something at least so often,
    pub(super) step: Duration,
    /// and no longer than this.
    pub(super) whole: Duration,
}

#[derive(Debug)]
struct Item {
    number: u64,
    chunk: Arc<Chunk>,
    /// Dropped with the item: then its points are written, or were reported as lost.
    receipts: Vec<Receipt>,
}

impl Lane {
    pub(super) fn new(named: Named, bound: usize) -> Self {
        Self {
            named,
            bound,
            state: Mutex::new(State {
                next: AGAIN + 1,
                ..State::default()
            }),
            news: Notify::new(),
            eased: Notify::new(),
            spool: OnceLock::new(),
        }
    }

    // === for the sink ===

    /// The number that the next item will have.
    pub(super) fn mark(&self) -> u64 {
        self.state.lock().next
    }

    /// Adds to the end.
    pub(super) fn push(&self, chunk: Chunk, receipts: Vec<Receipt>) {
        let mut state = self.state.lock();
        let number = state.next;
        state.next += 1;
        state.points += chunk.len();
        let chunk = Arc::new(chunk);
        state.queue.push_back(Item {
            number,
            chunk,
            receipts,
        });
        self.named.queued.set(state.points as f64);
        drop(state);
        self.news.notify_one();
    }

    pub(super) fn has_room(&self) -> bool {
        self.state.lock().points < self.bound
    }

    pub(super) fn is_behind(&self) -> bool {
        self.state.lock().behind
    }

    /// Whether it is connected, and no write has waited for it in vain.
    pub(super) fn takes(&self) -> bool {
        let state = self.state.lock();
        state.up && !state.behind
    }

    pub(super) fn fall_behind(&self) {
        let was = std::mem::replace(&mut self.state.lock().behind, true);
        if !was {
            let named = &self.named;
            FellBehind { named }.emit();
        }
    }

    /// Waits until there is room; whether there is.
    pub(super) async fn room(&self, patience: Patience) -> bool {
        self.wait(patience, |state| state.points < self.bound).await
    }

    /// Waits until all from a mark on was written; whether it was.
    pub(super) async fn written(&self, mark: u64, patience: Patience) -> bool {
        self.wait(patience, |state| !state.holds(mark)).await
    }

    /// Waits until nothing is in memory, or there is nobody to send it to.
    pub(super) async fn drained(&self, patience: Patience) {
        self.wait(patience, |state| state.queue.is_empty() || !state.up)
            .await;
    }

    async fn wait(&self, patience: Patience, enough: impl Fn(&State) -> bool) -> bool {
        let Patience { since, step, whole } = patience;
        loop {
            let eased = self.eased.notified();
            let last = {
                let state = self.state.lock();
                if enough(&state) {
                    return true;
                }
                state.eased.map_or(since, |last| last.max(since))
            };
            let until = (last + step).min(since + whole);
            let in_time = tokio::time::timeout_at(until, eased).await.is_ok();
            if !in_time && Instant::now() >= until {
                let state = self.state.lock();
                let no_more =
                    state.eased.is_none_or(|eased| eased <= last) || until == since + whole;
                if enough(&state) || no_more {
                    return enough(&state);
                }
            }
        }
    }

    /// Whether all that was added from a mark on is still there.
    pub(super) fn has_all(&self, mark: u64) -> bool {
        let state = self.state.lock();
        let kept = state.queue.iter().filter(|item| item.number >= mark);
        kept.count() as u64 == state.next.saturating_sub(mark)
    }

    /// Takes back what was added from a mark on. Nothing of it counts as lost, and the next write waits for this destination again if nothing older
    /// is there.
    pub(super) fn take_back(&self, mark: u64) {
        let mut state = self.state.lock();
        state.queue.retain(|item| item.number < mark);
        state.recount();
        state.behind &= !state.queue.is_empty();
        self.named.queued.set(state.points as f64);
    }

    /// Brings what waits in memory down to the bound: all of it to the disk where there is a spool, else the oldest is dropped and counted.
    pub(super) async fn relieve(self: &Arc<Self>) {
        let Some(spool) = self.spool.get().map(Arc::clone) else {
            self.trim();
            return;
        };
        let lane = Arc::clone(self);
        // Disks block. It runs to its end even if nobody waits for that.
        let spilled = tokio::task::spawn_blocking(move || lane.spill(&spool));
        // It does not panic, and is not cancelled.
        let _ = spilled.await;
    }

    fn spill(&self, spool: &Spool) {
        let items = {
            let mut state = self.state.lock();
            state.points = 0;
            std::mem::take(&mut state.queue)
        };
        if items.is_empty() {
            return;
        }
        let chunks: Vec<_> = items.iter().map(|item| Arc::clone(&item.chunk)).collect();
        match spool.append(&chunks) {
            Ok(dropped) => self.lost(dropped, Cause::SpoolFull),
            Err(error) => {
                let named = &self.named;
                SpoolFailed { named, error }.emit();
                let mut state = self.state.lock();
                let newer = std::mem::replace(&mut state.queue, items);
                state.queue.extend(newer);
                state.recount();
                drop(state);
                self.trim();
            }
        }
        let points = self.state.lock().points;
        self.named.queued.set(points as f64);
        self.named.spooled.set(spool.bytes() as f64);
        self.news.notify_one();
    }

    /// Drops the oldest over the bound; the newest item stays.
    fn trim(&self) {
        let mut dropped = 0;
        let mut state = self.state.lock();
        while state.points > self.bound
            && state.queue.len() > 1
            && let Some(item) = state.pop()
        {
            dropped += item.lose();
        }
        self.named.queued.set(state.points as f64);
        drop(state);
        self.lost(dropped, Cause::QueueFull);
    }

    /// Nobody sends any more: what waits in memory is lost.
    pub(super) fn abandon(&self) {
        let mut state = self.state.lock();
        let mut dropped = 0;
        while let Some(item) = state.pop() {
            dropped += item.lose();
        }
        drop(state);
        self.named.queued.set(0.0);
        self.lost(dropped, Cause::Shutdown);
    }

    /// What the last attempt to reach it said.
    pub(super) fn last_error(&self) -> Option<String> {
        self.state.lock().last_error.clone()
    }

    // === for the courier ===

    pub(super) fn set_spool(&self, spool: Spool) {
        self.named.spooled.set(spool.bytes() as f64);
        // There is one opener.
        let _ = self.spool.set(Arc::new(spool));
        self.news.notify_one();
    }

    pub(super) fn spool(&self) -> Option<&Arc<Spool>> {
        self.spool.get()
    }

    /// The oldest item in memory, which stays there until it is [`sent`](Self::sent).
    pub(super) fn front(&self) -> Option<Arc<Chunk>> {
        let state = self.state.lock();
        state.queue.front().map(|item| Arc::clone(&item.chunk))
    }

    /// The item was written, unless it has gone another way meanwhile.
    pub(super) fn sent(&self, chunk: &Arc<Chunk>) {
        let mut state = self.state.lock();
        let first = state.queue.front();
        if first.is_some_and(|item| Arc::ptr_eq(&item.chunk, chunk)) {
            state.pop();
        }
        state.eased = Some(Instant::now());
        if state.queue.is_empty() {
            state.behind = false;
        }
        self.named.queued.set(state.points as f64);
        drop(state);
        self.eased.notify_one();
    }

    /// Puts chunks that nobody waits for in front of all others, in their order.
    pub(super) fn put_back(&self, chunks: impl DoubleEndedIterator<Item = Arc<Chunk>>) {
        let mut state = self.state.lock();
        for chunk in chunks.rev() {
            state.points += chunk.len();
            state.queue.push_front(Item {
                number: AGAIN,
                chunk,
                receipts: Vec::new(),
            });
        }
    }

    pub(super) fn set_up(&self) {
        let mut state = self.state.lock();
        state.up = true;
        state.last_error = None;
        // With nothing in memory, what comes next need not queue behind a spool.
        if state.queue.is_empty() {
            state.behind = false;
        }
        drop(state);
        self.named.up.set(1.0);
    }

    pub(super) fn set_down(&self, error: &dyn std::fmt::Display) {
        let mut state = self.state.lock();
        state.up = false;
        state.last_error = Some(error.to_string());
        drop(state);
        self.named.up.set(0.0);
        self.eased.notify_one();
    }

    fn lost(&self, points: u64, cause: Cause) {
        let named = &self.named;
        PointsLost {
            named,
            points,
            cause,
        }
        .emit();
    }
}

/// The number of items that were written before and are sent again, in case that they got lost: below every mark.
const AGAIN: u64 = 0;

impl State {
    fn pop(&mut self) -> Option<Item> {
        let item = self.queue.pop_front()?;
        self.points = self.points.saturating_sub(item.chunk.len());
        Some(item)
    }

    fn holds(&self, mark: u64) -> bool {
        self.queue.back().is_some_and(|item| item.number >= mark)
    }

    fn recount(&mut self) {
        self.points = self.queue.iter().map(|item| item.chunk.len()).sum();
    }
}

impl Item {
    /// Tells those who wait; returns how many points it was that never were written.
    fn lose(self) -> u64 {
        if self.number == AGAIN {
            return 0;
        }
        for receipt in &self.receipts {
            receipt.lose(self.chunk.len());
        }
        self.chunk.len() as u64
    }
}

/// A spill that failed after all others had let go.
impl Drop for Lane {
    fn drop(&mut self) {
        self.abandon();
    }
}
