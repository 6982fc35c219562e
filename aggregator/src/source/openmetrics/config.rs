//! What can be set. The fields' documentation is the manual.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use async_trait::async_trait;
use http::Uri;
use regex::Regex;
use schemars::JsonSchema;
use serde::Deserialize;
use tributary_node::config::{Duration, OneOrMany, Problems, Size};
use tributary_node::tls::ClientTls;

use super::OpenMetrics;
use crate::endpoint;
use crate::prometheus::login::{Authorization, BasicAuth, Login};
use crate::source::{Source, registry};

const EXAMPLE: &str = "http://localhost:9100/metrics";
/// Each has a task and a connection of its own.
const MOST_TARGETS: usize = 10_000;

/// Scrapes pages in Prometheus' text format or in OpenMetrics. It takes the place of Veneur's source `openmetrics` and of `veneur-prometheus`. See
/// `docs/prometheus.md`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct OpenMetricsConfig {
    /// The page's URL, or a list of such. Default: `http://localhost:9090/metrics`.
    pub scrape_target: OneOrMany<String>,

    /// How often each page is fetched; the first time after a part of that, drawn by lot. Default: 10s.
    pub scrape_interval: Duration,

    /// How long one scrape may take, not longer than `scrape_interval`. Default: as long as that.
    pub scrape_timeout: Option<Duration>,

    /// What becomes of what is on a page: `samples` go into the table, where they are aggregated with all others and forwarded, and what a counter grew by
    /// is added to the interval; `points` go to the sinks at once, with the page's timestamps where it has some. Default: `samples`.
    pub mode: Mode,

    /// A regular expression on the name of a family, or of a sample: those that it matches anywhere are taken, and no others. Default: none, all are taken.
    pub allowlist: String,

    /// A regular expression on the name of a family, or of a sample: those that it matches anywhere are not taken. Not used with an `allowlist`. As
    /// `veneur-prometheus`' `-ignored-metrics`, with `|` for its commas. Default: none.
    pub denylist: String,

    /// The tag that has the upper bound of a histogram's bucket. Default: `le`.
    pub histogram_bucket_tag: String,

    /// The tag that has the quantile of a summary. Default: `quantile`.
    pub summary_quantile_tag: String,

    /// Stands in front of each name as it is: `myservice.`. As `veneur-prometheus`' `-p`. Default: empty.
    pub prefix: String,

    /// Tags that each sample gets that has none of that key. As `veneur-prometheus`' `-a`. Default: none.
    pub add_tags: BTreeMap<String, String>,

    /// What labels are called as tags, by label. As `veneur-prometheus`' `-r`. Default: none.
    pub rename_labels: BTreeMap<String, String>,

    /// A regular expression on the names of labels: those that it matches anywhere become no tags. Series that then look the same are added up, or the last
    /// of them counts. As `veneur-prometheus`' `-ignored-labels`, with `|` for its commas. Default: none.
    pub ignored_labels: String,

    /// The tag that has the target's `host:port`. Empty: none. Default: `instance` where there are several targets, and none for a single one.
    pub instance_tag: Option<String>,

    /// The name of a gauge that says after each scrape whether it worked, 1 or 0; the prefix stands in front of it. Empty: none. Default: `up`.
    pub up_metric: String,

    /// A Unix socket that all targets are reached by, in place of their addresses. Default: none.
    pub socket: PathBuf,

    /// TLS, for targets with `https`. Default: the CAs that this system trusts, and no certificate of our own.
    pub tls: ClientTls,

    /// A user and a password. Default: none.
    pub basic_auth: Option<BasicAuth>,

    /// A token, or what else goes into `Authorization`. Default: none.
    pub authorization: Option<Authorization>,

    /// How long a page may be, unpacked. Default: 64MiB.
    pub max_body: Size,

    /// How many samples of a page are taken; further ones are dropped and counted. Default: 100,000.
    pub max_series: usize,
}

/// What becomes of what is on a page.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// It is aggregated.
    #[default]
    Samples,
    /// It passes through.
    Points,
}

impl Default for OpenMetricsConfig {
    fn default() -> Self {
        Self {
            scrape_target: vec!["http://localhost:9090/metrics".to_owned()].into(),
            scrape_interval: Duration::seconds(10),
            scrape_timeout: None,
            mode: Mode::Samples,
            allowlist: String::new(),
            denylist: String::new(),
            histogram_bucket_tag: "le".to_owned(),
            summary_quantile_tag: "quantile".to_owned(),
            prefix: String::new(),
            add_tags: BTreeMap::new(),
            rename_labels: BTreeMap::new(),
            ignored_labels: String::new(),
            instance_tag: None,
            up_metric: "up".to_owned(),
            socket: PathBuf::new(),
            tls: ClientTls::default(),
            basic_auth: None,
            authorization: None,
            max_body: Size::mib(64),
            max_series: 100_000,
        }
    }
}

