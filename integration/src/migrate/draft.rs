//! The new configuration while it is written.

use std::fmt::Write as _;

use serde_json::{Map, Value};

use super::report::{Report, Verdict};
use super::{Migrated, Ours};

/// The new configuration, and what was said of the old one.
#[derive(Debug)]
pub(super) struct Draft {
    program: Ours,
    /// In the order in which they were set.
    keys: Vec<(String, Value)>,
    pub(super) report: Report,
}

impl Draft {
    pub(super) fn new(program: Ours) -> Self {
        Self {
            program,
            keys: Vec::new(),
            report: Report::default(),
        }
    }

    /// Sets a key, or one below it: `tls.ca_file`.
    pub(super) fn set(&mut self, path: &str, value: impl Into<Value>) {
        let (top, below) = path
            .split_once('.')
            .map_or((path, None), |(top, below)| (top, Some(below)));
        if !self.keys.iter().any(|(key, _)| key == top) {
            self.keys.push((top.to_owned(), Value::Null));
        }
        for (key, slot) in &mut self.keys {
            if key == top {
                place(slot, below, value.into());
                return;
            }
        }
    }

    /// Whether a top-level key is set.
    pub(super) fn has(&self, key: &str) -> bool {
        self.keys.iter().any(|(known, _)| known == key)
    }

    /// Adds to a list, and gives the new element's place.
    pub(super) fn push(&mut self, key: &str, element: Value) -> usize {
        if !self.has(key) {
            self.set(key, Value::Array(Vec::new()));
        }
        for (known, list) in &mut self.keys {
            if known == key
                && let Value::Array(list) = list
            {
                list.push(element);
                return list.len() - 1;
            }
        }
        0
    }

    /// A top-level key's value, to change it.
    pub(super) fn get_mut(&mut self, key: &str) -> Option<&mut Value> {
        let found = self.keys.iter_mut().find(|(known, _)| known == key);
        found.map(|(_, value)| value)
    }

    /// The old key as it is.
    pub(super) fn taken(&mut self, key: &str, value: Value) {
        self.report.add(key, &value, Verdict::Taken, "");
        self.set(key, value);
    }

    /// The old key's meaning under another key; `why` says what changes besides the name.
    pub(super) fn changed(
        &mut self,
        key: &str,
        old: &Value,
        to: &str,
        new: impl Into<Value>,
        why: &str,
    ) {
        let what = match why {
            "" => format!("now {to}"),
            why => format!("now {to}: {why}"),
        };
        self.report.add(key, old, Verdict::Changed, &what);
        self.set(to, new);
    }

    /// Says that a key's meaning is there in another form, which is set elsewhere.
    pub(super) fn turned(&mut self, key: &str, old: &Value, what: &str) {
        self.report.add(key, old, Verdict::Changed, what);
    }

    /// Says why a key is not taken.
    pub(super) fn refused(&mut self, key: &str, old: &Value, why: &str) {
        self.report.add(key, old, Verdict::NotSupported, why);
    }

    /// Says something that belongs to no key.
    pub(super) fn note(&mut self, text: impl Into<String>) {
        self.report.notes.push(text.into());
    }

    /// The text of the new file, once our own check accepts it: what that refuses is taken out, and reported.
    pub(super) fn finish(mut self, source: &str) -> Result<Migrated, String> {
        // Each round takes one key out at least.
        for _ in 0..=self.keys.len() * 8 {
            let config = self.text(source)?;
            let Err(problems) = self.program.check(&config) else {
                return Ok(Migrated {
                    program: self.program,
                    config,
                    report: self.report,
                });
            };
            for problem in problems.iter() {
                let Some(value) = self.take_out(&problem.key) else {
                    return Err(format!(
                        "what came out is refused by {}: {problems}",
                        self.program.name()
                    ));
                };
                let why = format!("left out of the new file: {}", problem.what);
                self.report
                    .add(&problem.key, &value, Verdict::NotSupported, &why);
            }
        }
        Err("what came out is refused however much is taken out of it".to_owned())
    }

    /// Takes out what a problem's key names; an element of a list goes as a whole.
    fn take_out(&mut self, path: &str) -> Option<Value> {
        let end = path.find(['.', '[']).unwrap_or(path.len());
        let (top, rest) = path.split_at(end);
        let index = rest
            .strip_prefix('[')
            .and_then(|rest| rest.split_once(']'))
            .and_then(|(index, _)| index.parse::<usize>().ok());
        if let (Some(index), Some(Value::Array(list))) = (index, self.get_mut(top)) {
            return (index < list.len()).then(|| list.remove(index));
        }
        if let (Some(below), Some(Value::Object(keys))) = (
            rest.strip_prefix('.').map(|below| {
                let end = below.find(['.', '[']).unwrap_or(below.len());
                &below[..end]
            }),
            self.get_mut(top),
        ) && let Some(value) = keys.remove(below)
        {
            return Some(value);
        }
        let at = self.keys.iter().position(|(key, _)| key == top)?;
        Some(self.keys.remove(at).1)
    }

    fn text(&self, source: &str) -> Result<String, String> {
        let mut text = format!(
            "# {}, made from {source} by `tributary migrate`.\n",
            self.program.name()
        );
        for (key, value) in &self.keys {
            let one = Map::from_iter([(key.clone(), value.clone())]);
            let yaml = serde_saphyr::to_string(&one).map_err(|error| error.to_string())?;
            // Writing into a string cannot fail.
            let _ = writeln!(text, "{}", yaml.trim_end());
        }
        Ok(text)
    }
}

/// Puts a value at a path of keys; what stands in the way is replaced.
fn place(slot: &mut Value, path: Option<&str>, value: Value) {
    let Some(path) = path else {
        *slot = value;
        return;
    };
    let (key, below) = path
        .split_once('.')
        .map_or((path, None), |(key, below)| (key, Some(below)));
    if !slot.is_object() {
        *slot = Value::Object(Map::new());
    }
    if let Value::Object(keys) = slot {
        place(
            keys.entry(key.to_owned()).or_insert(Value::Null),
            below,
            value,
        );
    }
}
