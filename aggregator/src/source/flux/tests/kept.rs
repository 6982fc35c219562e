//! What is remembered: marks, quotas, points that no sink has yet.

use std::sync::atomic::Ordering;

use serde_json::{Value, json};

use super::super::intake::{Intake, NotStored};
use super::super::item::Item;
use super::super::keys::Pass;
use super::super::memory::Memory;
use super::{KEY_A, KEY_B, KEY_C, NOW, PATIENCE, Served};

fn one(name: &str, seconds: i64) -> Value {
    json!({"key": KEY_A, "metric": name, "timestamp": seconds, "value": 1})
}

async fn send(flux: &Served, name: &str, seconds: i64) {
    assert_eq!(flux.post(&[], &one(name, seconds)).await.0, 204);
}

/// Waits until what the sinks let go has been noted.
async fn until(what: impl AsyncFn() -> bool) {
    let waiting = async {
        while !what().await {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting)
        .await
        .expect("it happens");
}

#[tokio::test]
async fn what_came_before_is_answered_with_204_and_not_stored_again() {
    let flux = Served::with(json!({})).await;
    for seconds in [NOW - 60, NOW, NOW, NOW - 60, NOW + 1] {
        send(&flux, "a", seconds).await;
    }
    let times: Vec<_> = flux.points().into_iter().map(|(.., at)| at).collect();
    assert_eq!(times, [NOW - 60, NOW, NOW + 1]);
}

#[tokio::test]
async fn without_the_check_everything_is_stored() {
    let flux = Served::with(json!({"check_last_timestamp": false})).await;
    for _ in 0..3 {
        send(&flux, "a", NOW).await;
    }
    assert_eq!(flux.points().len(), 3);
}

#[tokio::test]
async fn marks_outlive_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let config = json!({"state_dir": directory.path()});
    let flux = Served::with(config.clone()).await;
    send(&flux, "a", NOW).await;
    flux.stop().await;
    let flux = Served::with(config).await;
    send(&flux, "a", NOW).await;
    send(&flux, "b", NOW).await;
    assert_eq!(flux.points(), [("b".to_owned(), 1.0, NOW)]);
}

#[tokio::test]
async fn a_mark_moves_only_when_every_sink_has_the_point() {
    let flux = Served::with(json!({})).await;
    flux.collected.hold.store(true, Ordering::Relaxed);
    send(&flux, "a", NOW).await;
    send(&flux, "a", NOW).await;
    assert_eq!(flux.points().len(), 1, "one that is on its way counts");
    let receipt = flux.collected.receipts.lock().pop().unwrap();
    receipt.lose(1);
    drop(receipt);
    // Lost: it may come again.
    until(async || {
        send(&flux, "a", NOW).await;
        !flux.points().is_empty()
    })
    .await;
}

#[tokio::test]
async fn accepted_points_are_on_the_disk_and_go_out_after_a_crash() {
    let directory = tempfile::tempdir().unwrap();
    let config = json!({"state_dir": directory.path(), "persist_queue": true});
    let flux = Served::with(config.clone()).await;
    flux.collected.hold.store(true, Ordering::Relaxed);
    send(&flux, "a", NOW).await;
    send(&flux, "b", NOW).await;
    // No sink ever says that it has them, as if all were killed.
    let collected = flux.stop().await;
    let receipts = std::mem::take(&mut *collected.receipts.lock());
    // What is held here must not be let go before the next run has read the file.
    let copy = tempfile::tempdir().unwrap();
    let (from, to) = (
        directory.path().join("flux.redb"),
        copy.path().join("flux.redb"),
    );
    std::fs::copy(from, to).unwrap();
    let config = json!({"state_dir": copy.path(), "persist_queue": true});
    let flux = Served::with(config.clone()).await;
    until(async || flux.collected.points.lock().len() == 2).await;
    send(&flux, "a", NOW).await;
    let points = flux.points();
    assert_eq!(
        points,
        [("a".to_owned(), 1.0, NOW), ("b".to_owned(), 1.0, NOW)]
    );
    flux.stop().await;
    let flux = Served::with(config).await;
    send(&flux, "c", NOW).await;
    assert_eq!(
        flux.points().len(),
        1,
        "once they are out they are forgotten"
    );
    drop(receipts);
}

#[tokio::test]
async fn quotas_outlive_a_restart_and_refuse_a_single_metric_with_400() {
    let directory = tempfile::tempdir().unwrap();
    let config = json!({"state_dir": directory.path(), "quotas": {"quota-ns": 1}});
    let flux = Served::with(config.clone()).await;
    let post = async |flux: &Served, name: &str, seconds: i64| {
        let body = json!({"key": KEY_C, "metric": name, "timestamp": seconds, "value": 1});
        flux.post(&[], &body).await
    };
    assert_eq!(post(&flux, "a", NOW).await.0, 204);
    flux.stop().await;
    let flux = Served::with(config).await;
    assert_eq!(post(&flux, "a", NOW + 1).await.0, 204);
    let (status, answer) = post(&flux, "b", NOW).await;
    assert_eq!(status, 400);
    assert_eq!(answer["rejected metrics"], json!(["b"]));
    let free = json!({"key": KEY_B, "metric": "b", "timestamp": NOW, "value": 1});
    assert_eq!(flux.post(&[], &free).await.0, 204, "another's quota");
}

