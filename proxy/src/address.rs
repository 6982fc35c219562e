//! What a destination's address may be, and how configuration gives it a weight.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use tributary_node::discovery::Endpoint;

/// The largest weight that a configured destination may have: each costs memory while a ring is built.
pub const MAX_WEIGHT: u16 = 100;

/// Why a text is no destination's address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// It is neither form.
    #[error("{0:?} is no address, use host:port, or http(s)://host:port for legacy JSON")]
    Form(String),
    /// TLS is asked for, and not set up.
    #[error("{0:?} needs forward_tls: {{enabled: true}}")]
    NoTls(String),
    /// TLS is set up, and not asked for.
    #[error("{0:?} would go without TLS, which forward_tls asks for: write https://")]
    NotSecured(String),
    /// It has a weight beyond the bounds.
    #[error("weight {0} is out of bounds, it must be between 0 and {MAX_WEIGHT}")]
    Weight(u16),
}

/// A destination as it is configured: `host:port`, or `{address: host:port, weight: 2}`. It is shown as it would be written most shortly.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WeightedAddress {
    /// See [`check`].
    pub address: String,
    /// The share of keys against the other destinations': 0, which owns nothing, to [`MAX_WEIGHT`].
    pub weight: u16,
}

/// The long form.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Long<'a> {
    /// As where an address stands alone.
    address: Cow<'a, str>,
    /// 0 to 100; 1 if nothing is said.
    #[serde(default = "plain")]
    weight: u16,
}

const fn plain() -> u16 {
    1
}

// === impl WeightedAddress ===

impl WeightedAddress {
    /// Whether a destination can have this address, spoken to by TLS or not, and this weight.
    ///
    /// # Errors
    /// See [`AddressError`].
    pub fn check(&self, tls: bool) -> Result<(), AddressError> {
        check(&self.address, tls)?;
        match self.weight {
            0..=MAX_WEIGHT => Ok(()),
            weight => Err(AddressError::Weight(weight)),
        }
    }

    /// What discovery would call it.
    pub fn endpoint(&self) -> Endpoint {
        Endpoint {
            address: self.address.clone(),
            weight: self.weight,
        }
    }
}

impl From<&str> for WeightedAddress {
    fn from(address: &str) -> Self {
        Self {
            address: address.to_owned(),
            weight: plain(),
        }
    }
}

impl Serialize for WeightedAddress {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.weight == plain() {
            return self.address.serialize(serializer);
        }
        let address = Cow::Borrowed(self.address.as_str());
        let weight = self.weight;
        Long { address, weight }.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for WeightedAddress {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(EitherForm)
    }
}

// An untagged enum would say "did not match any variant" whatever is wrong.
struct EitherForm;

impl<'de> Visitor<'de> for EitherForm {
    type Value = WeightedAddress;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an address, or a map of address and weight")
    }

    fn visit_str<E: serde::de::Error>(self, address: &str) -> Result<Self::Value, E> {
        Ok(address.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        let Long { address, weight } = Long::deserialize(MapAccessDeserializer::new(map))?;
        let address = address.into_owned();
        Ok(WeightedAddress { address, weight })
    }
}

impl JsonSchema for WeightedAddress {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "WeightedAddress".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let long = generator.subschema_for::<Long<'_>>();
        json_schema!({"anyOf": [{"type": "string"}, long]})
    }
}

/// Checks a configured address: `host:port`, `http://host:port`, or `http://host` for port 80; `https://` in place of `http://` where destinations
/// are spoken to by TLS.
///
/// # Errors
/// See [`AddressError`].
pub fn check(address: &str, tls: bool) -> Result<(), AddressError> {
    let secured = address.strip_prefix("https://");
    let plain = address.strip_prefix("http://");
    if secured.is_some() && !tls {
        return Err(AddressError::NoTls(address.to_owned()));
    }
    if plain.is_some() && tls {
        return Err(AddressError::NotSecured(address.to_owned()));
    }
    let url = secured.or(plain);
    let authority = match url {
        Some(rest) => rest.strip_suffix('/').unwrap_or(rest),
        None => address,
    };
    let parsed = authority.parse::<http::uri::Authority>();
    let right = parsed.is_ok_and(|parsed| {
        !authority.contains('@')
            && !parsed.host().is_empty()
            && match parsed.port() {
                Some(_) => parsed.port_u16().is_some_and(|port| port != 0),
                None => url.is_some() && !authority.ends_with(':'),
            }
    });
    if right {
        Ok(())
    } else {
        Err(AddressError::Form(address.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn both_forms_are_read_and_the_shorter_one_is_shown() {
        let read = |value| serde_json::from_value::<WeightedAddress>(value);
        let heavy = read(json!({"address": "a:1", "weight": 3})).unwrap();
        assert_eq!((heavy.address.as_str(), heavy.weight), ("a:1", 3));
        assert_eq!(read(json!({"address": "a:1"})).unwrap(), "a:1".into());
        assert_eq!(read(json!("a:1")).unwrap(), "a:1".into());
        assert_eq!(
            serde_json::to_value(&heavy).unwrap(),
            json!({"address": "a:1", "weight": 3})
        );
        let plain = WeightedAddress::from("a:1");
        assert_eq!(serde_json::to_value(plain).unwrap(), json!("a:1"));
        for wrong in [
            json!(7),
            json!({"weight": 1}),
            json!({"address": "a:1", "weight": -1}),
        ] {
            assert!(read(wrong).is_err());
        }
    }

    #[test]
    fn a_weight_has_bounds() {
        let of = |weight| {
            WeightedAddress {
                weight,
                ..WeightedAddress::from("a:1")
            }
            .check(false)
        };
        assert_eq!((of(0), of(MAX_WEIGHT)), (Ok(()), Ok(())));
        assert_eq!(
            of(101).unwrap_err().to_string(),
            "weight 101 is out of bounds, it must be between 0 and 100"
        );
    }

    #[test]
    fn addresses_are_a_host_and_a_port_with_or_without_http() {
        for good in [
            "10.0.0.1:8128",
            "global-1.example:80",
            "[::1]:8128",
            "http://10.0.0.1:8127",
            "http://g:1/",
            "http://veneur.example.com",
        ] {
            assert_eq!(check(good, false), Ok(()), "{good}");
        }
        for bad in [
            "",
            "host",
            "host:",
            ":8128",
            "host:0",
            "host:99999",
            "http://host:",
            "http://h:1/import",
            "a b:1",
            "u@h:1",
            "tcp://h:1",
        ] {
            let wrong = Err(AddressError::Form(bad.to_owned()));
            assert_eq!(check(bad, false), wrong, "{bad}");
        }
    }

    #[test]
    fn an_address_and_the_settings_agree_about_tls() {
        assert_eq!(check("https://g:1", true), Ok(()));
        assert_eq!(check("https://g", true), Ok(()));
        assert_eq!(check("g:1", true), Ok(()));
        let told = |address, tls| check(address, tls).unwrap_err().to_string();
        assert_eq!(
            told("https://g:1", false),
            "\"https://g:1\" needs forward_tls: {enabled: true}"
        );
        assert!(told("http://g:1", true).contains("would go without TLS"));
    }
}
