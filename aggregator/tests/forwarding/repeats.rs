//! What a global does with metrics that come again: each stamp is merged once.

use std::time::Duration;

use bytes::Bytes;
use prost::Message;
use tonic::{Code, Request};
use tributary_aggregator::import::{DedupBounds, Intake};
use tributary_aggregator::table::{Table, TableConfig};
use tributary_node::grpc::GrpcSettings;
use tributary_proto::ack;
use tributary_proto::forwardrpc::MetricList;
use tributary_proto::metricpb::Metric;

use crate::counters::Counters;
use crate::global::Global;
use crate::{counter, counters};

/// The metrics of one flush, each with its place.
fn stamped(origin: u64, flush: u64, metrics: Vec<Metric>) -> Vec<Metric> {
    (0..)
        .zip(metrics)
        .map(|(index, metric)| Metric {
            origin,
            flush,
            index,
            ..metric
        })
        .collect()
}

fn list(metrics: &[Metric]) -> Bytes {
    let metrics = metrics.to_vec();
    MetricList { metrics }.encode_to_vec().into()
}

/// `c0 total`, `c1 total`, … as a flush gives them.
fn each(count: usize, total: u32) -> Vec<String> {
    let mut lines: Vec<_> = (0..count)
        .map(|number| format!("c{number} {total}"))
        .collect();
    lines.sort();
    lines
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_batch_that_comes_through_two_connections_at_once_is_merged_once() {
    let global = Global::start(GrpcSettings::default()).await;
    let (mut first, mut second) = (global.client().await, global.client().await);
    for flush in 1..=20 {
        let body = list(&stamped(7, flush, counters(2000)));
        let (one, other) = tokio::join!(
            first.send_metrics(body.clone()),
            second.send_metrics(body.clone())
        );
        one.unwrap();
        other.unwrap();
    }
    // Each of the two answers after it has merged its own share.
    assert_eq!(global.flush(), each(2000, 20));
}

#[tokio::test]
async fn repeats_are_recognised_however_the_batches_are_cut_and_whichever_way_they_come() {
    let recorded = Counters::leaked();
    let _recording = recorded.record();
    let global = Global::start(GrpcSettings::default()).await;
    let mut client = global.client().await;
    let metrics = stamped(7, 1, counters(1000));
    client.send_metrics(list(&metrics[..300])).await.unwrap();
    // Half of it is new.
    client.send_metrics(list(&metrics[150..450])).await.unwrap();
    for part in metrics[400..600].chunks(7) {
        client.send_metrics(list(part)).await.unwrap();
    }
    // All of it as a stream, each metric by itself, and the newest first.
    let messages: Vec<Bytes> = metrics
        .iter()
        .rev()
        .map(|metric| metric.encode_to_vec().into())
        .collect();
    client
        .send_metrics_v2(tokio_stream::iter(messages))
        .await
        .unwrap();
    client.send_metrics(list(&metrics)).await.unwrap();
    assert_eq!(global.flush(), each(1000, 1));
    // A later interval makes no difference.
    client.send_metrics(list(&metrics)).await.unwrap();
    assert_eq!(global.flush(), [""; 0]);
    assert_eq!(recorded.get("worker.metrics_imported_total"), 1000);
    let sent = 300 + 300 + 200 + 1000 + 1000 + 1000;
    assert_eq!(recorded.get("import.repeated_total"), sent - 1000);
    assert_eq!(recorded.sum("import.errors_total"), 0);
}

#[tokio::test]
async fn another_sender_another_flush_and_no_stamp_at_all_are_no_repeats() {
    let global = Global::start(GrpcSettings::default()).await;
    let mut client = global.client().await;
    for (origin, flush) in [(7, 1), (7, 2), (8, 1)] {
        let metrics = stamped(origin, flush, counters(10));
        client.send_metrics(list(&metrics)).await.unwrap();
    }
    for _ in 0..2 {
        client.send_metrics(list(&counters(10))).await.unwrap();
    }
    assert_eq!(global.flush(), each(10, 5));
}

#[tokio::test]
async fn a_malformed_metric_that_comes_again_is_not_counted_again() {
    let recorded = Counters::leaked();
    let _recording = recorded.record();
    let global = Global::start(GrpcSettings::default()).await;
    let mut client = global.client().await;
    let unknown_type = Metric {
        r#type: 99,
        ..counter("unknown", 1)
    };
    let nameless = counter("", 1);
    let body = list(&stamped(
        7,
        1,
        vec![counter("c0", 1), unknown_type, nameless],
    ));
    for _ in 0..3 {
        client.send_metrics(body.clone()).await.unwrap();
    }
    assert_eq!(global.flush(), each(1, 1));
    assert_eq!(recorded.sum("import.errors_total"), 2);
    assert_eq!(recorded.get("import.repeated_total"), 6);
}

#[tokio::test]
async fn what_cannot_be_told_from_a_repeat_is_refused_and_counted_by_cause() {
    let recorded = Counters::leaked();
    let _recording = recorded.record();
    let table = Table::new(TableConfig::default());
    let bounds = DedupBounds {
        bytes: 4_000,
        window: Duration::from_secs(60),
    };
    let intake = Intake::into_table(&table, bounds);
    let mut global = Global::start_into(intake, GrpcSettings::default()).await;
    global.table = table;
    let mut client = global.client().await;
    for flush in 1..=50 {
        let metrics = stamped(7, flush, counters(10));
        client.send_metrics(list(&metrics)).await.unwrap();
    }
    assert_eq!(global.flush(), each(10, 50));
    // The first flush has left the memory since, the last one is there.
    for flush in [1, 50] {
        let metrics = stamped(7, flush, counters(10));
        client.send_metrics(list(&metrics)).await.unwrap();
    }
    let absurd = Metric {
        origin: 7,
        flush: 50,
        index: u32::MAX,
        ..counter("absurd", 1)
    };
    client.send_metrics(list(&[absurd])).await.unwrap();
    assert_eq!(global.flush(), [""; 0]);
    let errors = |cause: &str| recorded.get(&format!("import.errors_total{{cause={cause}}}"));
    assert_eq!((errors("stamp_forgotten"), errors("stamp_absurd")), (10, 1));
    assert_eq!(recorded.get("import.repeated_total"), 10);
}

#[tokio::test]
async fn every_answer_says_that_repeats_are_recognised() {
    let global = Global::start(GrpcSettings {
        max_message: 1000,
        ..GrpcSettings::default()
    })
    .await;
    let mut client = global.client().await;
    let answer = client.send_metrics(Bytes::new()).await.unwrap();
    assert!(ack::read_dedup(answer.metadata()));
    let stream = tokio_stream::iter([Bytes::from(counter("c", 1).encode_to_vec())]);
    let answer = client.send_metrics_v2(stream).await.unwrap();
    assert!(ack::read_dedup(answer.metadata()));
    let badly_framed = Bytes::from_static(&[0x0a]);
    let refused = client.send_metrics(badly_framed).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert!(ack::read_dedup(refused.metadata()));
    let mut large = Request::new(list(&counters(500)));
    ack::write_flushed_at(large.metadata_mut(), 1);
    let refused = client.send_metrics(large).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted);
    assert!(ack::read_dedup(refused.metadata()));
}
