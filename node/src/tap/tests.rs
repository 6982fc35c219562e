//! Taps as the path of metrics and as their clients see them.

use futures_util::StreamExt;
use http_body_util::BodyExt;
use hyper_util::service::TowerToHyperService;

use super::*;

/// A metric.
pub(super) struct Example {
    pub(super) name: &'static str,
    pub(super) kind: &'static str,
    pub(super) tags: &'static [&'static str],
}

impl Observed for Example {
    fn name(&self) -> &str {
        self.name
    }

    fn kind(&self) -> &'static str {
        self.kind
    }

    fn any_tag(&self, is_wanted: &mut dyn FnMut(&str) -> bool) -> bool {
        self.tags.iter().any(|tag| is_wanted(tag))
    }

    fn describe(&self, line: &mut Map<String, Value>) {
        line.insert("value".to_owned(), 5.into());
    }
}

const METRIC: Example = Example {
    name: "api.latency",
    kind: "timer",
    tags: &["env:prod"],
};

fn everything(taps: &Taps) -> Listener {
    let rate = "10000".parse().unwrap();
    taps.listen(Filter::default(), rate).unwrap()
}

#[test]
fn nothing_is_open_until_somebody_listens_and_again_when_the_last_goes() {
    let taps = Taps::default();
    assert!(taps.open().is_none());
    let (one, other) = (everything(&taps), everything(&taps));
    drop(one);
    assert!(taps.open().is_some());
    drop(other);
    assert!(taps.open().is_none());
}

#[test]
fn so_many_may_listen_and_no_more() {
    let taps = Taps::default();
    let held: Vec<_> = (0..MOST_TAPS).map(|_| everything(&taps)).collect();
    assert_eq!(
        taps.listen(Filter::default(), Rate::default()).err(),
        Some(TooMany)
    );
    drop(held);
    everything(&taps);
}

#[test]
fn a_client_that_does_not_read_holds_so_many_lines_and_the_rest_is_counted() {
    let taps = Taps::default();
    let listener = everything(&taps);
    for _ in 0..QUEUE + 10 {
        taps.open().unwrap().offer(&METRIC);
    }
    assert_eq!(listener.lines.len(), QUEUE);
    let counts = &listener.tap.counts;
    assert_eq!(counts.matched.load(Ordering::Relaxed), QUEUE as u64 + 10);
    assert_eq!(counts.queue_full.load(Ordering::Relaxed), 10);
}

async fn ask(taps: &Taps, path: &str) -> axum::response::Response {
    use hyper::service::Service as _;
    let request = http::Request::get(path).body(axum::body::Body::empty());
    let service = TowerToHyperService::new(routes(taps.clone()));
    service.call(request.unwrap()).await.unwrap()
}

/// The next line of an answer, whether of a metric or about the tap.
async fn next(body: &mut axum::body::BodyDataStream) -> Option<Value> {
    let line = body.next().await?.expect("a line");
    Some(serde_json::from_slice(&line).expect("JSON"))
}

#[tokio::test]
async fn a_stream_shows_what_matches_tells_what_it_left_out_and_ends_with_the_program() {
    let ends = CancellationToken::new();
    let taps = Taps::new(ends.clone());
    let answer = ask(&taps, "/api/tap?filter=name~%5Eapi%20env:prod&rate=2/s").await;
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["content-type"], "application/x-ndjson");
    let mut body = answer.into_body().into_data_stream();
    let opened = next(&mut body).await.unwrap();
    assert_eq!(opened["tap"]["matched"], 0);
    let other = Example {
        name: "other",
        ..METRIC
    };
    for _ in 0..5 {
        taps.open().unwrap().offer(&METRIC);
        taps.open().unwrap().offer(&other);
    }
    let (mut shown, mut told) = (Vec::new(), Value::Null);
    // What is left out is told between the metrics or after them.
    while shown.len() < 2 || told["tap"]["matched"] != 5 {
        let mut line = next(&mut body).await.unwrap();
        match line["tap"].is_object() {
            true => told = line,
            false => {
                assert!(line["at"].as_u64() > Some(1_600_000_000_000), "{line}");
                line.as_object_mut().unwrap().remove("at");
                shown.push(line);
            }
        }
    }
    let metric = serde_json::json!({
        "name": "api.latency", "type": "timer", "tags": ["env:prod"], "value": 5,
    });
    assert_eq!(shown, [metric.clone(), metric]);
    let left_out = serde_json::json!({"rate": 3, "queue_full": 0});
    assert_eq!(told["tap"]["left_out"], left_out);
    ends.cancel();
    assert!(next(&mut body).await.unwrap()["tap"].is_object());
    assert_eq!(next(&mut body).await, None);
    assert!(taps.open().is_none(), "closed with its stream");
}

#[tokio::test]
async fn a_question_that_is_wrong_is_refused_with_a_reason() {
    let taps = Taps::default();
    for (path, status, reason) in [
        ("/api/tap?filter=name~(", 400, "unclosed group"),
        ("/api/tap?filter=latency", 400, "neither"),
        ("/api/tap?rate=none", 400, "rate \"none\""),
    ] {
        let answer = ask(&taps, path).await;
        assert_eq!(answer.status(), status, "{path}");
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        let text = String::from_utf8_lossy(&body).into_owned();
        assert!(text.contains(reason), "{path}: {text}");
    }
    let held: Vec<_> = (0..MOST_TAPS).map(|_| everything(&taps)).collect();
    assert_eq!(ask(&taps, "/api/tap").await.status(), 503);
    drop(held);
}
