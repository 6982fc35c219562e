//! The settings. The documentation of the fields is the manual.

use std::collections::BTreeMap;
use std::path::PathBuf;

use async_trait::async_trait;
use rdkafka::ClientConfig;
use regex::Regex;
use schemars::JsonSchema;
use serde::Deserialize;
use tributary_node::config::{Duration, OneOrMany};
use tributary_node::tls::ClientTls;

use super::Kafka;
use super::format::Name;
use super::topics::is_pattern;
use crate::enrich::cloudfoundry::CloudFoundryConfig;
use crate::kafka::producer::topic_problem;
use crate::kafka::{Connection, Properties, SaslConfig};
use crate::source::{Source, registry};

/// Reads topics of Kafka as a member of a consumer group. An offset is committed only after every sink has written the points of all messages before it, so
/// that nothing is lost whatever ends; after a failure messages may come twice. See `docs/kafka.md`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(in crate::source) struct KafkaConfig {
    /// Some of the cluster's brokers, each as `host:port`: the others are learned from them. While none answers, the aggregator runs, and goes on
    /// trying. Has to be set.
    pub(super) brokers: OneOrMany<String>,

    /// The consumer group. Its members share the partitions, and its committed offsets say where reading goes on after a restart. Has to be set.
    pub(super) group: String,

    /// The topics, each with the format of its messages: `{metrics: tributary-json}`. A name that begins with `^` is a regular expression for the names
    /// of topics, `^log-.*`; topics that match are found while we run. Where several match, the name goes first, then the first expression in the order of
    /// their texts. Has to be set.
    ///
    /// Formats: `carbon`, text lines `path value timestamp`, which become gauges; `dropsonde`, events of Cloud Foundry (needs
    /// `cloudfoundry`); `tributary-json`, the finished points that the sink `kafka` writes.
    #[schemars(with = "BTreeMap<String, Name>")]
    pub(super) topics: BTreeMap<String, Name>,

    /// For topics with `dropsonde`: where the names of applications come from. Default: none.
    pub(super) cloudfoundry: Option<CloudFoundryConfig>,

    /// Where a partition begins for which the group has no offset yet, or whose offset is gone: `oldest` (the default) or `newest`.
    pub(super) start: Start,

    /// How many messages, or points if they are more, may be on their way to the sinks: read, and not yet written everywhere. At so many the
    /// partitions are paused, while the membership in the group goes on, for however long a sink is away. Keep it below `queue_points` of every sink: what a
    /// sink's queue has no room for is read again. Forwarded metrics count as points. More needs more memory, and means more repeats after a crash. Default:
    /// 50000.
    pub(super) max_in_flight: usize,

    /// How often what is done is committed. What was not is read again after a crash. Default: 1s.
    pub(super) commit_interval: Duration,

    /// How long partitions that another member takes over may wait for what of them is on its way to the sinks; the other one reads again what is not
    /// written by then. At the end of the program the wait is 5s at most. Up to 2m. Default: 10s.
    pub(super) processing_timeout: Duration,

    /// How long a member may be silent before the group gives its partitions to others. Brokers allow 6s to 30m, unless they are set otherwise.
    /// Default: 45s.
    pub(super) session_timeout: Duration,

    /// Where messages, or lines of them, go that cannot be read. They are counted, the first are logged, and they count as done. Default: nowhere.
    pub(super) dead_letter: Option<DeadLetterConfig>,

    /// The name by which brokers know us in their logs and quotas. Default: `tributary`.
    pub(super) client_id: String,

    /// TLS towards the brokers. Needs a build with the feature `kafka-tls`. Default: none.
    pub(super) tls: ClientTls,

    /// A login at the brokers. Default: none.
    pub(super) sasl: Option<SaslConfig>,

    /// Further properties of librdkafka by their names: `{fetch.max.bytes: 10485760}`. Those that a key here stands for, and those that what is said here
    /// depends on, are refused. Default: none.
    pub(super) properties: Properties,
}

/// Where to begin.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(in crate::source) enum Start {
    /// With the first message that there is.
    #[default]
    Oldest,
    /// With what comes from now on.
    Newest,
}

/// Where unreadable messages go. One of the two.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(in crate::source) struct DeadLetterConfig {
    /// A topic of the same cluster. The bad bytes are the message; its headers `tributary-topic`, `-partition`, `-offset`, `-cause` and `-detail` say
    /// where they were and what is wrong.
    pub(super) topic: Option<String>,
    /// A file that gets a line of JSON for each: `topic`, `partition`, `offset`, `time` (milliseconds), `cause`, `detail`, and `payload`, or
    /// `payload_base64` where it is no text. It is opened anew for each write, so that it may be rotated.
    #[serde(deserialize_with = "crate::options::given_path")]
    pub(super) file: Option<PathBuf>,
}

/// Properties on which what we promise depends.
const OWNED: [&str; 9] = [
    "group.id",
    "enable.auto.commit",
    "enable.auto.offset.store",
    "auto.offset.reset",
    "session.timeout.ms",
    "enable.partition.eof",
    "group.protocol",
    "check.crcs",
    "allow.auto.create.topics",
];

/// A revocation may wait for so long: the group waits with it, five minutes at most.
const LONGEST_PROCESSING: std::time::Duration = std::time::Duration::from_secs(120);

