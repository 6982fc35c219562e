//! What happens between this source and Kafka: counters and log lines, written together.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use metrics::Counter;
use parking_lot::Mutex;
use tributary_node::repeats::Repeats;

use super::format::{Message, Poison};
use super::ledger::{Out, Place};
use super::topics::Topics;
use crate::kafka::Health;
use crate::metrics as ours;
use crate::source::listen::shown;

/// Tells what happens to one source.
pub(super) struct Events {
    pub(super) source: Arc<str>,
    topics: Arc<Topics>,
    /// Messages and bytes, by the key of `topics`.
    read: HashMap<Arc<str>, (Counter, Counter)>,
    /// By cause: the first is told at once, the others as a sum.
    told: Repeats<&'static str>,
    brokers: AtomicUsize,
    /// Topics of which the lag was told, so that it ends at 0.
    lags: Mutex<BTreeMap<Arc<str>, u64>>,
}

impl Events {
    pub(super) fn new(source: &str, topics: Arc<Topics>) -> Self {
        let source: Arc<str> = source.into();
        let counters = |key: Arc<str>| {
            let tags = || [source.clone().into(), key.clone().into()];
            let counters = (
                ours::KAFKA_MESSAGES.with(tags()),
                ours::KAFKA_BYTES.with(tags()),
            );
            (key, counters)
        };
        let read = topics.keys().into_iter().map(counters).collect();
        let events = Self {
            source,
            topics,
            read,
            told: Repeats::default(),
            brokers: AtomicUsize::new(0),
            lags: Mutex::default(),
        };
        // There from the start, for who waits for it to rise.
        events.brokers_up(0);
        events
    }

    /// A message was read.
    pub(super) fn message(&self, key: &Arc<str>, bytes: usize) {
        if let Some((messages, total)) = self.read.get(key) {
            messages.increment(1);
            total.increment(bytes as u64);
        }
    }

    /// A message, or a part of one, cannot be read.
    pub(super) fn poison(&self, key: &Arc<str>, message: &Message, poison: &Poison) {
        let Poison {
            cause,
            detail,
            part,
        } = poison;
        ours::KAFKA_POISON
            .with([
                self.source.clone().into(),
                key.clone().into(),
                (*cause).into(),
            ])
            .increment(1);
        if let Some(more) = self.told.tell(cause) {
            let Message {
                topic,
                partition,
                offset,
                payload,
                ..
            } = message;
            let bytes = match part {
                Some(part) => payload.get(part.clone()).unwrap_or_default(),
                None => payload,
            };
            tracing::warn!(
                source = &*self.source,
                topic = &**topic,
                partition,
                offset,
                cause,
                detail,
                payload = %shown(bytes),
                "a message of Kafka cannot be read{more}"
            );
        }
    }

    /// A sink refused so many points of messages for good.
    pub(super) fn refused(&self, points: u64) {
        ours::KAFKA_REFUSED
            .with([self.source.clone().into()])
            .increment(points);
        if let Some(more) = self.told.tell(&"refused") {
            tracing::warn!(
                source = &*self.source,
                points,
                "a sink refused points of Kafka's messages for good; they are passed over{more}"
            );
        }
    }

    /// A sink had no room for points: at least so many messages are read again.
    pub(super) fn lost(&self, messages: usize) {
        ours::KAFKA_READ_AGAIN
            .with([self.source.clone().into()])
            .increment(messages as u64);
        if let Some(more) = self.told.tell(&"lost") {
            tracing::warn!(
                source = &*self.source,
                messages,
                "a sink lost points of Kafka's messages, which are read again: its queue_points should be above max_in_flight{more}"
            );
        }
    }

    /// Dead letters are written, or could not be.
    pub(super) fn dead_letters(&self, count: usize, error: Option<&str>) {
        let outcome = if error.is_some() { "failed" } else { "written" };
        ours::KAFKA_DEAD_LETTERS
            .with([self.source.clone().into(), outcome.into()])
            .increment(count as u64);
        if let Some(error) = error
            && let Some(more) = self.told.tell(&"dead_letter")
        {
            tracing::error!(
                source = &*self.source,
                error,
                count,
                "dead letters cannot be written, and are tried again{more}"
            );
        }
    }

    /// A commit was asked for, and this became of it.
    pub(super) fn committed(&self, error: Option<&dyn std::fmt::Display>) {
        let outcome = if error.is_some() { "failed" } else { "ok" };
        ours::KAFKA_COMMITS
            .with([self.source.clone().into(), outcome.into()])
            .increment(1);
        if let Some(error) = error
            && let Some(more) = self.told.tell(&"commit")
        {
            tracing::warn!(source = &*self.source, %error, "offsets not committed, which is tried again{more}");
        }
    }

    /// Partitions came or went.
    pub(super) fn rebalanced(&self, event: &'static str, places: &[Place]) {
        ours::KAFKA_REBALANCES
            .with([self.source.clone().into(), event.into()])
            .increment(1);
        let mut by_topic: BTreeMap<&str, Vec<i32>> = BTreeMap::new();
        for (topic, partition) in places {
            by_topic.entry(topic).or_default().push(*partition);
        }
        tracing::info!(source = &*self.source, event, partitions = ?by_topic, "partitions of Kafka");
    }

    /// How things stand.
    pub(super) fn state(&self, out: Out, assigned: usize, paused: usize) {
        let source = || self.source.clone().into();
        ours::KAFKA_IN_FLIGHT
            .with([source(), "messages".into()])
            .set(out.messages as f64);
        ours::KAFKA_IN_FLIGHT
            .with([source(), "points".into()])
            .set(out.points as f64);
        ours::KAFKA_PARTITIONS
            .with([source(), "assigned".into()])
            .set(assigned as f64);
        ours::KAFKA_PARTITIONS
            .with([source(), "paused".into()])
            .set(paused as f64);
    }

    /// Something went wrong with a message that was to come, or with the consumer.
    pub(super) fn trouble(&self, what: &'static str, error: &dyn std::fmt::Display) {
        self.count(what);
        if let Some(more) = self.told.tell(&what) {
            tracing::warn!(source = &*self.source, %error, cause = what, "trouble with Kafka{more}");
        }
    }

    fn count(&self, cause: &'static str) {
        ours::KAFKA_ERRORS
            .with([self.source.clone().into(), cause.into()])
            .increment(1);
    }

    fn brokers_up(&self, up: usize) {
        let before = self.brokers.swap(up, Ordering::Relaxed);
        ours::KAFKA_BROKERS_UP
            .with([self.source.clone().into()])
            .set(up as f64);
        if before == 0 && up > 0 {
            tracing::info!(source = &*self.source, brokers = up, "connected to Kafka");
        } else if before > 0 && up == 0 {
            tracing::warn!(source = &*self.source, "no broker of Kafka answers");
        }
    }
}

impl Health for Arc<Events> {
    fn told(&self, brokers_up: usize, lags: &mut dyn Iterator<Item = (&str, u64)>) {
        self.brokers_up(brokers_up);
        let mut known = self.lags.lock();
        known.values_mut().for_each(|lag| *lag = 0);
        for (topic, lag) in lags {
            if let Some(found) = self.topics.find(topic) {
                *known.entry(Arc::clone(&found.key)).or_default() += lag;
            }
        }
        for (key, lag) in &*known {
            ours::KAFKA_LAG
                .with([self.source.clone().into(), key.clone().into()])
                .set(*lag as f64);
        }
    }

    fn failed(&self, cause: &'static str) {
        self.count(cause);
    }
}
