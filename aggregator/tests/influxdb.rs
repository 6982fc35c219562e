//! The sink `influxdb` over real sockets, with a server that answers as a test says: the form of requests, waits, and bad settings.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test ends at the first surprise"
)]

use std::collections::VecDeque;
use std::io::Read as _;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tributary_aggregator::key::Tags;
use tributary_aggregator::point::{Batch, Point, PointKind, Timestamp};
use tributary_aggregator::sink::registry::check;
use tributary_aggregator::sink::{Amount, Sink, SinkError, build};

/// A request as it came; its text unpacked.
#[derive(Debug, Clone)]
struct Seen {
    uri: String,
    headers: HeaderMap,
    text: String,
}

impl Seen {
    fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().unwrap())
    }
}

/// A status, `Retry-After` where it is not empty, and a body.
type Said = (u16, &'static str, &'static str);

#[derive(Debug, Default)]
struct Influx {
    seen: Vec<Seen>,
    /// What the next writes are answered; then all are stored.
    says: VecDeque<Said>,
    /// A line with this is refused with the request that holds it.
    bad: Option<&'static str>,
}

#[derive(Clone, Default)]
struct Server(Arc<Mutex<Influx>>);

impl Server {
    async fn start() -> (Self, String) {
        let server = Self::default();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let router = Router::new().fallback(answer).with_state(server.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        (server, url)
    }

    fn says(&self, says: impl IntoIterator<Item = Said>) {
        self.0.lock().unwrap().says.extend(says);
    }

    fn seen(&self) -> Vec<Seen> {
        let state = self.0.lock().unwrap();
        state
            .seen
            .iter()
            .filter(|seen| !seen.uri.contains("/ping"))
            .cloned()
            .collect()
    }
}

async fn answer(
    State(server): State<Server>,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let packed = headers
        .get("content-encoding")
        .is_some_and(|encoding| encoding == "gzip");
    let mut text = String::new();
    match packed {
        true => drop(
            flate2::read::GzDecoder::new(&*body)
                .read_to_string(&mut text)
                .unwrap(),
        ),
        false => text.push_str(std::str::from_utf8(&body).unwrap()),
    }
    let mut state = server.0.lock().unwrap();
    let is_ping = uri.path().ends_with("/ping");
    let refused = state.bad.is_some_and(|bad| text.contains(bad));
    state.seen.push(Seen {
        uri: uri.to_string(),
        headers,
        text,
    });
    let said = if is_ping {
        None
    } else {
        state.says.pop_front()
    };
    let (status, retry, words) = match said {
        Some(said) => said,
        None if refused => (400, "", r#"{"code":"invalid","message":"a line is bad"}"#),
        None => (204, "", ""),
    };
    let mut response = (StatusCode::from_u16(status).unwrap(), words).into_response();
    if !retry.is_empty() {
        response
            .headers_mut()
            .insert("retry-after", retry.parse().unwrap());
    }
    response
}

fn sink(url: &str, more: Value) -> Box<dyn Sink> {
    let mut config = json!({"url": url, "backoff": "10ms", "max_backoff": "1s", "retries": 2});
    for (key, value) in more.as_object().unwrap() {
        config[key] = value.clone();
    }
    build("influxdb", "influx", &config).unwrap()
}

fn batch(names: &[&str]) -> Batch {
    let point = |name: &&str| Point {
        base: (*name).into(),
        suffix: None,
        tags: Tags::new(["env:prod"]),
        kind: PointKind::Gauge,
        value: 1.5,
        timestamp: Timestamp::from_nanos(7),
        check: None,
    };
    Batch {
        points: names.iter().map(point).collect(),
        ..Batch::default()
    }
}

fn written(points: usize) -> Result<Amount, SinkError> {
    Ok(Amount { points, events: 0 })
}

fn retriable(result: Result<Amount, SinkError>) -> (String, Duration) {
    match result {
        Err(SinkError::Retriable { reason, after }) => (reason, after.unwrap()),
        other => panic!("{other:?}"),
    }
}

const LINE: &str = "a,env=prod value=1.5 7\n";

#[tokio::test]
async fn a_write_has_the_form_of_version_1() {
    let (server, url) = Server::start().await;
    let mut plain = sink(&url, json!({"gzip": false, "database": "a b"}));
    assert_eq!(plain.write(&batch(&["a"])).await, written(1));
    let all = json!({
        "database": "cf", "retention_policy": "one week", "consistency": "quorum", "user": "me", "password": "p:w", "user_agent": "test/1",
    });
    assert_eq!(
        sink(&format!("{url}/gate/"), all)
            .write(&batch(&["a"]))
            .await,
        written(1)
    );
    let seen = server.seen();
    assert_eq!(seen[0].uri, "/write?db=a+b&precision=ns");
    assert_eq!(
        (
            seen[0].header("authorization"),
            seen[0].header("content-encoding")
        ),
        ("", "")
    );
    assert_eq!(
        seen[0].header("user-agent"),
        concat!("tributary-aggregator/", env!("CARGO_PKG_VERSION"))
    );
    assert_eq!(seen[0].text, LINE);
    assert_eq!(
        seen[1].uri,
        "/gate/write?consistency=quorum&db=cf&precision=ns&rp=one+week"
    );
    assert_eq!(seen[1].header("authorization"), "Basic bWU6cDp3");
    assert_eq!(
        (
            seen[1].header("content-encoding"),
            seen[1].header("user-agent")
        ),
        ("gzip", "test/1")
    );
    assert_eq!(seen[1].text, LINE);
}

#[tokio::test]
async fn a_write_has_the_form_of_version_2_with_a_token_that_may_change() {
    let (server, url) = Server::start().await;
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("token");
    let config = json!({"version": 2, "org": "my org", "bucket": "b/1", "token_file": file, "ping_timeout": "0s"});
    let mut sink = sink(&url, config);
    let (reason, _) = retriable(sink.write(&batch(&["a"])).await);
    assert!(reason.contains("token"), "{reason}");
    for token in ["t0ken", "an0ther"] {
        std::fs::write(&file, format!("{token}\n")).unwrap();
        assert_eq!(sink.write(&batch(&["a"])).await, written(1));
    }
    let seen = server.seen();
    assert_eq!(
        seen[0].uri,
        "/api/v2/write?bucket=b%2F1&org=my+org&precision=ns"
    );
    assert_eq!(seen[0].header("authorization"), "Token t0ken");
    assert_eq!(seen[1].header("authorization"), "Token an0ther");
    assert_eq!((seen.len(), seen[0].text.as_str()), (2, LINE));
}

#[tokio::test]
async fn what_may_pass_is_tried_again_at_once_and_then_waits_in_the_queue() {
    let (server, url) = Server::start().await;
    let mut sink = sink(&url, json!({}));
    server.says([(503, "", "busy"), (500, "", "busy")]);
    assert_eq!(
        sink.write(&batch(&["a"])).await,
        written(1),
        "the third try was good"
    );
    assert_eq!(server.seen().len(), 3);
    server.says([(503, "", "busy"); 3]);
    let (reason, _) = retriable(sink.write(&batch(&["a"])).await);
    assert!(reason.contains("answered 503: busy"), "{reason}");
    assert_eq!(server.seen().len(), 6, "retries is 2: three tries");
    // A server that names a time is not asked before.
    for said in [(429, "7", ""), (503, "7", "")] {
        server.says([said]);
        let before = server.seen().len();
        let (_, after) = retriable(sink.write(&batch(&["a"])).await);
        assert_eq!(
            (after, server.seen().len() - before),
            (Duration::from_secs(7), 1)
        );
    }
    assert_eq!(sink.write(&batch(&["a"])).await, written(1));
}

#[tokio::test]
async fn who_may_not_write_waits_long_and_loses_nothing() {
    let (server, url) = Server::start().await;
    let secret = json!({"user": "me", "password": "w0rd"});
    let mut sink = sink(&url, secret);
    for status in [401, 403, 404] {
        server.says([(status, "", r#"{"error":"no, me:w0rd may not"}"#)]);
        let (reason, after) = retriable(sink.write(&batch(&["a"])).await);
        assert!(after >= Duration::from_millis(500), "{after:?}");
        assert!(
            reason.contains("REDACTED") && !reason.contains("w0rd"),
            "{reason}"
        );
    }
    assert_eq!(server.seen().len(), 3, "it is not tried again at once");
    assert_eq!(sink.write(&batch(&["a"])).await, written(1));
}

#[tokio::test]
async fn a_bad_line_is_found_by_halves_and_the_rest_is_written() {
    let (server, url) = Server::start().await;
    server.0.lock().unwrap().bad = Some("bad");
    let mut sink = sink(&url, json!({"version": 2, "bucket": "b"}));
    let names: Vec<String> = (0..100).map(|n| format!("m{n}")).collect();
    let mut names: Vec<&str> = names.iter().map(String::as_str).collect();
    names[41] = "bad";
    let Err(SinkError::Fatal { reason, lost }) = sink.write(&batch(&names)).await else {
        panic!("it was taken");
    };
    assert_eq!(
        lost,
        Amount {
            points: 1,
            events: 0
        }
    );
    assert!(
        reason.contains("1 of 100") && reason.contains("a line is bad"),
        "{reason}"
    );
    let stored = server
        .seen()
        .into_iter()
        .filter(|seen| !seen.text.contains("bad"));
    assert_eq!(
        stored.map(|seen| seen.text.lines().count()).sum::<usize>(),
        99
    );
    assert!(server.seen().len() < 20, "{}", server.seen().len());
}

#[tokio::test]
async fn a_batch_is_split_by_points_and_bytes_and_goes_on_where_it_was_left() {
    let (server, url) = Server::start().await;
    let names: Vec<String> = (0..10).map(|n| format!("m{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut by_points = sink(&url, json!({"flush_points": 4}));
    server.says([(204, "", ""), (429, "1", "")]);
    retriable(by_points.write(&batch(&names)).await);
    assert_eq!(by_points.write(&batch(&names)).await, written(10));
    let sizes: Vec<usize> = server
        .seen()
        .iter()
        .map(|seen| seen.text.lines().count())
        .collect();
    assert_eq!(sizes, [4, 4, 4, 2], "the first body is not sent again");
    let long = "x".repeat(600);
    let mut by_bytes = sink(&url, json!({"body_limit": "1KiB"}));
    assert_eq!(
        by_bytes.write(&batch(&[&long, &long, "a"])).await,
        written(3)
    );
    let sizes: Vec<usize> = server.seen()[4..]
        .iter()
        .map(|seen| seen.text.lines().count())
        .collect();
    assert_eq!(sizes, [1, 2]);
    server.says([(413, "", "")]);
    assert_eq!(by_points.write(&batch(&["a", "b"])).await, written(2));
    assert_eq!(server.seen().len(), 9, "two halves");
}

#[tokio::test]
async fn one_that_is_away_or_does_not_answer_is_retriable() {
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", closed.local_addr().unwrap());
    // It accepts, and says nothing.
    let (reason, _) = retriable(
        sink(&url, json!({"timeout": "100ms"}))
            .write(&batch(&["a"]))
            .await,
    );
    assert!(reason.contains("did not answer within 100ms"), "{reason}");
    drop(closed);
    let (reason, _) = retriable(sink(&url, json!({})).write(&batch(&["a"])).await);
    assert!(reason.contains("cannot be reached"), "{reason}");
}

#[test]
fn settings_that_cannot_work_are_told_all_at_once() {
    assert_eq!(
        check("influxdb", &Value::Null),
        Vec::<String>::new(),
        "the defaults work"
    );
    let found = check(
        "influxdb",
        &json!({
            "url": "http://me:w0rd@host", "version": 1, "token": "t", "bucket": "b", "password": "p", "password_file": "f", "flush_points": 0,
            "body_limit": "1GiB", "retries": 100, "timeout": "0s", "max_backoff": "1ms", "value_field": "", "user_agent": "a\nb",
        }),
    );
    for problem in [
        "url: holds a user",
        "token: is for `version: 2`",
        "bucket: is for `version: 2`",
        "user: is empty, and a password is set",
        "password_file: is set, and `password` as well",
        "flush_points: is zero",
        "body_limit: 1GiB is not between",
        "retries: 100 is more than 20",
        "timeout: is zero",
        "max_backoff: is shorter",
        "value_field: is empty",
        "user_agent: ",
    ] {
        assert!(
            found.iter().any(|found| found.starts_with(problem)),
            "{problem}: {found:#?}"
        );
    }
    assert_eq!(found.len(), 12, "{found:#?}");
    assert!(!format!("{found:?}").contains("w0rd"));
    assert_eq!(
        check("influxdb", &json!({"version": 3})),
        ["version: 3 is neither 1 nor 2"]
    );
    assert_eq!(
        check(
            "influxdb",
            &json!({"version": 2, "database": "x", "user": "u"})
        ),
        ["database: is for `version: 1`", "user: is for `version: 1`"]
    );
    assert_eq!(
        check("influxdb", &json!({"databse": "x"})),
        ["databse: unknown key, did you mean `database`?"]
    );
}

#[test]
fn the_examples_of_the_manual_are_right() {
    use tributary_node::config::{Environment, parse};
    let page = include_str!("../../docs/influxdb.md");
    let examples: Vec<&str> = page
        .split("```yaml\n")
        .skip(1)
        .filter_map(|rest| rest.split("```").next())
        .collect();
    assert_eq!(examples.len(), 2);
    for example in examples {
        let read = parse::<tributary_aggregator::config::Config>(
            "docs/influxdb.md",
            example,
            &Environment::default(),
        );
        assert!(read.is_ok(), "{}", read.unwrap_err());
    }
}
