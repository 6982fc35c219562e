//! Values that must not be seen: tokens, passwords, keys.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};

/// What stands where a secret would.
pub const REDACTED: &str = "REDACTED";

/// A text that neither `Debug` nor `Serialize` shows.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Secret(String);

// === impl Secret ===

impl Secret {
    /// Wraps `text`.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself. Never write it to a log, an error or an answer.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether nothing was given.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn shown(&self) -> &'static str {
        if self.0.is_empty() { "" } else { REDACTED }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.shown(), f)
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.shown())
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self)
    }
}

impl JsonSchema for Secret {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "Secret".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "format": "password"})
    }
}

/// Settings as they may be shown to anybody: [`Secret`]s are hidden, and so are, in free-form values such as a sink's
/// `config`, the values of keys that sound like secrets, the keys of maps under `api_keys`, both sides of maps under `keys`, the passwords inside URLs
/// and private keys.
pub fn redacted<T: Serialize>(settings: &T) -> Value {
    let mut value = serde_json::to_value(settings).unwrap_or(Value::Null);
    hide(&mut value);
    value
}

/// Whether a key's name says that its value is not to be shown.
pub fn sounds_secret(key: &str) -> bool {
    const WORDS: [&str; 9] = [
        "secret",
        "password",
        "passwd",
        "token",
        "api_key",
        "apikey",
        "access_key",
        "credential",
        "authorization",
    ];
    let key = key.to_ascii_lowercase().replace('-', "_");
    WORDS.iter().any(|word| key.contains(word))
        || key.ends_with("dsn")
        || key.ends_with("private_key")
}

fn hide(value: &mut Value) {
    match value {
        Value::Object(map) => {
            for (key, value) in map.iter_mut() {
                if let ("api_keys", Value::Object(keys)) = (key.as_str(), &mut *value) {
                    blot_keys(keys);
                } else if let ("keys", Value::Object(keys)) = (key.as_str(), &mut *value) {
                    blot_keys(keys);
                    keys.values_mut().for_each(blot);
                } else if sounds_secret(key) {
                    blot(value);
                } else {
                    hide(value);
                }
            }
        }
        Value::Array(list) => list.iter_mut().for_each(hide),
        Value::String(text) => {
            // A PEM text that stands where a file's name could.
            if text.contains("PRIVATE KEY-----") {
                *text = REDACTED.to_owned();
            } else if let Some(clean) = without_password(text) {
                *text = clean;
            }
        }
        _ => {}
    }
}

/// Hides the keys of a map, where they are the secrets, and shows what they stand for.
fn blot_keys(map: &mut Map<String, Value>) {
    let values = std::mem::take(map).into_iter().map(|(_, value)| value);
    for (position, mut value) in values.enumerate() {
        hide(&mut value);
        map.insert(format!("{REDACTED} {}", position + 1), value);
    }
}

/// Hides every text and number below `value`, so that `tokens: [a, b]` is hidden as well.
fn blot(value: &mut Value) {
    match value {
        Value::Object(map) => map.values_mut().for_each(blot),
        Value::Array(list) => list.iter_mut().for_each(blot),
        Value::String(text) if text.is_empty() => {}
        Value::String(_) | Value::Number(_) => *value = Value::from(REDACTED),
        Value::Null | Value::Bool(_) => {}
    }
}

/// `http://user:word@host/` without `word`, where there is one.
fn without_password(text: &str) -> Option<String> {
    let (scheme, rest) = text.split_once("://")?;
    let authority_end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(authority_end);
    let (user, host) = authority.rsplit_once('@')?;
    let (user, _) = user.split_once(':')?;
    Some(format!("{scheme}://{user}:{REDACTED}@{host}{path}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_secret_is_neither_printed_nor_serialised() {
        let secret = Secret::new("hunter2");
        assert_eq!(format!("{secret:?}"), "\"REDACTED\"");
        assert_eq!(redacted(&secret), json!("REDACTED"));
        assert_eq!(
            redacted(&Secret::default()),
            json!(""),
            "no secret is no secret"
        );
        assert_eq!(secret.expose(), "hunter2");
    }

    #[test]
    fn a_private_key_in_a_free_form_value_is_hidden_and_a_files_name_is_not() {
        let pem = "-----BEGIN EC PRIVATE KEY-----\nMHc=\n-----END EC PRIVATE KEY-----\n";
        let given = json!({"config": {"tls": {"key_file": pem, "cert_file": "/etc/tls/a.crt"}}});
        let shown =
            json!({"config": {"tls": {"key_file": "REDACTED", "cert_file": "/etc/tls/a.crt"}}});
        assert_eq!(redacted(&given), shown);
    }

    #[test]
    fn keys_that_are_secrets_are_hidden_and_what_they_stand_for_is_shown() {
        let given = json!({"config": {
            "self_api_key": "k1", "api_keys": {"k2": "warehouse-1", "k3": {"url": "http://user:word@host/"}}}});
        assert_eq!(
            redacted(&given),
            json!({"config": {
                "self_api_key": "REDACTED",
                "api_keys": {"REDACTED 1": "warehouse-1", "REDACTED 2": {"url": "http://user:REDACTED@host/"}}}})
        );
        let either = json!({"uploads": {"keys": {"k1": "warehouse-1", "warehouse-2": "k2"}}});
        assert_eq!(
            redacted(&either),
            json!({"uploads": {"keys": {"REDACTED 1": "REDACTED", "REDACTED 2": "REDACTED"}}})
        );
        let list = json!({"api_keys": ["k1", "k2"]});
        assert_eq!(
            redacted(&list),
            json!({"api_keys": ["REDACTED", "REDACTED"]})
        );
    }

    #[test]
    fn free_form_values_hide_what_sounds_secret_and_keep_the_rest() {
        let given = json!({"config": {
            "api_key": "k", "Password": "p", "tokens": ["a", {"deep": 1}], "path": "./points.jsonl",
            "url": "http://user:word@host:1/x?y", "plain": "http://host/a@b:c", "tokenise": false, "sentry_dsn": "http://k@h/1"}});
        assert_eq!(
            redacted(&given),
            json!({"config": {
                "api_key": "REDACTED", "Password": "REDACTED", "tokens": ["REDACTED", {"deep": "REDACTED"}], "path": "./points.jsonl",
                "url": "http://user:REDACTED@host:1/x?y", "plain": "http://host/a@b:c", "tokenise": false, "sentry_dsn": "REDACTED"}})
        );
    }
}
