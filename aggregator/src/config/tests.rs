use std::net::SocketAddr;

use tributary_node::config::{Environment, parse};

use super::Config;
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
