//! What a forwarder gives up, when, and how it says so.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::Instant;
use tonic::Status;
use tributary_aggregator::forward::{Backlog, ForwardConfig, Forwarder, Retention};
use tributary_proto::metricpb::{Metric, SetValue, Type, metric};

use crate::counters::Counters;
use crate::forward::{config, drained, names, nobody};
use crate::upstream::{Behaviour, Upstream};
use crate::{PATIENCE, counter, counters, eventually};

#[tokio::test]
async fn what_is_more_than_may_be_kept_is_given_up_oldest_first() {
    let recorded = Counters::leaked();
    let _recording = recorded.record();
    let upstream = Upstream::start(Behaviour::Refuse(Status::unavailable("full"))).await;
    let forwarder = Forwarder::start(ForwardConfig {
        retention: Retention {
            time: PATIENCE,
            bytes: 20_000,
        },
        ..config(&[&upstream])
    })
    .unwrap();
    for flush in 0..100 {
        forwarder.send(
            (0..10)
                .map(|index| counter(format!("{flush}.{index}"), 1))
                .collect(),
        );
        // Encoded before the next one comes, so that none is turned away as one too many.
        eventually(|| (forwarder.backlog().flushes == 0).then_some(())).await;
        assert!(forwarder.backlog().bytes <= 20_000);
    }
    let lost = recorded.get("forward.lost_metrics_total{cause=retention_bytes}");
    assert!(lost > 0 && lost < 1000, "{lost}");
    upstream.behave(Behaviour::Accept);
    drained(&forwarder).await;
    let metrics = upstream.metrics();
    assert_eq!(metrics.len() as u64 + lost, 1000);
    let flushes: BTreeSet<_> = metrics.iter().map(|metric| metric.flush).collect();
    assert!(flushes.contains(&100) && !flushes.contains(&2));
}

#[tokio::test]
async fn what_has_waited_too_long_is_given_up() {
    let recorded = Counters::leaked();
    let _recording = recorded.record();
    let forwarder = Forwarder::start(ForwardConfig {
        addresses: vec![nobody().await],
        retention: Retention {
            time: Duration::from_millis(100),
            bytes: 1 << 20,
        },
        ..ForwardConfig::default()
    })
    .unwrap();
    forwarder.send(counters(4));
    eventually(|| forwarder.backlog().is_empty().then_some(())).await;
    let lost = recorded.get("forward.lost_metrics_total{cause=retention_time}");
    assert_eq!(lost, 4);
}

#[tokio::test]
async fn draining_ends_at_its_deadline_and_reports_what_remained() {
    let recorded = Counters::leaked();
    let _recording = recorded.record();
    let forwarder = Forwarder::start(ForwardConfig {
        addresses: vec![nobody().await],
        ..ForwardConfig::default()
    })
    .unwrap();
    forwarder.send(counters(4));
    let start = Instant::now();
    let remained = forwarder.drain(start + Duration::from_millis(300)).await;
    assert_eq!((remained.batches, remained.metrics), (1, 4));
    assert!(start.elapsed() < Duration::from_secs(5));
    assert_eq!(forwarder.backlog(), Backlog::default());
    // What comes after is lost too, and counted.
    forwarder.send(counters(2));
    assert_eq!(
        recorded.get("forward.lost_metrics_total{cause=shutdown}"),
        6
    );
}

#[tokio::test]
async fn a_single_metric_that_nobody_would_take_costs_only_itself() {
    let recorded = Counters::leaked();
    let _recording = recorded.record();
    let upstream = Upstream::start(Behaviour::Accept).await;
    let forwarder = Forwarder::start(config(&[&upstream])).unwrap();
    let huge = Metric {
        name: "huge".into(),
        r#type: Type::Set.into(),
        value: Some(metric::Value::Set(SetValue {
            hyper_log_log: vec![1; 5 << 20].into(),
        })),
        ..Metric::default()
    };
    forwarder.send(vec![counter("before", 1), huge, counter("after", 1)]);
    drained(&forwarder).await;
    assert_eq!(
        names(&upstream.metrics()),
        ["after".to_owned(), "before".to_owned()].into()
    );
    assert_eq!(
        recorded.get("forward.lost_metrics_total{cause=too_large}"),
        1
    );
}

#[tokio::test]
async fn addresses_that_cannot_work_are_refused_at_the_start() {
    let start = |addresses: &[&str]| {
        Forwarder::start(ForwardConfig {
            addresses: addresses.iter().map(ToString::to_string).collect(),
            ..ForwardConfig::default()
        })
        .map(|_| ())
        .map_err(|error| error.to_string())
    };
    assert_eq!(start(&[]), Err("no forward address".into()));
    assert!(start(&["proxy:8128", "proxy"]).is_err());
    assert!(start(&["https://proxy:8128"]).is_err());
}
