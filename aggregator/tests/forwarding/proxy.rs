//! A proxy before a real global, which fails in the ways in which proxies fail: it is told what to do with each call.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use prost::Message;
use socket2::SockRef;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::{JoinHandle, JoinSet};
use tonic::metadata::MetadataValue;
use tonic::transport::Channel;
use tonic::{Code, Request, Response, Status, Streaming};
use tributary_node::grpc::{GrpcSettings, incoming, server};
use tributary_proto::ack::{self, Unacknowledged};
use tributary_proto::forwardrpc::MetricList;
use tributary_proto::metricpb::Metric;
use tributary_proto::raw::forward_client::ForwardClient;
use tributary_proto::raw::forward_server::{Forward, ForwardServer};

use crate::global::Global;

/// What becomes of a call that carries metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Merged, and answered so.
    None,
    /// Merged and answered, each after a while; merged also when nobody waits for it any more.
    Slow(Duration),
    /// Merged at once, and answered after a while.
    LateAnswer(Duration),
    /// Merged; then all connections are reset.
    CutAfter,
    /// All connections are reset, and nothing is merged.
    CutBefore,
    /// Merged, and answered with this status all the same.
    Disowned(Code),
    /// Not merged, and answered with this status.
    Refused(Code),
    /// Every so-manieth metric is not merged, which is told after a while.
    Part(usize, Duration),
    /// Every second metric is not merged, but none is acknowledged.
    PartUnsaid,
    /// Every second metric is not merged, and what is told of it cannot be read.
    Garbage,
}

/// One call that carried metrics.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub(crate) flushed_at: Option<u64>,
    pub(crate) metrics: Vec<Metric>,
}

type Script = Box<dyn FnMut(&[Metric]) -> Fault + Send>;

struct State {
    global: ForwardClient<Channel>,
    script: Mutex<Script>,
    calls: Mutex<Vec<Call>>,
    cut: Notify,
}

/// A running proxy; dropping it leaves its port.
pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    state: Arc<State>,
    tasks: [JoinHandle<()>; 2],
}

impl Proxy {
    pub(crate) async fn start(
        global: &Global,
        script: impl FnMut(&[Metric]) -> Fault + Send + 'static,
    ) -> Self {
        let state = Arc::new(State {
            global: global.client().await,
            script: Mutex::new(Box::new(script)),
            calls: Mutex::default(),
            cut: Notify::new(),
        });
        let inside = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let inside_address = inside.local_addr().unwrap();
        let service = ForwardServer::new(Service(Arc::clone(&state)));
        let serving = server(&GrpcSettings::default())
            .add_service(service)
            .serve_with_incoming(incoming(inside));
        let outside = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = outside.local_addr().unwrap();
        let relaying = relay(outside, inside_address, Arc::clone(&state));
        Self {
            address,
            state,
            tasks: [
                tokio::spawn(async move { serving.await.unwrap() }),
                tokio::spawn(relaying),
            ],
        }
    }

    pub(crate) fn behave(&self, script: impl FnMut(&[Metric]) -> Fault + Send + 'static) {
        *self.state.script.lock() = Box::new(script);
    }

    pub(crate) fn calls(&self) -> Vec<Call> {
        self.state.calls.lock().clone()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

/// Passes connections through, and resets all of them when told to.
async fn relay(outside: TcpListener, inside: SocketAddr, state: Arc<State>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            () = state.cut.notified() => connections.abort_all(),
            accepted = outside.accept() => {
                let (mut agent, _) = accepted.unwrap();
                // Nothing is said at the end: the agent sees a reset.
                SockRef::from(&agent).set_linger(Some(Duration::ZERO)).unwrap();
                connections.spawn(async move {
                    let mut inside = TcpStream::connect(inside).await.unwrap();
                    let _ = copy_bidirectional(&mut agent, &mut inside).await;
                });
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

struct Service(Arc<State>);

impl State {
    /// Has the global merge all metrics but those at `left`.
    async fn merge(&self, metrics: &[Metric], left: &BTreeSet<usize>) {
        let merged = metrics
            .iter()
            .enumerate()
            .filter(|(place, _)| !left.contains(place));
        let list = MetricList {
            metrics: merged.map(|(_, metric)| metric.clone()).collect(),
        };
        let mut global = self.global.clone();
        let body = Bytes::from(list.encode_to_vec());
        global.send_metrics(body).await.unwrap();
    }

    async fn act(self: Arc<Self>, fault: Fault, metrics: Vec<Metric>) -> Result<(), Status> {
        let all = BTreeSet::new();
        let every = |nth: usize| -> BTreeSet<usize> { (0..metrics.len()).step_by(nth).collect() };
        match fault {
            Fault::None => self.merge(&metrics, &all).await,
            Fault::Slow(pause) => {
                tokio::time::sleep(pause).await;
                self.merge(&metrics, &all).await;
                tokio::time::sleep(pause).await;
            }
            Fault::LateAnswer(pause) => {
                self.merge(&metrics, &all).await;
                tokio::time::sleep(pause).await;
            }
            Fault::CutAfter => {
                self.merge(&metrics, &all).await;
                self.cut.notify_one();
                std::future::pending::<()>().await;
            }
            Fault::CutBefore => {
                self.cut.notify_one();
                std::future::pending::<()>().await;
            }
            Fault::Disowned(code) => {
                self.merge(&metrics, &all).await;
                return Err(Status::new(code, "disowned"));
            }
            Fault::Refused(code) => return Err(Status::new(code, "refused")),
            Fault::Part(nth, pause) => {
                let left = every(nth);
                self.merge(&metrics, &left).await;
                tokio::time::sleep(pause).await;
                let told: Unacknowledged = left.iter().map(|place| *place as u32).collect();
                let mut status = Status::unavailable("not all merged");
                told.write(status.metadata_mut());
                return Err(status);
            }
            Fault::PartUnsaid => {
                self.merge(&metrics, &every(2)).await;
                return Err(Status::unavailable("not all merged"));
            }
            Fault::Garbage => {
                self.merge(&metrics, &every(2)).await;
                let mut status = Status::unavailable("not all merged");
                let garbage = MetadataValue::from_bytes(&[0, 1, 0xff, 0xff, 0xff]);
                status
                    .metadata_mut()
                    .insert_bin(ack::UNACKNOWLEDGED, garbage);
                return Err(status);
            }
        }
        Ok(())
    }
}

#[tonic::async_trait]
impl Forward for Service {
    async fn send_metrics(&self, request: Request<Bytes>) -> Result<Response<Bytes>, Status> {
        let flushed_at = ack::read_flushed_at(request.metadata());
        let metrics = MetricList::decode(request.into_inner()).unwrap().metrics;
        let outcome = if metrics.is_empty() {
            Ok(())
        } else {
            let fault = (self.0.script.lock())(&metrics);
            self.0.calls.lock().push(Call {
                flushed_at,
                metrics: metrics.clone(),
            });
            // In a task of its own: what is under way goes on when the agent has given up.
            tokio::spawn(Arc::clone(&self.0).act(fault, metrics))
                .await
                .unwrap()
        };
        match outcome {
            Ok(()) => {
                let mut answer = Response::new(Bytes::new());
                ack::write_dedup(answer.metadata_mut());
                Ok(answer)
            }
            Err(mut status) => {
                ack::write_dedup(status.metadata_mut());
                Err(status)
            }
        }
    }

    async fn send_metrics_v2(
        &self,
        _: Request<Streaming<Bytes>>,
    ) -> Result<Response<Bytes>, Status> {
        Err(Status::unimplemented("no streams here"))
    }
}
