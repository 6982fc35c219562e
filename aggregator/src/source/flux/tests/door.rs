//! What the recordings do not show: limits, slow and broken peers, keys.

use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use super::{KEY_A, KEY_B, NOW, Served, answer};

fn one(name: &str) -> Value {
    json!({"key": KEY_A, "metric": name, "timestamp": NOW, "value": 1})
}

/// A body in chunks of 1,000 bytes.
fn chunked(headers: &str, body: &[u8]) -> Vec<u8> {
    let mut request = format!(
        "POST /flux/metric_data_post HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n{headers}\r\n"
    )
    .into_bytes();
    for chunk in body.chunks(1000) {
        request.extend(format!("{:x}\r\n", chunk.len()).bytes());
        request.extend(chunk);
        request.extend(b"\r\n");
    }
    request.extend(b"0\r\n\r\n");
    request
}

fn batch(metrics: usize) -> Value {
    let metric = |n: usize| {
        json!({"fields": {"free": n, "used_percent": 12.5}, "name": "disk", "timestamp": NOW,
            "tags": {"device": format!("sd{n}"), "host": "h1", "path": "/var"}})
    };
    json!({"metrics": (0..metrics).map(metric).collect::<Vec<_>>()})
}

fn gzip(text: &str) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

#[tokio::test]
async fn telegrafs_largest_batch_comes_packed_and_in_chunks() {
    let flux = Served::with(json!({})).await;
    let body = gzip(&format!("{}\n", batch(1000)));
    let headers = format!(
        "key: {KEY_A}\r\ntelegraf: true\r\nContent-Type: application/json\r\nContent-Encoding: gzip\r\nUser-Agent: Telegraf/1.34.0 Go/1.24\r\n"
    );
    let (status, body) = flux.raw(&chunked(&headers, &body)).await;
    assert_eq!((status, body), (204, Value::Null));
    let points = flux.points();
    assert_eq!(points.len(), 2000);
    assert_eq!(points[2].0, "h1.sd1.-var.disk.free");
}

