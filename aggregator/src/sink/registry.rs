//! The kinds of sinks, one line each.

use schemars::{JsonSchema, Schema};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{
    Sink, blueflood, datadog, debug, graphite, influxdb, localfile, otlp, prometheus, remote_write,
    s3, statsd,
};
use crate::options::{self, Problems};

/// Every kind: what `kind` in `metric_sinks` can be.
pub const KINDS: &[Kind] = &[
    Kind::of::<blueflood::BluefloodConfig>("blueflood"),
    Kind::of::<datadog::DatadogConfig>("datadog"),
    Kind::of::<debug::DebugConfig>("debug"),
    Kind::of::<graphite::GraphiteConfig>("graphite"),
    Kind::of::<influxdb::InfluxConfig>("influxdb"),
    #[cfg(feature = "kafka")]
    Kind::of::<super::kafka::KafkaConfig>("kafka"),
    Kind::of::<localfile::LocalFileConfig>("localfile"),
    Kind::of::<otlp::OtlpConfig>("otlp"),
    Kind::of::<prometheus::PrometheusConfig>("prometheus"),
    Kind::of::<remote_write::RemoteWriteConfig>("remote_write"),
    Kind::of::<s3::S3Config>("s3"),
    Kind::of::<statsd::StatsdConfig>("statsd"),
];

/// A sink's config struct: what it can check without touching anything, and how it becomes a sink.
///
/// It derives `Deserialize` with `deny_unknown_fields` and `JsonSchema`; the documentation of its fields is the page of the kind.
pub trait Build: DeserializeOwned + JsonSchema {
    /// An entry of `metric_sinks` as YAML, for the page of the kind: what most users start with. It passes `--check`.
    const EXAMPLE: &'static str;

    /// The file in `docs/` that tells the whole story; empty where there is none.
    const GUIDE: &'static str = "";

    /// What is wrong beyond the types of the keys, each text starting with its key. Opens, creates and connects nothing.
    fn problems(&self) -> Vec<String> {
        Vec::new()
    }

    /// Makes the sink; `name` is the configured one. The error starts with the key that is to blame.
    fn build(self, name: &str) -> Result<Box<dyn Sink>, String>;
}

type BuildFn = fn(&str, &Value) -> Result<Box<dyn Sink>, Problems>;

/// One kind of sink.
#[derive(Debug, Clone, Copy)]
pub struct Kind {
    /// As in the configuration.
    pub name: &'static str,
    /// An entry of the configuration, as YAML.
    pub example: &'static str,
    /// The file in `docs/` that tells the whole story, or empty.
    pub guide: &'static str,
    build: BuildFn,
    check: fn(&Value) -> Vec<String>,
    schema: fn() -> Schema,
}

impl Kind {
    const fn of<C: Build>(name: &'static str) -> Self {
        Self {
            name,
            example: C::EXAMPLE,
            guide: C::GUIDE,
            build: build_from::<C>,
            check: check_as::<C>,
            schema: || schemars::schema_for!(C),
        }
    }

    /// The JSON schema of the kind's `config`, with the documentation of each key.
    pub fn schema(&self) -> Schema {
        (self.schema)()
    }

    /// All problems of a `config` of this kind, each starting with its key.
    pub fn check(&self, config: &Value) -> Vec<String> {
        (self.check)(config)
    }
}

fn build_from<C: Build>(name: &str, config: &Value) -> Result<Box<dyn Sink>, Problems> {
    options::checked(config, C::problems)?
        .build(name)
        .map_err(|problem| Problems(vec![problem]))
}

fn check_as<C: Build>(config: &Value) -> Vec<String> {
    let checked = options::checked(config, C::problems);
    checked.err().map_or_else(Vec::new, |Problems(found)| found)
}

/// The kind of that name. The error names the known ones and the nearest.
pub fn find(kind: &str) -> Result<&'static Kind, String> {
    options::find("sink", kind, KINDS, |known| known.name)
}

/// All problems of one sink's `config`, each starting with its key; opens nothing.
pub fn check(kind: &str, config: &Value) -> Vec<String> {
    match find(kind) {
        Ok(kind) => kind.check(config),
        Err(problem) => vec![format!("kind: {problem}")],
    }
}

/// Makes a sink of a kind with its `config`.
pub fn build(kind: &str, name: &str, config: &Value) -> Result<Box<dyn Sink>, Problems> {
    let kind = find(kind).map_err(|problem| Problems(vec![format!("kind: {problem}")]))?;
    (kind.build)(name, config)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn known() -> String {
        KINDS
            .iter()
            .map(|kind| kind.name)
            .collect::<Vec<_>>()
            .join(", ")
    }

    #[test]
    fn an_unknown_kind_is_refused_with_the_known_ones_and_the_nearest() {
        let problem = build("localfil", "a", &Value::Null)
            .err()
            .unwrap()
            .to_string();
        assert_eq!(
            problem,
            format!(
                "kind: unknown sink kind `localfil`, did you mean `localfile`? (known: {})",
                known()
            )
        );
        assert_eq!(
            check("signalfx", &Value::Null),
            [format!(
                "kind: unknown sink kind `signalfx` (known: {})",
                known()
            )]
        );
    }

    #[test]
    fn each_kind_has_a_schema_whose_keys_are_documented() {
        for kind in KINDS {
            let schema = kind.schema();
            assert_eq!(
                schema.get("additionalProperties"),
                Some(&json!(false)),
                "{}",
                kind.name
            );
            let keys = schema
                .get("properties")
                .and_then(Value::as_object)
                .cloned()
                .unwrap_or_default();
            for (key, about) in keys {
                assert!(
                    about.get("description").is_some(),
                    "{}: {key} has no documentation",
                    kind.name
                );
            }
        }
    }

    #[test]
    fn debug_takes_no_config() {
        assert_eq!(check("debug", &Value::Null), Vec::<String>::new());
        assert_eq!(
            check("debug", &json!({"color": true})),
            ["color: unknown key, there are none here"]
        );
    }
}
