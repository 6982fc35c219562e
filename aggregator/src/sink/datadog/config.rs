//! What can be set. The fields' documentation is the manual.

use std::path::PathBuf;

use http::Uri;
use http::uri::PathAndQuery;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tributary_node::config::{Duration, Problems, Secret};
use tributary_node::tls::ClientTls;

use super::Datadog;
use super::body::Format;
use crate::endpoint;
use crate::sink::{Sink, registry};

/// Sends points, service checks and events to Datadog, or to what takes Datadog's API.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct DatadogConfig {
    /// The API key (not an application key). Either it or `api_key_file` is required.
    pub api_key: Secret,

    /// A file with the API key, in place of `api_key`. It is read for each write, so that a new key needs no restart. White space around the key does not
    /// count.
    #[serde(deserialize_with = "crate::options::given_path")]
    pub api_key_file: Option<PathBuf>,

    /// Datadog's site, as in the browser's address without `app.`: `datadoghq.com`, `datadoghq.eu`, `us3.datadoghq.com`, `us5.datadoghq.com`,
    /// `ap1.datadoghq.com`, `ddog-gov.com`. Points go to `https://api.{site}`. Default: `datadoghq.com`.
    pub site: Option<String>,

    /// In place of `site`: the whole address, as Veneur has it, `https://app.datadoghq.com`, for a proxy, or for another program that takes Datadog's API.
    pub api_hostname: Option<String>,

    /// How many points go into one request at most; as much as is gathered with `interval`. A body is also kept below Datadog's own limits of 5,242,880 bytes,
    /// and 512,000 compressed. Default: 25,000.
    pub flush_max_per_body: usize,

    /// What becomes of counters. `count` (the default): the interval's total, with the interval, Datadog's type for it. `rate`: the total divided by the interval, as
    /// Veneur sends it. Datadog shows the same with `.as_count()` and `.as_rate()` for both; a query without either shows counts as totals, and rates by
    /// the second. A metric that is known as one should not become the other: take `rate` when you come from Veneur. Points that only pass through have no interval:
    /// they are always counts.
    pub counters: Counters,

    /// Points whose name starts with one of these are not sent; they count as skipped. Default: none.
    pub metric_name_prefix_drops: Vec<String>,

    /// Tags to leave out from points whose name starts with a prefix. Where several entries match, all of them count. Default: none.
    pub exclude_tags_prefix_by_prefix_metric: Vec<TagExclusion>,

    /// How series are compressed: `gzip` (the default), `deflate`, or `none`. Service checks and events are not compressed: Datadog does not promise to
    /// read those.
    pub compression: Encoding,

    /// How long points are gathered before they are sent. `0s` (the default) sends each flush, and what a source hands over, at once. With sources that pass points
    /// through, some seconds make fewer requests.
    pub interval: Duration,

    /// How long one request may take with its answer. Default: 30s.
    pub timeout: Duration,

    /// The wait before what failed is sent again; it doubles with each failure up to `max_backoff`, and each wait is somewhere between half of that and all of
    /// it. A longer `Retry-After` of the server is kept to, up to 10 minutes. Default: 1s.
    pub backoff: Duration,

    /// The longest of those waits, and the one after a key was refused. Default: 1m.
    pub max_backoff: Duration,

    /// TLS. Default: the CAs that this system trusts, and no certificate of our own.
    pub tls: ClientTls,
}

/// Tags that some points go without.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TagExclusion {
    /// What the point's name starts with.
    pub metric_prefix: String,

    /// A tag that starts with one of these is left out: `host_` or `env:`.
    pub tags: Vec<String>,
}

/// What becomes of counters.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Counters {
    /// The interval's total.
    #[default]
    Count,
    /// By the second.
    Rate,
}

/// How a body is compressed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Encoding {
    /// As gzip.
    #[default]
    Gzip,
    /// In zlib's format, which HTTP calls deflate.
    Deflate,
    /// Not at all.
    None,
}

