//! What others have forwarded, on its way through a forwarder: whoever brought it hears what became of it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use prost::Message;
use tonic::{Code, Status};
use tributary_aggregator::forward::{BatchLimits, ForwardConfig, Forwarder, Ledger, Retention};
use tributary_aggregator::receipt::{Fate, Pending, Receipt};
use tributary_aggregator::source::{Forwarded, Relay};
use tributary_node::grpc::GrpcSettings;
use tributary_proto::forwardrpc::MetricList;
use tributary_proto::metricpb::Metric;

use crate::forward::{config, nobody};
use crate::global::Global;
use crate::proxy::{Fault, Proxy};
use crate::upstream::{Behaviour, Upstream};
use crate::{PATIENCE, counters, eventually};

/// As an agent has stamped and flushed them.
fn stamped(count: usize) -> Forwarded {
    let metrics: Vec<Metric> = (0..)
        .zip(counters(count))
        .map(|(index, metric)| Metric {
            origin: 7,
            flush: 3,
            index,
            ..metric
        })
        .collect();
    Forwarded {
        list: MetricList { metrics }.encode_to_vec().into(),
        metrics: count as u32,
        flushed_at: None,
    }
}

fn relay(forwarder: &Forwarder, forwarded: Forwarded) -> Pending {
    let (receipt, pending) = Receipt::new();
    forwarder.relay(forwarded, receipt);
    pending
}

async fn fate(pending: Pending) -> Fate {
    tokio::time::timeout(PATIENCE, pending.fate())
        .await
        .expect("it has no fate")
}

fn milliseconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap().as_millis() as u64
}

const LOST: fn(u64) -> Fate = |lost| Fate { lost, refused: 0 };

#[tokio::test]
async fn it_is_over_when_all_is_merged_and_what_comes_again_is_merged_once() {
    let global = Global::start(GrpcSettings::default()).await;
    let mut faults = vec![Fault::Part(2, Duration::ZERO), Fault::CutAfter];
    let script = move |_: &[Metric]| faults.pop().unwrap_or(Fault::None);
    let proxy = Proxy::start(&global, script).await;
    let forwarder = Forwarder::start(ForwardConfig {
        addresses: vec![proxy.address.to_string()],
        batch: BatchLimits {
            metrics: 15,
            bytes: 1 << 20,
        },
        ..ForwardConfig::default()
    })
    .unwrap();
    let flushed_at = SystemTime::now() - Duration::from_secs(60);
    for _ in 0..2 {
        let forwarded = Forwarded {
            flushed_at: Some(flushed_at),
            ..stamped(20)
        };
        assert_eq!(fate(relay(&forwarder, forwarded)).await, LOST(0));
    }
    let mut all: Vec<_> = (0..20).map(|number| format!("c{number} 1")).collect();
    all.sort();
    assert_eq!(global.flush(), all);
    let calls = proxy.calls();
    let sizes: Vec<_> = calls.iter().map(|call| call.metrics.len()).collect();
    assert!(sizes.contains(&15) && sizes.contains(&5), "{sizes:?}");
    for call in calls {
        assert_eq!(call.flushed_at, Some(milliseconds(flushed_at)));
        assert!(call.metrics.iter().all(|metric| metric.origin == 7));
    }
    let ledger = forwarder.ledger();
    assert_eq!((ledger.handed, ledger.acknowledged), (40, 40));
    assert_eq!(ledger.residue(), 0);
}

#[tokio::test]
async fn what_has_waited_for_long_belongs_to_the_owners_of_now() {
    let global = Global::start(GrpcSettings::default()).await;
    let proxy = Proxy::start(&global, |_: &[Metric]| Fault::None).await;
    let forwarder = Forwarder::start(ForwardConfig {
        addresses: vec![proxy.address.to_string()],
        ..ForwardConfig::default()
    })
    .unwrap();
    let start = SystemTime::now();
    for flushed_at in [
        None,
        Some(UNIX_EPOCH),
        Some(start - Duration::from_secs(400)),
        Some(start + Duration::from_secs(400)),
    ] {
        let forwarded = Forwarded {
            flushed_at,
            ..stamped(1)
        };
        assert_eq!(fate(relay(&forwarder, forwarded)).await, LOST(0));
    }
    let now = milliseconds(start)..=milliseconds(SystemTime::now());
    for call in proxy.calls() {
        let meant = call.flushed_at.unwrap();
        assert!(now.contains(&meant), "{meant} is not in {now:?}");
    }
}

#[tokio::test]
async fn what_nobody_takes_in_time_goes_back_and_is_in_no_account() {
    let forwarder = Forwarder::start(ForwardConfig {
        addresses: vec![nobody().await],
        retention: Retention {
            time: Duration::from_millis(100),
            bytes: 1 << 20,
        },
        ..ForwardConfig::default()
    })
    .unwrap();
    assert_eq!(fate(relay(&forwarder, stamped(20))).await, LOST(20));
    assert_eq!(forwarder.ledger(), Ledger::default());
}

#[tokio::test]
async fn what_there_is_no_room_for_goes_back_at_once_and_costs_nobody_else_anything() {
    let upstream = Upstream::start(Behaviour::Refuse(Status::unavailable("full"))).await;
    let forwarder = Forwarder::start(ForwardConfig {
        retention: Retention {
            time: PATIENCE,
            bytes: 3_000,
        },
        ..config(&[&upstream])
    })
    .unwrap();
    forwarder.send(counters(20));
    eventually(|| (forwarder.backlog().flushes == 0).then_some(())).await;
    let first = relay(&forwarder, stamped(20));
    assert_eq!(fate(relay(&forwarder, stamped(100))).await, LOST(100));
    // A flush of this process needs the room.
    forwarder.send(counters(60));
    assert_eq!(fate(first).await, LOST(20));
    let ledger = forwarder.ledger();
    assert!(!ledger.lost.contains_key("retention_bytes") || ledger.handed == 80);
    assert_eq!(ledger.residue(), 0);
    // What waits at the end goes back as well.
    upstream.behave(Behaviour::Accept);
    crate::forward::drained(&forwarder).await;
    assert_eq!(fate(relay(&forwarder, stamped(4))).await, LOST(4));
}

#[tokio::test]
async fn what_a_receiver_refuses_for_good_is_lost_and_does_not_come_again() {
    let status = Status::new(Code::InvalidArgument, "no");
    let upstream = Upstream::start(Behaviour::Refuse(status)).await;
    let forwarder = Forwarder::start(config(&[&upstream])).unwrap();
    let refused = Fate {
        lost: 20,
        refused: 20,
    };
    assert_eq!(fate(relay(&forwarder, stamped(20))).await, refused);
    assert_eq!(forwarder.ledger().lost["refused"], 20);
}
