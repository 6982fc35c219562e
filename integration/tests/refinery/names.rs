//! A Cloud Controller and a UAA that are away, and tokens that end.

use crate::events::{API_SERVER, WEB, log};
use crate::world::{Pipeline, servers};

/// Applications that no listing has.
const NEW: &str = "00000000-0000-4000-8000-000000000001";
const NEWER: &str = "00000000-0000-4000-8000-000000000002";

#[tokio::test]
async fn the_cloud_controller_away_at_the_start_and_later_costs_nothing() {
    let servers = servers().await;
    let influx = &servers.influx;
    let mut pipeline = Pipeline::new("cc_away", &servers.kafka, influx).await;
    pipeline.cf.state().is_away = true;
    pipeline
        .write((0..500).map(|number| log(WEB, number)))
        .await;
    pipeline.start().await;
    let waiting = "enrich_cloudfoundry_waiting_events";
    pipeline
        .until("events that wait for a name", async || {
            pipeline.metric(waiting, "").await > 0.0
        })
        .await;
    assert_eq!(pipeline.offsets(pipeline.name).await, (0, 500));
    assert!(pipeline.stat("cffail").await > 0);
    pipeline.cf.state().is_away = false;
    pipeline.until_stored(influx, 500).await;
    pipeline.until_committed(pipeline.name).await;
    // The listing, which knows the others.
    pipeline
        .until("a listing", async || {
            pipeline
                .metric("enrich_cloudfoundry_refreshes_total", "ok")
                .await
                > 0.0
        })
        .await;

    // Known ones are written, in the same batches in which others wait.
    {
        let mut state = pipeline.cf.state();
        state.is_away = true;
        state.add(NEW, "new");
        state.unlisted.insert(NEW.to_owned());
    }
    let apps = [WEB, NEW, API_SERVER, WEB];
    let event = |number: u64| log(apps[number as usize % 4], number);
    pipeline.write((500..1500).map(event)).await;
    pipeline.until_stored(influx, 500 + 750).await;
    pipeline
        .until("all others to wait", async || {
            pipeline.metric(waiting, "").await == 250.0
        })
        .await;
    let (done, end) = pipeline.offsets(pipeline.name).await;
    assert!(done < end, "{done} of {end}");
    pipeline.cf.state().is_away = false;
    pipeline.until_stored(influx, 1500).await;
    pipeline.until_committed(pipeline.name).await;
    for (key, count) in [("enrich", 1500), ("enrichfail", 0), ("write", 1500)] {
        assert_eq!(pipeline.stat(key).await, count, "{key}");
    }

    // Whoever waits when it ends waits again in the next one.
    {
        let mut state = pipeline.cf.state();
        state.is_away = true;
        state.add(NEWER, "newer");
        state.unlisted.insert(NEWER.to_owned());
    }
    pipeline
        .write((1500..1600).map(|number| log(NEWER, number)))
        .await;
    pipeline
        .until("events that wait for a name", async || {
            pipeline.metric(waiting, "").await == 100.0
        })
        .await;
    assert!(pipeline.stop().await.success());
    pipeline.cf.state().is_away = false;
    pipeline.start().await;
    pipeline.until_stored(influx, 1600).await;
    pipeline.until_committed(pipeline.name).await;
    assert!(pipeline.stop().await.success());
}

#[tokio::test]
async fn a_token_that_ends_is_renewed_once_and_nothing_is_missing() {
    let servers = servers().await;
    let influx = &servers.influx;
    let mut pipeline = Pipeline::new("token", &servers.kafka, influx).await;
    pipeline
        .write((0..100).map(|number| log(WEB, number)))
        .await;
    pipeline.start().await;
    pipeline.until_stored(influx, 100).await;
    let grants = {
        let mut state = pipeline.cf.state();
        state.tokens.clear();
        state.add(NEW, "new");
        state.grants().len()
    };
    let event = |number: u64| log([NEW, WEB][number as usize % 2], number);
    pipeline.write((100..1100).map(event)).await;
    pipeline.until_stored(influx, 1100).await;
    pipeline.until_committed(pipeline.name).await;
    {
        let state = pipeline.cf.state();
        let refused = state.seen.iter().filter(|seen| seen.status == 401);
        assert_eq!(refused.count(), 1, "{:#?}", state.seen);
        assert_eq!(state.grants().len(), grants + 1, "{:#?}", state.seen);
    }
    assert_eq!(pipeline.stat("enrichfail").await, 0);
    assert!(pipeline.stop().await.success());
}
