//! Globals, proxies and metrics for the tests.

#![allow(clippy::unwrap_used, reason = "a test may panic")]
#![allow(dead_code, reason = "each test uses its part")]
#![allow(unreachable_pub, reason = "a module of several test binaries")]

pub mod global;

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use prost::Message;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tonic::transport::Channel;
use tonic::{Code, Request, Response, Status};
use tributary_node::discovery::{Discovery, Endpoint};
use tributary_node::telemetry::Recorder;
use tributary_node::{BoxError, Node};
use tributary_proto::ack::{self, Unacknowledged};
use tributary_proto::metricpb::metric::Value;
use tributary_proto::metricpb::{CounterValue, Metric, Scope, Type};
use tributary_proto::raw::forward_client::ForwardClient;
use tributary_proto::scan;
use tributary_proxy::app::Proxy;
use tributary_proxy::config::Config;
use tributary_proxy::ring::{Algorithm, Member, Ring};

/// How long anything may take that should happen soon.
pub const SOON: Duration = Duration::from_secs(20);

/// Waits until `condition` holds.
pub async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < SOON, "waited in vain: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A discovery that a test feeds.
#[derive(Debug)]
pub struct Fed(mpsc::UnboundedReceiver<Vec<String>>);

#[async_trait]
impl Discovery for Fed {
    fn service(&self) -> &str {
        "fed"
    }

    async fn next(&mut self) -> Result<Vec<Endpoint>, BoxError> {
        match self.0.recv().await {
            Some(addresses) => Ok(addresses.into_iter().map(Endpoint::new).collect()),
            None => std::future::pending().await,
        }
    }
}

/// A proxy in this process.
pub struct Running {
    pub grpc: String,
    pub http: String,
    pub node: Node,
    pub feed: mpsc::UnboundedSender<Vec<String>>,
    pub router: Arc<tributary_proxy::route::Router>,
    pub ended: JoinHandle<Result<(), BoxError>>,
}

/// Settings for free ports, with short times.
pub fn config() -> Config {
    with("forward_timeout: 20s")
}

/// Those, and more.
pub fn with(more: &str) -> Config {
    configured(&format!(
        "{{grpc_address: '127.0.0.1:0', http_address: '127.0.0.1:0', shutdown_timeout: 10s, interval: 200ms, {more}}}"
    ))
}

/// Settings from YAML.
pub fn configured(text: &str) -> Config {
    tributary_node::config::parse::<Config>("test", text, &Default::default())
        .unwrap()
        .settings
}

/// Starts a proxy that routes to these addresses.
pub async fn proxy<A: Into<String>>(
    config: &Config,
    addresses: impl IntoIterator<Item = A>,
) -> Running {
    let (feed, fed) = mpsc::unbounded_channel();
    let node = Node::new(config, Recorder::new("veneur_proxy."));
    let proxy = Proxy::start(config, node.clone(), Box::new(Fed(fed)))
        .await
        .unwrap();
    let router = proxy.router().clone();
    let (grpc, http) = (proxy.grpc_address().unwrap(), proxy.http_address().unwrap());
    let running = Running {
        grpc: grpc.to_string(),
        http: http.to_string(),
        node,
        feed,
        router,
        ended: tokio::spawn(proxy.wait()),
    };
    let addresses: Vec<String> = addresses.into_iter().map(Into::into).collect();
    if !addresses.is_empty() {
        running.routes_to(&addresses).await;
    }
    running
}

impl Running {
    /// Lets discovery name these addresses and waits until they are routed to.
    pub async fn routes_to<A: Into<String>>(&self, addresses: impl IntoIterator<Item = A>) {
        let mut wanted: Vec<String> = addresses.into_iter().map(Into::into).collect();
        self.feed.send(wanted.clone()).unwrap();
        wanted.sort();
        until("the ring has the addresses", || {
            let table = self.router.table();
            let mut members: Vec<&str> = table
                .destinations()
                .iter()
                .map(|destination| &**destination.address())
                .collect();
            members.sort_unstable();
            members == wanted
        })
        .await;
    }

    /// Lets discovery name these addresses and waits until it is known when the new ones join.
    pub async fn routes_to_later<A: Into<String>>(&self, addresses: impl IntoIterator<Item = A>) {
        let wanted = addresses.into_iter().map(Into::into).collect();
        self.feed.send(wanted).unwrap();
        until("it is known what is to come", || {
            self.router.tables().next().is_some()
        })
        .await;
    }

    pub async fn client(&self) -> ForwardClient<Channel> {
        ForwardClient::connect(format!("http://{}", self.grpc))
            .await
            .unwrap()
    }

