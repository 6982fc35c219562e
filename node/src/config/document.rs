//! The manual of a settings struct as Markdown: every key with its type, its default and its doc comment.

use std::fmt::Write as _;

use schemars::Schema;
use serde::Deserialize;
use serde_json::Value;

use super::Settings;
use super::shape::{Shape, types};

/// Lists all keys of `T` in the order in which the struct declares them.
pub fn document<T: Settings>() -> String {
    let shape = Shape::of::<T>();
    // Read back from text: a `Value` would sort the keys.
    let text = serde_json::to_string(&T::default()).unwrap_or_default();
    let default: Ordered = serde_json::from_str(&text).unwrap_or(Ordered::Plain);
    let values: Value = serde_json::from_str(&text).unwrap_or(Value::Null);
    let mut page = Page {
        shape: &shape,
        text: String::new(),
    };
    page.keys(shape.root(), "", Some(&default), Some(&values));
    let aliases = T::aliases();
    if !aliases.is_empty() {
        page.text
            .push_str("### Other names\n\nEach of these works in place of the key beside it.\n\n");
        for (alias, key) in aliases {
            let _ = writeln!(
                page.text,
                "- `{alias}`: [`{key}`](#{})",
                key.replace(['.', '[', ']'], "")
            );
        }
        page.text.push('\n');
    }
    let ignored = T::ignored();
    if !ignored.is_empty() {
        page.text.push_str("### Keys without effect\n\nThese are accepted, and a warning tells that they do nothing.\n\n");
        for (key, reason) in ignored {
            let _ = writeln!(page.text, "- `{key}`: {reason}");
        }
        page.text.push('\n');
    }
    page.text
}

/// Lists all keys of a free-form part of some settings, `prefix` in front of each: what a sink of some kind takes.
///
/// Defaults stand in the keys' descriptions.
pub fn document_schema(schema: Schema, prefix: &str) -> String {
    let shape = Shape::from_schema(schema);
    let mut page = Page {
        shape: &shape,
        text: String::new(),
    };
    page.keys(shape.root(), prefix, None, None);
    page.text
}

struct Page<'a> {
    shape: &'a Shape,
    text: String,
}

impl Page<'_> {
    fn keys(
        &mut self,
        node: &Value,
        prefix: &str,
        order: Option<&Ordered>,
        values: Option<&Value>,
    ) {
        let mut fields = self.shape.fields(node).known;
        fields.sort_by_key(|(key, _)| {
            order
                .and_then(|order| order.place(key))
                .unwrap_or(usize::MAX)
        });
        for (key, schema) in fields {
            let path = format!("{prefix}{key}");
            let value = values.and_then(|values| values.get(key));
            let _ = write!(self.text, "### `{path}`\n\n{}", self.type_name(schema));
            let nested =
                !self.shape.fields(schema).known.is_empty() && value.is_none_or(Value::is_object);
            match value {
                Some(value) if !value.is_null() && !nested => {
                    let shown = value
                        .as_str()
                        .filter(|text| !text.is_empty())
                        .map_or(value.to_string(), str::to_owned);
                    let _ = write!(self.text, ", default `{shown}`");
                }
                _ if values.is_some() && !nested => self.text.push_str(", default: none"),
                _ => {}
            }
            self.text.push_str(".\n\n");
            if let Some(said) = description(self.shape, schema) {
                let _ = write!(self.text, "{}\n\n", said.trim());
            }
            self.variants(schema);
            let below = order.and_then(|order| order.get(key));
            if self.shape.takes(schema, "array") {
                if let Some(item) = self.shape.item(schema, 0) {
                    self.keys(item, &format!("{path}[]."), None, None);
                }
            } else {
                self.keys(schema, &format!("{path}."), below, value);
            }
        }
    }

    /// The words that may stand here, each with what it means.
    fn variants(&mut self, node: &Value) {
        let mut any = false;
        for one in self.shape.alternatives(node) {
            if let (Some(word), Some(said)) = (
                one.get("const").and_then(Value::as_str),
                one.get("description").and_then(Value::as_str),
            ) {
                let _ = writeln!(
                    self.text,
                    "- `{word}`: {}",
                    said.split_whitespace().collect::<Vec<_>>().join(" ")
                );
                any = true;
            }
        }
        if any {
            self.text.push('\n');
        }
    }

    fn type_name(&self, node: &Value) -> String {
        if self.shape.is_free(node) {
            return "anything".to_owned();
        }
        let mut names: Vec<String> = Vec::new();
        for node in self.shape.alternatives(node) {
            for name in self.plain_names(node) {
                if !names.contains(&name) {
                    names.push(name);
                }
            }
        }
        names.join(" or ")
    }

    fn plain_names(&self, node: &Value) -> Vec<String> {
        match node.get("format").and_then(Value::as_str) {
            Some("duration") => return vec!["duration".to_owned()],
            Some("size") => return vec!["size".to_owned()],
            Some("password") => return vec!["secret text".to_owned()],
            _ => {}
        }
        if let Some(word) = node.get("const") {
            return vec![quoted(word)];
        }
        if let Some(words) = node.get("enum").and_then(Value::as_array) {
            return words.iter().map(quoted).collect();
        }
        let list = || match self.shape.item(node, 0) {
            Some(item) => format!("list of {}", self.type_name(item)),
            None => "list".to_owned(),
        };
        let object = || match self.shape.fields(node).others {
            Some(others) => format!("keys of your choice with {}", self.type_name(others)),
            None => "keys as below".to_owned(),
        };
        types(node)
            .filter_map(|name| match name {
                "string" => Some("text".to_owned()),
                "integer" => Some("whole number".to_owned()),
                "number" => Some("number".to_owned()),
                "boolean" => Some("true or false".to_owned()),
                "array" => Some(list()),
                "object" => Some(object()),
                _ => None,
            })
            .collect()
    }
}

