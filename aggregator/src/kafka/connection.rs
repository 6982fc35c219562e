//! From settings to librdkafka's.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use rdkafka::ClientConfig;
use rdkafka::config::RDKafkaLogLevel;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tributary_node::config::{Problems, Secret};
use tributary_node::tls::{ClientTls, PemGiven};

use crate::secret_file;

/// Further properties of librdkafka, by their names there.
pub(crate) type Properties = BTreeMap<String, Scalar>;

/// A property's value.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(crate) enum Scalar {
    Bool(bool),
    Whole(i64),
    Number(f64),
    Text(String),
}

/// How we say who we are.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SaslConfig {
    /// `PLAIN` (the default), `SCRAM-SHA-256`, `SCRAM-SHA-512` or `OAUTHBEARER`. All but `PLAIN` need a build with the feature `kafka-tls`. `PLAIN` without
    /// `tls` shows the password to the network.
    #[serde(default)]
    pub(crate) mechanism: Mechanism,

    /// The name. Not for `OAUTHBEARER`.
    #[serde(default)]
    pub(crate) user: String,

    /// The password. Better in a file, by `password_file`.
    #[serde(default)]
    pub(crate) password: Secret,

    /// A file with the password, in place of `password`; read at the start. White space around it does not count.
    #[serde(default, deserialize_with = "crate::options::given_path")]
    pub(crate) password_file: Option<PathBuf>,

    /// `OAUTHBEARER`: a file with the token, a JWT with `sub` and `exp`. It is read each time a token is needed, so that whoever renews it writes it there.
    #[serde(default, deserialize_with = "crate::options::given_path")]
    pub(crate) token_file: Option<PathBuf>,
}

/// The kinds of proof.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub(crate) enum Mechanism {
    /// Name and password as they are.
    #[default]
    #[serde(rename = "PLAIN")]
    Plain,
    /// A challenge.
    #[serde(rename = "SCRAM-SHA-256")]
    Scram256,
    /// A challenge.
    #[serde(rename = "SCRAM-SHA-512")]
    Scram512,
    /// A token.
    #[serde(rename = "OAUTHBEARER")]
    OauthBearer,
}

/// The part of a source's or a sink's settings that says where its brokers are and how it talks to them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Connection<'a> {
    pub(crate) brokers: &'a [String],
    pub(crate) client_id: &'a str,
    pub(crate) tls: &'a ClientTls,
    pub(crate) sasl: Option<&'a SaslConfig>,
    pub(crate) properties: &'a Properties,
    /// Properties that a key of the settings stands for, or on which what we promise depends; those of all connections come on top.
    pub(crate) owned: &'a [&'a str],
}

/// Properties of every connection that are ours.
const OWNED: [&str; 16] = [
    "bootstrap.servers",
    "metadata.broker.list",
    "client.id",
    "security.protocol",
    "statistics.interval.ms",
    "log.queue",
    "log_level",
    "test.mock.num.brokers",
    "sasl.mechanism",
    "sasl.mechanisms",
    "sasl.username",
    "sasl.password",
    "sasl.oauthbearer.config",
    "ssl.ca.location",
    "ssl.certificate.location",
    "ssl.key.location",
];

/// Whether this build speaks TLS with Kafka.
const HAS_TLS: bool = cfg!(feature = "kafka-tls");

/// How often librdkafka tells what it knows, in milliseconds.
const STATISTICS: &str = "5000";

impl Mechanism {
    fn name(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::Scram256 => "SCRAM-SHA-256",
            Self::Scram512 => "SCRAM-SHA-512",
            Self::OauthBearer => "OAUTHBEARER",
        }
    }
}

impl fmt::Display for Scalar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bool(value) => value.fmt(f),
            Self::Whole(value) => value.fmt(f),
            Self::Number(value) => value.fmt(f),
            Self::Text(value) => value.fmt(f),
        }
    }
}

impl SaslConfig {
    fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let name = self.mechanism.name();
        if self.mechanism != Mechanism::Plain && !HAS_TLS {
            problems.push(format!(
                "sasl.mechanism: {name} needs OpenSSL, which this build lacks: build with the feature `kafka-tls`"
            ));
        }
        let password = !self.password.is_empty() || self.password_file.is_some();
        if self.mechanism == Mechanism::OauthBearer {
            if self.token_file.is_none() {
                problems.push("sasl.token_file: is not set".to_owned());
            }
            if password || !self.user.is_empty() {
                problems.push(format!("sasl.user: {name} takes a `token_file` only"));
            }
            return problems;
        }
        if self.user.is_empty() {
            problems.push("sasl.user: is empty".to_owned());
        }
        if self.token_file.is_some() {
            problems.push("sasl.token_file: is for `mechanism: OAUTHBEARER`".to_owned());
        }
        match (!self.password.is_empty(), &self.password_file) {
            (false, None) => problems
                .push("sasl.password_file: neither it nor `sasl.password` is set".to_owned()),
            (true, Some(_)) => {
                problems.push("sasl.password: is set, and `sasl.password_file` as well".to_owned());
            }
            _ => {}
        }
        problems
    }

    fn password(&self) -> Result<Secret, String> {
        match &self.password_file {
            Some(path) => secret_file::read_blocking(path)
                .map_err(|error| format!("sasl.password_file: {}: {error}", path.display())),
            None => Ok(self.password.clone()),
        }
    }
}

