use std::collections::VecDeque;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use parking_lot::Mutex;
use serde_json::{Value, json};

use super::message::{Read, read};
use super::*;
use crate::key::Tags;
use crate::point::{Point, PointKind, Timestamp};
use crate::sink::registry::find;

const START: i64 = 1_700_000_000;

/// What a server answers, and what it got.
#[derive(Default)]
struct Server {
    /// Status, further header, and words; 204 with all samples counted when there is none left.
    answers: VecDeque<(u16, &'static str, String)>,
    /// Refuses requests that have this name in them.
    bad: &'static str,
    got: Vec<(HeaderMap, Vec<Read>)>,
}

type Shared = Arc<Mutex<Server>>;

async fn take(State(server): State<Shared>, headers: HeaderMap, body: Bytes) -> Response {
    let mut server = server.lock();
    let version = match headers["x-prometheus-remote-write-version"]
        .to_str()
        .unwrap()
    {
        "2.0.0" => Version::V2,
        _ => Version::V1,
    };
    let said = read(version, &body);
    let count = said.len().to_string();
    let bad = server.bad;
    let refused = !bad.is_empty() && said.iter().any(|(labels, ..)| labels.contains(bad));
    server.got.push((headers, said));
    let (status, header, words) = match server.answers.pop_front() {
        Some(answer) => answer,
        None if refused => (400, "", "out of order sample".to_owned()),
        None if version == Version::V2 => (204, WRITTEN, count),
        None => (204, "", String::new()),
    };
    let status = StatusCode::from_u16(status).unwrap();
    match header {
        "" => (status, words).into_response(),
        header => (status, [(header, words.clone())], words).into_response(),
    }
}

const WRITTEN: &str = "X-Prometheus-Remote-Write-Samples-Written";

async fn start(config: Value) -> (Shared, RemoteWrite) {
    let server = Shared::default();
    let app = Router::new().route("/write", post(take));
    let app = app.with_state(Arc::clone(&server));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await });
    let mut whole = json!({
        "url": format!("http://{address}/write"), "backoff": "1ms", "max_backoff": "1ms", "hostname_label": "",
    });
    let (Value::Object(all), Value::Object(own)) = (&mut whole, config) else {
        panic!("a map")
    };
    all.extend(own);
    let config = serde_json::from_value(whole).unwrap();
    (server, RemoteWrite::new(&config, "rw").unwrap())
}

fn point(kind: PointKind, name: &str, suffix: &str, value: f64, seconds: i64) -> Point {
    Point {
        base: name.into(),
        suffix: (!suffix.is_empty()).then(|| suffix.into()),
        tags: Tags::new(["env:prod"]),
        kind,
        value,
        timestamp: Timestamp::from_seconds(START + seconds),
        check: None,
    }
}

fn hits(value: f64, seconds: i64) -> Point {
    point(PointKind::Counter, "hits", "", value, seconds)
}

fn load(name: &str) -> Point {
    point(PointKind::Gauge, name, "", 0.5, 0)
}

fn flush(points: Vec<Point>) -> Batch {
    Batch {
        points: points.into(),
        hostname: "h1".into(),
        interval: Duration::from_secs(10),
        ..Batch::default()
    }
}

fn amount(points: usize) -> Amount {
    Amount { points, events: 0 }
}

fn values(server: &Shared) -> Vec<Vec<(String, f64)>> {
    let server = server.lock();
    let got = server.got.iter();
    got.map(|(_, said)| said.iter().map(|said| (said.0.clone(), said.1)).collect())
        .collect()
}

const HITS: &str = "__name__=hits_total,env=prod";

#[tokio::test]
async fn a_request_of_2_0_says_all_that_is_known() {
    let config = json!({
        "tenant": "t1", "headers": {"X-More": "1"}, "authorization": {"credentials": "tok"}, "hostname_label": "host",
        "external_labels": {"dc": "a", "env": "other"},
    });
    let (server, mut sink) = start(config).await;
    let timer = |suffix, kind, value| point(kind, "t", suffix, value, 0);
    let points = vec![
        hits(7.0, 0),
        load("cpu.load"),
        timer(".99percentile", PointKind::Gauge, 12.0),
        timer(".count", PointKind::Counter, 3.0),
        timer(".sum", PointKind::Gauge, 30.0),
        timer(".max", PointKind::Gauge, 13.0),
    ];
    assert_eq!(sink.write(&flush(points)).await, Ok(amount(6)));
    let server = server.lock();
    let [(headers, said)] = &server.got[..] else {
        panic!("one request")
    };
    for (name, value) in [
        (
            "content-type",
            "application/x-protobuf;proto=io.prometheus.write.v2.Request",
        ),
        ("content-encoding", "snappy"),
        ("x-scope-orgid", "t1"),
        ("x-more", "1"),
        ("authorization", "Bearer tok"),
    ] {
        assert_eq!(headers[name], value);
    }
    let at = START * 1000;
    let line = |name: &str, quantile: &str, value, created, kind| {
        let labels = format!("__name__={name},dc=a,env=prod,host=h1{quantile}");
        (labels, value, at, created, kind)
    };
    assert_eq!(
        said[..],
        [
            line("hits_total", "", 7.0, at - 1, 1),
            line("cpu_load", "", 0.5, 0, 2),
            line("t", ",quantile=0.99", 12.0, 0, 5),
            line("t_count", "", 3.0, at - 1, 5),
            line("t_sum", "", 30.0, at - 1, 5),
            line("t_max", "", 13.0, 0, 2),
        ]
    );
}

