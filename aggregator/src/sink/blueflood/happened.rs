//! What can happen between this sink, Blueflood and Keystone: counters and log lines, written together.

use std::sync::Arc;

use tributary_node::repeats::Repeats;

use super::answer::{Cause, Refusal};
use super::keystone::LoginError;
use crate::metrics;

/// Tells what happens to one sink.
#[derive(Debug)]
pub(super) struct Events {
    sink: Arc<str>,
    /// By cause: one line each in a while, however many points there are.
    told: Repeats<&'static str>,
}

impl Events {
    /// For the sink of that name.
    pub(super) fn new(sink: &str) -> Self {
        Self {
            sink: sink.into(),
            told: Repeats::default(),
        }
    }

    /// A request to Blueflood has ended so.
    pub(super) fn request(&self, outcome: &'static str) {
        metrics::BLUEFLOOD_REQUESTS
            .with([self.sink.clone().into(), outcome.into()])
            .increment(1);
    }

    /// Points are lost; one of them is the `example`.
    pub(super) fn refused(&self, points: usize, cause: Cause, example: &str, said: &str) {
        let cause = cause.as_str();
        metrics::BLUEFLOOD_REFUSED
            .with([self.sink.clone().into(), cause.into()])
            .increment(points as u64);
        if let Some(more) = self.told.tell(&cause) {
            tracing::warn!(
                sink = &*self.sink,
                points,
                cause,
                example = ?shortened(example),
                said = ?shortened(said),
                "points refused by Blueflood for good{more}"
            );
        }
    }

    /// Points that Blueflood could not store are sent again.
    pub(super) fn again(&self, points: usize, example: &str, refusal: &Refusal) {
        metrics::BLUEFLOOD_REPEATED
            .with([self.sink.clone().into()])
            .increment(points as u64);
        if let Some(more) = self.told.tell(&"again") {
            tracing::warn!(
                sink = &*self.sink,
                points,
                example = ?shortened(example),
                said = ?shortened(&refusal.message),
                "points refused by Blueflood are sent again{more}"
            );
        }
    }

    /// A login has ended so.
    pub(super) fn login(&self, error: Option<&LoginError>) {
        let outcome = error.map_or("ok", LoginError::outcome);
        metrics::BLUEFLOOD_LOGINS
            .with([self.sink.clone().into(), outcome.into()])
            .increment(1);
        if error.is_none() {
            tracing::debug!(sink = &*self.sink, "logged in at Keystone");
        }
    }

    /// A token could not be renewed, and the old one is still good.
    pub(super) fn login_failed(&self, error: &LoginError) {
        if let Some(more) = self.told.tell(&"login") {
            tracing::warn!(sink = &*self.sink, %error, "token not renewed{more}");
        }
    }
}

/// As much of a text as a log line takes.
fn shortened(text: &str) -> String {
    text.chars().take(200).collect()
}
