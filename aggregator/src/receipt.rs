//! What became of points that a source handed over: for sources whose peers ask, or that may forget a point only once it is written.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::oneshot;

/// Goes with points to every sink. Clones share it: once the last one is dropped, the points are written or lost everywhere, and [`Pending`]
/// says so. The default is for points that nobody waits for.
#[derive(Debug, Clone, Default)]
pub struct Receipt(Option<Arc<Shared>>);

#[derive(Debug)]
struct Shared {
    lost: AtomicU64,
    refused: AtomicU64,
    done: Option<oneshot::Sender<Fate>>,
}

/// What became of points.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Fate {
    /// How many a sink was meant to have and has lost, for whatever reason, added up over sinks. Where points of several receipts were written together,
    /// what is lost of them counts for each.
    pub lost: u64,
    /// How many of those the sink's service refused for good: to hand them over again is of no use. The others had no room, or no time at the end.
    pub refused: u64,
}

/// The source's end of a [`Receipt`].
#[derive(Debug)]
pub struct Pending(oneshot::Receiver<Fate>);

impl Receipt {
    /// A receipt, and where it is waited for.
    pub fn new() -> (Self, Pending) {
        let (done, pending) = oneshot::channel();
        let shared = Shared {
            lost: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            done: Some(done),
        };
        (Self(Some(Arc::new(shared))), Pending(pending))
    }

    /// Whether anybody waits for it.
    pub fn is_waited_for(&self) -> bool {
        self.0.is_some()
    }

    /// Notes that a sink has lost so many of the points: there was no room for them, or no time.
    pub fn lose(&self, points: usize) {
        if let Some(shared) = &self.0 {
            shared.lost.fetch_add(points as u64, Ordering::Relaxed);
        }
    }

    /// Notes that a sink's service refused so many of the points for good. They count as lost, too.
    pub fn refuse(&self, points: usize) {
        self.lose(points);
        if let Some(shared) = &self.0 {
            shared.refused.fetch_add(points as u64, Ordering::Relaxed);
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        if let Some(done) = self.done.take() {
            let fate = Fate {
                lost: *self.lost.get_mut(),
                refused: *self.refused.get_mut(),
            };
            // A source that no longer waits is no fault.
            let _ = done.send(fate);
        }
    }
}

impl Pending {
    /// Waits until every sink has written the points or lost them, however long that takes.
    pub async fn fate(self) -> Fate {
        // The sender speaks before it goes.
        self.0.await.unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_is_over_with_the_last_clone_and_knows_what_was_lost() {
        let (receipt, pending) = Receipt::new();
        let other = receipt.clone();
        other.lose(2);
        drop(other);
        let mut fate = std::pin::pin!(pending.fate());
        assert!(
            futures_util::poll!(&mut fate).is_pending(),
            "one is still out"
        );
        receipt.lose(1);
        receipt.refuse(4);
        drop(receipt);
        let expected = Fate {
            lost: 7,
            refused: 4,
        };
        assert_eq!(fate.await, expected);
    }

    #[test]
    fn nobody_has_to_wait() {
        let (receipt, pending) = Receipt::new();
        drop(pending);
        receipt.lose(1);
        Receipt::default().lose(1);
    }
}