#[tokio::test]
async fn a_server_that_does_not_know_2_0_is_spoken_to_in_1_0_from_then_on() {
    for (status, header) in [(415, ""), (204, "")] {
        let (server, mut sink) = start(json!({})).await;
        server
            .lock()
            .answers
            .push_back((status, header, String::new()));
        for seconds in [0, 10] {
            let written = sink.write(&flush(vec![hits(1.0, seconds)])).await;
            assert_eq!(written, Ok(amount(1)));
        }
        let server = server.lock();
        let version = |(headers, _): &(HeaderMap, Vec<Read>)| {
            headers["x-prometheus-remote-write-version"]
                .to_str()
                .unwrap()
                .to_owned()
        };
        let versions: Vec<_> = server.got.iter().map(version).collect();
        assert_eq!(versions, ["2.0.0", "0.1.0", "0.1.0"]);
        assert_eq!(server.got[1].0["content-type"], "application/x-protobuf");
        assert_eq!(server.got[2].1[0].1, 2.0, "counted once, and added up");
    }
}

#[tokio::test]
async fn what_failed_is_sent_again_and_added_to_totals_once() {
    let (server, mut sink) = start(json!({"protocol": "v1", "batch_write_size": 1})).await;
    let batch = flush(vec![hits(5.0, 0), load("a")]);
    for answer in [
        (204, "", String::new()),
        (503, "", "away".to_owned()),
        (429, "Retry-After", "7".to_owned()),
    ] {
        server.lock().answers.push_back(answer);
    }
    let Err(SinkError::Retriable { reason, .. }) = sink.write(&batch).await else {
        panic!("it is away")
    };
    assert!(reason.contains("answered 503: away"), "{reason}");
    let Err(SinkError::Retriable { after, .. }) = sink.write(&batch).await else {
        panic!("it is throttled")
    };
    assert_eq!(after, Some(Duration::from_secs(7)));
    assert_eq!(sink.write(&batch).await, Ok(amount(2)));
    let gauge = || vec![("__name__=a,env=prod".to_owned(), 0.5)];
    let expected = [vec![(HITS.to_owned(), 5.0)], gauge(), gauge(), gauge()];
    assert_eq!(values(&server), expected);
    // A batch that the queue dropped meanwhile is in the totals all the same.
    server.lock().answers.push_back((503, "", String::new()));
    assert!(sink.write(&flush(vec![hits(1.0, 10)])).await.is_err());
    assert!(sink.write(&flush(vec![hits(1.0, 20)])).await.is_ok());
    assert_eq!(values(&server).last().unwrap()[0].1, 7.0);
}

#[tokio::test]
async fn a_bad_sample_costs_itself_only() {
    let (server, mut sink) = start(json!({"protocol": "v1"})).await;
    server.lock().bad = "=bad";
    let names = ["a", "b", "c", "bad", "d", "e", "f", "g"];
    let batch = flush(names.map(load).to_vec());
    let Err(SinkError::Fatal { reason, lost }) = sink.write(&batch).await else {
        panic!("one is refused")
    };
    assert_eq!(lost, amount(1));
    assert!(reason.contains("out of order sample"), "{reason}");
    let server = server.lock();
    let good = server
        .got
        .iter()
        .filter(|(_, said)| !said.iter().any(|s| s.0.contains("=bad")));
    assert_eq!(good.map(|(_, said)| said.len()).sum::<usize>(), 7);
}

#[tokio::test]
async fn a_server_that_counts_what_it_has_written_is_believed() {
    let (server, mut sink) = start(json!({})).await;
    server
        .lock()
        .answers
        .push_back((400, WRITTEN, "2".to_owned()));
    let batch = flush(["a", "b", "c"].map(load).to_vec());
    let Err(SinkError::Fatal { lost, .. }) = sink.write(&batch).await else {
        panic!("one is refused")
    };
    assert_eq!((lost, server.lock().got.len()), (amount(1), 1));
}

