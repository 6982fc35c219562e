//! What a sender of stamped metrics waits for: that each of them is merged.
//!
//! A request has one [`Receipt`]. For each part of it that is queued there is a [`Claim`], which travels with the part's metrics, is split
//! where they are split, and ends with them.
//!
//! What always holds:
//! - a position counts as merged only if a claim that covers it said so before the receipt was answered;
//! - a claim that is dropped without a word counts as not merged, so nobody waits for what is gone;
//! - a receipt is clear of doubt only if all claims have ended, and each that is not merged was certainly not taken by anybody: it never left, or
//!   whoever it was sent to vouched for that;
//! - nobody waits beyond the deadline, and a claim knows whether anybody still waits.

use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tributary_proto::ack::Unacknowledged;

/// The waiting side; see the module.
#[derive(Debug)]
pub(crate) struct Receipt {
    shared: Arc<Shared>,
    /// For each part its positions in the request, ascending.
    parts: Vec<Vec<u32>>,
}

/// The side that travels with metrics; see the module.
#[derive(Debug)]
pub(crate) struct Claim {
    shared: Arc<Shared>,
    part: usize,
    /// Which of the part's positions.
    range: Range<usize>,
    merged: bool,
    /// Whether its metrics may have been merged without a word.
    doubtful: bool,
}

#[derive(Debug)]
struct Shared {
    deadline: Instant,
    state: Mutex<State>,
    /// For the receipt, the only one that waits.
    settled: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// Positions of claims that stand.
    open: usize,
    /// Ranges of parts, in the order in which they were merged.
    merged: Vec<(usize, Range<usize>)>,
    answered: bool,
    /// Whether a claim has ended in doubt.
    doubtful: bool,
}

/// What a receipt says in the end.
#[derive(Debug, Default)]
pub(crate) struct Settled {
    /// What is not known to be merged.
    pub left: Unacknowledged,
    /// Whether that is known not to be merged, now or later.
    pub turned_away: bool,
}

// === impl Receipt ===

impl Receipt {
    /// For a request that is answered at `deadline` at the latest.
    pub(crate) fn new(deadline: Instant) -> Self {
        Self {
            shared: Arc::new(Shared {
                deadline,
                state: Mutex::default(),
                settled: Notify::new(),
            }),
            parts: Vec::new(),
        }
    }

    /// The claim for a part with these positions.
    pub(crate) fn claim(&mut self, positions: Vec<u32>) -> Claim {
        self.shared.state.lock().open += positions.len();
        let claim = Claim {
            shared: self.shared.clone(),
            part: self.parts.len(),
            range: 0..positions.len(),
            merged: false,
            doubtful: false,
        };
        self.parts.push(positions);
        claim
    }

    /// How many positions it covers.
    pub(crate) fn positions(&self) -> usize {
        self.parts.iter().map(Vec::len).sum()
    }

    /// Waits until all claims are settled, or for the deadline, and gives what is not known to be merged.
    pub(crate) async fn wait(self) -> Settled {
        let settled = async {
            while self.shared.state.lock().open > 0 {
                self.shared.settled.notified().await;
            }
        };
        // Late is no error here: what was merged by then says all.
        let _ = tokio::time::timeout_at(self.shared.deadline.into(), settled).await;
        self.answer()
    }

    fn answer(self) -> Settled {
        let (mut merged, turned_away) = {
            let mut state = self.shared.state.lock();
            state.answered = true;
            let turned_away = state.open == 0 && !state.doubtful;
            (std::mem::take(&mut state.merged), turned_away)
        };
        let covered: usize = merged.iter().map(|(_, range)| range.len()).sum();
        if covered == self.positions() {
            return Settled::default();
        }
        merged.sort_unstable_by_key(|(part, range)| (*part, range.start));
        let mut merged = merged.into_iter().peekable();
        let mut left = Vec::new();
        for (part, positions) in self.parts.iter().enumerate() {
            let mut after = 0;
            while let Some((_, range)) = merged.next_if(|next| next.0 == part) {
                left.extend_from_slice(positions.get(after..range.start).unwrap_or_default());
                after = range.end;
            }
            left.extend_from_slice(positions.get(after..).unwrap_or_default());
        }
        Settled {
            left: left.into_iter().collect(),
            turned_away,
        }
    }
}

// === impl Claim ===

impl Claim {
    /// How many metrics it stands for.
    pub(crate) fn metrics(&self) -> usize {
        self.range.len()
    }

