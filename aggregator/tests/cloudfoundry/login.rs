//! How tokens are got and renewed.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tributary_aggregator::enrich::cloudfoundry::Passed;

use super::mock::{CloudFoundry, Fault};
use super::{WEB, enricher, listed, name, nowhere};

const TOKEN: &str = "/oauth/token";

/// Settings that take the login away, and others laid over them.
fn instead(more: Value) -> Value {
    let mut all = json!({"user": "", "password": ""});
    for (key, value) in more.as_object().unwrap() {
        all[key] = value.clone();
    }
    all
}

#[tokio::test]
async fn a_user_logs_in_once_for_all_requests() {
    let cf = CloudFoundry::start().await;
    let enricher = listed(&cf, json!({})).await;
    for number in 0..5 {
        assert_eq!(
            name(&enricher, &nowhere(number)).await,
            Err(Passed::UnknownApp)
        );
    }
    let state = cf.state();
    let logins: Vec<_> = state
        .seen
        .iter()
        .filter(|seen| seen.path == TOKEN)
        .collect();
    assert_eq!(logins.len(), 1);
    let basic = format!("Basic {}", STANDARD.encode("cf:"));
    assert_eq!(logins[0].authorization, basic);
    let form: Vec<_> = logins[0]
        .form
        .iter()
        .map(|(key, value)| (&**key, &**value))
        .collect();
    assert_eq!(
        form,
        [
            ("grant_type", "password"),
            ("password", "p4ss"),
            ("username", "alice")
        ]
    );
    assert_eq!(state.seen.iter().filter(|seen| seen.path == "/").count(), 1);
}

#[tokio::test]
async fn a_client_logs_in_for_itself_with_a_secret_from_a_file() {
    let cf = CloudFoundry::start().await;
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("secret");
    std::fs::write(&file, "s3cret\n").unwrap();
    // A client goes before a user.
    let more = json!({"client_id": "refinery", "client_secret_file": file});
    let enricher = listed(&cf, more).await;
    assert_eq!(name(&enricher, WEB).await, Ok("web".to_owned()));
    let state = cf.state();
    assert_eq!(state.grants(), ["client_credentials"]);
    let login = state.seen.iter().find(|seen| seen.path == TOKEN).unwrap();
    let basic = format!("Basic {}", STANDARD.encode("refinery:s3cret"));
    assert_eq!(login.authorization, basic);
}

#[tokio::test]
async fn a_token_of_the_settings_is_used_as_it_is() {
    let cf = CloudFoundry::start().await;
    let long = std::time::Instant::now() + Duration::from_secs(600);
    cf.state().tokens.insert("given".to_owned(), long);
    let enricher = listed(
        &cf,
        instead(json!({"token": "given", "on_unavailable": "pass"})),
    )
    .await;
    assert_eq!(name(&enricher, WEB).await, Ok("web".to_owned()));
    cf.state().tokens.clear();
    assert_eq!(name(&enricher, &nowhere(1)).await, Err(Passed::Unavailable));
    assert_eq!(name(&enricher, WEB).await, Ok("web".to_owned()));
    let state = cf.state();
    assert_eq!(
        (
            state.count(TOKEN),
            state.seen.iter().filter(|seen| seen.path == "/").count()
        ),
        (0, 0)
    );
    assert_eq!(
        state.count("/v3/apps?guids="),
        1,
        "what is refused for good is not tried again"
    );
}

#[tokio::test]
async fn a_token_in_a_file_is_read_again_when_it_is_refused() {
    let cf = CloudFoundry::start().await;
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("token");
    let long = std::time::Instant::now() + Duration::from_secs(600);
    std::fs::write(&file, "first").unwrap();
    cf.state().tokens.insert("first".to_owned(), long);
    let enricher = listed(&cf, instead(json!({"token_file": file}))).await;
    {
        let mut state = cf.state();
        state.tokens.clear();
        state.tokens.insert("second".to_owned(), long);
    }
    std::fs::write(&file, "second").unwrap();
    assert_eq!(name(&enricher, &nowhere(1)).await, Err(Passed::UnknownApp));
    assert_eq!(
        cf.state().seen.last().unwrap().authorization,
        "bearer second"
    );
}

#[tokio::test]
async fn a_token_is_renewed_before_it_ends_by_the_other_one() {
    let cf = CloudFoundry::start().await;
    cf.state().lifetime = 2;
    let enricher = listed(&cf, json!({})).await;
    tokio::time::sleep(Duration::from_millis(2000)).await;
    assert_eq!(name(&enricher, &nowhere(1)).await, Err(Passed::UnknownApp));
    let state = cf.state();
    assert_eq!(state.grants(), ["password", "refresh_token"]);
    assert!(
        state.seen.iter().all(|seen| seen.status != 401),
        "it was renewed in time"
    );
}

#[tokio::test]
async fn when_the_other_token_is_refused_the_user_logs_in_again() {
    let cf = CloudFoundry::start().await;
    let enricher = listed(&cf, json!({})).await;
    {
        let mut state = cf.state();
        state.tokens.clear();
        state.refresh_tokens.clear();
    }
    assert_eq!(name(&enricher, &nowhere(1)).await, Err(Passed::UnknownApp));
    assert_eq!(
        cf.state().grants(),
        ["password", "refresh_token", "password"]
    );
}

#[tokio::test]
async fn a_refused_token_is_renewed_once_however_many_requests_had_it() {
    let cf = CloudFoundry::start().await;
    let enricher = listed(&cf, json!({"max_concurrent_lookups": 8, "per_page": 1})).await;
    {
        let mut state = cf.state();
        state.tokens.clear();
        state.slowness = Duration::from_millis(50);
        state.seen.clear();
    }
    let events = (0..8)
        .map(|number| super::event(&nowhere(number)))
        .collect();
    let made = enricher.events(events).await;
    assert!(made.iter().all(|made| *made == Err(Passed::UnknownApp)));
    let state = cf.state();
    assert_eq!(state.grants(), ["refresh_token"]);
    let refused = state.seen.iter().filter(|seen| seen.status == 401).count();
    assert_eq!((refused, state.count("/v3/apps?guids=")), (8, 16));
}

#[tokio::test]
async fn new_tokens_that_are_refused_as_well_are_no_reason_to_go_on() {
    let cf = CloudFoundry::start().await;
    let enricher = listed(&cf, json!({"on_unavailable": "pass"})).await;
    let refusal = Fault::Answer(401, "", String::new());
    cf.state().fail("/v3/apps?guids=", vec![refusal; 10]);
    assert_eq!(name(&enricher, &nowhere(1)).await, Err(Passed::Unavailable));
    let state = cf.state();
    assert_eq!((state.count(TOKEN), state.count("/v3/apps?guids=")), (2, 2));
}

#[tokio::test]
async fn wrong_passwords_are_tried_ever_more_rarely_and_shown_nowhere() {
    let cf = CloudFoundry::start().await;
    let more = json!({"password": "wr0ng", "on_unavailable": "pass"});
    let enricher = enricher(&cf, more).await;
    cf.until("refused", |state| state.count(TOKEN) > 0).await;
    for number in 0..100 {
        assert_eq!(
            name(&enricher, &nowhere(number)).await,
            Err(Passed::Unavailable)
        );
    }
    assert!(cf.state().count(TOKEN) <= 3, "{}", cf.state().count(TOKEN));
    assert_eq!(cf.state().count("/v3/"), 0);
}
