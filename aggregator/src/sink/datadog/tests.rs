//! Bodies, settings, and that each point ends once whatever Datadog answers.

use std::collections::{BTreeMap, VecDeque};
use std::io::Read as _;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::routing::any;
use parking_lot::Mutex;
use serde_json::{Value, json};

use super::body::Route;
use super::*;
use crate::key::Tags;
use crate::point::{CheckText, Point, PointKind, Timestamp};
use crate::sample::Event;
use crate::sink::registry;

fn point(name: &str, kind: PointKind, value: f64, tags: &[&str]) -> Point {
    Point {
        base: name.into(),
        suffix: None,
        tags: Tags::new(tags),
        kind,
        value,
        timestamp: Timestamp::from_seconds(1_700_000_000),
        check: None,
    }
}

fn batch(points: Vec<Point>) -> Batch {
    Batch {
        points: points.into(),
        hostname: "web-1".into(),
        interval: Duration::from_secs(10),
        ..Batch::default()
    }
}

fn event(title: &str) -> Event {
    Event {
        title: title.to_owned(),
        text: "x".repeat(5000),
        timestamp: 7,
        hostname: None,
        aggregation_key: None,
        priority: "normal",
        source_type: None,
        alert_type: "info",
        tags: Vec::new(),
    }
}

fn format(config: Value) -> Format {
    serde_json::from_value::<DatadogConfig>(config)
        .unwrap()
        .format()
}

fn body(format: &Format, batch: &Batch, point: &Point) -> Value {
    let mut out = Vec::new();
    format.point(&mut out, batch, point).unwrap();
    serde_json::from_slice(&out).unwrap()
}

#[test]
fn a_counter_is_a_count_or_a_rate_with_its_interval_and_a_gauge_has_none() {
    let mut batch = batch(Vec::new());
    let counter = point("hits", PointKind::Counter, 25.0, &["env:prod"]);
    let count = json!({"metric": "hits", "type": 1, "points": [{"timestamp": 1_700_000_000, "value": 25.0}], "interval": 10,
        "resources": [{"type": "host", "name": "web-1"}], "tags": ["env:prod"]});
    assert_eq!(body(&format(json!({})), &batch, &counter), count);
    let rates = format(json!({"counters": "rate"}));
    let rate = body(&rates, &batch, &counter);
    assert_eq!(
        (&rate["type"], &rate["points"][0]["value"]),
        (&json!(2), &json!(2.5))
    );
    for kind in [PointKind::Gauge, PointKind::Integer] {
        let gauge = body(&rates, &batch, &point("load", kind, 0.1, &[]));
        assert_eq!((&gauge["type"], gauge.get("interval")), (&json!(3), None));
    }
    batch.interval = Duration::ZERO;
    let passing = body(&rates, &batch, &counter);
    assert_eq!(
        (&passing["type"], passing.get("interval")),
        (&json!(1), None)
    );
    batch.interval = Duration::from_millis(500);
    let quick = body(&rates, &batch, &counter);
    assert_eq!(
        (&quick["points"][0]["value"], quick.get("interval")),
        (&json!(50.0), None)
    );
}

#[test]
fn host_and_device_are_resources_and_excluded_tags_are_left_out() {
    let format = format(
        json!({"metric_name_prefix_drops": ["a.max", "noise."], "exclude_tags_prefix_by_prefix_metric": [
        {"metric_prefix": "a", "tags": ["x"]}, {"metric_prefix": "a.m", "tags": ["env:"]}]}),
    );
    let mut batch = batch(Vec::new());
    let tags = ["device:sda", "env:prod", "host:db1", "keep", "xyz:1"];
    let mut sent = point("a", PointKind::Gauge, 1.0, &tags);
    let plain = body(&format, &batch, &sent);
    assert_eq!(plain["tags"], json!(["env:prod", "keep"]));
    let resources = json!([{"type": "host", "name": "db1"}, {"type": "device", "name": "sda"}]);
    assert_eq!(plain["resources"], resources);
    assert!(format.takes(Route::Series, &sent) && !format.takes(Route::Checks, &sent));
    sent.suffix = Some(".min".into());
    assert_eq!(body(&format, &batch, &sent)["tags"], json!(["keep"]));
    sent.suffix = Some(".max".into());
    assert!(
        !format.takes(Route::Series, &sent),
        "dropped by its full name"
    );
    assert!(!format.takes(Route::Series, &point("noise.x", PointKind::Gauge, 1.0, &[])));
    batch.hostname = "".into();
    let nowhere = body(
        &format,
        &batch,
        &point("b", PointKind::Gauge, 1.0, &["host:"]),
    );
    assert_eq!(
        (nowhere.get("resources"), &nowhere["tags"]),
        (None, &json!([]))
    );
}

