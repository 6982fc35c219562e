//! A receiver of forwarded metrics that records what it gets and behaves as it is told.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use prost::Message;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tonic::transport::Server;
use tonic::{Request, Response, Status, Streaming};
use tributary_node::grpc::{GrpcSettings, incoming, server};
use tributary_proto::forwardrpc::MetricList;
use tributary_proto::metricpb::Metric;
use tributary_proto::raw::forward_server::{Forward, ForwardServer};

/// What a receiver does with a call.
#[derive(Debug, Clone)]
pub(crate) enum Behaviour {
    /// Takes it.
    Accept,
    /// Answers a unary call with a status, without taking anything; takes streams.
    Refuse(Status),
    /// Takes it and never answers.
    Stall,
}

/// One call.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    /// Whether it came by `SendMetricsV2`.
    pub(crate) streamed: bool,
    /// Length of the message, or of all of them.
    pub(crate) bytes: usize,
    /// What it carried.
    pub(crate) metrics: Vec<Metric>,
}

#[derive(Debug)]
struct State {
    behaviour: Mutex<Behaviour>,
    calls: Mutex<Vec<Call>>,
    probes: Mutex<usize>,
}

/// A running receiver; dropping it leaves its port.
#[derive(Debug)]
pub(crate) struct Upstream {
    pub(crate) address: SocketAddr,
    state: Arc<State>,
    task: JoinHandle<()>,
}

impl Upstream {
    pub(crate) async fn start(behaviour: Behaviour) -> Self {
        Self::start_on("127.0.0.1:0", behaviour, server(&GrpcSettings::default())).await
    }

    pub(crate) async fn start_on(address: &str, behaviour: Behaviour, mut server: Server) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State {
            behaviour: Mutex::new(behaviour),
            calls: Mutex::default(),
            probes: Mutex::default(),
        });
        let service = ForwardServer::new(Service(Arc::clone(&state)));
        let serving = server
            .add_service(service)
            .serve_with_incoming(incoming(listener));
        let task = tokio::spawn(async move { serving.await.unwrap() });
        Self {
            address,
            state,
            task,
        }
    }

    pub(crate) fn behave(&self, behaviour: Behaviour) {
        *self.state.behaviour.lock() = behaviour;
    }

    /// All calls that carried metrics.
    pub(crate) fn calls(&self) -> Vec<Call> {
        self.state.calls.lock().clone()
    }

    /// How many calls carried none.
    pub(crate) fn probes(&self) -> usize {
        *self.state.probes.lock()
    }

    /// All metrics of all calls.
    pub(crate) fn metrics(&self) -> Vec<Metric> {
        self.calls()
            .into_iter()
            .flat_map(|call| call.metrics)
            .collect()
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Service(Arc<State>);

impl Service {
    fn note(&self, call: Call) {
        if call.metrics.is_empty() {
            *self.0.probes.lock() += 1;
        } else {
            self.0.calls.lock().push(call);
        }
    }
}

#[tonic::async_trait]
impl Forward for Service {
    async fn send_metrics(&self, request: Request<Bytes>) -> Result<Response<Bytes>, Status> {
        let body = request.into_inner();
        let behaviour = self.0.behaviour.lock().clone();
        if let Behaviour::Refuse(status) = behaviour {
            return Err(status);
        }
        self.note(Call {
            streamed: false,
            bytes: body.len(),
            metrics: MetricList::decode(body).unwrap().metrics,
        });
        if let Behaviour::Stall = behaviour {
            tokio::time::sleep(Duration::MAX).await;
        }
        Ok(Response::new(Bytes::new()))
    }

    async fn send_metrics_v2(
        &self,
        request: Request<Streaming<Bytes>>,
    ) -> Result<Response<Bytes>, Status> {
        let mut stream = request.into_inner();
        let mut call = Call {
            streamed: true,
            bytes: 0,
            metrics: Vec::new(),
        };
        while let Some(message) = stream.message().await? {
            call.bytes += message.len();
            call.metrics.push(Metric::decode(message).unwrap());
        }
        self.note(call);
        Ok(Response::new(Bytes::new()))
    }
}
