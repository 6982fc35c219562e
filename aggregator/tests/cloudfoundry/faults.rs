//! A Cloud Controller that is away, slow, or does not want to be asked.

use std::time::{Duration, Instant};

use serde_json::json;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tributary_aggregator::enrich::cloudfoundry::{Enricher, Passed};

use super::mock::{CloudFoundry, Fault};
use super::{API_SERVER, WEB, enricher, event, listed, name, nowhere, settings, until};

const LOOKUP: &str = "/v3/apps?guids=";

fn answer(status: u16) -> Fault {
    Fault::Answer(status, "", String::new())
}

#[tokio::test]
async fn events_wait_for_a_cloud_controller_that_is_away_at_the_start() {
    let cf = CloudFoundry::start().await;
    cf.state().is_away = true;
    let enricher = enricher(&cf, json!({})).await;
    let waiting = tokio::spawn({
        let enricher = enricher.clone();
        async move { name(&enricher, WEB).await }
    });
    cf.until("asked in vain", |state| state.seen.len() >= 3)
        .await;
    assert!(!waiting.is_finished());
    cf.state().is_away = false;
    assert_eq!(waiting.await.unwrap(), Ok("web".to_owned()));
    assert!(enricher.stats().cf_fail.total() >= 1);
}

#[tokio::test]
async fn what_is_known_needs_no_cloud_controller() {
    let cf = CloudFoundry::start().await;
    let enricher = listed(&cf, json!({"on_unavailable": "pass", "refresh": "200ms"})).await;
    assert_eq!(name(&enricher, WEB).await, Ok("web".to_owned()));
    cf.state().is_away = true;
    let events = [WEB, &nowhere(1), "", API_SERVER].map(event).to_vec();
    let made = enricher.events(events).await;
    assert!(made[0].is_ok() && made[3].is_ok());
    assert_eq!(
        (&made[1], &made[2]),
        (&Err(Passed::Unavailable), &Err(Passed::NoApp))
    );
    assert_eq!(enricher.stats().enrich_fail.total(), 2);
    cf.state().is_away = false;
    // That it was away is not remembered of an application.
    for _ in 0..500 {
        match name(&enricher, &nowhere(1)).await {
            Err(Passed::UnknownApp) => return,
            other => assert_eq!(other, Err(Passed::Unavailable)),
        }
    }
    panic!("it stays away");
}

#[tokio::test]
async fn events_that_wait_are_given_back_at_the_end() {
    let cf = CloudFoundry::start().await;
    cf.state().is_away = true;
    let stop = CancellationToken::new();
    let enricher = Enricher::start(settings(&cf, json!({})), stop.clone())
        .await
        .unwrap();
    let waiting = tokio::spawn(async move { name(&enricher, WEB).await });
    cf.until("asked in vain", |state| !state.seen.is_empty())
        .await;
    stop.cancel();
    assert_eq!(waiting.await.unwrap(), Err(Passed::Stopping));
}

#[tokio::test]
async fn a_cloud_controller_that_nobody_listens_for_is_no_error() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let config = json!({"api": format!("http://{address}"), "user": "u", "password": "p", "on_unavailable": "pass"});
    let config = serde_json::from_value(config).unwrap();
    let enricher = Enricher::start(config, CancellationToken::new())
        .await
        .unwrap();
    assert_eq!(name(&enricher, WEB).await, Err(Passed::Unavailable));
}

