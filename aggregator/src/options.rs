//! Reading the `config` of one source or sink: every problem at once, each with its key, and unknown keys with the nearest known one.

use std::collections::BTreeSet;
use std::path::PathBuf;

use serde::de::DeserializeOwned;
use serde::{Deserialize as _, Deserializer};
use serde_json::Value;
use serde_path_to_error::Segment;
use tributary_node::config::sounds_secret;

/// All that is wrong with a configuration, one text each, starting with the key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.join("; "))]
pub struct Problems(pub Vec<String>);

impl Problems {
    /// A problem of a source's or sink's own settings, which may start with a key of those, under `owner`: `sources[0]`.
    pub(crate) fn under(owner: &str, problem: &str) -> String {
        match problem.split_once(": ") {
            Some((key, what)) if !key.contains(' ') => format!("{owner}.config.{key}: {what}"),
            _ => format!("{owner}.config: {problem}"),
        }
    }
}

/// The kind of that name among those there are of a sort, `sink`. The error names the known ones and the nearest.
pub(crate) fn find<T>(
    sort: &str,
    kind: &str,
    kinds: &'static [T],
    name: fn(&T) -> &'static str,
) -> Result<&'static T, String> {
    kinds
        .iter()
        .find(|known| name(known) == kind)
        .ok_or_else(|| {
            if kind == "kafka" {
                return format!(
                    "this build has no {sort} kind `kafka`: build with the feature `kafka`"
                );
            }
            let known: Vec<_> = kinds.iter().map(name).collect();
            let hint = nearest(kind, known.iter().copied())
                .map(|near| format!(", did you mean `{near}`?"))
                .unwrap_or_default();
            format!(
                "unknown {sort} kind `{kind}`{hint} (known: {})",
                known.join(", ")
            )
        })
}

/// Reads a config struct.
///
/// Serde stops at the first problem, so the key that has one is noted, taken out, and the rest read again.
pub(crate) fn parse<T: DeserializeOwned>(config: &Value) -> Result<T, Vec<String>> {
    let mut rest = match config {
        Value::Null => Value::Object(serde_json::Map::new()),
        other => other.clone(),
    };
    let mut problems = Vec::new();
    let mut removed = BTreeSet::new();
    loop {
        let error = match serde_path_to_error::deserialize::<_, T>(&rest) {
            Ok(parsed) if problems.is_empty() => return Ok(parsed),
            Ok(_) => return Err(problems),
            Err(error) => error,
        };
        let message = error.inner().to_string();
        if let Some(missing) = quoted_after(&message, "missing field `")
            && removed.contains(missing)
        {
            return Err(problems);
        }
        let key = match error.path().iter().next() {
            Some(Segment::Map { key }) => Some(key.clone()),
            _ => quoted_after(&message, "unknown field `").map(str::to_owned),
        };
        problems.push(problem(&error.path().to_string(), &message));
        let taken_out = match (rest.as_object_mut(), key) {
            (Some(object), Some(key)) => object.remove(&key).map(|_| removed.insert(key)),
            _ => None,
        };
        if taken_out.is_none() {
            return Err(problems);
        }
    }
}

/// Reads a config struct that also has no problems beyond the types of its keys.
pub(crate) fn checked<T: DeserializeOwned>(
    config: &Value,
    problems: fn(&T) -> Vec<String>,
) -> Result<T, Problems> {
    let config = parse::<T>(config).map_err(Problems)?;
    let problems = problems(&config);
    match problems.is_empty() {
        true => Ok(config),
        false => Err(Problems(problems)),
    }
}

fn problem(path: &str, message: &str) -> String {
    let Some((unknown, known)) = unknown_field(message) else {
        let last = path.rsplit('.').next().unwrap_or(path);
        return match (path, message.split_once(", expected ")) {
            (".", _) => message.to_owned(),
            // The words have the value, which may be the secret itself: a password of digits alone.
            (_, Some((_, expected))) if sounds_secret(last) => {
                format!("{path}: is not {expected}")
            }
            _ => format!("{path}: {message}"),
        };
    };
    // The path of an unknown key ends with the key itself or with the object that holds it.
    let key = match path {
        "." => unknown.to_owned(),
        _ if path == unknown || path.ends_with(&format!(".{unknown}")) => path.to_owned(),
        _ => format!("{path}.{unknown}"),
    };
    match nearest(unknown, known.iter().copied()) {
        Some(near) => format!("{key}: unknown key, did you mean `{near}`?"),
        None if known.is_empty() => format!("{key}: unknown key, there are none here"),
        None => format!("{key}: unknown key, known are {}", known.join(", ")),
    }
}

