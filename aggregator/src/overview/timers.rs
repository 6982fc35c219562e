//! The points that the busiest histograms and timers made in the last intervals.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;
use serde::Serialize;

use super::{INTERVALS, short};
use crate::flush::Busiest;
use crate::key::Key;
use crate::point::Point;

/// Series of which a history is kept. Those that are not among the busiest for [`INTERVALS`] flushes make room.
const KEPT: usize = 16;

/// Series that are shown.
const SHOWN: usize = 6;

/// Points of one series and flush.
const POINTS: usize = 8;

/// The histories; see the module.
#[derive(Debug, Default)]
pub(super) struct Timers(Mutex<Vec<History>>);

#[derive(Debug)]
struct History {
    key: Arc<Key>,
    flushes: VecDeque<Flushed>,
}

#[derive(Debug, Clone, Serialize)]
struct Flushed {
    timestamp: i64,
    /// Samples and imports.
    merged: u32,
    /// Suffix, as `.99percentile`, and value.
    values: Vec<(Arc<str>, f64)>,
}

/// One series as it is told.
#[derive(Debug, Serialize)]
pub(super) struct Timer {
    name: String,
    #[serde(rename = "type")]
    kind: &'static str,
    /// Joined with commas.
    tags: String,
    /// The oldest first. Flushes in which others were busier are missing.
    flushes: Vec<Flushed>,
}

impl History {
    fn merged(&self) -> u64 {
        self.flushes.iter().map(|f| u64::from(f.merged)).sum()
    }
}

impl Timers {
    pub(super) fn keep(&self, points: &[Point], busiest: &Busiest, timestamp: i64) {
        let mut histories = self.0.lock();
        for busy in busiest.iter() {
            let points = points.get(busy.points.clone()).unwrap_or_default();
            let values: Vec<_> = points
                .iter()
                .filter_map(|point| Some((Arc::clone(point.suffix.as_ref()?), point.value)))
                .take(POINTS)
                .collect();
            if values.is_empty() {
                continue;
            }
            let known = histories.iter().position(|history| history.key == busy.key);
            let place = known.unwrap_or_else(|| {
                histories.push(History {
                    key: Arc::clone(&busy.key),
                    flushes: VecDeque::new(),
                });
                histories.len() - 1
            });
            if let Some(history) = histories.get_mut(place) {
                if history.flushes.len() == INTERVALS {
                    history.flushes.pop_front();
                }
                history.flushes.push_back(Flushed {
                    timestamp,
                    merged: busy.merged,
                    values,
                });
            }
        }
        let newest = |history: &History| history.flushes.back().map_or(0, |f| f.timestamp);
        // The least recent, and of those the least busy, make room.
        histories.sort_by_key(|history| std::cmp::Reverse((newest(history), history.merged())));
        histories.truncate(KEPT);
    }

    /// The busiest over all that is kept, the busiest first.
    pub(super) fn shown(&self) -> Vec<Timer> {
        let histories = self.0.lock();
        let mut busiest: Vec<_> = histories.iter().collect();
        busiest.sort_by_key(|history| std::cmp::Reverse(history.merged()));
        busiest
            .into_iter()
            .take(SHOWN)
            .map(|History { key, flushes }| Timer {
                name: short(key.name()),
                kind: key.kind().as_str(),
                tags: short(&key.tags().to_string()),
                flushes: flushes.iter().cloned().collect(),
            })
            .collect()
    }
}
