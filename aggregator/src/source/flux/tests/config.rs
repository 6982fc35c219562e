//! What is wrong with a configuration, told without what must not be seen.

use serde_json::{Value, json};

use super::{KEY_A, KEY_B};
use crate::source::registry::find;

fn problems(config: &Value) -> Vec<String> {
    find("flux").unwrap().check(config)
}

#[test]
fn the_documented_configuration_is_right() {
    let documented = json!({
        "address": "127.0.0.1:8000", "self_api_key": KEY_A, "api_keys": {KEY_B: "warehouse-1"}, "max_age": "1h",
        "check_last_timestamp": true, "state_dir": "/var/lib/tributary", "redis": "", "max_body": "1MiB", "max_metrics": 0, "quotas": {}});
    assert_eq!(problems(&documented), [""; 0]);
    assert_eq!(
        problems(&json!({"api_keys_file": "/etc/tributary/keys"})),
        [""; 0]
    );
}

#[test]
fn each_problem_has_its_key_and_none_shows_a_secret() {
    let secret = "not-a-good-key-but-secret-still";
    for (config, key) in [
        (json!({}), "self_api_key: "),
        (json!({"self_api_key": secret}), "self_api_key: "),
        (json!({"api_keys": {secret: "a"}}), "api_keys: "),
        (json!({"api_keys": {secret: 5}}), "api_keys: "),
        (json!({"api_keys": [secret]}), "api_keys: "),
        (json!({"api_keys": {KEY_A: "a b"}}), "api_keys: "),
        (
            json!({"self_api_key": KEY_A, "api_keys": {KEY_A: "a"}}),
            "api_keys: ",
        ),
        (
            json!({"self_api_key": KEY_A, "address": "nowhere"}),
            "address: ",
        ),
        (json!({"self_api_key": KEY_A, "max_age": "0s"}), "max_age: "),
        (json!({"self_api_key": KEY_A, "redis": secret}), "redis: "),
        (
            json!({"self_api_key": KEY_A, "persist_queue": true, "state_dir": ""}),
            "persist_queue: ",
        ),
        (
            json!({"self_api_key": KEY_A, "aggregate_namespaces": {"a": {"interval": "1500ms"}}}),
            "aggregate_namespaces.a.interval: ",
        ),
        (
            json!({"self_api_key": KEY_A, "aggregate_namespaces": {"a": {"method": "median"}}}),
            "aggregate_namespaces.a.method: ",
        ),
        (
            json!({"self_api_key": KEY_A, "self_metrics_prefix": "a b"}),
            "self_metrics_prefix: ",
        ),
        (
            json!({"self_api_key": KEY_A, "max_conections": 1}),
            "max_conections: unknown key",
        ),
    ] {
        let found = problems(&config);
        assert!(
            found.iter().any(|problem| problem.starts_with(key)),
            "{config}: {found:?}"
        );
        for hidden in [secret, KEY_A] {
            assert!(!found.concat().contains(hidden), "{found:?}");
        }
    }
}

#[tokio::test]
async fn keys_may_stand_in_files() {
    let directory = tempfile::tempdir().unwrap();
    let (own, more) = (directory.path().join("own"), directory.path().join("more"));
    std::fs::write(&own, format!("{KEY_A}\n")).unwrap();
    std::fs::write(&more, format!("{KEY_B}: first\n")).unwrap();
    let config = json!({"state_dir": "", "self_api_key_file": own, "api_keys_file": more});
    let config: super::FluxConfig = crate::options::parse(&config).unwrap();
    let keys = config.keys().unwrap();
    assert_eq!(keys.pass(KEY_A).unwrap().full_name("x"), "x");
    assert_eq!(keys.pass(KEY_B).unwrap().full_name("x"), "first.x");
    std::fs::write(&more, "nonsense\n").unwrap();
    let problem = config.keys().unwrap_err();
    assert!(problem.starts_with("api_keys_file: line 1"), "{problem}");
    std::fs::remove_file(&own).unwrap();
    let problem = config.keys().unwrap_err();
    assert!(problem.starts_with("self_api_key_file: "), "{problem}");
}
