//! Tokens: one login for all requests, a new one when the old one ends or is refused, and what happens while Keystone is away.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::{Value, json};
use tributary_aggregator::sink::{Sink, SinkError};

use super::mock::{Blueflood, Fault, Keystone, Server, start};
use super::{batch, points, sink, write};

/// Blueflood and Keystone, the sink between them, and the file with the key.
struct Cloud {
    blueflood: Server<Blueflood>,
    keystone: Server<Keystone>,
    sink: Box<dyn Sink>,
    key: PathBuf,
    _directory: tempfile::TempDir,
}

static KEYS: AtomicU64 = AtomicU64::new(0);

async fn cloud(path: &str, settings: Value) -> Cloud {
    let (blueflood, keystone) = (start::<Blueflood>().await, start::<Keystone>().await);
    let directory = tempfile::tempdir().unwrap();
    let key = directory.path().join("key");
    let secret = format!("s3cret{}", KEYS.fetch_add(1, Ordering::Relaxed));
    std::fs::write(&key, format!("{secret}\n")).unwrap();
    {
        let mut state = keystone.state();
        state.secret = secret;
        state.lifetime = 86_400;
    }
    blueflood.state().tokens = Some((1..10).map(|n| format!("tok{n}")).collect());
    let mut config = json!({"url": format!("{}{path}", keystone.url()), "user": "user1"});
    let file = if settings["version"] == "v3" || settings.get("tenant_name").is_some() {
        "password_file"
    } else {
        "key_file"
    };
    config[file] = json!(key);
    for (key, value) in settings.as_object().unwrap() {
        config[key] = value.clone();
    }
    let sink = sink(&blueflood, json!({"keystone": config, "body_limit": 500}));
    Cloud {
        blueflood,
        keystone,
        sink,
        key,
        _directory: directory,
    }
}

#[tokio::test]
async fn one_login_serves_all_requests() {
    let mut cloud = cloud("/v2.0/tokens", json!({})).await;
    assert_eq!(cloud.keystone.state().made, 0, "not before it is needed");
    assert_eq!(
        write(&mut cloud.sink, &batch(points(20))).await,
        (vec![], Ok(20))
    );
    assert_eq!(
        write(&mut cloud.sink, &batch(points(20))).await,
        (vec![], Ok(20))
    );
    assert_eq!(cloud.keystone.state().made, 1);
    let state = cloud.blueflood.state();
    assert!(state.seen.len() > 4);
    for seen in &state.seen {
        assert_eq!(seen.header("x-auth-token"), "tok1");
        assert_eq!(seen.header("x-tenant-id"), "836986");
        assert_eq!(seen.path, "/v2.0/123/ingest");
    }
    let login = cloud.keystone.state().seen[0].clone();
    assert_eq!(login.header("content-type"), "application/json");
    let key = std::fs::read_to_string(&cloud.key).unwrap();
    assert_eq!(
        login.body,
        json!({"auth": {"RAX-KSKEY:apiKeyCredentials": {"username": "user1", "apiKey": key.trim()}}})
    );
}

#[tokio::test]
async fn passwords_and_version_3_are_spoken_as_well() {
    let mut old = cloud("/v2.0/tokens", json!({"tenant_name": "shop"})).await;
    assert_eq!(
        write(&mut old.sink, &batch(points(2))).await,
        (vec![], Ok(2))
    );
    let password = old.keystone.state().secret.clone();
    assert_eq!(
        old.keystone.state().seen[0].body,
        json!({"auth": {"passwordCredentials": {"username": "user1", "password": password}, "tenantName": "shop"}})
    );
    let settings = json!({"version": "v3", "project": "shop", "user_domain": "staff"});
    let mut new = cloud("/v3/auth/tokens", settings).await;
    assert_eq!(
        write(&mut new.sink, &batch(points(2))).await,
        (vec![], Ok(2))
    );
    let password = new.keystone.state().secret.clone();
    let user = json!({"name": "user1", "domain": {"name": "staff"}, "password": password});
    let project = json!({"name": "shop", "domain": {"name": "Default"}});
    assert_eq!(
        new.keystone.state().seen[0].body,
        json!({"auth": {
            "identity": {"methods": ["password"], "password": {"user": user}},
            "scope": {"project": project},
        }})
    );
    let state = new.blueflood.state();
    assert_eq!(state.seen[0].header("x-auth-token"), "tok1");
    assert_eq!(state.seen[0].header("x-tenant-id"), "p836986");
}

