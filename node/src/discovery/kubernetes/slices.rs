//! From EndpointSlices to endpoints.

use std::collections::BTreeSet;
use std::net::IpAddr;

use k8s_openapi::api::discovery::v1::{Endpoint as SliceEndpoint, EndpointSlice};

use crate::discovery::Endpoint;

/// Those that are ready, over all slices of a service; at least one. A service with addresses of both kinds has each pod twice, and counts
/// with those of IPv4 alone, as soon as it has any such endpoint, ready or not.
pub(super) fn endpoints<'a>(
    slices: impl Iterator<Item = &'a EndpointSlice>,
    port: &str,
) -> Result<Vec<Endpoint>, String> {
    let (mut slices, mut v6): (Vec<_>, Vec<_>) = slices
        .filter(|slice| matches!(&*slice.address_type, "IPv4" | "IPv6"))
        .filter(|slice| !slice.endpoints.is_empty())
        .partition(|slice| slice.address_type == "IPv4");
    if slices.is_empty() {
        std::mem::swap(&mut slices, &mut v6);
    }
    let mut ready = Vec::new();
    let mut other_ports = BTreeSet::new();
    let mut not_ready = 0;
    for slice in slices {
        let Some(port) = port_of(slice, port) else {
            let ports = slice.ports.iter().flatten();
            other_ports.extend(ports.map(|port| port.name.clone().unwrap_or_default()));
            continue;
        };
        for endpoint in &slice.endpoints {
            // An endpoint's addresses are the same one's: the first is to be used.
            let address = endpoint.addresses.first();
            let address = address.and_then(|address| address.parse::<IpAddr>().ok());
            match address.filter(|_| is_ready(endpoint)) {
                Some(address) => {
                    let address = std::net::SocketAddr::new(address, port);
                    ready.push(Endpoint::new(address.to_string()));
                }
                None => not_ready += 1,
            }
        }
    }
    if !ready.is_empty() {
        return Ok(ready);
    }
    if not_ready == 0 && !other_ports.is_empty() {
        let named: Vec<String> = other_ports
            .into_iter()
            .map(|port| format!("{port:?}"))
            .collect();
        let named = named.join(", ");
        return Err(format!(
            "the service has no TCP port named {port:?}, it has {named}"
        ));
    }
    Err(format!(
        "the service has no endpoint that is ready, and {not_ready} that are not"
    ))
}

/// The number of the port with this name; of the only one, if no name is given.
fn port_of(slice: &EndpointSlice, name: &str) -> Option<u16> {
    let ports = slice.ports.as_deref().unwrap_or_default();
    let tcp = |protocol: &Option<String>| protocol.as_deref().is_none_or(|name| name == "TCP");
    let mut named = ports.iter().filter(|port| tcp(&port.protocol));
    let port = match (name, ports) {
        ("", [_]) => named.next(),
        (name, _) => named.find(|port| port.name.as_deref().unwrap_or_default() == name),
    };
    port.and_then(|port| port.port)
        .and_then(|port| u16::try_from(port).ok())
        .filter(|port| *port != 0)
}

/// Not said means ready (the API's documentation of `EndpointConditions`); who is about to end is not to be given anything new.
fn is_ready(endpoint: &SliceEndpoint) -> bool {
    endpoint.conditions.as_ref().is_none_or(|conditions| {
        conditions.ready.unwrap_or(true) && !conditions.terminating.unwrap_or(false)
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn slice(kind: &str, ports: Value, endpoints: Value) -> EndpointSlice {
        let slice = json!({"metadata": {"name": "s"}, "addressType": kind, "ports": ports, "endpoints": endpoints});
        serde_json::from_value(slice).unwrap()
    }

    fn told(slices: &[EndpointSlice], port: &str) -> Result<Vec<String>, String> {
        let endpoints = endpoints(slices.iter(), port)?;
        Ok(endpoints.into_iter().map(|e| e.address).collect())
    }

    #[test]
    fn who_is_ready_counts_over_all_slices_by_the_port_of_its_slice() {
        let grpc = json!([{"name": "http", "port": 80}, {"name": "grpc", "port": 8128, "protocol": "TCP"}]);
        let other = json!([{"name": "grpc", "port": 9128}]);
        let first = json!([
            {"addresses": ["10.0.0.1", "10.0.0.9"]},
            {"addresses": ["10.0.0.2"], "conditions": {"ready": true, "serving": true}},
            {"addresses": ["10.0.0.3"], "conditions": {"ready": false}},
            {"addresses": ["10.0.0.4"], "conditions": {"ready": true, "terminating": true}},
            {"addresses": ["nonsense"]}, {"addresses": []},
        ]);
        let second = json!([{"addresses": ["10.0.1.1"], "conditions": {}}]);
        let slices = [slice("IPv4", grpc, first), slice("IPv4", other, second)];
        assert_eq!(
            told(&slices, "grpc").unwrap(),
            ["10.0.0.1:8128", "10.0.0.2:8128", "10.0.1.1:9128"]
        );
    }

    #[test]
    fn ipv4_goes_first_even_where_nobody_is_ready() {
        let ports = || json!([{"name": "grpc", "port": 1}]);
        let v6 = slice("IPv6", ports(), json!([{"addresses": ["fd00::1"]}]));
        let ready = slice("IPv4", ports(), json!([{"addresses": ["10.0.0.1"]}]));
        let not = json!([{"addresses": ["10.0.0.1"], "conditions": {"ready": false}}]);
        let not = slice("IPv4", ports(), not);
        let nobody = slice("IPv4", ports(), json!([]));
        let named = slice("FQDN", ports(), json!([{"addresses": ["g.example"]}]));
        assert_eq!(told(&[v6.clone(), ready], "grpc").unwrap(), ["10.0.0.1:1"]);
        assert!(
            told(&[v6.clone(), not], "grpc")
                .unwrap_err()
                .contains("1 that are not")
        );
        assert_eq!(told(&[v6, nobody, named], "grpc").unwrap(), ["[fd00::1]:1"]);
    }

    #[test]
    fn a_port_is_found_by_name_or_as_the_only_one_and_a_wrong_name_is_told() {
        let endpoints = || json!([{"addresses": ["10.0.0.1"]}]);
        let one = slice("IPv4", json!([{"name": "grpc", "port": 1}]), endpoints());
        assert_eq!(
            told(std::slice::from_ref(&one), "").unwrap(),
            ["10.0.0.1:1"]
        );
        let error = told(&[one], "metrics").unwrap_err();
        assert!(
            error.contains("no TCP port named \"metrics\", it has \"grpc\""),
            "{error}"
        );
        let two = json!([{"port": 1}, {"name": "b", "port": 2}]);
        assert_eq!(
            told(&[slice("IPv4", two, endpoints())], "").unwrap(),
            ["10.0.0.1:1"]
        );
        for ports in [
            json!([{"name": "a", "port": 1, "protocol": "UDP"}]),
            json!(null),
            json!([{"name": "a"}]),
        ] {
            assert!(told(&[slice("IPv4", ports, endpoints())], "a").is_err());
        }
    }
}
