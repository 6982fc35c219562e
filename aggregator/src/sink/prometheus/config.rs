//! What can be set. The fields' documentation is the manual.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Deserialize;
use tributary_node::admin::check_address;
use tributary_node::config::{Duration, Problems, Secret};
use tributary_node::tls::ServerTls;

use super::PrometheusSink;
use crate::prometheus::login::{BasicAuth, one_of};
use crate::prometheus::naming::{check_label, check_prefix};
use crate::sink::{Sink, registry};

/// A page that a Prometheus scrapes: the last value of each series, totals for counters, summaries for histograms and timers. See `docs/prometheus.md`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PrometheusConfig {
    /// `host:port` to listen on; `:9102` for all of this host's addresses. Default: `127.0.0.1:9102`.
    pub listen: String,

    /// The path of the page. Default: `/metrics`.
    pub path: String,

    /// TLS, and clients' certificates. Default: none.
    pub tls: ServerTls,

    /// A user and a password that scrapes have to bring. Default: none. Its `password_file` is read once, at the start.
    pub basic_auth: Option<BasicAuth>,

    /// A token that scrapes have to bring, as `Authorization: Bearer …`. Better a `bearer_token_file`. Default: none.
    pub bearer_token: Secret,

    /// A file whose first line is that token; it is read once, at the start. Default: none.
    pub bearer_token_file: PathBuf,

    /// Stands in front of each name as it is: `shop_`. Default: empty.
    pub prefix: String,

    /// The label that has the name of the host that emits. Prometheus adds `instance` by itself. Default: empty, none.
    pub hostname_label: String,

    /// How long a gauge, or a quantile, that no flush brings any more stays on the page. `0s`: for ever. Default: 5m.
    pub expire_after: Duration,

    /// How long a counter, or the sum and count of a summary, stays that no flush brings any more. When it comes again it starts at zero, and what it
    /// then begins with is not seen by `rate`: so longer is better, and costs memory. `0s`: for ever. Default: 1h.
    pub expire_counters_after: Duration,

    /// How many series the page holds at most; a summary counts as one. Points of further ones are refused and counted. Default: 1,000,000.
    pub max_series: usize,

    /// Whether OpenMetrics pages say when each counter began, as `…_created`. A Prometheus without the feature `created-timestamp-zero-ingestion` stores these
    /// as series of their own. Default: false.
    pub created_timestamps: bool,

    /// How many connections may be open at a time. Default: 64.
    pub max_connections: usize,
}

impl Default for PrometheusConfig {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:9102".to_owned(),
            path: "/metrics".to_owned(),
            tls: ServerTls::default(),
            basic_auth: None,
            bearer_token: Secret::default(),
            bearer_token_file: PathBuf::new(),
            prefix: String::new(),
            hostname_label: String::new(),
            expire_after: Duration::seconds(300),
            expire_counters_after: Duration::seconds(3600),
            max_series: 1_000_000,
            created_timestamps: false,
            max_connections: 64,
        }
    }
}

impl PrometheusConfig {
    fn has_bearer(&self) -> bool {
        !(self.bearer_token.is_empty() && self.bearer_token_file.as_os_str().is_empty())
    }
}

impl registry::Build for PrometheusConfig {
    const EXAMPLE: &'static str = "\
- kind: prometheus
  config:
    listen: \":9102\"
";
    const GUIDE: &'static str = "prometheus.md";

    fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if let Err(error) = check_address(&self.listen) {
            problems.push(format!("listen: {error}"));
        }
        if !self.path.starts_with('/') || self.path.contains(['?', '#', ' ']) {
            problems.push(format!("path: `{}` is not like /metrics", self.path));
        }
        if let Some(basic) = &self.basic_auth {
            if basic.username.is_empty() || basic.username.contains(':') {
                problems.push("basic_auth.username: is empty or has a `:`".to_owned());
            }
            let file = &basic.password_file;
            problems.extend(one_of("basic_auth.password", &basic.password, file));
        }
        if self.has_bearer() {
            let file = &self.bearer_token_file;
            problems.extend(one_of("bearer_token", &self.bearer_token, file));
            if self.basic_auth.is_some() {
                problems.push("bearer_token: is set, and `basic_auth` as well".to_owned());
            }
        }
        problems.extend(check_prefix(&self.prefix).map(|what| format!("prefix: {what}")));
        if !self.hostname_label.is_empty() {
            let what = check_label(&self.hostname_label);
            problems.extend(what.map(|what| format!("hostname_label: {what}")));
        }
        for (key, number) in [
            ("max_series", self.max_series),
            ("max_connections", self.max_connections),
        ] {
            if number == 0 {
                problems.push(format!("{key}: has to be at least 1"));
            }
        }
        let mut tls = Problems::new("");
        self.tls.check("tls", &mut tls);
        let tls = tls.iter();
        problems.extend(tls.map(|problem| format!("{}: {}", problem.key, problem.what)));
        problems
    }

    fn build(self, name: &str) -> Result<Box<dyn Sink>, String> {
        Ok(Box::new(PrometheusSink::open(&self, name)?))
    }
}
