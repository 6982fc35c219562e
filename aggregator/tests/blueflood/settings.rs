//! What can be configured, and what is refused.

use serde_json::json;
use tributary_aggregator::key::Tags;
use tributary_aggregator::sink::build;
use tributary_aggregator::sink::registry::check;

use super::mock::millis;
use super::{batch, pair, point_at, write};

#[tokio::test]
async fn a_tenant_is_all_that_has_to_be_said() {
    assert_eq!(
        check("blueflood", &json!({"tenant": "1"})),
        Vec::<String>::new()
    );
    let sink = build("blueflood", "bf", &json!({"tenant": "1"})).unwrap();
    let gather = sink.gather();
    assert_eq!((gather.amount, gather.time.as_secs()), (10_485, 30));
}

#[test]
fn every_problem_is_told_with_its_key() {
    let config = json!({
        "url": "ftp://u:p4ss@host", "tenant": "", "ttl": "500ms", "body_limit": "2MiB", "timeout": "0s", "backoff": "2s",
        "max_backoff": "1s", "template": "{tags}", "keystone": {
            "url": "host:5000", "user": "", "version": "v3", "key_file": "/k", "tenant_id": "1",
        },
    });
    let problems = check("blueflood", &config);
    let keys: Vec<_> = problems
        .iter()
        .filter_map(|problem| problem.split(": ").next())
        .collect();
    assert_eq!(
        keys,
        [
            "url",
            "tenant",
            "template",
            "ttl",
            "body_limit",
            "timeout",
            "max_backoff",
            "keystone.url",
            "keystone.user",
            "keystone.key_file",
            "keystone.tenant_id"
        ],
        "{problems:#?}"
    );
    assert!(!format!("{problems:?}").contains("p4ss"));
    for (config, expected) in [
        (json!({}), "missing field `tenant`"),
        (json!({"tenant": "1", "limit": 5}), "limit: unknown key"),
        (json!({"tenant": "1", "url": "localhost:19000"}), "url: "),
        (
            json!({"tenant": "1", "url": "http://h", "tls": {"server_name": "x"}}),
            "url: is http, and `tls` is set",
        ),
        (
            json!({"tenant": "1", "keystone": {"user": "u"}}),
            "keystone.key_file: neither",
        ),
        (
            json!({"tenant": "1", "keystone": {"user": "u", "password": "x"}}),
            "keystone.password: unknown key",
        ),
    ] {
        let problems = check("blueflood", &config);
        assert!(problems[0].starts_with(expected), "{problems:?}");
        assert_eq!(problems.len(), 1, "{problems:?}");
    }
}

#[tokio::test]
async fn names_have_prefix_and_tags_as_configured() {
    for (settings, expected) in [
        (json!({}), "cpu.host.web_1"),
        (json!({"prefix": "a.b"}), "a.b.cpu.host.web_1"),
        (json!({"tags": "drop"}), "cpu"),
        (json!({"tags": "graphite"}), "cpu;host=web.1"),
        (json!({"template": "{host}.{name}"}), "web_1.cpu"),
    ] {
        let (blueflood, mut sink) = pair(settings).await;
        let mut point = point_at("cpu", 2.0, millis());
        point.tags = Tags::new(["host:web.1"]);
        assert_eq!(write(&mut sink, &batch(vec![point])).await, (vec![], Ok(1)));
        assert_eq!(blueflood.state().seen[0].names(), [expected]);
    }
}

#[tokio::test]
async fn times_can_be_those_of_sending_and_stay_so_when_sent_again() {
    let (blueflood, mut sink) = pair(json!({"overwrite_collection_timestamp": true})).await;
    let before = millis();
    blueflood
        .state()
        .faults
        .push_back(super::mock::Fault::status(503));
    let old = point_at("a", 1.0, 5);
    assert_eq!(write(&mut sink, &batch(vec![old])).await.1, Ok(1));
    let state = blueflood.state();
    assert_eq!(state.seen[0].body, state.seen[1].body);
    let time = state.seen[0].body[0]["collectionTime"].as_i64().unwrap();
    assert!((before..=millis()).contains(&time));
}
