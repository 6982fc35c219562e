//! The admin server as its clients see it, over real sockets.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use axum::routing::post;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinHandle;

use pprof::protos::Message as _;

use super::*;

struct Server {
    address: SocketAddr,
    stop: CancellationToken,
    task: JoinHandle<()>,
    readiness: Readiness,
    recorder: Recorder,
}

async fn start(change: impl FnOnce(&mut Admin)) -> Server {
    let (readiness, recorder) = (Readiness::new(), Recorder::new("veneur_proxy."));
    let mut admin = Admin {
        name: "tributary-proxy",
        version: "1.2.3",
        config: Arc::new(ArcSwap::from_pointee(
            json!({"interval": "10s", "sentry_dsn": "REDACTED"}),
        )),
        readiness: readiness.clone(),
        recorder: recorder.clone(),
        profiling: false,
        limits: Limits::default(),
        tls: None,
    };
    change(&mut admin);
    let listener = bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    let stop = CancellationToken::new();
    let echo = post(|body: Bytes| async move { format!("{} bytes\n", body.len()) });
    let task =
        tokio::spawn(admin.serve(listener, Router::new().route("/import", echo), stop.clone()));
    Server {
        address,
        stop,
        task,
        readiness,
        recorder,
    }
}

fn client(h2: bool) -> Client<HttpConnector, Full<Bytes>> {
    Client::builder(TokioExecutor::new())
        .http2_only(h2)
        .build_http()
}

impl Server {
    async fn get(&self, path: &str) -> (u16, String) {
        self.ask(&client(false), "GET", path, Bytes::new()).await
    }

    async fn ask(
        &self,
        client: &Client<HttpConnector, Full<Bytes>>,
        method: &str,
        path: &str,
        body: Bytes,
    ) -> (u16, String) {
        let request = http::Request::builder()
            .method(method)
            .uri(format!("http://{}{path}", self.address));
        let answer = client
            .request(request.body(Full::new(body)).expect("a request"))
            .await
            .expect("an answer");
        let status = answer.status().as_u16();
        let body = answer
            .into_body()
            .collect()
            .await
            .expect("a body")
            .to_bytes();
        (status, String::from_utf8_lossy(&body).into_owned())
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.expect("accepted")
    }
}

/// Everything until the server closes; fails when it does not within ten seconds.
async fn until_closed(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    let read = tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut answer)).await;
    let _ = read.expect("the server closes the connection in time");
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn it_says_that_it_lives_and_what_it_is() {
    let server = start(|_| {}).await;
    assert_eq!(server.get("/healthcheck").await, (200, "ok\n".to_owned()));
    assert_eq!(
        server.get("/version").await,
        (200, "tributary-proxy 1.2.3\n".to_owned())
    );
    assert_eq!(server.get("/nothing").await.0, 404);
    assert_eq!(
        server
            .ask(&client(false), "POST", "/healthcheck", Bytes::new())
            .await
            .0,
        405
    );
}

#[tokio::test]
async fn readiness_follows_the_conditions_and_the_leaving() {
    let server = start(|_| {}).await;
    let ring = server.readiness.condition("ring", "no destination yet");
    assert_eq!(
        server.get("/ready").await,
        (503, "ring: no destination yet\n".to_owned())
    );
    ring.holds();
    assert_eq!(server.get("/ready").await, (200, "ok\n".to_owned()));
    server.readiness.set_draining();
    assert_eq!(server.get("/ready").await, (503, "draining\n".to_owned()));
    assert_eq!(
        server.get("/healthcheck").await.0,
        200,
        "it lives while it leaves"
    );
}

#[tokio::test]
async fn settings_are_shown_as_json_and_yaml() {
    let server = start(|_| {}).await;
    for path in ["/config", "/config/json"] {
        let (status, text) = server.get(path).await;
        assert_eq!(status, 200);
        let shown: Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(shown, json!({"interval": "10s", "sentry_dsn": "REDACTED"}));
    }
    assert_eq!(
        server.get("/config/yaml").await,
        (200, "interval: 10s\nsentry_dsn: REDACTED\n".to_owned())
    );
}

