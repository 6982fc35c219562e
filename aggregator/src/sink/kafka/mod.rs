//! Sink `kafka`: points to topics of Kafka.
//!
//! Points that follow one another with the same name and tags become one message, whose key is that name and those tags: the messages of a series go to one
//! partition, in order. Messages are written with `acks=all` by an idempotent producer: what librdkafka repeats by itself is stored once.
//!
//! On failure:
//! - A message that did not arrive within `timeout`, whatever the reason, is retriable: the batch comes again a second later, and only the messages
//!   without an acknowledgement are written again. Of those some may have arrived, and are there twice then.
//! - A message that brokers refuse for what it is (too large, invalid) is lost; the rest of the batch is written.
//! - A topic that does not exist, and a missing permission, are retriable: both can be set right while points wait in the queue.
//!
//! One write takes twice `timeout` at most. Events are skipped.

mod config;
mod message;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use rdkafka::ClientConfig;
use rdkafka::error::KafkaError;
use rdkafka::producer::future_producer::OwnedDeliveryResult;
use rdkafka::producer::{DeliveryFuture, FutureProducer, FutureRecord, Producer as _};
use tokio::task::coop::consume_budget;

pub(super) use config::KafkaConfig;

use self::message::{Encoder, Message};
use super::unfinished::Unfinished;
use super::{Amount, Gather, Sink, SinkError};
use crate::kafka::producer::{is_full, is_refusal};
use crate::kafka::{Health, Monitor, SaslConfig};
use crate::metrics;
use crate::point::{Batch, Point};

/// As many points are put together for one write at most, if more than one batch waits.
const TOGETHER: usize = 50_000;

/// As many messages wait for their acknowledgement at most.
const UNDER_WAY: usize = 20_000;

/// The wait before a batch is tried again. librdkafka has tried for `timeout` before.
const PAUSE: Duration = Duration::from_secs(1);

/// The wait for room in librdkafka's queue while nothing of ours is under way.
const NO_ROOM: Duration = Duration::from_millis(10);

/// Writes to one cluster.
struct Kafka {
    template: String,
    encoder: Encoder,
    config: ClientConfig,
    sasl: Option<SaslConfig>,
    name: Arc<str>,
    timeout: Duration,
    producer: FutureProducer<Monitor<Brokers>>,
    /// A batch that is to come again.
    unfinished: Unfinished<Progress>,
}

/// What became of a batch's messages, by their place.
#[derive(Default)]
struct Progress {
    ended: Vec<bool>,
    /// Points that were refused for good.
    lost: usize,
    /// Why some are to be written again.
    failed: Option<String>,
    /// Why some were refused.
    refused: Option<String>,
}

/// A message that is under way.
struct Sent {
    place: usize,
    points: usize,
    delivery: DeliveryFuture,
}

/// What self-metrics say of the cluster.
struct Brokers(Arc<str>);

impl Health for Brokers {
    fn told(&self, brokers_up: usize, _: &mut dyn Iterator<Item = (&str, u64)>) {
        metrics::SINK_KAFKA_BROKERS_UP
            .with([self.0.clone().into()])
            .set(brokers_up as f64);
    }

    fn failed(&self, cause: &'static str) {
        metrics::SINK_KAFKA_ERRORS
            .with([self.0.clone().into(), cause.into()])
            .increment(1);
    }
}

impl Kafka {
    fn new(config: KafkaConfig, name: &str) -> Result<Self, String> {
        let client = config.producer()?;
        let name: Arc<str> = name.into();
        Ok(Self {
            encoder: Encoder::new(config.format)?,
            producer: producer(&client, config.sasl.as_ref(), &name)?,
            config: client,
            template: config.topic,
            sasl: config.sasl,
            timeout: config.timeout.get(),
            name,
            unfinished: Unfinished::default(),
        })
    }

    /// Writes what of the points has not ended yet, until the first failure, and waits for what is under way.
    async fn send(&self, points: &[Point], progress: &mut Progress) {
        let (mut message, mut topic) = (Message::default(), String::new());
        let mut under_way = VecDeque::new();
        let (mut rest, mut place) = (points, 0);
        while let Some(first) = rest.first()
            && progress.failed.is_none()
        {
            let count = self.encoder.encode(rest, &mut message);
            rest = rest.get(count.max(1)..).unwrap_or_default();
            if !progress.has_ended(place) {
                KafkaConfig::push_topic(&self.template, &first.base, &mut topic);
                if under_way.len() >= UNDER_WAY {
                    self.wait(&mut under_way, progress).await;
                }
                self.enqueue(&topic, &message, (place, count), &mut under_way, progress)
                    .await;
            }
            place += 1;
            consume_budget().await;
        }
        while !under_way.is_empty() {
            self.wait(&mut under_way, progress).await;
        }
    }

