//! Who may upload where.

use std::fmt;

use serde::{Deserialize, Deserializer};
use subtle::ConstantTimeEq;
use tributary_node::config::Secret;

use super::super::keys::under;

/// Keys and namespaces, whichever of the two stands first: Flux documents both. An error never quotes one.
#[derive(Clone, Default)]
pub struct UploadKeys(Vec<(Secret, Secret)>);

impl fmt::Debug for UploadKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} keys", self.0.len())
    }
}

impl<'de> Deserialize<'de> for UploadKeys {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let given =
            std::collections::BTreeMap::<String, serde_json::Value>::deserialize(deserializer)?;
        let pair = |(one, other): (String, serde_json::Value)| match other {
            serde_json::Value::String(other) if !one.is_empty() && !other.is_empty() => {
                Ok((Secret::new(one), Secret::new(other)))
            }
            _ => Err(serde::de::Error::custom(
                "each is a namespace and a key, both texts and not empty",
            )),
        };
        given
            .into_iter()
            .map(pair)
            .collect::<Result<_, _>>()
            .map(Self)
    }
}

impl UploadKeys {
    /// Whether a key may upload to a namespace: it is the namespace's own, or that of one above it. All are compared, in constant time.
    pub(in super::super) fn allow(&self, key: &str, namespace: &str) -> bool {
        let is = |known: &Secret| bool::from(known.expose().as_bytes().ct_eq(key.as_bytes()));
        self.0.iter().fold(false, |allowed, (one, other)| {
            let either = (is(one) & under(namespace, other.expose()))
                | (is(other) & under(namespace, one.expose()));
            allowed | either
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn either_way_round_and_no_way_into_a_neighbours_namespace() {
        let keys = json!({"dc.w1": "k-1", "k-2": "dc.w2"});
        let keys: UploadKeys = serde_json::from_value(keys).unwrap();
        for (key, namespace, allowed) in [
            ("k-1", "dc.w1", true),
            ("k-1", "dc.w1.roof", true),
            ("k-2", "dc.w2", true),
            ("k-1", "dc.w2", false),
            ("k-2", "dc.w1", false),
            ("k-1", "dc.w10", false),
            ("k-1", "dc", false),
            ("dc.w1", "k-1", true),
            ("", "dc.w1", false),
            ("other", "dc.w1", false),
        ] {
            // The last but two: nobody knows which of the two texts is the key, and who knows it is let in.
            assert_eq!(keys.allow(key, namespace), allowed, "{key} {namespace}");
        }
        assert!(!format!("{keys:?}").contains("k-1"));
        let error = serde_json::from_value::<UploadKeys>(json!({"k-1": 5})).unwrap_err();
        assert!(!error.to_string().contains("k-1"), "{error}");
    }
}
