//! What a settings struct looks like, read from its JSON schema: which keys there are, of which type, said how.

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema};
use serde_json::{Map, Value};

// A struct that contains itself has no end; no configuration is this deep.
const DEEPEST: usize = 16;

/// A settings struct's schema.
pub(super) struct Shape {
    root: Value,
}

/// The keys that an object may have.
#[derive(Default)]
pub(super) struct Fields<'a> {
    /// The named ones, each with its schema.
    pub known: Vec<(&'a str, &'a Value)>,
    /// The schema of values under any other key, where other keys are allowed.
    pub others: Option<&'a Value>,
}

// === impl Shape ===

impl Shape {
    pub(super) fn of<T: JsonSchema>() -> Self {
        // Defaults are shown from the struct itself.
        Self::from_schema(
            SchemaSettings::draft2020_12()
                .into_generator()
                .into_root_schema_for::<T>(),
        )
    }

    pub(super) fn from_schema(schema: Schema) -> Self {
        Self {
            root: schema.to_value(),
        }
    }

    pub(super) fn root(&self) -> &Value {
        &self.root
    }

    /// Every plain schema that `node` may be: references followed, alternatives and combinations laid flat.
    pub(super) fn alternatives<'a>(&'a self, node: &'a Value) -> Vec<&'a Value> {
        let mut found = Vec::new();
        self.collect(node, &mut found, 0);
        found
    }

    fn collect<'a>(&'a self, node: &'a Value, found: &mut Vec<&'a Value>, depth: usize) {
        if depth > DEEPEST {
            return;
        }
        let Some(map) = node.as_object() else {
            found.push(node);
            return;
        };
        let mut indirect = false;
        if let Some(target) = map
            .get("$ref")
            .and_then(Value::as_str)
            .and_then(|reference| self.resolve(reference))
        {
            indirect = true;
            self.collect(target, found, depth + 1);
        }
        for combination in ["allOf", "anyOf", "oneOf"] {
            for part in map
                .get(combination)
                .and_then(Value::as_array)
                .into_iter()
                .flatten()
            {
                indirect = true;
                self.collect(part, found, depth + 1);
            }
        }
        if !indirect || says_type(map) {
            found.push(node);
        }
    }

    fn resolve(&self, reference: &str) -> Option<&Value> {
        self.root.pointer(reference.strip_prefix('#')?)
    }

    /// Whether any value at all may stand here.
    pub(super) fn is_free(&self, node: &Value) -> bool {
        self.alternatives(node).iter().any(|node| match node {
            Value::Bool(anything) => *anything,
            Value::Object(map) => !says_type(map),
            _ => false,
        })
    }

    /// Whether one of the types that may stand here is `name`: `string`, `array`, `integer`…
    pub(super) fn takes(&self, node: &Value, name: &str) -> bool {
        self.alternatives(node)
            .iter()
            .any(|node| types(node).any(|found| found == name))
    }

    /// Whether the value is one that must not be shown.
    pub(super) fn is_secret(&self, node: &Value) -> bool {
        self.alternatives(node)
            .iter()
            .any(|node| node.get("format").and_then(Value::as_str) == Some("password"))
    }

    /// The keys that an object here may have; nothing where no object may stand here.
    pub(super) fn fields<'a>(&'a self, node: &'a Value) -> Fields<'a> {
        let mut fields = Fields::default();
        for node in self.alternatives(node) {
            let properties = node.get("properties").and_then(Value::as_object);
            for (key, schema) in properties.into_iter().flatten() {
                if !fields.known.iter().any(|(known, _)| known == key) {
                    fields.known.push((key, schema));
                }
            }
            match node.get("additionalProperties") {
                Some(Value::Bool(false)) => {}
                Some(others) => fields.others = Some(others),
                None if properties.is_none() && types(node).any(|name| name == "object") => {
                    fields.others = Some(&Value::Bool(true));
                }
                None => {}
            }
        }
        fields
    }

    /// The schema of a list's element at `index`.
    pub(super) fn item<'a>(&'a self, node: &'a Value, index: usize) -> Option<&'a Value> {
        self.alternatives(node).into_iter().find_map(|node| {
            let places = node.get("prefixItems").and_then(Value::as_array);
            places
                .and_then(|places| places.get(index))
                .or_else(|| node.get("items"))
        })
    }

    /// The path of every key that can be reached without passing through a list, with its schema.
    pub(super) fn paths(&self) -> Vec<(String, &Value)> {
        let mut found = Vec::new();
        self.collect_paths(&self.root, "", &mut found, 0);
        found
    }

    fn collect_paths<'a>(
        &'a self,
        node: &'a Value,
        prefix: &str,
        found: &mut Vec<(String, &'a Value)>,
        depth: usize,
    ) {
        if depth > DEEPEST {
            return;
        }
        for (key, schema) in self.fields(node).known {
            let path = if prefix.is_empty() {
                key.to_owned()
            } else {
                format!("{prefix}.{key}")
            };
            found.push((path.clone(), schema));
            self.collect_paths(schema, &path, found, depth + 1);
        }
    }
}

/// Whether a schema says anything about the value's type, apart from pointing elsewhere.
fn says_type(map: &Map<String, Value>) -> bool {
    [
        "type",
        "properties",
        "additionalProperties",
        "enum",
        "const",
        "items",
        "prefixItems",
    ]
    .iter()
    .any(|keyword| map.contains_key(*keyword))
}

/// The type names that a plain schema gives.
pub(super) fn types(node: &Value) -> impl Iterator<Item = &str> {
    let (one, many) = match node.get("type") {
        Some(Value::String(name)) => (Some(name.as_str()), [].as_slice()),
        Some(Value::Array(names)) => (None, names.as_slice()),
        _ => (None, [].as_slice()),
    };
    one.into_iter().chain(many.iter().filter_map(Value::as_str))
}
