//! A Cloud Controller and a UAA that are away, and tokens that end.

use crate::events::{API_SERVER, WEB, log};
use crate::world::{Pipeline, servers};

/// Applications that no listing has.
const NEW: &str = "00000000-0000-4000-8000-000000000001";
const NEWER: &str = "00000000-0000-4000-8000-000000000002";

/// More than the 50,000 messages that may be in flight.
const ALL: u64 = 60_500;

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

    // Known ones are written, in the same batches in which others wait, and more than may be in flight.
    {
        let mut state = pipeline.cf.state();
        state.is_away = true;
        state.add(NEW, "new");
        state.unlisted.insert(NEW.to_owned());
    }
    let event = |number: u64| match number % 40 {
        0 => log(NEW, number),
        other => log([WEB, API_SERVER][other as usize % 2], number),
    };
    pipeline.write((500..ALL).map(event)).await;
    let unknown = (500..ALL).filter(|number| number % 40 == 0).count() as u64;
    pipeline.until_stored(influx, ALL - unknown).await;
    pipeline
        .until("all others to wait", async || {
            pipeline.metric(waiting, "").await == unknown as f64
        })
        .await;
    let (done, end) = pipeline.offsets(pipeline.name).await;
    assert!(done < end, "{done} of {end}");
    pipeline.cf.state().is_away = false;
    pipeline.until_stored(influx, ALL).await;
    pipeline.until_committed(pipeline.name).await;
    for (key, count) in [("enrich", ALL), ("enrichfail", 0), ("write", ALL)] {
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
        .write((ALL..ALL + 100).map(|number| log(NEWER, number)))
        .await;
    pipeline
        .until("events that wait for a name", async || {
            pipeline.metric(waiting, "").await == 100.0
        })
        .await;
    assert!(pipeline.stop().await.success());
    pipeline.cf.state().is_away = false;
    pipeline.start().await;
    pipeline.until_stored(influx, ALL + 100).await;
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
