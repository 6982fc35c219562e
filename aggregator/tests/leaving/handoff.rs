//! A global leaves in the middle of an interval, and its metrics find their new owner.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use nix::sys::signal::Signal;
use prost::Message;
use serde_json::json;
use tempfile::TempDir;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Response, Status, Streaming};
use tributary_aggregator::flush::{Aggregates, FlushSettings, Percentiles, Role, emit};
use tributary_aggregator::source;
use tributary_aggregator::table::{Table, TableConfig};
use tributary_node::grpc::{GrpcSettings, incoming, server};
use tributary_proto::ack;
use tributary_proto::forwardrpc::MetricList;
use tributary_proto::metricpb::{Metric, Type};
use tributary_proto::raw::forward_client::ForwardClient;
use tributary_proto::raw::forward_server::{Forward, ForwardServer};

use crate::program::{Emitted, Program};

fn global(dir: &TempDir, name: &str, handoff: &str) -> Program {
    let config = json!({
        "statsd_listen_addresses": ["udp://127.0.0.1:0"],
        "grpc_address": "127.0.0.1:0",
        "handoff_address": handoff,
        "percentiles": [0.5, 0.99],
        "aggregates": ["min", "max", "count", "sum"],
        "shutdown_timeout": "20s",
    });
    Program::start(dir, name, config)
}

fn settings(role: Role) -> FlushSettings {
    FlushSettings {
        role,
        percentiles: Percentiles::new(&[0.5, 0.99]).unwrap(),
        aggregates: ["min", "max", "count", "sum"]
            .iter()
            .map(|name| serde_json::from_value(json!(name)).unwrap())
            .collect::<Aggregates>(),
        distributions: false,
        timestamp: 1,
    }
}

/// What an agent forwards that has seen these lines of DogStatsD.
fn forwarded(lines: &[String]) -> Vec<Metric> {
    let table = Table::new(TableConfig::default());
    let mut writer = table.writer();
    for line in lines {
        let taken = source::dogstatsd::parse(line.as_bytes(), |item| {
            if let source::dogstatsd::Item::Sample(sample) = item {
                writer.sample(&sample).unwrap();
            }
        });
        taken.unwrap();
    }
    emit(table.take(), &settings(Role::Local)).forward
}

/// An agent's metrics of every kind that is forwarded.
fn of_agent(agent: u32) -> Vec<Metric> {
    let lines = (0..40).flat_map(|series| {
        let tags = format!("#veneurglobalonly,series:{series}");
        let mixed = format!("#series:{series}");
        [
            format!("c{series}:{}|c|{tags}", agent + series),
            format!("g{series}:{agent}|g|{tags}"),
            format!("h{series}:{}|h|{mixed}", agent * 10 + series),
            format!("t{series}:{}|ms|{tags}", agent * 10 + series),
            format!("s{series}:member-{agent}|s|{mixed}"),
            format!("s{series}:member-of-all|s|{mixed}"),
        ]
    });
    forwarded(&lines.collect::<Vec<_>>())
}

/// What a global makes of metrics: name and tags, value.
fn expected(metrics: &[Metric]) -> BTreeMap<String, f64> {
    let table = Table::new(TableConfig::default());
    let mut writer = table.writer();
    for metric in metrics {
        writer.import(metric.clone()).unwrap();
    }
    let points = emit(table.take(), &settings(Role::Global)).points;
    let named = points.iter().map(|point| {
        let tags: Vec<_> = point.tags.iter().collect();
        (format!("{} {tags:?}", point.name()), point.value)
    });
    named.collect()
}

/// As [`expected`]; that a series was emitted twice ends the test.
fn by_name(points: &[Emitted]) -> BTreeMap<String, f64> {
    let mut named = BTreeMap::new();
    for point in points {
        let name = format!("{} {:?}", point.name, point.tags);
        assert_eq!(named.insert(name, point.value), None, "twice: {point:?}");
    }
    named
}