    /// Takes the first `metrics` off.
    pub(crate) fn split_first(&mut self, metrics: usize) -> Self {
        let middle = self.range.end.min(self.range.start + metrics);
        let first = Self {
            shared: self.shared.clone(),
            part: self.part,
            range: self.range.start..middle,
            merged: false,
            doubtful: self.doubtful,
        };
        self.range.start = middle;
        first
    }

    /// Its metrics are merged.
    pub(crate) fn merged(mut self) {
        self.merged = true;
    }

    /// Whether its metrics may be merged without a word, from now on.
    pub(crate) fn set_doubtful(&mut self, doubtful: bool) {
        self.doubtful = doubtful;
    }

    /// Whether the sender has not been answered yet, nor will be right now.
    pub(crate) fn is_waited_for(&self) -> bool {
        Instant::now() < self.shared.deadline && !self.shared.state.lock().answered
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if self.range.is_empty() {
            return;
        }
        let mut state = self.shared.state.lock();
        state.open -= self.range.len();
        if self.merged {
            state.merged.push((self.part, self.range.clone()));
        } else {
            state.doubtful |= self.doubtful;
        }
        let last = state.open == 0;
        drop(state);
        if last {
            self.shared.settled.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn receipt(within: Duration) -> Receipt {
        Receipt::new(Instant::now() + within)
    }

    fn ranges(left: &Unacknowledged) -> Vec<(u32, u32)> {
        left.ranges()
            .map(|range| (range.start, range.end))
            .collect()
    }

    #[tokio::test]
    async fn everything_merged_leaves_nothing() {
        let mut receipt = receipt(Duration::from_secs(60));
        let mut odd = receipt.claim(vec![1, 3, 5]);
        let even = receipt.claim(vec![0, 2, 4]);
        let first = odd.split_first(1);
        assert_eq!((first.metrics(), odd.metrics()), (1, 2));
        odd.merged();
        even.merged();
        first.merged();
        assert!(receipt.wait().await.left.is_empty());
    }

    #[tokio::test]
    async fn what_was_dropped_is_left_and_nobody_waits_for_it() {
        let mut receipt = receipt(Duration::from_secs(60));
        let mut odd = receipt.claim(vec![1, 3, 5, 7]);
        let even = receipt.claim(vec![0, 2, 4, 6]);
        let first = odd.split_first(1);
        let middle = odd.split_first(2);
        middle.merged();
        drop(even);
        odd.merged();
        drop(first);
        let settled = receipt.wait().await;
        assert!(settled.turned_away);
        assert_eq!(ranges(&settled.left), [(0, 3), (4, 5), (6, 7)]);
    }

    #[tokio::test]
    async fn one_claim_in_doubt_leaves_the_whole_receipt_in_doubt() {
        for doubtful in [true, false] {
            let mut receipt = receipt(Duration::from_secs(60));
            let mut sent = receipt.claim(vec![0, 1]);
            drop(receipt.claim(vec![2]));
            sent.set_doubtful(true);
            let first = sent.split_first(1);
            sent.set_doubtful(doubtful);
            first.merged();
            drop(sent);
            let settled = receipt.wait().await;
            assert_eq!(ranges(&settled.left), [(1, 3)]);
            assert_eq!(settled.turned_away, !doubtful);
        }
    }

    #[tokio::test]
    async fn at_the_deadline_it_is_answered_with_what_is_known() {
        let mut receipt = receipt(Duration::from_millis(20));
        let slow = receipt.claim(vec![0, 1]);
        receipt.claim(vec![2]).merged();
        assert!(slow.is_waited_for());
        let settled = receipt.wait().await;
        assert_eq!(ranges(&settled.left), [(0, 2)]);
        // It may be merged yet.
        assert!(!settled.turned_away);
        assert!(!slow.is_waited_for());
        // Too late to tell anybody, and no harm.
        slow.merged();
    }

    #[tokio::test]
    async fn a_claim_that_is_settled_while_it_is_waited_for_wakes_the_sender() {
        let mut receipt = receipt(Duration::from_secs(60));
        let claim = receipt.claim(vec![0]);
        let waiting = tokio::spawn(receipt.wait());
        tokio::task::yield_now().await;
        claim.merged();
        assert!(waiting.await.unwrap().left.is_empty());
    }

    #[tokio::test]
    async fn a_request_without_parts_waits_for_nothing() {
        assert!(
            receipt(Duration::from_secs(60))
                .wait()
                .await
                .left
                .is_empty()
        );
    }
}
