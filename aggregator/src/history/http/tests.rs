//! The answers against those of a real graphite-web 1.1.10 that had the same points, byte for byte.
//!
//! `tests/fixtures/graphite-web/NAME.body` and `NAME.headers` are the answers to what Cubism asks; `recorded.json` holds more questions, with the points
//! that were there.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::body::Body;
use axum::http::{Request, Response, header};
use http_body_util::BodyExt as _;
use hyper::service::Service as _;
use hyper_util::service::TowerToHyperService;
use serde::Deserialize;
use serde_json::Value;

use super::super::config::HistoryConfig;
use super::*;
use crate::key::Tags;
use crate::point::{Batch, Point, PointKind, Timestamp};

/// When the answers were recorded.
const NOW: i64 = 1_795_176_416;
const FIRST: i64 = 1_795_176_300;

const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/graphite-web");

fn history() -> History {
    let config = HistoryConfig::default();
    History::new(&config, Duration::from_secs(10)).unwrap()
}

/// Takes points in that only pass through.
fn put(history: &History, path: &str, points: impl IntoIterator<Item = (i64, f64)>) {
    let points = points.into_iter().map(|(time, value)| Point {
        base: path.into(),
        suffix: None,
        tags: Tags::default(),
        kind: PointKind::Gauge,
        value,
        timestamp: Timestamp::from_seconds(time),
        check: None,
    });
    let batch = Batch {
        points: points.collect(),
        ..Batch::default()
    };
    history.take_at(&batch, NOW);
}

async fn exchange(history: &History, request: Request<Body>) -> (Response<()>, String) {
    let service = TowerToHyperService::new(history.router());
    let (head, body) = service.call(request).await.unwrap().into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let body = String::from_utf8(body.to_vec()).unwrap();
    (Response::from_parts(head, ()), body)
}

async fn get(history: &History, path: &str, accept: &str) -> (u16, String, String) {
    let request = Request::get(path)
        .header(header::ACCEPT, accept)
        .body(Body::empty())
        .unwrap();
    let (head, body) = exchange(history, request).await;
    let kind = head.headers()[header::CONTENT_TYPE].to_str().unwrap();
    (head.status().as_u16(), kind.to_owned(), body)
}

/// What was in the Graphite that the answers to Cubism came from.
fn recorded_points() -> History {
    let history = history();
    let path = |name: &str| format!("virt.vm_cputime.{name}");
    let at = |number: usize| FIRST + 10 * i64::try_from(number).unwrap();
    let web = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0];
    put(
        &history,
        &path("web1.cputime"),
        web.into_iter()
            .enumerate()
            .map(|(number, value)| (at(number), value)),
    );
    let db = [
        (0, 100.0),
        (1, 110.0),
        (2, 125.0),
        (4, 150.0),
        (5, 40.0),
        (6, 60.0),
    ];
    put(
        &history,
        &path("db1.cputime"),
        db.into_iter().map(|(number, value)| (at(number), value)),
    );
    put(&history, &path("web1.cputime_percent"), [(FIRST, 5.0)]);
    history
}