#[tokio::test]
async fn self_metrics_are_shown_as_prometheus_text() {
    let server = start(|_| {}).await;
    metrics::with_local_recorder(&server.recorder, || {
        metrics::counter!("import.total").increment(5)
    });
    let (status, text) = server.get("/metrics").await;
    assert_eq!(status, 200);
    assert!(text.contains("\nveneur_proxy_import_total 5\n"), "{text}");
}

#[tokio::test]
async fn a_programs_own_routes_are_served_over_both_protocols() {
    let server = start(|_| {}).await;
    for h2 in [false, true] {
        let answer = server
            .ask(
                &client(h2),
                "POST",
                "/import",
                Bytes::from(vec![7; 3_000_000]),
            )
            .await;
        assert_eq!(answer, (200, "3000000 bytes\n".to_owned()), "HTTP/2: {h2}");
    }
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused_whether_it_says_so_or_not() {
    let server = start(|admin| admin.limits.body = Size::bytes(1000)).await;
    let (status, text) = server
        .ask(&client(true), "POST", "/import", Bytes::from(vec![7; 1001]))
        .await;
    assert_eq!(
        (status, text.as_str()),
        (413, "the body is longer than 1000 bytes\n")
    );
    assert_eq!(
        server
            .ask(&client(true), "POST", "/import", Bytes::from(vec![7; 1000]))
            .await
            .0,
        200
    );

    let mut stream = server.connect().await;
    let head = "POST /import HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n";
    stream.write_all(head.as_bytes()).await.expect("sent");
    stream
        .write_all(format!("7d0\r\n{}\r\n", "x".repeat(2000)).as_bytes())
        .await
        .expect("sent");
    let answer = until_closed(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
}

#[tokio::test]
async fn a_body_that_trickles_is_refused() {
    let server = start(|admin| admin.limits.body_time = Duration::from_millis(200)).await;
    let mut stream = server.connect().await;
    let head =
        "POST /import HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\nConnection: close\r\n\r\nhalf";
    stream.write_all(head.as_bytes()).await.expect("sent");
    let answer = until_closed(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
}

#[tokio::test]
async fn clients_that_say_nothing_or_half_a_header_are_let_go() {
    let server = start(|admin| {
        admin.limits.header_time = Duration::from_millis(200);
        admin.limits.idle = Duration::from_millis(300);
    })
    .await;
    for beginning in [
        "",
        "G",
        "GET /healthcheck HTTP/1.1\r\nHost:",
        "PRI * HTTP/2.0\r\n",
    ] {
        let began = Instant::now();
        let mut stream = server.connect().await;
        stream.write_all(beginning.as_bytes()).await.expect("sent");
        until_closed(&mut stream).await;
        assert!(began.elapsed() < Duration::from_secs(5), "{beginning:?}");
    }
    assert_eq!(server.get("/healthcheck").await.0, 200);
}

#[tokio::test]
async fn a_header_without_end_is_refused() {
    let server = start(|_| {}).await;
    let mut stream = server.connect().await;
    let _ = stream
        .write_all(format!("GET / HTTP/1.1\r\nX: {}", "x".repeat(100_000)).as_bytes())
        .await;
    let answer = until_closed(&mut stream).await;
    assert!(
        answer.is_empty() || answer.starts_with("HTTP/1.1 431 "),
        "{answer}"
    );
}

#[tokio::test]
async fn more_connections_than_places_wait_for_one() {
    let server = start(|admin| {
        admin.limits.connections = 1;
        admin.limits.idle = Duration::from_millis(300);
    })
    .await;
    let silent = server.connect().await;
    assert_eq!(
        server.get("/healthcheck").await.0,
        200,
        "served once the silent one was let go"
    );
    drop(silent);
}

#[tokio::test]
async fn a_request_under_way_is_answered_before_the_server_ends() {
    let server = start(|_| {}).await;
    let mut stream = server.connect().await;
    let head =
        "POST /import HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\nExpect: 100-continue\r\n\r\n";
    stream.write_all(head.as_bytes()).await.expect("sent");
    let mut going = [0u8; 25];
    stream
        .read_exact(&mut going)
        .await
        .expect("100 Continue: the handler reads");
    server.stop.cancel();
    stream.write_all(b"0123456789").await.expect("sent");
    let answer = until_closed(&mut stream).await;
    assert!(answer.contains("10 bytes"), "{answer}");
    tokio::time::timeout(Duration::from_secs(10), server.task)
        .await
        .expect("in time")
        .expect("no panic");
    assert!(
        TcpStream::connect(server.address).await.is_err(),
        "nobody listens any more"
    );
}

#[tokio::test]
async fn profiles_are_for_those_who_enabled_them() {
    let off = start(|_| {}).await;
    assert_eq!(off.get("/debug/pprof/profile?seconds=1").await.0, 404);

    let on = start(|admin| admin.profiling = true).await;
    assert_eq!(on.get("/debug/pprof/profile?seconds=61").await.0, 400);
    assert_eq!(on.get("/debug/pprof/profile?seconds=0").await.0, 400);
    assert_eq!(on.get("/debug/pprof/profile?seconds=x").await.0, 400);
    assert_eq!(on.get("/debug/pprof/profile?format=text").await.0, 400);
    let busy = Busy::start();
    let (first, second) = tokio::join!(
        on.get("/debug/pprof/profile?seconds=1&format=flamegraph"),
        async {
            tokio::time::sleep(Duration::from_millis(300)).await;
            on.get("/debug/pprof/profile?seconds=1").await
        }
    );
    assert_eq!(second.0, 409, "one at a time: {}", second.1);
    assert_eq!(first.0, 200, "{}", first.1);
    assert!(
        first.1.contains("<svg") && first.1.contains("burn"),
        "{}",
        first.1
    );

    let answer = client(false)
        .get(
            format!("http://{}/debug/pprof/profile?seconds=1", on.address)
                .parse()
                .unwrap(),
        )
        .await
        .expect("an answer");
    assert_eq!(answer.headers()["content-type"], "application/octet-stream");
    let body = answer
        .into_body()
        .collect()
        .await
        .expect("a body")
        .to_bytes();
    drop(busy);
    let profile = pprof::protos::Profile::decode(&*body).expect("pprof's format");
    let text = |index: i64| profile.string_table[index as usize].as_str();
    let types: Vec<_> = profile
        .sample_type
        .iter()
        .map(|kind| (text(kind.ty), text(kind.unit)))
        .collect();
    assert_eq!(types, [("samples", "count"), ("cpu", "nanoseconds")]);
    assert!(!profile.sample.is_empty());
    assert!(
        profile
            .sample
            .iter()
            .all(|sample| sample.value.len() == 2 && !sample.location_id.is_empty())
    );
    let mut functions = profile.function.iter().map(|function| text(function.name));
    assert!(
        functions.any(|name| name.contains("burn")),
        "what the process is busy with is not in it"
    );
}

/// Threads that do nothing but use the processor, until it is dropped.
struct Busy(Arc<std::sync::atomic::AtomicBool>);

impl Busy {
    fn start() -> Self {
        let go = Arc::new(std::sync::atomic::AtomicBool::new(true));
        for _ in 0..2 {
            let go = Arc::clone(&go);
            std::thread::spawn(move || burn(&go));
        }
        Self(go)
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.store(false, std::sync::atomic::Ordering::Relaxed);
    }
}

#[inline(never)]
fn burn(go: &std::sync::atomic::AtomicBool) {
    let mut number = 1_u64;
    while go.load(std::sync::atomic::Ordering::Relaxed) {
        number = std::hint::black_box(number.wrapping_mul(3));
    }
}

#[tokio::test]
async fn memory_is_told_as_numbers() {
    let server = start(|_| {}).await;
    let (status, body) = server.get("/api/memory").await;
    assert_eq!(status, 200, "{body}");
    let memory: Value = serde_json::from_str(&body).expect("JSON");
    assert!(memory["resident"].as_u64() > Some(1 << 20), "{memory}");
    assert!(
        memory["peak_resident"].as_u64() >= memory["resident"].as_u64(),
        "{memory}"
    );
}
