//! What can be configured, and what is refused.

use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use tributary_aggregator::enrich::cloudfoundry::{CloudFoundryConfig, Enricher};

fn config(value: Value) -> CloudFoundryConfig {
    serde_json::from_value(value).unwrap()
}

#[test]
fn an_api_and_a_login_are_all_that_has_to_be_said() {
    for login in [
        json!({"user": "u", "password": "p"}),
        json!({"user": "u", "password_file": "/run/secrets/cf"}),
        json!({"client_id": "c"}),
        json!({"token": "t"}),
        json!({"token_file": "/run/secrets/token"}),
    ] {
        let mut all = login;
        all["api"] = json!("https://api.example");
        assert_eq!(config(all).problems(), Vec::<String>::new());
    }
}

#[tokio::test]
async fn every_problem_is_told_with_its_key() {
    let wrong = config(json!({
        "api": "ftp://u:p4ss@host", "user": "u", "token": "a\nb", "token_file": "/t", "timeout": "0s", "refresh": "0s", "expire": "0s",
        "expire_check": "0s", "negative_expire": "0s", "negative_expire_check": "0s", "per_page": 0, "api_version": 4,
        "max_concurrent_lookups": 0, "max_apps": 0, "skip_ssl_validation": true,
    }));
    let problems = wrong.problems();
    let keys: Vec<_> = problems
        .iter()
        .filter_map(|problem| problem.split(": ").next())
        .collect();
    assert_eq!(
        keys,
        [
            "api",
            "token_file",
            "password",
            "token",
            "timeout",
            "refresh",
            "expire",
            "expire_check",
            "negative_expire",
            "negative_expire_check",
            "per_page",
            "api_version",
            "max_concurrent_lookups",
            "max_apps",
            "skip_ssl_validation"
        ],
        "{problems:#?}"
    );
    assert!(!format!("{problems:?}").contains("p4ss"));
    assert!(
        Enricher::start(wrong, CancellationToken::new())
            .await
            .is_err()
    );
    for (key, value, expected) in [
        ("api", json!("api.example"), "api: "),
        ("api", json!("https://api.example/v3"), "api: has a path"),
        (
            "tls",
            json!({"server_name": "x"}),
            "api: is http, and `tls` is set",
        ),
        ("token", json!("bearer x"), "token: starts with"),
    ] {
        let mut all = json!({"api": "http://api.example", "user": "u", "password": "p"});
        all[key] = value;
        let problems = config(all).problems();
        assert!(problems[0].starts_with(expected), "{problems:?}");
        assert_eq!(problems.len(), 1, "{problems:?}");
    }
    let none = config(json!({"api": "http://api.example"})).problems();
    assert_eq!(
        none,
        ["user: none of `token`, `client_id` and `user` is set"]
    );
}

#[test]
fn unknown_keys_are_refused_and_secrets_are_not_shown() {
    let read = |value| serde_json::from_value::<CloudFoundryConfig>(value);
    assert!(read(json!({"api": "http://h", "passwort": "x"})).is_err());
    assert!(read(json!({})).is_err());
    let shown = config(
        json!({"api": "http://h", "password": "p4ss", "token": "t0ken", "client_secret": "s3cret"}),
    );
    let shown = format!("{shown:?}");
    for secret in ["p4ss", "t0ken", "s3cret"] {
        assert!(!shown.contains(secret), "{shown}");
    }
}

#[test]
fn the_example_of_the_documentation_is_taken() {
    let page = include_str!("../../../docs/cloudfoundry.md");
    let (_, example) = page.split_once("```yaml\n").unwrap();
    let (example, _) = example.split_once("```").unwrap();
    let mut all = json!({});
    for line in example.lines().filter(|line| !line.starts_with('#')) {
        let (key, value) = line.split_once(": ").unwrap();
        all[key] = serde_json::from_str(value).unwrap_or_else(|_| json!(value));
    }
    assert_eq!(config(all).problems(), Vec::<String>::new());
}
