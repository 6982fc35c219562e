//! The program ends in the middle of its work, in order or not.

use std::cell::Cell;

use tributary_integration::influxdb::Influx;

use crate::events::{WEB, log};
use crate::world::{Pipeline, servers};

/// What was written to Kafka, stored, and committed when the program had ended.
#[derive(Debug)]
struct Ended {
    written: u64,
    stored: u64,
    committed: u64,
}

/// Ends the program while it writes, in many small requests, and while more comes from Kafka.
async fn ended(pipeline: &mut Pipeline, influx: &Influx, is_orderly: bool) -> Ended {
    const AT_A_TIME: u64 = 200;
    let events = |from| (from..from + AT_A_TIME).map(|number| log(WEB, number));
    pipeline.set("CFMR_BATCHER_FLUSHMESSAGES", "500");
    pipeline.write(events(0)).await;
    pipeline.start().await;
    let mut program = pipeline.take();
    let is_over = Cell::new(false);
    let writing = async {
        let mut written = AT_A_TIME;
        while !is_over.get() {
            pipeline.write(events(written)).await;
            written += AT_A_TIME;
        }
        written
    };
    let ending = async {
        pipeline
            .until("some writes", async || pipeline.stored(influx).await > 3000)
            .await;
        if is_orderly {
            assert!(program.stop().await.success(), "{}", pipeline.log());
        } else {
            program.kill().await;
        }
        is_over.set(true);
    };
    let (written, ()) = tokio::join!(writing, ending);
    let ended = Ended {
        written,
        stored: pipeline.stored(influx).await,
        committed: pipeline.offsets(pipeline.name).await.0 as u64,
    };
    assert!(ended.stored < written, "{ended:?}");
    ended
}

#[tokio::test]
async fn sigterm_in_the_middle_loses_nothing_and_repeats_nothing() {
    let servers = servers().await;
    let influx = &servers.influx;
    let mut pipeline = Pipeline::new("sigterm", &servers.kafka, influx).await;
    let ended = ended(&mut pipeline, influx, true).await;
    println!("{ended:?}");
    assert_eq!(ended.committed, ended.stored);
    pipeline.start().await;
    pipeline.until_stored(influx, ended.written).await;
    pipeline.until_committed(pipeline.name).await;
    let rest = ended.written - ended.stored;
    assert_eq!(pipeline.stat("consume").await, rest);
    assert!(pipeline.stop().await.success());
}

#[tokio::test]
async fn a_kill_in_the_middle_loses_nothing() {
    let servers = servers().await;
    let influx = &servers.influx;
    let mut pipeline = Pipeline::new("killed", &servers.kafka, influx).await;
    let ended = ended(&mut pipeline, influx, false).await;
    println!("{ended:?}");
    // What is written twice is stored once.
    assert!(ended.committed <= ended.stored);
    pipeline.start().await;
    pipeline.until_stored(influx, ended.written).await;
    pipeline.until_committed(pipeline.name).await;
    let rest = ended.written - ended.committed;
    assert_eq!(pipeline.stat("consume").await, rest);
    assert!(pipeline.stop().await.success());
}
