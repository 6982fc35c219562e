//! A topic of Kafka as a destination: what it has taken waits there for a source `kafka` that hands it on to proxies.
//!
//! A batch becomes one message, a `forwardrpc.MetricList` as gRPC would carry it, with the time of its flush as the message's. It counts as acknowledged
//! once all replicas in sync have it. What is sent again because nobody knows may be there twice: the stamps are the same, and whoever merges recognises
//! them. All messages of one process have one key, so that one partition has them in the order of its flushes: globals forget stamps in that order, too.

mod config;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{FutureProducer, FutureRecord, Producer as _};

pub use config::ForwardKafka;

use super::batch::Batch;
use super::outcome::{Failure, Fate, Repeats};
use crate::kafka::producer::{is_full, is_refusal};
use crate::kafka::{Health, Monitor};

/// As large as a batch may get, in bytes: brokers take messages of 1 MB with all that belongs to them, unless they are set otherwise.
pub(super) const MESSAGE_BYTES: usize = 900 << 10;

/// A producer for one topic.
pub(super) struct KafkaLink {
    topic: String,
    /// Of all messages.
    key: String,
    timeout: Duration,
    producer: FutureProducer<Monitor<Silent>>,
}

/// What there is to say of the brokers, failed attempts say.
struct Silent;

impl Health for Silent {
    fn told(&self, _: usize, _: &mut dyn Iterator<Item = (&str, u64)>) {}

    fn failed(&self, _: &'static str) {}
}

impl fmt::Debug for KafkaLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KafkaLink")
            .field("topic", &self.topic)
            .finish_non_exhaustive()
    }
}

impl KafkaLink {
    /// Connects in the background. The error starts with the key that is to blame.
    pub(super) fn new(config: &ForwardKafka, timeout: Duration) -> Result<Self, String> {
        let mut client = config.connection().producer(config.compression, timeout)?;
        // Repeats are recognised anyway, and an idempotent producer can end up unable to go on.
        client
            .set("enable.idempotence", "false")
            .set("statistics.interval.ms", "0");
        let name: Arc<str> = Self::name(config).into();
        let monitor = Monitor::new(name, config.sasl.as_ref(), Silent);
        let producer = client.create_with_context(monitor);
        Ok(Self {
            topic: config.topic.clone(),
            key: format!("{:016x}", fastrand::u64(..)),
            timeout,
            producer: producer.map_err(|error| error.to_string())?,
        })
    }

    /// What logs and counters call it.
    pub(super) fn name(config: &ForwardKafka) -> String {
        format!("kafka:{}", config.topic)
    }

    /// Writes a batch. librdkafka tries again by itself, until the timeout.
    pub(super) async fn deliver(&self, batch: &Batch) -> Result<(), Failure> {
        let body = batch.message();
        let mut record = FutureRecord::to(&self.topic).key(&self.key).payload(&*body);
        let moment = batch.aim.and_then(|aim| aim.moment);
        record.timestamp = moment.and_then(|moment| i64::try_from(moment).ok());
        let delivery = self
            .producer
            .send_result(record)
            .map_err(|(error, _)| self.failure(&error))?;
        batch.sent.store(true, Ordering::Relaxed);
        match delivery.await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err((error, _))) => Err(self.failure(&error)),
            Err(_) => Err(self.of(Fate::Unknown, "send", "the producer ended")),
        }
    }

    /// Asks whether the topic is there, without risking a metric.
    pub(super) async fn probe(&self) -> Result<(), Failure> {
        let (producer, topic) = (self.producer.clone(), self.topic.clone());
        let timeout = self.timeout;
        let asked = tokio::task::spawn_blocking(move || {
            let metadata = producer.client().fetch_metadata(Some(&topic), timeout)?;
            let known = metadata.topics().first();
            match known.and_then(rdkafka::metadata::MetadataTopic::error) {
                Some(error) => Err(KafkaError::MessageProduction(error.into())),
                None => Ok(()),
            }
        });
        match asked.await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(self.failure(&error)),
            Err(_) => Err(self.of(Fate::NotTaken, "send", "the program ends")),
        }
    }

    fn failure(&self, error: &KafkaError) -> Failure {
        use RDKafkaErrorCode as Code;
        let (fate, cause) = match error.rdkafka_error_code() {
            _ if is_full(error) => (Fate::NotTaken, "resource_exhausted"),
            Some(Code::MessageSizeTooLarge) => (Fate::Unfit, "too_large"),
            _ if is_refusal(error) => (Fate::Unfit, "send"),
            // A broker says so before it takes anything. Both can be set right while metrics wait.
            Some(
                Code::UnknownTopicOrPartition
                | Code::UnknownTopic
                | Code::UnknownPartition
                | Code::TopicAuthorizationFailed
                | Code::ClusterAuthorizationFailed
                | Code::NotEnoughReplicas,
            ) => (Fate::NotTaken, "transient_unavailable"),
            Some(Code::MessageTimedOut) => (Fate::Unknown, "deadline_exceeded"),
            _ => (Fate::Unknown, "send"),
        };
        self.of(fate, cause, error)
    }

    fn of(&self, fate: Fate, cause: &'static str, detail: impl fmt::Display) -> Failure {
        let detail = format!("topic {}: {detail}", self.topic);
        Failure::new(fate, cause, detail).with(Repeats::Recognised)
    }
}
