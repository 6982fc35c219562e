//! Requests over a real socket, and what reaches the outlet.

mod config;
mod door;
mod kept;
mod populate;
mod recorded;
mod upload;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::{Clock, Flux, FluxConfig};
use crate::options;
use crate::point::Point;
use crate::receipt::Receipt;
use crate::source::{Outlets, PointIntake};

/// When everything happens, unless a test says otherwise: the recordings' time.
pub(super) const NOW: i64 = 1_795_177_685;
pub(super) const KEY_A: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
pub(super) const KEY_B: &str = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";
pub(super) const KEY_C: &str = "cccccccccccccccccccccccccccccccc";

/// How long a test waits for what has to happen.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

/// What came out: name, value and time of each point, and the receipts that are still held.
#[derive(Default)]
pub(super) struct Collected {
    points: Mutex<Vec<(String, f64, i64)>>,
    receipts: Mutex<Vec<Receipt>>,
    /// Whether receipts are kept, as by a sink that is slow.
    hold: std::sync::atomic::AtomicBool,
}

impl PointIntake for Collected {
    fn pass(&self, points: Vec<Point>, receipt: Receipt) {
        let told = points.iter().map(|point| {
            (
                point.name().to_string(),
                point.value,
                point.timestamp.seconds(),
            )
        });
        self.points.lock().extend(told);
        if self.hold.load(std::sync::atomic::Ordering::Relaxed) {
            self.receipts.lock().push(receipt);
        }
    }
}

/// A Flux that serves.
pub(super) struct Served {
    pub(super) address: SocketAddr,
    pub(super) collected: Arc<Collected>,
    pub(super) now: Arc<std::sync::atomic::AtomicI64>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Served {
    /// With the recordings' keys, and `more` settings.
    pub(super) async fn with(more: Value) -> Self {
        let mut config = json!({
            "address": "127.0.0.1:0",
            "self_api_key": KEY_A,
            "state_dir": "",
            "api_keys": {KEY_B: "warehouse-1", KEY_C: "quota-ns"},
        });
        let Value::Object(more) = more else {
            panic!("settings")
        };
        config.as_object_mut().unwrap().extend(more);
        let config: FluxConfig = options::parse(&config).unwrap();
        assert_eq!(crate::source::registry::Build::problems(&config), [""; 0]);
        let flux = Flux::open(config, "flux").await.unwrap();
        let address = flux.server.listener.local_addr().unwrap();
        let collected = Arc::new(Collected::default());
        let outlets = Outlets {
            points: Arc::clone(&collected) as Arc<dyn PointIntake>,
            samples: Arc::new(|| unreachable!("Flux has no samples")),
            forward: None,
        };
        let stop = CancellationToken::new();
        let now = Arc::new(std::sync::atomic::AtomicI64::new(NOW));
        let clock: Clock = {
            let now = Arc::clone(&now);
            Arc::new(move || now.load(std::sync::atomic::Ordering::Relaxed))
        };
        let task = tokio::spawn(flux.serve(outlets, stop.clone(), clock));
        Self {
            address,
            collected,
            now,
            stop,
            task,
        }
    }

    /// Name, value and time of what came out since the last call.
    pub(super) fn points(&self) -> Vec<(String, f64, i64)> {
        std::mem::take(&mut *self.collected.points.lock())
    }

    /// Asks in a connection of its own.
    pub(super) async fn ask(
        &self,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> (u16, Value) {
        let mut request = format!("{method} {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n");
        for (name, value) in headers {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        if method == "POST" {
            request.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        request.push_str("\r\n");
        self.raw(&[request.as_bytes(), body].concat()).await
    }

    /// Posts JSON.
    pub(super) async fn post(&self, headers: &[(&str, &str)], body: &Value) -> (u16, Value) {
        let body = body.to_string();
        self.ask("POST", "/metric_data_post", headers, body.as_bytes())
            .await
    }

    /// Sends bytes, and reads the answer up to the end.
    pub(super) async fn raw(&self, bytes: &[u8]) -> (u16, Value) {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        answer(&mut stream).await
    }

    /// Stops it, and waits until it has ended.
    pub(super) async fn stop(self) -> Arc<Collected> {
        self.stop.cancel();
        tokio::time::timeout(PATIENCE, self.task)
            .await
            .expect("it ends")
            .unwrap();
        self.collected
    }
}

/// Reads an answer up to its end: its head, and its body.
pub(super) async fn whole(stream: &mut TcpStream) -> (String, String) {
    let mut answer = Vec::new();
    let reading = stream.read_to_end(&mut answer);
    tokio::time::timeout(PATIENCE, reading)
        .await
        .expect("an answer")
        .unwrap();
    let answer = String::from_utf8(answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").expect("a header");
    (head.to_ascii_lowercase(), body.to_owned())
}

/// Reads an answer up to its end: its status and its JSON, or its plain text.
pub(super) async fn answer(stream: &mut TcpStream) -> (u16, Value) {
    let (head, body) = whole(stream).await;
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let body = match body.as_str() {
        "" => Value::Null,
        text if head.contains("\r\ncontent-type: text/plain") => Value::from(text),
        json => serde_json::from_str(json).expect(json),
    };
    (status, body)
}
