//! Attributes as tags, and as part of what tells one stream from another.

use prost::Message as _;
use tributary_proto::otlp::common::any_value::Value as Any;
use tributary_proto::otlp::common::{AnyValue, KeyValue};
use xxhash_rust::xxh3::Xxh3;

use crate::key::SEPARATOR;

/// Values that are no texts are written as such; maps and bytes have no place in a tag and are left out.
pub(super) fn push_attribute(tags: &mut String, key: &str, value: Option<&Any>) {
    match value {
        Some(Any::StringValue(text)) => push_tag(tags, key, text),
        Some(Any::BoolValue(value)) => push_tag(tags, key, &value.to_string()),
        Some(Any::IntValue(value)) => push_tag(tags, key, &value.to_string()),
        Some(Any::DoubleValue(value)) => push_tag(tags, key, &value.to_string()),
        _ => {}
    }
}

/// A comma would end a tag, and a colon a key: they become `_`. An empty value makes a bare tag.
pub(super) fn push_tag(tags: &mut String, key: &str, value: &str) {
    if key.is_empty() {
        return;
    }
    if !tags.is_empty() {
        tags.push(',');
    }
    let plain = |c: char, colon: bool| match c {
        ',' | SEPARATOR => '_',
        ':' if colon => '_',
        c => c,
    };
    tags.extend(key.chars().map(|c| plain(c, true)));
    if !value.is_empty() {
        tags.push(':');
        tags.extend(value.chars().map(|c| plain(c, false)));
    }
}

pub(super) fn hash_text(identity: &mut Xxh3, text: &str) {
    identity.update(&(text.len() as u64).to_le_bytes());
    identity.update(text.as_bytes());
}

/// In any order: exporters do not promise one.
pub(super) fn hash_attributes(identity: &mut Xxh3, attributes: &[KeyValue]) {
    let mut sorted: Vec<_> = attributes.iter().collect();
    sorted.sort_unstable_by(|a, b| a.key.cmp(&b.key));
    identity.update(&(sorted.len() as u64).to_le_bytes());
    for attribute in sorted {
        hash_text(identity, &attribute.key);
        let value = attribute
            .value
            .as_ref()
            .map(AnyValue::encode_to_vec)
            .unwrap_or_default();
        identity.update(&(value.len() as u64).to_le_bytes());
        identity.update(&value);
    }
}
