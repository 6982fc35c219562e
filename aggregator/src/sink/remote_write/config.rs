//! What can be set. The fields' documentation is the manual.

use std::collections::BTreeMap;

use http::{HeaderName, HeaderValue, Uri};
use schemars::JsonSchema;
use serde::Deserialize;
use tributary_node::config::{Duration, Problems, Secret};
use tributary_node::tls::ClientTls;

use super::RemoteWrite;
use crate::endpoint;
use crate::prometheus::dial::{Proxy, Way};
use crate::prometheus::login::{Authorization, BasicAuth, Login};
use crate::prometheus::naming::{NamingStyle, check_label, check_prefix};
use crate::sink::{Sink, registry};

const EXAMPLE: &str = "http://host:9090/api/v1/write";

/// Sends points by Prometheus' remote write, 2.0 or 1.0: to Prometheus, Cortex, Mimir, Thanos, VictoriaMetrics and others. It takes the place of Veneur's
/// sink `cortex`, and has its keys. See `docs/prometheus.md`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RemoteWriteConfig {
    /// Where samples go, with the path. Default: `http://localhost:9090/api/v1/write`.
    pub url: String,

    /// Which version is spoken: `auto` begins with 2.0 and goes over to 1.0, for as long as the sink runs, once the server has said (415), or shown (an answer
    /// that does not count samples), that it does not know 2.0; `v1` and `v2` are that alone. Default: `auto`.
    pub protocol: Protocol,

    /// How long one request may take with its answer. Default: 30s.
    pub remote_timeout: Duration,

    /// An HTTP proxy, as `http://[user:password@]host:port`. Default: empty, none.
    pub proxy_url: Secret,

    /// How many samples a request has at most. Default: 2000.
    pub batch_write_size: usize,

    /// Further headers of each request. Default: none.
    pub headers: BTreeMap<String, Secret>,

    /// The tenant, which goes out as `X-Scope-OrgID`. Default: empty, none.
    pub tenant: String,

    /// A user and a password. Default: none.
    pub basic_auth: Option<BasicAuth>,

    /// A token, or what else goes into `Authorization`. Default: none.
    pub authorization: Option<Authorization>,

    /// TLS, for a `url` with `https`. Default: the CAs that this system trusts, and no certificate of our own.
    pub tls: ClientTls,

    /// Whether counters, and the sums and counts of histograms and timers, are added up to totals that only grow, as Prometheus' functions want them. Each
    /// total goes out with each flush until `expire_after`. Otherwise each interval's number goes out as a gauge; that is Veneur's default.
    /// Default: true.
    pub convert_counters_to_monotonic: bool,

    /// How long a total is kept, and sent, that no flush adds to. When it comes again it starts at zero. `0s`: for ever. Default: 1h.
    pub expire_after: Duration,

    /// How many totals are kept at most; points of further counters are refused and counted. Default: 1,000,000.
    pub max_series: usize,

    /// How series are named: `prometheus` writes counters as `…_total` and percentiles as the label `quantile`; `veneur` writes each point's name with its
    /// suffix, `…_99percentile`. Default: `prometheus`.
    pub naming: NamingStyle,

    /// Stands in front of each name as it is: `shop_`. Default: empty.
    pub prefix: String,

    /// The label that has the name of the host that emits, where a series has no tag of that key. Empty: none. Default: `host`.
    pub hostname_label: String,

    /// Labels that each series without them gets. Default: none.
    pub external_labels: BTreeMap<String, String>,

    /// How long points are gathered before they are sent. A request leaves earlier once it is full. Default: 1s.
    pub interval: Duration,

    /// The wait before what failed is sent again; it doubles with each failure up to `max_backoff`, with jitter. A longer `Retry-After` of the server is
    /// kept to, up to 10 minutes. Default: 1s.
    pub backoff: Duration,

    /// The longest of those waits. Default: 1m.
    pub max_backoff: Duration,
}

/// Versions of remote write.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// 2.0, and 1.0 where that is not known.
    #[default]
    Auto,
    /// 1.0.
    V1,
    /// 2.0.
    V2,
}

