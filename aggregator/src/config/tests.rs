use std::net::SocketAddr;

use tributary_node::config::{Environment, parse};

use super::Config;
#[cfg(feature = "kafka")]
use crate::flush::Role;
use crate::source::listen::ListenAddress;

fn config(text: &str) -> Config {
    let parsed = parse("aggregator.yaml", text, &Environment::default());
    parsed.unwrap().settings
}

fn problems(text: &str) -> String {
    let parsed = parse::<Config>("aggregator.yaml", text, &Environment::default());
    parsed.unwrap_err().to_string()
}

/// A text as a YAML block below its key.
fn indented(text: &str) -> String {
    text.replace('\n', "\n  ")
}

#[test]
fn without_settings_nothing_listens_beyond_this_host() {
    for config in [config(""), config("forward_address: proxy:8128")] {
        let listening = config.statsd_addresses();
        assert!(!listening.is_empty());
        for address in listening {
            let parsed: ListenAddress = address.parse().unwrap();
            let at: SocketAddr = parsed.socket_addr().unwrap();
            assert!(at.ip().is_loopback(), "{address}");
        }
        assert_eq!(
            (config.http_address, config.grpc_address),
            Default::default()
        );
    }
}

#[test]
fn what_veneur_calls_tls_is_understood() {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let certificate = indented(&made.cert.pem());
    let key = indented(&made.signing_key.serialize_pem());
    let config = config(&format!(
        "tls_certificate: |\n  {certificate}\ntls_authority_certificate: |\n  {certificate}\ntls_key: |\n  {key}\n\
         forward_address: proxy:8128\n\
         tls: {{server_name: proxy.example}}\n"
    ));
    assert!(config.statsd_tls.is_on() && !config.statsd_tls.client_ca_file.is_empty());
    assert_eq!(config.forward_tls.server_name, "proxy.example");
    assert!(config.forward_tls.is_on());
    assert!(
        !serde_json::to_string(&config)
            .unwrap()
            .contains("PRIVATE KEY")
    );
}

#[test]
fn what_is_wrong_with_tls_is_told_by_key() {
    let told = problems(
        "grpc_tls: {cert_file: /nowhere/cert.pem, key_file: /nowhere/key.pem}\n\
         http_tls: {key_file: /nowhere/key.pem}\n\
         statsd_tls: {allowed_names: [agent]}\n\
         forward_address: [http://proxy:1]\nhandoff_address: https://proxy:1\n\
         forward_tls: {enabled: true, cert_file: /nowhere/cert.pem}\n",
    );
    for part in [
        "grpc_tls.cert_file: /nowhere/cert.pem cannot be read",
        "http_tls.key_file: does nothing without cert_file",
        "statsd_tls.allowed_names: does nothing without cert_file",
        "forward_tls.cert_file: /nowhere/cert.pem cannot be read",
        "forward_address: forward address \"http://proxy:1\": would go without TLS",
    ] {
        assert!(told.contains(part), "{part} is not in:\n{told}");
    }
    assert!(!told.contains("handoff_address"), "{told}");
    let told = problems("handoff_address: https://proxy:1\n");
    assert!(
        told.contains("handoff_address: forward address \"https://proxy:1\": needs forward_tls")
    );
}

#[test]
fn a_history_is_off_until_it_is_named() {
    assert_eq!(config("interval: 5s\n").history, None);
    let config = config("http_address: 127.0.0.1:0\nhistory: {}\n");
    let history = config.history.unwrap();
    assert_eq!(history.retention.to_string(), "2h");
    assert_eq!(history.max_bytes.to_string(), "256MiB");
}

#[test]
fn what_is_wrong_with_a_history_is_told_by_key() {
    let told = problems(
        "history: {retention: 5s, max_bytes: 1KiB, step: 1500ms, tags: drop, template: '{name}', allow_origin: \"a\\nb\"}\n",
    );
    for part in [
        "history.retention: 5s is not between 1m and 48h",
        "history.max_bytes: 1KiB is too little, use at least 64KiB",
        "history.step: 1.5s is not a number of whole seconds",
        "history.template: has no meaning without `tags: flatten`",
        "history.allow_origin: holds characters",
        "history: is of no use without http_address",
    ] {
        assert!(told.contains(part), "{part} is not in:\n{told}");
    }
}

#[cfg(feature = "kafka")]
#[test]
fn a_topic_to_forward_to_makes_an_agent_and_suffers_nobody_beside_it() {
    let topic = "forward_kafka: {brokers: kafka:9092, topic: forward}\n";
    assert_eq!(config(topic).role(), Role::Local);
    let told = problems(&format!("{topic}forward_address: proxy:8128\n"));
    assert!(
        told.contains("forward_kafka: excludes forward_address"),
        "{told}"
    );
    let told = problems(
        "forward_kafka: {brokers: kafka, topic: a b, properties: {acks: 1}, sasl: {user: u}}\n",
    );
    for part in [
        "forward_kafka.brokers: `kafka` is not `host:port`",
        "forward_kafka.topic: `a b` is no topic's name",
        "forward_kafka.properties.acks: is set by a key of ours",
        "forward_kafka.sasl.password_file: neither it nor",
    ] {
        assert!(told.contains(part), "{part} is not in:\n{told}");
    }
}

#[cfg(feature = "kafka")]
#[test]
fn what_others_have_forwarded_needs_proxies_to_go_to() {
    let source = "sources: [{kind: kafka, config: {brokers: kafka:9092, group: g, topics: {t: metric-list}}}]\n";
    let topic = "forward_kafka: {brokers: kafka:9092, topic: t}\n";
    for config in [source.to_owned(), format!("{source}{topic}")] {
        let told = problems(&config);
        assert!(
            told.contains("sources[0].config: brings what others have forwarded"),
            "{told}"
        );
    }
    let fine = config(&format!("{source}forward_address: proxy:8128\n"));
    assert_eq!(fine.role(), Role::Local);
}