#[tokio::test]
async fn a_refused_request_is_not_repeated() {
    for status in [401, 403, 404, 409] {
        let (server, mut sink) = start(json!({})).await;
        server
            .lock()
            .answers
            .push_back((status, "", "no".to_owned()));
        let batch = flush(["a", "b"].map(load).to_vec());
        let Err(SinkError::Fatal { lost, .. }) = sink.write(&batch).await else {
            panic!("{status}")
        };
        assert_eq!((lost, server.lock().got.len()), (amount(2), 1), "{status}");
    }
}

#[tokio::test]
async fn a_total_goes_out_with_each_flush_until_it_is_forgotten() {
    let (server, mut sink) = start(json!({"expire_after": "1h", "max_series": 1})).await;
    sink.write(&flush(vec![hits(5.0, 0)])).await.unwrap();
    let later = Point {
        timestamp: Timestamp::from_seconds(START + 10),
        ..load("a")
    };
    assert_eq!(sink.write(&flush(vec![later])).await, Ok(amount(1)));
    assert!(values(&server)[1].contains(&(HITS.to_owned(), 5.0)));
    let second = Point {
        base: "more".into(),
        ..hits(1.0, 20)
    };
    let Err(SinkError::Fatal { lost, .. }) = sink.write(&flush(vec![second])).await else {
        panic!("too many counters")
    };
    assert_eq!(lost, amount(1));
}

#[tokio::test]
async fn samples_of_one_request_are_in_order_and_none_comes_twice() {
    let (server, mut sink) = start(json!({})).await;
    let at = |seconds, value| Point {
        timestamp: Timestamp::from_seconds(START + seconds),
        ..point(PointKind::Gauge, "g", "", value, 0)
    };
    let alike = Point {
        tags: Tags::new(["env:prod", "x:"]),
        ..at(1, 9.0)
    };
    let points = vec![
        at(2, 2.0),
        at(1, 1.0),
        at(2, 3.0),
        alike,
        hits(1.0, 3),
        hits(1.0, 3),
    ];
    let result = sink.write(&flush(points)).await;
    let Err(SinkError::Fatal { lost, .. }) = result else {
        panic!("one is written like another")
    };
    assert_eq!(lost, amount(1));
    let server = server.lock();
    let said: Vec<_> = server.got[0]
        .1
        .iter()
        .map(|said| (said.1, said.2 - START * 1000))
        .collect();
    assert_eq!(said, [(1.0, 1000), (3.0, 2000), (2.0, 3000)]);
}

#[tokio::test]
async fn intervals_can_be_sent_as_veneur_does() {
    let config = json!({"convert_counters_to_monotonic": false, "naming": "veneur"});
    let (server, mut sink) = start(config).await;
    for seconds in [0, 10] {
        let count = point(PointKind::Counter, "t", ".count", 3.0, seconds);
        let p99 = point(PointKind::Gauge, "t", ".99percentile", 9.0, seconds);
        let batch = flush(vec![hits(5.0, seconds), count, p99]);
        sink.write(&batch).await.unwrap();
    }
    let server = server.lock();
    let said: Vec<_> = server.got[1]
        .1
        .iter()
        .map(|s| (s.0.as_str(), s.1, s.4))
        .collect();
    assert_eq!(
        said,
        [
            ("__name__=hits,env=prod", 5.0, 2),
            ("__name__=t_count,env=prod", 3.0, 2),
            ("__name__=t_99percentile,env=prod", 9.0, 2)
        ]
    );
}

#[test]
fn every_problem_is_told_with_its_key() {
    let check = |config| find("remote_write").unwrap().check(&config);
    assert_eq!(check(json!({})), [""; 0]);
    let found = check(json!({
        "url": "localhost:9090", "proxy_url": "socks5://u:sesame@a", "headers": {"content-type": "a", "b c": "d"}, "batch_write_size": 0,
        "prefix": "a.b", "external_labels": {"1a": "x"}, "max_backoff": "1ms", "remote_timeout": "0s",
        "basic_auth": {"username": "al", "password": "pw"}, "authorization": {"credentials": "x"},
    }));
    let keys: Vec<_> = found
        .iter()
        .filter_map(|problem| problem.split(": ").next())
        .collect();
    let expected = [
        "url",
        "proxy_url",
        "headers.b c",
        "headers.content-type",
        "authorization",
        "batch_write_size",
        "prefix",
        "external_labels",
        "remote_timeout",
        "max_backoff",
    ];
    assert_eq!(keys, expected, "{found:?}");
    assert!(!found.concat().contains("sesame"), "{found:?}");
}
