//! The accounts of a forwarder: what was handed over, and what became of each metric.
//!
//! Every change of a metric's state is one call here, under one lock, so that a [`Ledger`] read at any moment adds up.

use std::collections::BTreeMap;

use serde::Serialize;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use super::batch::Batch;
use super::event::MetricsLost;

/// Why metrics are lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Loss {
    /// Nobody acknowledged them in the time that they may be kept.
    RetentionTime,
    /// More waited than may be kept, and they were the oldest.
    RetentionBytes,
    /// No receiver takes a message that long.
    TooLarge,
    /// Flushes came faster than they can be encoded.
    Busy,
    /// The program ended.
    Shutdown,
    /// They may have been taken, by a receiver that would count them twice.
    UnknownOutcome,
    /// The receiver will not have them.
    Refused,
}

impl Loss {
    /// Whether the metrics can be handed over once more: nobody has taken them for good, or refused them.
    pub(super) const fn is_of_now(self) -> bool {
        match self {
            Self::RetentionTime | Self::RetentionBytes | Self::Busy | Self::Shutdown => true,
            Self::TooLarge | Self::UnknownOutcome | Self::Refused => false,
        }
    }

    /// For counters.
    pub(super) const fn cause(self) -> &'static str {
        match self {
            Self::RetentionTime => "retention_time",
            Self::RetentionBytes => "retention_bytes",
            Self::TooLarge => "too_large",
            Self::Busy => "busy",
            Self::Shutdown => "shutdown",
            Self::UnknownOutcome => "unknown_outcome",
            Self::Refused => "refused",
        }
    }
}

/// What is handed over and has not met its fate.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Backlog {
    /// Flushes that are handed over and not wholly encoded yet.
    pub flushes: usize,
    /// Batches that wait or are under way.
    pub batches: usize,
    /// The metrics in those flushes and batches.
    pub metrics: u64,
    /// Encoded bytes of those batches.
    pub bytes: usize,
}

impl Backlog {
    /// Whether everything handed over has met its fate.
    pub fn is_empty(&self) -> bool {
        self.flushes == 0 && self.batches == 0
    }

    fn enter(&mut self, batch: &Batch) {
        self.batches += 1;
        self.bytes += batch.body.len();
    }

    fn leave(&mut self, batch: &Batch) {
        self.batches = self.batches.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(batch.body.len());
    }
}

/// Metrics since the start, all of them by what became of them: `handed` is the sum of `acknowledged`, `lost` and `waiting`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Ledger {
    /// Handed over by flushes.
    pub handed: u64,
    /// Merged, as the receiver said, or taken by one that says no more than that.
    pub acknowledged: u64,
    /// Given up, by cause. Some of them may have been merged all the same.
    pub lost: BTreeMap<&'static str, u64>,
    /// Neither of these yet.
    pub waiting: u64,
    /// Sent once more although a receiver may have taken them before: as many as that may be recognised as repeats upstream. Not part of the sum.
    pub repeated: u64,
}

impl Ledger {
    /// Metrics that are unaccounted for, or accounted for twice when negative: 0.
    pub fn residue(&self) -> i128 {
        let lost: u64 = self.lost.values().sum();
        i128::from(self.handed)
            - i128::from(self.acknowledged)
            - i128::from(lost)
            - i128::from(self.waiting)
    }
}

/// The accounts as they are kept.
#[derive(Debug, Default)]
pub(super) struct Books(watch::Sender<Account>);

#[derive(Debug, Default)]
struct Account {
    backlog: Backlog,
    handed: u64,
    acknowledged: u64,
    repeated: u64,
    lost: BTreeMap<&'static str, u64>,
}

impl Account {
    fn lose(&mut self, metrics: u64, loss: Loss) {
        self.backlog.metrics = self.backlog.metrics.saturating_sub(metrics);
        *self.lost.entry(loss.cause()).or_default() += metrics;
    }
}

impl Books {
    pub(super) fn backlog(&self) -> Backlog {
        self.0.borrow().backlog
    }

    pub(super) fn ledger(&self) -> Ledger {
        let account = self.0.borrow();
        Ledger {
            handed: account.handed,
            acknowledged: account.acknowledged,
            lost: account.lost.clone(),
            waiting: account.backlog.metrics,
            repeated: account.repeated,
        }
    }

    /// A flush is handed over.
    pub(super) fn hand_over(&self, metrics: u64) {
        self.0.send_modify(|account| {
            account.handed += metrics;
            account.backlog.flushes += 1;
            account.backlog.metrics += metrics;
        });
    }

