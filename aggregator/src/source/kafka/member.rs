//! What the consumer group tells us, and asks of us.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::client::{ClientContext, OAuthToken};
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext, Rebalance};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::Shared;
use super::event::Events;
use super::ledger::Place;
use crate::kafka::Monitor;

/// How often the end is looked for while fates are waited for.
const LOOK: Duration = Duration::from_millis(50);

/// Our end of the group. All of it runs in the thread that polls.
pub(super) struct Member {
    pub(super) monitor: Monitor<Arc<Events>>,
    pub(super) events: Arc<Events>,
    pub(super) shared: Arc<Shared>,
    /// How long partitions that are taken away may wait for fates.
    pub(super) processing: Duration,
}

impl Member {
    /// Waits for the fates of what was read of partitions, for a time, and commits what is done of them.
    pub(super) fn finish(&self, consumer: &BaseConsumer<Self>, places: &[Place], time: Duration) {
        let until = Instant::now() + time;
        let mut state = self.shared.state();
        state.close_batch();
        while state.ledger.waits_for(places)
            && Instant::now() < until
            && !self.shared.abandoned.is_cancelled()
        {
            let look = until.min(Instant::now() + LOOK);
            self.shared.settled.wait_until(&mut state, look);
        }
        let done = state.ledger.done(places);
        drop(state);
        self.commit_offsets(consumer, &done, CommitMode::Sync);
    }

    /// Asks for the commit of what is done and was not asked for.
    pub(super) fn commit(&self, consumer: &BaseConsumer<Self>) {
        let done = self.shared.state().ledger.committable();
        self.commit_offsets(consumer, &done, CommitMode::Async);
    }

    fn commit_offsets(
        &self,
        consumer: &BaseConsumer<Self>,
        done: &[(Place, i64)],
        mode: CommitMode,
    ) {
        if done.is_empty() || self.shared.abandoned.is_cancelled() {
            return;
        }
        let list =
            listed(done.iter().map(|((topic, partition), offset)| {
                (&**topic, *partition, Offset::Offset(*offset))
            }));
        // Of one that is asked for and not waited for the callback tells.
        match (consumer.commit(&list, mode), mode) {
            (Ok(()), CommitMode::Async) => {}
            (result, _) => self.committed(result, &list),
        }
    }

    fn committed(&self, result: KafkaResult<()>, offsets: &TopicPartitionList) {
        let each = offsets.elements();
        let mut errors = each.iter().filter_map(|each| each.error().err());
        let error = result.err().or_else(|| errors.next());
        if error.is_some() {
            let mut state = self.shared.state();
            for each in &each {
                state.ledger.not_committed(each.topic(), each.partition());
            }
        }
        let error = error.as_ref().map(|error| error as &dyn std::fmt::Display);
        self.events.committed(error);
    }
}

impl ConsumerContext for Member {
    fn pre_rebalance(&self, consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        match rebalance {
            Rebalance::Assign(list) => {
                let places = places(list);
                self.events.rebalanced("assigned", &places);
                self.shared.state().ledger.assign(places);
            }
            Rebalance::Revoke(list) => {
                let places = places(list);
                if consumer.assignment_lost() {
                    // Somebody else has them already: what we would commit could be behind it.
                    self.events.rebalanced("lost", &places);
                } else {
                    self.events.rebalanced("revoked", &places);
                    self.finish(consumer, &places, self.processing);
                }
                self.shared.state().ledger.revoke(&places);
            }
            Rebalance::Error(error) => self.events.trouble("rebalance", error),
        }
    }

    fn commit_callback(&self, result: KafkaResult<()>, offsets: &TopicPartitionList) {
        if matches!(result, Err(KafkaError::ConsumerCommit(code)) if code == rdkafka::types::RDKafkaErrorCode::NoOffset)
        {
            // There was nothing to commit.
            return;
        }
        self.committed(result, offsets);
    }
}

impl ClientContext for Member {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.monitor.log(level, facility, message);
    }

    fn stats_raw(&self, statistics: &[u8]) {
        self.monitor.stats_raw(statistics);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.monitor.error(error, reason);
    }

    fn generate_oauth_token(
        &self,
        config: Option<&str>,
    ) -> Result<OAuthToken, Box<dyn std::error::Error>> {
        self.monitor.generate_oauth_token(config)
    }
}

fn places(list: &TopicPartitionList) -> Vec<Place> {
    let each = list.elements();
    let place = |each: &rdkafka::topic_partition_list::TopicPartitionListElem<'_>| {
        (Arc::from(each.topic()), each.partition())
    };
    each.iter().map(place).collect()
}

/// Partitions as librdkafka has them.
pub(super) fn listed<'a>(
    places: impl Iterator<Item = (&'a str, i32, Offset)>,
) -> TopicPartitionList {
    let mut list = TopicPartitionList::new();
    for (topic, partition, offset) in places {
        // It fails for offsets that cannot be, and then the partition is left out.
        let _ = list.add_partition_offset(topic, partition, offset);
    }
    list
}
