//! Recent history: the last hours of what this aggregator emitted, in memory, and Graphite's query API over it.
//!
//! [`History::take`] sees every batch that goes to the sinks, from a flush or from a source whose points only pass through. Each point gets a path and
//! goes to the ring of its series. [`History::router`] answers what Cubism and Grafana ask of a Graphite: `/metrics/find`, `/render` and what belongs to
//! them; `docs/history.md` is the manual. Where an answer's bytes are Graphite's, they were recorded from graphite-web 1.1.10.
//!
//! What always holds: memory stays within `max_bytes` and what a question may cost; a question holds a lock for one series at a time; each point that is
//! not kept is counted by cause.

mod config;
mod http;
mod pattern;
mod query;
mod ring;
mod series;
mod store;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use tokio::sync::Semaphore;

pub use config::HistoryConfig;

use crate::graphite::naming::Naming;
use crate::metrics;
use crate::point::{Batch, Timestamp};
use series::Layout;
use store::{Dropped, Store};

/// Questions that are worked on at once; others wait. What each may cost adds up to the memory that questions take.
const QUESTIONS: usize = 4;

/// What is kept of one aggregator's points. Clones share it.
#[derive(Clone)]
pub(crate) struct History(Arc<Shared>);

struct Shared {
    store: Store,
    naming: Naming,
    /// Seconds, of all series, where it is configured.
    step: Option<i64>,
    allow_origin: String,
    places: Arc<Semaphore>,
}

impl History {
    /// An empty history. `interval` is that of the flushes.
    ///
    /// # Errors
    /// When paths cannot be made as `config` says; the error starts with the key.
    pub(crate) fn new(config: &HistoryConfig, interval: Duration) -> Result<Self, String> {
        let step = Some(config.step.get())
            .filter(|step| !step.is_zero())
            .map(whole_seconds);
        let layout = Layout {
            retention: whole_seconds(config.retention.get()),
            usual_step: step.unwrap_or_else(|| whole_seconds(interval)),
        };
        Ok(Self(Arc::new(Shared {
            store: Store::new(layout, config.max_bytes.as_usize()),
            naming: config.naming()?,
            step,
            allow_origin: config.allow_origin.clone(),
            places: Arc::new(Semaphore::new(QUESTIONS)),
        })))
    }

    /// Keeps the points of a batch.
    pub(crate) fn take(&self, batch: &Batch) {
        self.take_at(batch, Timestamp::now().seconds());
    }

    fn take_at(&self, batch: &Batch, now: i64) {
        let shared = &*self.0;
        let interval = Some(batch.interval).filter(|interval| !interval.is_zero());
        let step = shared.step.or_else(|| interval.map(whole_seconds));
        let mut path = String::new();
        let (mut kept, mut dropped) = (0, [0; Dropped::ALL.len()]);
        for point in batch.points.iter().filter(|point| point.value.is_finite()) {
            path.clear();
            shared.naming.push_path(point, &mut path);
            let time = point.timestamp.seconds();
            match shared.store.put(&path, time, point.value, step, now) {
                Ok(()) => kept += 1,
                Err(cause) => {
                    let place = Dropped::ALL.iter().position(|known| *known == cause);
                    if let Some(count) = place.and_then(|place| dropped.get_mut(place)) {
                        *count += 1;
                    }
                }
            }
        }
        shared.store.sweep(now);
        metrics::HISTORY_POINTS.increment(kept);
        for (cause, count) in Dropped::ALL
            .iter()
            .zip(dropped)
            .filter(|(_, count)| *count > 0)
        {
            metrics::HISTORY_DROPPED
                .with([cause.as_str().into()])
                .increment(count);
        }
        metrics::HISTORY_SERIES.set(shared.store.series() as f64);
        metrics::HISTORY_BYTES.set(shared.store.bytes() as f64);
    }

    /// The routes, for the admin server.
    pub(crate) fn router(&self) -> Router {
        http::router(self.clone())
    }

    /// What the routes say while there is no history.
    pub(crate) fn off() -> Router {
        http::off()
    }
}

/// A grid has whole seconds; a part of one counts as one.
fn whole_seconds(span: Duration) -> i64 {
    let seconds = span.as_secs() + u64::from(span.subsec_nanos() > 0);
    i64::try_from(seconds).unwrap_or(i64::MAX).max(1)
}
