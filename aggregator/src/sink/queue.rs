//! What waits for one sink: bounded in points, the oldest batch goes first when there is too much.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::Amount;
use super::health::Health;
use crate::point::Batch;

/// One sink's queue. Many may push; one task pops.
#[derive(Debug)]
pub(super) struct Queue {
    state: Mutex<State>,
    arrived: Notify,
    /// Here because it belongs to the sink's name, too.
    pub(super) health: Health,
}

#[derive(Debug, Default)]
struct State {
    /// Points and events that may wait, besides the batch being written. The newest batch may wait whatever its size: it is in memory anyway, and
    /// a flush that is bigger than the bound would otherwise never get through.
    bound: usize,
    batches: VecDeque<Arc<Batch>>,
    waiting: Amount,
    /// Popped, and not known to be written or lost yet.
    writing: Amount,
    closing: bool,
    /// Pushes so far, and the close.
    arrivals: u64,
    /// What `arrivals` was when the task last looked for a batch.
    seen: u64,
}

impl Queue {
    pub(super) fn new(bound: usize) -> Self {
        Self {
            state: Mutex::new(State {
                bound,
                ..State::default()
            }),
            arrived: Notify::new(),
            health: Health::default(),
        }
    }

    /// Changes how much may wait, from the next push on.
    pub(super) fn set_bound(&self, bound: usize) {
        self.state.lock().bound = bound;
    }

    /// What waits or is being written, and how much may wait.
    pub(super) fn fill(&self) -> (Amount, usize) {
        let state = self.state.lock();
        (state.waiting + state.writing, state.bound)
    }

    /// Adds the newest batch; returns what had to go for it. An empty batch is not kept, and yet wakes the task: it is the next flush that a failed
    /// write waits for.
    pub(super) fn push(&self, batch: Arc<Batch>) -> Amount {
        let added = Amount::of(&batch);
        let mut dropped = Amount::default();
        let mut state = self.state.lock();
        state.arrivals += 1;
        if added.total() > 0 {
            while (state.waiting + added).total() > state.bound
                && let Some(oldest) = state.batches.pop_front()
            {
                let gone = Amount::of(&oldest);
                state.waiting = state.waiting - gone;
                dropped += gone;
            }
            state.waiting += added;
            state.batches.push_back(batch);
        }
        drop(state);
        self.arrived.notify_one();
        dropped
    }

    /// The oldest batch, to be written. It counts as in hand until [`done`](Self::done) or [`put_back`](Self::put_back).
    pub(super) fn pop(&self) -> Option<Arc<Batch>> {
        let mut state = self.state.lock();
        state.seen = state.arrivals;
        let batch = state.batches.pop_front()?;
        state.writing = Amount::of(&batch);
        state.waiting = state.waiting - state.writing;
        Some(batch)
    }

    /// The popped batch has found its end.
    pub(super) fn done(&self) {
        self.state.lock().writing = Amount::default();
    }

    /// Whoever popped a batch is gone, and what became of it is unknown: how much it was.
    pub(super) fn forsake(&self) -> Amount {
        std::mem::take(&mut self.state.lock().writing)
    }

    /// The popped batch is to be tried again; returns it as dropped if what came meanwhile leaves no room.
    pub(super) fn put_back(&self, batch: Arc<Batch>) -> Amount {
        let mut state = self.state.lock();
        let amount = std::mem::take(&mut state.writing);
        if !state.batches.is_empty() && (state.waiting + amount).total() > state.bound {
            return amount;
        }
        state.waiting += amount;
        state.batches.push_front(batch);
        Amount::default()
    }

    /// Waits until something was pushed, or the queue closed, since the last [`pop`](Self::pop).
    pub(super) async fn arrival(&self) {
        loop {
            let notified = self.arrived.notified();
            let news = {
                let state = self.state.lock();
                state.arrivals != state.seen
            };
            if news {
                return;
            }
            notified.await;
        }
    }

    /// Nothing more will be pushed.
    pub(super) fn close(&self) {
        let mut state = self.state.lock();
        state.closing = true;
        state.arrivals += 1;
        drop(state);
        self.arrived.notify_one();
    }

    pub(super) fn is_closing(&self) -> bool {
        self.state.lock().closing
    }

    pub(super) fn is_empty(&self) -> bool {
        self.state.lock().batches.is_empty()
    }

    /// Takes all that never was written, with what was in hand.
    pub(super) fn drain(&self) -> Amount {
        let mut state = self.state.lock();
        let left = state.waiting + state.writing;
        *state = State {
            bound: state.bound,
            closing: state.closing,
            arrivals: state.arrivals,
            seen: state.seen,
            ..State::default()
        };
        left
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::Tags;
    use crate::point::{Point, PointKind};

    fn batch(points: usize) -> Arc<Batch> {
        let point = Point {
            base: "a".into(),
            suffix: None,
            tags: Tags::default(),
            kind: PointKind::Gauge,
            value: 1.0,
            timestamp: 1,
            check: None,
        };
        Arc::new(Batch {
            points: vec![point; points].into(),
            ..Batch::default()
        })
    }

    fn points(points: usize) -> Amount {
        Amount { points, events: 0 }
    }

    #[test]
    fn over_the_bound_the_oldest_go_and_only_as_many_as_must() {
        let queue = Queue::new(10);
        assert_eq!(queue.push(batch(4)), points(0));
        assert_eq!(queue.push(batch(3)), points(0));
        assert_eq!(queue.push(batch(3)), points(0));
        assert_eq!(queue.push(batch(1)), points(4));
        assert_eq!(queue.pop().unwrap().points.len(), 3);
    }

    #[test]
    fn the_newest_batch_is_kept_however_big() {
        let queue = Queue::new(10);
        queue.push(batch(4));
        assert_eq!(queue.push(batch(100)), points(4));
        assert_eq!(queue.pop().unwrap().points.len(), 100);
    }

    #[test]
    fn a_batch_put_back_is_the_next_again_unless_there_is_no_room() {
        let queue = Queue::new(10);
        queue.push(batch(6));
        let first = queue.pop().unwrap();
        queue.push(batch(4));
        assert_eq!(queue.put_back(first), points(0));
        let first = queue.pop().unwrap();
        assert_eq!(first.points.len(), 6);
        queue.push(batch(1));
        assert_eq!(queue.put_back(first), points(6));
        assert_eq!(queue.drain(), points(5));
    }

    #[test]
    fn what_is_left_counts_the_batch_in_hand() {
        let queue = Queue::new(10);
        queue.push(batch(1));
        queue.push(batch(2));
        let first = queue.pop();
        assert_eq!(queue.drain(), points(3));
        assert_eq!(queue.drain(), points(0));
        drop(first);
    }
}
