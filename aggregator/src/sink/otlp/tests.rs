//! The sink in front of a receiver of gRPC or HTTP that answers as it is told.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use prost::Message as _;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tonic::service::Routes;
use tonic::{Request, Response, Status};
use tributary_proto::otlp::collector::{
    ExportMetricsPartialSuccess, ExportMetricsServiceRequest, ExportMetricsServiceResponse,
};
use tributary_proto::otlp::metrics_service_server::{MetricsService, MetricsServiceServer};

use super::*;
use crate::key::Tags;
use crate::point::{Point, PointKind, Timestamp};

/// What was asked, and what is answered, first things first; then all is taken.
#[derive(Default)]
struct Script {
    answers: VecDeque<Told>,
    names: Vec<Vec<String>>,
    headers: Vec<Option<String>>,
}

enum Told {
    Status(Status),
    Rejects(i64, &'static str),
}

#[derive(Clone, Default)]
struct Receiver(Arc<Mutex<Script>>);

impl Receiver {
    /// Notes a request, and gives the answer.
    fn answer(&self, body: &[u8], key: Option<String>) -> Result<Vec<u8>, Status> {
        let request = ExportMetricsServiceRequest::decode(body).unwrap();
        let metrics = request
            .resource_metrics
            .iter()
            .flat_map(|resource| &resource.scope_metrics);
        let names = metrics
            .flat_map(|scope| &scope.metrics)
            .map(|metric| metric.name.clone());
        let mut script = self.0.lock();
        script.names.push(names.collect());
        script.headers.push(key);
        match script.answers.pop_front() {
            None => Ok(Vec::new()),
            Some(Told::Status(status)) => Err(status),
            Some(Told::Rejects(rejected_data_points, words)) => {
                let partial = ExportMetricsPartialSuccess {
                    rejected_data_points,
                    error_message: words.to_owned(),
                };
                let response = ExportMetricsServiceResponse {
                    partial_success: Some(partial),
                };
                Ok(response.encode_to_vec())
            }
        }
    }

    fn names(&self) -> Vec<String> {
        let script = self.0.lock();
        script.names.iter().map(|names| names.join(" ")).collect()
    }
}

#[tonic::async_trait]
impl MetricsService for Receiver {
    async fn export(&self, request: Request<Bytes>) -> Result<Response<Bytes>, Status> {
        let key = request
            .metadata()
            .get("api-key")
            .map(|key| key.to_str().unwrap().to_owned());
        self.answer(request.get_ref(), key)
            .map(|body| Response::new(body.into()))
    }
}

async fn post(
    axum::extract::State(receiver): axum::extract::State<Receiver>,
    headers: HeaderMap,
    body: Bytes,
) -> axum::response::Response {
    use axum::response::IntoResponse as _;
    let mut unpacked = Vec::new();
    std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(&*body), &mut unpacked).unwrap();
    let key = headers
        .get("api-key")
        .map(|key| key.to_str().unwrap().to_owned());
    match receiver.answer(&unpacked, key) {
        Ok(body) => body.into_response(),
        Err(status) => {
            let code = if status.code() == tonic::Code::Unavailable {
                503
            } else {
                400
            };
            let code = http::StatusCode::from_u16(code).unwrap();
            (code, [("retry-after", "3")], status.message().to_owned()).into_response()
        }
    }
}

/// A receiver and a sink in front of it.
async fn connected(protocol: &str, mut config: Value) -> (Receiver, Otlp) {
    let receiver = Receiver::default();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    config["url"] = json!(format!("http://{}", listener.local_addr().unwrap()));
    config["protocol"] = json!(protocol);
    let service = MetricsServiceServer::new(receiver.clone())
        .accept_compressed(tonic::codec::CompressionEncoding::Gzip);
    let http = axum::Router::new()
        .route("/v1/metrics", axum::routing::post(post))
        .with_state(receiver.clone());
    let routes = Routes::new(service).into_axum_router().merge(http);
    let incoming = tributary_node::grpc::incoming(listener);
    let serving = tonic::transport::Server::builder()
        .accept_http1(true)
        .add_routes(routes.into());
    tokio::spawn(serving.serve_with_incoming(incoming));
    let config: OtlpConfig = serde_json::from_value(config).unwrap();
    (receiver, Otlp::new(config, "otlp").unwrap())
}