fn client(address: &str) -> ForwardClient<Channel> {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
    ForwardClient::new(endpoint.connect_lazy())
}

fn list(metrics: Vec<Metric>) -> Bytes {
    MetricList { metrics }.encode_to_vec().into()
}

async fn send(address: &str, metrics: Vec<Metric>) {
    client(address).send_metrics(list(metrics)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_new_owner_emits_the_open_interval_of_the_one_that_left() {
    let dir = tempfile::tempdir().unwrap();
    let mut heir = global(&dir, "heir", "");
    let mut leaving = global(&dir, "leaving", &heir.grpc());
    send(&leaving.grpc(), of_agent(1)).await;
    send(&leaving.grpc(), of_agent(2)).await;
    send(&heir.grpc(), of_agent(3)).await;
    // What belongs to the host of the leaving one is emitted there.
    let own = UdpSocket::bind("127.0.0.1:0").unwrap();
    for line in [
        "own:3|c",
        "local:7|h|#veneurlocalonly",
        "both:5|h",
        "_sc|check|1",
    ] {
        own.send_to(line.as_bytes(), leaving.statsd()).unwrap();
    }
    leaving.stop();
    let log = leaving.log();
    assert!(log.contains("is with its new owners"), "{log}");
    let left = by_name(&leaving.points());
    let names: Vec<&str> = left.keys().map(String::as_str).collect();
    let own = [
        "both.count []",
        "both.max []",
        "both.min []",
        "both.sum []",
        "check []",
        "local.50percentile []",
        "local.99percentile []",
        "local.count []",
        "local.max []",
        "local.min []",
        "local.sum []",
        "own []",
    ];
    assert_eq!(names, own);

    heir.stop();
    let both = forwarded(&["both:5|h".to_owned()]);
    // What the new owner has itself is newer than any gauge that was handed over.
    let newer = of_agent(3)
        .into_iter()
        .filter(|metric| metric.r#type() == Type::Gauge);
    let all = [of_agent(3), of_agent(1), of_agent(2), both, newer.collect()].concat();
    assert_eq!(by_name(&heir.points()), expected(&all));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_that_is_known_only_later_still_gets_it() {
    let dir = tempfile::tempdir().unwrap();
    let address = free_address();
    let leaving = global(&dir, "leaving", &address);
    send(&leaving.grpc(), of_agent(1)).await;
    leaving.signal(Signal::SIGTERM);
    leaving.until_logged("stopping");
    // By then it has found nobody.
    tokio::time::sleep(Duration::from_millis(500)).await;
    let config = json!({
        "grpc_address": address,
        "percentiles": [0.5, 0.99],
        "aggregates": ["min", "max", "count", "sum"],
    });
    let mut heir = Program::start(&dir, "heir", config);
    let mut leaving = leaving;
    assert!(leaving.ended().success(), "{}", leaving.log());
    assert_eq!(leaving.points(), []);
    heir.stop();
    assert_eq!(by_name(&heir.points()), expected(&of_agent(1)));
}

fn free_address() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_takes_is_emitted_where_it_is_and_nothing_more_is_let_in() {
    let dir = tempfile::tempdir().unwrap();
    let nobody = free_address();
    let mut leaving = Program::start(
        &dir,
        "leaving",
        json!({
            "grpc_address": "127.0.0.1:0",
            "handoff_address": nobody,
            "percentiles": [0.5, 0.99],
            "aggregates": ["min", "max", "count", "sum"],
            "shutdown_timeout": "4s",
        }),
    );
    let grpc = leaving.grpc();
    send(&grpc, of_agent(1)).await;
    // An agent that goes on meanwhile: what it has an answer for is emitted, and it is told of all else.
    let going = Arc::new(AtomicBool::new(true));
    let still_going = Arc::clone(&going);
    let late = tokio::spawn(async move {
        let mut client = client(&grpc);
        let (mut taken, mut refused) = (0, 0);
        while still_going.load(Ordering::SeqCst) {
            let one = forwarded(&["late:1|c|#veneurglobalonly".to_owned()]);
            match client.send_metrics(list(one)).await {
                Ok(_) => {
                    assert_eq!(refused, 0, "it closed before");
                    taken += 1;
                }
                Err(status) if status.message().starts_with("leaving") => {
                    assert_eq!(status.code(), Code::Unavailable);
                    assert!(ack::read_turned_away(status.metadata()));
                    refused += 1;
                }
                // It is gone.
                Err(_) => {}
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        (taken, refused)
    });
    tokio::time::sleep(Duration::from_millis(100)).await;
    let took = tokio::task::block_in_place(|| leaving.stop());
    assert!(took < Duration::from_secs(15), "{took:?}");
    going.store(false, Ordering::SeqCst);
    let (taken, refused) = late.await.unwrap();
    assert!(taken > 0 && refused > 10, "{taken} {refused}");
    let mut points = by_name(&leaving.points());
    assert_eq!(points.remove("late []"), Some(f64::from(taken)));
    assert_eq!(points, expected(&of_agent(1)));
    let log = leaving.log();
    assert!(log.contains("could be handed off"), "{log}");
}

/// A proxy that sends everything back to where it came from for a while, as long as nobody told it better.
struct Detour {
    back: ForwardClient<Channel>,
    back_times: AtomicU64,
    on: ForwardClient<Channel>,
}

#[tonic::async_trait]
impl Forward for Detour {
    async fn send_metrics(&self, request: Request<Bytes>) -> Result<Response<Bytes>, Status> {
        if ack::read_flushed_at(request.metadata()).is_some() {
            // At that time the one that leaves was the owner.
            return Err(Status::invalid_argument("handed off as of another time"));
        }
        let body = request.into_inner();
        let probe = body.is_empty();
        let times = self.back_times.load(Ordering::SeqCst);
        if times > 0 {
            if !probe {
                self.back_times.store(times - 1, Ordering::SeqCst);
            }
            return self.back.clone().send_metrics(body).await;
        }
        self.on.clone().send_metrics(body).await
    }

    async fn send_metrics_v2(
        &self,
        _: Request<Streaming<Bytes>>,
    ) -> Result<Response<Bytes>, Status> {
        Err(Status::unimplemented("no streams"))
    }
}

impl Detour {
    async fn start(
        listener: tokio::net::TcpListener,
        back: &Program,
        times: u64,
        on: &str,
    ) -> Arc<Self> {
        let detour = Arc::new(Self {
            back: client(&back.grpc()),
            back_times: AtomicU64::new(times),
            on: client(on),
        });
        let serving = server(&GrpcSettings::default())
            .add_service(ForwardServer::from_arc(Arc::clone(&detour)))
            .serve_with_incoming(incoming(listener));
        tokio::spawn(serving);
        detour
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_that_a_proxy_sends_back_go_out_again_until_another_owner_has_them() {
    let dir = tempfile::tempdir().unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = listener.local_addr().unwrap().to_string();
    let mut heir = global(&dir, "heir", "");
    let mut leaving = global(&dir, "leaving", &proxy);
    let detour = Detour::start(listener, &leaving, 3, &heir.grpc()).await;
    send(&leaving.grpc(), of_agent(1)).await;
    tokio::task::block_in_place(|| leaving.stop());
    assert_eq!(detour.back_times.load(Ordering::SeqCst), 0);
    assert_eq!(leaving.points(), [], "{}", leaving.log());
    tokio::task::block_in_place(|| heir.stop());
    assert_eq!(by_name(&heir.points()), expected(&of_agent(1)));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_only_owner_that_there_is_emits_what_it_has() {
    let dir = tempfile::tempdir().unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = listener.local_addr().unwrap().to_string();
    let mut leaving = Program::start(
        &dir,
        "leaving",
        json!({
            "grpc_address": "127.0.0.1:0",
            "handoff_address": proxy,
            "percentiles": [0.5, 0.99],
            "aggregates": ["min", "max", "count", "sum"],
            "shutdown_timeout": "2s",
        }),
    );
    let detour = Detour::start(listener, &leaving, u64::MAX, &free_address()).await;
    send(&leaving.grpc(), of_agent(1)).await;
    tokio::task::block_in_place(|| leaving.stop());
    assert!(detour.back_times.load(Ordering::SeqCst) < u64::MAX - 1);
    assert_eq!(
        by_name(&leaving.points()),
        expected(&of_agent(1)),
        "{}",
        leaving.log()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_have_been_taken_is_not_emitted_a_second_time() {
    let dir = tempfile::tempdir().unwrap();
    // Accepts connections and never answers.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let stalled = Stalled::start().await;
    for (name, address) in [
        ("silent", silent.local_addr().unwrap().to_string()),
        ("stalled", stalled),
    ] {
        let mut leaving = Program::start(
            &dir,
            name,
            json!({
                "statsd_listen_addresses": ["udp://127.0.0.1:0"],
                "grpc_address": "127.0.0.1:0",
                "handoff_address": address,
                "shutdown_timeout": "3s",
            }),
        );
        send(&leaving.grpc(), of_agent(1)).await;
        let own = UdpSocket::bind("127.0.0.1:0").unwrap();
        own.send_to(b"own:3|c", leaving.statsd()).unwrap();
        let took = tokio::task::block_in_place(|| leaving.stop());
        assert!(took < Duration::from_secs(15), "{took:?}");
        let points = by_name(&leaving.points());
        let log = leaving.log();
        assert_eq!(points.get("own []"), Some(&3.0), "{log}");
        assert_eq!(points.len(), 1, "{name}: {points:?}");
        assert!(log.contains("lost=200"), "{name}: {log}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_never_left_the_host_is_emitted_even_if_it_was_about_to() {
    let dir = tempfile::tempdir().unwrap();
    // A host that lets nobody connect, without saying so.
    let full = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    full.bind(&"127.0.0.1:0".parse::<SocketAddr>().unwrap().into())
        .unwrap();
    full.listen(0).unwrap();
    let address = full.local_addr().unwrap().as_socket().unwrap();
    let mut waiting = Vec::new();
    while let Ok(stream) = TcpStream::connect_timeout(&address, Duration::from_millis(200)) {
        waiting.push(stream);
    }
    let mut leaving = Program::start(
        &dir,
        "leaving",
        json!({
            "grpc_address": "127.0.0.1:0",
            "handoff_address": address.to_string(),
            "percentiles": [0.5, 0.99],
            "aggregates": ["min", "max", "count", "sum"],
            "shutdown_timeout": "2s",
        }),
    );
    send(&leaving.grpc(), of_agent(1)).await;
    tokio::task::block_in_place(|| leaving.stop());
    let log = leaving.log();
    assert!(log.contains("lost=0"), "{log}");
    assert_eq!(by_name(&leaving.points()), expected(&of_agent(1)), "{log}");
}

/// A receiver that takes what comes and never answers.
struct Stalled;

impl Stalled {
    async fn start() -> String {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let serving = server(&GrpcSettings::default())
            .add_service(ForwardServer::new(Self))
            .serve_with_incoming(incoming(listener));
        tokio::spawn(serving);
        address
    }
}

#[tonic::async_trait]
impl Forward for Stalled {
    async fn send_metrics(&self, request: Request<Bytes>) -> Result<Response<Bytes>, Status> {
        if request.into_inner().is_empty() {
            return Ok(Response::new(Bytes::new()));
        }
        std::future::pending().await
    }

    async fn send_metrics_v2(
        &self,
        _: Request<Streaming<Bytes>>,
    ) -> Result<Response<Bytes>, Status> {
        Err(Status::unimplemented("no streams"))
    }
}
