//! What can be set. The fields' documentation is the manual.

use std::path::PathBuf;

use http::Uri;
use http::uri::PathAndQuery;
use schemars::JsonSchema;
use serde::Deserialize;
use tributary_node::config::{Duration, Problems, Secret, Size};
use tributary_node::tls::ClientTls;

use super::Influx;
use super::line::LineFormat;
use crate::endpoint;
use crate::sink::{Sink, registry};

/// Room for a line that is worth the name.
const LEAST_BODY: u64 = 1024;
/// More is more than any InfluxDB takes.
const MOST_BODY: u64 = 64 * 1024 * 1024;
/// More would be an unbounded wait.
const MOST_RETRIES: u32 = 20;

/// Sends points to InfluxDB, version 1 or 2, as line protocol.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct InfluxConfig {
    /// Where InfluxDB listens, as `http://host:port` or `https://host:port`, with a path in front of `/write` where a gateway wants one.
    /// Default: `http://127.0.0.1:8086`.
    #[serde(default = "default_url")]
    pub url: String,

    /// Which API is spoken: `1` posts to `/write` of InfluxDB 1 (and of what speaks like it, as VictoriaMetrics does), `2` to `/api/v2/write` of
    /// InfluxDB 2 and later. Default: 1.
    #[serde(default = "default_version")]
    pub version: u8,

    /// Version 1: the database. It must exist; until it does, points wait. Default: `tributary`.
    #[serde(default)]
    pub database: String,

    /// Version 1: the retention policy that points are written to. Default: empty, the database's own default.
    #[serde(default)]
    pub retention_policy: String,

    /// Version 1, of a cluster: how many nodes must have a point before the write succeeds, `any`, `one`, `quorum` or `all`. Default: the server's.
    #[serde(default)]
    pub consistency: Option<Consistency>,

    /// Version 1: who writes, by HTTP Basic authentication. Default: empty, requests go without.
    #[serde(default)]
    pub user: String,

    /// Version 1: the password of `user`. Default: empty.
    #[serde(default)]
    pub password: Secret,

    /// Version 1: a file with the password, in place of `password`. It is read for each request, so that a new password needs no restart; white space around it does
    /// not count. Default: none.
    #[serde(default, deserialize_with = "crate::options::given_path")]
    pub password_file: Option<PathBuf>,

    /// Version 2: the organization, by name or id. Default: empty, which some servers take for the token's own.
    #[serde(default)]
    pub org: String,

    /// Version 2: the bucket. It must exist; until it does, points wait. Default: `tributary`.
    #[serde(default)]
    pub bucket: String,

    /// Version 2: the token that goes with each request. Default: empty, requests go without.
    #[serde(default)]
    pub token: Secret,

    /// Version 2: a file with the token, in place of `token`; read for each request. Default: none.
    #[serde(default, deserialize_with = "crate::options::given_path")]
    pub token_file: Option<PathBuf>,

    /// How long points are gathered before they are written. `0s` writes each flush, and what a source hands over, at once. Default: 3s.
    #[serde(default = "default_flush_interval")]
    pub flush_interval: Duration,

    /// So many points are written at once, without waiting for `flush_interval`, and no request has more. Default: 5000.
    #[serde(default = "default_flush_points")]
    pub flush_points: usize,

    /// No request's lines are longer than this together, before they are compressed: from 1KiB to 64MiB. InfluxDB 1 takes 25 MB. Default: 4MiB.
    #[serde(default = "default_body_limit")]
    pub body_limit: Size,

    /// Whether requests are compressed. Default: true.
    #[serde(default = "default_gzip")]
    pub gzip: bool,

    /// How long one request may take with its answer. Default: 1m.
    #[serde(default = "default_timeout")]
    pub timeout: Duration,

    /// How many times a request that InfluxDB could not take is sent again in quick succession, after `backoff`, at most 20. If that does not help, the points stay in the queue, and
    /// are written again after longer and longer waits: they are never given up for that reason. Default: 3.
    #[serde(default = "default_retries")]
    pub retries: u32,

    /// The wait before what failed is sent again; it doubles with each failure up to `max_backoff`, and each wait is somewhere between half of that and all of
    /// it. A longer `Retry-After` of the server is kept to, up to 10 minutes. Default: 200ms.
    #[serde(default = "default_backoff")]
    pub backoff: Duration,

    /// The longest of those waits, and the one while InfluxDB does not let us write (401, 403, 404). Default: 30s.
    #[serde(default = "default_max_backoff")]
    pub max_backoff: Duration,

    /// How long a first request to `/ping` may take, by which the log says at the start whether InfluxDB is there. Nothing else depends on it. `0s`: it is not asked. Default: 5s.
    #[serde(default = "default_ping_timeout")]
    pub ping_timeout: Duration,

    /// Stands in front of the names of measurements. Default: empty.
    #[serde(default)]
    pub prefix: String,

    /// The field of points whose name has no suffix. (`api.latency.99percentile` of a timer is the field `99percentile` of the measurement `api.latency`.) Default: `value`.
    #[serde(default = "default_value_field")]
    pub value_field: String,

    /// The tag with the host that points are from, if they have no tag of that key and do not only pass through. Empty: none. Default: `host`.
    #[serde(default = "default_host_tag")]
    pub host_tag: String,

    /// The measurement that events are written to, as text fields. Empty: events are skipped. Default: `events`.
    #[serde(default = "default_events")]
    pub events: String,

    /// What requests say of who makes them. Default: `tributary-aggregator/VERSION`.
    #[serde(default = "default_user_agent")]
    pub user_agent: String,

    /// TLS towards InfluxDB, for a `url` with `https`. Default: the CAs that this system trusts, and no certificate of our own.
    #[serde(default)]
    pub tls: ClientTls,
}

