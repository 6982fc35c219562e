//! What can be set. The fields' documentation is the manual.

use std::path::PathBuf;

use http::Uri;
use http::uri::PathAndQuery;
use schemars::JsonSchema;
use serde::Deserialize;
use tributary_node::config::{Duration, Problems, Size};
use tributary_node::tls::ClientTls;

use super::Blueflood;
use crate::endpoint;
use crate::graphite::naming::{Naming, NamingConfig, TagStyle};
use crate::sink::http::encoded;
use crate::sink::{Sink, registry};

/// What Blueflood takes at most in one request, in bytes.
pub(super) const MOST: u64 = 1_048_576;

/// Room for a point with a name that is worth the name.
const LEAST: u64 = 256;

/// Sends points to the ingest API of a Blueflood, with a login at Keystone where it asks for one.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BluefloodConfig {
    /// Where Blueflood takes metrics, as `http://host:port` or `https://host:port`, with a path in front of `/v2.0` where a gateway wants one.
    /// Default: `http://localhost:19000`.
    #[serde(default = "default_url")]
    pub url: String,

    /// The tenant that the points are stored for: a part of the path, `{url}/v2.0/{tenant}/ingest`. Write a number in quotes.
    pub tenant: String,

    /// Stands in front of each name, with a dot between. Default: empty.
    #[serde(default)]
    pub prefix: String,

    /// What becomes of tags, which Blueflood does not have: `flatten` makes one name of name and tags by `template`; `graphite` writes
    /// `name;key=value;…`, sorted; `drop` leaves them out, so that series that differ in tags only become one. Default: `flatten`.
    #[serde(default = "default_tags")]
    pub tags: TagStyle,

    /// For `flatten`: the name, with `{name}`, `{KEY}` for the value of the tag with that key (`none` where there is no such tag), and `{tags}` for
    /// all other tags as `key.value`, joined by dots. Dots in values become `_`. Default: `{name}.{tags}`.
    #[serde(default)]
    pub template: String,

    /// How long Blueflood keeps the points, in whole seconds: 1s to 2147483647s. Default: 24h.
    #[serde(default = "default_ttl")]
    pub ttl: Duration,

    /// How long points are gathered before they are sent, so that one request carries what came in that time. A request leaves earlier once there
    /// are enough points to fill it. `0s` sends each flush, and what a source hands over, at once. Default: 30s.
    #[serde(default = "default_interval")]
    pub interval: Duration,

    /// No request's body is longer than this; what is more goes into further requests. Between 256 bytes and the 1MiB that Blueflood takes. Lower it for
    /// a gateway that takes less. Default: 1MiB.
    #[serde(default = "default_body_limit")]
    pub body_limit: Size,

    /// Whether points get the time at which they are first sent in place of their own. Those of one series that are sent together then have one
    /// time, and Blueflood keeps one of them. Default: false.
    #[serde(default)]
    pub overwrite_collection_timestamp: bool,

    /// How long one request, or one login, may take with its answer. Default: 30s.
    #[serde(default = "default_timeout")]
    pub timeout: Duration,

    /// The wait before what failed is sent again; it doubles with each failure up to `max_backoff`, and each wait is somewhere between half of that and all
    /// of it, so that many senders do not come back at once. A longer `Retry-After` of the server is kept to, up to 10 minutes. Default: 1s.
    #[serde(default = "default_backoff")]
    pub backoff: Duration,

    /// The longest of those waits. Default: 1m.
    #[serde(default = "default_max_backoff")]
    pub max_backoff: Duration,

    /// How many times points are sent again that Blueflood refused by name and for another reason than what they are: it could not store them. After
    /// that they are dropped. Points that break a rule (a time too far away, an empty name) are dropped at once, and while the whole of Blueflood is away
    /// nothing is dropped but what `queue_points` has no room for. Default: 3.
    #[serde(default = "default_retries")]
    pub retries: u32,

    /// TLS towards Blueflood, for a `url` with `https`. Default: the CAs that this system trusts, and no certificate of our own.
    #[serde(default)]
    pub tls: ClientTls,

    /// The login. Default: none, requests go without a token.
    #[serde(default)]
    pub keystone: Option<KeystoneConfig>,
}

