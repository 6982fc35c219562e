//! Servers that are away, at the start and later.

use std::time::Duration;

use tributary_integration::influxdb::Influx;

use crate::events::{WEB, log};
use crate::server::Kafka;
use crate::world::{Pipeline, servers, until_gone};

#[tokio::test]
async fn influxdb_away_at_the_start_and_later_costs_nothing() {
    let servers = servers().await;
    let mut influx = Influx::start().await.unwrap();
    let mut pipeline = Pipeline::new("influxdb_away", &servers.kafka, &influx).await;
    influx.kill();
    pipeline
        .write((0..1000).map(|number| log(WEB, number)))
        .await;
    pipeline.start().await;
    pipeline
        .until("a failed write", async || {
            pipeline
                .metric("sink_influxdb_requests_total", "unreachable")
                .await
                > 3.0
        })
        .await;
    // It runs, has said what is wrong, and has committed nothing.
    assert_eq!(pipeline.offsets(pipeline.name).await, (0, 1000));
    assert!(pipeline.log().contains("InfluxDB"), "{}", pipeline.log());
    influx.start_again().await.unwrap();
    pipeline.until_stored(&influx, 1000).await;
    pipeline.until_committed(pipeline.name).await;

    influx.kill();
    let refused = pipeline
        .metric("sink_influxdb_requests_total", "unreachable")
        .await;
    pipeline
        .write((1000..2000).map(|number| log(WEB, number)))
        .await;
    pipeline
        .until("a failed write", async || {
            pipeline
                .metric("sink_influxdb_requests_total", "unreachable")
                .await
                > refused + 3.0
        })
        .await;
    assert_eq!(pipeline.offsets(pipeline.name).await, (1000, 2000));
    influx.start_again().await.unwrap();
    pipeline.until_stored(&influx, 2000).await;
    pipeline.until_committed(pipeline.name).await;
    assert_eq!(pipeline.stat("write").await, 2000);

    // Its end does not wait for InfluxDB, and is no reason to say that something is written.
    influx.kill();
    pipeline
        .write((2000..3000).map(|number| log(WEB, number)))
        .await;
    pipeline
        .until("the rest to be read", async || {
            pipeline.stat("consume").await == 3000
        })
        .await;
    assert!(pipeline.stop().await.success(), "{}", pipeline.log());
    assert_eq!(pipeline.offsets(pipeline.name).await, (2000, 3000));
    influx.start_again().await.unwrap();
    pipeline.start().await;
    pipeline.until_stored(&influx, 3000).await;
    pipeline.until_committed(pipeline.name).await;
    assert!(pipeline.stop().await.success());
}

#[tokio::test]
async fn kafka_away_at_the_start_and_later_costs_nothing() {
    let influx = Influx::start().await.unwrap();
    let mut kafka = Kafka::prepare("PLAINTEXT", "").await.unwrap();
    let mut pipeline = Pipeline::new("kafka_away", &kafka, &influx).await;
    pipeline.start().await;
    pipeline
        .until("an error of Kafka's", async || {
            pipeline
                .metric("kafka_errors_total", "all_brokers_down")
                .await
                > 0.0
        })
        .await;
    kafka.start().await.unwrap();
    pipeline
        .write((0..1000).map(|number| log(WEB, number)))
        .await;
    pipeline.until_stored(&influx, 1000).await;
    pipeline.until_committed(pipeline.name).await;

    kafka.stop().await.unwrap();
    until_gone(&kafka.open).await;
    pipeline
        .until("no broker", async || {
            pipeline.metric("kafka_brokers_up", "").await == 0.0
        })
        .await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    kafka.start().await.unwrap();
    pipeline
        .write((1000..2000).map(|number| log(WEB, number)))
        .await;
    pipeline.until_stored(&influx, 2000).await;
    pipeline.until_committed(pipeline.name).await;
    kafka.stop().await.unwrap();
    assert!(pipeline.stop().await.success(), "{}", pipeline.log());
}