impl Connection<'_> {
    /// All that is wrong, each text starting with its key. Connects nothing.
    pub(crate) fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if self.brokers.is_empty() {
            problems.push("brokers: is empty, write it like [kafka-1:9092]".to_owned());
        }
        for broker in self.brokers {
            let port = broker
                .rsplit_once(':')
                .map(|(host, port)| (host, port.parse::<u16>()));
            match port {
                Some((host, Ok(1..))) if !host.is_empty() && !broker.contains([',', ' ', '/']) => {}
                _ => problems.push(format!(
                    "brokers: `{broker}` is not `host:port`, as in kafka-1:9092"
                )),
            }
        }
        if self.client_id.is_empty() {
            problems.push("client_id: is empty".to_owned());
        }
        if self.tls.is_on() {
            if HAS_TLS {
                let mut found = Problems::new("");
                self.tls.check("tls", &mut found);
                let found = found.iter();
                problems.extend(found.map(|found| format!("{}: {}", found.key, found.what)));
            } else {
                problems.push(
                    "tls: this build has no TLS for Kafka: build with the feature `kafka-tls`"
                        .to_owned(),
                );
            }
            if !self.tls.server_name.is_empty() {
                problems.push(
                    "tls.server_name: brokers name each other, so their own names are what counts"
                        .to_owned(),
                );
            }
        }
        if let Some(sasl) = self.sasl {
            problems.extend(sasl.problems());
        }
        problems.extend(self.property_problems());
        problems
    }

    fn property_problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        for (name, value) in self.properties {
            let owned = self
                .owned
                .iter()
                .chain(&OWNED)
                .any(|owned| *owned == name.as_str());
            if owned || name.starts_with("ssl.key.") {
                problems.push(format!(
                    "properties.{name}: is set by a key of ours, or must stay as it is"
                ));
                continue;
            }
            // One by one, so that each gets its own word.
            let mut config = ClientConfig::new();
            config.set(name.as_str(), value.to_string());
            if let Err(error) = config.create_native_config() {
                problems.push(format!("properties.{name}: {}", said(&error)));
            }
        }
        problems
    }

    /// The settings as librdkafka has them. The error starts with the key that is to blame.
    pub(crate) fn client_config(&self) -> Result<ClientConfig, String> {
        let mut config = ClientConfig::new();
        config.set_log_level(RDKafkaLogLevel::Info);
        config
            .set("bootstrap.servers", self.brokers.join(","))
            .set("client.id", self.client_id)
            .set("statistics.interval.ms", STATISTICS)
            // Topics that are made while we run, and brokers that come back, are found soon.
            .set("topic.metadata.refresh.interval.ms", "30000")
            .set("reconnect.backoff.max.ms", "5000");
        let protocol = match (self.tls.is_on(), self.sasl.is_some()) {
            (false, false) => "plaintext",
            (true, false) => "ssl",
            (false, true) => "sasl_plaintext",
            (true, true) => "sasl_ssl",
        };
        config.set("security.protocol", protocol);
        if self.tls.is_on() {
            for (property, pem) in [
                ("ssl.ca", &self.tls.ca_file),
                ("ssl.certificate", &self.tls.cert_file),
                ("ssl.key", &self.tls.key_file),
            ] {
                match pem.given() {
                    Some(PemGiven::Text(text)) => config.set(format!("{property}.pem"), text),
                    Some(PemGiven::File(path)) => config.set(format!("{property}.location"), path),
                    None => continue,
                };
            }
        }
        if let Some(sasl) = self.sasl {
            config.set("sasl.mechanisms", sasl.mechanism.name());
            if sasl.mechanism != Mechanism::OauthBearer {
                config
                    .set("sasl.username", &sasl.user)
                    .set("sasl.password", sasl.password()?.expose());
            }
        }
        for (name, value) in self.properties {
            config.set(name, value.to_string());
        }
        Ok(config)
    }
}

/// librdkafka's own words about a setting.
fn said(error: &rdkafka::error::KafkaError) -> String {
    match error {
        rdkafka::error::KafkaError::ClientConfig(_, said, _, _) => said.clone(),
        other => other.to_string(),
    }
}