/// A login at OpenStack's identity service, whose token goes with each request as `X-Auth-Token`, and the tenant (project) of the token as `X-Tenant-Id`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KeystoneConfig {
    /// Where tokens are made, with the path: `https://host:5000/v2.0/tokens`, or `https://host:5000/v3/auth/tokens` for `v3`.
    /// Default: `https://identity.api.rackspacecloud.com/v2.0/tokens`.
    #[serde(default = "default_keystone_url")]
    pub url: String,

    /// `v2` (the default) for identity v2.0: Rackspace and OpenStack before Queens; `v3` for OpenStack's of today.
    #[serde(default)]
    pub version: Version,

    /// Who logs in.
    pub user: String,

    /// A file with the API key of the user (Rackspace's `apiKeyCredentials`, `v2` only). It is read at each login, so that a new key needs no restart. White space
    /// around the key does not count.
    #[serde(default, deserialize_with = "crate::options::given_path")]
    pub key_file: Option<PathBuf>,

    /// A file with the password of the user, in place of `key_file`; read at each login.
    #[serde(default, deserialize_with = "crate::options::given_path")]
    pub password_file: Option<PathBuf>,

    /// `v2` with a password: the name of the tenant that the token is for. Default: empty, the user's own.
    #[serde(default)]
    pub tenant_name: String,

    /// `v2` with a password: the id of the tenant that the token is for, in place of `tenant_name`. Default: empty.
    #[serde(default)]
    pub tenant_id: String,

    /// `v3`: the name of the project that the token is for. Default: empty, the user's own.
    #[serde(default)]
    pub project: String,

    /// `v3`: the name of the domain of the project. Default: `Default`.
    #[serde(default = "default_domain")]
    pub project_domain: String,

    /// `v3`: the name of the domain of the user. Default: `Default`.
    #[serde(default = "default_domain")]
    pub user_domain: String,

    /// TLS towards Keystone, for a `url` with `https`. Default: the CAs that this system trusts, and no certificate of our own.
    #[serde(default)]
    pub tls: ClientTls,
}

/// Which identity API is spoken.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Version {
    /// Identity v2.0.
    #[default]
    V2,
    /// Identity v3.
    V3,
}

fn default_url() -> String {
    "http://localhost:19000".to_owned()
}

fn default_keystone_url() -> String {
    "https://identity.api.rackspacecloud.com/v2.0/tokens".to_owned()
}

fn default_domain() -> String {
    "Default".to_owned()
}

const fn default_tags() -> TagStyle {
    TagStyle::Flatten
}

const fn default_ttl() -> Duration {
    Duration::seconds(86_400)
}

const fn default_interval() -> Duration {
    Duration::seconds(30)
}

const fn default_timeout() -> Duration {
    Duration::seconds(30)
}

const fn default_backoff() -> Duration {
    Duration::seconds(1)
}

const fn default_max_backoff() -> Duration {
    Duration::seconds(60)
}

const fn default_retries() -> u32 {
    3
}

const fn default_body_limit() -> Size {
    Size::bytes(MOST)
}

impl BluefloodConfig {
    pub(super) fn naming(&self) -> Result<Naming, String> {
        Naming::new(&NamingConfig {
            prefix: self.prefix.clone(),
            tags: self.tags,
            template: self.template.clone(),
        })
    }

