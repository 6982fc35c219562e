use std::io::Read as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use serde_json::json;
use tributary_node::config::Secret;

use super::page::{Form, Format, Page, takes_gzip};
use super::*;
use crate::key::Tags;
use crate::point::{Point, PointKind};
use crate::sink::registry::find;

const SECOND: Duration = Duration::from_secs(1);
const START: i64 = 1_700_000_000;

fn store(series: usize) -> Store {
    let expiry = Expiry {
        gauges: Some(300 * SECOND),
        counters: Some(3600 * SECOND),
    };
    Store::new(Naming::default(), Limits { series, expiry })
}

fn point(kind: PointKind, name: &str, suffix: &str, tags: &[&str], value: f64) -> Point {
    Point {
        base: name.into(),
        suffix: (!suffix.is_empty()).then(|| suffix.into()),
        tags: Tags::new(tags),
        kind,
        value,
        timestamp: Timestamp::from_seconds(START),
        check: None,
    }
}

fn gauge(name: &str, tags: &[&str], value: f64) -> Point {
    point(PointKind::Gauge, name, "", tags, value)
}

fn counter(name: &str, value: f64) -> Point {
    point(PointKind::Counter, name, "", &[], value)
}

fn flush(points: Vec<Point>) -> Batch {
    Batch {
        points: points.into(),
        hostname: "h1".into(),
        interval: 10 * SECOND,
        ..Batch::default()
    }
}

fn take(store: &mut Store, points: Vec<Point>, now: Instant) -> Vec<Refusal> {
    let batch = flush(points);
    let time = Timestamp::from_seconds(START);
    let points = batch.points.iter();
    points
        .filter_map(|point| store.take(point, &batch, now, time).err())
        .collect()
}

fn text(page: &Page, format: Format, now: Instant) -> String {
    let form = Form {
        format,
        gzip: false,
        created: true,
    };
    String::from_utf8(page.render(form, now).unwrap()).unwrap()
}

#[test]
fn both_formats_have_totals_gauges_and_summaries() {
    let (mut store, now) = (store(100), Instant::now());
    let timer = |suffix, kind, value| point(kind, "api.latency", suffix, &["env:prod"], value);
    for total in [5.0, 2.0] {
        let points = vec![
            counter("hits", total),
            gauge("load", &["dc:a\"b\\c\nd"], 0.5 * total),
            timer(".99percentile", PointKind::Gauge, 10.0 * total),
            timer(".50percentile", PointKind::Gauge, total),
            timer(".count", PointKind::Counter, total),
            timer(".sum", PointKind::Gauge, 1.5 * total),
            timer(".max", PointKind::Gauge, 99.0),
            point(PointKind::Status, "db.up", "", &[], 2.0),
        ];
        assert_eq!(take(&mut store, points, now), []);
    }
    let page = store.page();
    let summary = "api_latency{env=\"prod\",quantile=\"0.99\"} 20\n\
         api_latency{env=\"prod\",quantile=\"0.5\"} 2\n\
         api_latency_sum{env=\"prod\"} 10.5\n\
         api_latency_count{env=\"prod\"} 7\n";
    let rest = "# TYPE api_latency_max gauge\napi_latency_max{env=\"prod\"} 99\n\
         # TYPE db_up gauge\ndb_up 2\n";
    let load = "# TYPE load gauge\nload{dc=\"a\\\"b\\\\c\\nd\"} 1\n";
    assert_eq!(
        text(&page, Format::Text, now),
        format!(
            "# TYPE api_latency summary\n{summary}{rest}# TYPE hits_total counter\nhits_total 7\n{load}"
        )
    );
    assert_eq!(
        text(&page, Format::OpenMetrics, now),
        format!(
            "# TYPE api_latency summary\n{summary}api_latency_created{{env=\"prod\"}} 1700000000.000\n{rest}\
             # TYPE hits counter\nhits_total 7\nhits_created 1700000000.000\n{load}# EOF\n"
        )
    );
}