    async fn enqueue(
        &self,
        topic: &str,
        message: &Message,
        (place, points): (usize, usize),
        under_way: &mut VecDeque<Sent>,
        progress: &mut Progress,
    ) {
        let until = tokio::time::Instant::now() + self.timeout;
        loop {
            let record = FutureRecord::to(topic)
                .key(&message.key)
                .payload(&message.payload);
            match self.producer.send_result(record) {
                Ok(delivery) => {
                    under_way.push_back(Sent {
                        place,
                        points,
                        delivery,
                    });
                    return;
                }
                Err((error, _)) if is_full(&error) && tokio::time::Instant::now() < until => {
                    match under_way.is_empty() {
                        true => tokio::time::sleep(NO_ROOM).await,
                        false => self.wait(under_way, progress).await,
                    }
                }
                Err((error, _)) => return self.failed(error, topic, (place, points), progress),
            }
        }
    }

    /// Waits for the message that is under way for the longest time. librdkafka bounds that.
    async fn wait(&self, under_way: &mut VecDeque<Sent>, progress: &mut Progress) {
        let Some(Sent {
            place,
            points,
            delivery,
        }) = under_way.pop_front()
        else {
            return;
        };
        let result: OwnedDeliveryResult = match delivery.await {
            Ok(result) => result,
            Err(_) => {
                progress
                    .failed
                    .get_or_insert_with(|| "the producer ended".to_owned());
                return;
            }
        };
        match result {
            Ok(_) => {
                progress.end(place);
                self.count("delivered");
            }
            Err((error, message)) => {
                use rdkafka::Message as _;
                self.failed(error, message.topic(), (place, points), progress);
            }
        }
    }

    fn failed(
        &self,
        error: KafkaError,
        topic: &str,
        (place, points): (usize, usize),
        progress: &mut Progress,
    ) {
        let said = format!("topic {topic}: {error}");
        if is_refusal(&error) {
            progress.end(place);
            progress.lost += points;
            progress.refused.get_or_insert(said);
            self.count("refused");
        } else {
            progress.failed.get_or_insert(said);
            self.count("failed");
        }
    }

    fn count(&self, outcome: &'static str) {
        metrics::SINK_KAFKA_MESSAGES
            .with([self.name.clone().into(), outcome.into()])
            .increment(1);
    }

    /// Makes the producer anew if it can do nothing more.
    fn revive(&mut self) {
        let Some((code, reason)) = self.producer.client().fatal_error() else {
            return;
        };
        tracing::warn!(sink = &*self.name, %code, reason, "the producer failed for good, and is made anew");
        match producer(&self.config, self.sasl.as_ref(), &self.name) {
            Ok(producer) => self.producer = producer,
            Err(error) => tracing::error!(
                sink = &*self.name,
                error,
                "no producer of Kafka can be made"
            ),
        }
    }
}

#[async_trait]
impl Sink for Kafka {
    fn gather(&self) -> Gather {
        Gather {
            amount: TOGETHER,
            // What came while the last write was under way goes together, and nothing waits.
            time: Duration::ZERO,
        }
    }

    async fn write(&mut self, batch: &Batch) -> Result<Amount, SinkError> {
        let mut progress = self.unfinished.take(batch).await.unwrap_or_default();
        self.send(&batch.points, &mut progress).await;
        if let Some(reason) = progress.failed.take() {
            self.revive();
            self.unfinished.keep(batch, progress).await;
            return Err(SinkError::Retriable {
                reason,
                after: Some(PAUSE),
            });
        }
        match progress.refused {
            None => Ok(Amount::points(batch.points.len())),
            Some(reason) => Err(SinkError::Fatal {
                reason: format!("{} points were refused for good: {reason}", progress.lost),
                lost: Amount::points(progress.lost),
            }),
        }
    }
}

impl Progress {
    fn has_ended(&self, place: usize) -> bool {
        self.ended.get(place).copied().unwrap_or_default()
    }

    fn end(&mut self, place: usize) {
        if self.ended.len() <= place {
            self.ended.resize(place + 1, false);
        }
        if let Some(ended) = self.ended.get_mut(place) {
            *ended = true;
        }
    }
}

fn producer(
    config: &ClientConfig,
    sasl: Option<&SaslConfig>,
    name: &Arc<str>,
) -> Result<FutureProducer<Monitor<Brokers>>, String> {
    let monitor = Monitor::new(Arc::clone(name), sasl, Brokers(Arc::clone(name)));
    config
        .create_with_context(monitor)
        .map_err(|error| error.to_string())
}