    /// Where points go.
    pub(super) fn ingest(&self) -> Result<Uri, String> {
        let base = endpoint::parse_base(&self.url, &self.tls, "http://host:19000", "keystone")
            .map_err(|what| format!("url: {what}"))?;
        let path = base.path().trim_end_matches('/');
        let path = format!("{path}/v2.0/{}/ingest", encoded(&self.tenant));
        let mut parts = base.clone().into_parts();
        parts.path_and_query =
            Some(PathAndQuery::try_from(path).map_err(|error| format!("tenant: {error}"))?);
        Uri::from_parts(parts).map_err(|error| format!("url: {error}"))
    }
}

impl KeystoneConfig {
    /// Where tokens are made.
    pub(super) fn endpoint(&self) -> Result<Uri, String> {
        endpoint::parse_base(&self.url, &self.tls, "http://host:19000", "keystone")
            .map_err(|what| format!("keystone.url: {what}"))
    }

    fn problems(&self, problems: &mut Vec<String>) {
        let mut wrong = |key: &str, what: &str| problems.push(format!("keystone.{key}: {what}"));
        if self.user.is_empty() {
            wrong(
                "user",
                "is empty; leave out `keystone` to go without a token",
            );
        }
        match (&self.key_file, &self.password_file) {
            (None, None) => wrong("key_file", "neither it nor `password_file` is set"),
            (Some(_), Some(_)) => wrong("key_file", "is set, and `password_file` as well"),
            (Some(_), None) if self.version == Version::V3 => {
                wrong(
                    "key_file",
                    "is for `version: v2`; v3 takes a `password_file`",
                );
            }
            _ => {}
        }
        let tenant = !self.tenant_name.is_empty() || !self.tenant_id.is_empty();
        if tenant && (self.version == Version::V3 || self.password_file.is_none()) {
            let key = if self.tenant_name.is_empty() {
                "tenant_id"
            } else {
                "tenant_name"
            };
            wrong(key, "is for `version: v2` with a `password_file`");
        }
        if !self.tenant_name.is_empty() && !self.tenant_id.is_empty() {
            wrong("tenant_id", "is set, and `tenant_name` as well");
        }
        if !self.project.is_empty() && self.version == Version::V2 {
            wrong("project", "is for `version: v3`");
        }
    }
}

impl registry::Build for BluefloodConfig {
    const EXAMPLE: &'static str = "\
- kind: blueflood
  config:
    url: http://127.0.0.1:19000
    tenant: \"123456\"
";
    const GUIDE: &'static str = "from-blueflood-carbon-forwarder.md";

    fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        problems.extend(self.ingest().err());
        if self.tenant.is_empty() {
            problems.push("tenant: is empty".to_owned());
        }
        problems.extend(self.naming().err());
        let ttl = self.ttl.get();
        if ttl.subsec_nanos() > 0 || !(1..=i32::MAX as u64).contains(&ttl.as_secs()) {
            problems.push(format!(
                "ttl: {} is not a number of whole seconds from 1s to 2147483647s",
                self.ttl
            ));
        }
        if !(LEAST..=MOST).contains(&self.body_limit.get()) {
            problems.push(format!(
                "body_limit: {} is not between {LEAST} and the {MOST} bytes that Blueflood takes",
                self.body_limit
            ));
        }
        if self.timeout.get().is_zero() {
            problems.push("timeout: is zero".to_owned());
        }
        if self.backoff.get().is_zero() {
            problems.push("backoff: is zero".to_owned());
        }
        if self.max_backoff.get() < self.backoff.get() {
            problems.push("max_backoff: is shorter than `backoff`".to_owned());
        }
        let mut tls = Problems::new("");
        self.tls.check("tls", &mut tls);
        if let Some(keystone) = &self.keystone {
            problems.extend(keystone.endpoint().err());
            keystone.problems(&mut problems);
            keystone.tls.check("keystone.tls", &mut tls);
        }
        problems.extend(
            tls.iter()
                .map(|problem| format!("{}: {}", problem.key, problem.what)),
        );
        problems
    }

    fn build(self, name: &str) -> Result<Box<dyn Sink>, String> {
        Ok(Box::new(Blueflood::new(&self, name)?))
    }
}
