//! Destinations that take everything and only count it.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tonic::{Request, Response, Status, Streaming};
use tributary_node::grpc::{GrpcSettings, incoming, server};
use tributary_proto::raw::forward_server::{Forward, ForwardServer};
use tributary_proto::scan;

/// Some of them. Dropped, they are gone.
#[derive(Debug)]
pub(super) struct Counting {
    pub(super) addresses: Vec<String>,
    taken: Arc<AtomicU64>,
    serving: Vec<JoinHandle<Result<(), tonic::transport::Error>>>,
}

impl Counting {
    pub(super) async fn start(number: usize) -> io::Result<Self> {
        let taken = Arc::new(AtomicU64::new(0));
        let (mut addresses, mut serving) = (Vec::new(), Vec::new());
        for _ in 0..number {
            let listener = TcpListener::bind("127.0.0.1:0").await?;
            addresses.push(listener.local_addr()?.to_string());
            let service = ForwardServer::new(Counter(Arc::clone(&taken)));
            let settings = GrpcSettings {
                max_message: 256 << 20,
                ..GrpcSettings::default()
            };
            let service = service.max_decoding_message_size(settings.max_message);
            let server = server(&settings).add_service(service);
            serving.push(tokio::spawn(server.serve_with_incoming(incoming(listener))));
        }
        Ok(Self {
            addresses,
            taken,
            serving,
        })
    }

    /// Metrics taken so far.
    pub(super) fn taken(&self) -> u64 {
        self.taken.load(Ordering::Relaxed)
    }
}

impl Drop for Counting {
    fn drop(&mut self) {
        self.serving.iter().for_each(JoinHandle::abort);
    }
}

#[derive(Debug)]
struct Counter(Arc<AtomicU64>);

#[tonic::async_trait]
impl Forward for Counter {
    async fn send_metrics(&self, request: Request<Bytes>) -> Result<Response<Bytes>, Status> {
        let body = request.into_inner();
        let metrics = scan::entries(&body)
            .map_err(|error| Status::invalid_argument(error.to_string()))?
            .count();
        self.0.fetch_add(metrics as u64, Ordering::Relaxed);
        Ok(Response::new(Bytes::new()))
    }

    async fn send_metrics_v2(
        &self,
        request: Request<Streaming<Bytes>>,
    ) -> Result<Response<Bytes>, Status> {
        let mut stream = request.into_inner();
        while stream.message().await?.is_some() {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
        Ok(Response::new(Bytes::new()))
    }
}
