use std::collections::HashMap;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tributary_node::tls::ClientTls;

use super::super::upload::Work;
use super::worker::Progress;
use super::*;

const NOW: i64 = 1_700_000_030;

/// Answers each path with a status and a body, and notes what was asked.
async fn server(
    answers: &'static [(&'static str, &'static str, &'static str)],
) -> (String, &'static Mutex<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let asked: &'static Mutex<Vec<String>> = Box::leak(Box::default());
    tokio::spawn(async move {
        loop {
            let (mut socket, _) = listener.accept().await.unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                if socket.read(&mut byte).await.unwrap_or(0) == 0 {
                    break;
                }
                head.push(byte[0]);
            }
            let head = String::from_utf8(head).unwrap();
            asked.lock().push(head.clone());
            let answer = answers
                .iter()
                .find(|(path, ..)| head.starts_with(&format!("GET {path}")));
            let (_, status, body) = answer.copied().unwrap_or(("", "404 Not Found", ""));
            let text = format!(
                "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
                body.len()
            );
            let _ = socket.write_all(text.as_bytes()).await;
        }
    });
    (address, asked)
}

#[derive(Default)]
struct Kept(Mutex<HashMap<String, Vec<(i64, f64)>>>);

#[async_trait]
impl Work for Kept {
    async fn last(&self, metric: &str) -> Result<Option<i64>, String> {
        Ok(self
            .0
            .lock()
            .get(metric)
            .and_then(|points| points.last())
            .map(|(time, _)| *time))
    }

    async fn store(&self, metric: &str, points: &[(i64, f64)]) -> Result<(), String> {
        self.0
            .lock()
            .entry(metric.to_owned())
            .or_default()
            .extend_from_slice(points);
        Ok(())
    }
}

async fn populate(kept: &Kept, address: &str, kind: &str, urls: &[&str]) -> Progress {
    let urls: Vec<_> = urls
        .iter()
        .map(|path| format!("http://{address}{path}"))
        .collect();
    let body = json!({
        "remote_host_type": kind, "remote_target": "a", "metric": "vista.a", "namespace_prefix": "vista", "key": "k",
        "token": "t0ken", "user": "None", "password": "None", "fetch_resolution_urls": urls,
    });
    let hosts = Hosts::new(&[address.to_owned()]).unwrap();
    let request = Request::parse(body.to_string().as_bytes(), &hosts).unwrap();
    let worker = Worker::new(&ClientTls::default()).unwrap();
    assert!(worker.add(request));
    let stop = CancellationToken::new();
    let done = async {
        loop {
            let progress = worker.progress("vista.a").unwrap();
            if !["pending", "processing"].contains(&progress.status) {
                return progress;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::select! {
        () = worker.run(kept, || NOW, &stop) => panic!("it runs until it is stopped"),
        progress = done => progress,
    }
}

#[tokio::test]
async fn graphites_past_is_fetched_once_and_then_only_what_is_new() {
    let (address, asked) = server(&[
        ("/old", "200 OK", r#"[{"target": "a", "datapoints": [[1, 1699999020], [3, 1699999050], [null, 1699999080]]}]"#),
        ("/new", "200 OK", r#"[{"target": "a", "datapoints": [[5, 1699999800], [7, 1700000029]]}]"#),
    ])
    .await;
    let kept = Kept::default();
    let progress = populate(&kept, &address, "graphite", &["/old", "/new"]).await;
    assert_eq!(
        (progress.status, progress.fetched, progress.points),
        ("complete", 2, 2)
    );
    assert_eq!(
        kept.0.lock()["vista.a"],
        [(1_699_999_020, 2.0), (1_699_999_800, 5.0)]
    );
    assert!(
        asked.lock()[0]
            .to_ascii_lowercase()
            .contains("authorization: bearer t0ken")
    );
    let progress = populate(&kept, &address, "graphite", &["/old", "/new"]).await;
    assert_eq!((progress.status, progress.points), ("complete", 0));
}

#[tokio::test]
async fn prometheus_is_asked_for_what_is_missing_alone() {
    let (address, asked) = server(&[(
        "/api",
        "200 OK",
        r#"{"status":"success","data":{"result":[{"metric":{},"values":[[1699999900.1,"4"],[1699999965,"6"]]}]}}"#,
    )])
    .await;
    let kept = Kept::default();
    kept.store("vista.a", &[(1_699_999_860, 1.0)])
        .await
        .unwrap();
    let progress = populate(
        &kept,
        &address,
        "prometheus",
        &["/api/v1/query?query=up[15d]"],
    )
    .await;
    assert_eq!((progress.status, progress.points), ("complete", 1));
    assert_eq!(kept.0.lock()["vista.a"].last(), Some(&(1_699_999_920, 6.0)));
    assert!(asked.lock()[0].contains("up[4m]"), "{:?}", asked.lock());
}

#[tokio::test]
async fn what_does_not_answer_right_is_told_and_leads_nowhere() {
    let (address, asked) = server(&[
        (
            "/moved",
            "302 Found\r\nLocation: http://169.254.169.254/",
            "",
        ),
        ("/html", "200 OK", "<html>"),
        ("/good", "200 OK", r#"[{"datapoints": [[1, 1699999020]]}]"#),
    ])
    .await;
    let kept = Kept::default();
    let progress = populate(&kept, &address, "graphite", &["/moved", "/html", "/none"]).await;
    assert_eq!(progress.status, "failed");
    assert_eq!(asked.lock().len(), 3);
    assert!(progress.error.unwrap().contains("404"));
    let progress = populate(&kept, &address, "graphite", &["/none", "/good"]).await;
    assert_eq!((progress.status, progress.points), ("complete", 1));
    // Nobody listens there any more.
    let gone = TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap();
    let progress = populate(&Kept::default(), &gone.to_string(), "graphite", &["/x"]).await;
    assert_eq!(progress.status, "failed");
}

#[tokio::test]
async fn a_request_that_waits_gives_way_to_a_newer_one_for_its_metric() {
    let (address, asked) =
        server(&[("/good", "200 OK", r#"[{"datapoints": [[1, 1699999020]]}]"#)]).await;
    let hosts = Hosts::new(std::slice::from_ref(&address)).unwrap();
    let worker = Worker::new(&ClientTls::default()).unwrap();
    for paths in [&["/old", "/older"][..], &["/good"]] {
        let urls: Vec<_> = paths
            .iter()
            .map(|path| format!("http://{address}{path}"))
            .collect();
        let body = json!({"remote_host_type": "graphite", "metric": "a", "key": "k", "fetch_resolution_urls": urls});
        let request = Request::parse(body.to_string().as_bytes(), &hosts).unwrap();
        assert!(worker.add(request));
    }
    let (kept, stop) = (Kept::default(), CancellationToken::new());
    let done = async {
        while worker.progress("a").unwrap().status != "complete" {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::select! {
        () = worker.run(&kept, || NOW, &stop) => panic!("it runs until it is stopped"),
        () = done => {}
    }
    let progress = worker.progress("a").unwrap();
    assert_eq!(
        (progress.urls, progress.fetched, progress.points),
        (1, 1, 1)
    );
    assert_eq!(asked.lock().len(), 1);
}
