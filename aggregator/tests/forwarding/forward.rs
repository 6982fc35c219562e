//! What a forwarder does when its destinations answer, refuse, stall, vanish or speak an older language.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tonic::Status;
use tonic::transport::Server;
use tributary_aggregator::forward::{Backlog, BatchLimits, ForwardConfig, Forwarder, Protocol};
use tributary_proto::metricpb::Metric;

use crate::counters::Counters;
use crate::upstream::{Behaviour, Upstream};
use crate::{PATIENCE, counter, counters, eventually};

pub(crate) fn config(addresses: &[&Upstream]) -> ForwardConfig {
    ForwardConfig {
        addresses: addresses
            .iter()
            .map(|upstream| upstream.address.to_string())
            .collect(),
        timeout: Duration::from_secs(5),
        ..ForwardConfig::default()
    }
}

/// Everything must get out.
pub(crate) async fn drained(forwarder: &Forwarder) {
    let remained = forwarder.drain(Instant::now() + PATIENCE).await;
    assert_eq!(remained, Backlog::default());
}

/// An address where nobody listens.
pub(crate) async fn nobody() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    listener.local_addr().unwrap().to_string()
}

pub(crate) fn names(metrics: &[Metric]) -> BTreeSet<String> {
    metrics.iter().map(|metric| metric.name.clone()).collect()
}

fn stamps(metrics: &[Metric]) -> BTreeSet<(u64, u64, u32)> {
    metrics
        .iter()
        .map(|metric| (metric.origin, metric.flush, metric.index))
        .collect()
}

#[tokio::test]
async fn a_flush_arrives_in_batches_and_every_metric_is_stamped() {
    let upstream = Upstream::start(Behaviour::Accept).await;
    let forwarder = Forwarder::start(ForwardConfig {
        batch: BatchLimits {
            metrics: 1000,
            bytes: 20_000,
        },
        ..config(&[&upstream])
    })
    .unwrap();
    forwarder.send(counters(5000));
    forwarder.send(counters(3));
    drained(&forwarder).await;
    let metrics = upstream.metrics();
    let origin = forwarder.origin();
    assert_ne!(origin, 0);
    let expected: BTreeSet<_> = (0..5000)
        .map(|index| (origin, 1, index))
        .chain((0..3).map(|index| (origin, 2, index)))
        .collect();
    assert_eq!(metrics.len(), 5003);
    assert_eq!(stamps(&metrics), expected);
    for call in upstream.calls() {
        assert!(!call.streamed && call.metrics.len() <= 1000 && call.bytes <= 20_000);
    }
}

#[tokio::test]
async fn two_destinations_share_the_load() {
    let (first, second) = (
        Upstream::start(Behaviour::Accept).await,
        Upstream::start(Behaviour::Accept).await,
    );
    let forwarder = Forwarder::start(ForwardConfig {
        batch: BatchLimits {
            metrics: 10,
            bytes: 1 << 20,
        },
        ..config(&[&first, &second])
    })
    .unwrap();
    forwarder.send(counters(1000));
    drained(&forwarder).await;
    let (first, second) = (first.metrics().len(), second.metrics().len());
    assert_eq!(first + second, 1000);
    assert!(first >= 200 && second >= 200, "{first} and {second}");
}

#[tokio::test]
async fn what_one_destination_does_not_accept_goes_to_another() {
    let recorded = Counters::leaked();
    let _recording = recorded.record();
    let upstream = Upstream::start(Behaviour::Accept).await;
    let mut config = config(&[&upstream]);
    config.addresses.insert(0, nobody().await);
    config.batch.metrics = 10;
    let forwarder = Forwarder::start(config).unwrap();
    forwarder.send(counters(100));
    drained(&forwarder).await;
    assert_eq!(upstream.metrics().len(), 100);
    assert_eq!(names(&upstream.metrics()).len(), 100);
    assert!(recorded.get("forward.error_total{cause=transient_unavailable}") >= 1);
    assert_eq!(recorded.get("forward.post_metrics_total"), 100);
}

#[tokio::test]
async fn a_destination_that_says_unavailable_gets_the_batch_once_it_is_back() {
    let upstream = Upstream::start(Behaviour::Refuse(Status::unavailable("starting"))).await;
    let forwarder = Forwarder::start(config(&[&upstream])).unwrap();
    forwarder.send(counters(7));
    eventually(|| (forwarder.backlog().batches == 1).then_some(())).await;
    upstream.behave(Behaviour::Accept);
    drained(&forwarder).await;
    assert_eq!(upstream.metrics().len(), 7);
    assert!(upstream.probes() >= 1, "it was asked before it was trusted");
}