impl OpenMetricsConfig {
    pub(super) fn timeout(&self) -> Duration {
        self.scrape_timeout.unwrap_or(self.scrape_interval)
    }

    pub(super) fn targets(&self) -> Result<Vec<Uri>, Vec<String>> {
        let mut targets = Vec::new();
        let mut problems = Vec::new();
        let mut seen = BTreeSet::new();
        for url in &self.scrape_target {
            if !seen.insert(url) {
                problems.push("scrape_target: has the same URL twice".to_owned());
            }
            match endpoint::parse(url, &self.tls_of(url), EXAMPLE, "basic_auth") {
                Ok(uri) => targets.push(uri),
                Err(what) => problems.push(format!("scrape_target: {what}")),
            }
        }
        match problems.is_empty() {
            true => Ok(targets),
            false => Err(problems),
        }
    }

    /// Targets may be with and without TLS; the settings are for the former.
    fn tls_of(&self, url: &str) -> ClientTls {
        match url.starts_with("http://") && self.scrape_target.len() > 1 {
            true => ClientTls::default(),
            false => self.tls.clone(),
        }
    }

    /// The expression under `key`; `None` for an empty one.
    pub(super) fn regex(key: &str, text: &str) -> Result<Option<Regex>, String> {
        if text.is_empty() {
            return Ok(None);
        }
        Regex::new(text).map(Some).map_err(|error| {
            // The crate draws the place over several lines; the last says what is wrong.
            let text = error.to_string();
            let last = text.lines().last().unwrap_or_default().trim();
            let cause = last.trim_start_matches("error: ");
            format!("{key}: is no regular expression: {cause}")
        })
    }
}

#[async_trait]
impl registry::Build for OpenMetricsConfig {
    const EXAMPLE: &'static str = "\
- kind: openmetrics
  config:
    scrape_target: [\"http://127.0.0.1:9100/metrics\"]
    scrape_interval: 15s
";
    const GUIDE: &'static str = "prometheus.md";

    fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if self.scrape_target.is_empty() || self.scrape_target.len() > MOST_TARGETS {
            problems.push(format!("scrape_target: has to be 1 to {MOST_TARGETS} URLs"));
        }
        problems.extend(self.targets().err().into_iter().flatten());
        let secure = |url: &String| url.starts_with("https:");
        if !self.socket.as_os_str().is_empty() && self.scrape_target.iter().any(secure) {
            problems.push("socket: is for targets without TLS, write http://".to_owned());
        }
        if self.scrape_interval.is_zero() {
            problems.push("scrape_interval: is zero".to_owned());
        }
        if self.timeout().is_zero() || self.timeout().get() > self.scrape_interval.get() {
            problems.push("scrape_timeout: is zero, or longer than `scrape_interval`".to_owned());
        }
        for (key, text) in [
            ("allowlist", &self.allowlist),
            ("denylist", &self.denylist),
            ("ignored_labels", &self.ignored_labels),
        ] {
            problems.extend(Self::regex(key, text).err());
        }
        if !self.allowlist.is_empty() && !self.denylist.is_empty() {
            problems.push("denylist: has no meaning with an `allowlist`".to_owned());
        }
        for (key, tag) in [
            ("histogram_bucket_tag", &self.histogram_bucket_tag),
            ("summary_quantile_tag", &self.summary_quantile_tag),
        ] {
            if tag.is_empty() {
                problems.push(format!("{key}: is empty"));
            }
        }
        if self.max_series == 0 {
            problems.push("max_series: has to be at least 1".to_owned());
        }
        if self.max_body.get() == 0 {
            problems.push("max_body: is zero".to_owned());
        }
        let (basic, other) = (self.basic_auth.as_ref(), self.authorization.as_ref());
        problems.extend(Login::problems(basic, other));
        let mut tls = Problems::new("");
        self.tls.check("tls", &mut tls);
        let tls = tls.iter();
        problems.extend(tls.map(|problem| format!("{}: {}", problem.key, problem.what)));
        problems
    }

    async fn open(self, name: &str) -> Result<Box<dyn Source>, String> {
        Ok(Box::new(OpenMetrics::open(&self, name)?))
    }
}
