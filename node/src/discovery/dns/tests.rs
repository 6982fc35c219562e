//! Look-ups against a server that answers as told.

use super::super::Discovery;
use super::server::Server;
use super::*;

const PATIENCE: Duration = Duration::from_secs(30);
const SRV_NAME: &str = "_grpc._tcp.globals.test";

fn start_at(server: &Server, name: &str, srv: bool) -> Background {
    let settings = Settings {
        name: name.to_owned(),
        srv,
        resolver: server.address.to_string(),
        refresh_interval: crate::config::Duration::seconds(1),
        ..Settings::default()
    };
    start(&settings).unwrap()
}

async fn next(dns: &mut Background) -> Result<Vec<(String, u16)>, String> {
    let next = tokio::time::timeout(PATIENCE, dns.next()).await;
    let endpoints = next
        .expect("an answer in time")
        .map_err(|error| error.to_string())?;
    let plain = endpoints.into_iter().map(|e| (e.address, e.weight));
    Ok(plain.collect())
}

/// What it names once that differs from errors; those it tells on the way.
async fn named(dns: &mut Background) -> (Vec<(String, u16)>, Vec<String>) {
    let mut errors = Vec::new();
    loop {
        match next(dns).await {
            Ok(endpoints) => return (endpoints, errors),
            Err(error) => errors.push(error),
        }
    }
}

fn plain(addresses: &[&str]) -> Vec<(String, u16)> {
    let plain = addresses.iter().map(|address| ((*address).to_owned(), 1));
    plain.collect()
}

#[tokio::test]
async fn both_kinds_of_addresses_are_named_in_order_and_changes_are_seen() {
    let server = Server::start().await;
    server.set_addresses("globals.test", &["10.0.0.2", "10.0.0.1", "fd00::1"]);
    let mut dns = start_at(&server, "globals.test:8128", false);
    let expected = plain(&["10.0.0.1:8128", "10.0.0.2:8128", "[fd00::1]:8128"]);
    assert_eq!(next(&mut dns).await.unwrap(), expected);
    server.set_addresses("globals.test", &["10.0.0.1", "10.0.0.3"]);
    let expected = plain(&["10.0.0.1:8128", "10.0.0.3:8128"]);
    assert_eq!(next(&mut dns).await.unwrap(), expected);
}

#[tokio::test]
async fn a_name_that_is_gone_or_cannot_be_looked_up_is_an_error_and_names_nobody() {
    let server = Server::start().await;
    let mut dns = start_at(&server, "globals.test:8128", false);
    let error = next(&mut dns).await.unwrap_err();
    assert!(
        error.contains("globals.test") && error.contains("Non-Existent Domain"),
        "{error}"
    );
    server.set_addresses("globals.test", &["10.0.0.1"]);
    assert_eq!(named(&mut dns).await.0, plain(&["10.0.0.1:8128"]));

    server.set_addresses("globals.test", &[]);
    let error = next(&mut dns).await.unwrap_err();
    assert!(error.contains("has no A"), "{error}");
    for kind in [RecordType::A, RecordType::AAAA] {
        server.fail(kind, Some(ResponseCode::ServFail));
    }
    while !next(&mut dns).await.unwrap_err().contains("Server Failure") {}
}

#[tokio::test]
async fn addresses_of_a_kind_that_cannot_be_looked_up_stay() {
    let server = Server::start().await;
    server.set_addresses("globals.test", &["10.0.0.1", "fd00::1"]);
    let mut dns = start_at(&server, "globals.test:1", false);
    assert_eq!(
        next(&mut dns).await.unwrap(),
        plain(&["10.0.0.1:1", "[fd00::1]:1"])
    );
    server.fail(RecordType::AAAA, Some(ResponseCode::ServFail));
    server.set_addresses("globals.test", &["10.0.0.2"]);
    let (endpoints, errors) = named(&mut dns).await;
    assert_eq!(endpoints, plain(&["10.0.0.2:1", "[fd00::1]:1"]));
    assert!(
        errors[0].contains("AAAA") && errors[0].contains("Server Failure"),
        "{errors:?}"
    );
    server.fail(RecordType::AAAA, None);
    assert_eq!(
        named(&mut dns).await.0,
        plain(&["10.0.0.2:1"]),
        "it is known to be gone"
    );
}

