//! The ways in once nothing more is taken.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use prost::Message;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::Code;
use tonic::transport::{Channel, Endpoint};
use tributary_aggregator::import::{self, DedupBounds, Intake, OpenInterval};
use tributary_aggregator::table::{Table, TableConfig};
use tributary_node::admin::Readiness;
use tributary_node::grpc::GrpcSettings;
use tributary_proto::ack::{self, Unacknowledged};
use tributary_proto::forwardrpc::MetricList;
use tributary_proto::metricpb::{CounterValue, Metric, Scope, Type, metric};
use tributary_proto::raw::forward_client::ForwardClient;
use tributary_proto::scan;

/// A counter of 1; with an index it is stamped.
fn counter(name: &str, index: Option<u32>) -> Metric {
    Metric {
        name: name.to_owned(),
        r#type: Type::Counter.into(),
        scope: Scope::Global.into(),
        value: Some(metric::Value::Counter(CounterValue { value: 1 })),
        origin: index.map_or(0, |_| 7),
        flush: index.map_or(0, |_| 3),
        index: index.unwrap_or(0),
        ..Metric::default()
    }
}

fn list(metrics: Vec<Metric>) -> Bytes {
    MetricList { metrics }.encode_to_vec().into()
}

struct Global {
    intake: Arc<Intake>,
    table: Arc<Table>,
    client: ForwardClient<Channel>,
}

impl Global {
    async fn start() -> Self {
        let table = Table::new(TableConfig::default());
        let intake = Intake::into_table(&table, DedupBounds::default());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(import::serve(
            listener,
            Arc::clone(&intake),
            GrpcSettings::default(),
            Readiness::new(),
            CancellationToken::new(),
            Duration::ZERO,
        ));
        let endpoint = Endpoint::from_shared(address).unwrap();
        Self {
            intake,
            table,
            client: ForwardClient::new(endpoint.connect_lazy()),
        }
    }

    /// Merges what is handed over for this interval; otherwise gives the ranges of what was turned away.
    async fn hand_over(&mut self, interval: u64, mut metrics: Vec<Metric>) -> Vec<(u32, u32)> {
        let total = metrics.len() as u32;
        for metric in &mut metrics {
            metric.interval = interval;
        }
        // Among others' metrics, as a proxy batches them.
        let others = [counter("plain", None), counter("plain", None)];
        let [first, last] = others.map(|other| vec![other]);
        let list = list([first, metrics, last].concat());
        let Err(status) = self.client.send_metrics(list).await else {
            return Vec::new();
        };
        assert_eq!(status.code(), Code::FailedPrecondition);
        assert!(ack::read_turned_away(status.metadata()) && ack::read_dedup(status.metadata()));
        let left = Unacknowledged::read(status.metadata(), total + 2);
        let ranges = left.unwrap().unwrap();
        ranges
            .ranges()
            .map(|range| (range.start, range.end))
            .collect()
    }

    fn merged(&self) -> u64 {
        self.table.take().counts.imported
    }
}

#[tokio::test]
async fn what_is_handed_over_is_merged_into_its_interval_or_not_at_all() {
    let mut global = Global::start().await;
    let of = |index| vec![counter("a", Some(index)), counter("b", Some(index + 1))];
    // As long as the intervals are nobody's business all are the right one.
    assert_eq!(global.hand_over(20_000, of(0)).await, []);
    let open = |time| {
        Some(OpenInterval {
            time,
            length: 10_000,
        })
    };
    let intake = Arc::clone(&global.intake);
    assert_eq!(intake.begin(open(20_000), || global.merged()).await, 4);
    for interval in [10_000, 30_000] {
        let left = global.hand_over(interval, of(10)).await;
        assert_eq!(left, [(1, 3)], "{interval}");
    }
    assert_eq!(global.merged(), 4, "the others'");
    // Turned away before, and new all the same.
    assert_eq!(global.hand_over(20_000, of(10)).await, []);
    assert_eq!(global.merged(), 4);
    intake.begin(open(30_000), || ()).await;
    // A repeat is recognised in any interval.
    assert_eq!(global.hand_over(20_000, of(10)).await, []);
    assert_eq!(global.merged(), 2, "the others'");
    // A global with other intervals, and one that has waited for long.
    assert_eq!(global.hand_over(25_000, of(20)).await, []);
    assert_eq!(global.hand_over(scan::ANY_INTERVAL, of(30)).await, []);
    assert_eq!(global.merged(), 8);
}

