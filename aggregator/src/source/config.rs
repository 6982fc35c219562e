//! The configuration of sources besides DogStatsD's. The documentation of the fields is the manual.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One entry of `sources`: a place where points or samples come in.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SourceConfig {
    /// What sort of source it is. It decides which keys `config` takes.
    pub kind: String,

    /// The name by which logs and self-metrics speak of this source. Unique among the sources. Default: the kind.
    #[serde(default)]
    pub name: Option<String>,

    /// The kind's own settings; see the page of the kind. Default: none.
    #[serde(default)]
    pub config: serde_json::Value,
}

impl SourceConfig {
    /// The name, or the kind in its place.
    pub fn name(&self) -> &str {
        self.name.as_deref().unwrap_or(&self.kind)
    }
}
