//! What the three ways in take, skip and refuse.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{Method, Request};
use http_body_util::Full;
use prost::Message;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::Code;
use tonic::transport::Endpoint;
use tributary_aggregator::forward::{Backlog, ForwardConfig, Forwarder, Protocol};
use tributary_aggregator::import::{self, DedupBounds, Intake, Merge};
use tributary_aggregator::table::{Table, TableConfig};
use tributary_node::admin::Readiness;
use tributary_node::grpc::GrpcSettings;
use tributary_proto::forwardrpc::MetricList;
use tributary_proto::json;
use tributary_proto::metricpb::{
    GaugeValue, HistogramValue, Metric, Scope, SetValue, Type, metric,
};
use tributary_proto::raw::forward_client::ForwardClient;
use tributary_proto::tdigest::{Centroid, MergingDigestData};

use crate::counters::Counters;
use crate::global::{Global, ask};
use crate::{PATIENCE, counter, counters, eventually};

fn list(metrics: Vec<Metric>) -> Bytes {
    MetricList { metrics }.encode_to_vec().into()
}

fn digest(centroids: &[(f64, f64)]) -> metric::Value {
    metric::Value::Histogram(HistogramValue {
        t_digest: Some(MergingDigestData {
            main_centroids: centroids
                .iter()
                .map(|&(mean, weight)| Centroid {
                    mean,
                    weight,
                    ..Centroid::default()
                })
                .collect(),
            compression: 100.0,
            min: 1.0,
            max: 3.0,
            ..MergingDigestData::default()
        }),
    })
}

fn metric(name: &str, kind: Type, value: Option<metric::Value>) -> Metric {
    Metric {
        name: name.into(),
        r#type: kind.into(),
        value,
        ..Metric::default()
    }
}

#[tokio::test]
async fn of_a_batch_with_every_kind_of_malformed_metric_the_rest_is_merged_and_causes_are_counted()
{
    let recorded = Counters::leaked();
    let _recording = recorded.record();
    let global = Global::start(GrpcSettings::default()).await;
    let gauge = |value| Some(metric::Value::Gauge(GaugeValue { value }));
    let set = |bytes: &'static [u8]| {
        Some(metric::Value::Set(SetValue {
            hyper_log_log: bytes.into(),
        }))
    };
    let bad = [
        metric("type and value disagree", Type::Gauge, counter("", 1).value),
        metric("no value", Type::Counter, None),
        Metric {
            r#type: 99,
            ..counter("unknown type", 1)
        },
        metric("nan gauge", Type::Gauge, gauge(f64::NAN)),
        metric("short sketch", Type::Set, set(b"\x01\x0e\x00")),
        metric(
            "nan centroid",
            Type::Timer,
            Some(digest(&[(f64::NAN, 1.0)])),
        ),
        metric("weightless", Type::Histogram, Some(digest(&[(1.0, 0.0)]))),
        Metric {
            scope: Scope::Local.into(),
            ..metric("local", Type::Histogram, Some(digest(&[(2.0, 1.0)])))
        },
    ];
    let bad_count = bad.len() as u64;
    let mut metrics = vec![counter("first", 1)];
    for metric in bad {
        metrics.push(metric);
        metrics.push(counter("between", 1));
    }
    let mut body = list(metrics).to_vec();
    // A metric that is no metric at all, and a last good one.
    body.extend_from_slice(&[0x0a, 2, 0xff, 0xff]);
    body.extend_from_slice(&list(vec![counter("last", 1)]));
    global
        .client()
        .await
        .send_metrics(Bytes::from(body))
        .await
        .unwrap();
    assert_eq!(global.flush(), ["between 8", "first 1", "last 1"]);
    assert_eq!(recorded.get("worker.metrics_imported_total"), 10);
    let count = |cause: &str| recorded.get(&format!("import.errors_total{{cause={cause}}}"));
    assert_eq!(count("type_mismatch"), 1);
    assert_eq!(count("missing_value"), 1);
    assert_eq!(count("unknown_type"), 1);
    assert_eq!(count("not_finite"), 1);
    assert_eq!(count("digest_mean"), 1);
    assert_eq!(count("digest_weight"), 1);
    assert_eq!(count("local_scope"), 1);
    assert_eq!(count("decode"), 1);
    assert_eq!(recorded.sum("import.errors_total"), bad_count + 1);
}

#[tokio::test]
async fn a_list_that_is_not_framed_right_is_refused_and_nothing_of_it_is_taken() {
    let global = Global::start(GrpcSettings::default()).await;
    let mut body = list(counters(10)).to_vec();
    body.truncate(body.len() - 1);
    let mut client = global.client().await;
    let refused = client.send_metrics(Bytes::from(body)).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert_eq!(global.flush(), [""; 0]);
    // The connection is as good as before.
    client.send_metrics(list(counters(1))).await.unwrap();
    assert_eq!(global.flush(), ["c0 1"]);
}

