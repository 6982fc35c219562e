//! What can be set. The fields' documentation is the manual.

use std::collections::BTreeMap;
use std::path::PathBuf;

use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Uri};
use schemars::JsonSchema;
use serde::Deserialize;
use tributary_node::config::{Duration, Problems, Size};
use tributary_node::tls::ClientTls;

use super::Otlp;
use super::exponential::LEAST_BUCKETS;
use crate::endpoint;
use crate::sink::{Sink, registry};

/// Sends points to whatever takes OpenTelemetry's protocol (OTLP): the OpenTelemetry Collector, and most services and databases for metrics.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct OtlpConfig {
    /// Where it is sent, as `http://host:port` or `https://host:port`. For `protocol: http` a URL without a path gets `/v1/metrics`, and another path is
    /// kept as it is. Default: `http://localhost:4317`, or `http://localhost:4318` for `protocol: http`.
    pub url: Option<String>,

    /// `grpc` (the default), or `http`: protobuf in the body of an HTTP/1.1 POST.
    pub protocol: Protocol,

    /// Headers of each request (for gRPC: metadata), such as a tenant. Default: none.
    pub headers: BTreeMap<String, String>,

    /// Headers whose values are secrets: the name, and a file with the value. It is read at each write, so that a new key needs no restart. White space around
    /// the value does not count. Default: none.
    pub header_files: BTreeMap<String, PathBuf>,

    /// `gzip` (the default) or `none`.
    pub compression: Compression,

    /// How long one request may take with its answer. Default: 10s.
    pub timeout: Duration,

    /// The wait before what failed is sent again; it doubles with each failure up to `max_backoff`, and each wait is somewhere between half of that and all
    /// of it. A longer wait that the server asks for is kept to, up to 10 minutes. Default: 1s.
    pub backoff: Duration,

    /// The longest of those waits. Default: 1m.
    pub max_backoff: Duration,

    /// Attributes of the resource that everything is from. `service.name` is `tributary` unless it is set here, `host.name` the host of the aggregator, unless it is set here
    /// or the aggregator's hostname is empty. An empty value leaves an attribute out. Default: none besides these two.
    pub resource_attributes: BTreeMap<String, String>,

    /// What a counter's value is: `delta` (the default), what came in the interval; or `cumulative`, the sum since this program first saw the series, which it has
    /// to remember (`max_series`, `series_expiry`). Histograms are always deltas.
    pub temporality: Temporality,

    /// Whether counters only ever grow. Applications may count down as well (`stock:-1|c`), so by default counters are sent as sums that are not monotonic, which
    /// some receivers show as levels. With `true`, interval totals below zero are skipped. The count of a histogram's samples is monotonic in any
    /// case. Default: false.
    pub monotonic_counters: bool,

    /// How histograms and timers are sent. `exponential` (the default): as exponential histograms with count, sum, minimum and maximum. `summary`: as a
    /// summary with `quantiles`. `points`: as the gauges and counts that all other sinks get, by the settings `percentiles` and `aggregates`; of those at least
    /// one has to be there for either of the other forms as well.
    pub histograms: Histograms,

    /// How many buckets an exponential histogram has at most for values above zero, and as many for values below. The more, the smaller the error. Default: 160.
    pub max_buckets: usize,

    /// For `histograms: summary`: which quantiles, from 0 (the minimum) to 1 (the maximum). Default: 0, 0.5, 0.75, 0.9, 0.95, 0.99, 1.
    pub quantiles: Vec<f64>,

    /// No request has more data points than this. Default: 8192.
    pub max_points_per_request: usize,

    /// No request is longer than this before it is compressed. Receivers of gRPC take 4MiB unless they are told otherwise. Default: 4MiB.
    pub max_request_bytes: Size,

    /// For `temporality: cumulative`: so many series are remembered at most; counters beyond them are skipped. Default: 1000000.
    pub max_series: usize,

    /// For `temporality: cumulative`: a series is forgotten after so long without a value, and begins anew after that. Default: 1h.
    pub series_expiry: Duration,

    /// TLS, for a `url` with `https`. Default: the CAs that this system trusts, and no certificate of our own.
    pub tls: ClientTls,
}

/// How requests travel.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// OTLP/gRPC.
    #[default]
    Grpc,
    /// OTLP/HTTP with protobuf.
    Http,
}

/// How requests are packed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// By gzip.
    #[default]
    Gzip,
    /// Not at all.
    None,
}

/// What a counter's value is since.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Temporality {
    /// The interval's start.
    #[default]
    Delta,
    /// The series' first interval.
    Cumulative,
}

/// In which form histograms and timers are sent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Histograms {
    /// Exponential histograms.
    #[default]
    Exponential,
    /// Summaries.
    Summary,
    /// As points.
    Points,
}

impl Default for OtlpConfig {
    fn default() -> Self {
        Self {
            url: None,
            protocol: Protocol::default(),
            headers: BTreeMap::new(),
            header_files: BTreeMap::new(),
            compression: Compression::default(),
            timeout: Duration::seconds(10),
            backoff: Duration::seconds(1),
            max_backoff: Duration::seconds(60),
            resource_attributes: BTreeMap::new(),
            temporality: Temporality::default(),
            monotonic_counters: false,
            histograms: Histograms::default(),
            max_buckets: 160,
            quantiles: vec![0.0, 0.5, 0.75, 0.9, 0.95, 0.99, 1.0],
            max_points_per_request: 8192,
            max_request_bytes: Size::bytes(4 << 20),
            max_series: 1_000_000,
            series_expiry: Duration::seconds(3600),
            tls: ClientTls::default(),
        }
    }
}

