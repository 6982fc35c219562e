//! What became of each key.

use std::fmt;

use serde_json::Value;

/// What became of one key of the old file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its path, `metric_sinks[0].config.api_key`.
    pub key: String,
    /// Its value, cut short, or what stands for a secret.
    pub value: String,
    /// Taken or not.
    pub verdict: Verdict,
    /// What there is to say about it.
    pub why: String,
}

/// Taken or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// The same key with the same value.
    Taken,
    /// Its meaning is there under another key or in another form.
    Changed,
    /// What it asks for is not there, or not needed.
    NotSupported,
}

impl Verdict {
    fn as_str(self) -> &'static str {
        match self {
            Self::Taken => "taken",
            Self::Changed => "changed",
            Self::NotSupported => "not supported",
        }
    }
}

/// A word on each key.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// In the order of the old file's keys.
    pub entries: Vec<Entry>,
    /// What does not belong to one key.
    pub notes: Vec<String>,
}

impl Report {
    pub(super) fn add(&mut self, key: &str, value: &Value, verdict: Verdict, why: &str) {
        self.entries.push(Entry {
            key: key.to_owned(),
            value: shown(key, value),
            verdict,
            why: why.to_owned(),
        });
    }

    /// How many have that verdict.
    pub fn count(&self, verdict: Verdict) -> usize {
        let with = |entry: &&Entry| entry.verdict == verdict;
        self.entries.iter().filter(with).count()
    }

    /// Whether a key that has a value, and not an empty one, is not supported.
    pub fn is_anything_lost(&self) -> bool {
        self.entries.iter().any(|entry| {
            entry.verdict == Verdict::NotSupported
                && !matches!(
                    entry.value.as_str(),
                    "" | "\"\"" | "[]" | "{}" | "0" | "false" | "null"
                )
        })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.entries.iter().map(|entry| entry.key.len());
        let width = width.max().unwrap_or(0).min(48);
        for entry in &self.entries {
            let Entry {
                key,
                value,
                verdict,
                why,
            } = entry;
            write!(f, "{:<13}  {key:<width$}  {value}", verdict.as_str())?;
            if !why.is_empty() {
                write!(f, "  # {why}")?;
            }
            writeln!(f)?;
        }
        for note in &self.notes {
            writeln!(f, "note: {note}")?;
        }
        write!(
            f,
            "{} taken, {} changed, {} not supported",
            self.count(Verdict::Taken),
            self.count(Verdict::Changed),
            self.count(Verdict::NotSupported)
        )
    }
}

/// A value on one line, cut short; a secret is not shown.
fn shown(key: &str, value: &Value) -> String {
    const LONGEST: usize = 60;
    let secret = [
        "key",
        "secret",
        "token",
        "password",
        "dsn",
        "apikey",
        "authorization",
        "credentials",
    ];
    let last = key.rsplit('.').next().unwrap_or(key).to_lowercase();
    let sounds_secret = secret.iter().any(|word| last.ends_with(word));
    let hidden = match value {
        Value::String(text) => !text.is_empty(),
        Value::Array(_) | Value::Object(_) => true,
        _ => false,
    };
    if sounds_secret && hidden {
        return "REDACTED".to_owned();
    }
    let redacted = tributary_node::config::redacted(value).to_string();
    match redacted.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &redacted[..end]),
        None => redacted,
    }
}
