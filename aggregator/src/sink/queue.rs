//! What waits for one sink: bounded in points, the oldest batch goes first when there is too much.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::health::Health;
use super::{Amount, Gather};
use crate::point::Batch;
use crate::receipt::Receipt;

/// One sink's queue. Many may push; one task pops.
#[derive(Debug)]
pub(super) struct Queue {
    state: Mutex<State>,
    arrived: Notify,
    closed: CancellationToken,
    /// Here because it belongs to the sink's name, too.
    pub(super) health: Health,
}

#[derive(Debug, Default)]
struct State {
    /// Points and events that may wait, besides the batch being written. The newest batch may wait whatever its size: it is in memory anyway, and
    /// a flush that is bigger than the bound would otherwise never get through.
    bound: usize,
    batches: VecDeque<Waiting>,
    waiting: Amount,
    /// Popped, and not known to be written or lost yet.
    writing: Amount,
    /// Who waits for that.
    receipts: Vec<Receipt>,
    closing: bool,
    /// Nothing waits for more to come any longer.
    hurried: bool,
    /// Pushes so far, and the close.
    arrivals: u64,
    /// What `arrivals` was when the task last looked for a batch.
    seen: u64,
}

#[derive(Debug)]
struct Waiting {
    batch: Arc<Batch>,
    since: Instant,
    /// It was popped before, and is to be written as it was then.
    again: bool,
}

