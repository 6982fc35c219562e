//! What can be set. The fields' documentation is the manual.

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::Deserialize;
use tributary_node::admin;
use tributary_node::config::{Duration, Problems, Size};
use tributary_node::tls::ServerTls;

use super::Otlp;
use crate::source::{Source, registry};

/// Takes metrics of OpenTelemetry's protocol (OTLP), from applications with an OpenTelemetry SDK or from an OpenTelemetry Collector, and aggregates them as DogStatsD's.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct OtlpConfig {
    /// The addresses, each for gRPC and for HTTP (`POST /v1/metrics`) alike. Default: `127.0.0.1:4317` and `127.0.0.1:4318`, the ports that clients try by
    /// themselves for the one and the other.
    pub listen: Vec<String>,

    /// TLS on all of them. Default: none.
    pub tls: ServerTls,

    /// The longest message, in bytes, after it is unpacked. A longer one is refused as a whole. Default: 16MiB.
    pub max_message: Size,

    /// Which attributes of the resource become tags. Each instance of an application has its own `service.instance.id`, `host.name` or `process.pid`: with such an attribute in the list
    /// each has series of its own, without it the instances are merged. Default: `service.name`.
    pub resource_attributes: Vec<String>,

    /// Cumulative values are remembered for so many series at most, to tell what is new in the next; data points of further ones are refused. Default: 1000000.
    pub max_series: usize,

    /// A cumulative series is forgotten after so long without a value. It has to be longer than any application's export interval. Default: 1h.
    pub series_expiry: Duration,
}

impl Default for OtlpConfig {
    fn default() -> Self {
        Self {
            listen: vec!["127.0.0.1:4317".to_owned(), "127.0.0.1:4318".to_owned()],
            tls: ServerTls::default(),
            max_message: Size::bytes(16 << 20),
            resource_attributes: vec!["service.name".to_owned()],
            max_series: 1_000_000,
            series_expiry: Duration::seconds(3600),
        }
    }
}

#[async_trait]
impl registry::Build for OtlpConfig {
    const EXAMPLE: &'static str = "\
- kind: otlp
  config:
    listen: [0.0.0.0:4317, 0.0.0.0:4318]
    resource_attributes: [service.name]
";
    const GUIDE: &'static str = "otlp.md";

    fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if self.listen.is_empty() {
            problems.push("listen: there is no address".to_owned());
        }
        for address in &self.listen {
            let checked = admin::check_address(address);
            problems.extend(checked.err().map(|error| format!("listen: {error}")));
        }
        if !(1024..=1 << 30).contains(&self.max_message.get()) {
            problems.push(format!(
                "max_message: {} is not between 1KiB and 1GiB",
                self.max_message
            ));
        }
        if self.max_series == 0 {
            problems.push("max_series: is zero".to_owned());
        }
        if self.series_expiry.get().is_zero() {
            problems.push("series_expiry: is zero".to_owned());
        }
        let mut tls = Problems::new("");
        self.tls.check("tls", &mut tls);
        let tls = tls.iter();
        problems.extend(tls.map(|problem| format!("{}: {}", problem.key, problem.what)));
        problems
    }

    async fn open(self, name: &str) -> Result<Box<dyn Source>, String> {
        Ok(Box::new(Otlp::open(self, name).await?))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::source::registry::find;

    #[test]
    fn nothing_has_to_be_set_and_all_that_is_wrong_is_told_at_once() {
        let kind = find("otlp").unwrap();
        assert_eq!(kind.check(&Value::Null), Vec::<String>::new());
        let found = kind.check(&json!({"listen": ["nowhere"], "max_message": "1B", "max_series": 0, "series_expiry": "0s", "tls": {"key_file": "/x"}}));
        for start in [
            "listen: ",
            "max_message: ",
            "max_series: ",
            "series_expiry: ",
            "tls.key_file: ",
        ] {
            assert!(
                found.iter().any(|problem| problem.starts_with(start)),
                "{start}: {found:?}"
            );
        }
    }
}