#[tokio::test]
async fn a_message_over_the_limit_is_refused_as_resource_exhausted_by_either_method() {
    let global = Global::start(GrpcSettings {
        max_message: 1000,
        ..GrpcSettings::default()
    })
    .await;
    let mut client = global.client().await;
    let refused = client.send_metrics(list(counters(500))).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused}");
    let huge = counter("x".repeat(2000), 1).encode_to_vec().into();
    let small = counter("small", 1).encode_to_vec().into();
    let refused = client
        .send_metrics_v2(tokio_stream::iter([small, huge]))
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused}");
    assert_eq!(global.flush(), ["small 1"], "what came before stays");
}

#[tokio::test]
async fn a_stream_is_merged_as_it_comes_and_keeps_what_came_when_it_breaks() {
    let recorded = Counters::leaked();
    let _recording = recorded.record();
    let global = Global::start(GrpcSettings::default()).await;
    let mut client = global.client().await;
    let (messages, stream) = mpsc::channel(8);
    let call =
        tokio::spawn(async move { client.send_metrics_v2(ReceiverStream::new(stream)).await });
    for round in 0..3 {
        messages
            .send(counter(format!("round{round}"), 5).encode_to_vec().into())
            .await
            .unwrap();
        messages.send(Bytes::from_static(&[0xff])).await.unwrap();
        // The stream has not ended, and will not: the metric is there all the same.
        let emitted = eventually(|| Some(global.flush()).filter(|lines| !lines.is_empty())).await;
        assert_eq!(emitted, [format!("round{round} 5")]);
        eventually(|| (recorded.get("worker.metrics_imported_total") == round + 1).then_some(()))
            .await;
    }
    for metric in counters(200) {
        messages.send(metric.encode_to_vec().into()).await.unwrap();
    }
    let mut merged = 0;
    let deadline = Instant::now() + PATIENCE;
    while merged < 200 && Instant::now() < deadline {
        merged += global.flush().len();
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(merged, 200);
    // The client dies without a word.
    call.abort();
    assert_eq!(global.flush(), [""; 0]);
}

#[tokio::test]
async fn a_server_that_is_stopped_ends_within_its_grace_although_a_stream_stays_open() {
    let table = Table::new(TableConfig::default());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let stop = CancellationToken::new();
    let serving = tokio::spawn(import::serve(
        listener,
        Intake::into_table(&table, DedupBounds::default()),
        GrpcSettings::default(),
        Readiness::new(),
        stop.clone(),
        Duration::from_millis(100),
    ));
    let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
    let mut client = ForwardClient::new(endpoint.connect().await.unwrap());
    let (messages, stream) = mpsc::channel(8);
    let _call =
        tokio::spawn(async move { client.send_metrics_v2(ReceiverStream::new(stream)).await });
    messages
        .send(counter("open", 1).encode_to_vec().into())
        .await
        .unwrap();
    eventually(|| (!table.take().is_empty()).then_some(())).await;
    stop.cancel();
    let ended = tokio::time::timeout(PATIENCE, serving).await;
    ended.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_is_merged_whole_although_its_sender_gives_up_midway() {
    struct Slow(Arc<AtomicUsize>);
    impl Merge for Slow {
        fn merge(&mut self, _: Metric) -> Result<(), &'static str> {
            std::thread::sleep(Duration::from_micros(50));
            self.0.fetch_add(1, Ordering::Relaxed);
            Ok(())
        }
    }
    let merged = Arc::new(AtomicUsize::new(0));
    let shared = Arc::clone(&merged);
    let global = Global::start_into(
        Intake::new(DedupBounds::default(), move || {
            Box::new(Slow(Arc::clone(&shared)))
        }),
        GrpcSettings::default(),
    )
    .await;
    let mut client = global.client().await;
    let call = tokio::spawn(async move { client.send_metrics(list(counters(5000))).await });
    let count = || merged.load(Ordering::Relaxed);
    eventually(|| (count() > 0).then_some(())).await;
    call.abort();
    assert!(count() < 5000, "it gave up too late for this test");
    eventually(|| (count() == 5000).then_some(())).await;
}

#[tokio::test]
async fn recorded_requests_of_three_generations_of_agents_land_in_the_table() {
    let fixture: Value =
        serde_json::from_str(include_str!("../fixtures/veneur/import_json.json")).unwrap();
    for version in ["v2.0.0", "v8.0.0", "v14.2.0"] {
        for captured in fixture["captured"][version].as_array().unwrap() {
            let global = Global::start(GrpcSettings::default()).await;
            let mut request = Request::post(global.import_url());
            for (name, value) in captured["headers"].as_object().unwrap() {
                if !["Host", "Content-Length"].contains(&name.as_str()) {
                    request = request.header(name, value.as_str().unwrap());
                }
            }
            let body = STANDARD
                .decode(captured["raw_b64"].as_str().unwrap())
                .unwrap();
            let answer = ask(request.body(Full::new(body.into())).unwrap()).await;
            assert_eq!(answer, (202, String::new()), "{version}");
            let emitted = global.flush();
            for element in captured["body"].as_array().unwrap() {
                let name = element["name"].as_str().unwrap();
                assert!(
                    emitted.iter().any(|line| line.starts_with(name)),
                    "{version}: {name} in {emitted:?}"
                );
            }
            assert!(emitted.contains(&"leg.gcount 7".to_owned()), "{emitted:?}");
        }
    }
}

#[tokio::test]
async fn import_answers_as_recorded() {
    let global = Global::start(GrpcSettings::default()).await;
    let refused = |status: u16, text: &str| (status, format!("{text}\n"));
    assert_eq!(
        global.post(None, "[]").await,
        refused(400, "Received empty /import request")
    );
    assert_eq!(
        global.post(None, "[{}]").await,
        refused(400, "Received empty or improperly-formed metrics")
    );
    assert_eq!(
        global.post(None, "xx").await,
        refused(400, "invalid character 'x' looking for beginning of value")
    );
    assert_eq!(global.post(Some("gzip"), "[]").await, refused(415, "gzip"));
    assert_eq!(
        global.post(Some("deflate"), "[]").await,
        refused(400, "zlib: invalid header")
    );
    let get = Request::builder()
        .method(Method::GET)
        .uri(global.import_url());
    assert_eq!(
        ask(get.body(Full::default()).unwrap()).await,
        refused(404, "404 page not found")
    );
    assert_eq!(global.flush(), [""; 0]);
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused_also_when_it_is_small_until_inflated() {
    let global = Global::start(GrpcSettings {
        max_message: 10_000,
        ..GrpcSettings::default()
    })
    .await;
    assert_eq!(global.post(None, vec![b' '; 20_000]).await.0, 413);
    let bomb = json::deflate(&vec![b' '; 1 << 20]);
    assert!(bomb.len() < 10_000);
    assert_eq!(global.post(Some("deflate"), bomb).await.0, 413);
}

#[tokio::test]
async fn bad_elements_of_a_legacy_request_are_counted_and_the_rest_is_merged() {
    let recorded = Counters::leaked();
    let _recording = recorded.record();
    let global = Global::start(GrpcSettings::default()).await;
    let body = r#"[
        {"name":"good","type":"counter","tagstring":"","tags":[],"value":"AQAAAAAAAAA="},
        {"name":"short","type":"counter","tagstring":"","tags":[],"value":"AQ=="},
        {"name":"odd","type":"riddle","tagstring":"","tags":[],"value":"AQAAAAAAAAA="},
        {"name":"last","type":"counter","tagstring":"","tags":[],"value":"AgAAAAAAAAA="}
    ]"#;
    assert_eq!(global.post(None, body).await, (202, String::new()));
    assert_eq!(global.flush(), ["good 1", "last 2"]);
    assert_eq!(recorded.sum("import.errors_total"), 2);
    assert_eq!(recorded.get("worker.metrics_imported_total"), 2);
}

#[tokio::test]
async fn what_is_forwarded_arrives_by_each_protocol() {
    for protocol in [Protocol::Unary, Protocol::Stream, Protocol::Json] {
        let global = Global::start(GrpcSettings::default()).await;
        let address = match protocol {
            Protocol::Json => format!("http://{}", global.http),
            _ => global.grpc.to_string(),
        };
        let forwarder = Forwarder::start(ForwardConfig {
            addresses: vec![address],
            protocol,
            ..ForwardConfig::default()
        })
        .unwrap();
        let mut metrics = counters(100);
        metrics.push(metric(
            "timer",
            Type::Timer,
            Some(digest(&[(1.0, 1.0), (2.0, 1.0), (3.0, 1.0)])),
        ));
        forwarder.send(metrics);
        let remained = forwarder.drain(Instant::now() + PATIENCE).await;
        assert_eq!(remained, Backlog::default(), "{protocol:?}");
        let emitted = global.flush();
        assert_eq!(emitted.len(), 101, "{protocol:?}: {emitted:?}");
        assert!(
            emitted.contains(&"timer.50percentile 2".to_owned()),
            "{protocol:?}: {emitted:?}"
        );
    }
}
