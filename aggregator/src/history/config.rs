//! The settings of the history.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tributary_node::config::{Duration, Problems, Size};

use crate::graphite::naming::{Naming, NamingConfig, TagStyle};

/// What is kept, and how its paths are made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct HistoryConfig {
    /// How long values are kept, from 1 minute to 48 hours. Default: `2h`.
    pub retention: Duration,

    /// The memory that all of it may take. Over it, the series that were written least recently go, and are counted. A series that is written in
    /// each step takes 8 bytes for each step of the retention (6 kB for 2 hours of 10 s) and about 400 bytes with its path. Default: `256MiB`.
    pub max_bytes: Size,

    /// The distance of a series' values, in whole seconds. `0s`: the `interval` for points of a flush (a second at least), and for points that only
    /// pass through what the first six of a series show. Default: `0s`.
    pub step: Duration,

    /// Stands in front of each path, with a dot between. Default: empty.
    pub prefix: String,

    /// What becomes of tags: `flatten` makes one path of name and tags by `template`, so that wildcards can find them; `graphite` writes
    /// `name;key=value;…`; `drop` leaves them out, so that of series that differ in tags only the last one written in a step counts. Default: `flatten`.
    pub tags: TagStyle,

    /// For `flatten`: the path, with `{name}`, `{KEY}` for the value of the tag with that key (`none` where there is no such tag), and `{tags}` for
    /// all other tags as `key.value`, joined by dots. Dots in values become `_`. Empty: `{name}.{tags}`.
    pub template: String,

    /// Web pages of this origin, such as `https://dashboards.example`, may ask `/render` and `/metrics/find` from a browser; `*`: pages of any
    /// origin. Default: none but our own.
    pub allow_origin: String,
}

impl Default for HistoryConfig {
    fn default() -> Self {
        Self {
            retention: Duration::seconds(2 * 3600),
            max_bytes: Size::mib(256),
            step: Duration::ZERO,
            prefix: String::new(),
            tags: TagStyle::Flatten,
            template: String::new(),
            allow_origin: String::new(),
        }
    }
}

/// The shortest and the longest retention, in seconds: the longest keeps a series of 1 s steps at 1.4 MB.
const RETENTION: std::ops::RangeInclusive<u64> = 60..=48 * 3600;

const SMALLEST: Size = Size::kib(64);

impl HistoryConfig {
    /// How points get their paths. The error starts with the key that is to blame.
    pub fn naming(&self) -> Result<Naming, String> {
        Naming::new(&NamingConfig {
            prefix: self.prefix.clone(),
            tags: self.tags,
            template: self.template.clone(),
        })
    }

    /// Adds what is wrong.
    pub fn check(&self, problems: &mut Problems) {
        let retention = self.retention.get();
        if !RETENTION.contains(&retention.as_secs()) {
            let found = self.retention;
            problems.add(
                "history.retention",
                format!("{found} is not between 1m and 48h"),
            );
        }
        if self.max_bytes < SMALLEST {
            let found = self.max_bytes;
            problems.add(
                "history.max_bytes",
                format!("{found} is too little, use at least {SMALLEST}"),
            );
        }
        let step = self.step.get();
        if step.subsec_nanos() != 0 || step > retention {
            let found = self.step;
            problems.add(
                "history.step",
                format!("{found} is not a number of whole seconds within the retention"),
            );
        }
        if let Err(error) = self.naming() {
            match error.split_once(": ") {
                Some((key, what)) => problems.add(format!("history.{key}"), what),
                None => problems.add("history", error),
            }
        }
        if http::HeaderValue::from_str(&self.allow_origin).is_err() {
            problems.add(
                "history.allow_origin",
                "holds characters that no origin has",
            );
        }
    }
}
