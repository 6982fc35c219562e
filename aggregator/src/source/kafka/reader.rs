//! The thread that polls: everything that has to do with librdkafka happens here.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Message as _};
use rdkafka::topic_partition_list::Offset;
use tokio_util::sync::CancellationToken;

use super::event::Events;
use super::format::Message;
use super::ledger::Place;
use super::member::{Member, listed};
use super::topics::{Subscribed, Topics};
use super::{Read, Shared, Timing};

/// As many messages go on together at most.
const BATCH: usize = 1000;

/// While messages of a batch wait for more, and while partitions are paused.
const SHORT: Duration = Duration::from_millis(5);

/// While there is nothing to do.
const LONG: Duration = Duration::from_millis(100);

/// How long setting one partition back may take.
const SEEKING: Duration = Duration::from_secs(5);

/// As many topics are remembered at most.
const MOST_TOPICS: usize = 10_000;

pub(super) struct Reader {
    pub(super) config: ClientConfig,
    pub(super) topics: Arc<Topics>,
    pub(super) events: Arc<Events>,
    pub(super) shared: Arc<Shared>,
    pub(super) timing: Timing,
    pub(super) stop: CancellationToken,
}

/// At work.
struct Reading<'a> {
    reader: &'a Reader,
    consumer: &'a BaseConsumer<Member>,
    /// By name, so that each message does not bring its own.
    known: HashMap<String, (Arc<str>, Option<Arc<Subscribed>>)>,
    /// Whether the bound is reached.
    full: bool,
    /// What librdkafka was asked to pause.
    paused: HashSet<Place>,
}

impl Reader {
    /// Reads until the end.
    pub(super) fn run(self, member: Member) {
        let consumer: BaseConsumer<Member> = match self.config.create_with_context(member) {
            Ok(consumer) => consumer,
            Err(error) => {
                tracing::error!(source = &*self.events.source, %error, "no consumer of Kafka can be made");
                return;
            }
        };
        let topics = self.topics.keys();
        let topics: Vec<&str> = topics.iter().map(|topic| &**topic).collect();
        if let Err(error) = consumer.subscribe(&topics) {
            tracing::error!(source = &*self.events.source, %error, "the topics cannot be subscribed to");
            return;
        }
        let mut reading = Reading {
            reader: &self,
            consumer: &consumer,
            known: HashMap::new(),
            full: false,
            paused: HashSet::new(),
        };
        reading.run();
        let places = self.shared.state().ledger.places();
        let member = consumer.context();
        member.finish(&consumer, &places, self.timing.last);
        // From here on a fate changes nothing, and leaving the group waits for none.
        self.shared.state().ledger.revoke(&places);
    }

    fn is_over(&self) -> bool {
        self.stop.is_cancelled() || self.shared.abandoned.is_cancelled()
    }
}

impl Reading<'_> {
    fn run(&mut self) {
        let mut committed = Instant::now();
        while !self.reader.is_over() {
            let waits = self.steer();
            if committed.elapsed() >= self.reader.timing.commit {
                committed = Instant::now();
                self.consumer
                    .context()
                    .commit(self.consumer, CommitMode::Async);
                self.tell();
            }
            match self.consumer.poll(if waits { SHORT } else { LONG }) {
                None => self.reader.shared.state().close_batch(),
                Some(Ok(message)) => self.take(&message),
                Some(Err(error)) => self.trouble(&error),
            }
        }
    }

    /// Pauses, resumes and sets back partitions as the ledger wants it. Whether something waits that must not wait long.
    fn steer(&mut self) -> bool {
        let now = Instant::now();
        let (wanted, due, waits) = {
            let mut state = self.reader.shared.state();
            if state.open.len() >= BATCH.min(state.ledger.window()) {
                state.close_batch();
            }
            let ledger = &state.ledger;
            self.full = match self.full {
                true => !ledger.has_room(),
                false => ledger.is_full(),
            };
            let wanted: HashSet<Place> = match self.full {
                true => ledger.places().into_iter().collect(),
                false => ledger.set_back().collect(),
            };
            let waits = !state.open.is_empty() || self.full;
            (wanted, ledger.due(now), waits)
        };
        self.pause(wanted);
        for (place, offset) in due {
            self.set_back(&place, offset);
        }
        waits
    }

    fn pause(&mut self, wanted: HashSet<Place>) {
        if wanted == self.paused {
            return;
        }
        let list = |places: &mut dyn Iterator<Item = &Place>| {
            listed(places.map(|(topic, partition)| (&**topic, *partition, Offset::Invalid)))
        };
        // Those that are ours no longer are not known there, which is no harm.
        let resume = list(&mut self.paused.difference(&wanted));
        let pause = list(&mut wanted.difference(&self.paused));
        let mut done = Ok(());
        if resume.count() > 0 {
            done = done.and(self.consumer.resume(&resume));
        }
        if pause.count() > 0 {
            done = done.and(self.consumer.pause(&pause));
        }
        match done {
            Ok(()) => self.paused = wanted,
            Err(error) => self.reader.events.trouble("pause", &error),
        }
    }

    fn set_back(&mut self, place: &Place, offset: i64) {
        let (topic, partition) = place;
        let sought = self
            .consumer
            .seek(topic, *partition, Offset::Offset(offset), SEEKING);
        let mut state = self.reader.shared.state();
        match sought {
            Ok(()) => state.ledger.resumed(place),
            Err(error) => {
                state.ledger.postpone(place, Instant::now());
                drop(state);
                self.reader.events.trouble("seek", &error);
            }
        }
    }

    fn take(&mut self, message: &BorrowedMessage<'_>) {
        if self.known.len() >= MOST_TOPICS {
            self.known.clear();
        }
        if !self.known.contains_key(message.topic()) {
            let topic: Arc<str> = message.topic().into();
            let by = self.reader.topics.find(&topic).cloned();
            self.known.insert(topic.to_string(), (topic, by));
        }
        let Some((topic, by)) = self.known.get(message.topic()) else {
            return;
        };
        let Some(by) = by else {
            let error = format!("topic {topic} is none of the configured ones");
            self.reader.events.trouble("unexpected_topic", &error);
            return;
        };
        let payload = message.payload().unwrap_or_default();
        let place = (Arc::clone(topic), message.partition());
        let mut state = self.reader.shared.state();
        if !state.ledger.take(&place, message.offset(), payload.len()) {
            return;
        }
        state.open.push(Read {
            message: Message {
                topic: place.0,
                partition: place.1,
                offset: message.offset(),
                timestamp: message.timestamp().to_millis(),
                key: message.key().map(<[u8]>::to_vec),
                payload: payload.to_vec(),
            },
            by: Arc::clone(by),
        });
        drop(state);
        self.reader.events.message(&by.key, payload.len());
    }

    fn trouble(&self, error: &KafkaError) {
        let cause = match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic) => {
                "unknown_topic"
            }
            // They come a second time this way; the monitor has told them.
            Some(
                RDKafkaErrorCode::AllBrokersDown
                | RDKafkaErrorCode::BrokerTransportFailure
                | RDKafkaErrorCode::Resolve
                | RDKafkaErrorCode::OperationTimedOut
                | RDKafkaErrorCode::SSL
                | RDKafkaErrorCode::Authentication,
            ) => return,
            _ => "fetch",
        };
        self.reader.events.trouble(cause, error);
    }

    fn tell(&self) {
        let (out, assigned) = {
            let state = self.reader.shared.state();
            (state.ledger.out(), state.ledger.assigned())
        };
        self.reader.events.state(out, assigned, self.paused.len());
    }
}