/// What the field says of itself; where it says nothing, what its type says.
fn description<'v>(shape: &'v Shape, node: &'v Value) -> Option<&'v str> {
    let said = |node: &'v Value| node.get("description").and_then(Value::as_str);
    said(node).or_else(|| match shape.alternatives(node).as_slice() {
        [one] => said(one),
        _ => None,
    })
}

fn quoted(value: &Value) -> String {
    format!(
        "`{}`",
        value
            .as_str()
            .map_or_else(|| value.to_string(), str::to_owned)
    )
}

/// A JSON text's keys in the order in which they stand there.
enum Ordered {
    Keys(Vec<(String, Ordered)>),
    Plain,
}

impl Ordered {
    fn place(&self, key: &str) -> Option<usize> {
        match self {
            Self::Keys(keys) => keys.iter().position(|(known, _)| known == key),
            Self::Plain => None,
        }
    }

    fn get(&self, key: &str) -> Option<&Ordered> {
        match self {
            Self::Keys(keys) => keys
                .iter()
                .find(|(known, _)| known == key)
                .map(|(_, below)| below),
            Self::Plain => None,
        }
    }
}

impl<'de> Deserialize<'de> for Ordered {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Ordered;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("any value")
            }
            fn visit_map<A: serde::de::MapAccess<'de>>(
                self,
                mut map: A,
            ) -> Result<Ordered, A::Error> {
                let mut keys = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    keys.push(entry);
                }
                Ok(Ordered::Keys(keys))
            }
            fn visit_seq<A: serde::de::SeqAccess<'de>>(
                self,
                mut list: A,
            ) -> Result<Ordered, A::Error> {
                while list.next_element::<serde::de::IgnoredAny>()?.is_some() {}
                Ok(Ordered::Plain)
            }
            fn visit_str<E>(self, _: &str) -> Result<Ordered, E> {
                Ok(Ordered::Plain)
            }
            fn visit_bool<E>(self, _: bool) -> Result<Ordered, E> {
                Ok(Ordered::Plain)
            }
            fn visit_u64<E>(self, _: u64) -> Result<Ordered, E> {
                Ok(Ordered::Plain)
            }
            fn visit_i64<E>(self, _: i64) -> Result<Ordered, E> {
                Ok(Ordered::Plain)
            }
            fn visit_f64<E>(self, _: f64) -> Result<Ordered, E> {
                Ok(Ordered::Plain)
            }
            fn visit_unit<E>(self) -> Result<Ordered, E> {
                Ok(Ordered::Plain)
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}
