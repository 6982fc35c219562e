//! Environment variables that override keys: `TRIBUTARY_RING__ALGORITHM` is `ring.algorithm`.
//!
//! Veneur's names work as well: its prefix and the key without underscores, `VENEUR_FORWARDADDRESS`. Ours win.

use std::collections::BTreeMap;

use serde_json::Value;

use super::alias::put;
use super::problems::Problems;
use super::shape::Shape;
use super::unknown::nearest;

/// Which variables are overrides.
#[derive(Debug, Clone, Copy, Default)]
pub struct Prefixes {
    /// In front of our names: `TRIBUTARY_`. Empty: none are read.
    pub ours: &'static str,
    /// In front of Veneur's names, the longest first: `VENEUR_PROXY_`, `VENEUR_`.
    pub veneur: &'static [&'static str],
}

/// The variables to lay over a file.
#[derive(Debug, Clone, Default)]
pub struct Environment {
    prefixes: Prefixes,
    variables: BTreeMap<String, String>,
}

// === impl Environment ===

impl Environment {
    /// These variables, as a test gives them.
    pub fn new(prefixes: Prefixes, variables: impl IntoIterator<Item = (String, String)>) -> Self {
        Self {
            prefixes,
            variables: variables.into_iter().collect(),
        }
    }

    /// The process's own; names and values that are not Unicode are left out.
    pub fn of_process(prefixes: Prefixes) -> Self {
        let unicode = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        };
        Self::new(prefixes, std::env::vars_os().filter_map(unicode))
    }

    /// Lays the variables over `document`. `blame` learns which key came from which variable.
    pub(super) fn overlay(
        &self,
        document: &mut Value,
        shape: &Shape,
        aliases: &[(&str, &str)],
        blame: &mut BTreeMap<String, String>,
        warnings: &mut Vec<String>,
        problems: &mut Problems,
    ) {
        let keys = Keys::new(shape, aliases);
        // Ours come last, so that they win.
        for (name, text) in &self.variables {
            let mut rests = self
                .prefixes
                .veneur
                .iter()
                .filter_map(|prefix| name.strip_prefix(prefix))
                .peekable();
            if rests.peek().is_none() || self.is_ours(name) {
                continue;
            }
            match rests.find_map(|rest| keys.squeezed(rest)) {
                Some((path, node)) => set(document, name, text, path, node, shape, blame, problems),
                None if is_service_link(name) => {}
                None => warnings.push(format!("{name} is set and names no key")),
            }
        }
        for (name, text) in self.variables.iter().filter(|(name, _)| self.is_ours(name)) {
            let rest = name.strip_prefix(self.prefixes.ours).unwrap_or(name);
            match keys.nested(rest) {
                Some((path, node)) => set(document, name, text, path, node, shape, blame, problems),
                None if is_service_link(name) => {}
                None => {
                    let names: Vec<String> = keys
                        .all
                        .iter()
                        .map(|(path, ..)| path.replace('.', "__"))
                        .collect();
                    let near =
                        nearest(&rest.to_ascii_lowercase(), names.iter().map(String::as_str))
                            .unwrap_or_default();
                    let near = near.to_ascii_uppercase();
                    warnings.push(format!(
                        "{name} is set and names no key, nearest: {}{near}",
                        self.prefixes.ours
                    ));
                }
            }
        }
    }

    fn is_ours(&self, name: &str) -> bool {
        !self.prefixes.ours.is_empty() && name.starts_with(self.prefixes.ours)
    }
}

/// Every key that a variable can name: the path as it may be written, the path that is meant, and its schema.
struct Keys<'a> {
    all: Vec<(String, String, &'a Value)>,
}

impl<'a> Keys<'a> {
    fn new(shape: &'a Shape, aliases: &[(&str, &str)]) -> Self {
        let paths = shape.paths();
        let by_alias = aliases.iter().filter_map(|(alias, key)| {
            let (path, node) = paths.iter().find(|(path, _)| path == key)?;
            Some(((*alias).to_owned(), path.clone(), *node))
        });
        let by_alias: Vec<_> = by_alias.collect();
        let all = paths
            .into_iter()
            .map(|(path, node)| (path.clone(), path, node))
            .chain(by_alias)
            .collect();
        Self { all }
    }

    fn find(&self, fits: impl Fn(&str) -> bool) -> Option<(&str, &'a Value)> {
        self.all
            .iter()
            .find(|(written, ..)| fits(written))
            .map(|(_, path, node)| (path.as_str(), *node))
    }

    /// `RING__ALGORITHM`
    fn nested(&self, name: &str) -> Option<(&str, &'a Value)> {
        self.find(|path| path.replace('.', "__").eq_ignore_ascii_case(name))
    }

    /// `FORWARDADDRESS`, `HTTP_ENABLECONFIG`
    fn squeezed(&self, name: &str) -> Option<(&str, &'a Value)> {
        let name = name.replace('_', "");
        self.find(|path| path.replace(['.', '_'], "").eq_ignore_ascii_case(&name))
    }
}

#[allow(
    clippy::too_many_arguments,
    reason = "one place sets a key from a variable; a struct for it would be used once"
)]
fn set(
    document: &mut Value,
    name: &str,
    text: &str,
    path: &str,
    node: &Value,
    shape: &Shape,
    blame: &mut BTreeMap<String, String>,
    problems: &mut Problems,
) {
    blame.insert(path.to_owned(), name.to_owned());
    match read(text, node, shape) {
        Ok(value) => {
            if !put(document, path, value) {
                problems.add(
                    path,
                    "cannot be set, a key above it in the file is no mapping",
                );
            }
        }
        Err(what) => problems.add(path, what),
    }
}

/// A variable's text as the value that the key takes.
fn read(text: &str, node: &Value, shape: &Shape) -> Result<Value, String> {
    let trimmed = text.trim();
    if shape.takes(node, "array") && !trimmed.starts_with('[') {
        let Some(item) = shape.item(node, 0) else {
            return scalar(trimmed);
        };
        let parts = trimmed
            .split(',')
            .map(str::trim)
            .filter(|part| !part.is_empty());
        return parts
            .map(|part| one(part, item, shape))
            .collect::<Result<Vec<_>, _>>()
            .map(Value::Array);
    }
    one(text, node, shape)
}

fn one(text: &str, node: &Value, shape: &Shape) -> Result<Value, String> {
    let flow = text.trim_start().starts_with(['[', '{']);
    let structured = shape.takes(node, "array") || shape.takes(node, "object");
    if shape.takes(node, "string") && !(flow && structured) {
        return Ok(Value::from(text));
    }
    scalar(text)
}

fn scalar(text: &str) -> Result<Value, String> {
    super::yaml(text).map_err(|error| format!("is not YAML: {}", super::yaml_error_text(&error)))
}

/// Whether a variable is one that Kubernetes sets for each service: a service called `tributary-proxy` yields
/// `TRIBUTARY_PROXY_SERVICE_HOST`, `TRIBUTARY_PROXY_PORT_8228_TCP_ADDR` and more.
fn is_service_link(name: &str) -> bool {
    let digits = |text: &str| {
        text.chars()
            .next()
            .is_some_and(|first| first.is_ascii_digit())
    };
    name.ends_with("_SERVICE_HOST")
        || name.contains("_SERVICE_PORT")
        || name.ends_with("_PORT")
        || name.split("_PORT_").skip(1).any(digits)
}