#[tokio::test]
async fn what_is_new_is_turned_away_and_what_is_merged_is_acknowledged_all_the_same() {
    let mut global = Global::start().await;
    let first = vec![counter("a", Some(0)), counter("b", Some(5_000))];
    global
        .client
        .send_metrics(list(first.clone()))
        .await
        .unwrap();
    global.intake.close().await;
    assert_eq!(global.merged(), 2);
    global
        .client
        .send_metrics(list(first.clone()))
        .await
        .unwrap();
    global.client.send_metrics(Bytes::new()).await.unwrap();
    let mut mixed = vec![counter("new", Some(1))];
    mixed.extend(first);
    mixed.extend([counter("new", Some(9_000)), counter("plain", None)]);
    let status = global.client.send_metrics(list(mixed)).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    assert!(ack::read_turned_away(status.metadata()) && ack::read_dedup(status.metadata()));
    let left = Unacknowledged::read(status.metadata(), 5).unwrap().unwrap();
    assert_eq!(left.ranges().collect::<Vec<_>>(), [0..1, 3..5]);
    let status = global
        .client
        .send_metrics(Bytes::from_static(b"?"))
        .await
        .unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert_eq!(global.merged(), 0);
}

#[tokio::test]
async fn a_stream_is_merged_as_far_as_it_came_and_then_ended() {
    let mut global = Global::start().await;
    let (send, receive) = mpsc::channel(8);
    for name in ["a", "b"] {
        send.send(Bytes::from(counter(name, None).encode_to_vec()))
            .await
            .unwrap();
    }
    let mut client = global.client.clone();
    let stream =
        tokio::spawn(async move { client.send_metrics_v2(ReceiverStream::new(receive)).await });
    let mut merged = 0;
    while merged < 2 {
        merged += global.merged();
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // The sender has not ended it.
    global.intake.close().await;
    let status = stream.await.unwrap().unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "{status}");
    drop(send);
    let late = tokio_stream::iter([Bytes::from(counter("c", None).encode_to_vec())]);
    let status = global.client.send_metrics_v2(late).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "{status}");
    assert_eq!(global.merged(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_answered_for_is_in_the_table_when_it_is_closed() {
    for _ in 0..20 {
        let global = Global::start().await;
        let senders: Vec<_> = (0..4)
            .map(|_| {
                let mut client = global.client.clone();
                tokio::spawn(async move {
                    let many = list(
                        (0..500)
                            .map(|number| counter(&format!("c{number}"), None))
                            .collect(),
                    );
                    let mut taken = 0;
                    while client.send_metrics(many.clone()).await.is_ok() {
                        taken += 500;
                    }
                    taken
                })
            })
            .collect();
        tokio::time::sleep(Duration::from_millis(10)).await;
        global.intake.close().await;
        let merged = global.merged();
        let mut answered = 0;
        for sender in senders {
            answered += sender.await.unwrap();
        }
        assert_eq!(merged, answered);
        assert_eq!(global.merged(), 0);
    }
}

#[tokio::test]
async fn the_legacy_way_in_says_that_it_is_unavailable() {
    let global = Global::start().await;
    global.intake.close().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = import::http::router(Arc::clone(&global.intake), 1 << 20);
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    let body = r#"[{"name":"a","tags":[],"tagstring":"","type":"counter","value":"AQAAAAAAAAA="}]"#;
    let request =
        Request::post(format!("http://{address}/import")).body(Full::new(Bytes::from(body)));
    let client = Client::builder(TokioExecutor::new()).build_http();
    let answer = client.request(request.unwrap()).await.unwrap();
    assert_eq!(answer.status(), 503);
    assert_eq!(global.merged(), 0);
}
