//! Many events, none of which may be missing.

use std::time::Instant;

use crate::events::{API_SERVER, WEB, container, log, request};
use crate::world::{Pipeline, servers};

const COUNT: u64 = 100_000;

#[tokio::test]
async fn each_of_a_hundred_thousand_events_is_stored() {
    let servers = servers().await;
    let influx = &servers.influx;
    let mut pipeline = Pipeline::new("counts", &servers.kafka, influx).await;
    pipeline.set("CFMR_BATCHER_FLUSHINTERVAL", "3s");
    let event = |number| match number % 10 {
        0 => request(number),
        1 => container(WEB, number),
        2..6 => log(API_SERVER, number),
        _ => log(WEB, number),
    };
    let start = Instant::now();
    for from in (0..COUNT).step_by(10_000) {
        pipeline.write((from..from + 10_000).map(event)).await;
    }
    println!("written to Kafka in {:?}", start.elapsed());
    let start = Instant::now();
    pipeline.start().await;
    pipeline.until_stored(influx, COUNT).await;
    println!("stored in {:?}", start.elapsed());
    pipeline.until_committed("counts").await;
    for (question, wanted) in [
        (
            r#"SELECT count("count") FROM log WHERE app = 'web'"#,
            COUNT * 4 / 10,
        ),
        (
            r#"SELECT count("size") FROM log WHERE app = 'api server' AND type = 'OUT'"#,
            COUNT * 4 / 10,
        ),
        (
            r#"SELECT count("response_size") FROM http_request WHERE app_guid = '3356a5c7-e86c-442a-b14f-ce5cc4f80ed1'"#,
            COUNT / 10,
        ),
        (
            r#"SELECT sum("count") FROM http_request WHERE method = 'GET' AND status_code = '200'"#,
            COUNT / 10,
        ),
        (
            r#"SELECT count("disk_pct") FROM instance WHERE instance = '1'"#,
            COUNT / 10,
        ),
        // 0 and 10 and 20 …, 1 and 11 and 21 …
        (
            r#"SELECT sum("response_size") FROM http_request"#,
            (0..COUNT).step_by(10).sum(),
        ),
        (
            r#"SELECT sum("memory") FROM instance"#,
            (1..COUNT).step_by(10).sum(),
        ),
    ] {
        let found = influx.number("counts", question).await.unwrap();
        assert_eq!(found, Some(wanted as f64), "{question}");
    }
    for key in ["consume", "enrich", "writeasync", "write"] {
        assert_eq!(pipeline.stat(key).await, COUNT, "{key}");
    }
    assert!(pipeline.stop().await.success());
}
