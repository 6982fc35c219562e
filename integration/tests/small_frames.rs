//! A peer that sends thousands of metrics, each in a small DATA frame of its own and none waiting for another, as Go's gRPC does.
//!
//! The h2 crate ends such a connection with GOAWAY `too_many_data_frames` unless the server's windows are chosen with care; see
//! `tributary_node::grpc`. The client here writes frames by hand, so that nothing merges or delays them.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test ends at the first surprise"
)]

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use prost::Message;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;
use tonic::{Request, Response, Status, Streaming};
use tributary_aggregator::import::{DedupBounds, Intake, Merge, serve};
use tributary_integration::tier::{Binaries, Tier, wait_for};
use tributary_node::admin::Readiness;
use tributary_node::grpc::{GrpcSettings, STREAM_WINDOW, incoming, server};
use tributary_proto::metricpb::{CounterValue, Metric, Scope, Type, metric};
use tributary_proto::raw::forward_server::{Forward, ForwardServer};

/// No test here waits longer for anything.
const PATIENCE: Duration = Duration::from_secs(120);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_hundred_thousand_metrics_in_small_frames_over_four_connections_all_arrive() {
    let (address, sum) = start_import().await;
    let clients: Vec<_> = (0..4)
        .map(|_| {
            tokio::task::spawn_blocking(move || {
                let mut peer = Peer::connect(address);
                for _ in 0..75_000 {
                    peer.send(&smallest_metric(), false)?;
                }
                peer.finish()
            })
        })
        .collect();
    for client in clients {
        client.await.unwrap().unwrap();
    }
    assert_eq!(sum.load(Ordering::Relaxed), 300_000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_real_proxy_and_its_globals_lose_none_of_them() {
    let tier = Tier::new(Binaries::of(env!("CARGO_BIN_EXE_tributary"))).unwrap();
    let mut globals = Vec::new();
    let mut proxy = tier.proxy("p");
    for number in 1..=3 {
        let global = tier.global(&format!("g{number}")).start().await.unwrap();
        proxy = proxy.destination(&global.grpc);
        globals.push(global);
    }
    let proxy = proxy.start().await.unwrap();
    let address: SocketAddr = proxy.grpc.parse().unwrap();
    let clients: Vec<_> = (0..4)
        .map(|client| {
            tokio::task::spawn_blocking(move || {
                let mut peer = Peer::connect(address);
                for number in 0..75_000 {
                    peer.send(&counter(&format!("small.{client}.{}", number % 100)), false)?;
                }
                peer.finish()
            })
        })
        .collect();
    for client in clients {
        client.await.unwrap().unwrap();
    }
    let mut total = 0.0;
    wait_for("300,000 metrics at the globals", async || {
        let emitted = globals
            .iter()
            .flat_map(|global| global.emitted().unwrap_or_default());
        total = emitted.map(|point| point.value).sum();
        (total >= 300_000.0).then_some(())
    })
    .await
    .unwrap_or_else(|error| panic!("{error}: {total}\n{}", proxy.program.log()));
    assert_eq!(total, 300_000.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_prefix_in_a_frame_of_its_own_does_no_harm_either() {
    let (address, sum) = start_import().await;
    let client = tokio::task::spawn_blocking(move || {
        let mut peer = Peer::connect(address);
        for _ in 0..20_000 {
            peer.send(&smallest_metric(), true)?;
        }
        peer.finish()
    });
    client.await.unwrap().unwrap();
    assert_eq!(sum.load(Ordering::Relaxed), 20_000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_whole_window_of_small_frames_may_wait_while_the_program_is_busy() {
    let (busy, gate) = watch::channel(true);
    let address = start_gated(server(&GrpcSettings::default()), gate).await;
    tokio::task::spawn_blocking(move || {
        let mut peer = Peer::connect(address);
        let frames = peer.fill_window()?;
        assert!(frames > i64::from(STREAM_WINDOW) / 20, "{frames}");
        peer.ping()?;
        busy.send(false).unwrap();
        peer.finish()
    })
    .await
    .unwrap()
    .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_default_windows_the_same_peer_is_cut_off() {
    let (_busy, gate) = watch::channel(true);
    let address = start_gated(Server::builder(), gate).await;
    let cut_off = tokio::task::spawn_blocking(move || {
        let mut peer = Peer::connect(address);
        peer.fill_window()?;
        peer.ping()
    })
    .await
    .unwrap()
    .unwrap_err();
    assert_eq!(cut_off, "GOAWAY too_many_data_frames");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_stream_brought_before_its_connection_broke_is_merged() {
    let (address, sum) = start_import_of(Duration::from_micros(100)).await;
    tokio::task::spawn_blocking(move || {
        let mut peer = Peer::connect(address);
        for _ in 0..2_000 {
            peer.send(&smallest_metric(), false)?;
        }
        peer.ping()
        // And it is gone, while most of that is not merged yet.
    })
    .await
    .unwrap()
    .unwrap();
    let started = Instant::now();
    while sum.load(Ordering::Relaxed) < 2_000 && started.elapsed() < PATIENCE {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(sum.load(Ordering::Relaxed), 2_000);
}

/// Adds up the counters it is given, taking its time for each.
struct Sum(Arc<AtomicU64>, Duration);

impl Merge for Sum {
    fn merge(&mut self, metric: Metric) -> Result<(), &'static str> {
        let Some(metric::Value::Counter(CounterValue { value })) = metric.value else {
            return Err("type");
        };
        if !self.1.is_zero() {
            std::thread::sleep(self.1);
        }
        self.0
            .fetch_add(value.try_into().unwrap(), Ordering::Relaxed);
        Ok(())
    }
}

/// The import server; gives its address and the sum of the counters merged.
async fn start_import() -> (SocketAddr, Arc<AtomicU64>) {
    start_import_of(Duration::ZERO).await
}

async fn start_import_of(pace: Duration) -> (SocketAddr, Arc<AtomicU64>) {
    let sum = Arc::new(AtomicU64::new(0));
    let shared = Arc::clone(&sum);
    let intake = Intake::new(DedupBounds::default(), move || {
        Box::new(Sum(Arc::clone(&shared), pace))
    });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (settings, never) = (GrpcSettings::default(), CancellationToken::new());
    let readiness = Readiness::new();
    tokio::spawn(serve(
        listener,
        intake,
        settings,
        readiness,
        never,
        Duration::ZERO,
    ));
    (address, sum)
}

/// Takes nothing from a stream while it is busy.
struct Gated(watch::Receiver<bool>);

#[tonic::async_trait]
impl Forward for Gated {
    async fn send_metrics(&self, _: Request<Bytes>) -> Result<Response<Bytes>, Status> {
        Err(Status::unimplemented("stream only"))
    }

    async fn send_metrics_v2(
        &self,
        request: Request<Streaming<Bytes>>,
    ) -> Result<Response<Bytes>, Status> {
        let mut gate = self.0.clone();
        gate.wait_for(|busy| !busy).await.unwrap();
        let mut stream = request.into_inner();
        while stream.message().await?.is_some() {}
        Ok(Response::new(Bytes::new()))
    }
}

async fn start_gated(mut server: Server, gate: watch::Receiver<bool>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let serving = server
        .add_service(ForwardServer::new(Gated(gate)))
        .serve_with_incoming(incoming(listener));
    tokio::spawn(serving);
    address
}

/// The shortest metric that means something: nine bytes.
fn smallest_metric() -> Vec<u8> {
    counter("a")
}

fn counter(name: &str) -> Vec<u8> {
    let metric = Metric {
        name: name.into(),
        r#type: Type::Counter.into(),
        scope: Scope::Global.into(),
        value: Some(metric::Value::Counter(CounterValue { value: 1 })),
        ..Metric::default()
    };
    metric.encode_to_vec()
}

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;
const INITIAL_WINDOW_SIZE: u16 = 4;

/// One connection with one `SendMetricsV2` stream, number 1, spoken by hand. It keeps to flow control and to nothing else.
struct Peer {
    socket: TcpStream,
    /// Frames that are not written yet.
    out: Vec<u8>,
    connection_window: i64,
    stream_window: i64,
    initial_window: i64,
    pong: bool,
    answered: bool,
}

impl Peer {
    fn connect(address: SocketAddr) -> Self {
        let socket = TcpStream::connect(address).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.set_write_timeout(Some(PATIENCE)).unwrap();
        let mut peer = Self {
            socket,
            out: b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
            connection_window: 65_535,
            stream_window: 65_535,
            initial_window: 65_535,
            pong: false,
            answered: false,
        };
        peer.frame(SETTINGS, 0, 0, &[]);
        let mut block = Vec::new();
        for (name, value) in [
            (":method", "POST"),
            (":scheme", "http"),
            (":path", "/forwardrpc.Forward/SendMetricsV2"),
            (":authority", "localhost"),
            ("content-type", "application/grpc"),
            ("te", "trailers"),
        ] {
            // HPACK's plainest form: a literal that is not indexed.
            block.push(0);
            for text in [name, value] {
                block.push(u8::try_from(text.len()).unwrap());
                block.extend_from_slice(text.as_bytes());
            }
        }
        peer.frame(HEADERS, END_HEADERS, 1, &block);
        peer
    }

    /// Sends one message, its prefix in a frame of its own or not. Waits only when a window is used up.
    fn send(&mut self, message: &[u8], prefix_apart: bool) -> Result<(), String> {
        let mut framed = vec![0];
        framed.extend_from_slice(&u32::try_from(message.len()).unwrap().to_be_bytes());
        framed.extend_from_slice(message);
        let at = if prefix_apart { 5 } else { framed.len() };
        let (first, second) = framed.split_at(at);
        for part in [first, second].into_iter().filter(|part| !part.is_empty()) {
            let length = i64::try_from(part.len()).unwrap();
            while self.window() < length {
                self.flush()?;
                self.receive()?;
            }
            self.stream_window -= length;
            self.connection_window -= length;
            self.frame(DATA, 0, 1, part);
        }
        if self.out.len() > 64 << 10 {
            self.flush()?;
        }
        Ok(())
    }

    fn window(&self) -> i64 {
        self.stream_window.min(self.connection_window)
    }

    /// Sends smallest metrics until the window is used up, and says how many.
    fn fill_window(&mut self) -> Result<i64, String> {
        let mut sent = 0;
        // A server widens its windows soon after it has answered for the first time: not later than at the second answer.
        while self.window() >= 14 {
            while self.window() >= 14 {
                self.send(&smallest_metric(), false)?;
                sent += 1;
            }
            self.ping()?;
            self.ping()?;
        }
        Ok(sent)
    }

    /// Waits until the server has read everything that was sent before.
    fn ping(&mut self) -> Result<(), String> {
        self.pong = false;
        self.frame(PING, 0, 0, &[7; 8]);
        self.flush()?;
        while !self.pong {
            self.receive()?;
        }
        Ok(())
    }

    /// Ends the stream and waits for the answer.
    fn finish(mut self) -> Result<(), String> {
        self.frame(DATA, END_STREAM, 1, &[]);
        self.flush()?;
        while !self.answered {
            self.receive()?;
        }
        Ok(())
    }

    fn frame(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        self.out.extend_from_slice(&length[1..]);
        self.out.extend_from_slice(&[kind, flags]);
        self.out.extend_from_slice(&stream.to_be_bytes());
        self.out.extend_from_slice(payload);
    }

    fn flush(&mut self) -> Result<(), String> {
        let out = std::mem::take(&mut self.out);
        let Err(error) = self.socket.write_all(&out) else {
            return Ok(());
        };
        if matches!(
            error.kind(),
            ErrorKind::BrokenPipe | ErrorKind::ConnectionReset
        ) {
            // The server has closed the connection; what it said before that tells why.
            loop {
                self.receive()?;
            }
        }
        Err(error.to_string())
    }

    /// Reads one frame and acts on it.
    fn receive(&mut self) -> Result<(), String> {
        let mut head = [0; 9];
        self.read(&mut head)?;
        let [l0, l1, l2, kind, flags, s0, s1, s2, s3] = head;
        let length = u32::from_be_bytes([0, l0, l1, l2]);
        let stream = u32::from_be_bytes([s0, s1, s2, s3]);
        let mut payload = vec![0; usize::try_from(length).unwrap()];
        self.read(&mut payload)?;
        match kind {
            SETTINGS if flags & ACK == 0 => {
                for setting in payload.chunks_exact(6) {
                    if u16::from_be_bytes([setting[0], setting[1]]) == INITIAL_WINDOW_SIZE {
                        let value = i64::from(u32::from_be_bytes(setting[2..].try_into().unwrap()));
                        self.stream_window += value - self.initial_window;
                        self.initial_window = value;
                    }
                }
                self.frame(SETTINGS, ACK, 0, &[]);
            }
            WINDOW_UPDATE => {
                let more = i64::from(u32::from_be_bytes(payload[..4].try_into().unwrap()));
                match stream {
                    0 => self.connection_window += more,
                    _ => self.stream_window += more,
                }
            }
            PING if flags & ACK != 0 => self.pong = true,
            PING => {
                self.frame(PING, ACK, 0, &payload);
                self.flush()?;
            }
            HEADERS if flags & END_STREAM != 0 => self.answered = true,
            RST_STREAM => return Err("RST_STREAM".into()),
            GOAWAY => return Err(format!("GOAWAY {}", String::from_utf8_lossy(&payload[8..]))),
            _ => {}
        }
        Ok(())
    }

    fn read(&mut self, into: &mut [u8]) -> Result<(), String> {
        self.socket
            .read_exact(into)
            .map_err(|error| format!("no further frame: {error}"))
    }
}
