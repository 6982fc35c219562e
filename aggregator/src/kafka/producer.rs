//! What all producers have in common: how they are set up, and what their errors mean.

use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Connection;

/// How batches are compressed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Compression {
    /// Not at all.
    None,
    /// Slow, and known to all.
    Gzip,
    /// Quick.
    Snappy,
    /// Quick.
    #[default]
    Lz4,
    /// Small.
    Zstd,
}

/// Properties of a producer on which what we promise depends.
pub(crate) const OWNED: [&str; 9] = [
    "acks",
    "request.required.acks",
    "enable.idempotence",
    "compression.codec",
    "compression.type",
    "message.timeout.ms",
    "delivery.timeout.ms",
    "transactional.id",
    "delivery.report.only.error",
];

/// The most of a topic's name.
pub(crate) const LONGEST_TOPIC: usize = 249;

impl Compression {
    const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Snappy => "snappy",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }
}

impl Connection<'_> {
    /// What a producer is made of whose messages all replicas in sync must have within `timeout`. The error starts with the key that is to blame.
    pub(crate) fn producer(
        &self,
        compression: Compression,
        timeout: Duration,
    ) -> Result<ClientConfig, String> {
        let mut config = self.client_config()?;
        config
            .set("acks", "all")
            .set("enable.idempotence", "true")
            .set("compression.codec", compression.name())
            .set("message.timeout.ms", timeout.as_millis().to_string());
        for (property, default) in [
            // As Kafka's own clients place a key, so that several kinds of producers agree.
            ("partitioner", "murmur2_random"),
            // librdkafka's own default is 1 GB.
            ("queue.buffering.max.kbytes", "65536"),
        ] {
            if !self.properties.contains_key(property) {
                config.set(property, default);
            }
        }
        Ok(config)
    }
}

/// What is wrong with a topic's name, by Kafka's rules.
pub(crate) fn topic_problem(topic: &str) -> Option<String> {
    let wrong = topic.is_empty()
        || topic.len() > LONGEST_TOPIC
        || topic == "."
        || topic == ".."
        || !topic.chars().all(fits_topic);
    wrong.then(|| {
        format!("`{topic}` is no topic's name: 1 to 249 of the characters a-z A-Z 0-9 . _ -")
    })
}

/// Whether a topic's name can have it.
pub(crate) fn fits_topic(c: char) -> bool {
    c.is_ascii_alphanumeric() || "._-".contains(c)
}

/// Whether there is no room for more messages at present.
pub(crate) fn is_full(error: &KafkaError) -> bool {
    error.rdkafka_error_code() == Some(RDKafkaErrorCode::QueueFull)
}

/// Whether the message itself is what brokers, or librdkafka, do not take.
pub(crate) fn is_refusal(error: &KafkaError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(
            RDKafkaErrorCode::MessageSizeTooLarge
                | RDKafkaErrorCode::InvalidMessage
                | RDKafkaErrorCode::InvalidMessageSize
                | RDKafkaErrorCode::InvalidRecord
                | RDKafkaErrorCode::InvalidTimestamp
                | RDKafkaErrorCode::InvalidTopic
                | RDKafkaErrorCode::PolicyViolation
        )
    )
}
