use serde_json::{Value, json};

use crate::source::registry;

fn problems(config: &Value) -> Vec<String> {
    registry::find("kafka").unwrap().check(config)
}

fn with(key: &str, value: Value) -> Value {
    let mut config = json!({"brokers": "127.0.0.1:9092", "group": "g", "topics": {"t": "carbon"}});
    config[key] = value;
    config
}

#[test]
fn what_has_to_be_set_is_said_at_once() {
    assert_eq!(
        problems(&with("start", json!("newest"))),
        Vec::<String>::new()
    );
    let found = problems(&json!({}));
    let keys: Vec<_> = found
        .iter()
        .filter_map(|found| found.split(':').next())
        .collect();
    assert_eq!(keys, ["brokers", "group", "topics"], "{found:?}");
}

#[test]
fn each_bad_value_is_named() {
    for (key, value, said) in [
        (
            "brokers",
            json!(["kafka"]),
            "brokers: `kafka` is not `host:port`",
        ),
        (
            "brokers",
            json!("a:1,b:2"),
            "brokers: `a:1,b:2` is not `host:port`",
        ),
        (
            "topics",
            json!({"a b": "carbon"}),
            "topics: `a b` is no topic's name",
        ),
        (
            "topics",
            json!({"^a(": "carbon"}),
            "topics: `^a(` is no regular expression",
        ),
        (
            "topics",
            json!({"t": "avro"}),
            "topics.t: unknown variant `avro`",
        ),
        (
            "max_in_flight",
            json!(0),
            "max_in_flight: has to be at least 1",
        ),
        ("commit_interval", json!("0s"), "commit_interval: is zero"),
        (
            "processing_timeout",
            json!("3m"),
            "processing_timeout: 3m is more than 2m",
        ),
        (
            "session_timeout",
            json!("1ms"),
            "session_timeout: 1ms is not from",
        ),
        (
            "dead_letter",
            json!({}),
            "dead_letter.topic: neither it nor",
        ),
        (
            "dead_letter",
            json!({"topic": "t"}),
            "dead_letter.topic: `t` is one of `topics`",
        ),
        (
            "dead_letter",
            json!({"topic": "a", "file": "b"}),
            "dead_letter.topic: is set, and",
        ),
        (
            "properties",
            json!({"group.id": "x"}),
            "properties.group.id: is set by a key of ours",
        ),
        (
            "properties",
            json!({"enable.auto.commit": true}),
            "properties.enable.auto.commit: is set by",
        ),
        (
            "properties",
            json!({"fetch.max.byte": 1}),
            "properties.fetch.max.byte: No such configuration property",
        ),
        (
            "properties",
            json!({"fetch.max.bytes": "many"}),
            "properties.fetch.max.bytes: Invalid value",
        ),
        (
            "sasl",
            json!({"user": "u"}),
            "sasl.password_file: neither it nor",
        ),
        ("sasl", json!({"password": "p"}), "sasl.user: is empty"),
        (
            "groups",
            json!(1),
            "groups: unknown key, did you mean `group`?",
        ),
    ] {
        let found = problems(&with(key, value));
        assert!(
            found.iter().any(|found| found.starts_with(said)),
            "{said}: {found:?}"
        );
    }
    let plain = with("sasl", json!({"user": "u", "password_file": "/run/p"}));
    assert_eq!(problems(&plain), Vec::<String>::new());
    let more = with(
        "properties",
        json!({"fetch.max.bytes": 10_485_760, "client.rack": "a", "socket.keepalive.enable": true}),
    );
    assert_eq!(problems(&more), Vec::<String>::new());
}

#[cfg(not(feature = "kafka-tls"))]
#[test]
fn what_this_build_cannot_do_is_refused() {
    let found = problems(&with("tls", json!({"enabled": true})));
    assert_eq!(
        found,
        ["tls: this build has no TLS for Kafka: build with the feature `kafka-tls`"]
    );
    for mechanism in ["SCRAM-SHA-256", "SCRAM-SHA-512"] {
        let found = problems(&with(
            "sasl",
            json!({"mechanism": mechanism, "user": "u", "password": "p"}),
        ));
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(
            found[0].starts_with(&format!("sasl.mechanism: {mechanism} needs OpenSSL")),
            "{found:?}"
        );
    }
}
