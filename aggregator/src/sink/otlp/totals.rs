//! What counters have come to, for receivers that want sums since a start.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::key::Tags;
use crate::point::Point;

/// A counter.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Series {
    base: Arc<str>,
    suffix: Option<Arc<str>>,
    tags: Tags,
}

impl Series {
    pub(super) fn of(point: &Point) -> Self {
        Self {
            base: Arc::clone(&point.base),
            suffix: point.suffix.clone(),
            tags: point.tags.clone(),
        }
    }
}

/// Of each counter that was sent: since when, and how much. Bounded, and forgotten after a time without a value.
#[derive(Debug)]
pub(super) struct Totals {
    series: HashMap<Series, Total>,
    pub(super) most: usize,
    expiry: Duration,
    looked: Instant,
}

#[derive(Debug)]
struct Total {
    /// In nanoseconds since 1970.
    start: u64,
    value: f64,
    seen: Instant,
}

impl Totals {
    pub(super) fn new(most: usize, expiry: Duration) -> Self {
        Self {
            series: HashMap::new(),
            most,
            expiry,
            looked: Instant::now(),
        }
    }

    /// Start and value.
    pub(super) fn get(&self, series: &Series) -> Option<(u64, f64)> {
        let total = self.series.get(series)?;
        Some((total.start, total.value))
    }

    pub(super) fn len(&self) -> usize {
        self.series.len()
    }

    /// Takes over starts and values of a request that has arrived.
    pub(super) fn commit(&mut self, totals: HashMap<Series, (u64, f64)>, now: Instant) {
        for (series, (start, value)) in totals {
            let total = self.series.entry(series).or_insert(Total {
                start,
                value,
                seen: now,
            });
            (total.value, total.seen) = (value, now);
        }
        // A look at all costs time: ten in the time that any may stay.
        if now.duration_since(self.looked) * 10 >= self.expiry {
            self.looked = now;
            let expiry = self.expiry;
            self.series
                .retain(|_, total| now.duration_since(total.seen) < expiry);
        }
    }
}