    /// A flush that was handed over cannot be taken.
    pub(super) fn refuse(&self, metrics: u64, loss: Loss) {
        self.0.send_modify(|account| {
            account.lose(metrics, loss);
            account.backlog.flushes = account.backlog.flushes.saturating_sub(1);
        });
        MetricsLost {
            metrics,
            cause: loss.cause(),
            detail: "the flush could not be taken",
        }
        .emit();
    }

    /// All batches of a flush have entered.
    pub(super) fn encoded(&self) {
        self.0.send_modify(|account| {
            account.backlog.flushes = account.backlog.flushes.saturating_sub(1);
        });
    }

    /// A batch of a flush is there.
    pub(super) fn enter(&self, batch: &Batch) {
        self.0.send_modify(|account| account.backlog.enter(batch));
    }

    /// A batch was acknowledged but for `rest`.
    pub(super) fn acknowledge(&self, batch: &Batch, rest: Option<&Batch>) {
        let left = rest.map_or(0, |rest| rest.metrics);
        let taken = u64::from(batch.metrics.saturating_sub(left));
        self.0.send_modify(|account| {
            account.acknowledged += taken;
            account.backlog.metrics = account.backlog.metrics.saturating_sub(taken);
            account.backlog.leave(batch);
            if let Some(rest) = rest {
                account.backlog.enter(rest);
            }
        });
    }

    /// A batch was sent that may have been taken before.
    pub(super) fn repeat(&self, batch: &Batch) {
        self.0
            .send_modify(|account| account.repeated += u64::from(batch.metrics));
    }

    /// A batch is given up.
    pub(super) fn lose(&self, batch: &Batch, loss: Loss, detail: &str) {
        let metrics = u64::from(batch.metrics);
        self.0.send_modify(|account| {
            account.lose(metrics, loss);
            account.backlog.leave(batch);
        });
        let cause = loss.cause();
        MetricsLost {
            metrics,
            cause,
            detail,
        }
        .emit();
    }

    /// A batch goes back to whoever handed it over, as if it never had been.
    pub(super) fn withdraw(&self, batch: &Batch) {
        let metrics = u64::from(batch.metrics);
        self.0.send_modify(|account| {
            account.handed = account.handed.saturating_sub(metrics);
            account.backlog.metrics = account.backlog.metrics.saturating_sub(metrics);
            account.backlog.leave(batch);
        });
    }

    /// A metric is given up before it came into a batch.
    pub(super) fn lose_one(&self, loss: Loss, detail: &str) {
        self.0.send_modify(|account| account.lose(1, loss));
        let cause = loss.cause();
        MetricsLost {
            metrics: 1,
            cause,
            detail,
        }
        .emit();
    }

    /// Waits until nothing is left, or until the deadline; gives what is left then.
    pub(super) async fn settle(&self, deadline: Instant) -> Backlog {
        let mut account = self.0.subscribe();
        // Late is no error here: what is left says all.
        let nothing_left = account.wait_for(|account| account.backlog.is_empty());
        let _ = timeout_at(deadline, nothing_left).await;
        self.backlog()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn batch(metrics: u32) -> Batch {
        Batch::of(Bytes::from_static(b"body"), metrics, Instant::now())
    }

    #[test]
    fn every_metric_ends_in_one_account() {
        let books = Books::default();
        let adds_up = |waiting| {
            let ledger = books.ledger();
            assert_eq!((ledger.waiting, ledger.residue()), (waiting, 0));
        };
        books.hand_over(30);
        adds_up(30);
        let (first, second) = (batch(9), batch(20));
        books.enter(&first);
        books.enter(&second);
        books.lose_one(Loss::TooLarge, "");
        books.encoded();
        adds_up(29);
        let rest = batch(4);
        books.acknowledge(&first, Some(&rest));
        adds_up(24);
        books.repeat(&rest);
        books.acknowledge(&rest, None);
        books.lose(&second, Loss::Refused, "");
        books.hand_over(5);
        books.refuse(5, Loss::Busy);
        adds_up(0);
        assert_eq!(books.backlog(), Backlog::default());
        let ledger = books.ledger();
        assert_eq!(
            (ledger.handed, ledger.acknowledged, ledger.repeated),
            (35, 9, 4)
        );
        assert_eq!(
            ledger.lost,
            [("busy", 5), ("refused", 20), ("too_large", 1)].into()
        );
    }
}
