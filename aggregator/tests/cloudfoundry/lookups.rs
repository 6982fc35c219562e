//! What is asked, and how often.

use std::time::Duration;

use serde_json::{Value, json};
use tributary_aggregator::dropsonde::parse;
use tributary_aggregator::enrich::cloudfoundry::Passed;

use super::mock::CloudFoundry;
use super::{API_SERVER, WEB, enricher, event, listed, name, nowhere, tag};

const LOOKUP: &str = "/v3/apps?guids=";

#[tokio::test]
async fn recorded_events_get_what_the_pages_of_a_list_say() {
    let cf = CloudFoundry::start().await;
    let enricher = listed(&cf, json!({"per_page": 2})).await;
    assert_eq!(cf.state().count("/v3/apps?"), 2);

    let recorded = include_str!("../fixtures/cf/events.json");
    let recorded: Vec<Value> = serde_json::from_str(recorded).unwrap();
    let (mut events, mut wanted) = (Vec::new(), Vec::new());
    for case in &recorded {
        if let Ok(Some(event)) = parse(case["message"].as_str().unwrap().as_bytes()) {
            events.push(event);
            wanted.push((case["name"].as_str().unwrap(), case["influx_line"].as_str()));
        }
    }
    let made = enricher.events(events).await;
    assert_eq!(made.len(), wanted.len());
    let mut lost = Vec::new();
    for (made, (name, line)) in made.into_iter().zip(wanted) {
        match made {
            Ok(points) => {
                let line = line.unwrap();
                for key in ["app", "app_guid", "space", "space_guid", "org", "org_guid"] {
                    let tag = format!(",{key}={}", tag(&points, key));
                    assert!(line.contains(&tag), "{name}: {tag}");
                }
            }
            Err(passed) => {
                assert_eq!(line, None, "{name}");
                lost.push((name, passed));
            }
        }
    }
    assert_eq!(
        lost,
        [
            ("log_no_app_id", Passed::NoApp),
            ("http_no_app", Passed::NoApp),
            ("http_unknown_app", Passed::UnknownApp)
        ]
    );
    // Only the unknown one was asked for.
    assert_eq!(cf.state().count(LOOKUP), 1);
    assert_eq!(
        name(&enricher, "0a1b2c3d-4e5f-4a6b-8c7d-9e0f1a2b3c4d").await,
        Ok("old".to_owned())
    );
    assert_eq!(cf.state().count(LOOKUP), 1);
    let stats = enricher.stats();
    assert_eq!((stats.enrich_fail.total(), stats.cf_fail.total()), (3, 0));
    assert!(stats.enrich.total() > 5 && stats.enrich.last().is_some());
    assert_eq!(stats.cf_fail.last(), None);
}

#[tokio::test]
async fn names_may_hold_anything() {
    let cf = CloudFoundry::start().await;
    let enricher = enricher(&cf, json!({})).await;
    let made = enricher.events(vec![event(API_SERVER)]).await;
    let points = made[0].as_ref().unwrap();
    assert_eq!(
        (tag(points, "app"), tag(points, "org")),
        ("api server".into(), "we,ird org=x".into())
    );
}

#[tokio::test]
async fn an_application_is_asked_for_once_by_a_hundred_callers() {
    let cf = CloudFoundry::start().await;
    {
        let mut state = cf.state();
        state.unlisted.insert(WEB.to_owned());
        state.slowness = Duration::from_millis(100);
    }
    let enricher = listed(&cf, json!({})).await;
    let callers = (0..100).map(|_| {
        let enricher = enricher.clone();
        tokio::spawn(async move { name(&enricher, WEB).await })
    });
    for caller in callers.collect::<Vec<_>>() {
        assert_eq!(caller.await.unwrap(), Ok("web".to_owned()));
    }
    assert_eq!(cf.state().count(LOOKUP), 1);
    assert_eq!(name(&enricher, WEB).await, Ok("web".to_owned()));
    assert_eq!(cf.state().count(LOOKUP), 1);
}