#[tokio::test]
async fn what_cubism_asks_is_answered_as_graphite_answered_it() {
    let (web, db) = (
        "virt.vm_cputime.web1.cputime",
        "virt.vm_cputime.db1.cputime",
    );
    let range = "from=1795176280&until=1795176369";
    let render = |query: String| format!("/render?{query}&now={NOW}");
    let all = [
        (
            "find_completer_top",
            "/metrics/find?format=completer&query=virt".to_owned(),
        ),
        (
            "find_completer_branch",
            "/metrics/find?format=completer&query=virt.vm_cputime.*".to_owned(),
        ),
        (
            "find_completer_leaf",
            "/metrics/find?format=completer&query=virt.vm_cputime.*.cputime".to_owned(),
        ),
        (
            "find_completer_none",
            "/metrics/find?format=completer&query=nothing.*".to_owned(),
        ),
        ("find_noquery", "/metrics/find?format=completer".to_owned()),
        (
            "find_treejson",
            "/metrics/find?query=virt.vm_cputime.*".to_owned(),
        ),
        (
            "raw_plain",
            render(format!("format=raw&target={web}&{range}")),
        ),
        (
            "raw_alias",
            render(format!("format=raw&target=alias({web}%2C'')&{range}")),
        ),
        (
            "raw_sumnnd",
            render(format!(
                "format=raw&target=alias(sumSeries(nonNegativeDerivative({db}))%2C'')&{range}"
            )),
        ),
        (
            "raw_summarize",
            render(format!(
                "format=raw&target=alias(summarize(sumSeries({web})%2C'1min'%2C'sum')%2C'')&from=1795176180&until=1795176369"
            )),
        ),
        (
            "raw_two",
            render(
                "format=raw&target=virt.vm_cputime.*.cputime&from=1795176320&until=1795176369"
                    .to_owned(),
            ),
        ),
        (
            "raw_missing",
            render(format!("format=raw&target=virt.nothing&{range}")),
        ),
        (
            "json_plain",
            render(format!(
                "format=json&target={db}&from=1795176320&until=1795176369"
            )),
        ),
        (
            "json_default",
            render(format!("format=json&target={db}&from=-1min")),
        ),
    ];
    let history = recorded_points();
    let mut bodies = std::fs::read_dir(FIXTURES)
        .unwrap()
        .filter_map(|file| {
            let name = file.ok()?.file_name().into_string().ok()?;
            name.strip_suffix(".body").map(str::to_owned)
        })
        .collect::<Vec<_>>();
    for (name, path) in all {
        let read =
            |ending: &str| std::fs::read_to_string(format!("{FIXTURES}/{name}.{ending}")).unwrap();
        let headers = read("headers");
        let header = |key: &str| {
            headers
                .lines()
                .find_map(|line| line.strip_prefix(key))
                .map(str::trim)
        };
        let status = headers.split(' ').nth(1).unwrap().parse().unwrap();
        let wanted = (
            status,
            header("Content-Type: ").unwrap().to_owned(),
            read("body"),
        );
        assert_eq!(get(&history, &path, "*/*").await, wanted, "{name}");
        let below = format!("/graphite{path}");
        assert_eq!(get(&history, &below, "*/*").await, wanted, "{name}");
        bodies.retain(|known| known != name);
    }
    assert_eq!(
        bodies,
        [] as [&str; 0],
        "recorded answers that nothing is compared with"
    );
}

#[derive(Deserialize)]
struct Recorded {
    series: BTreeMap<String, Series>,
    replies: Vec<Reply>,
}

#[derive(Deserialize)]
struct Series {
    step: i64,
    points: Vec<(i64, f64)>,
}

#[derive(Deserialize)]
struct Reply {
    path: String,
    accept: String,
    status: u16,
    #[serde(rename = "type")]
    kind: String,
    body: String,
}

/// The nodes of an answer in one order: Graphite leaves that of equal names to chance.
fn in_order(body: &str) -> Value {
    let mut answer: Value = serde_json::from_str(body).unwrap_or_default();
    if let Some(nodes) = answer["metrics"].as_array_mut() {
        nodes.sort_by_key(|node| (node["name"] == "*", node["path"].to_string()));
    }
    answer
}

