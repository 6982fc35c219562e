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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flush::{Aggregates, FlushSettings, Percentiles, Role, emit};
    use crate::key::Kind;
    use crate::sample::{Sample, Value};
    use crate::table::{Table, TableConfig};

    #[test]
    fn the_busiest_timers_have_a_bounded_history() {
        let table = Table::new(TableConfig::default());
        let timers = Timers::default();
        for timestamp in 1..=100 {
            // Forty timers, of which the last few are the busiest in turn.
            for number in 0..40_u32 {
                for _ in 0..=(number + timestamp) % 40 {
                    let name = format!("t{number}");
                    let sample = Sample {
                        name: name.as_bytes(),
                        kind: Kind::Timer,
                        tags: None,
                        value: Value::Number(f64::from(number)),
                        rate: 1.0,
                    };
                    table.writer().sample(&sample).unwrap();
                }
            }
            let settings = FlushSettings {
                role: Role::Global,
                percentiles: Percentiles::new(&[0.99]).unwrap(),
                aggregates: Aggregates::default(),
                distributions: false,
                timestamp: i64::from(timestamp),
            };
            let emission = emit(table.take(), &settings);
            timers.keep(&emission.points, &emission.busiest, settings.timestamp);
        }
        assert_eq!(timers.0.lock().len(), KEPT);
        let shown = timers.shown();
        assert_eq!(shown.len(), SHOWN);
        for timer in shown {
            assert!(timer.flushes.len() <= INTERVALS);
            let last = timer.flushes.last().unwrap();
            let number: f64 = timer.name[1..].parse().unwrap();
            assert!(last.values.contains(&(".99percentile".into(), number)));
        }
    }
}