#[tokio::test]
async fn a_refused_token_is_renewed_once_and_the_same_body_goes_at_once() {
    for status in [401, 403] {
        let mut cloud = cloud("/v2.0/tokens", json!({})).await;
        cloud.sink.write(&batch(points(1))).await.unwrap();
        cloud
            .blueflood
            .state()
            .faults
            .push_back(Fault::status(status));
        assert_eq!(
            write(&mut cloud.sink, &batch(points(2))).await,
            (vec![], Ok(2))
        );
        let state = cloud.blueflood.state();
        assert_eq!(state.statuses(), [200, status, 200]);
        assert_eq!(state.seen[1].body, state.seen[2].body);
        assert_eq!(state.seen[2].header("x-auth-token"), "tok2");
        assert_eq!(cloud.keystone.state().made, 2);
    }
}

#[tokio::test]
async fn a_blueflood_that_takes_no_token_is_no_reason_to_log_in_for_ever() {
    let mut cloud = cloud("/v2.0/tokens", json!({})).await;
    cloud.blueflood.state().tokens = Some(vec![]);
    let error = cloud.sink.write(&batch(points(1))).await.unwrap_err();
    assert!(matches!(error, SinkError::Retriable { after: Some(_), .. }));
    assert!(
        error.to_string().ends_with("answered 401: Unauthorized"),
        "{error}"
    );
    assert_eq!(cloud.keystone.state().made, 2);
    assert_eq!(cloud.blueflood.state().statuses(), [401, 401]);
}

#[tokio::test]
async fn a_login_that_fails_is_tried_again_and_nothing_is_lost() {
    let mut cloud = cloud("/v2.0/tokens", json!({})).await;
    cloud
        .keystone
        .state()
        .faults
        .extend([Fault::status(503), Fault::Cut]);
    let (failures, end) = write(&mut cloud.sink, &batch(points(2))).await;
    assert_eq!((failures.len(), end), (2, Ok(2)));
    assert!(
        failures[0].to_string().ends_with("Keystone answered 503"),
        "{:?}",
        failures[0]
    );
    assert_eq!(cloud.blueflood.state().counts(), (2, 0));
    assert_eq!(cloud.blueflood.state().statuses(), [200]);
}

#[tokio::test]
async fn a_wrong_key_is_told_without_the_key_and_a_new_one_read_at_the_next_login() {
    let mut cloud = cloud("/v2.0/tokens", json!({})).await;
    let right = std::fs::read_to_string(&cloud.key).unwrap();
    std::fs::write(&cloud.key, "wr0ngkey").unwrap();
    let batch = batch(points(1));
    let error = cloud.sink.write(&batch).await.unwrap_err().to_string();
    assert!(
        error.contains("Keystone answered 401: wrong key \"REDACTED\""),
        "{error}"
    );
    std::fs::remove_file(&cloud.key).unwrap();
    let error = cloud.sink.write(&batch).await.unwrap_err().to_string();
    assert!(error.contains("key: No such file"), "{error}");
    std::fs::write(&cloud.key, right).unwrap();
    assert_eq!(write(&mut cloud.sink, &batch).await, (vec![], Ok(1)));
}

#[tokio::test]
async fn a_token_is_renewed_before_it_ends_and_used_to_its_end_if_that_fails() {
    let mut cloud = cloud("/v2.0/tokens", json!({})).await;
    // Nine tenths of it: no test waits that long, and no machine is that slow.
    cloud.keystone.state().lifetime = 100_000;
    cloud.sink.write(&batch(points(1))).await.unwrap();
    assert_eq!(cloud.keystone.state().made, 1);

    let mut short = self::cloud("/v2.0/tokens", json!({})).await;
    short.keystone.state().lifetime = 2;
    let mut written = 0;
    while short.keystone.state().made < 2 {
        let (_, end) = write(&mut short.sink, &batch(points(1))).await;
        written += end.unwrap();
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert!(written > 0);
    let statuses = short.blueflood.state().statuses();
    assert!(
        statuses.iter().all(|status| *status == 200),
        "never refused: {statuses:?}"
    );
    let state = short.blueflood.state();
    assert_eq!(state.seen.last().unwrap().header("x-auth-token"), "tok2");
}

#[tokio::test]
async fn an_answer_without_a_token_is_a_failure_that_does_not_quote_it() {
    for body in [
        "",
        "{}",
        "{\"access\": {\"token\": {\"id\": \"\"}}}",
        "t0ken",
    ] {
        let mut cloud = cloud("/v2.0/tokens", json!({})).await;
        let fault = Fault::Answer(200, "", body.to_owned());
        cloud.keystone.state().faults.push_back(fault);
        let error = cloud
            .sink
            .write(&batch(points(1)))
            .await
            .unwrap_err()
            .to_string();
        assert!(error.contains("Keystone's answer has no token"), "{error}");
        assert!(!error.contains("t0ken"), "{error}");
    }
}