impl Default for DatadogConfig {
    fn default() -> Self {
        Self {
            api_key: Secret::default(),
            api_key_file: None,
            site: None,
            api_hostname: None,
            flush_max_per_body: 25_000,
            counters: Counters::default(),
            metric_name_prefix_drops: Vec::new(),
            exclude_tags_prefix_by_prefix_metric: Vec::new(),
            compression: Encoding::default(),
            interval: Duration::seconds(0),
            timeout: Duration::seconds(30),
            backoff: Duration::seconds(1),
            max_backoff: Duration::seconds(60),
            tls: ClientTls::default(),
        }
    }
}

const SITE: &str = "datadoghq.com";
const LIKE: &str = "https://app.datadoghq.com";

impl DatadogConfig {
    pub(super) fn format(&self) -> Format {
        Format {
            rates: self.counters == Counters::Rate,
            drops: self.metric_name_prefix_drops.clone(),
            exclusions: self.exclude_tags_prefix_by_prefix_metric.clone(),
            most: self.flush_max_per_body,
        }
    }

    /// Where a path of the API is.
    pub(super) fn uri(&self, path: &str) -> Result<Uri, String> {
        let (key, url) = match (&self.api_hostname, &self.site) {
            (Some(url), None) => ("api_hostname", url.clone()),
            (None, site) => {
                let site = site.as_deref().unwrap_or(SITE);
                ("site", format!("https://api.{site}"))
            }
            (Some(_), Some(_)) => return Err("site: is set, and `api_hostname` as well".to_owned()),
        };
        let wrong = |what: String| format!("{key}: {what}");
        let base = endpoint::parse_base(&url, &self.tls, LIKE, "api_key").map_err(wrong)?;
        let path = format!("{}{path}", base.path().trim_end_matches('/'));
        let mut parts = base.into_parts();
        let path = PathAndQuery::try_from(path).map_err(|error| wrong(error.to_string()))?;
        parts.path_and_query = Some(path);
        Uri::from_parts(parts).map_err(|error| wrong(error.to_string()))
    }
}

impl registry::Build for DatadogConfig {
    const EXAMPLE: &'static str = "\
- kind: datadog
  config:
    site: datadoghq.eu
    api_key: 0123456789abcdef0123456789abcdef
";
    const GUIDE: &'static str = "datadog.md";

    fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        match (&self.api_key_file, self.api_key.is_empty()) {
            (None, true) => {
                problems.push("api_key: neither it nor `api_key_file` is set".to_owned())
            }
            (Some(_), false) => {
                problems.push("api_key: is set, and `api_key_file` as well".to_owned());
            }
            _ => {}
        }
        if !self.api_key.expose().bytes().all(|b| b.is_ascii_graphic()) {
            problems.push("api_key: holds white space, or what is not ASCII".to_owned());
        }
        let site = self.site.as_deref().unwrap_or(SITE);
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-');
        if site.is_empty() || !site.bytes().all(plain) {
            problems.push(format!(
                "site: `{site}` is no site, write it like datadoghq.eu; an address goes to `api_hostname`"
            ));
        } else {
            problems.extend(self.uri("/").err());
        }
        if self.flush_max_per_body == 0 {
            problems.push("flush_max_per_body: has to be 1 at least".to_owned());
        }
        if self.metric_name_prefix_drops.iter().any(String::is_empty) {
            problems.push(
                "metric_name_prefix_drops: holds an empty prefix, which would drop everything"
                    .to_owned(),
            );
        }
        for (index, exclusion) in self.exclude_tags_prefix_by_prefix_metric.iter().enumerate() {
            if exclusion.tags.iter().any(String::is_empty) {
                problems.push(format!(
                    "exclude_tags_prefix_by_prefix_metric[{index}].tags: holds an empty prefix, which would leave out every tag"
                ));
            }
        }
        for (key, value) in [("timeout", self.timeout), ("backoff", self.backoff)] {
            if value.is_zero() {
                problems.push(format!("{key}: is zero"));
            }
        }
        if self.max_backoff < self.backoff {
            problems.push("max_backoff: is shorter than `backoff`".to_owned());
        }
        let mut tls = Problems::new("");
        self.tls.check("tls", &mut tls);
        problems.extend(
            tls.iter()
                .map(|problem| format!("{}: {}", problem.key, problem.what)),
        );
        problems
    }

    fn build(self, name: &str) -> Result<Box<dyn Sink>, String> {
        Ok(Box::new(Datadog::new(&self, name)?))
    }
}
