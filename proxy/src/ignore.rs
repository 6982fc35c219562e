//! Tags that are left out of the ring key: series that differ in such a tag alone share a destination.
//!
//! The metric keeps all its tags. Every proxy of a fleet must have the same list, or one series goes to two places.

use regex::Regex;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tributary_node::config::Problems;

/// One kind of tag to leave out.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct TagMatcher {
    /// How `value` is compared with the whole tag, `key:value`: `exact`, `prefix`, or `regex`, which is not anchored.
    pub kind: MatchKind,
    /// What to compare with.
    pub value: String,
    /// Without effect on the key; Veneur's files may have it.
    pub unset: bool,
}

/// See [`TagMatcher::kind`].
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum MatchKind {
    /// The whole tag.
    #[default]
    Exact,
    /// The tag's beginning.
    Prefix,
    /// A regular expression that matches anywhere in the tag.
    Regex,
}

/// The matchers of a proxy, ready to use.
#[derive(Debug, Clone, Default)]
pub struct IgnoredTags(Vec<Compiled>);

#[derive(Debug, Clone)]
enum Compiled {
    Exact(String),
    Prefix(String),
    Regex(Regex),
}

impl IgnoredTags {
    /// Compiles these matchers, or says what is wrong with which of them.
    pub fn compile(matchers: &[TagMatcher], problems: &mut Problems) -> Self {
        let compile = |(index, matcher): (usize, &TagMatcher)| {
            let value = matcher.value.clone();
            if value.is_empty() {
                // As a prefix or a regular expression it would leave out every tag.
                problems.add(format!("ignore_tags[{index}].value"), "must not be empty");
                return None;
            }
            match matcher.kind {
                MatchKind::Exact => Some(Compiled::Exact(value)),
                MatchKind::Prefix => Some(Compiled::Prefix(value)),
                MatchKind::Regex => match Regex::new(&value) {
                    Ok(regex) => Some(Compiled::Regex(regex)),
                    Err(error) => {
                        let text = error.to_string();
                        let reason = text.lines().last().unwrap_or_default();
                        problems.add(
                            format!("ignore_tags[{index}].value"),
                            format_args!("{value:?} is no regular expression: {reason}"),
                        );
                        None
                    }
                },
            }
        };
        Self(matchers.iter().enumerate().filter_map(compile).collect())
    }

    /// Whether this tag is left out.
    #[inline]
    pub fn contains(&self, tag: &str) -> bool {
        self.0.iter().any(|matcher| match matcher {
            Compiled::Exact(value) => tag == value,
            Compiled::Prefix(value) => tag.starts_with(value.as_str()),
            Compiled::Regex(regex) => regex.is_match(tag),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matcher(kind: MatchKind, value: &str) -> TagMatcher {
        TagMatcher {
            kind,
            value: value.to_owned(),
            unset: false,
        }
    }

    #[test]
    fn each_kind_compares_the_whole_tag_in_its_way() {
        let mut problems = Problems::new("test");
        let ignored = IgnoredTags::compile(
            &[
                matcher(MatchKind::Exact, "env:prod"),
                matcher(MatchKind::Prefix, "host:"),
                matcher(MatchKind::Regex, "^pod:.*-[0-9]+$"),
                matcher(MatchKind::Regex, "secret"),
            ],
            &mut problems,
        );
        assert!(problems.is_empty());
        for tag in ["env:prod", "host:a", "host:", "pod:web-12", "x:my-secret-y"] {
            assert!(ignored.contains(tag), "{tag}");
        }
        for tag in ["env:prod2", "env", "ahost:a", "pod:web-12a", "", "Host:a"] {
            assert!(!ignored.contains(tag), "{tag}");
        }
    }

    #[test]
    fn what_cannot_be_a_matcher_is_named_with_its_place() {
        let mut problems = Problems::new("test");
        IgnoredTags::compile(
            &[
                matcher(MatchKind::Prefix, ""),
                matcher(MatchKind::Regex, "a(b"),
            ],
            &mut problems,
        );
        let text = problems.to_string();
        assert!(
            text.contains("ignore_tags[0].value: must not be empty"),
            "{text}"
        );
        assert!(
            text.contains("ignore_tags[1].value: \"a(b\" is no regular expression"),
            "{text}"
        );
    }
}
