use std::io::Write as _;

use ::http::StatusCode;
use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use tonic::Code;
use tributary_proto::otlp::collector::{ExportMetricsServiceRequest, ExportMetricsServiceResponse};
use tributary_proto::otlp::metrics::metric::Data;
use tributary_proto::otlp::metrics::number_data_point::Value;
use tributary_proto::otlp::metrics::{
    Gauge, Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics,
};
use tributary_proto::otlp::metrics_service_client::MetricsServiceClient;

use super::*;
use crate::point::Point;
use crate::receipt::Receipt;
use crate::source::{PointIntake, registry};
use crate::table::{Table, TableConfig};

struct Nowhere;

impl PointIntake for Nowhere {
    fn pass(&self, _: Vec<Point>, _: Receipt) {}
}

/// A running source in front of a table.
struct Running {
    address: String,
    table: Arc<Table>,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

async fn start(max_message: &str) -> Running {
    let config = serde_json::json!({"listen": ["127.0.0.1:0"], "max_message": max_message});
    let config: OtlpConfig = serde_json::from_value(config).unwrap();
    let source = Otlp::open(config, "otlp").await.unwrap();
    let address = format!("http://{}", source.listeners[0].local_addr().unwrap());
    let table = Table::new(TableConfig::default());
    let samples = Arc::clone(&table);
    let outlets = Outlets {
        points: Arc::new(Nowhere),
        samples: Arc::new(move || Box::new(samples.writer())),
        forward: None,
    };
    let stop = CancellationToken::new();
    let task = tokio::spawn(Box::new(source).run(outlets, stop.clone()));
    Running {
        address,
        table,
        stop,
        task,
    }
}

fn gauges(values: &[f64]) -> Bytes {
    let point = |value: &f64| NumberDataPoint {
        value: Some(Value::AsDouble(*value)),
        ..NumberDataPoint::default()
    };
    let gauge = Gauge {
        data_points: values.iter().map(point).collect(),
    };
    let metric = Metric {
        name: "load".to_owned(),
        data: Some(Data::Gauge(gauge)),
        ..Metric::default()
    };
    let scope = ScopeMetrics {
        metrics: vec![metric],
        ..ScopeMetrics::default()
    };
    let request = ExportMetricsServiceRequest {
        resource_metrics: vec![ResourceMetrics {
            scope_metrics: vec![scope],
            ..ResourceMetrics::default()
        }],
    };
    request.encode_to_vec().into()
}

async fn post(running: &Running, headers: &[(&str, &str)], body: Bytes) -> (StatusCode, Bytes) {
    let mut request = ::http::Request::post(format!("{}/v1/metrics", running.address));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let client = Client::builder(TokioExecutor::new()).build_http::<Full<Bytes>>();
    let response = client
        .request(request.body(Full::new(body)).unwrap())
        .await
        .unwrap();
    let status = response.status();
    (
        status,
        response.into_body().collect().await.unwrap().to_bytes(),
    )
}

const PROTOBUF: (&str, &str) = ("content-type", "application/x-protobuf");

#[tokio::test(flavor = "multi_thread")]
async fn one_address_speaks_grpc_and_http_packed_and_plain() {
    let running = start("1MiB").await;
    let client = MetricsServiceClient::connect(running.address.clone())
        .await
        .unwrap();
    for mut client in [
        client.clone(),
        client.send_compressed(CompressionEncoding::Gzip),
    ] {
        let answer = client
            .export(Request::new(gauges(&[1.0, f64::NAN, 2.0])))
            .await
            .unwrap();
        let answer = ExportMetricsServiceResponse::decode(answer.into_inner()).unwrap();
        let partial = answer.partial_success.unwrap();
        assert_eq!(partial.rejected_data_points, 1);
        assert_eq!(
            partial.error_message,
            "1 data points were refused (not_finite: 1)"
        );
    }
    let (status, body) = post(&running, &[PROTOBUF], gauges(&[3.0])).await;
    assert_eq!((status, &*body), (StatusCode::OK, &b""[..]));
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(&gauges(&[4.0])).unwrap();
    let packed: Bytes = packed.finish().unwrap().into();
    let (status, _) = post(&running, &[PROTOBUF, ("content-encoding", "gzip")], packed).await;
    assert_eq!(status, StatusCode::OK);
    running.stop.cancel();
    running.task.await.unwrap();
    assert_eq!(running.table.take().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_request_is_refused_with_words() {
    let running = start("1KiB").await;
    let mut client = MetricsServiceClient::connect(running.address.clone())
        .await
        .unwrap();
    let garbage = Bytes::from_static(b"\xff\xff\xff");
    let status = client
        .export(Request::new(garbage.clone()))
        .await
        .unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(
        status
            .message()
            .starts_with("no ExportMetricsServiceRequest: "),
        "{status}"
    );
    let long = gauges(&[1.0; 1000]);
    let status = client.export(Request::new(long.clone())).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    packed.write_all(&long).unwrap();
    let bomb: Bytes = packed.finish().unwrap().into();
    assert!(bomb.len() < 1024);
    let gzip = ("content-encoding", "gzip");
    for (headers, body, expected) in [
        (&[PROTOBUF][..], garbage.clone(), StatusCode::BAD_REQUEST),
        (&[PROTOBUF, gzip], garbage, StatusCode::BAD_REQUEST),
        (&[PROTOBUF], long, StatusCode::PAYLOAD_TOO_LARGE),
        (&[PROTOBUF, gzip], bomb, StatusCode::PAYLOAD_TOO_LARGE),
        (
            &[PROTOBUF, ("content-encoding", "br")],
            gauges(&[1.0]),
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
        ),
        (
            &[("content-type", "application/json")],
            gauges(&[1.0]),
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
        ),
        (&[], gauges(&[1.0]), StatusCode::UNSUPPORTED_MEDIA_TYPE),
    ] {
        let (status, _) = post(&running, headers, body).await;
        assert_eq!(status, expected, "{headers:?}");
    }
    assert_eq!(running.table.take().len(), 0);
}

#[tokio::test]
async fn an_address_that_is_taken_is_told_with_its_key() {
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let config = serde_json::json!({"listen": [address]});
    let problems = registry::open("otlp", "otlp", &config).await.err().unwrap();
    assert!(problems.0[0].starts_with("listen: "), "{problems}");
}