    /// A request to the HTTP address: status and body.
    pub async fn http(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Vec<u8>,
    ) -> (u16, String) {
        let client: Client<_, Full<Bytes>> = Client::builder(TokioExecutor::new()).build_http();
        let mut request = http::Request::builder()
            .method(method)
            .uri(format!("http://{}{path}", self.http));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = client
            .request(request.body(Full::from(body)).unwrap())
            .await
            .unwrap();
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    /// What `/api/ledger` says.
    pub async fn ledger(&self) -> serde_json::Value {
        let (status, body) = self.http("GET", "/api/ledger", &[], Vec::new()).await;
        assert_eq!(status, 200);
        serde_json::from_str(&body).unwrap()
    }

    /// Waits until nothing is queued, and checks that everything is accounted for.
    pub async fn books_balance(&self) {
        until("nothing is queued", || {
            self.router.ledger().totals().queued == 0
        })
        .await;
        let totals = self.router.ledger().totals();
        assert_eq!((totals.residue(), totals.waiting), (0, 0), "{totals:?}");
    }

    /// Ends it in order.
    pub async fn stop(self) {
        self.node.stop.cancel();
        self.ended.await.unwrap().unwrap();
        self.node.finish().await;
    }
}

/// The counters of a flush, each with its stamp.
pub fn stamped(origin: u64, flush: u64, count: usize) -> Vec<Bytes> {
    (0..count)
        .map(|number| {
            let mut stamped = Metric::decode(&metric(number)[..]).unwrap();
            (stamped.origin, stamped.flush, stamped.index) = (origin, flush, number as u32);
            stamped.encode_to_vec().into()
        })
        .collect()
}

/// What an answer says of a request of `metrics`: nothing is left, or these positions.
pub fn left(answer: Result<Response<Bytes>, Status>, metrics: usize) -> Vec<u32> {
    match answer {
        Ok(answer) => {
            assert!(ack::read_dedup(answer.metadata()));
            Vec::new()
        }
        Err(status) => {
            assert!(ack::read_dedup(status.metadata()));
            assert_eq!(status.code(), Code::Unavailable);
            let left = Unacknowledged::read(status.metadata(), metrics as u32).unwrap();
            left.unwrap().ranges().flatten().collect()
        }
    }
}

/// A request of a flush at this time, in milliseconds since the Unix epoch.
pub fn flushed_at(list: Bytes, milliseconds: u64) -> Request<Bytes> {
    let mut request = Request::new(list);
    ack::write_flushed_at(request.metadata_mut(), milliseconds);
    request
}

/// The wall clock in milliseconds since the Unix epoch.
pub fn wall_clock() -> u64 {
    let now = std::time::SystemTime::now();
    let since = now.duration_since(std::time::UNIX_EPOCH).unwrap();
    since.as_millis() as u64
}

/// The way to a global that can be cut.
pub struct Relay {
    pub address: String,
    connections: Arc<Mutex<Vec<JoinHandle<()>>>>,
}

impl Relay {
    /// A way to this address.
    pub async fn to(address: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let relay = Self {
            address: listener.local_addr().unwrap().to_string(),
            connections: Arc::default(),
        };
        let (connections, to) = (relay.connections.clone(), address.to_owned());
        tokio::spawn(async move {
            while let Ok((mut from, _)) = listener.accept().await {
                let to = to.clone();
                connections.lock().unwrap().push(tokio::spawn(async move {
                    let mut to = TcpStream::connect(to).await.unwrap();
                    let _ = tokio::io::copy_bidirectional(&mut from, &mut to).await;
                }));
            }
        });
        relay
    }

    /// How many connections stand.
    pub fn open(&self) -> usize {
        let connections = self.connections.lock().unwrap();
        connections
            .iter()
            .filter(|connection| !connection.is_finished())
            .count()
    }

    /// Ends all connections; new ones are taken.
    pub fn cut(&self) {
        for connection in self.connections.lock().unwrap().drain(..) {
            connection.abort();
        }
    }
}

/// A counter, named and valued after its number, with a field that nobody knows.
pub fn metric(number: usize) -> Bytes {
    let metric = Metric {
        name: format!("svc.{}.requests", number % 97),
        tags: vec!["env:prod".to_owned(), format!("id:{number}")],
        r#type: Type::Counter as i32,
        scope: Scope::Global as i32,
        value: Some(Value::Counter(CounterValue {
            value: number as i64,
        })),
        ..Metric::default()
    };
    let mut bytes = metric.encode_to_vec();
    // Field 4000, two bytes.
    bytes.extend_from_slice(&[0x82, 0xfa, 0x01, 0x02, 0xff, 0xfe]);
    bytes.into()
}

pub fn metrics(count: usize) -> Vec<Bytes> {
    (0..count).map(metric).collect()
}

/// A `MetricList` of these.
pub fn list<'m>(metrics: impl IntoIterator<Item = &'m Bytes>) -> Bytes {
    let mut list = Vec::new();
    for metric in metrics {
        scan::frame_into(&mut list, metric);
    }
    list.into()
}

/// The default ring of these addresses.
pub fn ring(addresses: &[String]) -> Ring {
    let members = addresses
        .iter()
        .map(|address| Member::new(address.as_str()));
    Ring::build(Algorithm::Hashring, members).unwrap()
}

/// Who owns a metric, with a key that is computed apart from the proxy.
pub fn owner_on(ring: &Ring, metric: &[u8]) -> String {
    let metric = Metric::decode(metric).unwrap();
    let kind = metric.r#type().lower_name();
    let key = format!("{}{kind}{}", metric.name, metric.tags.join(","));
    ring.owner_of(key.as_bytes()).unwrap().address.to_string()
}