#[tokio::test]
async fn a_telegraf_batch_over_its_quota_tells_both() {
    let flux = Served::with(json!({"quotas": {"quota-ns": 1}})).await;
    let item = json!({"fields": {"a": 1, "b": 2, "c": "x"}, "name": "m", "tags": {"host": "h"}, "timestamp": NOW});
    let headers = [("key", KEY_C), ("telegraf", "true")];
    let (status, answer) = flux.post(&headers, &json!({"metrics": [item]})).await;
    assert_eq!(status, 207);
    assert_eq!(answer["rejected metrics"], json!(["h.m.b"]));
    assert_eq!(answer["dropped non-numeric metrics"], json!(["h.m.c"]));
    assert_eq!(answer["data"].as_array().unwrap().len(), 3);
}

#[tokio::test]
async fn gaps_are_filled_and_our_own_metrics_told_each_minute() {
    let flux = Served::with(json!({
        "zero_fill_namespaces": ["zero"], "last_known_value_namespaces": ["last"],
        "self_metrics_prefix": "skyline.flux.here"}))
    .await;
    for name in ["zero.a", "last.a", "other.a"] {
        send(&flux, name, NOW).await;
    }
    send(&flux, "zero.a", NOW).await;
    assert_eq!(flux.points().len(), 3);
    flux.now.store(NOW + 60, Ordering::Relaxed);
    until(async || flux.collected.points.lock().len() >= 14).await;
    let points = flux.points();
    let value = |name: &str| {
        let found = points.iter().find(|(own, ..)| own == name);
        found.map(|(_, value, at)| (*value, *at))
    };
    assert_eq!(value("zero.a"), Some((0.0, NOW + 60)));
    assert_eq!(value("last.a"), Some((1.0, NOW + 60)));
    assert_eq!(value("other.a"), None);
    for (name, count) in [
        ("worker.metrics_sent_to_graphite", 3.0),
        ("worker.discarded.already_received", 1.0),
        ("worker.httpMetricDataQueue.size", 0.0),
        ("listen.added_to_queue", 3.0),
        ("listen.discarded.invalid_key", 0.0),
    ] {
        let name = format!("skyline.flux.here.{name}");
        assert_eq!(value(&name), Some((count, NOW + 60)), "{name}");
    }
    // The marks have not moved.
    send(&flux, "zero.a", NOW + 1).await;
    assert_eq!(flux.points()[0].2, NOW + 1);
}

#[tokio::test]
async fn aggregated_namespaces_give_one_point_an_interval() {
    let flux = Served::with(json!({
        "aggregate_namespaces": {"agg": {"method": ["sum", "max"]}}, "self_metrics_prefix": ""}))
    .await;
    for _ in 0..2 {
        send(&flux, "agg.a", NOW).await;
    }
    assert_eq!(flux.points(), []);
    flux.now.store(NOW + 60, Ordering::Relaxed);
    until(async || flux.collected.points.lock().len() >= 2).await;
    let start = NOW - NOW % 60;
    assert_eq!(
        flux.points(),
        [
            ("agg.a.sum".to_owned(), 2.0, start),
            ("agg.a.max".to_owned(), 1.0, start)
        ]
    );
    send(&flux, "agg.a", NOW + 60).await;
    let collected = flux.stop().await;
    assert_eq!(collected.points.lock().len(), 2, "a stop loses none");
}

#[tokio::test]
async fn keys_in_a_file_that_changes_are_followed_and_a_bad_file_changes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("keys");
    let (old, new) = ("d".repeat(32), "e".repeat(32));
    std::fs::write(&file, format!("{old}: first\n")).unwrap();
    let flux = Served::with(json!({"api_keys_file": file})).await;
    let status = async |key: &str| {
        let body = json!({"key": key, "validate_key": true});
        flux.post(&[], &body).await.0
    };
    assert_eq!((status(&old).await, status(&new).await), (200, 401));
    std::fs::write(&file, format!("# longer than before\n{new}: second\n")).unwrap();
    until(async || status(&new).await == 200).await;
    assert_eq!((status(&old).await, status(KEY_A).await), (401, 200));
}

#[tokio::test]
async fn who_comes_when_the_sinks_are_about_to_go_is_refused_and_may_come_again() {
    let directory = tempfile::tempdir().unwrap();
    let config = json!({"state_dir": directory.path(), "persist_queue": true});
    let config: super::FluxConfig = {
        let mut all = json!({"self_api_key": KEY_A});
        all.as_object_mut()
            .unwrap()
            .extend(config.as_object().unwrap().clone());
        crate::options::parse(&all).unwrap()
    };
    let (memory, mut remembered) = Memory::open(directory.path(), "flux").unwrap();
    let collected = std::sync::Arc::new(super::Collected::default());
    let outlets = crate::source::Outlets {
        points: std::sync::Arc::clone(&collected) as _,
        samples: std::sync::Arc::new(|| unreachable!("Flux has no samples")),
        forward: None,
    };
    let intake = Intake::new(&config, outlets, Some(memory), None, &mut remembered);
    let intake = std::sync::Arc::new(intake);
    intake.finish(NOW).await;
    let item = Item {
        posted: "a".to_owned(),
        name: "a".to_owned(),
        seconds: NOW,
        value: 1.0,
        fill: false,
    };
    let pass = Pass { namespace: None };
    let taken = intake.take(&pass, vec![item], NOW).await;
    assert_eq!(taken, Err(NotStored::Leaving));
    assert_eq!(collected.points.lock().len(), 0);
    drop(intake);
    let (_, remembered) = Memory::open(directory.path(), "flux").unwrap();
    assert_eq!(remembered.queue, []);
    assert_eq!(remembered.marks, []);
}
