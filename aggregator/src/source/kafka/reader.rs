//! The thread that polls: everything that has to do with librdkafka happens here.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
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
use crate::kafka::{Monitor, SaslConfig};

/// As many messages go on together at most.
const BATCH: usize = 1000;

/// While messages of a batch wait for more, and while partitions are paused.
const SHORT: Duration = Duration::from_millis(5);

/// While there is nothing to do.
const LONG: Duration = Duration::from_millis(100);

/// How long setting one partition back may take.
const SEEKING: Duration = Duration::from_secs(5);

/// The pause before a consumer that failed for good is made anew.
const RESTART: Duration = Duration::from_secs(5);

/// As many topics are remembered at most.
const MOST_TOPICS: usize = 10_000;

pub(super) struct Reader {
    pub(super) config: ClientConfig,
    pub(super) sasl: Option<SaslConfig>,
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
    /// Partitions were set back, and are to be resumed.
    sought: bool,
}

impl Reader {
    /// Reads until the end. A consumer that fails for good, as one does that another has taken the place of, is made anew.
    pub(super) fn run(self) {
        loop {
            if let Err(error) = self.read() {
                self.events.trouble("consumer", &error);
            }
            let until = Instant::now() + RESTART;
            while !self.is_over() && Instant::now() < until {
                std::thread::sleep(LONG);
            }
            if self.is_over() {
                return;
            }
        }
    }

    /// The life of one consumer.
    fn read(&self) -> Result<(), KafkaError> {
        let member = Member {
            monitor: Monitor::new(
                Arc::clone(&self.events.source),
                self.sasl.as_ref(),
                Arc::clone(&self.events),
            ),
            events: Arc::clone(&self.events),
            shared: Arc::clone(&self.shared),
            processing: self.timing.processing,
        };
        let consumer: BaseConsumer<Member> = self.config.create_with_context(member)?;
        let topics = self.topics.keys();
        let topics: Vec<&str> = topics.iter().map(|topic| &**topic).collect();
        consumer.subscribe(&topics)?;
        let mut reading = Reading {
            reader: self,
            consumer: &consumer,
            known: HashMap::new(),
            full: false,
            paused: HashSet::new(),
            sought: false,
        };
        let ended = reading.run();
        let places = self.shared.state().ledger.places();
        consumer
            .context()
            .finish(&consumer, &places, self.timing.last);
        // From here on a fate changes nothing, and leaving the group waits for none.
        self.shared.state().ledger.revoke(&places);
        ended
    }

    fn is_over(&self) -> bool {
        self.stop.is_cancelled() || self.shared.abandoned.is_cancelled()
    }
}

impl Reading<'_> {
    /// Until the end, or until nothing more can come.
    fn run(&mut self) -> Result<(), KafkaError> {
        let mut committed = Instant::now();
        while !self.reader.is_over() {
            let waits = self.steer();
            if committed.elapsed() >= self.reader.timing.commit {
                committed = Instant::now();
                self.consumer.context().commit(self.consumer);
                self.tell();
            }
            match self.consumer.poll(if waits { SHORT } else { LONG }) {
                None => self.reader.shared.state().close_batch(),
                Some(Ok(message)) => self.take(&message),
                Some(Err(error @ KafkaError::MessageConsumptionFatal(_))) => return Err(error),
                Some(Err(error)) => self.trouble(&error),
            }
        }
        Ok(())
    }

    /// Pauses, resumes and sets back partitions as the ledger wants it. Whether something waits that must not wait long.
    fn steer(&mut self) -> bool {
        let mut state = self.reader.shared.state();
        if state.open.len() >= BATCH.min(state.ledger.window()) {
            state.close_batch();
        }
        let waits = !state.open.is_empty();
        let full = match self.full {
            true => !state.ledger.has_room(),
            false => state.ledger.is_full(),
        };
        // This is done for each message, so it ends here mostly.
        if full == self.full && !self.sought && !state.ledger.has_news() {
            return waits || full;
        }
        self.full = full;
        let ledger = &mut state.ledger;
        let fresh = ledger.fresh();
        let due = ledger.due(Instant::now());
        let ours: HashSet<Place> = ledger.places().into_iter().collect();
        let wanted: HashSet<Place> = match full {
            true => ours.clone(),
            false => ledger.set_back().collect(),
        };
        drop(state);
        // What was paused in an earlier assignment may be so still, or not.
        self.paused.retain(|place| ours.contains(place));
        self.paused.extend(fresh.iter().cloned());
        self.pause(wanted, &fresh);
        self.sought = !due.is_empty();
        for (place, offset) in due {
            self.set_back(&place, offset);
        }
        waits || full
    }

    fn pause(&mut self, wanted: HashSet<Place>, fresh: &[Place]) {
        let list = |places: &mut dyn Iterator<Item = &Place>| {
            listed(places.map(|(topic, partition)| (&**topic, *partition, Offset::Invalid)))
        };
        let resume = list(&mut self.paused.difference(&wanted));
        let known = |place: &&Place| self.paused.contains(*place) && !fresh.contains(place);
        let pause = list(&mut wanted.iter().filter(|place| !known(place)));
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
                payload: Bytes::copy_from_slice(payload),
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
