//! What can be set. The fields' documentation is the manual.

use rdkafka::ClientConfig;
use schemars::JsonSchema;
use serde::Deserialize;
use tributary_node::config::{Duration, OneOrMany};
use tributary_node::tls::ClientTls;

use super::Kafka;
use crate::kafka::producer::{LONGEST_TOPIC, OWNED, fits_topic};
use crate::kafka::{Compression, Connection, Properties, SaslConfig};
use crate::sink::{Sink, registry};

/// Writes points to topics of Kafka. What is written as `tributary-json` a source `kafka` reads back as the same points, so that Kafka can be the buffer
/// between two tiers. See `docs/kafka.md`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(in crate::sink) struct KafkaConfig {
    /// Some of the cluster's brokers, each as `host:port`: the others are learned from them. While none answers, points wait in the queue. Has to be set.
    pub(super) brokers: OneOrMany<String>,

    /// The topic, which is not made by us. `{name}` in it stands for the point's name without an aggregate's suffix, with `_` for what no topic's name can
    /// hold: that is a topic for each name. Has to be set.
    pub(super) topic: String,

    /// `tributary-json` (the default): JSON lines with all that makes a point, as in `docs/kafka.md`. `carbon`: lines `path value timestamp`, with tags as
    /// Graphite has them; a timestamp then is whole seconds, and all is a gauge.
    pub(super) format: Format,

    /// How batches are compressed: `none`, `gzip`, `snappy`, `lz4` (the default) or `zstd`.
    pub(super) compression: Compression,

    /// How long a message may take until all replicas in sync have it; until then librdkafka tries again by itself. What has not arrived by then is tried again
    /// with its batch, and may then be there twice. From 1s to 15m. Default: 30s.
    pub(super) timeout: Duration,

    /// The name by which brokers know us in their logs and quotas. Default: `tributary`.
    pub(super) client_id: String,

    /// TLS towards the brokers. Needs a build with the feature `kafka-tls`. Default: none.
    pub(super) tls: ClientTls,

    /// A login at the brokers. Default: none.
    pub(super) sasl: Option<SaslConfig>,

    /// Further properties of librdkafka by their names: `{linger.ms: 50}`. Those that a key here stands for, and those that what is said here depends on, are
    /// refused. Default: none.
    pub(super) properties: Properties,
}

/// How points look.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
pub(super) enum Format {
    /// JSON lines.
    #[default]
    #[serde(rename = "tributary-json")]
    TributaryJson,
    /// Text lines.
    #[serde(rename = "carbon")]
    Carbon,
}

impl Default for KafkaConfig {
    fn default() -> Self {
        Self {
            brokers: OneOrMany::default(),
            topic: String::new(),
            format: Format::default(),
            compression: Compression::default(),
            timeout: Duration::seconds(30),
            client_id: "tributary".to_owned(),
            tls: ClientTls::default(),
            sasl: None,
            properties: Properties::default(),
        }
    }
}

impl KafkaConfig {
    fn connection(&self) -> Connection<'_> {
        Connection {
            brokers: &self.brokers.0,
            client_id: &self.client_id,
            tls: &self.tls,
            sasl: self.sasl.as_ref(),
            properties: &self.properties,
            owned: &OWNED,
        }
    }

    /// What the producer is made of. The error starts with the key that is to blame.
    pub(super) fn producer(&self) -> Result<ClientConfig, String> {
        self.connection()
            .producer(self.compression, self.timeout.get())
    }

    fn topic_problem(&self) -> Option<String> {
        let (before, after) = self.topic.split_once("{name}").unwrap_or((&self.topic, ""));
        if self.topic.is_empty() {
            return Some("topic: is empty".to_owned());
        }
        let good = [before, after]
            .iter()
            .all(|part| part.chars().all(fits_topic));
        (!good || self.topic.len() > LONGEST_TOPIC).then(|| {
            format!(
                "topic: `{}` is no topic's name: up to 249 of the characters a-z A-Z 0-9 . _ -, and `{{name}}` once",
                self.topic
            )
        })
    }

    /// The topic of points with that name, written to `topic`.
    pub(super) fn push_topic(template: &str, name: &str, topic: &mut String) {
        topic.clear();
        let Some((before, after)) = template.split_once("{name}") else {
            topic.push_str(template);
            return;
        };
        let room = LONGEST_TOPIC.saturating_sub(before.len() + after.len());
        topic.push_str(before);
        topic.extend(
            name.chars()
                .take(room)
                .map(|c| if fits_topic(c) { c } else { '_' }),
        );
        topic.push_str(after);
    }
}

impl registry::Build for KafkaConfig {
    const EXAMPLE: &'static str = "\
- kind: kafka
  config:
    brokers: [\"kafka-1.example.com:9092\", \"kafka-2.example.com:9092\"]
    topic: metrics
";
    const GUIDE: &'static str = "kafka.md";

    fn problems(&self) -> Vec<String> {
        let mut problems = self.connection().problems();
        problems.extend(self.topic_problem());
        if !(1_000..=900_000).contains(&self.timeout.get().as_millis()) {
            problems.push(format!("timeout: {} is not from 1s to 15m", self.timeout));
        }
        problems
    }

    fn build(self, name: &str) -> Result<Box<dyn Sink>, String> {
        Ok(Box::new(Kafka::new(self, name)?))
    }
}
