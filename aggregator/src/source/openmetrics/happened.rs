//! What can happen with targets: counters and log lines, written together.

use std::fmt::Display;
use std::sync::Arc;

use parking_lot::Mutex;
use tributary_node::repeats::Repeats;

use super::page::Yield;
use crate::metrics;

/// Tells what happens to one source.
#[derive(Debug)]
pub(super) struct Events {
    source: Arc<str>,
    /// How many targets are.
    up: Mutex<usize>,
    /// By target and outcome.
    told: Repeats<(String, &'static str)>,
}

impl Events {
    /// For the source of that name.
    pub(super) fn new(source: &str) -> Self {
        metrics::OPENMETRICS_UP
            .with([source.to_owned().into()])
            .set(0.0);
        Self {
            source: source.into(),
            up: Mutex::new(0),
            told: Repeats::default(),
        }
    }

    /// A page was taken.
    pub(super) fn taken(&self, target: &str, page: &Yield) {
        self.scraped("taken");
        let source = || self.source.clone().into();
        metrics::OPENMETRICS_SAMPLES
            .with([source()])
            .increment(page.taken);
        if page.resets > 0 {
            metrics::OPENMETRICS_RESETS
                .with([source()])
                .increment(page.resets);
        }
        for (cause, samples) in &page.dropped {
            metrics::OPENMETRICS_DROPPED
                .with([source(), (*cause).into()])
                .increment(*samples);
            // NaN is a usual word for "nothing as yet".
            let usual = *cause == "not_finite";
            if !usual && let Some(more) = self.told.tell(&(target.to_owned(), cause)) {
                let example = page.example.as_ref().filter(|_| *cause == "malformed");
                let (line, why) =
                    example.map_or((None, None), |(line, why)| (Some(line), Some(why)));
                tracing::warn!(
                    source = &*self.source,
                    target_url = target,
                    samples,
                    cause,
                    line,
                    why = why.map(tracing::field::display),
                    "samples of a page not taken{more}"
                );
            }
        }
    }

    /// A scrape failed.
    pub(super) fn failed(&self, target: &str, outcome: &'static str, error: &dyn Display) {
        self.scraped(outcome);
        if let Some(more) = self.told.tell(&(target.to_owned(), outcome)) {
            tracing::warn!(
                source = &*self.source,
                target_url = target,
                "scrape failed: {error}{more}"
            );
        }
    }

    /// A target that was up is down, or the other way round.
    pub(super) fn changed(&self, up: bool) {
        // Held until the gauge is set, so that no two targets set it the wrong way round.
        let mut now = self.up.lock();
        *now = match up {
            true => now.saturating_add(1),
            false => now.saturating_sub(1),
        };
        metrics::OPENMETRICS_UP
            .with([self.source.clone().into()])
            .set(*now as f64);
    }

    fn scraped(&self, outcome: &'static str) {
        metrics::OPENMETRICS_SCRAPES
            .with([self.source.clone().into(), outcome.into()])
            .increment(1);
    }
}