#[test]
fn a_check_speaks_of_its_own_host_and_a_long_events_text_is_cut() {
    let format = format(json!({}));
    let batch = batch(Vec::new());
    let mut check = point(
        "db.up",
        PointKind::Status,
        2.0,
        &["host:tagged", "env:prod"],
    );
    assert_eq!(body(&format, &batch, &check)["host_name"], "tagged");
    check.check = Some(Arc::new(CheckText {
        message: "down".to_owned(),
        hostname: Some("db9".to_owned()),
    }));
    let expected = json!({"check": "db.up", "host_name": "db9", "status": 2, "timestamp": 1_700_000_000, "message": "down", "tags": ["env:prod"]});
    assert_eq!(body(&format, &batch, &check), expected);
    let sent = format.event(&batch, &event("t")).unwrap();
    let sent: Value = serde_json::from_slice(&sent).unwrap();
    assert_eq!(sent["text"].as_str().unwrap().len(), 4000);
    assert_eq!(sent["host"], "web-1");
}

#[test]
fn each_wrong_setting_is_named() {
    let check = |config: Value| registry::check("datadog", &config);
    assert_eq!(check(json!({"api_key": "k"})), Vec::<String>::new());
    assert_eq!(
        check(json!({"api_key_file": "/k", "site": "datadoghq.eu"})),
        Vec::<String>::new()
    );
    let starts = |config: Value, key: &str| {
        let found = check(config.clone());
        assert!(
            found.len() == 1 && found[0].starts_with(key),
            "{config}: {found:?}"
        );
    };
    starts(json!({}), "api_key: neither");
    starts(
        json!({"api_key": "k", "api_key_file": "/k"}),
        "api_key: is set",
    );
    starts(json!({"api_key": "k\ny"}), "api_key: holds");
    starts(
        json!({"api_key": "k", "site": "https://datadoghq.eu"}),
        "site: ",
    );
    starts(
        json!({"api_key": "k", "api_hostname": "app.datadoghq.com"}),
        "api_hostname: ",
    );
    starts(
        json!({"api_key": "k", "api_hostname": "https://a", "site": "b"}),
        "site: is set",
    );
    starts(
        json!({"api_key": "k", "flush_max_per_body": 0}),
        "flush_max_per_body: ",
    );
    starts(
        json!({"api_key": "k", "metric_name_prefix_drops": [""]}),
        "metric_name_prefix_drops: ",
    );
    starts(
        json!({"api_key": "k", "max_backoff": "1ms"}),
        "max_backoff: ",
    );
    let path = |config: Value| {
        let config: DatadogConfig = serde_json::from_value(config).unwrap();
        config.uri("/api/v2/series").unwrap().to_string()
    };
    assert_eq!(path(json!({})), "https://api.datadoghq.com/api/v2/series");
    assert_eq!(
        path(json!({"api_hostname": "http://proxy:1/dd/"})),
        "http://proxy:1/dd/api/v2/series"
    );
}

/// An intake that answers by a script, and then as Datadog does.
#[derive(Default)]
struct Intake {
    script: VecDeque<u16>,
    /// How long a body may be, uncompressed.
    limit: usize,
    /// How many times each name was taken.
    taken: BTreeMap<String, usize>,
}