#[tokio::test]
async fn errors_that_may_pass_are_tried_three_times() {
    let cf = CloudFoundry::start().await;
    let enricher = listed(&cf, json!({"on_unavailable": "pass"})).await;
    cf.state()
        .fail(LOOKUP, [answer(503), Fault::Body(json!({"no": "page"}))]);
    assert_eq!(
        name(&enricher, &nowhere(1)).await,
        Err(Passed::Unavailable),
        "no page at all"
    );
    assert_eq!(cf.state().count(LOOKUP), 2);
    cf.state().fail(LOOKUP, [answer(503), answer(500)]);
    assert_eq!(name(&enricher, &nowhere(1)).await, Err(Passed::UnknownApp));
    assert_eq!(cf.state().count(LOOKUP), 5);
    cf.state().fail(LOOKUP, vec![answer(502); 3]);
    assert_eq!(name(&enricher, &nowhere(2)).await, Err(Passed::Unavailable));
    assert_eq!(cf.state().count(LOOKUP), 8);
    cf.state().fail(LOOKUP, [answer(403)]);
    assert_eq!(name(&enricher, &nowhere(3)).await, Err(Passed::Unavailable));
    assert_eq!(
        cf.state().count(LOOKUP),
        9,
        "this will not be answered otherwise"
    );
}

#[tokio::test]
async fn one_that_is_slow_is_not_waited_for_longer_than_the_timeout() {
    let cf = CloudFoundry::start().await;
    let enricher = listed(&cf, json!({"timeout": "300ms"})).await;
    cf.state()
        .fail(LOOKUP, [Fault::Slow(Duration::from_secs(60))]);
    let start = Instant::now();
    assert_eq!(name(&enricher, &nowhere(1)).await, Err(Passed::UnknownApp));
    assert!(start.elapsed() < Duration::from_secs(30));
}

#[tokio::test]
async fn one_that_asks_for_a_wait_gets_it_from_all_requests() {
    let soon = std::time::SystemTime::now() + Duration::from_secs(2);
    let soon = soon
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_secs()
        + 1;
    for (header, value) in [
        ("retry-after", "1".to_owned()),
        ("x-ratelimit-reset", soon.to_string()),
    ] {
        let cf = CloudFoundry::start().await;
        let enricher = listed(&cf, json!({"per_page": 1})).await;
        cf.state().fail(LOOKUP, [Fault::Answer(429, header, value)]);
        let start = Instant::now();
        assert_eq!(name(&enricher, &nowhere(1)).await, Err(Passed::UnknownApp));
        assert!(
            start.elapsed() >= Duration::from_millis(900),
            "{header}: {:?}",
            start.elapsed()
        );
        assert_eq!(cf.state().count(LOOKUP), 2);
    }
    // Ten minutes are longer than anybody waits at once; meanwhile nobody asks.
    let cf = CloudFoundry::start().await;
    let enricher = listed(&cf, json!({"on_unavailable": "pass"})).await;
    cf.state().fail(
        LOOKUP,
        [Fault::Answer(429, "retry-after", "600".to_owned())],
    );
    for number in 0..5 {
        assert_eq!(
            name(&enricher, &nowhere(number)).await,
            Err(Passed::Unavailable)
        );
    }
    assert_eq!(cf.state().count(LOOKUP), 1);
    assert_eq!(name(&enricher, WEB).await, Ok("web".to_owned()));
}

#[tokio::test]
async fn a_next_page_elsewhere_is_not_asked_for() {
    let (cf, elsewhere) = (CloudFoundry::start().await, CloudFoundry::start().await);
    cf.state().next_host = Some(elsewhere.url());
    let enricher = enricher(&cf, json!({"per_page": 1})).await;
    let stats = enricher.stats();
    until("refused", || stats.cf_fail.total() > 0).await;
    assert_eq!(
        name(&enricher, WEB).await,
        Ok("web".to_owned()),
        "the first page counts"
    );
    assert_eq!(
        name(&enricher, API_SERVER).await,
        Ok("api server".to_owned())
    );
    assert!(elsewhere.state().seen.is_empty());
}

#[tokio::test]
async fn a_uaa_that_is_not_reached_as_the_api_is_gets_no_secrets() {
    let cf = CloudFoundry::start().await;
    let links = json!({"links": {"uaa": {"href": "ftp://uaa.example"}}});
    cf.state().fail("/", vec![Fault::Body(links); 10]);
    let enricher = enricher(&cf, json!({"on_unavailable": "pass"})).await;
    assert_eq!(name(&enricher, WEB).await, Err(Passed::Unavailable));
    assert_eq!(cf.state().count("/oauth"), 0);
}