#[test]
fn what_no_flush_brings_goes_and_a_counter_stays_longer() {
    let (mut store, now) = (store(100), Instant::now());
    let timer = |suffix, kind| point(kind, "t", suffix, &[], 3.0);
    let points = vec![
        counter("hits", 5.0),
        gauge("load", &[], 1.0),
        timer(".count", PointKind::Counter),
        timer(".99percentile", PointKind::Gauge),
    ];
    take(&mut store, points, now);
    let page = store.page();
    // It expires for readers, whether or not anything is written.
    let later = now + 301 * SECOND;
    let shown = text(&page, Format::Text, later);
    assert_eq!(
        shown,
        "# TYPE hits_total counter\nhits_total 5\n# TYPE t summary\nt_count 3\n"
    );
    store.sweep(later);
    assert_eq!(store.len(), 2);
    // The name is free again, for another type too.
    assert_eq!(take(&mut store, vec![counter("load", 1.0)], later), []);
    store.sweep(now + 3602 * SECOND);
    assert_eq!(store.len(), 1);
    assert_eq!(take(&mut store, vec![counter("hits", 1.0)], later), []);
    assert!(text(&store.page(), Format::Text, later).contains("hits_total 1\n"));
}

#[test]
fn a_page_keeps_what_it_had_while_the_next_flush_is_taken() {
    let (mut store, now) = (store(100), Instant::now());
    take(&mut store, vec![counter("hits", 5.0)], now);
    let page = store.page();
    take(
        &mut store,
        vec![counter("hits", 5.0), gauge("new", &[], 1.0)],
        now,
    );
    assert_eq!(
        text(&page, Format::Text, now),
        "# TYPE hits_total counter\nhits_total 5\n"
    );
}

#[test]
fn series_that_would_be_written_alike_are_refused_and_the_first_stays() {
    let (mut store, now) = (store(100), Instant::now());
    let points = vec![
        gauge("a.b", &[], 1.0),
        gauge("a_b", &[], 2.0),
        gauge("hits", &[], 1.0),
        counter("hits", 2.0),
        point(PointKind::Gauge, "t", ".99percentile", &[], 1.0),
        gauge("t.count", &[], 2.0),
        gauge("a.b", &["c.d:1"], 1.0),
        gauge("a.b", &["c_d:1"], 2.0),
    ];
    assert_eq!(take(&mut store, points, now), [Refusal::Collision; 4]);
    let shown = text(&store.page(), Format::Text, now);
    assert!(!shown.contains(" 2\n"), "{shown}");
}

#[test]
fn series_over_the_bound_are_refused() {
    let (mut store, now) = (store(2), Instant::now());
    let points = ["a", "b", "c", "a"].map(|name| gauge(name, &[], 1.0));
    assert_eq!(take(&mut store, points.to_vec(), now), [Refusal::MaxSeries]);
}

#[test]
fn an_older_value_does_not_replace_a_newer_one_nor_appear_much_later() {
    let (mut store, now) = (store(100), Instant::now());
    let at = |seconds, value| Point {
        timestamp: Timestamp::from_seconds(START - seconds),
        ..gauge("load", &[], value)
    };
    let points = vec![at(301, 1.0), at(5, 2.0), at(6, 3.0), at(5, 4.0)];
    assert_eq!(take(&mut store, points, now), [Refusal::Late; 2]);
    assert_eq!(
        text(&store.page(), Format::Text, now),
        "# TYPE load gauge\nload 4\n"
    );
}

#[test]
fn the_format_is_the_one_that_is_asked_for() {
    let open = "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
    assert_eq!(Format::wanted(open), Format::OpenMetrics);
    for accept in [
        "",
        "*/*",
        "text/html",
        "text/plain;version=0.0.4;q=1,application/openmetrics-text;version=1.0.0;q=0.5",
        "application/openmetrics-text;version=2.0.0",
    ] {
        assert_eq!(Format::wanted(accept), Format::Text, "{accept}");
    }
    assert!(takes_gzip("deflate, gzip;q=0.5"));
    assert!(!takes_gzip("identity, gzip;q=0"));
}

fn hits(guard: Guard) -> Arc<Door> {
    let door = server::door("p", "/metrics", guard, false);
    let (mut store, now) = (store(100), Instant::now());
    take(&mut store, vec![counter("hits", 5.0)], now);
    door.page.store(Arc::new(store.page()));
    Arc::new(door)
}

async fn ask(
    door: &Door,
    path: &str,
    headers: &[(http::HeaderName, &str)],
) -> Response<Full<bytes::Bytes>> {
    let request = Request::get(path);
    let request = headers.iter().fold(request, |request, (name, value)| {
        request.header(name, *value)
    });
    door.answer(&request.body(()).unwrap()).await
}