impl Default for RemoteWriteConfig {
    fn default() -> Self {
        Self {
            url: "http://localhost:9090/api/v1/write".to_owned(),
            protocol: Protocol::Auto,
            remote_timeout: Duration::seconds(30),
            proxy_url: Secret::default(),
            batch_write_size: 2000,
            headers: BTreeMap::new(),
            tenant: String::new(),
            basic_auth: None,
            authorization: None,
            tls: ClientTls::default(),
            convert_counters_to_monotonic: true,
            expire_after: Duration::seconds(3600),
            max_series: 1_000_000,
            naming: NamingStyle::Prometheus,
            prefix: String::new(),
            hostname_label: "host".to_owned(),
            external_labels: BTreeMap::new(),
            interval: Duration::seconds(1),
            backoff: Duration::seconds(1),
            max_backoff: Duration::seconds(60),
        }
    }
}

impl RemoteWriteConfig {
    pub(super) fn uri(&self) -> Result<Uri, String> {
        endpoint::parse(&self.url, &self.tls, EXAMPLE, "basic_auth")
            .map_err(|what| format!("url: {what}"))
    }

    pub(super) fn way(&self) -> Result<Way, String> {
        match self.proxy_url.expose() {
            "" => Ok(Way::Straight),
            url => Proxy::new(url)
                .map(Way::Proxy)
                .map_err(|what| format!("proxy_url: {what}")),
        }
    }

    /// What each request has besides what the protocol asks for.
    pub(super) fn own_headers(&self) -> Result<Vec<(HeaderName, HeaderValue)>, Vec<String>> {
        let mut headers = Vec::new();
        let mut problems = Vec::new();
        let tenant = (!self.tenant.is_empty())
            .then(|| ("tenant".to_owned(), "X-Scope-OrgID", self.tenant.as_str()));
        let given = self.headers.iter();
        let given = given.map(|(name, value)| (format!("headers.{name}"), &**name, value.expose()));
        for (key, name, value) in tenant.into_iter().chain(given) {
            match (name.parse::<HeaderName>(), HeaderValue::try_from(value)) {
                (Ok(name), _) if RESERVED.contains(&name.as_str()) => {
                    problems.push(format!("{key}: belongs to the protocol"));
                }
                (Ok(name), Ok(mut value)) => {
                    value.set_sensitive(true);
                    headers.push((name, value));
                }
                _ => problems.push(format!("{key}: is no header")),
            }
        }
        match problems.is_empty() {
            true => Ok(headers),
            false => Err(problems),
        }
    }
}

/// Headers that are not to be set.
const RESERVED: [&str; 5] = [
    "content-type",
    "content-encoding",
    "content-length",
    "host",
    "x-prometheus-remote-write-version",
];

impl registry::Build for RemoteWriteConfig {
    const EXAMPLE: &'static str = "\
- kind: remote_write
  config:
    url: https://mimir.example.org/api/v1/push
    external_labels: {dc: fra}
";
    const GUIDE: &'static str = "prometheus.md";

    fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        problems.extend(self.uri().err());
        problems.extend(self.way().err());
        problems.extend(self.own_headers().err().into_iter().flatten());
        let (basic, other) = (self.basic_auth.as_ref(), self.authorization.as_ref());
        problems.extend(Login::problems(basic, other));
        let named = self.headers.keys();
        if (basic.is_some() || other.is_some())
            && let Some(name) = named
                .into_iter()
                .find(|name| name.eq_ignore_ascii_case("authorization"))
        {
            problems.push(format!("headers.{name}: is set, and a login as well"));
        }
        for (key, number) in [
            ("batch_write_size", self.batch_write_size),
            ("max_series", self.max_series),
        ] {
            if number == 0 {
                problems.push(format!("{key}: has to be at least 1"));
            }
        }
        problems.extend(check_prefix(&self.prefix).map(|what| format!("prefix: {what}")));
        if !self.hostname_label.is_empty() {
            let what = check_label(&self.hostname_label);
            problems.extend(what.map(|what| format!("hostname_label: {what}")));
        }
        for label in self.external_labels.keys() {
            let what = check_label(label);
            problems.extend(what.map(|what| format!("external_labels: {what}")));
        }
        if self.remote_timeout.is_zero() {
            problems.push("remote_timeout: is zero".to_owned());
        }
        if self.backoff.is_zero() {
            problems.push("backoff: is zero".to_owned());
        }
        if self.max_backoff.get() < self.backoff.get() {
            problems.push("max_backoff: is shorter than `backoff`".to_owned());
        }
        let mut tls = Problems::new("");
        self.tls.check("tls", &mut tls);
        let tls = tls.iter();
        problems.extend(tls.map(|problem| format!("{}: {}", problem.key, problem.what)));
        problems
    }

    fn build(self, name: &str) -> Result<Box<dyn Sink>, String> {
        Ok(Box::new(RemoteWrite::new(&self, name)?))
    }
}
