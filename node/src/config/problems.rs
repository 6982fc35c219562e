//! All that is wrong with a configuration, each with its place.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::Value;

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where it was written: a file, a place in a file, an environment variable.
    pub source: String,
    /// The key's path, `ring.algorithm` or `metric_sinks[0].kind`; empty where it concerns the whole.
    pub key: String,
    /// What is wrong and, where that is known, what would be right.
    pub what: String,
}

/// All that is wrong; one line each when displayed: `config.yaml: key: what is wrong`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problems {
    source: String,
    list: Vec<Problem>,
}

// === impl Problems ===

impl Problems {
    /// None yet, of the file or thing called `source`.
    pub fn new(source: &str) -> Self {
        Self {
            source: source.to_owned(),
            list: Vec::new(),
        }
    }

    /// A single one.
    pub fn one(source: &str, key: &str, what: &str) -> Self {
        let mut problems = Self::new(source);
        problems.add(key, what);
        problems
    }

    /// Adds one: the key's path (`metric_sinks[0].kind`) and what is wrong, with the offending value where it is no
    /// secret.
    pub fn add(&mut self, key: impl Into<String>, what: impl fmt::Display) {
        self.list.push(Problem {
            source: self.source.clone(),
            key: key.into(),
            what: what.to_string(),
        });
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Each of them.
    pub fn iter(&self) -> std::slice::Iter<'_, Problem> {
        self.list.iter()
    }

    /// Takes over those of `others` that concern keys about which nothing was said yet: what a check says about a key
    /// that fell back to its default is not the user's fault.
    pub(super) fn add_unless_known(&mut self, others: Problems) {
        let known: Vec<String> = self
            .list
            .iter()
            .map(|problem| top(&problem.key).to_owned())
            .collect();
        self.list.extend(
            others
                .list
                .into_iter()
                .filter(|problem| !known.iter().any(|key| key == top(&problem.key))),
        );
    }

    /// Names the environment variable instead of the file where the key's value came from one.
    pub(super) fn blame(&mut self, variables: &BTreeMap<String, String>) {
        for problem in &mut self.list {
            let from = variables
                .iter()
                .find(|(path, _)| within(&problem.key, path));
            if let Some((_, variable)) = from {
                problem.source.clone_from(variable);
            }
        }
    }
}

/// The first name of a path.
fn top(key: &str) -> &str {
    key.split(['.', '[']).next().unwrap_or(key)
}

/// Whether `key` is `path` or lies below it.
fn within(key: &str, path: &str) -> bool {
    key.strip_prefix(path)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

impl std::error::Error for Problems {}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.list.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.key.is_empty() {
            write!(f, "{}: {}", self.source, self.what)
        } else {
            write!(f, "{}: {}: {}", self.source, self.key, self.what)
        }
    }
}

/// A value as a problem shows it: compact, and cut where it is long.
pub(super) fn shown(value: &Value) -> String {
    const LONGEST: usize = 80;
    let text = value.to_string();
    if text.chars().count() <= LONGEST {
        return text;
    }
    let mut cut: String = text.chars().take(LONGEST).collect();
    cut.push('…');
    cut
}
