//! Which sinks a point goes to: `metric_sink_routing`, compiled.

use super::config::RoutingRule;
use super::matcher::Condition;
use crate::key::Tags;
use crate::options::nearest;

/// All rules. Sinks are known by their place in the list they were configured in.
#[derive(Debug, Clone)]
pub(super) struct Routing {
    rules: Vec<Rule>,
}

#[derive(Debug, Clone)]
struct Rule {
    conditions: Vec<Condition>,
    matched: Vec<usize>,
    not_matched: Vec<usize>,
}

impl Routing {
    /// Compiles the rules; `names` are the sinks' in their order. Each problem starts with its key.
    pub(super) fn compile(
        rules: &[RoutingRule],
        names: &[&str],
        problems: &mut Vec<String>,
    ) -> Self {
        let mut compiled = Vec::with_capacity(rules.len());
        for (index, rule) in rules.iter().enumerate() {
            let key = format!("metric_sink_routing[{index}]");
            let mut conditions = Vec::with_capacity(rule.matches.len());
            for (index, config) in rule.matches.iter().enumerate() {
                conditions.extend(Condition::compile(
                    config,
                    &format!("{key}.match[{index}]"),
                    problems,
                ));
            }
            let mut places = |list: &[String], which: &str| -> Vec<usize> {
                let mut found = Vec::with_capacity(list.len());
                for name in list {
                    match names.iter().position(|known| known == name) {
                        Some(place) => found.push(place),
                        None => problems.push(unknown_sink(
                            &format!("{key}.sinks.{which}"),
                            name,
                            names,
                        )),
                    }
                }
                found
            };
            compiled.push(Rule {
                conditions,
                matched: places(&rule.sinks.matched, "matched"),
                not_matched: places(&rule.sinks.not_matched, "not_matched"),
            });
        }
        Self { rules: compiled }
    }

    /// Sets `routed` to true for each sink that gets the point, and to false for the others.
    pub(super) fn route(&self, name: &str, tags: &Tags, routed: &mut [bool]) {
        routed.fill(false);
        for rule in &self.rules {
            let matched = rule
                .conditions
                .iter()
                .any(|condition| condition.holds(name, tags));
            for place in if matched {
                &rule.matched
            } else {
                &rule.not_matched
            } {
                if let Some(routed) = routed.get_mut(*place) {
                    *routed = true;
                }
            }
        }
    }
}

fn unknown_sink(key: &str, name: &str, names: &[&str]) -> String {
    let hint = nearest(name, names.iter().copied())
        .map(|near| format!(", did you mean `{near}`?"))
        .unwrap_or_default();
    format!("{key}: there is no sink `{name}`{hint}")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const NAMES: &[&str] = &["a", "b", "archive"];

    fn routed(rules: serde_json::Value, name: &str, tags: &[&str]) -> Vec<&'static str> {
        let rules: Vec<RoutingRule> = serde_json::from_value(rules).unwrap();
        let mut problems = Vec::new();
        let routing = Routing::compile(&rules, NAMES, &mut problems);
        assert!(problems.is_empty(), "{problems:?}");
        let mut routed = vec![true; NAMES.len()];
        routing.route(name, &Tags::new(tags), &mut routed);
        NAMES
            .iter()
            .zip(routed)
            .filter(|(_, routed)| *routed)
            .map(|(name, _)| *name)
            .collect()
    }

    #[test]
    fn a_point_goes_to_the_union_over_all_rules() {
        let rules = json!([
            {"name": "api", "match": [{"name": {"kind": "prefix", "value": "api."}}], "sinks": {"matched": ["a"], "not_matched": ["b"]}},
            {"name": "prod", "match": [{"tags": [{"kind": "exact", "value": "env:prod"}]}], "sinks": {"matched": ["b"]}},
        ]);
        assert_eq!(routed(rules.clone(), "api.hits", &[]), ["a"]);
        assert_eq!(routed(rules.clone(), "db.hits", &[]), ["b"]);
        assert_eq!(routed(rules.clone(), "api.hits", &["env:prod"]), ["a", "b"]);
        assert_eq!(routed(rules, "db.hits", &["env:prod"]), ["b"]);
    }

    #[test]
    fn a_sink_that_no_rule_names_gets_nothing() {
        let rules = json!([{"match": [{}], "sinks": {"matched": ["a"], "not_matched": ["b"]}}]);
        assert_eq!(routed(rules, "x", &[]), ["a"]);
    }

    #[test]
    fn one_condition_of_several_is_enough() {
        let rules = json!([{
            "match": [
                {"name": {"kind": "exact", "value": "x"}, "tags": [{"kind": "exact", "value": "t"}]},
                {"name": {"kind": "exact", "value": "y"}},
            ],
            "sinks": {"matched": ["a"]},
        }]);
        assert_eq!(routed(rules.clone(), "x", &["t"]), ["a"]);
        assert_eq!(routed(rules.clone(), "y", &[]), ["a"]);
        assert_eq!(routed(rules, "x", &[]), Vec::<&str>::new());
    }

    #[test]
    fn a_rule_without_conditions_matches_nothing() {
        let rules = json!([{"sinks": {"matched": ["a"], "not_matched": ["archive"]}}]);
        assert_eq!(routed(rules, "x", &[]), ["archive"]);
    }

    #[test]
    fn an_unknown_sink_is_a_problem_with_the_nearest_name() {
        let rules: Vec<RoutingRule> = serde_json::from_value(json!([
            {"match": [{}], "sinks": {"matched": ["a", "archiv"], "not_matched": ["zzz"]}},
        ]))
        .unwrap();
        let mut problems = Vec::new();
        Routing::compile(&rules, NAMES, &mut problems);
        assert_eq!(
            problems,
            [
                "metric_sink_routing[0].sinks.matched: there is no sink `archiv`, did you mean `archive`?",
                "metric_sink_routing[0].sinks.not_matched: there is no sink `zzz`",
            ]
        );
    }
}