#[tokio::test]
async fn srv_records_of_the_lowest_priority_count_with_their_ports_and_weights() {
    let server = Server::start().await;
    server.set_addresses("g1.test", &["10.0.0.1", "fd00::1"]);
    server.set_addresses("g2.test", &["fd00::2"]);
    server.set_addresses("g3.test", &["10.0.0.3"]);
    let services = [
        (10, 100, 8128, "g1.test"),
        (10, 300, 9128, "g2.test"),
        (20, 100, 1, "g3.test"),
    ];
    server.set_services(SRV_NAME, &services);
    let mut dns = start_at(&server, SRV_NAME, true);
    let expected = [
        ("10.0.0.1:8128".to_owned(), 1),
        ("[fd00::2]:9128".to_owned(), 3),
    ];
    assert_eq!(next(&mut dns).await.unwrap(), expected);

    // A host that cannot be looked up any more stays, one that never could is told.
    server.remove("g2.test");
    server.set_services(
        SRV_NAME,
        &[
            (10, 5, 8128, "g1.test"),
            (10, 5, 9128, "g2.test"),
            (10, 5, 1, "g4.test"),
        ],
    );
    let (endpoints, errors) = named(&mut dns).await;
    assert_eq!(endpoints, plain(&["10.0.0.1:8128", "[fd00::2]:9128"]));
    assert!(
        errors.iter().any(|error| error.contains("g4.test")),
        "{errors:?}"
    );

    server.remove(SRV_NAME);
    while !next(&mut dns).await.unwrap_err().contains(SRV_NAME) {}
}

#[tokio::test]
async fn more_records_than_a_datagram_holds_are_all_named() {
    let server = Server::start().await;
    let addresses: Vec<String> = (1..=200).map(|i| format!("10.0.0.{i}")).collect();
    let addresses: Vec<&str> = addresses.iter().map(String::as_str).collect();
    server.set_addresses("globals.test", &addresses);
    let mut dns = start_at(&server, "globals.test:1", false);
    assert_eq!(next(&mut dns).await.unwrap().len(), 200);
}

#[tokio::test]
async fn records_are_not_looked_up_again_while_they_live() {
    let server = Server::start().await;
    server.set_addresses("globals.test", &["10.0.0.1"]);
    server.set_time_to_live(3600);
    let mut settings = Settings {
        name: "globals.test:1".to_owned(),
        resolver: server.address.to_string(),
        ..Settings::default()
    };
    settings.refresh_interval = crate::config::Duration::seconds(3600);
    let mut dns = start(&settings).unwrap();
    next(&mut dns).await.unwrap();
    let asked = server.asked();
    // Another one without a time to live asks at least twice meanwhile.
    server.set_addresses("other.test", &["10.0.0.1"]);
    server.set_time_to_live(0);
    let mut other = start_at(&server, "other.test:1", false);
    next(&mut other).await.unwrap();
    server.set_addresses("other.test", &["10.0.0.2"]);
    next(&mut other).await.unwrap();
    drop(other);
    assert_eq!(
        server.asked() - asked,
        4,
        "two look-ups of two kinds, of the other alone"
    );
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_an_error() {
    let silent = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let settings = Settings {
        name: "globals.test:1".to_owned(),
        resolver: silent.local_addr().unwrap().to_string(),
        ..Settings::default()
    };
    let mut dns = start(&settings).unwrap();
    assert!(next(&mut dns).await.is_err());
}

#[tokio::test]
async fn the_system_s_own_configuration_is_read() {
    let settings = Settings {
        name: "localhost:1".to_owned(),
        ..Settings::default()
    };
    let mut dns = start(&settings).unwrap();
    let endpoints = next(&mut dns).await.unwrap();
    assert!(
        endpoints.contains(&("127.0.0.1:1".to_owned(), 1)),
        "{endpoints:?}"
    );
}
