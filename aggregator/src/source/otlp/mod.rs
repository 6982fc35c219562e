//! Source `otlp`: metrics of OpenTelemetry's protocol, over gRPC and HTTP on the same addresses.
//!
//! `door` leads a request to its answer: `take` makes samples of data points, with `buckets` for histograms and `streams` for values that are counted since
//! a start. What always holds: an answer comes after what it speaks of is with the outlet, and a data point that is not taken is counted with its
//! cause and named in the answer (`partial_success`).
//!
//! A request whose answer was lost is sent again by its client, and then taken twice where it has deltas: the protocol has no way to tell.

mod attributes;
mod buckets;
mod config;
mod door;
mod event;
mod http;
mod streams;
mod take;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::future::join_all;
use prost::Message as _;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::codec::CompressionEncoding;
use tonic::service::Routes;
use tonic::{Request, Response, Status};
use tributary_node::admin::{self, Patient};
use tributary_node::grpc::{self, GrpcSettings, SizeRefusal};
use tributary_node::tls::{Acceptor, Alpn, Incoming};
use tributary_proto::otlp::metrics_service_server::{MetricsService, MetricsServiceServer};

use self::door::{Door, Refusal};
use super::{Outlets, Source};

pub use config::OtlpConfig;

/// How long requests under way may take once we stop.
const GRACE: Duration = Duration::from_millis(1500);
/// How long a connection may be silent. One of HTTP/2 is asked before, and answers.
const SILENCE: Duration = Duration::from_secs(300);

/// A source whose addresses are open.
struct Otlp {
    name: String,
    config: OtlpConfig,
    listeners: Vec<TcpListener>,
    tls: Option<Acceptor>,
}

impl Otlp {
    async fn open(config: OtlpConfig, name: &str) -> Result<Self, String> {
        let tls = Acceptor::new(&config.tls, "otlp", Alpn::Http)
            .map_err(|error| format!("tls.{error}"))?;
        let mut listeners = Vec::with_capacity(config.listen.len());
        for address in &config.listen {
            let listener = admin::bind(address)
                .await
                .map_err(|error| format!("listen: {error}"))?;
            let address = listener.local_addr().map_err(|error| error.to_string())?;
            tracing::info!(source = name, %address, tls = tls.is_some(), "OTLP listens");
            listeners.push(listener);
        }
        Ok(Self {
            name: name.to_owned(),
            config,
            listeners,
            tls,
        })
    }
}

#[async_trait]
impl Source for Otlp {
    async fn run(self: Box<Self>, outlets: Outlets, stop: CancellationToken) {
        let door = Arc::new(Door::new(&self.config, &self.name, outlets));
        let settings = GrpcSettings {
            max_message: door.max_message,
            http1: true,
            ..GrpcSettings::default()
        };
        let service = MetricsServiceServer::new(Grpc(Arc::clone(&door)))
            .accept_compressed(CompressionEncoding::Gzip)
            .max_decoding_message_size(door.max_message);
        let grpc = Routes::new(SizeRefusal(service)).into_axum_router();
        let routes = Routes::from(grpc.merge(http::router(Arc::clone(&door))));
        let serving = self.listeners.into_iter().map(|listener| {
            let incoming = Incoming::new(listener, self.tls.clone());
            let patient = incoming.map(|stream| stream.map(|stream| Patient::new(stream, SILENCE)));
            grpc::serve(&settings, routes.clone(), patient, stop.clone())
        });
        let over = async {
            stop.cancelled().await;
            tokio::time::sleep(GRACE).await;
        };
        tokio::select! {
            _ = join_all(serving) => {}
            () = over => tracing::warn!(source = self.name, "OTLP requests under way were cut off"),
        }
        door.finish().await;
    }
}

/// The gRPC service.
struct Grpc(Arc<Door>);

#[tonic::async_trait]
impl MetricsService for Grpc {
    async fn export(&self, request: Request<Bytes>) -> Result<Response<Bytes>, Status> {
        match self.0.take("grpc", request.into_inner()).await {
            Ok(response) => Ok(Response::new(response.encode_to_vec().into())),
            Err(refusal) => {
                let words = refusal.to_string();
                Err(match refusal {
                    Refusal::Malformed(_) => Status::invalid_argument(words),
                    Refusal::Busy => Status::unavailable(words),
                    Refusal::Broken => Status::internal(words),
                })
            }
        }
    }
}
