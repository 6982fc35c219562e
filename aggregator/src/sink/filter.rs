//! What one sink does to the points it is routed: limits, and tags taken away and added. Veneur's meanings, applied whether there is routing or not.

use super::config::SinkConfig;
use super::happened::Verdict;
use super::matcher::TextMatcher;
use crate::key::Tags;

/// A sink's limits and changes, compiled. 0 is no limit.
#[derive(Debug, Clone, Default)]
pub(super) struct Filter {
    pub(super) max_name_length: usize,
    max_tag_length: usize,
    max_tags: usize,
    strip: Vec<TextMatcher>,
    /// Key and whole tag.
    add: Vec<(String, String)>,
}

/// What becomes of a point's tags.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Edit {
    /// They stay as they are.
    Unchanged,
    /// These instead.
    Changed(Tags),
    /// The point is over a limit.
    Over(Verdict),
}

impl Filter {
    /// `key` is where the sink stands in the configuration; problems start with it.
    pub(super) fn compile(config: &SinkConfig, key: &str, problems: &mut Vec<String>) -> Self {
        let mut strip = Vec::with_capacity(config.strip_tags.len());
        for (index, tag) in config.strip_tags.iter().enumerate() {
            if tag.unset {
                problems.push(format!(
                    "{key}.strip_tags[{index}].unset: has no meaning here, only in routing rules"
                ));
            }
            match TextMatcher::of_tag(tag) {
                Ok(matcher) => strip.push(matcher),
                Err(problem) => {
                    problems.push(format!("{key}.strip_tags[{index}].value: {problem}"))
                }
            }
        }
        let mut add = Vec::with_capacity(config.add_tags.len());
        for (name, value) in &config.add_tags {
            let tag = format!("{name}:{value}");
            if config.max_tag_length > 0 && tag.len() > config.max_tag_length {
                problems.push(format!(
                    "{key}.add_tags: `{tag}` is longer than max_tag_length {}, so no point would be left",
                    config.max_tag_length
                ));
            }
            add.push((name.clone(), tag));
        }
        Self {
            max_name_length: config.max_name_length,
            max_tag_length: config.max_tag_length,
            max_tags: config.max_tags,
            strip,
            add,
        }
    }

    /// Whether a name of this many bytes is over the limit.
    pub(super) fn refuses_name(&self, length: usize) -> bool {
        self.max_name_length > 0 && length > self.max_name_length
    }

    /// Whether tags have to be looked at.
    pub(super) fn minds_tags(&self) -> bool {
        self.max_tag_length > 0
            || self.max_tags > 0
            || !self.strip.is_empty()
            || !self.add.is_empty()
    }

    /// Takes away, adds, and then holds the limits against what is left.
    pub(super) fn edit(&self, tags: &Tags) -> Edit {
        let mut kept: Vec<&str> = Vec::new();
        let mut changed = false;
        for tag in tags.iter() {
            if self.strip.iter().any(|matcher| matcher.matches(tag)) {
                changed = true;
                continue;
            }
            if self.max_tag_length > 0 && tag.len() > self.max_tag_length {
                return Edit::Over(Verdict::MaxTagLength);
            }
            kept.push(tag);
        }
        let own = kept.len();
        for (key, tag) in &self.add {
            // Only the point's own tags count: added ones have different keys.
            if !kept.iter().take(own).any(|own| has_key(own, key)) {
                kept.push(tag);
                changed = true;
            }
        }
        if self.max_tags > 0 && kept.len() > self.max_tags {
            return Edit::Over(Verdict::MaxTags);
        }
        if changed {
            Edit::Changed(Tags::new(kept))
        } else {
            Edit::Unchanged
        }
    }
}