#[tokio::test]
async fn a_limit_of_metrics_answers_413_and_stores_none() {
    let flux = Served::with(json!({"max_metrics": 450})).await;
    let metrics = |n: usize| {
        let each =
            (0..n).map(|n| json!({"metric": format!("m.{n}"), "timestamp": NOW, "value": n}));
        json!({"key": KEY_A, "metrics": each.collect::<Vec<_>>()})
    };
    let (status, answer) = flux.post(&[], &metrics(451)).await;
    assert_eq!(status, 413);
    assert_eq!(
        answer,
        json!({"code": 413, "message": "451 metrics in one POST, at most 450 are taken"})
    );
    assert_eq!(flux.points().len(), 0);
    assert_eq!(flux.post(&[], &metrics(450)).await.0, 204);
    assert_eq!(flux.points().len(), 450);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sixty_four_clients_with_bodies_that_are_too_long_are_all_answered() {
    let flux = Arc::new(Served::with(json!({})).await);
    let body = Arc::new(format!("{{\"key\": \"{}\"}}", "x".repeat(2_000_000)));
    let mut clients = tokio::task::JoinSet::new();
    for client in 0..64 {
        let (flux, body) = (Arc::clone(&flux), Arc::clone(&body));
        clients.spawn(async move {
            match client % 2 {
                0 => {
                    let target = "/metric_data_post";
                    flux.ask("POST", target, &[], body.as_bytes()).await
                }
                _ => flux.raw(&chunked("", body.as_bytes())).await,
            }
        });
    }
    let expected = json!({"code": 413, "message": "the body is longer than 1048576 bytes"});
    while let Some(given) = clients.join_next().await {
        assert_eq!(given.unwrap(), (413, expected.clone()));
    }
    assert_eq!(flux.post(&[], &one("a")).await.0, 204, "it goes on");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sixty_four_clients_with_long_bodies_are_all_taken_where_that_is_allowed() {
    let flux = Arc::new(Served::with(json!({"max_body": "3MiB"})).await);
    let mut clients = tokio::task::JoinSet::new();
    for client in 0..64 {
        let flux = Arc::clone(&flux);
        clients.spawn(async move {
            let mut body = one(&format!("client.{client}"));
            body["padding"] = "x".repeat(2_000_000).into();
            flux.post(&[], &body).await
        });
    }
    while let Some(given) = clients.join_next().await {
        assert_eq!(given.unwrap(), (204, Value::Null));
    }
    assert_eq!(flux.points().len(), 64);
}

#[tokio::test]
async fn a_bomb_is_not_unpacked() {
    let flux = Served::with(json!({})).await;
    let bomb = gzip(&" ".repeat(100_000_000));
    let headers = [("Content-Encoding", "gzip")];
    let (status, answer) = flux.ask("POST", "/metric_data_post", &headers, &bomb).await;
    assert_eq!(status, 413);
    assert_eq!(
        answer["message"],
        "the unpacked body is longer than 4194304 bytes"
    );
}

#[tokio::test]
async fn a_body_that_does_not_come_is_not_waited_for() {
    let flux = Served::with(json!({"body_timeout": "200ms"})).await;
    let mut slow = TcpStream::connect(flux.address).await.unwrap();
    let head = "POST /metric_data_post HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{";
    slow.write_all(head.as_bytes()).await.unwrap();
    let (status, body) = answer(&mut slow).await;
    assert_eq!(status, 408);
    assert_eq!(
        body,
        json!({"code": 408, "message": "the body took too long"})
    );
}

#[tokio::test]
async fn a_body_that_is_cut_off_stores_nothing_and_costs_nobody_else() {
    let flux = Served::with(json!({})).await;
    let whole = one("a.b").to_string();
    let (part, _) = whole.split_at(whole.len() - 2);
    for request in [
        format!(
            "POST /metric_data_post HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{part}",
            whole.len()
        ),
        format!(
            "POST /metric_data_post HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{part}",
            whole.len()
        ),
    ] {
        let mut client = TcpStream::connect(flux.address).await.unwrap();
        client.write_all(request.as_bytes()).await.unwrap();
        client.shutdown().await.unwrap();
        let mut rest = Vec::new();
        // It may be answered or just closed.
        let _ = tokio::io::AsyncReadExt::read_to_end(&mut client, &mut rest).await;
    }
    assert_eq!(flux.post(&[], &one("other")).await.0, 204);
    assert_eq!(flux.points(), [("other".to_owned(), 1.0, NOW)]);
}

#[tokio::test]
async fn a_stop_does_not_wait_for_silent_clients_and_cuts_nobody_off_who_is_done() {
    let flux = Served::with(json!({})).await;
    let _silent = TcpStream::connect(flux.address).await.unwrap();
    let mut trickling = TcpStream::connect(flux.address).await.unwrap();
    trickling
        .write_all(b"POST /metric_data_post HTTP/1.1\r\n")
        .await
        .unwrap();
    assert_eq!(flux.post(&[], &one("a")).await.0, 204);
    let collected = flux.stop().await;
    assert_eq!(collected.points.lock().len(), 1);
}

#[tokio::test]
async fn the_headers_key_wins_and_gives_the_namespace_to_all_names() {
    let flux = Served::with(json!({})).await;
    let both = json!({"key": KEY_A, "metrics": [
        {"metric": "warehouse-1.a", "timestamp": NOW, "value": 1},
        {"metric": "b", "timestamp": NOW, "value": 2},
    ]});
    assert_eq!(flux.post(&[("key", KEY_B)], &both).await.0, 204);
    let names: Vec<_> = flux.points().into_iter().map(|(name, ..)| name).collect();
    assert_eq!(
        names,
        ["warehouse-1.a", "warehouse-1.b"],
        "also after a name that has it already"
    );
    let bad = flux.post(&[("key", "short")], &both).await;
    assert_eq!(bad, (401, json!({"code": 401, "message": "invalid key"})));
    let target = format!("/metric_data?metric=x&key={KEY_B}&value=1&timestamp={NOW}");
    assert_eq!(flux.ask("GET", &target, &[], b"").await.0, 204);
    assert_eq!(
        flux.points()[0].0,
        "warehouse-1.x",
        "wherever in the query the key stands"
    );
}

#[tokio::test]
async fn fill_is_text_or_a_boolean_everywhere() {
    let flux = Served::with(json!({})).await;
    let old = NOW - 1_000_000;
    for fill in [json!("true"), json!("True"), json!(true)] {
        let single =
            json!({"key": KEY_A, "metric": "a", "timestamp": old, "value": 1, "fill": fill});
        assert_eq!(flux.post(&[], &single).await.0, 204, "{fill}");
        let multi = json!({"key": KEY_A, "metrics": [{"metric": "a", "timestamp": old, "value": 1, "fill": fill}]});
        assert_eq!(flux.post(&[], &multi).await.0, 204, "{fill}");
    }
    for fill in [json!("false"), json!(false), json!(null)] {
        let single =
            json!({"key": KEY_A, "metric": "a", "timestamp": old, "value": 1, "fill": fill});
        assert_eq!(flux.post(&[], &single).await.0, 400, "{fill}");
    }
    assert_eq!(flux.points().len(), 6);
}

#[tokio::test]
async fn later_versions_repairs_can_be_switched_on() {
    let flux = Served::with(json!({"repair_names": true})).await;
    assert_eq!(flux.post(&[], &one("a b..c*d")).await.0, 204);
    assert_eq!(flux.points()[0].0, "a_b.c_d");
}

#[tokio::test]
async fn a_host_may_keep_its_dots() {
    let flux = Served::with(json!({"telegraf_replace_host": false})).await;
    let item = json!({"fields": {"a.b": 1}, "name": "d/x", "tags": {"host": "web.example.com"}, "timestamp": NOW});
    let headers = [("key", KEY_A), ("telegraf", "true")];
    assert_eq!(
        flux.post(&headers, &json!({"metrics": [item]})).await.0,
        204
    );
    assert_eq!(flux.points()[0].0, "web.example.com.d-x.a_b");
}

#[tokio::test]
async fn one_late_metric_does_not_hold_up_its_batch_but_wrong_units_are_refused() {
    let flux = Served::with(json!({})).await;
    let headers = [("key", KEY_A), ("telegraf", "true")];
    let mut body = batch(3);
    body["metrics"][1]["timestamp"] = (NOW - 7200).into();
    let (status, answer) = flux.post(&headers, &body).await;
    assert_eq!(status, 207);
    assert_eq!(
        answer["dropped invalid timestamp metrics"],
        json!(["h1.sd1.-var.disk.free", "h1.sd1.-var.disk.used_percent"])
    );
    assert_eq!(flux.points().len(), 4);
    let mut body = batch(1);
    body["metrics"][0]["timestamp"] = (NOW * 1000).into();
    body["metrics"][0]["fields"]["text"] = "x".into();
    let (status, answer) = flux.post(&headers, &body).await;
    assert_eq!(status, 400, "a setting of telegraf's is wrong: {answer}");
}

#[tokio::test]
async fn what_is_not_there_is_said_so_in_json() {
    let flux = Served::with(json!({})).await;
    let (status, answer) = flux.ask("GET", "/nothing", &[], b"").await;
    assert_eq!((status, &answer["code"]), (404, &json!(404)));
    let (status, answer) = flux.ask("GET", "/metric_data_post", &[], b"").await;
    assert_eq!((status, &answer["code"]), (405, &json!(405)));
    let (status, answer) = flux
        .ask(
            "POST",
            "/metric_data_post",
            &[("Content-Encoding", "br")],
            b"x",
        )
        .await;
    assert_eq!((status, &answer["code"]), (415, &json!(415)));
    for (code, expected) in [(207, 207), (400, 400), (401, 401), (200, 200), (999, 200)] {
        let asked = json!({"status": true, "status_code": code});
        assert_eq!(flux.post(&[], &asked).await.0, expected);
    }
    assert_eq!(
        flux.ask("GET", "/metric_data?status=1&nonsense=2", &[], b"")
            .await
            .0,
        200
    );
}

#[tokio::test]
async fn hostile_json_is_refused_and_nothing_falls_over() {
    let flux = Served::with(json!({})).await;
    let deep = "[".repeat(100_000);
    let hostile = [
        deep.as_str(),
        "{\"key\": 5, \"metric\": \"a\", \"value\": 1}",
        "null",
        "\u{feff}{}",
        "{}",
        "{\"key\": \"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\", \"metrics\": [1, null]}",
        "{\"key\": \"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\", \"metrics\": []}",
        "{\"key\": \"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\", \"metrics\": {\"a\": 1}}",
        "{\"key\": \"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\", \"metric\": [], \"value\": 1}",
        "{\"key\": \"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\", \"metric\": \"a\", \"value\": 1e999}",
        "{\"key\": \"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\", \"metric\": \"a\", \"value\": {}}",
        "{\"key\": \"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\", \"metric\": \"a\", \"value\": 1, \"timestamp\": null}",
        "{\"key\": \"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\", \"metric\": \"a\"}",
    ];
    for body in hostile {
        let (status, answer) = flux
            .ask("POST", "/metric_data_post", &[], body.as_bytes())
            .await;
        let shown: String = body.chars().take(100).collect();
        assert!(matches!(status, 400 | 401), "{shown}: {status} {answer}");
        assert!(answer["message"].is_string(), "{shown}");
    }
    assert_eq!(flux.points(), []);
    tokio::time::timeout(Duration::from_secs(60), flux.stop())
        .await
        .unwrap();
}

#[tokio::test]
async fn a_batch_whose_names_would_grow_without_bound_is_refused() {
    let flux = Served::with(json!({})).await;
    let fields: serde_json::Map<_, _> = (0..50_000)
        .map(|n| (format!("f{n}"), json!(true)))
        .collect();
    let tags = json!({"host": "h".repeat(300_000)});
    let item = json!({"fields": fields, "name": "m", "tags": tags, "timestamp": NOW});
    let headers = [("key", KEY_A), ("telegraf", "true")];
    let (status, answer) = flux.post(&headers, &json!({"metrics": [item]})).await;
    assert_eq!(status, 413, "{answer}");
    assert_eq!(flux.points(), []);
}
