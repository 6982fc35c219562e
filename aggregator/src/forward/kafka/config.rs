//! What can be set. The fields' documentation is the manual.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tributary_node::config::OneOrMany;
use tributary_node::tls::ClientTls;

use crate::kafka::producer::{OWNED, topic_problem};
use crate::kafka::{Compression, Connection, Properties, SaslConfig};

/// A topic of Kafka to forward to. See `docs/kafka.md`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ForwardKafka {
    /// Some of the cluster's brokers, each as `host:port`: the others are learned from them. While none answers, metrics wait within `forward_retention`.
    /// Has to be set.
    pub(super) brokers: OneOrMany<String>,

    /// The topic, which is not made by us. All that one agent forwards goes to one of its partitions. Has to be set.
    pub(super) topic: String,

    /// How batches are compressed: `none`, `gzip`, `snappy`, `lz4` (the default) or `zstd`.
    pub(super) compression: Compression,

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

impl Default for ForwardKafka {
    fn default() -> Self {
        Self {
            brokers: OneOrMany::default(),
            topic: String::new(),
            compression: Compression::default(),
            client_id: "tributary".to_owned(),
            tls: ClientTls::default(),
            sasl: None,
            properties: Properties::default(),
        }
    }
}

impl ForwardKafka {
    pub(super) fn connection(&self) -> Connection<'_> {
        Connection {
            brokers: &self.brokers.0,
            client_id: &self.client_id,
            tls: &self.tls,
            sasl: self.sasl.as_ref(),
            properties: &self.properties,
            owned: &OWNED,
        }
    }

    /// All that is wrong with it, each text starting with its key. Connects nowhere.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = self.connection().problems();
        problems.extend(topic_problem(&self.topic).map(|what| format!("topic: {what}")));
        problems
    }
}