#[tokio::test]
async fn a_batch_asks_for_all_that_it_lacks_at_once_and_for_each_once() {
    let cf = CloudFoundry::start().await;
    {
        let mut state = cf.state();
        for number in 0..250 {
            state.add(&nowhere(number), &format!("app {number}"));
            state.unlisted.insert(nowhere(number));
        }
    }
    let enricher = listed(&cf, json!({"per_page": 1000})).await;
    let numbers = (0..500).map(|number| number % 250).chain(900..910);
    let made = enricher
        .events(numbers.map(|number| event(&nowhere(number))).collect())
        .await;
    let (there, missing) = made.split_at(500);
    for (number, made) in there.iter().enumerate() {
        let points = made.as_ref().unwrap();
        assert_eq!(tag(points, "app"), format!("app {}", number % 250));
    }
    assert!(missing.iter().all(|made| *made == Err(Passed::UnknownApp)));
    assert_eq!(
        cf.state().count(LOOKUP),
        3,
        "260 applications, a hundred at a time"
    );
}

#[tokio::test]
async fn many_callers_with_different_applications_share_few_requests() {
    let cf = CloudFoundry::start().await;
    cf.state().slowness = Duration::from_millis(50);
    let enricher = listed(&cf, json!({"max_concurrent_lookups": 2, "per_page": 20})).await;
    cf.state().most_at_once = 0;
    let callers = (0..100).map(|number| {
        let enricher = enricher.clone();
        tokio::spawn(async move { name(&enricher, &nowhere(number)).await })
    });
    for caller in callers.collect::<Vec<_>>() {
        assert_eq!(caller.await.unwrap(), Err(Passed::UnknownApp));
    }
    let state = cf.state();
    // The first two leave with what there is then, the others are full.
    assert!(
        (5..=7).contains(&state.count(LOOKUP)),
        "{}",
        state.count(LOOKUP)
    );
    assert!(state.most_at_once <= 2, "{}", state.most_at_once);
}

#[tokio::test]
async fn one_caller_that_goes_away_takes_nothing_from_the_others() {
    let cf = CloudFoundry::start().await;
    {
        let mut state = cf.state();
        state.unlisted.insert(WEB.to_owned());
        state.slowness = Duration::from_millis(100);
    }
    let enricher = listed(&cf, json!({})).await;
    let first = tokio::spawn({
        let enricher = enricher.clone();
        async move { name(&enricher, WEB).await }
    });
    tokio::time::sleep(Duration::from_millis(20)).await;
    first.abort();
    assert_eq!(name(&enricher, WEB).await, Ok("web".to_owned()));
    assert_eq!(cf.state().count(LOOKUP), 1);
}

#[tokio::test]
async fn version_two_lists_in_pages_and_asks_one_by_one() {
    for is_plain in [false, true] {
        let cf = CloudFoundry::start().await;
        {
            let mut state = cf.state();
            state.is_plain = is_plain;
            state.unlisted.insert(API_SERVER.to_owned());
        }
        let enricher = listed(&cf, json!({"api_version": 2, "per_page": 1})).await;
        assert_eq!(cf.state().count("/v2/apps?"), 2);
        assert_eq!(name(&enricher, WEB).await, Ok("web".to_owned()));
        assert_eq!(cf.state().count("/v2/apps/"), 0);
        let made = enricher.events(vec![event(API_SERVER)]).await;
        let points = made[0].as_ref().unwrap();
        let tags = ["app", "space", "org"].map(|key| tag(points, key));
        assert_eq!(tags, ["api server", "prod", "we,ird org=x"]);
        let more = usize::from(is_plain);
        assert_eq!(cf.state().count("/v2/spaces/"), more);
        assert_eq!(cf.state().count("/v2/organizations/"), more);
        assert_eq!(name(&enricher, &nowhere(1)).await, Err(Passed::UnknownApp));
        assert_eq!(name(&enricher, &nowhere(1)).await, Err(Passed::UnknownApp));
        assert_eq!(cf.state().count("/v2/apps/"), 2);
        assert_eq!(cf.state().count("/v2/info"), 1);
    }
}
