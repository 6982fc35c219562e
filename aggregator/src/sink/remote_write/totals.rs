//! Totals that only grow, of what came interval by interval.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::point::Point;

/// The totals of one sink, by series.
#[derive(Debug)]
pub(super) struct Totals {
    most: usize,
    /// `None`: for ever.
    expire_after: Option<Duration>,
    known: HashMap<u128, Total>,
}

/// One total.
#[derive(Debug, Clone)]
pub(super) struct Total {
    pub(super) value: f64,
    /// In milliseconds.
    pub(super) created: i64,
    /// The time of the last sample, in milliseconds.
    pub(super) at: i64,
    added: Instant,
    /// What it is named by.
    pub(super) point: Point,
    pub(super) hostname: Arc<str>,
    /// The last point was of a flush.
    pub(super) aggregated: bool,
}

impl Totals {
    pub(super) fn new(most: usize, expire_after: Duration) -> Self {
        Self {
            most,
            expire_after: (!expire_after.is_zero()).then_some(expire_after),
            known: HashMap::new(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.known.len()
    }

    pub(super) fn get(&self, series: u128) -> Option<&Total> {
        self.known.get(&series)
    }

    /// Adds a point of `series` that was emitted by `hostname`; `None` if there are too many. The sample's time is after that of the one before: a
    /// server refuses others.
    pub(super) fn add(
        &mut self,
        series: u128,
        point: &Point,
        hostname: &Arc<str>,
        aggregated: bool,
        now: Instant,
    ) -> Option<&Total> {
        let at = point.timestamp.millis();
        if self.known.len() >= self.most && !self.known.contains_key(&series) {
            return None;
        }
        let total = self.known.entry(series).or_insert_with(|| Total {
            value: 0.0,
            // Before the first sample, so that what that has counts as an increase.
            created: at.saturating_sub(1),
            at: at.saturating_sub(1),
            added: now,
            point: point.clone(),
            hostname: Arc::clone(hostname),
            aggregated,
        });
        total.value += point.value;
        total.at = at.max(total.at.saturating_add(1));
        total.added = now;
        Some(total)
    }

    /// Adds to a total whose sample of this batch is there already.
    pub(super) fn add_more(&mut self, series: u128, value: f64) -> Option<f64> {
        let total = self.known.get_mut(&series)?;
        total.value += value;
        Some(total.value)
    }

    /// The totals that were not added to since `since` go on as they are: they are sent with the time `at`. Those that have been still for too long are
    /// forgotten.
    pub(super) fn still(&mut self, since: Instant, at: i64) -> Vec<(u128, f64, i64)> {
        if let Some(after) = self.expire_after {
            let fresh = |total: &Total| since.saturating_duration_since(total.added) <= after;
            self.known.retain(|_, total| fresh(total));
        }
        let mut still = Vec::new();
        for (series, total) in &mut self.known {
            if total.added < since && at > total.at {
                total.at = at;
                still.push((*series, total.value, total.created));
            }
        }
        still
    }
}
