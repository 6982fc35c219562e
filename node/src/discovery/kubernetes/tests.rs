//! The watch against an API server that answers as told.

use std::collections::VecDeque;
use std::sync::Arc;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use super::super::Discovery;
use super::*;

const PATIENCE: Duration = Duration::from_secs(30);

/// One answer of the server. When there is none left, it holds its tongue.
enum Says {
    /// A list at this version.
    List(&'static str, Vec<Value>),
    /// Lines of a watch, which ends after them.
    Ends(Vec<String>),
    /// Lines of a watch, which stays open.
    Stays(Vec<String>),
    Refuses(u16, &'static str),
}

use Says::{Ends, List, Refuses, Stays};

#[derive(Default)]
struct Script {
    answers: VecDeque<Says>,
    asked: Vec<String>,
    /// Watches that stay open.
    open: Vec<mpsc::Sender<Result<Bytes, std::io::Error>>>,
}

struct Api {
    script: Arc<Mutex<Script>>,
    discovery: Background,
    _server: AbortOnDropHandle<()>,
}

fn slice(version: &str, name: &str, addresses: &[&str]) -> Value {
    let endpoints: Vec<Value> = addresses
        .iter()
        .map(|address| json!({"addresses": [address], "conditions": {"ready": true}}))
        .collect();
    json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {"name": name, "namespace": "metrics", "resourceVersion": version,
            "labels": {"kubernetes.io/service-name": "veneur-global"}},
        "addressType": "IPv4", "ports": [{"name": "grpc", "port": 8128, "protocol": "TCP"}],
        "endpoints": endpoints})
}

fn line(kind: &str, object: Value) -> String {
    format!("{}\n", json!({"type": kind, "object": object}))
}

fn bookmark(version: &str) -> String {
    let object = json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {"resourceVersion": version}, "addressType": "", "endpoints": null});
    line("BOOKMARK", object)
}

fn status(code: u16, reason: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Status", "metadata": {}, "status": "Failure",
        "message": format!("it said {reason}"), "reason": reason, "code": code})
}

async fn answer(State(script): State<Arc<Mutex<Script>>>, request: Request) -> Response {
    let next = {
        let mut script = script.lock();
        script.asked.push(request.uri().to_string());
        script.answers.pop_front()
    };
    let (to, from) = mpsc::channel(64);
    let stream = |lines: &[String]| {
        for line in lines {
            to.try_send(Ok(Bytes::from(line.clone()))).unwrap();
        }
        let lines = futures_util::stream::unfold(from, |mut from| async {
            let line = from.recv().await?;
            Some((line, from))
        });
        Body::from_stream(lines).into_response()
    };
    match next {
        Some(List(version, items)) => axum::Json(json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSliceList",
            "metadata": {"resourceVersion": version}, "items": items,
        }))
        .into_response(),
        Some(Ends(lines)) => stream(&lines),
        Some(Stays(lines)) => {
            let response = stream(&lines);
            script.lock().open.push(to);
            response
        }
        Some(Refuses(code, reason)) => {
            let code_of_http = StatusCode::from_u16(code).unwrap();
            (code_of_http, axum::Json(status(code, reason))).into_response()
        }
        None => std::future::pending().await,
    }
}

impl Api {
    async fn that(answers: impl IntoIterator<Item = Says>) -> Self {
        let script = Arc::new(Mutex::new(Script {
            answers: answers.into_iter().collect(),
            ..Script::default()
        }));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let settings = Settings {
            namespace: "metrics".to_owned(),
            service: "veneur-global".to_owned(),
            port: "grpc".to_owned(),
            api: format!("http://{}", listener.local_addr().unwrap()),
            ..Settings::default()
        };
        let router = Router::new().fallback(answer).with_state(script.clone());
        let server = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self {
            script,
            discovery: start(&settings).unwrap(),
            _server: AbortOnDropHandle::new(server),
        }
    }

    async fn next(&mut self) -> Result<Vec<String>, String> {
        let next = tokio::time::timeout(PATIENCE, self.discovery.next()).await;
        let endpoints = next
            .expect("an answer in time")
            .map_err(|error| error.to_string())?;
        Ok(endpoints.into_iter().map(|e| e.address).collect())
    }

