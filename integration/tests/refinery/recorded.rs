//! The recorded events, each to its last tag.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use tributary_integration::influxdb::Influx;

use crate::events::{WEB, log};
use crate::world::{Pipeline, servers};

const EVENTS: &str = include_str!("../../../aggregator/tests/fixtures/cf/events.json");

/// A point of InfluxDB: measurement, time, tags, fields. Fields are as in lines: whole numbers end with `i`.
type Stored = (
    String,
    u64,
    BTreeMap<String, String>,
    BTreeMap<String, String>,
);

/// What a line says. The recorded ones hold nothing that is escaped.
fn read(line: &str) -> Stored {
    let parts: Vec<&str> = line.split(' ').collect();
    let [series, fields, at] = parts[..] else {
        panic!("{line}");
    };
    let pairs = |text: &str| -> BTreeMap<String, String> {
        let pairs = text.split(',').filter_map(|pair| pair.split_once('='));
        pairs
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect()
    };
    let (measurement, tags) = series.split_once(',').unwrap();
    (
        measurement.to_owned(),
        at.parse().unwrap(),
        pairs(tags),
        pairs(fields),
    )
}

/// All that a database holds.
async fn all(influx: &Influx, database: &str) -> BTreeSet<Stored> {
    let mut integers = BTreeSet::new();
    let kinds = influx.query(database, "SHOW FIELD KEYS").await.unwrap();
    for series in kinds[0]["series"].as_array().into_iter().flatten() {
        for row in series["values"].as_array().unwrap() {
            if row[1] == "integer" {
                integers.insert((series["name"].clone().to_string(), row[0].to_string()));
            }
        }
    }
    let results = influx
        .query(database, "SELECT * FROM /.*/ GROUP BY *")
        .await
        .unwrap();
    let mut stored = BTreeSet::new();
    for series in results[0]["series"].as_array().into_iter().flatten() {
        let tags = series["tags"].as_object().unwrap().iter();
        // One that a point does not have is shown empty.
        let tags: BTreeMap<String, String> = tags
            .map(|(key, value)| (key.clone(), value.as_str().unwrap().to_owned()))
            .filter(|(_, value)| !value.is_empty())
            .collect();
        let columns = series["columns"].as_array().unwrap();
        for row in series["values"].as_array().unwrap() {
            let row = row.as_array().unwrap();
            let fields = columns.iter().zip(row).skip(1);
            let fields = fields.filter(|(_, value)| !value.is_null());
            let field = |(key, value): (&Value, &Value)| {
                let kind = (series["name"].to_string(), key.to_string());
                let sign = if integers.contains(&kind) { "i" } else { "" };
                (key.as_str().unwrap().to_owned(), format!("{value}{sign}"))
            };
            stored.insert((
                series["name"].as_str().unwrap().to_owned(),
                row[0].as_u64().unwrap(),
                tags.clone(),
                fields.map(field).collect(),
            ));
        }
    }
    stored
}

#[tokio::test]
async fn recorded_events_are_stored_to_the_last_tag_and_bad_ones_do_not_come_back() {
    let servers = servers().await;
    let influx = &servers.influx;
    let mut pipeline = Pipeline::new("recorded", &servers.kafka, influx).await;
    let events: Value = serde_json::from_str(EVENTS).unwrap();
    let events = events.as_array().unwrap();
    let mut topics = BTreeSet::new();
    let mut wanted = BTreeSet::new();
    for event in events {
        let topic = event["topic"].as_str().unwrap();
        topics.insert(topic);
        let message = event["message"].as_str().unwrap().to_owned();
        pipeline.write_to(topic, [message]).await;
        wanted.extend(event["influx_line"].as_str().map(read));
    }
    assert_eq!((events.len(), wanted.len()), (18, 7));
    let list: Vec<&str> = topics.iter().copied().collect();
    pipeline.set("CFMR_KAFKA_TOPICS", &list.join(","));
    pipeline.start().await;
    for topic in &topics {
        pipeline.until_committed(topic).await;
    }
    assert_eq!(all(influx, "recorded").await, wanted, "{}", pipeline.log());

    // Five are of kinds that are not stored, three are bad, and three are of no application that is known.
    for (key, count) in [
        ("consume", 18),
        ("enrich", 7),
        ("enrichfail", 3),
        ("writeasync", 7),
        ("write", 7),
        ("cffail", 0),
    ] {
        assert_eq!(pipeline.stat(key).await, count, "{key}");
    }
    for cause in ["not_json", "not_base64", "no_quota"] {
        let label = format!("cause=\"{cause}\"");
        assert_eq!(
            pipeline.metric("kafka_poison_total", &label).await,
            1.0,
            "{cause}"
        );
    }
    let passed = "enrich_cloudfoundry_passed_total";
    assert_eq!(pipeline.metric(passed, "not_stored").await, 5.0);
    assert_eq!(pipeline.metric(passed, "no_app").await, 2.0);
    assert_eq!(pipeline.metric(passed, "unknown_app").await, 1.0);
    assert_eq!(pipeline.metric("kafka_messages_total", "").await, 18.0);

    // None of them is read again, neither by this one nor by the next.
    assert!(pipeline.stop().await.success());
    pipeline.start().await;
    pipeline.write_to("log-message", [log(WEB, 1)]).await;
    pipeline.until_stored(influx, 8).await;
    pipeline.until_committed("log-message").await;
    assert_eq!(pipeline.stat("consume").await, 1);
    assert!(pipeline.stop().await.success());
}
