//! What librdkafka tells about its connections: log lines, errors, and once in a while numbers.

use std::collections::HashMap;
use std::error::Error;
use std::path::PathBuf;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rdkafka::ClientContext;
use rdkafka::client::OAuthToken;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use serde::Deserialize;
use tributary_node::repeats::Repeats;

use crate::secret_file;

/// What a source or a sink wants to know of its connections.
pub(crate) trait Health: Send + Sync + 'static {
    /// How many brokers there is a connection to, and by topic and partition how far behind its end the group is.
    fn told(&self, brokers_up: usize, lags: &mut dyn Iterator<Item = (&str, u64)>);

    /// Something failed, in the words of a counter's tag.
    fn failed(&self, cause: &'static str);
}

/// Listens to librdkafka, for a source or a sink.
pub(crate) struct Monitor<H> {
    /// The configured name, for logs.
    name: Arc<str>,
    token_file: Option<PathBuf>,
    told: Repeats<String>,
    pub(crate) health: H,
}

impl<H: Health> Monitor<H> {
    pub(crate) fn new(name: Arc<str>, sasl: Option<&super::SaslConfig>, health: H) -> Self {
        Self {
            name,
            token_file: sasl.and_then(|sasl| sasl.token_file.clone()),
            told: Repeats::default(),
            health,
        }
    }
}

/// What we read of librdkafka's statistics.
#[derive(Deserialize)]
struct Statistics<'a> {
    #[serde(borrow, default)]
    brokers: HashMap<&'a str, Broker<'a>>,
    #[serde(borrow, default)]
    topics: HashMap<&'a str, Topic<'a>>,
}

#[derive(Deserialize)]
struct Broker<'a> {
    nodeid: i64,
    state: &'a str,
}

#[derive(Deserialize)]
struct Topic<'a> {
    #[serde(borrow, default)]
    partitions: HashMap<&'a str, Partition>,
}

#[derive(Deserialize)]
struct Partition {
    #[serde(default)]
    desired: bool,
    #[serde(default = "unknown")]
    consumer_lag: i64,
    #[serde(default = "unknown")]
    app_offset: i64,
    #[serde(default = "unknown")]
    hi_offset: i64,
}

const fn unknown() -> i64 {
    -1
}

impl Partition {
    /// Messages that are not committed yet; before the first commit those that were not read.
    fn lag(&self) -> Option<u64> {
        let read = || match (self.hi_offset, self.app_offset) {
            (0.., 0..) => u64::try_from(self.hi_offset - self.app_offset).ok(),
            _ => None,
        };
        self.desired
            .then(|| u64::try_from(self.consumer_lag).ok().or_else(read))
            .flatten()
    }
}