/// How many nodes of a cluster must have a point.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Consistency {
    /// One, or a hint that is to reach it.
    Any,
    /// One.
    One,
    /// More than half.
    Quorum,
    /// All.
    All,
}

/// The database, or the bucket, when none is named.
const DATABASE: &str = "tributary";

fn default_url() -> String {
    "http://127.0.0.1:8086".to_owned()
}

const fn default_version() -> u8 {
    1
}

const fn default_flush_interval() -> Duration {
    Duration::seconds(3)
}

const fn default_flush_points() -> usize {
    5000
}

const fn default_body_limit() -> Size {
    Size::mib(4)
}

const fn default_gzip() -> bool {
    true
}

const fn default_timeout() -> Duration {
    Duration::seconds(60)
}

const fn default_retries() -> u32 {
    3
}

const fn default_backoff() -> Duration {
    Duration::millis(200)
}

const fn default_max_backoff() -> Duration {
    Duration::seconds(30)
}

const fn default_ping_timeout() -> Duration {
    Duration::seconds(5)
}

fn default_value_field() -> String {
    LineFormat::default().value_field
}

fn default_host_tag() -> String {
    LineFormat::default().host_tag
}

fn default_events() -> String {
    LineFormat::default().events
}

fn default_user_agent() -> String {
    concat!("tributary-aggregator/", env!("CARGO_PKG_VERSION")).to_owned()
}

impl InfluxConfig {
    pub(super) fn format(&self) -> LineFormat {
        LineFormat {
            prefix: self.prefix.clone(),
            value_field: self.value_field.clone(),
            host_tag: self.host_tag.clone(),
            events: self.events.clone(),
        }
    }

    /// Where points go.
    pub(super) fn write_uri(&self) -> Result<Uri, String> {
        let mut query = form_urlencoded::Serializer::new(String::new());
        let mut add = |key, value: &str| {
            if !value.is_empty() {
                query.append_pair(key, value);
            }
        };
        let or_default = |name: &'_ str| {
            if name.is_empty() {
                DATABASE.to_owned()
            } else {
                name.to_owned()
            }
        };
        let path = match self.version {
            1 => {
                add(
                    "consistency",
                    self.consistency.map_or("", Consistency::as_str),
                );
                add("db", &or_default(&self.database));
                add("precision", "ns");
                add("rp", &self.retention_policy);
                "/write"
            }
            _ => {
                add("bucket", &or_default(&self.bucket));
                add("org", &self.org);
                add("precision", "ns");
                "/api/v2/write"
            }
        };
        self.uri(path, &query.finish())
    }

    /// Where it is asked whether it is there.
    pub(super) fn ping_uri(&self) -> Result<Uri, String> {
        match self.version {
            1 => {
                let seconds = self.ping_timeout.get().as_secs().max(1);
                self.uri("/ping", &format!("wait_for_leader={seconds}s"))
            }
            _ => self.uri("/ping", ""),
        }
    }

    fn uri(&self, path: &str, query: &str) -> Result<Uri, String> {
        let user = if self.version == 1 { "user" } else { "token" };
        let base = endpoint::parse_base(&self.url, &self.tls, "http://host:8086", user)
            .map_err(|what| format!("url: {what}"))?;
        let mut text = format!("{}{path}", base.path().trim_end_matches('/'));
        if !query.is_empty() {
            text.push('?');
            text.push_str(query);
        }
        let mut parts = base.into_parts();
        let path = PathAndQuery::try_from(text).map_err(|error| format!("url: {error}"))?;
        parts.path_and_query = Some(path);
        Uri::from_parts(parts).map_err(|error| format!("url: {error}"))
    }

    /// Keys that are set and belong to the other version.
    fn out_of_place(&self, problems: &mut Vec<String>) {
        let of_first = [
            ("database", !self.database.is_empty()),
            ("retention_policy", !self.retention_policy.is_empty()),
            ("consistency", self.consistency.is_some()),
            ("user", !self.user.is_empty()),
            ("password", !self.password.is_empty()),
            ("password_file", self.password_file.is_some()),
        ];
        let of_second = [
            ("org", !self.org.is_empty()),
            ("bucket", !self.bucket.is_empty()),
            ("token", !self.token.is_empty()),
            ("token_file", self.token_file.is_some()),
        ];
        let (strange, other): (&[(&str, bool)], _) = match self.version {
            1 => (&of_second, 2),
            2 => (&of_first, 1),
            _ => return,
        };
        for (key, set) in strange {
            if *set {
                problems.push(format!("{key}: is for `version: {other}`"));
            }
        }
    }
}

