//! What waits to be sent: bounded in bytes and in age, the oldest given up first.
//!
//! What is new and what was tried before stand in lanes of their own: so a part of a flush that one global holds up for minutes stays out
//! of the way of what comes after it.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use super::batch::Batch;

/// For how long and how much is kept while nobody takes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// A batch older than this is given up.
    pub time: Duration,
    /// Bytes that wait or are under way. Over it the oldest that wait are given up.
    pub bytes: usize,
}

/// The batches that wait.
#[derive(Debug, Default)]
pub(super) struct Queue {
    /// Never tried, oldest first.
    fresh: VecDeque<Batch>,
    /// Tried, each with the moment before which it is not tried again; oldest first.
    again: VecDeque<(Instant, Batch)>,
}

impl Queue {
    /// Puts a new batch at the end.
    pub(super) fn push(&mut self, batch: Batch) {
        self.fresh.push_back(batch);
    }

    /// Puts a batch that could not be delivered where its age belongs, to be tried again from `due` on.
    pub(super) fn give_back(&mut self, batch: Batch, due: Instant) {
        let place = self
            .again
            .partition_point(|(_, waiting)| waiting.since < batch.since);
        self.again.insert(place, (due, batch));
    }

    /// The oldest batch that was never tried.
    pub(super) fn pop_fresh(&mut self) -> Option<Batch> {
        self.fresh.pop_front()
    }

    /// Whether any waits that was never tried.
    pub(super) fn has_fresh(&self) -> bool {
        !self.fresh.is_empty()
    }

    /// The oldest batch whose time to be tried again has come.
    pub(super) fn pop_due(&mut self, now: Instant) -> Option<Batch> {
        let place = self.place_due(now)?;
        self.again.remove(place).map(|(_, batch)| batch)
    }

    /// [`Queue::pop_due`], looked at only.
    pub(super) fn peek_due(&self, now: Instant) -> Option<&Batch> {
        let place = self.place_due(now)?;
        self.again.get(place).map(|(_, batch)| batch)
    }

    fn place_due(&self, now: Instant) -> Option<usize> {
        self.again.iter().position(|(due, _)| *due <= now)
    }

    /// When the next batch is to be tried again.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.again.iter().map(|(due, _)| *due).min()
    }

    /// Nothing waits for its time any more.
    pub(super) fn release(&mut self, now: Instant) {
        for (due, _) in &mut self.again {
            *due = now;
        }
    }

    /// The oldest batch of all.
    pub(super) fn pop_oldest(&mut self) -> Option<Batch> {
        match (self.again.front(), self.fresh.front()) {
            (Some((_, again)), Some(fresh)) if fresh.since < again.since => self.fresh.pop_front(),
            (Some(_), _) => self.again.pop_front().map(|(_, batch)| batch),
            (None, _) => self.fresh.pop_front(),
        }
    }

    /// The oldest batch, if it has waited for longer than it may.
    pub(super) fn pop_expired(&mut self, retention: &Retention, now: Instant) -> Option<Batch> {
        let again = self.again.front().map(|(_, batch)| batch.since);
        let fresh = self.fresh.front().map(|batch| batch.since);
        let oldest = again.into_iter().chain(fresh).min()?;
        (now.saturating_duration_since(oldest) > retention.time)
            .then(|| self.pop_oldest())
            .flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn batch(since: Instant, metrics: u32) -> Batch {
        Batch::of(Bytes::from_static(b"body"), metrics, since)
    }

    #[test]
    fn what_comes_back_waits_for_its_time_and_goes_before_what_is_younger() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut queue = Queue::default();
        queue.give_back(batch(at(3), 3), at(10));
        queue.give_back(batch(at(1), 1), at(12));
        queue.give_back(batch(at(2), 2), at(10));
        queue.push(batch(at(4), 4));
        assert_eq!(queue.next_due(), Some(at(10)));
        assert!(queue.pop_due(at(9)).is_none());
        assert_eq!(queue.peek_due(at(10)).unwrap().metrics, 2);
        assert_eq!(queue.pop_due(at(10)).unwrap().metrics, 2);
        assert_eq!(queue.pop_due(at(12)).unwrap().metrics, 1);
        assert_eq!(queue.pop_fresh().unwrap().metrics, 4);
        assert!(!queue.has_fresh());
        queue.release(at(5));
        assert_eq!(queue.pop_due(at(5)).unwrap().metrics, 3);
        assert_eq!(queue.next_due(), None);
    }

    #[test]
    fn the_oldest_of_both_lanes_is_given_up_first() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut queue = Queue::default();
        for seconds in [1, 3] {
            queue.push(batch(at(seconds), seconds as u32));
        }
        for seconds in [4, 2] {
            queue.give_back(batch(at(seconds), seconds as u32), at(9));
        }
        let order: Vec<_> = std::iter::from_fn(|| queue.pop_oldest())
            .map(|batch| batch.metrics)
            .collect();
        assert_eq!(order, [1, 2, 3, 4]);
    }

    #[test]
    fn only_batches_past_the_retention_time_expire() {
        let start = Instant::now();
        let retention = Retention {
            time: Duration::from_secs(10),
            bytes: 1,
        };
        let mut queue = Queue::default();
        queue.push(batch(start, 1));
        queue.give_back(batch(start, 2), start + Duration::from_secs(60));
        queue.push(batch(start + Duration::from_secs(5), 3));
        let now = start + Duration::from_secs(11);
        let expired: Vec<_> = std::iter::from_fn(|| queue.pop_expired(&retention, now))
            .map(|batch| batch.metrics)
            .collect();
        assert_eq!(expired, [2, 1]);
        assert!(queue.has_fresh());
    }
}
