//! What Consul says about a service's instances.

use std::collections::HashMap;
use std::net::Ipv6Addr;

use serde::Deserialize;

use super::AddressPreference;
use crate::discovery::Endpoint;

/// The key of a service's metadata that weighs an instance, where it is there, in place of Consul's own weight.
const WEIGHT: &str = "tributary_weight";

/// Instances that can be spoken to.
#[derive(Debug, Default)]
pub(super) struct Instances {
    /// In order, each address once.
    pub endpoints: Vec<Endpoint>,
    /// Those whose metadata have a weight that is none.
    pub odd_weights: Vec<OddWeight>,
}

/// A weight that is none.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct OddWeight {
    /// The instance's address.
    pub instance: String,
    /// What its metadata say.
    pub weight: String,
}

#[derive(Debug, Deserialize)]
struct Entry {
    #[serde(rename = "Node", default)]
    node: Node,
    #[serde(rename = "Service")]
    service: Service,
}

#[derive(Debug, Default, Deserialize)]
struct Node {
    #[serde(rename = "Address", default)]
    address: String,
}

#[derive(Debug, Deserialize)]
struct Service {
    #[serde(rename = "Address", default)]
    address: String,
    #[serde(rename = "Port", default)]
    port: u16,
    // Go writes an empty map as `null` at times.
    #[serde(rename = "Meta", default)]
    meta: Option<HashMap<String, String>>,
    #[serde(rename = "Weights", default)]
    weights: Option<Weights>,
}

#[derive(Debug, Deserialize)]
struct Weights {
    #[serde(rename = "Passing", default = "one")]
    passing: u16,
}

const fn one() -> u16 {
    1
}

/// The instances in the body of an answer of `/v1/health/service/…`. Those that registered no port or have no address cannot be spoken to
/// and are left out. An address that is registered twice has the greater of its weights.
pub(super) fn instances(
    body: &[u8],
    prefer: AddressPreference,
) -> Result<Instances, serde_json::Error> {
    // Go writes an empty list as `null` at times.
    let entries: Option<Vec<Entry>> = serde_json::from_slice(body)?;
    let mut found = Instances::default();
    for Entry { node, service } in entries.unwrap_or_default() {
        let Some(address) = address(&node, &service, prefer) else {
            continue;
        };
        let weight = weight(&service).unwrap_or_else(|odd| {
            found.odd_weights.push(OddWeight {
                instance: address.clone(),
                weight: odd.to_owned(),
            });
            registered_weight(&service)
        });
        found.endpoints.push(Endpoint { address, weight });
    }
    // By address, then by weight: the last of equal addresses has the greatest.
    found.endpoints.sort_unstable();
    found.endpoints.reverse();
    found
        .endpoints
        .dedup_by(|later, first| later.address == first.address);
    found.endpoints.reverse();
    Ok(found)
}

fn address(node: &Node, service: &Service, prefer: AddressPreference) -> Option<String> {
    // The service's own address is where it listens; the node's is the agent's, and the same only by default.
    let (first, second) = match prefer {
        AddressPreference::Service => (&service.address, &node.address),
        AddressPreference::Node => (&node.address, &service.address),
    };
    let host = if first.is_empty() { second } else { first };
    if host.is_empty() || service.port == 0 {
        return None;
    }
    Some(match host.parse::<Ipv6Addr>() {
        Ok(host) => format!("[{host}]:{}", service.port),
        Err(_) => format!("{host}:{}", service.port),
    })
}

/// The weight of the metadata, or Consul's.
fn weight(service: &Service) -> Result<u16, &str> {
    match service.meta.as_ref().and_then(|meta| meta.get(WEIGHT)) {
        Some(text) => text.trim().parse().map_err(|_| text.as_str()),
        None => Ok(registered_weight(service)),
    }
}

fn registered_weight(service: &Service) -> u16 {
    service
        .weights
        .as_ref()
        .map_or(1, |weights| weights.passing)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read(entries: &Value, prefer: AddressPreference) -> Instances {
        instances(entries.to_string().as_bytes(), prefer).expect("a list")
    }

    fn instance(port: u16, meta: &Value, weights: &Value) -> Value {
        json!({"Node": {"Address": "n"}, "Service": {"Address": "s", "Port": port, "Meta": meta, "Weights": weights}})
    }

    #[test]
    fn the_nodes_address_is_used_where_that_is_wanted() {
        let both = json!([instance(1, &Value::Null, &Value::Null)]);
        let only_service = json!([{"Node": {}, "Service": {"Address": "s", "Port": 1}}]);
        for (entries, prefer, expected) in [
            (&both, AddressPreference::Service, "s:1"),
            (&both, AddressPreference::Node, "n:1"),
            (&only_service, AddressPreference::Node, "s:1"),
        ] {
            let found = read(entries, prefer).endpoints;
            assert_eq!(found, [Endpoint::new(expected)]);
        }
    }

    #[test]
    fn an_instance_weighs_what_its_metadata_say_or_else_what_consul_says() {
        let none = Value::Null;
        let found = read(
            &json!([
                instance(1, &none, &none),
                instance(2, &json!({}), &json!({"Passing": 7, "Warning": 1})),
                instance(3, &json!({"tributary_weight": "3"}), &json!({"Passing": 7})),
                instance(
                    4,
                    &json!({"tributary_weight": "much"}),
                    &json!({"Passing": 7})
                ),
                instance(5, &json!({"tributary_weight": "0"}), &none),
                instance(6, &none, &json!({"Passing": 2})),
                instance(6, &none, &json!({"Passing": 9})),
                instance(6, &none, &json!({"Passing": 4})),
            ]),
            AddressPreference::Service,
        );
        let weights: Vec<_> = found.endpoints.iter().map(|one| one.weight).collect();
        assert_eq!(weights, [1, 7, 3, 7, 0, 9]);
        let odd = OddWeight {
            instance: "s:4".to_owned(),
            weight: "much".to_owned(),
        };
        assert_eq!(found.odd_weights, [odd]);
    }
}