impl Queue {
    pub(super) fn new(bound: usize) -> Self {
        Self {
            state: Mutex::new(State {
                bound,
                ..State::default()
            }),
            arrived: Notify::new(),
            closed: CancellationToken::new(),
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

    /// Adds the newest batch; returns what had to go for it, which is the batch itself when nobody will write it any more. An empty batch is not
    /// kept, and yet wakes the task: it is the next flush that a failed write waits for.
    pub(super) fn push(&self, batch: Arc<Batch>) -> Amount {
        let added = Amount::of(&batch);
        let mut dropped = Amount::default();
        let mut state = self.state.lock();
        if state.closing {
            batch.lose(added.points);
            return added;
        }
        state.arrivals += 1;
        if added.total() > 0 {
            while (state.waiting + added).total() > state.bound
                && let Some(oldest) = state.batches.pop_front()
            {
                let gone = Amount::of(&oldest.batch);
                oldest.batch.lose(gone.points);
                state.waiting = state.waiting - gone;
                dropped += gone;
            }
            state.waiting += added;
            state.batches.push_back(Waiting {
                batch,
                since: Instant::now(),
                again: false,
            });
        }
        drop(state);
        self.arrived.notify_one();
        dropped
    }

    /// The oldest batch, with those behind it that are written together with it, if it is time for that. It counts as in hand until
    /// [`done`](Self::done) or [`put_back`](Self::put_back).
    pub(super) fn pop(&self, gather: Gather) -> Next {
        let mut state = self.state.lock();
        state.seen = state.arrivals;
        let Some(first) = state.batches.front() else {
            return Next::Empty;
        };
        let ripe = first.since + gather.time;
        let full = state.waiting.total() >= gather.amount;
        let patient = !first.again && !state.closing && !state.hurried;
        if patient && !full && Instant::now() < ripe {
            return Next::Gathering(ripe);
        }
        let batch = state.take_together(gather.amount);
        state.writing = batch.as_deref().map(Amount::of).unwrap_or_default();
        state.waiting = state.waiting - state.writing;
        state.receipts = batch.as_ref().map_or_else(Vec::new, |b| b.receipts.clone());
        batch.map_or(Next::Empty, Next::Batch)
    }

    /// The popped batch has found its end.
    pub(super) fn done(&self) {
        let mut state = self.state.lock();
        state.writing = Amount::default();
        state.receipts.clear();
    }

    /// Whoever popped a batch is gone, and what became of it is unknown: how much it was.
    pub(super) fn forsake(&self) -> Amount {
        let mut state = self.state.lock();
        state.forsake()
    }

    /// The popped batch is to be tried again; returns it as dropped if what came meanwhile leaves no room.
    pub(super) fn put_back(&self, batch: Arc<Batch>) -> Amount {
        let mut state = self.state.lock();
        state.receipts.clear();
        let amount = std::mem::take(&mut state.writing);
        if !state.batches.is_empty() && (state.waiting + amount).total() > state.bound {
            batch.lose(amount.points);
            return amount;
        }
        state.waiting += amount;
        state.batches.push_front(Waiting {
            batch,
            since: Instant::now(),
            again: true,
        });
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

    /// What waits is not to wait for more, from now on.
    pub(super) fn hurry(&self) {
        let mut state = self.state.lock();
        state.hurried = true;
        state.arrivals += 1;
        drop(state);
        self.arrived.notify_one();
    }

    /// Nothing more will be pushed.
    pub(super) fn close(&self) {
        let mut state = self.state.lock();
        state.closing = true;
        state.arrivals += 1;
        drop(state);
        self.closed.cancel();
        self.arrived.notify_one();
    }

    /// Waits until nothing more will be pushed.
    pub(super) async fn closed(&self) {
        self.closed.cancelled().await;
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
        let left = state.waiting + state.forsake();
        for waiting in &state.batches {
            waiting.batch.lose(waiting.batch.points.len());
        }
        *state = State {
            bound: state.bound,
            closing: state.closing,
            hurried: state.hurried,
            arrivals: state.arrivals,
            seen: state.seen,
            ..State::default()
        };
        left
    }
}

/// What there is to write.
#[derive(Debug)]
pub(super) enum Next {
    /// A batch.
    Batch(Arc<Batch>),
    /// Nothing before this time, unless more comes.
    Gathering(Instant),
    /// Nothing.
    Empty,
}

impl State {
    /// Takes the first batch, and puts those behind it to it up to an amount.
    fn take_together(&mut self, amount: usize) -> Option<Arc<Batch>> {
        let first = self.batches.pop_front()?;
        let fits = |together: usize, next: Option<&Waiting>, first: &Batch| {
            next.is_some_and(|next| {
                let more = Amount::of(&next.batch).total();
                together + more <= amount && next.batch.goes_with(first)
            })
        };
        let mut together = Amount::of(&first.batch).total();
        if first.again || !fits(together, self.batches.front(), &first.batch) {
            return Some(first.batch);
        }
        let mut batch = Arc::unwrap_or_clone(first.batch);
        while fits(together, self.batches.front(), &batch)
            && let Some(next) = self.batches.pop_front()
        {
            together += Amount::of(&next.batch).total();
            batch.absorb(Arc::unwrap_or_clone(next.batch));
        }
        Some(Arc::new(batch))
    }

    /// What was in hand is lost as far as anybody knows.
    fn forsake(&mut self) -> Amount {
        let amount = std::mem::take(&mut self.writing);
        for receipt in self.receipts.drain(..) {
            receipt.lose(amount.points);
        }
        amount
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::key::Tags;
    use crate::point::{Point, PointKind, Timestamp};

    fn batch(points: usize) -> Arc<Batch> {
        let point = Point {
            base: "a".into(),
            suffix: None,
            tags: Tags::default(),
            kind: PointKind::Gauge,
            value: 1.0,
            timestamp: Timestamp::default(),
            check: None,
        };
        Arc::new(Batch {
            points: vec![point; points].into(),
            ..Batch::default()
        })
    }

    fn pop(queue: &Queue) -> Option<Arc<Batch>> {
        match queue.pop(Gather::default()) {
            Next::Batch(batch) => Some(batch),
            Next::Gathering(_) | Next::Empty => None,
        }
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
        assert_eq!(pop(&queue).unwrap().points.len(), 3);
    }

    #[test]
    fn the_newest_batch_is_kept_however_big() {
        let queue = Queue::new(10);
        queue.push(batch(4));
        assert_eq!(queue.push(batch(100)), points(4));
        assert_eq!(pop(&queue).unwrap().points.len(), 100);
    }

    #[test]
    fn a_batch_put_back_is_the_next_again_unless_there_is_no_room() {
        let queue = Queue::new(10);
        queue.push(batch(6));
        let first = pop(&queue).unwrap();
        queue.push(batch(4));
        assert_eq!(queue.put_back(first), points(0));
        let first = pop(&queue).unwrap();
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
        let first = pop(&queue);
        assert_eq!(queue.drain(), points(3));
        assert_eq!(queue.drain(), points(0));
        drop(first);
    }

    const TOGETHER: Gather = Gather {
        amount: 10,
        time: Duration::from_secs(5),
    };

    #[tokio::test(start_paused = true)]
    async fn small_batches_are_put_together_when_there_are_enough_or_the_oldest_is_old() {
        let queue = Queue::new(100);
        queue.push(batch(4));
        queue.push(batch(3));
        assert!(matches!(queue.pop(TOGETHER), Next::Gathering(_)));
        queue.push(batch(4));
        let Next::Batch(first) = queue.pop(TOGETHER) else {
            panic!("there are enough");
        };
        assert_eq!(first.points.len(), 7, "as many as fit");
        queue.done();
        assert!(matches!(queue.pop(TOGETHER), Next::Gathering(_)));
        tokio::time::advance(TOGETHER.time).await;
        let Next::Batch(rest) = queue.pop(TOGETHER) else {
            panic!("it is old enough");
        };
        assert_eq!(rest.points.len(), 4);
        // What is tried again stays as it was.
        queue.put_back(rest);
        queue.push(batch(2));
        assert!(matches!(queue.pop(TOGETHER), Next::Batch(batch) if batch.points.len() == 4));
        queue.done();
        queue.close();
        assert!(matches!(queue.pop(TOGETHER), Next::Batch(batch) if batch.points.len() == 2));
    }

    #[tokio::test(start_paused = true)]
    async fn in_a_hurry_nothing_waits_for_more() {
        let queue = Queue::new(100);
        queue.push(batch(1));
        assert!(matches!(queue.pop(TOGETHER), Next::Gathering(_)));
        queue.hurry();
        queue.arrival().await;
        assert!(matches!(queue.pop(TOGETHER), Next::Batch(_)));
        queue.done();
        queue.push(batch(1));
        assert!(matches!(queue.pop(TOGETHER), Next::Batch(_)));
    }

    #[tokio::test]
    async fn a_receipt_tells_what_was_lost_on_every_way_out() {
        let sent = |queue: &Queue, size: usize| {
            let (receipt, pending) = Receipt::new();
            let mut batch = Arc::unwrap_or_clone(batch(size));
            batch.receipts.push(receipt);
            queue.push(Arc::new(batch));
            pending
        };
        let queue = Queue::new(10);
        let pushed_out = sent(&queue, 8);
        let written = sent(&queue, 7);
        assert_eq!(pushed_out.fate().await.lost, 8);
        drop(pop(&queue));
        queue.done();
        assert_eq!(written.fate().await.lost, 0);
        let refused = sent(&queue, 6);
        let next = sent(&queue, 5);
        let first = pop(&queue).unwrap();
        assert_eq!(first.points.len(), 5, "the bound was too small for both");
        assert_eq!(refused.fate().await.lost, 6);
        let drained = sent(&queue, 3);
        queue.drain();
        drop(first);
        assert_eq!(next.fate().await.lost, 5);
        assert_eq!(drained.fate().await.lost, 3);
        queue.close();
        assert_eq!(sent(&queue, 1).fate().await.lost, 1);
    }
}
