//! Tags as attributes.

use tributary_proto::otlp::common::any_value::Value;
use tributary_proto::otlp::common::{AnyValue, ArrayValue, KeyValue};

use crate::key::Tags;

/// A series' tags as attributes, whose keys have to be unique: `key:value` is the attribute `key`, a bare word an attribute with an empty text, and of a key that is there
/// several times the values are one list.
pub(super) fn attributes(tags: &Tags) -> Vec<KeyValue> {
    let mut attributes: Vec<KeyValue> = Vec::new();
    for tag in tags.iter() {
        let (key, value) = tag.split_once(':').unwrap_or((tag, ""));
        // Tags are sorted, so that those of one key mostly stand together; few enough to look at all.
        let known = attributes.iter_mut().find(|attribute| attribute.key == key);
        let Some(known) = known else {
            attributes.push(attribute(key, text(value)));
            continue;
        };
        match known.value.as_mut().and_then(|value| value.value.as_mut()) {
            Some(Value::ArrayValue(list)) => list.values.push(text(value)),
            _ => {
                let first = known.value.take().unwrap_or_default();
                let values = vec![first, text(value)];
                known.value = Some(AnyValue {
                    value: Some(Value::ArrayValue(ArrayValue { values })),
                });
            }
        }
    }
    attributes
}

pub(super) fn attribute(key: &str, value: AnyValue) -> KeyValue {
    KeyValue {
        key: key.to_owned(),
        value: Some(value),
        ..KeyValue::default()
    }
}

pub(super) fn text(value: &str) -> AnyValue {
    AnyValue {
        value: Some(Value::StringValue(value.to_owned())),
    }
}