async fn answer(
    State(intake): State<Arc<Mutex<Intake>>>,
    path: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> StatusCode {
    // Datadog's own limit.
    assert!(body.len() <= 512_000, "{}", body.len());
    let mut intake = intake.lock();
    if headers.get("dd-api-key").is_none_or(|key| key != "k") {
        return StatusCode::FORBIDDEN;
    }
    if let Some(status) = intake.script.pop_front() {
        return StatusCode::from_u16(status).unwrap();
    }
    let mut text = String::new();
    match headers.get("content-encoding") {
        Some(_) => flate2::read::GzDecoder::new(&*body).read_to_string(&mut text),
        None => (&*body).read_to_string(&mut text),
    }
    .unwrap();
    if text.len() > intake.limit {
        return StatusCode::PAYLOAD_TOO_LARGE;
    }
    if text.contains("bad") {
        return StatusCode::BAD_REQUEST;
    }
    let body: Value = serde_json::from_str(&text).unwrap();
    let list = match path.path() {
        "/api/v2/series" => body["series"].as_array().cloned().unwrap(),
        "/api/v1/check_run" => body.as_array().cloned().unwrap(),
        _ => vec![body],
    };
    for one in list {
        let name = ["metric", "check", "title"]
            .iter()
            .find_map(|key| one[key].as_str());
        *intake.taken.entry(name.unwrap().to_owned()).or_default() += 1;
    }
    StatusCode::ACCEPTED
}

async fn intake(script: &[u16], limit: usize) -> (Arc<Mutex<Intake>>, String) {
    let state = Arc::new(Mutex::new(Intake {
        script: script.iter().copied().collect(),
        limit,
        ..Intake::default()
    }));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let router = Router::new()
        .fallback(any(answer))
        .with_state(Arc::clone(&state));
    tokio::spawn(async move { axum::serve(listener, router).await });
    (state, url)
}

#[tokio::test]
async fn whatever_is_answered_each_point_is_taken_or_lost_once() {
    let scripts: [&[u16]; 5] = [
        &[],
        &[503, 429, 408, 500],
        &[413, 413, 503, 413],
        &[403, 202, 503],
        &[400, 429, 400],
    ];
    for script in scripts {
        let (state, url) = intake(script, 4000).await;
        let config = json!({"api_hostname": url, "api_key": "k", "backoff": "1ms", "max_backoff": "2ms", "flush_max_per_body": 50});
        let mut sink = registry::build("datadog", "dd", &config).unwrap();
        let mut points: Vec<_> = (0..200)
            .map(|n| point(&format!("m{n}"), PointKind::Counter, 1.0, &[]))
            .collect();
        points.insert(70, point("bad", PointKind::Gauge, 1.0, &[]));
        points.push(point(&"long".repeat(2000), PointKind::Gauge, 1.0, &[]));
        points.extend((0..5).map(|n| point(&format!("check{n}"), PointKind::Status, 1.0, &[])));
        let mut batch = batch(points);
        batch.events = vec![event("one"), event("bad"), event("three")];
        // Their texts are longer than this intake likes: only what they are counts here.
        batch.events.iter_mut().for_each(|event| event.text.clear());
        let all = Amount::of(&batch);
        let ended = loop {
            match sink.write(&batch).await {
                Err(SinkError::Retriable { after, .. }) => {
                    tokio::time::sleep(after.unwrap().min(Duration::from_millis(5))).await;
                }
                ended => break ended,
            }
        };
        let Err(SinkError::Fatal { reason, lost }) = ended else {
            panic!("{script:?}: the bad ones are lost: {ended:?}");
        };
        let state = state.lock();
        assert!(state.taken.values().all(|times| *times == 1), "{script:?}");
        // A scripted 202 takes what it does not look at.
        let unseen = script.iter().filter(|status| **status == 202).count() * 50;
        let taken = state.taken.len();
        assert!(taken + lost.total() <= all.total(), "{script:?}");
        assert!(
            taken + lost.total() + unseen >= all.total(),
            "{script:?}: {taken} {lost:?}"
        );
        assert_eq!(lost.events, 1);
        assert!(
            reason.contains(&format!("{} of {}", lost.points, all.points))
                && reason.contains(" points and 1 of 3 events were refused for good, one with: "),
            "{reason}"
        );
        assert!(!state.taken.contains_key("bad"));
        if script.is_empty() {
            assert_eq!(lost.points, 2);
        }
    }
}

#[tokio::test]
async fn a_body_stays_below_datadogs_limits_before_and_after_compression() {
    let (state, url) = intake(&[], usize::MAX).await;
    let config = json!({"api_hostname": url, "api_key": "k", "flush_max_per_body": 1_000_000});
    let mut sink = registry::build("datadog", "dd", &config).unwrap();
    // Names that hardly compress, and never say `bad`.
    let name = || (0..60).map(|_| fastrand::uppercase()).collect::<String>();
    let points: Vec<_> = (0..20_000)
        .map(|_| point(&name(), PointKind::Gauge, fastrand::f64(), &[]))
        .collect();
    let batch = batch(points);
    let written = sink.write(&batch).await.unwrap();
    assert_eq!(written.points, 20_000);
    assert_eq!(state.lock().taken.len(), 20_000);
}
