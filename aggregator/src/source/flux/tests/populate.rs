//! `/populate_metric` at the door: who is heard, and what comes out.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::{KEY_A, KEY_B, NOW, PATIENCE, Served};

/// Answers every request as a Graphite that has three points, two of them in one minute, and a gap.
async fn graphite() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let minute = NOW.div_euclid(60) * 60;
    let datapoints = json!([
        [1.0, minute - 180],
        [2.0, minute - 150],
        [null, minute - 120],
        [5.0, minute - 60]
    ]);
    let body = json!([{"target": "x", "datapoints": datapoints}]).to_string();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let mut head = [0; 4096];
            let _ = socket.read(&mut head).await;
            let answer = format!(
                "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
                body.len()
            );
            let _ = socket.write_all(answer.as_bytes()).await;
        }
    });
    address
}

fn wanted(host: &str, more: Value) -> Vec<u8> {
    let mut body = json!({
        "remote_host_type": "graphite", "remote_target": "x", "metric": "shop.orders", "namespace_prefix": "shop", "key": KEY_A,
        "token": null, "user": "None", "password": "None",
        "fetch_resolution_urls": format!("\"['http://{host}/render/?from=-7days&target=x&format=json']\""),
    });
    body.as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    body.to_string().into_bytes()
}

async fn done(flux: &Served, metric: &str) -> Value {
    let since = Instant::now();
    loop {
        let target = format!("/api?populate_status=true&metric={metric}");
        let (status, answer) = flux.ask("GET", &target, &[], b"").await;
        assert_eq!(status, 200, "{answer}");
        let found = answer["data"]["populate"].clone();
        if !["pending", "processing"].contains(&found["status"].as_str().unwrap()) {
            return found;
        }
        assert!(since.elapsed() < PATIENCE, "{found}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_metrics_past_is_fetched_under_the_namespace_of_its_key() {
    let host = graphite().await;
    let flux = Served::with(json!({"populate_hosts": [host]})).await;
    let minute = NOW.div_euclid(60) * 60;
    for (path, key, name) in [
        ("/populate_metric", KEY_A, "shop.orders"),
        ("/flux/populate_metric", KEY_B, "warehouse-1.shop.orders"),
    ] {
        let body = wanted(&host, json!({"key": key}));
        assert_eq!(flux.ask("POST", path, &[], &body).await, (204, Value::Null));
        let found = done(&flux, name).await;
        let expected = json!({"metric": name, "status": "complete", "fetched": 1, "urls": 1, "points": 2, "error": null});
        assert_eq!(found, expected);
        let expected = [
            (name.to_owned(), 1.5, minute - 180),
            (name.to_owned(), 5.0, minute - 60),
        ];
        assert_eq!(flux.points(), expected);
    }
    // Once more: all of it is known.
    let body = wanted(&host, json!({}));
    assert_eq!(
        flux.ask("POST", "/populate_metric", &[], &body).await.0,
        204
    );
    assert_eq!(done(&flux, "shop.orders").await["points"], 0);
    assert_eq!(flux.points(), []);
}

#[tokio::test]
async fn nobody_is_asked_who_is_not_named_nor_for_those_without_a_key() {
    let host = graphite().await;
    let flux = Served::with(json!({"populate_hosts": ["graphite.example"]})).await;
    let allowed = "graphite.example";
    for body in [
        wanted(&host, json!({})),
        wanted("graphite.example@127.0.0.1", json!({})),
        wanted(allowed, json!({"key": "x".repeat(32)})),
        wanted(allowed, json!({"key": "None"})),
        wanted(allowed, json!({"key": null})),
        wanted(allowed, json!({"metric": "a b"})),
        wanted(allowed, json!({"metric": ""})),
        wanted(allowed, json!({"remote_host_type": "influx"})),
        wanted(allowed, json!({"fetch_resolution_urls": "None"})),
        wanted(allowed, json!({"fetch_resolution_urls": []})),
        b"{".to_vec(),
        Vec::new(),
    ] {
        let given = flux.ask("POST", "/populate_metric", &[], &body).await;
        let body = String::from_utf8_lossy(&body);
        assert_eq!(given, (400, Value::Null), "{body}");
    }
    let target = "/api?populate_status=true&metric=shop.orders";
    assert_eq!(flux.ask("GET", target, &[], b"").await.0, 404);
    assert_eq!(flux.ask("GET", "/populate_metric", &[], b"").await.0, 405);
    let long = "x".repeat(2_000_000);
    let given = flux.ask("POST", "/populate_metric", &[], long.as_bytes());
    assert_eq!(given.await.0, 413);
    // Uploads are not there with it.
    assert_eq!(flux.ask("GET", "/upload_data", &[], b"").await.0, 404);
}

#[tokio::test]
async fn a_server_that_is_away_is_named_in_the_status() {
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let host = closed.local_addr().unwrap().to_string();
    drop(closed);
    let flux = Served::with(json!({"populate_hosts": [host]})).await;
    let body = wanted(&host, json!({"token": "of nobody else"}));
    assert_eq!(
        flux.ask("POST", "/populate_metric", &[], &body).await.0,
        204
    );
    let found = done(&flux, "shop.orders").await;
    assert_eq!(found["status"], "failed");
    let error = found["error"].as_str().unwrap();
    assert!(error.starts_with(&host), "{error}");
    assert!(!error.contains("of nobody else"));
}
