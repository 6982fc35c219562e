//! What can happen between us, the Cloud Controller and UAA: counters and log lines, written together.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use http::StatusCode;
use tributary_node::repeats::Repeats;

use super::client::NoReply;
use super::stats::Stats;
use crate::metrics;
use crate::point::Timestamp;
use crate::preset::stats;

/// Tells what happens to one enricher.
#[derive(Debug, Default)]
pub(super) struct Events {
    pub(super) stats: Stats,
    /// The last request had no answer.
    away: AtomicBool,
    /// That has been told, of a question in all its tries.
    told_away: AtomicBool,
    waiting: AtomicUsize,
    told: Repeats<&'static str>,
}

impl Events {
    /// A request has ended so.
    pub(super) fn request(&self, endpoint: &'static str, outcome: Result<StatusCode, &NoReply>) {
        let status = match outcome {
            Ok(status) => match status.as_u16() {
                401 => "401",
                404 => "404",
                429 => "429",
                200..=299 => "2xx",
                300..=399 => "3xx",
                400..=499 => "4xx",
                _ => "5xx",
            },
            Err(NoReply::Timeout(_)) => "timeout",
            Err(NoReply::Unreachable(_)) => "unreachable",
            Err(NoReply::TooLong) => "too_long",
            Err(NoReply::Request(_)) => "invalid",
        };
        metrics::CF_REQUESTS
            .with([endpoint.into(), status.into()])
            .increment(1);
    }

    /// Whether the last request to the Cloud Controller was left without an answer.
    pub(super) fn is_away(&self) -> bool {
        self.away.load(Ordering::Relaxed)
    }

    /// A try to ask the Cloud Controller had an answer, or not.
    pub(super) fn tried(&self, is_answered: bool) {
        self.away.store(!is_answered, Ordering::Relaxed);
    }

    /// A question was answered, whatever the answer is.
    pub(super) fn answered(&self) {
        if self.told_away.swap(false, Ordering::Relaxed) {
            tracing::info!("the Cloud Controller answers again");
        }
    }

    /// A question was not answered, in all its tries, or not so that it can be read.
    pub(super) fn failed(&self, question: &'static str, why: &str) {
        self.away.store(true, Ordering::Relaxed);
        self.told_away.store(true, Ordering::Relaxed);
        self.stats.cf_fail.add(1);
        stats::note_cf_failed(1);
        if let Some(more) = self.told.tell(&question) {
            tracing::warn!(question, why, "no answer from Cloud Foundry{more}");
        }
    }

    /// A token was got or refused.
    pub(super) fn token(&self, outcome: &'static str) {
        metrics::CF_TOKENS.with([outcome.into()]).increment(1);
    }

    /// A token could not be renewed, and the old one is still good.
    pub(super) fn token_kept(&self, why: &str) {
        if let Some(more) = self.told.tell(&"token_kept") {
            tracing::warn!(why, "token not renewed, the old one is used{more}");
        }
    }

    /// What the Cloud Controller said of applications that were asked for.
    pub(super) fn looked_up(&self, outcome: &'static str, count: usize) {
        if count > 0 {
            metrics::CF_LOOKUPS
                .with([outcome.into()])
                .increment(count as u64);
        }
    }

    /// An application is listed, and its space or organization is not.
    pub(super) fn incomplete(&self, app: &str) {
        if let Some(more) = self.told.tell(&"incomplete") {
            tracing::warn!(
                app,
                "an application has no space or organization that we may see, and is taken for unknown{more}"
            );
        }
    }

    /// So many applications were listed, or they could not be, which has been told.
    pub(super) fn refreshed(&self, apps: Option<usize>) {
        let outcome = if apps.is_some() { "ok" } else { "failed" };
        metrics::CF_REFRESHES.with([outcome.into()]).increment(1);
        if let Some(apps) = apps {
            metrics::CF_REFRESHED.set(Timestamp::now().nanos() as f64);
            self.stats.refresh.add(1);
            tracing::debug!(apps, "applications listed");
        }
    }

    /// There are more applications than are kept.
    pub(super) fn too_many(&self, most: usize) {
        if let Some(more) = self.told.tell(&"too_many") {
            tracing::warn!(
                max_apps = most,
                "there are more applications than max_apps{more}"
            );
        }
    }

    /// So many are known, and so many are known not to be there.
    pub(super) fn known(&self, apps: usize, unknown: usize) {
        metrics::CF_APPS.set(apps as f64);
        metrics::CF_UNKNOWN.set(unknown as f64);
    }

    /// Events became points.
    pub(super) fn enriched(&self, count: u64) {
        if count > 0 {
            metrics::CF_ENRICHED.increment(count);
            self.stats.enrich.add(count);
            stats::note_enriched(count);
        }
    }

    /// Events are left out.
    pub(super) fn passed(&self, cause: &'static str, count: u64) {
        if count > 0 {
            metrics::CF_PASSED.with([cause.into()]).increment(count);
            self.stats.enrich_fail.add(count);
            stats::note_enrich_failed(count);
        }
    }

    /// Events are given back, because the program ends.
    pub(super) fn stopping(&self, count: u64) {
        if count > 0 {
            tracing::info!(
                events = count,
                "events are given back without their application's names"
            );
        }
    }

    /// So many events wait for the Cloud Controller until the guard is dropped.
    pub(super) fn waiting(&self, events: usize) -> Waiting<'_> {
        if let Some(more) = self.told.tell(&"waiting") {
            tracing::warn!(
                events,
                "events wait for the Cloud Controller, and no offset behind them is committed{more}"
            );
        }
        let all = self.waiting.fetch_add(events, Ordering::Relaxed) + events;
        metrics::CF_WAITING.set(all as f64);
        Waiting {
            all: &self.waiting,
            events,
        }
    }
}

/// Events that wait.
pub(super) struct Waiting<'a> {
    all: &'a AtomicUsize,
    events: usize,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let all = self.all.fetch_sub(self.events, Ordering::Relaxed) - self.events;
        metrics::CF_WAITING.set(all as f64);
    }
}