impl<H: Health> ClientContext for Monitor<H> {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        let name = &*self.name;
        if level as i32 > RDKafkaLogLevel::Warning as i32 {
            tracing::debug!(name, facility, "{message}");
        } else if let Some(more) = self.told.tell(&facility.to_owned()) {
            tracing::warn!(name, facility, "kafka: {message}{more}");
        }
    }

    fn stats_raw(&self, statistics: &[u8]) {
        let read: Statistics<'_> = match serde_json::from_slice(statistics) {
            Ok(read) => read,
            Err(error) => {
                tracing::debug!(name = &*self.name, %error, "librdkafka's statistics cannot be read");
                return;
            }
        };
        // Those that were only configured and not yet named by the cluster, and the group's coordinator, have no id.
        let up = read.brokers.values();
        let up = up.filter(|broker| broker.nodeid >= 0 && broker.state == "UP");
        let mut lags = read.topics.iter().flat_map(|(topic, known)| {
            let lags = known.partitions.values().filter_map(Partition::lag);
            lags.map(|lag| (*topic, lag))
        });
        self.health.told(up.count(), &mut lags);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        let code = error.rdkafka_error_code();
        let cause = match code {
            Some(RDKafkaErrorCode::AllBrokersDown) => "all_brokers_down",
            Some(
                RDKafkaErrorCode::BrokerTransportFailure | RDKafkaErrorCode::OperationTimedOut,
            ) => "transport",
            Some(RDKafkaErrorCode::Resolve) => "name",
            Some(RDKafkaErrorCode::SSL) => "tls",
            Some(
                RDKafkaErrorCode::Authentication
                | RDKafkaErrorCode::SaslAuthenticationFailed
                | RDKafkaErrorCode::TopicAuthorizationFailed
                | RDKafkaErrorCode::GroupAuthorizationFailed
                | RDKafkaErrorCode::ClusterAuthorizationFailed,
            ) => "not_allowed",
            Some(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic) => {
                "unknown_topic"
            }
            Some(RDKafkaErrorCode::PollExceeded) => "poll_interval",
            _ => "other",
        };
        self.health.failed(cause);
        if let Some(more) = self.told.tell(&cause.to_owned()) {
            tracing::warn!(name = &*self.name, cause, %error, "kafka: {reason}{more}");
        }
    }

    fn generate_oauth_token(&self, _: Option<&str>) -> Result<OAuthToken, Box<dyn Error>> {
        let path = self.token_file.as_ref().ok_or("no sasl.token_file")?;
        let token = secret_file::read_blocking(path)
            .map_err(|error| format!("{}: {error}", path.display()))?;
        let token = token.expose();
        let claims = claims(token)
            .ok_or_else(|| format!("{}: is no JWT with `sub` and `exp`", path.display()))?;
        Ok(OAuthToken {
            token: token.to_owned(),
            principal_name: claims.sub,
            lifetime_ms: (claims.exp * 1e3) as i64,
        })
    }
}

#[derive(Deserialize)]
struct Claims {
    sub: String,
    /// Seconds since 1970.
    exp: f64,
}

fn claims(token: &str) -> Option<Claims> {
    let part = token.split('.').nth(1)?;
    let json = URL_SAFE_NO_PAD.decode(part.trim_end_matches('=')).ok()?;
    serde_json::from_slice(&json).ok()
}

#[cfg(test)]
mod tests {
    use parking_lot::Mutex;

    use super::*;

    /// Brokers, and lags by topic.
    type Call = (usize, Vec<(String, u64)>);

    #[derive(Default)]
    struct Told(Mutex<Vec<Call>>);

    impl Health for Told {
        fn told(&self, brokers_up: usize, lags: &mut dyn Iterator<Item = (&str, u64)>) {
            let mut lags: Vec<_> = lags.map(|(topic, lag)| (topic.to_owned(), lag)).collect();
            lags.sort();
            self.0.lock().push((brokers_up, lags));
        }

        fn failed(&self, _: &'static str) {}
    }

    #[test]
    fn lag_is_what_is_not_committed_and_of_our_own_partitions() {
        let monitor = Monitor::new("k".into(), None, Told::default());
        let statistics = br#"{"name":"x","brokers":{
            "a:1/1":{"name":"a:1/1","nodeid":1,"state":"UP"},"a:2/2":{"nodeid":2,"state":"CONNECT"},
            "GroupCoordinator":{"nodeid":-1,"state":"UP"}},
            "topics":{"t":{"partitions":{
                "0":{"desired":true,"consumer_lag":5,"app_offset":9,"hi_offset":10},
                "1":{"desired":true,"consumer_lag":-1,"app_offset":7,"hi_offset":10},
                "2":{"desired":false,"consumer_lag":7},
                "-1":{"desired":false,"consumer_lag":-1}}}}}"#;
        monitor.stats_raw(statistics);
        let lags = vec![("t".to_owned(), 3), ("t".to_owned(), 5)];
        assert_eq!(*monitor.health.0.lock(), [(1, lags)]);
        monitor.stats_raw(b"{");
    }

    #[test]
    fn a_token_says_whose_it_is_and_for_how_long() {
        let part = |json: &str| URL_SAFE_NO_PAD.encode(json);
        let body = part(r#"{"sub":"tributary","exp":1700000000,"iss":"x"}"#);
        let read = claims(&format!("{}.{body}.", part("{}"))).unwrap();
        assert_eq!((read.sub.as_str(), read.exp), ("tributary", 1.7e9));
        assert!(claims("abc").is_none() && claims(&format!("a.{}.c", part("{}"))).is_none());
    }
}