fn batch(names: &[&str]) -> Batch {
    let point = |name: &&str| Point {
        base: (*name).into(),
        suffix: None,
        tags: Tags::default(),
        kind: PointKind::Gauge,
        value: 1.0,
        timestamp: Timestamp::from_seconds(1_700_000_000),
        check: None,
    };
    Batch {
        points: names.iter().map(point).collect(),
        ..Batch::default()
    }
}

fn amount(points: usize) -> Amount {
    Amount { points, events: 0 }
}

const BOTH: [&str; 2] = ["grpc", "http"];

#[tokio::test]
async fn what_was_taken_is_not_sent_again_and_secrets_are_read_anew() {
    for protocol in BOTH {
        let directory = tempfile::tempdir().unwrap();
        let key = directory.path().join("key");
        let config = json!({"max_points_per_request": 2, "header_files": {"api-key": key}});
        let (receiver, mut sink) = connected(protocol, config).await;
        let batch = batch(&["a", "b", "c", "d", "e"]);
        let error = sink.write(&batch).await.unwrap_err();
        assert!(
            matches!(&error, SinkError::Retriable { reason, .. } if reason.contains("header_files.api-key")),
            "{error:?}"
        );
        std::fs::write(&key, "first\n").unwrap();
        receiver.0.lock().answers.extend([
            Told::Rejects(0, ""),
            Told::Status(Status::unavailable("full")),
        ]);
        let error = sink.write(&batch).await.unwrap_err();
        let SinkError::Retriable { reason, after } = error else {
            panic!("{error:?}")
        };
        assert!(reason.contains("full"), "{reason}");
        if protocol == "http" {
            assert_eq!(after, Some(Duration::from_secs(3)));
        }
        std::fs::write(&key, "second").unwrap();
        assert_eq!(sink.write(&batch).await, Ok(amount(5)));
        assert_eq!(receiver.names(), ["a b", "c d", "c d", "e"], "{protocol}");
        let keys: Vec<_> = receiver
            .0
            .lock()
            .headers
            .iter()
            .flatten()
            .cloned()
            .collect();
        assert_eq!(keys, ["first", "first", "second", "second"]);
    }
}

#[tokio::test]
async fn another_batch_in_between_is_sent_whole() {
    let (receiver, mut sink) = connected("grpc", json!({"max_points_per_request": 1})).await;
    receiver
        .0
        .lock()
        .answers
        .extend([Told::Rejects(0, ""), Told::Status(Status::unavailable(""))]);
    sink.write(&batch(&["a", "b"])).await.unwrap_err();
    assert_eq!(sink.write(&batch(&["c", "d"])).await, Ok(amount(2)));
    assert_eq!(receiver.names(), ["a", "b", "c", "d"]);
}

#[tokio::test]
async fn what_is_refused_or_rejected_is_lost_with_the_receivers_words_and_the_rest_goes_on() {
    for protocol in BOTH {
        let (receiver, mut sink) = connected(protocol, json!({"max_points_per_request": 2})).await;
        receiver.0.lock().answers.extend([
            Told::Status(Status::invalid_argument("no such tenant")),
            Told::Rejects(1, "too old"),
        ]);
        let error = sink
            .write(&batch(&["a", "b", "c", "d", "e"]))
            .await
            .unwrap_err();
        let SinkError::Fatal { reason, lost } = error else {
            panic!("{error:?}")
        };
        assert_eq!(lost, amount(3));
        assert!(
            reason.contains("3 of 5 points") && reason.contains("too old"),
            "{reason}"
        );
        assert_eq!(receiver.names(), ["a b", "c d", "e"], "{protocol}");
    }
}

#[tokio::test]
async fn a_receiver_that_is_away_is_tried_again() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    for protocol in BOTH {
        let config = json!({"url": url, "protocol": protocol, "timeout": "30s"});
        let mut sink = Otlp::new(serde_json::from_value(config).unwrap(), "otlp").unwrap();
        let error = sink.write(&batch(&["a"])).await.unwrap_err();
        assert!(
            matches!(&error, SinkError::Retriable { reason, after: Some(_) } if reason.contains("refused")),
            "{protocol}: {error:?}"
        );
    }
}
