//! A global as far as import goes: its table and the ways into it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint};
use tributary_aggregator::flush::{Aggregates, Emission, FlushSettings, Percentiles, Role, emit};
use tributary_aggregator::import::{self, DedupBounds, Intake};
use tributary_aggregator::table::{Table, TableConfig};
use tributary_node::admin::Readiness;
use tributary_node::grpc::GrpcSettings;
use tributary_proto::raw::forward_client::ForwardClient;

/// A global: a table with the gRPC import and `/import` before it.
pub(crate) struct Global {
    pub(crate) table: Arc<Table>,
    pub(crate) grpc: SocketAddr,
    pub(crate) http: SocketAddr,
}

impl Global {
    pub(crate) async fn start(settings: GrpcSettings) -> Self {
        let table = Table::new(TableConfig::default());
        let intake = Intake::into_table(&table, DedupBounds::default());
        let mut global = Self::start_into(intake, settings).await;
        global.table = table;
        global
    }

    pub(crate) async fn start_into(intake: Arc<Intake>, settings: GrpcSettings) -> Self {
        let table = Table::new(TableConfig::default());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let grpc = listener.local_addr().unwrap();
        let limit = settings.max_message;
        let never = CancellationToken::new();
        tokio::spawn(import::serve(
            listener,
            Arc::clone(&intake),
            settings,
            Readiness::new(),
            never,
            Duration::ZERO,
        ));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let http = listener.local_addr().unwrap();
        let router = import::http::router(intake, limit);
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { table, grpc, http }
    }

    pub(crate) async fn client(&self) -> ForwardClient<Channel> {
        let endpoint = Endpoint::from_shared(format!("http://{}", self.grpc)).unwrap();
        ForwardClient::new(endpoint.connect().await.unwrap())
    }

    /// What a flush would emit now: `name value`, sorted.
    pub(crate) fn flush(&self) -> Vec<String> {
        let settings = FlushSettings {
            role: Role::Global,
            percentiles: Percentiles::new(&[0.5]).unwrap(),
            aggregates: Aggregates::default(),
            distributions: false,
            timestamp: 1_700_000_000,
        };
        let Emission { points, .. } = emit(self.table.take(), &settings);
        let mut lines: Vec<_> = points
            .iter()
            .map(|point| format!("{} {}", point.name(), point.value))
            .collect();
        lines.sort();
        lines
    }

    /// Posts to `/import`: status and text of the answer.
    pub(crate) async fn post(
        &self,
        encoding: Option<&str>,
        body: impl Into<Bytes>,
    ) -> (u16, String) {
        let mut request = Request::post(self.import_url());
        if let Some(encoding) = encoding {
            request = request.header("Content-Encoding", encoding);
        }
        ask(request.body(Full::new(body.into())).unwrap()).await
    }

    pub(crate) fn import_url(&self) -> String {
        format!("http://{}/import", self.http)
    }
}

pub(crate) async fn ask(request: Request<Full<Bytes>>) -> (u16, String) {
    let client = Client::builder(TokioExecutor::new()).build_http();
    let answer = client.request(request).await.unwrap();
    let status = answer.status().as_u16();
    let text = answer.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8_lossy(&text).into_owned())
}
