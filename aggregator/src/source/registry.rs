//! The kinds of sources, one line each.

use async_trait::async_trait;
use futures_util::future::BoxFuture;
use schemars::{JsonSchema, Schema};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::flux::FluxConfig;
use super::openmetrics::OpenMetricsConfig;
use super::otlp::OtlpConfig;
use super::{Source, carbon};
use crate::options::{self, Problems};

/// Every kind: what `kind` in `sources` can be.
pub const KINDS: &[Kind] = &[
    Kind::of::<carbon::config::CarbonConfig>("carbon"),
    Kind::of::<FluxConfig>("flux"),
    #[cfg(feature = "kafka")]
    Kind::of::<super::kafka::KafkaConfig>("kafka"),
    Kind::of::<OpenMetricsConfig>("openmetrics"),
    Kind::of::<OtlpConfig>("otlp"),
];

/// A source's config struct: what it can check without touching anything, and how it becomes a source.
///
/// It derives `Deserialize` with `deny_unknown_fields` and `JsonSchema`; the documentation of its fields is the page of the kind.
#[async_trait]
pub trait Build: DeserializeOwned + JsonSchema + Send + 'static {
    /// An entry of `sources` as YAML, for the page of the kind: what most users start with. It passes `--check`.
    const EXAMPLE: &'static str;

    /// The file in `docs/` that tells the whole story; empty where there is none.
    const GUIDE: &'static str = "";

    /// What is wrong beyond the types of the keys, each text starting with its key. Opens, creates and connects nothing.
    fn problems(&self) -> Vec<String> {
        Vec::new()
    }

    /// Whether it hands over what others have forwarded, to be forwarded to proxies.
    fn forwards(&self) -> bool {
        false
    }

    /// Opens the addresses and files that the source cannot do without; takes nothing yet. `name` is the configured one. The error starts with the
    /// key that is to blame.
    async fn open(self, name: &str) -> Result<Box<dyn Source>, String>;
}

type OpenFn = for<'a> fn(&'a str, &'a Value) -> BoxFuture<'a, Result<Box<dyn Source>, Problems>>;

/// One kind of source.
#[derive(Debug, Clone, Copy)]
pub struct Kind {
    /// As in the configuration.
    pub name: &'static str,
    /// An entry of the configuration, as YAML.
    pub example: &'static str,
    /// The file in `docs/` that tells the whole story, or empty.
    pub guide: &'static str,
    open: OpenFn,
    check: fn(&Value) -> Vec<String>,
    forwards: fn(&Value) -> bool,
    schema: fn() -> Schema,
}

impl Kind {
    const fn of<C: Build>(name: &'static str) -> Self {
        Self {
            name,
            example: C::EXAMPLE,
            guide: C::GUIDE,
            open: |name, config| Box::pin(open_from::<C>(name, config)),
            check: check_as::<C>,
            forwards: |config| {
                options::checked(config, C::problems).is_ok_and(|config| config.forwards())
            },
            schema: || schemars::schema_for!(C),
        }
    }

    /// The JSON schema of the kind's `config`, with the documentation of each key.
    pub fn schema(&self) -> Schema {
        (self.schema)()
    }

    /// Whether a source with such a `config` needs proxies to forward to; see [`Build::forwards`].
    pub fn forwards(&self, config: &Value) -> bool {
        (self.forwards)(config)
    }

    /// All problems of a `config` of this kind, each starting with its key.
    pub fn check(&self, config: &Value) -> Vec<String> {
        (self.check)(config)
    }
}

async fn open_from<C: Build>(name: &str, config: &Value) -> Result<Box<dyn Source>, Problems> {
    options::checked(config, C::problems)?
        .open(name)
        .await
        .map_err(|problem| Problems(vec![problem]))
}

fn check_as<C: Build>(config: &Value) -> Vec<String> {
    let checked = options::checked(config, C::problems);
    checked.err().map_or_else(Vec::new, |Problems(found)| found)
}

/// The kind of that name. The error names the known ones and the nearest.
pub fn find(kind: &str) -> Result<&'static Kind, String> {
    options::find("source", kind, KINDS, |known| known.name)
}

/// Opens a source of a kind with its `config`.
pub async fn open(kind: &str, name: &str, config: &Value) -> Result<Box<dyn Source>, Problems> {
    let kind = find(kind).map_err(|problem| Problems(vec![format!("kind: {problem}")]))?;
    (kind.open)(name, config).await
}
