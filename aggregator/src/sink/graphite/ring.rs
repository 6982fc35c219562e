//! Which destinations a path belongs to: carbon-relay's consistent hashing, position for position.
//!
//! Source: carbon 1.1.10, `hashing.py` and `routers.py`, and recorded positions and owners in the tests. The ring has 100 positions for each
//! destination, from 0 to 65535; one that is taken already is moved on by 1 until it is free, which can lead beyond 65535. A path belongs to the
//! first position at or after its own, and to the first after the last. Each further replica is the next other destination on the ring; with
//! diverse replicas, of another host.

use std::collections::BTreeMap;

use md5::{Digest, Md5};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::address::Address;

/// How paths are spread over destinations.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RouterKind {
    /// carbon-relay's default: MD5.
    #[default]
    CarbonCh,
    /// carbon-relay's `fnv1a_ch`.
    Fnv1aCh,
    /// Everything goes to every destination.
    All,
}

/// Positions for each destination.
const POSITIONS: u32 = 100;

/// A built ring, or the list of all.
#[derive(Debug, Clone)]
pub(super) struct Router {
    kind: RouterKind,
    /// In order.
    positions: Vec<u32>,
    /// For each position, those that a path there belongs to: `each` indices.
    owners: Vec<usize>,
    each: usize,
}

impl Router {
    /// Of `destinations`, which are referred to by their place. Where there are fewer hosts than replicas, there are fewer replicas.
    pub(super) fn new(
        kind: RouterKind,
        destinations: &[Address],
        replication: usize,
        diverse: bool,
    ) -> Self {
        if kind == RouterKind::All {
            return Self {
                kind,
                positions: Vec::new(),
                owners: (0..destinations.len()).collect(),
                each: destinations.len(),
            };
        }
        let mut ring = BTreeMap::new();
        for (index, destination) in destinations.iter().enumerate() {
            for number in 0..POSITIONS {
                let key = position_key(kind, destination, number);
                let mut position = u32::from(hash(kind, key.as_bytes()));
                while ring.contains_key(&position) {
                    position += 1;
                }
                ring.insert(position, index);
            }
        }
        let order: Vec<usize> = ring.values().copied().collect();
        let owners: Vec<Vec<usize>> = (0..order.len())
            .map(|start| {
                let around = order.iter().cycle().skip(start).take(order.len());
                replicas(around.copied(), destinations, replication, diverse)
            })
            .collect();
        Self {
            kind,
            positions: ring.into_keys().collect(),
            each: owners.first().map_or(0, Vec::len),
            owners: owners.concat(),
        }
    }

    /// The places of those that a path belongs to. Its tags have to be in Graphite's normal order.
    pub(super) fn route(&self, path: &str) -> &[usize] {
        if self.kind == RouterKind::All {
            return &self.owners;
        }
        let position = u32::from(hash(self.kind, path.as_bytes()));
        let next = self.positions.partition_point(|known| *known < position);
        let next = if next == self.positions.len() {
            0
        } else {
            next
        };
        let start = next * self.each;
        self.owners
            .get(start..start + self.each)
            .unwrap_or_default()
    }
}

fn replicas(
    around: impl Iterator<Item = usize>,
    destinations: &[Address],
    replication: usize,
    diverse: bool,
) -> Vec<usize> {
    let mut found: Vec<usize> = Vec::with_capacity(replication);
    let host = |index: usize| destinations.get(index).map(|address| &address.host);
    for index in around {
        if found.len() == replication {
            break;
        }
        let known = found
            .iter()
            .any(|other| *other == index || (diverse && host(*other) == host(index)));
        if !known {
            found.push(index);
        }
    }
    found
}

/// What is hashed for a position of a destination. Instances alone make the difference with `fnv1a_ch`.
fn position_key(kind: RouterKind, destination: &Address, number: u32) -> String {
    let Address { host, instance, .. } = destination;
    match (kind, instance) {
        (RouterKind::Fnv1aCh, Some(instance)) => format!("{number}-{instance}"),
        (RouterKind::Fnv1aCh, None) => format!("{number}-None"),
        (_, Some(instance)) => format!("('{host}', '{instance}'):{number}"),
        (_, None) => format!("('{host}', None):{number}"),
    }
}

fn hash(kind: RouterKind, key: &[u8]) -> u16 {
    if kind == RouterKind::Fnv1aCh {
        let hash = key.iter().fold(0x811c_9dc5_u32, |hash, byte| {
            (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193)
        });
        return (hash >> 16) as u16 ^ (hash & 0xffff) as u16;
    }
    let [high, low, ..] = Md5::digest(key).0;
    u16::from_be_bytes([high, low])
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn vectors() -> Vec<Value> {
        let text = include_str!(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/fixtures/carbon-relay/consistent_hash_vectors.json"
        ));
        serde_json::from_str(text).unwrap()
    }

    fn address(node: &Value) -> Address {
        Address {
            host: node[0].as_str().unwrap().to_owned(),
            port: 2004,
            instance: node[1].as_str().map(str::to_owned),
        }
    }

    fn addresses(nodes: &Value) -> Vec<Address> {
        nodes.as_array().unwrap().iter().map(address).collect()
    }

    #[test]
    fn every_recorded_position_owner_and_order_of_carbon_is_met() {
        let vectors = vectors();
        assert_eq!(vectors.len(), 5);
        for vector in vectors {
            let kind: RouterKind = serde_json::from_value(vector["hash_type"].clone()).unwrap();
            assert_eq!(vector["replica_count"], POSITIONS);
            let nodes = addresses(&vector["nodes"]);
            for (path, position) in vector["hash"].as_object().unwrap() {
                assert_eq!(
                    Value::from(hash(kind, path.as_bytes())),
                    *position,
                    "{path}"
                );
            }
            let one = Router::new(kind, &nodes, 1, true);
            for (index, entry) in vector["ring_first"].as_array().unwrap().iter().enumerate() {
                assert_eq!(Value::from(one.positions[index]), entry[0]);
                assert_eq!(nodes[one.owners[index]], address(&entry[1]));
            }
            for (path, node) in vector["get_node"].as_object().unwrap() {
                assert_eq!(nodes[one.route(path)[0]], address(node), "{path}");
            }
            let all = Router::new(kind, &nodes, nodes.len(), false);
            for (path, order) in vector["order"].as_object().unwrap() {
                let owners: Vec<_> = all.route(path).iter().map(|i| nodes[*i].clone()).collect();
                assert_eq!(owners, addresses(order), "{path}");
            }
        }
    }

    #[test]
    fn diverse_replicas_are_on_different_hosts() {
        let vectors = vectors();
        let vector = &vectors[2];
        let nodes = addresses(&vector["nodes"]);
        let diverse = Router::new(RouterKind::CarbonCh, &nodes, 2, true);
        for (path, order) in vector["order"].as_object().unwrap() {
            let order = addresses(order);
            let other = order.iter().find(|node| node.host != order[0].host);
            let owners = diverse.route(path);
            assert_eq!(nodes[owners[0]], order[0], "{path}");
            assert_eq!(Some(&nodes[owners[1]]), other, "{path}");
        }
        // There are no three hosts.
        let three = Router::new(RouterKind::CarbonCh, &nodes, 3, true);
        assert_eq!(three.route("a").len(), 2);
    }

    #[test]
    fn all_is_every_destination() {
        let nodes = addresses(&vectors()[0]["nodes"]);
        let all = Router::new(RouterKind::All, &nodes, 1, true);
        assert_eq!(all.route("a"), [0, 1, 2]);
    }
}