#[tokio::test]
async fn a_destination_that_comes_up_late_gets_everything() {
    let address = nobody().await;
    let forwarder = Forwarder::start(ForwardConfig {
        addresses: vec![format!("http://{address}")],
        ..ForwardConfig::default()
    })
    .unwrap();
    for _ in 0..3 {
        forwarder.send(counters(5));
    }
    eventually(|| (forwarder.backlog().batches == 3).then_some(())).await;
    let upstream = Upstream::start_on(&address, Behaviour::Accept, Server::builder()).await;
    drained(&forwarder).await;
    assert_eq!(stamps(&upstream.metrics()).len(), 15);
}

#[tokio::test]
async fn a_stalled_destination_holds_up_neither_the_flush_nor_another_destination() {
    let recorded = Counters::leaked();
    let _recording = recorded.record();
    let stalled = Upstream::start(Behaviour::Stall).await;
    let sound = Upstream::start(Behaviour::Accept).await;
    let forwarder = Forwarder::start(ForwardConfig {
        timeout: Duration::from_secs(4),
        at_once: 2,
        batch: BatchLimits {
            metrics: 10,
            bytes: 1 << 20,
        },
        ..config(&[&stalled, &sound])
    })
    .unwrap();
    let start = Instant::now();
    forwarder.send(counters(500));
    assert!(start.elapsed() < Duration::from_secs(3));
    drained(&forwarder).await;
    // At most two batches went to the stalled one, and are not sent again: they may have been taken.
    let (held, arrived) = (stalled.metrics(), sound.metrics());
    assert!(!held.is_empty() && held.len() <= 20, "{}", held.len());
    assert_eq!(held.len() + arrived.len(), 500);
    assert!(names(&held).is_disjoint(&names(&arrived)));
    let lost = recorded.get("forward.lost_metrics_total{cause=unknown_outcome}");
    assert_eq!(lost, held.len() as u64);
    assert!(recorded.get("forward.error_total{cause=deadline_exceeded}") >= 1);
}

#[tokio::test]
async fn a_stalled_destination_is_used_again_when_it_answers() {
    let recorded = Counters::leaked();
    let _recording = recorded.record();
    let upstream = Upstream::start(Behaviour::Stall).await;
    let forwarder = Forwarder::start(ForwardConfig {
        timeout: Duration::from_secs(1),
        ..config(&[&upstream])
    })
    .unwrap();
    forwarder.send(vec![counter("lost", 1)]);
    let late = || recorded.get("forward.error_total{cause=deadline_exceeded}") >= 1;
    eventually(|| late().then_some(())).await;
    forwarder.send(vec![counter("kept", 1)]);
    upstream.behave(Behaviour::Accept);
    drained(&forwarder).await;
    let got: Vec<_> = upstream.metrics().into_iter().map(|m| m.name).collect();
    assert_eq!(got, ["lost", "kept"]);
    let lost = recorded.get("forward.lost_metrics_total{cause=unknown_outcome}");
    assert_eq!(lost, 1);
}

/// Accepts one connection, reads a request of at least 5,000 bytes as someone would who merges it, says `last_words` and hangs up.
async fn hang_up_on_request(last_words: &'static [u8]) -> (String, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let hanging_up = tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        // Empty settings are greeting enough.
        socket
            .write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0])
            .await
            .unwrap();
        let mut buffer = vec![0; 4096];
        let mut seen = 0;
        while seen < 5_000 {
            let read = socket.read(&mut buffer).await.unwrap();
            assert_ne!(read, 0);
            seen += read;
        }
        socket.write_all(last_words).await.unwrap();
        // What the client still has to say, so that the last words are not lost to a reset.
        socket.shutdown().await.unwrap();
        while socket.read(&mut buffer).await.is_ok_and(|read| read > 0) {}
    });
    (address, hanging_up)
}

#[tokio::test]
async fn a_connection_cut_after_the_request_was_sent_is_not_answered_by_a_repeat() {
    let recorded = Counters::leaked();
    let _recording = recorded.record();
    let (address, hanging_up) = hang_up_on_request(&[]).await;
    let forwarder = Forwarder::start(ForwardConfig {
        addresses: vec![address.clone()],
        ..ForwardConfig::default()
    })
    .unwrap();
    forwarder.send(counters(500));
    hanging_up.await.unwrap();
    let cut = || recorded.get("forward.error_total{cause=send}") == 1;
    eventually(|| cut().then_some(())).await;
    // Whether it would recognise a repeat can be asked once it is back. It says nothing of the kind.
    let upstream = Upstream::start_on(&address, Behaviour::Accept, Server::builder()).await;
    drained(&forwarder).await;
    let lost = recorded.get("forward.lost_metrics_total{cause=unknown_outcome}");
    assert_eq!(lost, 500);
    assert!(upstream.metrics().is_empty() && upstream.probes() >= 1);
}

