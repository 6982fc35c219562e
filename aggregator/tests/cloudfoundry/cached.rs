//! What is kept, and for how long.

use std::time::Duration;

use serde_json::json;
use tributary_aggregator::enrich::cloudfoundry::Passed;

use super::mock::CloudFoundry;
use super::{API_SERVER, WEB, listed, name, nowhere};

const LOOKUP: &str = "/v3/apps?guids=";
const LIST: &str = "/v3/apps?include=";

/// Waits until an application has another name, or none.
async fn until_named(enricher: &super::Enricher, guid: &str, expected: Result<&str, Passed>) {
    for _ in 0..1000 {
        if name(enricher, guid).await.as_deref() == expected.as_ref().copied() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("never {expected:?}");
}

#[tokio::test]
async fn what_is_not_there_is_not_asked_for_again_for_a_while() {
    let cf = CloudFoundry::start().await;
    let enricher = listed(&cf, json!({"negative_expire": "1h"})).await;
    for _ in 0..10 {
        assert_eq!(name(&enricher, &nowhere(1)).await, Err(Passed::UnknownApp));
    }
    assert_eq!(cf.state().count(LOOKUP), 1);

    let cf = CloudFoundry::start().await;
    let enricher = listed(&cf, json!({"negative_expire": "100ms", "refresh": "1h"})).await;
    assert_eq!(name(&enricher, &nowhere(1)).await, Err(Passed::UnknownApp));
    cf.state().add(&nowhere(1), "new");
    until_named(&enricher, &nowhere(1), Ok("new")).await;
    assert!(cf.state().count(LOOKUP) >= 2);
}

#[tokio::test]
async fn a_listing_that_has_what_was_not_there_ends_that() {
    let cf = CloudFoundry::start().await;
    let enricher = listed(&cf, json!({"negative_expire": "1h", "refresh": "300ms"})).await;
    assert_eq!(name(&enricher, &nowhere(1)).await, Err(Passed::UnknownApp));
    cf.state().add(&nowhere(1), "new");
    until_named(&enricher, &nowhere(1), Ok("new")).await;
    assert_eq!(cf.state().count(LOOKUP), 1);
}

#[tokio::test]
async fn a_listing_brings_new_names_and_takes_nothing_away() {
    let cf = CloudFoundry::start().await;
    let enricher = listed(&cf, json!({"refresh": "300ms"})).await;
    assert_eq!(
        name(&enricher, API_SERVER).await,
        Ok("api server".to_owned())
    );
    {
        let mut state = cf.state();
        state.apps.retain(|app| app["guid"] != API_SERVER);
        state.apps[0]["name"] = json!("renamed");
    }
    until_named(&enricher, WEB, Ok("renamed")).await;
    assert_eq!(
        name(&enricher, API_SERVER).await,
        Ok("api server".to_owned())
    );
    let lists = cf.state().count(LIST);
    cf.until("listed again", |state| state.count(LIST) > lists)
        .await;
    assert_eq!(cf.state().count(LOOKUP), 0);
}

#[tokio::test]
async fn what_is_not_used_is_forgotten_unless_nobody_could_be_asked() {
    let cf = CloudFoundry::start().await;
    let more = json!({"expire": "200ms", "expire_check": "50ms", "refresh": "1h", "on_unavailable": "pass"});
    let enricher = listed(&cf, more).await;
    cf.state().apps[0]["name"] = json!("renamed");
    tokio::time::sleep(Duration::from_millis(600)).await;
    assert_eq!(name(&enricher, WEB).await, Ok("renamed".to_owned()));
    assert_eq!(cf.state().count(LOOKUP), 1);
    cf.state().is_away = true;
    assert_eq!(name(&enricher, &nowhere(1)).await, Err(Passed::Unavailable));
    tokio::time::sleep(Duration::from_millis(600)).await;
    let asked = cf.state().count(LOOKUP);
    // It was last used before the three tries, more than 200 ms ago.
    assert_eq!(name(&enricher, WEB).await, Ok("renamed".to_owned()));
    assert_eq!(cf.state().count(LOOKUP), asked);
}

#[tokio::test]
async fn no_more_applications_are_kept_than_may_be() {
    let cf = CloudFoundry::start().await;
    for number in 0..50 {
        cf.state().add(&nowhere(number), "many");
    }
    let enricher = listed(&cf, json!({"max_apps": 10, "per_page": 5, "refresh": "1h"})).await;
    assert_eq!(cf.state().count("/v3/apps?"), 3, "no more than has room");
    for number in 0..50 {
        assert_eq!(
            name(&enricher, &nowhere(number)).await,
            Ok("many".to_owned())
        );
    }
    assert!(cf.state().count(LOOKUP) >= 40);
}