    /// The versions that it was asked to watch from, in order; `list` for lists.
    async fn asked(&self, times: usize) -> Vec<String> {
        let enough = async {
            while self.script.lock().asked.len() < times {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(PATIENCE, enough).await.unwrap();
        let asked = &self.script.lock().asked;
        let version = |url: &String| {
            let watch = url.contains("watch=true");
            let mut query = url.split(['?', '&']);
            let version = query.find_map(|part| part.strip_prefix("resourceVersion="));
            match watch {
                true => version.unwrap_or("none").to_owned(),
                false => "list".to_owned(),
            }
        };
        asked.iter().map(version).collect()
    }
}

#[tokio::test]
async fn slices_are_listed_and_changes_watched_and_merged() {
    let first = slice("5", "a", &["10.0.0.1"]);
    let mut api = Api::that([
        List("7", vec![first, slice("6", "b", &["10.0.0.3"])]),
        Stays(vec![
            line("MODIFIED", slice("8", "a", &["10.0.0.1", "10.0.0.2"])),
            line("DELETED", slice("9", "b", &["10.0.0.3"])),
            line("ADDED", slice("10", "c", &["10.0.0.4"])),
        ]),
    ])
    .await;
    assert_eq!(
        api.next().await.unwrap(),
        ["10.0.0.1:8128", "10.0.0.3:8128"]
    );
    assert_eq!(
        api.next().await.unwrap(),
        ["10.0.0.1:8128", "10.0.0.2:8128", "10.0.0.3:8128"]
    );
    assert_eq!(
        api.next().await.unwrap(),
        ["10.0.0.1:8128", "10.0.0.2:8128"]
    );
    assert_eq!(
        api.next().await.unwrap(),
        ["10.0.0.1:8128", "10.0.0.2:8128", "10.0.0.4:8128"]
    );
    let asked = api.script.lock().asked.clone();
    for url in &asked {
        let path = "/apis/discovery.k8s.io/v1/namespaces/metrics/endpointslices?";
        assert!(url.starts_with(path), "{url}");
        assert!(
            url.contains("labelSelector=kubernetes.io%2Fservice-name%3Dveneur-global"),
            "{url}"
        );
    }
    for part in [
        "watch=true",
        "timeoutSeconds=120",
        "allowWatchBookmarks=true",
    ] {
        assert!(asked[1].contains(part), "{part}: {asked:?}");
    }
}

#[tokio::test]
async fn a_watch_that_ends_or_breaks_is_taken_up_where_it_was_also_after_a_bookmark() {
    let mut api = Api::that([
        List("7", vec![slice("5", "a", &["10.0.0.1"])]),
        Ends(vec![bookmark("20")]),
        Stays(vec![
            line("MODIFIED", slice("21", "a", &["10.0.0.2"])),
            r#"{"type":"MODIFIED","object":{"kind":"Endp"#.to_owned(),
        ]),
        Stays(vec![line("MODIFIED", slice("22", "a", &["10.0.0.3"]))]),
    ])
    .await;
    assert_eq!(api.next().await.unwrap(), ["10.0.0.1:8128"]);
    assert_eq!(api.next().await.unwrap(), ["10.0.0.2:8128"]);
    // It breaks in the middle of a line, which may be told as an error; nobody is removed by it.
    let open = api.script.lock().open.remove(0);
    open.try_send(Err(std::io::Error::other("cut"))).unwrap();
    let named = loop {
        if let Ok(named) = api.next().await {
            break named;
        }
    };
    assert_eq!(named, ["10.0.0.3:8128"]);
    assert_eq!(api.asked(3).await[..3], ["list", "7", "20"]);
}

#[tokio::test]
async fn a_version_that_is_gone_leads_to_a_new_list_without_an_error() {
    let mut api = Api::that([
        List(
            "7",
            vec![
                slice("5", "a", &["10.0.0.1"]),
                slice("5", "b", &["10.0.0.9"]),
            ],
        ),
        Ends(vec![line("ERROR", status(410, "Expired"))]),
        List("30", vec![slice("30", "a", &["10.0.0.2"])]),
        Refuses(410, "Gone"),
        List("40", vec![slice("40", "a", &["10.0.0.3"])]),
        Stays(vec![]),
    ])
    .await;
    assert_eq!(
        api.next().await.unwrap(),
        ["10.0.0.1:8128", "10.0.0.9:8128"]
    );
    assert_eq!(
        api.next().await.unwrap(),
        ["10.0.0.2:8128"],
        "b is gone, too"
    );
    assert_eq!(api.next().await.unwrap(), ["10.0.0.3:8128"]);
    assert_eq!(
        api.asked(6).await,
        ["list", "7", "list", "30", "list", "40"]
    );
}

#[tokio::test]
async fn a_line_that_is_not_understood_is_told_and_leads_to_a_new_list() {
    for wrong in [
        "this is no JSON\n".to_owned(),
        line("MODIFIED", json!({"addressType": 7})),
        line("ERROR", status(500, "InternalError")),
        line("SURPRISE", slice("8", "a", &["10.0.0.5"])),
    ] {
        let mut api = Api::that([
            List("7", vec![slice("5", "a", &["10.0.0.1"])]),
            Stays(vec![wrong.clone()]),
            List("9", vec![slice("9", "a", &["10.0.0.2"])]),
            Stays(vec![]),
        ])
        .await;
        assert_eq!(api.next().await.unwrap(), ["10.0.0.1:8128"]);
        let error = api.next().await.expect_err(&wrong);
        assert!(error.contains("cannot watch endpointslices"), "{error}");
        assert_eq!(api.next().await.unwrap(), ["10.0.0.2:8128"]);
        assert_eq!(api.asked(4).await, ["list", "7", "list", "9"]);
    }
}

#[tokio::test]
async fn errors_are_told_and_the_server_is_asked_again() {
    let mut api = Api::that([
        Refuses(403, "Forbidden"),
        Refuses(503, "ServiceUnavailable"),
        List("", vec![]),
        List("7", vec![slice("5", "a", &["10.0.0.1"])]),
        Refuses(403, "Forbidden"),
        List("8", vec![slice("8", "a", &["10.0.0.2"])]),
        Stays(vec![]),
    ])
    .await;
    let error = api.next().await.unwrap_err();
    assert!(
        error.contains("cannot list endpointslices") && error.contains("Forbidden"),
        "{error}"
    );
    assert!(api.next().await.unwrap_err().contains("ServiceUnavailable"));
    assert!(api.next().await.unwrap_err().contains("no version"));
    assert_eq!(api.next().await.unwrap(), ["10.0.0.1:8128"]);
    assert!(api.next().await.unwrap_err().contains("cannot watch"));
    assert_eq!(api.next().await.unwrap(), ["10.0.0.2:8128"]);
}

#[tokio::test]
async fn nobody_ready_and_no_slice_at_all_are_errors() {
    let mut not_ready = slice("8", "a", &["10.0.0.1"]);
    not_ready["endpoints"][0]["conditions"] = json!({"ready": false});
    let mut api = Api::that([
        List("7", vec![slice("5", "a", &["10.0.0.1"])]),
        Stays(vec![
            line("MODIFIED", not_ready),
            line("DELETED", slice("9", "a", &[])),
            line("ADDED", slice("10", "a", &["10.0.0.2"])),
        ]),
    ])
    .await;
    assert_eq!(api.next().await.unwrap(), ["10.0.0.1:8128"]);
    let error = api.next().await.unwrap_err();
    assert!(
        error.contains("no endpoint that is ready, and 1 that are not"),
        "{error}"
    );
    assert!(api.next().await.unwrap_err().contains("and 0 that are not"));
    assert_eq!(api.next().await.unwrap(), ["10.0.0.2:8128"]);
}

#[tokio::test]
async fn a_server_that_ends_each_watch_at_once_is_asked_ever_more_rarely() {
    let ends = std::iter::repeat_with(|| Ends(vec![])).take(1000);
    let list = List("7", vec![slice("5", "a", &["10.0.0.1"])]);
    let mut api = Api::that(std::iter::once(list).chain(ends)).await;
    api.next().await.unwrap();
    let began = Instant::now();
    api.asked(5).await;
    // Four watches after the list, with pauses of 0.15, 0.3 and 0.6 seconds at least between them.
    assert!(
        began.elapsed() > Duration::from_secs(1),
        "{:?}",
        began.elapsed()
    );
}