/// The unknown name and the known ones, out of serde's message.
fn unknown_field(message: &str) -> Option<(&str, Vec<&str>)> {
    let unknown = quoted_after(message, "unknown field `")?;
    let (_, expected) = message.split_once(", ")?;
    // Between backquotes stands every second piece.
    Some((unknown, expected.split('`').skip(1).step_by(2).collect()))
}

fn quoted_after<'a>(message: &'a str, prefix: &str) -> Option<&'a str> {
    message.strip_prefix(prefix)?.split('`').next()
}

/// A path that may be left out; an empty one is, too.
pub(crate) fn given_path<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<PathBuf>, D::Error> {
    let path = Option::<PathBuf>::deserialize(deserializer)?;
    Ok(path.filter(|path| !path.as_os_str().is_empty()))
}

/// The candidate that is most like a name, if any is like it at all.
pub(crate) fn nearest<'a>(
    name: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    const ALIKE: f64 = 0.75;
    candidates
        .into_iter()
        .map(|candidate| (strsim::jaro_winkler(name, candidate), candidate))
        .filter(|(likeness, _)| *likeness >= ALIKE)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;
    use serde_json::json;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only the reading is tested")]
    struct Config {
        url: String,
        #[serde(default)]
        retries: u32,
        #[serde(default)]
        login: Option<Login>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only the reading is tested")]
    struct Login {
        user: String,
        #[serde(default)]
        password: Option<String>,
    }

    fn problems(config: Value) -> Vec<String> {
        parse::<Config>(&config).unwrap_err()
    }

    #[test]
    fn every_problem_is_told_at_once_with_its_key() {
        let found = problems(json!({"urll": "x", "url": 5, "retries": "many", "zzz": 1}));
        assert_eq!(found.len(), 4, "{found:?}");
        let has = |text: &str| found.iter().any(|problem| problem.starts_with(text));
        assert!(has("urll: unknown key, did you mean `url`?"), "{found:?}");
        assert!(has("url: invalid type: integer `5`"), "{found:?}");
        assert!(has("retries: invalid type: string \"many\""), "{found:?}");
        assert!(
            has("zzz: unknown key, known are url, retries, login"),
            "{found:?}"
        );
    }

    #[test]
    fn a_secret_of_the_wrong_type_is_not_shown() {
        let found = problems(json!({"url": "x", "login": {"user": "u", "password": 12345}}));
        assert_eq!(found, ["login.password: is not a string"]);
    }

    #[test]
    fn an_empty_path_is_none() {
        #[derive(Debug, Default, Deserialize)]
        #[serde(default)]
        struct Files {
            #[serde(deserialize_with = "crate::options::given_path")]
            key: Option<PathBuf>,
        }
        let key = |config: Value| parse::<Files>(&config).unwrap().key;
        assert_eq!(key(json!({"key": ""})), None);
        assert_eq!(key(json!({})), None);
        assert_eq!(key(json!({"key": null})), None);
        assert_eq!(key(json!({"key": "/run/key"})), Some("/run/key".into()));
    }

    #[test]
    fn a_missing_key_is_named() {
        assert_eq!(problems(Value::Null), ["missing field `url`"]);
    }

    #[test]
    fn an_unknown_key_further_down_has_its_path() {
        let found = problems(json!({"url": "x", "login": {"user": "a", "usr": "b"}}));
        assert_eq!(found, ["login.usr: unknown key, did you mean `user`?"]);
    }

    #[test]
    fn what_is_no_object_is_one_problem() {
        let found = problems(json!("text"));
        assert_eq!(found.len(), 1, "{found:?}");
    }
}
