//! The program ends in the middle of its work, in order or not.

use crate::events::{WEB, log};
use crate::world::{Pipeline, servers};

const COUNT: u64 = 20_000;

/// Enough to be in the middle of, with writes that are small and many.
async fn half_done(pipeline: &mut Pipeline, influx: &tributary_integration::influxdb::Influx) {
    pipeline.set("CFMR_BATCHER_FLUSHMESSAGES", "500");
    pipeline.write((0..COUNT).map(|number| log(WEB, number))).await;
    pipeline.start().await;
    pipeline
        .until("the first writes", async || {
            pipeline.stored(influx).await > 0
        })
        .await;
}

#[tokio::test]
async fn sigterm_in_the_middle_loses_nothing_and_repeats_nothing() {
    let servers = servers().await;
    let influx = &servers.influx;
    let mut pipeline = Pipeline::new("sigterm", &servers.kafka, influx).await;
    half_done(&mut pipeline, influx).await;
    assert!(pipeline.stop().await.success(), "{}", pipeline.log());
    let stored = pipeline.stored(influx).await;
    let (done, _) = pipeline.offsets(pipeline.name).await;
    println!("{stored} stored, {done} committed of {COUNT} at the end");
    assert_eq!(done as u64, stored);
    pipeline.start().await;
    pipeline.until_stored(influx, COUNT).await;
    pipeline.until_committed(pipeline.name).await;
    assert_eq!(pipeline.stat("consume").await, COUNT - stored);
    assert!(pipeline.stop().await.success());
}

#[tokio::test]
async fn a_kill_in_the_middle_loses_nothing() {
    let servers = servers().await;
    let influx = &servers.influx;
    let mut pipeline = Pipeline::new("killed", &servers.kafka, influx).await;
    half_done(&mut pipeline, influx).await;
    pipeline.kill().await;
    let stored = pipeline.stored(influx).await;
    let (done, _) = pipeline.offsets(pipeline.name).await;
    println!("{stored} stored, {done} committed of {COUNT} when it was killed");
    assert!(done as u64 <= stored);
    pipeline.start().await;
    pipeline.until_stored(influx, COUNT).await;
    pipeline.until_committed(pipeline.name).await;
    assert_eq!(pipeline.stat("consume").await, COUNT - done as u64);
    assert!(pipeline.stop().await.success());
}