impl OtlpConfig {
    /// Where requests go.
    pub(super) fn endpoint(&self) -> Result<Uri, String> {
        let default = match self.protocol {
            Protocol::Grpc => "http://localhost:4317",
            Protocol::Http => "http://localhost:4318",
        };
        let wrong = |what: &str| Err(format!("url: {what}"));
        let url = self.url.as_deref().unwrap_or(default);
        let uri = endpoint::parse(url, &self.tls, default, "header_files")
            .or_else(|what| wrong(&what))?;
        let bare = uri.path().trim_end_matches('/').is_empty() && uri.query().is_none();
        match (self.protocol, bare) {
            (Protocol::Grpc, false) => wrong("has a path, which gRPC does not know"),
            (Protocol::Grpc, true) | (Protocol::Http, false) => Ok(uri),
            (Protocol::Http, true) => {
                let mut parts = uri.into_parts();
                parts.path_and_query = Some(PathAndQuery::from_static("/v1/metrics"));
                Uri::from_parts(parts).map_err(|error| format!("url: {error}"))
            }
        }
    }

    /// The headers that are no secrets.
    pub(super) fn plain_headers(&self) -> Result<HeaderMap, String> {
        let mut headers = HeaderMap::new();
        for (name, value) in &self.headers {
            let value = HeaderValue::from_str(value)
                .map_err(|_| format!("headers.{name}: has characters that no header can have"))?;
            headers.insert(header_name("headers", name)?, value);
        }
        Ok(headers)
    }
}

/// A header's name; those that gRPC and HTTP need for themselves are refused.
pub(super) fn header_name(key: &str, name: &str) -> Result<HeaderName, String> {
    let taken = [
        "content-type",
        "content-encoding",
        "content-length",
        "host",
        "te",
    ];
    let lower = name.to_ascii_lowercase();
    if taken.contains(&lower.as_str()) || lower.starts_with("grpc-") {
        return Err(format!("{key}.{name}: is set by the protocol itself"));
    }
    if lower.ends_with("-bin") {
        return Err(format!(
            "{key}.{name}: names binary metadata, which cannot be set"
        ));
    }
    lower
        .parse()
        .map_err(|_| format!("{key}.{name}: is no name of a header"))
}

impl registry::Build for OtlpConfig {
    const EXAMPLE: &'static str = "\
- kind: otlp
  config:
    url: https://otlp.example.org:4317
    headers: {x-tenant: metrics}
";
    const GUIDE: &'static str = "otlp.md";

    fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        problems.extend(self.endpoint().err());
        problems.extend(self.plain_headers().err());
        for name in self.header_files.keys() {
            problems.extend(header_name("header_files", name).err());
            if self.headers.contains_key(name) {
                problems.push(format!("header_files.{name}: is in `headers` as well"));
            }
        }
        let mut least = |key: &str, value: usize, least: usize| {
            if value < least {
                problems.push(format!("{key}: {value} is less than {least}"));
            }
        };
        least("max_buckets", self.max_buckets, LEAST_BUCKETS);
        least("max_points_per_request", self.max_points_per_request, 1);
        least("max_request_bytes", self.max_request_bytes.as_usize(), 1024);
        least("max_series", self.max_series, 1);
        if self.max_buckets > 10_000 {
            problems.push(format!(
                "max_buckets: {} is more than 10000",
                self.max_buckets
            ));
        }
        for quantile in &self.quantiles {
            if !(0.0..=1.0).contains(quantile) {
                problems.push(format!("quantiles: {quantile} is not between 0 and 1"));
            }
        }
        for (key, time) in [
            ("timeout", self.timeout),
            ("backoff", self.backoff),
            ("series_expiry", self.series_expiry),
        ] {
            if time.get().is_zero() {
                problems.push(format!("{key}: is zero"));
            }
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
        Ok(Box::new(Otlp::new(self, name)?))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::sink::registry::check;

    fn problems(config: Value) -> Vec<String> {
        check("otlp", &config)
    }

    #[test]
    fn nothing_has_to_be_set() {
        assert_eq!(problems(Value::Null), Vec::<String>::new());
        assert_eq!(
            problems(json!({"protocol": "http", "url": "https://x/otlp/v1/metrics"})),
            Vec::<String>::new()
        );
    }

    #[test]
    fn all_that_is_wrong_is_told_at_once_with_its_key() {
        let found = problems(json!({
            "url": "http://me:secret@host:4317", "headers": {"content-type": "x"}, "header_files": {"a b": "/f"}, "max_buckets": 3,
            "quantiles": [2], "timeout": "0s", "max_backoff": "1ms", "max_points_per_request": 0, "max_request_bytes": 10}));
        for start in [
            "url: ",
            "headers.content-type: ",
            "header_files.a b: ",
            "max_buckets: 3",
            "quantiles: 2",
            "timeout: is zero",
            "max_backoff: ",
            "max_points_per_request: 0",
            "max_request_bytes: 10",
        ] {
            assert!(
                found.iter().any(|problem| problem.starts_with(start)),
                "{start}: {found:?}"
            );
        }
        assert!(
            !found.iter().any(|problem| problem.contains("secret")),
            "{found:?}"
        );
        assert!(
            problems(json!({"url": "http://host:4317/path"}))[0].starts_with("url: has a path")
        );
        assert!(
            problems(json!({"url": "http://host:4317", "tls": {"enabled": true}}))[0]
                .starts_with("url: is http")
        );
    }
}
