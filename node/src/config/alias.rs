//! Other names of keys, and keys that are accepted without effect.

use serde_json::{Map, Value};

use super::problems::Problems;

/// Moves every value that stands under another name to the key's own path.
pub(super) fn rewrite(document: &mut Value, aliases: &[(&str, &str)], problems: &mut Problems) {
    for (alias, key) in aliases {
        let Some(value) = take(document, alias) else {
            continue;
        };
        if get(document, key).is_some_and(|given| !given.is_null()) {
            problems.add(
                *alias,
                format!("is another name of {key}, which is given too"),
            );
        } else if !put(document, key, value) {
            problems.add(
                *alias,
                format!("is another name of {key}, and {key} cannot stand beside what is given"),
            );
        }
    }
}

/// Takes out the keys that do nothing here and says so.
pub(super) fn drop_ignored(
    document: &mut Value,
    ignored: &[(&str, &str)],
    warnings: &mut Vec<String>,
) {
    for (key, reason) in ignored {
        if take(document, key).is_some() {
            warnings.push(format!("{key} has no effect: {reason}"));
        }
    }
}

/// The value at a dotted path.
pub(super) fn get<'a>(document: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('.')
        .try_fold(document, |value, key| value.get(key))
}

/// Sets the value at a dotted path, making the objects on the way; false where something else stands on it.
pub(super) fn put(document: &mut Value, path: &str, value: Value) -> bool {
    let (ahead, last) = path.rsplit_once('.').unwrap_or(("", path));
    let mut at = document;
    for key in ahead.split('.').filter(|key| !key.is_empty()) {
        let Value::Object(map) = at else { return false };
        at = map.entry(key).or_insert(Value::Null);
        if at.is_null() {
            *at = Value::Object(Map::new());
        }
    }
    match at {
        Value::Object(map) => {
            map.insert(last.to_owned(), value);
            true
        }
        _ => false,
    }
}

/// Takes the value at a dotted path out, and the objects on the way that it leaves empty.
fn take(document: &mut Value, path: &str) -> Option<Value> {
    let map = document.as_object_mut()?;
    let Some((key, rest)) = path.split_once('.') else {
        return map.remove(path);
    };
    let below = map.get_mut(key)?;
    let taken = take(below, rest)?;
    if below.as_object().is_some_and(Map::is_empty) {
        map.remove(key);
    }
    Some(taken)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_value_under_another_name_moves_to_the_key() {
        let mut document =
            json!({"statsd": {"address": "a:1"}, "http": {"enable_profiling": true, "x": 1}});
        let mut problems = Problems::new("f");
        let aliases = [
            ("statsd.address", "stats_address"),
            ("http.enable_profiling", "deep.er.profiling"),
        ];
        rewrite(&mut document, &aliases, &mut problems);
        assert_eq!(
            document,
            json!({"stats_address": "a:1", "http": {"x": 1}, "deep": {"er": {"profiling": true}}})
        );
        assert!(problems.is_empty());
    }

    #[test]
    fn both_names_at_once_are_a_problem() {
        let mut problems = Problems::new("f");
        rewrite(
            &mut json!({"old": 1, "new": 2}),
            &[("old", "new")],
            &mut problems,
        );
        assert_eq!(
            problems.to_string(),
            "f: old: is another name of new, which is given too"
        );
    }

    #[test]
    fn a_key_without_effect_is_told_and_taken_out() {
        let mut document = json!({"num_workers": 4, "a": 1});
        let mut warnings = Vec::new();
        drop_ignored(
            &mut document,
            &[("num_workers", "threads are chosen by load")],
            &mut warnings,
        );
        assert_eq!(document, json!({"a": 1}));
        assert_eq!(
            warnings,
            ["num_workers has no effect: threads are chosen by load"]
        );
    }
}