impl Consistency {
    fn as_str(self) -> &'static str {
        match self {
            Self::Any => "any",
            Self::One => "one",
            Self::Quorum => "quorum",
            Self::All => "all",
        }
    }
}

impl registry::Build for InfluxConfig {
    const EXAMPLE: &'static str = "\
- kind: influxdb
  config:
    url: http://127.0.0.1:8086
    database: metrics
";
    const GUIDE: &'static str = "influxdb.md";

    fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let mut wrong = |key: &str, what: String| problems.push(format!("{key}: {what}"));
        if !matches!(self.version, 1 | 2) {
            wrong("version", format!("{} is neither 1 nor 2", self.version));
        }
        for (key, text) in [
            ("value_field", &self.value_field),
            ("user_agent", &self.user_agent),
        ] {
            if text.is_empty() {
                wrong(key, "is empty".to_owned());
            }
        }
        if http::HeaderValue::from_str(&self.user_agent).is_err() {
            wrong(
                "user_agent",
                format!("{:?} cannot be sent in a header", self.user_agent),
            );
        }
        if self.user.contains(':') {
            wrong(
                "user",
                format!(
                    "{:?} has a colon, which Basic authentication cannot carry",
                    self.user
                ),
            );
        }
        if self.user.is_empty() && (!self.password.is_empty() || self.password_file.is_some()) {
            wrong("user", "is empty, and a password is set".to_owned());
        }
        for (key, secret, file) in [
            ("password_file", &self.password, &self.password_file),
            ("token_file", &self.token, &self.token_file),
        ] {
            if file.is_some() && !secret.is_empty() {
                let other = key.trim_end_matches("_file");
                wrong(key, format!("is set, and `{other}` as well"));
            }
        }
        if http::HeaderValue::from_str(self.token.expose()).is_err() {
            wrong(
                "token",
                "has characters that cannot be sent in a header".to_owned(),
            );
        }
        if self.flush_points == 0 {
            wrong("flush_points", "is zero".to_owned());
        }
        if !(LEAST_BODY..=MOST_BODY).contains(&self.body_limit.get()) {
            wrong(
                "body_limit",
                format!("{} is not between 1KiB and 64MiB", self.body_limit),
            );
        }
        if self.retries > MOST_RETRIES {
            wrong(
                "retries",
                format!("{} is more than {MOST_RETRIES}", self.retries),
            );
        }
        for (key, time) in [("timeout", self.timeout), ("backoff", self.backoff)] {
            if time.is_zero() {
                wrong(key, "is zero".to_owned());
            }
        }
        if self.max_backoff.get() < self.backoff.get() {
            wrong("max_backoff", "is shorter than `backoff`".to_owned());
        }
        self.out_of_place(&mut problems);
        problems.extend(self.write_uri().err());
        let mut tls = Problems::new("");
        self.tls.check("tls", &mut tls);
        problems.extend(
            tls.iter()
                .map(|problem| format!("{}: {}", problem.key, problem.what)),
        );
        problems
    }

    fn build(self, name: &str) -> Result<Box<dyn Sink>, String> {
        Ok(Box::new(Influx::new(self, name)?))
    }
}
