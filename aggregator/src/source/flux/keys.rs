//! Who may send: Flux's own key, and keys whose metrics live under a namespace.
//!
//! A key is compared with every known one in constant time, and never written into a log, an answer or an error.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Deserializer};
use serde_json::Value;
use subtle::{Choice, ConstantTimeEq};
use tributary_node::config::Secret;

/// How long a key is.
const LENGTH: usize = 32;

/// What a key's owner may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pass {
    /// What the names of its metrics start with; `None` for the key without one.
    pub(super) namespace: Option<Arc<str>>,
}

impl Pass {
    /// The full name of a metric: under the namespace, unless it says so already.
    pub(super) fn full_name(&self, metric: &str) -> String {
        match &self.namespace {
            Some(namespace) if !under(metric, namespace) => format!("{namespace}.{metric}"),
            _ => metric.to_owned(),
        }
    }
}

/// Whether a metric is a namespace's: its name starts with it and a dot.
pub(super) fn under(metric: &str, namespace: &str) -> bool {
    metric
        .strip_prefix(namespace)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// Every known key.
#[derive(Clone, Default, PartialEq, Eq)]
pub(super) struct Keys(Vec<([u8; LENGTH], Option<Arc<str>>)>);

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} keys", self.0.len())
    }
}

impl Keys {
    /// Adds one, if it is 32 ASCII letters and digits and not there yet.
    pub(super) fn add(&mut self, key: &str, namespace: Option<&str>) -> Result<(), &'static str> {
        let bytes = <[u8; LENGTH]>::try_from(key.as_bytes())
            .ok()
            .filter(|bytes| bytes.iter().all(u8::is_ascii_alphanumeric))
            .ok_or("a key has to be 32 ASCII letters and digits")?;
        if self.0.iter().any(|(known, _)| *known == bytes) {
            return Err("a key is given twice");
        }
        let namespace = namespace.map(|name| name.trim_end_matches('.'));
        if namespace.is_some_and(str::is_empty) {
            return Err("a key has an empty namespace");
        }
        self.0.push((bytes, namespace.map(Arc::from)));
        Ok(())
    }

    /// Whose key it is. Takes as long for a wrong key of the right length as for a right one.
    pub(super) fn pass(&self, key: &str) -> Option<Pass> {
        let given = <[u8; LENGTH]>::try_from(key.as_bytes()).ok()?;
        let mut found = None;
        for (known, namespace) in &self.0 {
            let same: Choice = known.ct_eq(&given);
            if same.into() {
                found = Some(namespace);
            }
        }
        found.map(|namespace| Pass {
            namespace: namespace.clone(),
        })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Keys and their namespaces as they are configured. An error never quotes one.
#[derive(Clone, Default)]
pub struct ApiKeys(Vec<(Secret, String)>);

impl fmt::Debug for ApiKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.0.iter().map(|(_, namespace)| namespace))
            .finish()
    }
}

impl ApiKeys {
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0
            .iter()
            .map(|(key, namespace)| (key.expose(), namespace.as_str()))
    }
}

impl<'de> Deserialize<'de> for ApiKeys {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use serde::de::Error as _;
        // Read as a whole first: a path into the map, which errors tell, would show a key.
        let Value::Object(map) = Value::deserialize(deserializer)? else {
            return Err(D::Error::custom("is no map from keys to namespaces"));
        };
        let pairs = map.into_iter().map(|(key, namespace)| match namespace {
            Value::String(namespace) => Ok((Secret::new(key), namespace)),
            _ => Err(D::Error::custom("the namespace of each key has to be text")),
        });
        pairs.collect::<Result<_, _>>().map(Self)
    }
}

/// The key in a file: its first line.
pub(super) fn read_key(path: &Path) -> Result<Secret, String> {
    let text = read(path)?;
    Ok(Secret::new(text.lines().next().unwrap_or_default().trim()))
}

/// The keys in a file: lines of `KEY: NAMESPACE`; empty ones and those that start with `#` do not count.
pub(super) fn read_keys(path: &Path) -> Result<ApiKeys, String> {
    let text = read(path)?;
    let lines = text.lines().map(str::trim).enumerate();
    let lines = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    let bare = |text: &str| text.trim().trim_matches(['"', '\'']).to_owned();
    let pairs = lines.map(|(position, line)| match line.split_once(':') {
        Some((key, namespace)) => Ok((Secret::new(bare(key)), bare(namespace))),
        None => Err(format!(
            "line {} of `{}` is not `KEY: NAMESPACE`",
            position + 1,
            path.display()
        )),
    });
    pairs.collect::<Result<_, _>>().map(ApiKeys)
}

fn read(path: &Path) -> Result<String, String> {
    std::fs::read_to_string(path)
        .map_err(|error| format!("cannot read `{}`: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const OWN: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    const OTHER: &str = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";

    #[test]
    fn a_known_key_has_its_namespace_and_no_other_key_passes() {
        let mut keys = Keys::default();
        keys.add(OWN, None).unwrap();
        keys.add(OTHER, Some("warehouse-1")).unwrap();
        assert_eq!(keys.pass(OWN).unwrap().full_name("a.b"), "a.b");
        let pass = keys.pass(OTHER).unwrap();
        assert_eq!(pass.full_name("a.b"), "warehouse-1.a.b");
        assert_eq!(pass.full_name("warehouse-1.a"), "warehouse-1.a");
        assert_eq!(
            pass.full_name("warehouse-10.a"),
            "warehouse-1.warehouse-10.a",
            "no way into a neighbour's namespace"
        );
        for wrong in ["", "short", &OWN[1..], &OWN.replacen('a', "b", 1)] {
            assert_eq!(keys.pass(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_key_that_cannot_be_one_is_refused_and_not_shown() {
        let mut keys = Keys::default();
        for wrong in ["short-and-secret", &OWN.replacen('a', "-", 1)] {
            let problem = keys.add(wrong, None).unwrap_err();
            assert!(!problem.contains(wrong), "{problem}");
        }
        keys.add(OWN, None).unwrap();
        assert!(keys.add(OWN, Some("x")).is_err(), "twice");
        assert!(keys.add(OTHER, Some(".")).is_err(), "no namespace");
        assert!(!format!("{keys:?}").contains(OWN));
        let given: ApiKeys = serde_json::from_value(json!({OWN: "x"})).unwrap();
        assert!(!format!("{given:?}").contains(OWN));
        let error = serde_json::from_value::<ApiKeys>(json!({OWN: 5})).unwrap_err();
        assert!(!error.to_string().contains(OWN), "{error}");
    }

    #[test]
    fn files_hold_keys_by_lines() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("keys");
        std::fs::write(&path, format!("# ours\n\n{OWN}: a\n\"{OTHER}\": 'b.c'\n")).unwrap();
        let keys = read_keys(&path).unwrap();
        assert_eq!(
            keys.iter().collect::<Vec<_>>(),
            [(OWN, "a"), (OTHER, "b.c")]
        );
        std::fs::write(&path, format!("{OWN} a\n")).unwrap();
        let problem = read_keys(&path).unwrap_err();
        assert!(
            problem.starts_with("line 1") && !problem.contains(OWN),
            "{problem}"
        );
        std::fs::write(&path, format!("{OWN}\n")).unwrap();
        assert_eq!(read_key(&path).unwrap().expose(), OWN);
    }
}