/// Whether a tag is `key` or `key:…`.
fn has_key(tag: &str, key: &str) -> bool {
    tag.strip_prefix(key)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with(':'))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn filter(config: serde_json::Value) -> Filter {
        let mut problems = Vec::new();
        let filter = Filter::compile(&config_of(config), "metric_sinks[0]", &mut problems);
        assert!(problems.is_empty(), "{problems:?}");
        filter
    }

    fn config_of(mut config: serde_json::Value) -> SinkConfig {
        config["kind"] = json!("debug");
        serde_json::from_value(config).unwrap()
    }

    fn changed(tags: &[&str]) -> Edit {
        Edit::Changed(Tags::new(tags))
    }

    #[test]
    fn limits_of_zero_are_none() {
        let filter = filter(json!({}));
        assert!(!filter.minds_tags());
        assert!(!filter.refuses_name(1 << 20));
    }

    #[test]
    fn a_limit_is_the_last_value_that_passes() {
        let filter = filter(json!({"max_name_length": 3, "max_tag_length": 4, "max_tags": 2}));
        assert!(!filter.refuses_name(3));
        assert!(filter.refuses_name(4));
        assert_eq!(filter.edit(&Tags::new(["a:12", "b"])), Edit::Unchanged);
        assert_eq!(
            filter.edit(&Tags::new(["a:123"])),
            Edit::Over(Verdict::MaxTagLength)
        );
        assert_eq!(
            filter.edit(&Tags::new(["a", "b", "c"])),
            Edit::Over(Verdict::MaxTags)
        );
    }

    #[test]
    fn stripped_tags_do_not_count_against_limits_and_added_ones_do() {
        let filter = filter(json!({
            "max_tag_length": 6, "max_tags": 2, "strip_tags": [{"kind": "prefix", "value": "host:"}], "add_tags": {"dc": "x"},
        }));
        assert_eq!(
            filter.edit(&Tags::new(["a:1", "host:very-long-name"])),
            changed(&["a:1", "dc:x"])
        );
        assert_eq!(
            filter.edit(&Tags::new(["a:1", "b:2"])),
            Edit::Over(Verdict::MaxTags)
        );
    }

    #[test]
    fn tags_are_stripped_by_each_kind_of_matcher() {
        let filter = filter(json!({"strip_tags": [
            {"kind": "exact", "value": "a:1"}, {"kind": "prefix", "value": "b"}, {"kind": "regex", "value": "secret"},
        ]}));
        let tags = Tags::new(["a:1", "a:12", "b:2", "bare", "my:secret:x", "z"]);
        assert_eq!(filter.edit(&tags), changed(&["a:12", "z"]));
        assert_eq!(filter.edit(&Tags::new(["z"])), Edit::Unchanged);
    }

    #[test]
    fn a_tag_is_added_unless_the_point_has_its_key() {
        let filter = filter(json!({"add_tags": {"env": "prod"}}));
        for (tags, expected) in [
            (&["a:1"][..], changed(&["a:1", "env:prod"])),
            (&[], changed(&["env:prod"])),
            (&["environment:x"], changed(&["environment:x", "env:prod"])),
            (&["env:dev"], Edit::Unchanged),
            (&["env"], Edit::Unchanged),
        ] {
            assert_eq!(filter.edit(&Tags::new(tags)), expected, "{tags:?}");
        }
    }

    #[test]
    fn what_cannot_work_is_a_problem() {
        let config = config_of(json!({
            "max_tag_length": 5,
            "strip_tags": [{"kind": "regex", "value": "("}, {"value": "a", "unset": true}],
            "add_tags": {"env": "prod"},
        }));
        let mut problems = Vec::new();
        Filter::compile(&config, "metric_sinks[0]", &mut problems);
        assert_eq!(
            problems,
            [
                "metric_sinks[0].strip_tags[0].value: `(` is no regular expression: unclosed group",
                "metric_sinks[0].strip_tags[1].unset: has no meaning here, only in routing rules",
                "metric_sinks[0].add_tags: `env:prod` is longer than max_tag_length 5, so no point would be left",
            ]
        );
    }
}