impl Default for KafkaConfig {
    fn default() -> Self {
        Self {
            brokers: OneOrMany::default(),
            group: String::new(),
            topics: BTreeMap::new(),
            cloudfoundry: None,
            start: Start::default(),
            max_in_flight: 50_000,
            commit_interval: Duration::seconds(1),
            processing_timeout: Duration::seconds(10),
            session_timeout: Duration::seconds(45),
            dead_letter: None,
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

    /// What the group's member is made of. The error starts with the key that is to blame.
    pub(super) fn consumer(&self) -> Result<ClientConfig, String> {
        let mut config = self.connection().client_config()?;
        config
            .set("group.id", &self.group)
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("check.crcs", "true")
            .set("allow.auto.create.topics", "false")
            .set("session.timeout.ms", millis(self.session_timeout))
            .set(
                "auto.offset.reset",
                match self.start {
                    Start::Oldest => "earliest",
                    Start::Newest => "latest",
                },
            );
        for (property, default) in [
            // A member that comes or goes moves only its own partitions.
            (
                "partition.assignment.strategy",
                "cooperative-sticky".to_owned(),
            ),
            // librdkafka's own default is 64 MB for each consumer.
            ("queued.max.messages.kbytes", "16384".to_owned()),
            (
                "heartbeat.interval.ms",
                (self.session_timeout.get().as_millis() / 4)
                    .min(3000)
                    .to_string(),
            ),
        ] {
            if !self.properties.contains_key(property) {
                config.set(property, default);
            }
        }
        Ok(config)
    }

    /// What the producer of dead letters is made of.
    pub(super) fn producer(&self) -> Result<ClientConfig, String> {
        let properties = Properties::default();
        let connection = Connection {
            properties: &properties,
            ..self.connection()
        };
        let mut config = connection.client_config()?;
        config
            .set("statistics.interval.ms", "0")
            .set("enable.idempotence", "true")
            .set("message.timeout.ms", "30000");
        Ok(config)
    }

    fn topic_problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if self.topics.is_empty() {
            problems.push("topics: is empty, write it like {metrics: tributary-json}".to_owned());
        }
        for topic in self.topics.keys() {
            if !is_pattern(topic) {
                problems.extend(topic_problem(topic).map(|what| format!("topics: {what}")));
            } else if let Err(error) = Regex::new(topic) {
                problems.push(format!(
                    "topics: `{topic}` is no regular expression: {error}"
                ));
            }
        }
        let Some(dead) = &self.dead_letter else {
            return problems;
        };
        match (&dead.topic, &dead.file) {
            (None, None) => {
                problems
                    .push("dead_letter.topic: neither it nor `dead_letter.file` is set".to_owned());
            }
            (Some(_), Some(_)) => {
                problems
                    .push("dead_letter.topic: is set, and `dead_letter.file` as well".to_owned());
            }
            (Some(topic), None) => {
                problems
                    .extend(topic_problem(topic).map(|what| format!("dead_letter.topic: {what}")));
                let reads = |known: &String| match is_pattern(known) {
                    true => Regex::new(known).is_ok_and(|pattern| pattern.is_match(topic)),
                    false => known == topic,
                };
                if self.topics.keys().any(reads) {
                    problems.push(format!(
                        "dead_letter.topic: `{topic}` is one of `topics`: bad messages would come back for ever"
                    ));
                }
            }
            (None, Some(_)) => {}
        }
        problems
    }
}

impl KafkaConfig {
    fn cloudfoundry_problems(&self) -> Vec<String> {
        let wanted = self.topics.values().any(|name| *name == Name::Dropsonde);
        match &self.cloudfoundry {
            Some(config) => {
                let problems = config.problems().into_iter();
                problems
                    .map(|problem| format!("cloudfoundry.{problem}"))
                    .collect()
            }
            None if wanted => {
                vec!["cloudfoundry: is needed by topics that are `dropsonde`".to_owned()]
            }
            None => Vec::new(),
        }
    }
}

fn millis(duration: Duration) -> String {
    duration.get().as_millis().to_string()
}

#[async_trait]
impl registry::Build for KafkaConfig {
    const EXAMPLE: &'static str = "\
- kind: kafka
  config:
    brokers: [\"kafka-1.example.com:9092\", \"kafka-2.example.com:9092\"]
    group: tributary
    topics: {metrics: tributary-json, graphite: carbon}
";
    const GUIDE: &'static str = "kafka.md";

    fn problems(&self) -> Vec<String> {
        let mut problems = self.connection().problems();
        if self.group.is_empty() {
            problems.push("group: is empty".to_owned());
        }
        problems.extend(self.topic_problems());
        problems.extend(self.cloudfoundry_problems());
        if self.max_in_flight == 0 {
            problems.push("max_in_flight: has to be at least 1".to_owned());
        }
        if self.commit_interval.is_zero() {
            problems.push("commit_interval: is zero".to_owned());
        }
        if self.processing_timeout.get() > LONGEST_PROCESSING {
            problems.push(format!(
                "processing_timeout: {} is more than 2m",
                self.processing_timeout
            ));
        }
        if !(1_000..=3_600_000).contains(&self.session_timeout.get().as_millis()) {
            problems.push(format!(
                "session_timeout: {} is not from 1s to 1h",
                self.session_timeout
            ));
        }
        problems
    }

    fn forwards(&self) -> bool {
        self.topics.values().any(|name| *name == Name::MetricList)
    }

    async fn open(self, name: &str) -> Result<Box<dyn Source>, String> {
        Ok(Box::new(Kafka::new(self, name).await?))
    }
}
