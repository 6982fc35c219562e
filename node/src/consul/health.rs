//! What Consul says about a service's instances.

use std::net::Ipv6Addr;

use serde::Deserialize;

use crate::discovery::Endpoint;

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
}

/// The instances in the body of an answer of `/v1/health/service/…`, in order and each once. Those that registered no
/// port or have no address cannot be spoken to and are left out.
pub(super) fn endpoints(body: &[u8]) -> Result<Vec<Endpoint>, serde_json::Error> {
    // Go writes an empty list as `null` at times.
    let entries: Option<Vec<Entry>> = serde_json::from_slice(body)?;
    let mut endpoints: Vec<Endpoint> = entries
        .unwrap_or_default()
        .into_iter()
        .filter_map(endpoint)
        .collect();
    endpoints.sort_unstable();
    endpoints.dedup();
    Ok(endpoints)
}

fn endpoint(entry: Entry) -> Option<Endpoint> {
    // The service's own address is where it listens; the node's is the agent's, and the same only by default.
    let host = if entry.service.address.is_empty() {
        entry.node.address
    } else {
        entry.service.address
    };
    if host.is_empty() || entry.service.port == 0 {
        return None;
    }
    let address = match host.parse::<Ipv6Addr>() {
        Ok(host) => format!("[{host}]:{}", entry.service.port),
        Err(_) => format!("{host}:{}", entry.service.port),
    };
    Some(Endpoint::new(address))
}
