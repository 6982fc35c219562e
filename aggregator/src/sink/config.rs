//! The configuration of sinks and of the routing to them, with Veneur's keys. The documentation of the fields is the manual.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One entry of `metric_sinks`: a place that every flush's points go to.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SinkConfig {
    /// What sort of sink it is: `debug`, `localfile`, … It decides which keys `config` takes.
    pub kind: String,

    /// The name by which routing rules, logs and self-metrics speak of this sink. Unique among the sinks. Default: the kind.
    #[serde(default)]
    pub name: Option<String>,

    /// The kind's own settings; see the page of the kind. Default: none.
    #[serde(default)]
    pub config: serde_json::Value,

    /// A point whose name, with its suffix, has more bytes than this is skipped and counted as `max_name_length`. 0 (the default): no limit.
    #[serde(default)]
    pub max_name_length: usize,

    /// A point with a tag (`key:value`) of more bytes than this is skipped and counted as `max_tag_length`. Tags that `strip_tags` takes away do
    /// not count. 0 (the default): no limit.
    #[serde(default)]
    pub max_tag_length: usize,

    /// A point with more tags than this, after `strip_tags` and `add_tags`, is skipped and counted as `max_tags`. 0 (the default): no limit.
    #[serde(default)]
    pub max_tags: usize,

    /// Tags that any of these match are taken off the points for this sink. Two series that then look the same are both sent. Default: none.
    #[serde(default)]
    pub strip_tags: Vec<TagMatcher>,

    /// Tags added to each point for this sink, by key. A point that has a tag with the same key, bare or with a value, keeps its own. Default: none.
    #[serde(default)]
    pub add_tags: BTreeMap<String, String>,

    /// How many points may wait for this sink while it is slow or down; an event counts as one. Over it the oldest flush is dropped and counted as
    /// `queue_full`. The newest flush is always kept, however big. More bridges longer outages and costs memory: roughly 100 bytes a point, shared
    /// between sinks that get the same points. Default: 1,000,000.
    #[serde(default = "default_queue_points")]
    pub queue_points: usize,
}

const fn default_queue_points() -> usize {
    1_000_000
}

impl SinkConfig {
    /// A sink of a kind with all else by default.
    pub fn new(kind: impl Into<String>) -> Self {
        Self {
            kind: kind.into(),
            name: None,
            config: serde_json::Value::Null,
            max_name_length: 0,
            max_tag_length: 0,
            max_tags: 0,
            strip_tags: Vec::new(),
            add_tags: BTreeMap::new(),
            queue_points: default_queue_points(),
        }
    }

    /// The name, or the kind in its place.
    pub fn name(&self) -> &str {
        self.name.as_deref().unwrap_or(&self.kind)
    }
}

/// How a text is compared.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum MatchKind {
    /// Equal to the value.
    #[default]
    Exact,
    /// Starts with the value.
    Prefix,
    /// The value is a regular expression that matches anywhere in the text; anchor it with `^` and `$`.
    Regex,
}

/// Matches a tag by its whole text, `key:value`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TagMatcher {
    /// How the tag is compared: `exact` (the default), `prefix` or `regex`.
    #[serde(default)]
    pub kind: MatchKind,

    /// What it is compared with. `prefix` with `env:` matches each tag of that key.
    pub value: String,

    /// In routing rules: true asks that no tag matches. It has no meaning in `strip_tags`. Default: false.
    #[serde(default)]
    pub unset: bool,
}

/// How a name is compared.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum NameMatchKind {
    /// Every name.
    #[default]
    Any,
    /// Equal to the value.
    Exact,
    /// Starts with the value.
    Prefix,
    /// The value is a regular expression that matches anywhere in the name; anchor it with `^` and `$`.
    Regex,
}

/// Matches a point by its name: the one it is written with, suffix included (`api.latency.99percentile`).
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NameMatcher {
    /// How the name is compared: `any` (the default), `exact`, `prefix` or `regex`.
    #[serde(default)]
    pub kind: NameMatchKind,

    /// What it is compared with; not used by `any`.
    #[serde(default)]
    pub value: String,
}

/// One condition of a routing rule: the name and all tag matchers have to agree.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PointMatcher {
    /// On the name. Default: any.
    #[serde(default)]
    pub name: NameMatcher,

    /// On the tags; each has to hold. Default: none, which all points satisfy.
    #[serde(default)]
    pub tags: Vec<TagMatcher>,
}

/// Where a routing rule sends points.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RoutedSinks {
    /// Names of the sinks that get the points that match. Default: none.
    #[serde(default)]
    pub matched: Vec<String>,

    /// Names of the sinks that get the points that do not. Default: none.
    #[serde(default)]
    pub not_matched: Vec<String>,
}

/// One entry of `metric_sink_routing`. A point goes to all the sinks that any rule sends it to. As soon as there is one rule, a sink that no rule
/// names gets no points; without rules each sink gets all of them. Events are not routed: they go to every sink.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RoutingRule {
    /// What the rule is called in messages. Default: empty.
    #[serde(default)]
    pub name: String,

    /// The conditions; a point matches when one of them holds. An empty list matches nothing.
    #[serde(default, rename = "match")]
    pub matches: Vec<PointMatcher>,

    /// Where the points go.
    #[serde(default)]
    pub sinks: RoutedSinks,
}
