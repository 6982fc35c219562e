//! Compiled matchers of names and tags.

use regex::Regex;

use super::config::{MatchKind, NameMatchKind, NameMatcher, PointMatcher, TagMatcher};
use crate::key::Tags;

/// Matches one text.
#[derive(Debug, Clone)]
pub(super) enum TextMatcher {
    Any,
    Exact(String),
    Prefix(String),
    Regex(Regex),
}

impl TextMatcher {
    /// The error is one line without the key.
    pub(super) fn of_tag(config: &TagMatcher) -> Result<Self, String> {
        Ok(match config.kind {
            MatchKind::Exact => Self::Exact(config.value.clone()),
            MatchKind::Prefix => Self::Prefix(config.value.clone()),
            MatchKind::Regex => Self::Regex(compile(&config.value)?),
        })
    }

    fn of_name(config: &NameMatcher) -> Result<Self, String> {
        Ok(match config.kind {
            NameMatchKind::Any => Self::Any,
            NameMatchKind::Exact => Self::Exact(config.value.clone()),
            NameMatchKind::Prefix => Self::Prefix(config.value.clone()),
            NameMatchKind::Regex => Self::Regex(compile(&config.value)?),
        })
    }

    pub(super) fn matches(&self, text: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Exact(value) => text == value,
            Self::Prefix(value) => text.starts_with(value.as_str()),
            Self::Regex(regex) => regex.is_match(text),
        }
    }
}

fn compile(pattern: &str) -> Result<Regex, String> {
    Regex::new(pattern).map_err(|error| {
        // The crate draws the place over several lines; the last says what is wrong.
        let text = error.to_string();
        let last = text.lines().last().unwrap_or_default();
        let cause = last.trim().trim_start_matches("error: ");
        format!("`{pattern}` is no regular expression: {cause}")
    })
}

/// Matches a point by name and tags.
#[derive(Debug, Clone)]
pub(super) struct Condition {
    name: TextMatcher,
    tags: Vec<(TextMatcher, bool)>,
}

impl Condition {
    /// `key` is where the condition stands in the configuration; problems start with it.
    pub(super) fn compile(
        config: &PointMatcher,
        key: &str,
        problems: &mut Vec<String>,
    ) -> Option<Self> {
        let name = TextMatcher::of_name(&config.name)
            .map_err(|problem| problems.push(format!("{key}.name.value: {problem}")))
            .ok();
        let mut tags = Vec::with_capacity(config.tags.len());
        for (index, tag) in config.tags.iter().enumerate() {
            match TextMatcher::of_tag(tag) {
                Ok(matcher) => tags.push((matcher, tag.unset)),
                Err(problem) => problems.push(format!("{key}.tags[{index}].value: {problem}")),
            }
        }
        Some(Self { name: name?, tags })
    }

    pub(super) fn holds(&self, name: &str, tags: &Tags) -> bool {
        let tag_holds = |(matcher, unset): &(TextMatcher, bool)| {
            tags.iter().any(|tag| matcher.matches(tag)) != *unset
        };
        self.name.matches(name) && self.tags.iter().all(tag_holds)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn holds(config: serde_json::Value, name: &str, tags: &[&str]) -> bool {
        let config: PointMatcher = serde_json::from_value(config).unwrap();
        let mut problems = Vec::new();
        let condition = Condition::compile(&config, "match[0]", &mut problems).unwrap();
        assert!(problems.is_empty());
        condition.holds(name, &Tags::new(tags))
    }

    #[test]
    fn names_match_by_kind() {
        for (matcher, name, expected) in [
            (json!({}), "a", true),
            (json!({"kind": "any"}), "a", true),
            (
                json!({"kind": "exact", "value": "api.hits"}),
                "api.hits",
                true,
            ),
            (
                json!({"kind": "exact", "value": "api.hits"}),
                "api.hits2",
                false,
            ),
            (json!({"kind": "prefix", "value": "api."}), "api.hits", true),
            (
                json!({"kind": "prefix", "value": "api."}),
                "my.api.hits",
                false,
            ),
            (
                json!({"kind": "regex", "value": "l.tency"}),
                "api.latency.max",
                true,
            ),
            (
                json!({"kind": "regex", "value": "^l.tency"}),
                "api.latency.max",
                false,
            ),
        ] {
            assert_eq!(
                holds(json!({"name": matcher}), name, &[]),
                expected,
                "{matcher} {name}"
            );
        }
    }

    #[test]
    fn all_tag_matchers_have_to_hold() {
        let both = json!({"tags": [{"kind": "exact", "value": "env:prod"}, {"kind": "prefix", "value": "team:"}]});
        for (tags, expected) in [
            (&["env:prod", "team:a"][..], true),
            (&["team:a", "env:prod", "x"], true),
            (&["env:prod"], false),
            (&["team:a"], false),
            (&[], false),
        ] {
            assert_eq!(holds(both.clone(), "a", tags), expected, "{tags:?}");
        }
    }

    #[test]
    fn unset_asks_that_no_tag_matches() {
        let unset = json!({"tags": [{"kind": "regex", "value": "^env:", "unset": true}]});
        for (tags, expected) in [
            (&["team:a"][..], true),
            (&[], true),
            (&["a", "env:dev"], false),
        ] {
            assert_eq!(holds(unset.clone(), "a", tags), expected, "{tags:?}");
        }
    }

    #[test]
    fn each_bad_expression_is_a_problem_with_its_place() {
        let config: PointMatcher = serde_json::from_value(json!({
            "name": {"kind": "regex", "value": "("},
            "tags": [{"kind": "exact", "value": "("}, {"kind": "regex", "value": "[z-a]"}],
        }))
        .unwrap();
        let mut problems = Vec::new();
        assert!(Condition::compile(&config, "match[0]", &mut problems).is_none());
        assert_eq!(problems.len(), 2, "{problems:?}");
        assert_eq!(
            problems[0],
            "match[0].name.value: `(` is no regular expression: unclosed group"
        );
        assert!(
            problems[1].starts_with("match[0].tags[1].value: `[z-a]` is no regular expression: ")
        );
    }
}