#[tokio::test]
async fn a_graceful_goaway_that_disowns_the_request_sends_it_elsewhere() {
    let recorded = Counters::leaked();
    let _recording = recorded.record();
    // GOAWAY: no stream was processed, no error.
    let goaway = &[0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let (leaving, hanging_up) = hang_up_on_request(goaway).await;
    let upstream = Upstream::start(Behaviour::Accept).await;
    let mut config = config(&[&upstream]);
    config.addresses.insert(0, leaving);
    let forwarder = Forwarder::start(config).unwrap();
    forwarder.send(counters(500));
    hanging_up.await.unwrap();
    drained(&forwarder).await;
    assert_eq!(stamps(&upstream.metrics()).len(), 500);
    assert_eq!(recorded.sum("forward.lost_metrics_total"), 0);
}

#[tokio::test]
async fn a_destination_without_the_unary_method_gets_streams_from_then_on() {
    for answer in [
        Status::unimplemented("unknown method SendMetrics"),
        Status::unknown("not implemented"),
    ] {
        let upstream = Upstream::start(Behaviour::Refuse(answer)).await;
        let forwarder = Forwarder::start(config(&[&upstream])).unwrap();
        forwarder.send(counters(10));
        eventually(|| forwarder.backlog().is_empty().then_some(())).await;
        // It would take unary calls now, but is not asked again.
        upstream.behave(Behaviour::Accept);
        forwarder.send(counters(20));
        drained(&forwarder).await;
        let calls = upstream.calls();
        assert!(calls.iter().all(|call| call.streamed));
        let sizes: Vec<_> = calls.iter().map(|call| call.metrics.len()).collect();
        assert_eq!(sizes, [10, 20]);
    }
}

#[tokio::test]
async fn a_flush_is_one_stream_with_a_message_for_each_metric() {
    let upstream = Upstream::start(Behaviour::Accept).await;
    let forwarder = Forwarder::start(ForwardConfig {
        protocol: Protocol::Stream,
        ..config(&[&upstream])
    })
    .unwrap();
    forwarder.send(counters(10_000));
    drained(&forwarder).await;
    let calls = upstream.calls();
    assert_eq!(calls.len(), 1);
    assert!(calls[0].streamed);
    assert_eq!(calls[0].metrics.len(), 10_000);
}

#[tokio::test]
async fn connections_that_end_gracefully_all_the_time_lose_and_repeat_nothing() {
    let recorded = Counters::leaked();
    let _recording = recorded.record();
    let short = Server::builder().max_connection_age(Duration::from_millis(5));
    let upstream = Upstream::start_on("127.0.0.1:0", Behaviour::Accept, short).await;
    let forwarder = Forwarder::start(ForwardConfig {
        batch: BatchLimits {
            metrics: 5,
            bytes: 1 << 20,
        },
        ..config(&[&upstream])
    })
    .unwrap();
    for _ in 0..40 {
        forwarder.send(counters(50));
        tokio::time::sleep(Duration::from_millis(3)).await;
    }
    drained(&forwarder).await;
    let metrics = upstream.metrics();
    assert_eq!(
        recorded.get("forward.lost_metrics_total{cause=unknown_outcome}"),
        0
    );
    assert_eq!(metrics.len(), 2000);
    assert_eq!(stamps(&metrics).len(), 2000);
}

#[tokio::test]
async fn a_batch_that_is_refused_for_its_own_sake_does_not_discredit_the_destination() {
    let recorded = Counters::leaked();
    let _recording = recorded.record();
    let upstream = Upstream::start(Behaviour::Refuse(Status::invalid_argument("bad"))).await;
    let forwarder = Forwarder::start(config(&[&upstream])).unwrap();
    forwarder.send(counters(3));
    eventually(|| forwarder.backlog().is_empty().then_some(())).await;
    assert_eq!(recorded.get("forward.lost_metrics_total{cause=refused}"), 3);
    upstream.behave(Behaviour::Accept);
    forwarder.send(counters(2));
    drained(&forwarder).await;
    assert_eq!((upstream.metrics().len(), upstream.probes()), (2, 0));
}