#[tokio::test]
async fn more_questions_are_answered_as_graphite_answered_them() {
    let recorded = std::fs::read_to_string(format!("{FIXTURES}/recorded.json")).unwrap();
    let recorded: Recorded = serde_json::from_str(&recorded).unwrap();
    let history = history();
    for (path, series) in recorded.series {
        for (time, value) in series.points {
            history
                .0
                .store
                .put(&path, time, value, Some(series.step), NOW)
                .unwrap();
        }
    }
    assert!(recorded.replies.len() > 200);
    let mut wrong = Vec::new();
    for reply in recorded.replies {
        let (status, kind, body) = get(&history, &reply.path, &reply.accept).await;
        let same = match reply.status {
            200 if reply.path.contains("completer") && !reply.path.contains("jsonp") => {
                in_order(&body) == in_order(&reply.body)
            }
            200 => body == reply.body,
            // Why it is refused is told in our own words.
            _ => body.starts_with("Invalid parameters ("),
        };
        if (status, &kind, same) != (reply.status, &reply.kind, true) {
            wrong.push(format!(
                "{}\n  {} {} {}\n  {status} {kind} {body}",
                reply.path, reply.status, reply.kind, reply.body
            ));
        }
    }
    assert!(
        wrong.is_empty(),
        "{} differ:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

#[tokio::test]
async fn grafana_gets_what_it_asks() {
    let history = recorded_points();
    let post = async |path: &str, form: &'static str| {
        let request = Request::post(path)
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(Body::from(form))
            .unwrap();
        let (head, body) = exchange(&history, request).await;
        assert_eq!(head.status(), StatusCode::OK, "{path}: {body}");
        serde_json::from_str::<Value>(&body).unwrap()
    };
    let values = post("/graphite/render", "target=sumSeries(virt.vm_cputime.*.cputime)&from=1795176320&until=1795176369&now=1795176416&format=json&maxDataPoints=1920").await;
    assert_eq!(
        values[0]["datapoints"],
        json!([
            [8.0, 1_795_176_330],
            [166.0, 1_795_176_340],
            [72.0, 1_795_176_350],
            [124.0, 1_795_176_360]
        ])
    );
    let values = post(
        "/graphite/render",
        "target=constantLine(100)&from=-1h&until=now&format=json&maxDataPoints=300",
    )
    .await;
    assert_eq!(values[0]["datapoints"][2][0], 100.0);
    let found = post(
        "/graphite/metrics/find?from=1&until=2",
        "query=virt.vm_cputime.*",
    )
    .await;
    assert_eq!(found[0]["text"], "db1");
    let functions = post("/graphite/metrics/expand", "query=virt.*").await;
    assert_eq!(functions["results"], json!(["virt.vm_cputime"]));
    for path in [
        "/graphite/tags",
        "/graphite/tags/autoComplete/tags?tagPrefix=x",
        "/graphite/tags/autoComplete/values?tag=x",
        "/graphite/tags/findSeries?expr=x%3Dy",
        "/graphite/events/get_data?from=-1h",
    ] {
        let (status, kind, body) = get(&history, path, "application/json").await;
        assert_eq!(
            (status, kind.as_str(), body.as_str()),
            (200, "application/json", "[]"),
            "{path}"
        );
    }
    let tag = get(&history, "/graphite/tags/env", "*/*").await;
    assert_eq!((tag.0, tag.2.as_str()), (200, "null"), "no such tag");
    let request = Request::get("/graphite/version")
        .body(Body::empty())
        .unwrap();
    assert_eq!(exchange(&history, request).await.1, "1.1.10");
    let (_, _, functions) = get(&history, "/graphite/functions", "*/*").await;
    let functions: Value = serde_json::from_str(&functions).unwrap();
    let summarize = &functions["summarize"];
    assert_eq!(
        (&summarize["group"], &summarize["params"][1]["type"]),
        (&json!("Transform"), &json!("interval"))
    );
    assert_eq!(summarize["params"][0]["required"], true);
}

#[tokio::test]
async fn bad_questions_are_refused_and_nothing_of_them_is_a_page() {
    let history = recorded_points();
    for (path, problem) in [
        (
            "/render?target=<script>alert(1)</script>",
            "&lt;/script&gt;",
        ),
        ("/render?target=a&format=png", "format: png is not answered"),
        (
            "/render?target=a&from=yesteryear",
            "from: \"yesteryear\" is not a time",
        ),
        (
            "/render?target=a&from=-1h&until=-1h",
            "Invalid empty time range",
        ),
        (
            "/render?target=a&format=json&jsonp=alert(1)//",
            "jsonp is not the name of a function",
        ),
        (
            "/metrics/find?query=x&format=pickle",
            "use completer or treejson",
        ),
    ] {
        let path = path.replace('<', "%3C").replace('>', "%3E");
        let (status, kind, body) = get(&history, &path, "*/*").await;
        assert_eq!(
            (status, kind.as_str()),
            (400, "text/html; charset=utf-8"),
            "{path}"
        );
        assert!(
            body.contains(problem) && !body.contains('<'),
            "{path}: {body}"
        );
    }
    let targets = "target=a&".repeat(501);
    assert_eq!(
        get(&history, &format!("/render?{targets}"), "*/*").await.0,
        400
    );
    let parameters = "x=a&".repeat(2001);
    assert_eq!(
        get(&history, &format!("/render?{parameters}"), "*/*")
            .await
            .0,
        400
    );
    let request = Request::post("/render")
        .body(Body::from("x".repeat(1024 * 1024 + 1)))
        .unwrap();
    assert_eq!(
        exchange(&history, request).await.0.status(),
        StatusCode::BAD_REQUEST
    );
}

#[tokio::test]
async fn points_of_flushes_and_of_sources_are_kept_with_their_tags_in_the_path() {
    let history = history();
    let point = |value, tags: &[&str]| Point {
        base: "api.latency".into(),
        suffix: Some(".max".into()),
        tags: Tags::new(tags),
        kind: PointKind::Gauge,
        value,
        timestamp: Timestamp::from_seconds(NOW - 16),
        check: None,
    };
    let batch = Batch {
        points: vec![
            point(1.0, &["env:prod"]),
            point(2.0, &["env:dev"]),
            point(f64::NAN, &[]),
            point(3.0, &["env:dev"]),
        ]
        .into(),
        interval: Duration::from_millis(2500),
        ..Batch::default()
    };
    history.take_at(&batch, NOW);
    put(
        &history,
        "disk./dev/sda1.free",
        [
            (NOW - 20, 5.0),
            (NOW - 4000, 4.0),
            (NOW - 8000, 3.0),
            (NOW + 4000, 6.0),
        ],
    );
    let (_, _, body) = get(
        &history,
        &format!(
            "/render?format=raw&target=api.latency.*.env.*&from={}&until={NOW}&now={NOW}",
            NOW - 20
        ),
        "*/*",
    )
    .await;
    let lines: Vec<_> = body.lines().collect();
    assert_eq!(lines.len(), 2, "{body}");
    assert!(
        lines[0].starts_with("api.latency.max.env.dev,") && lines[0].contains(",3|"),
        "an interval of 2.5 s has steps of 3 s: {body}"
    );
    assert!(
        lines[0].contains("3.0") && !lines[0].contains("2.0"),
        "the last one wins: {body}"
    );
    let (_, _, about) = get(&history, "/api/history", "*/*").await;
    let about: Value = serde_json::from_str(&about).unwrap();
    assert_eq!(
        (&about["series"], &about["retention"]),
        (&json!(3), &json!(7200))
    );
    let (_, _, found) = get(&history, "/metrics/find?query=disk.*", "*/*").await;
    assert!(found.contains("/dev/sda1"), "{found}");
}

#[tokio::test]
async fn pages_of_the_allowed_origin_may_ask() {
    let config = HistoryConfig {
        allow_origin: "https://dashboards.example".to_owned(),
        ..HistoryConfig::default()
    };
    let allowed = History::new(&config, Duration::from_secs(10)).unwrap();
    let origin = async |history: &History| {
        let request = Request::get("/metrics/find?query=*")
            .body(Body::empty())
            .unwrap();
        let (head, _) = exchange(history, request).await;
        head.headers()
            .get(header::ACCESS_CONTROL_ALLOW_ORIGIN)
            .cloned()
    };
    assert_eq!(
        origin(&allowed).await.unwrap(),
        "https://dashboards.example"
    );
    assert_eq!(origin(&history()).await, None);
}