#[tokio::test]
async fn a_scrape_is_packed_if_it_may_be() {
    let door = hits(Guard::Nobody);
    let accept = "application/openmetrics-text;version=1.0.0";
    let headers = [(ACCEPT, accept), (ACCEPT_ENCODING, "gzip")];
    let response = ask(&door, "/metrics?x=y", &headers).await;
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(response.headers()[CONTENT_ENCODING], "gzip");
    let kind = response.headers()[CONTENT_TYPE]
        .to_str()
        .unwrap()
        .to_owned();
    assert_eq!(kind, Format::OpenMetrics.content_type());
    let body = response.into_body().collect().await.unwrap().to_bytes();
    let mut text = String::new();
    flate2::read::GzDecoder::new(&*body)
        .read_to_string(&mut text)
        .unwrap();
    assert_eq!(text, "# TYPE hits counter\nhits_total 5\n# EOF\n");
    let response = ask(&door, "/metrics", &[]).await;
    assert!(!response.headers().contains_key(CONTENT_ENCODING));
    assert_eq!(ask(&door, "/", &[]).await.status(), StatusCode::NOT_FOUND);
    let post = Request::builder().method(Method::POST).uri("/metrics");
    let answer = door.answer(&post.body(()).unwrap()).await;
    assert_eq!(answer.status(), StatusCode::METHOD_NOT_ALLOWED);
}

#[tokio::test]
async fn only_who_has_the_login_may_scrape() {
    let basic = hits(Guard::Basic {
        user: "al".to_owned(),
        password: Secret::new("pw"),
    });
    let bearer = hits(Guard::Bearer(Secret::new("tok")));
    let good = format!("Basic {}", STANDARD.encode("al:pw"));
    let wrong = format!("Basic {}", STANDARD.encode("al:pww"));
    for (door, header, expected) in [
        (&basic, good.as_str(), 200),
        (&basic, &good.replace("Basic", "basic"), 200),
        (&basic, &wrong, 401),
        (&basic, "", 401),
        (&bearer, "Bearer tok", 200),
        (&bearer, "Bearer toK", 401),
        (&bearer, "tok", 401),
        (&bearer, &good, 401),
    ] {
        let answer = ask(door, "/metrics", &[(AUTHORIZATION, header)]).await;
        assert_eq!(answer.status().as_u16(), expected, "{header}");
    }
    let refused = ask(&basic, "/metrics", &[]).await;
    assert_eq!(refused.status(), StatusCode::UNAUTHORIZED);
    assert!(refused.headers().contains_key("www-authenticate"));
}

#[test]
fn who_takes_the_place_of_another_goes_on_with_its_socket() {
    let first = server::listen("p", "127.0.0.1:0").unwrap();
    let address = first.local_addr().unwrap().to_string();
    drop(first);
    let first = server::listen("p", &address).unwrap();
    let second = server::listen("p", &address).unwrap();
    assert!(Arc::ptr_eq(&first, &second));
    let other = server::listen("q", &address).unwrap_err();
    assert_eq!(other.kind(), std::io::ErrorKind::AddrInUse);
    drop((first, second));
    assert!(server::listen("q", &address).is_ok());
}

#[tokio::test]
async fn what_is_refused_is_lost_and_what_is_late_is_skipped() {
    let config = json!({"listen": "127.0.0.1:0", "max_series": 1});
    let config = serde_json::from_value(config).unwrap();
    let mut sink = PrometheusSink::open(&config, "p").unwrap();
    let now = |name: &str| Point {
        timestamp: Timestamp::now(),
        ..gauge(name, &[], 1.0)
    };
    let amount = |points| Amount { points, events: 0 };
    let batch = flush(vec![now("a"), gauge("a", &[], 1.0)]);
    assert_eq!(sink.write(&batch).await, Ok(amount(1)));
    let batch = flush(vec![now("a"), now("b")]);
    let Err(SinkError::Fatal { lost, .. }) = sink.write(&batch).await else {
        panic!("one is over the bound")
    };
    assert_eq!(lost, amount(1));
}

#[test]
fn every_problem_is_told_with_its_key() {
    let check = |config| find("prometheus").unwrap().check(&config);
    assert_eq!(check(json!({})), [""; 0]);
    let found = check(json!({
        "listen": "9102", "path": "metrics", "prefix": "1", "hostname_label": "a.b", "max_series": 0, "max_connections": 0,
        "basic_auth": {"username": "al"}, "bearer_token": "x", "tls": {"key_file": "/nowhere"},
    }));
    let keys: Vec<_> = found
        .iter()
        .filter_map(|problem| problem.split(':').next())
        .collect();
    let expected = [
        "listen",
        "path",
        "basic_auth.password",
        "bearer_token",
        "prefix",
        "hostname_label",
        "max_series",
        "max_connections",
        "tls.key_file",
    ];
    assert_eq!(keys, expected, "{found:?}");
}
