//! Exactly once: whatever happens between an agent and a global, each metric is merged once, as long as there is time to try again.
//!
//! Behind the proxies stands a real table with a real memory of stamps, so that the sums at the end show losses and duplicates alike.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;
use tonic::Code;
use tributary_aggregator::forward::{BatchLimits, ForwardConfig, Forwarder, Ledger, Retention};
use tributary_node::grpc::GrpcSettings;
use tributary_proto::metricpb::Metric;

use crate::counters::Counters;
use crate::forward::{drained, nobody};
use crate::global::Global;
use crate::proxy::{Fault, Proxy};
use crate::upstream::{Behaviour, Upstream};
use crate::{PATIENCE, counter, counters, eventually};

/// Longer than any answer takes here, and short enough to be waited for.
const TIMEOUT: Duration = Duration::from_millis(300);
const TOO_LATE: Duration = Duration::from_millis(600);

async fn global() -> Global {
    Global::start(GrpcSettings::default()).await
}

fn config(proxies: &[&Proxy]) -> ForwardConfig {
    ForwardConfig {
        addresses: proxies
            .iter()
            .map(|proxy| proxy.address.to_string())
            .collect(),
        timeout: TIMEOUT,
        ..ForwardConfig::default()
    }
}

/// Each fault once, and none from then on.
fn first(faults: impl IntoIterator<Item = Fault>) -> impl FnMut(&[Metric]) -> Fault + Send {
    let mut faults: Vec<_> = faults.into_iter().collect();
    faults.reverse();
    move |_| faults.pop().unwrap_or(Fault::None)
}

fn names(metrics: &[Metric]) -> BTreeSet<String> {
    metrics.iter().map(|metric| metric.name.clone()).collect()
}

/// Every metric acknowledged, none lost, nothing left.
fn all_acknowledged(ledger: &Ledger, handed: u64) {
    assert_eq!(ledger.residue(), 0);
    assert_eq!((ledger.handed, ledger.acknowledged), (handed, handed));
    assert!(ledger.lost.is_empty() && ledger.waiting == 0, "{ledger:?}");
}

/// `c0 total`, `c1 total`, … as a flush gives them.
fn each(count: usize, total: usize) -> Vec<String> {
    let mut lines: Vec<_> = (0..count)
        .map(|number| format!("c{number} {total}"))
        .collect();
    lines.sort();
    lines
}

#[tokio::test]
async fn whatever_happens_to_the_very_first_call_its_metrics_are_merged_once() {
    let faults = [
        Fault::Slow(TOO_LATE),
        Fault::LateAnswer(TOO_LATE),
        Fault::CutAfter,
        Fault::CutBefore,
        Fault::Disowned(Code::Unavailable),
        Fault::Disowned(Code::Internal),
        Fault::Disowned(Code::Unknown),
        Fault::Disowned(Code::Aborted),
        Fault::Disowned(Code::PermissionDenied),
        Fault::Disowned(Code::ResourceExhausted),
        Fault::Disowned(Code::DeadlineExceeded),
        Fault::Refused(Code::ResourceExhausted),
        Fault::Refused(Code::Unauthenticated),
        Fault::Part(2, Duration::ZERO),
        Fault::Part(1, Duration::ZERO),
        Fault::PartUnsaid,
        Fault::Garbage,
    ];
    for fault in faults {
        let global = global().await;
        let proxy = Proxy::start(&global, first([fault])).await;
        let forwarder = Forwarder::start(config(&[&proxy])).unwrap();
        forwarder.send(counters(20));
        drained(&forwarder).await;
        assert_eq!(global.flush(), each(20, 1), "{fault:?}");
        all_acknowledged(&forwarder.ledger(), 20);
        assert!(proxy.calls().len() >= 2, "{fault:?} was no failure");
    }
}

#[tokio::test]
async fn only_what_is_not_acknowledged_is_sent_again_with_the_time_of_its_flush() {
    let recorded = Counters::leaked();
    let _recording = recorded.record();
    let global = global().await;
    let part = Fault::Part(10, Duration::ZERO);
    let proxy = Proxy::start(&global, first([part, part])).await;
    let forwarder = Forwarder::start(config(&[&proxy])).unwrap();
    let flushed_at = UNIX_EPOCH + Duration::from_millis(1_700_000_000_123);
    forwarder.send_flush(flushed_at, counters(100));
    drained(&forwarder).await;
    assert_eq!(global.flush(), each(100, 1));
    let calls = proxy.calls();
    let stamps: Vec<Vec<_>> = calls
        .iter()
        .map(|call| call.metrics.iter().map(|metric| metric.index).collect())
        .collect();
    let every_tenth: Vec<u32> = (0..100).step_by(10).collect();
    assert_eq!(stamps[0], (0..100).collect::<Vec<_>>());
    assert_eq!(stamps[1..], [every_tenth, vec![0]]);
    assert!(
        calls
            .iter()
            .all(|call| call.flushed_at == Some(1_700_000_000_123))
    );
    let ledger = forwarder.ledger();
    all_acknowledged(&ledger, 100);
    assert_eq!(ledger.repeated, 11);
    assert_eq!(recorded.get("forward.post_metrics_total"), 100);
    // Nothing of it was merged before: the proxy's word was exact.
    assert_eq!(recorded.get("import.repeated_total"), 0);
}

#[tokio::test]
async fn an_acknowledgement_that_cannot_be_read_acknowledges_nothing() {
    let recorded = Counters::leaked();
    let _recording = recorded.record();
    let global = global().await;
    let proxy = Proxy::start(&global, first([Fault::Garbage])).await;
    let forwarder = Forwarder::start(config(&[&proxy])).unwrap();
    forwarder.send(counters(100));
    drained(&forwarder).await;
    assert_eq!(global.flush(), each(100, 1));
    all_acknowledged(&forwarder.ledger(), 100);
    assert_eq!(recorded.get("import.repeated_total"), 50);
    let unreadable = recorded.get("forward.unreadable_acknowledgements_total");
    assert_eq!(unreadable, 1);
}

#[tokio::test]
async fn a_batch_that_every_receiver_would_refuse_is_given_up() {
    let global = global().await;
    let refused = Fault::Refused(Code::InvalidArgument);
    let proxy = Proxy::start(&global, first([refused])).await;
    let forwarder = Forwarder::start(config(&[&proxy])).unwrap();
    forwarder.send(counters(3));
    drained(&forwarder).await;
    let ledger = forwarder.ledger();
    assert_eq!(ledger.lost, [("refused", 3)].into());
    assert_eq!((ledger.residue(), proxy.calls().len()), (0, 1));
}

#[tokio::test]
async fn what_one_global_holds_up_holds_up_nothing_else() {
    let global = global().await;
    // One metric in ten belongs to a global that does not answer, and the proxy waits for it as long as it may.
    let proxy = Proxy::start(&global, |metrics| match metrics.len() {
        100 => Fault::Part(10, TIMEOUT / 2),
        _ => Fault::Part(1, TIMEOUT / 2),
    })
    .await;
    let forwarder = Forwarder::start(ForwardConfig {
        at_once: 8,
        batch: BatchLimits {
            metrics: 100,
            bytes: 1 << 20,
        },
        ..config(&[&proxy])
    })
    .unwrap();
    let mut sent = 0_u64;
    for round in 1..=20_u64 {
        forwarder.send(counters(200));
        sent += 200;
        // Nine of ten of this flush are through before the next one, whatever has gathered of those before.
        eventually(|| {
            let through = forwarder.ledger().acknowledged >= round * 180;
            through.then_some(())
        })
        .await;
    }
    let calls = proxy.calls();
    let last_first_attempt = calls
        .iter()
        .rposition(|call| call.metrics.len() == 100)
        .unwrap();
    assert!(
        calls[..last_first_attempt]
            .iter()
            .any(|call| call.metrics.len() < 100),
        "what was left was tried again meanwhile"
    );
    proxy.behave(|_| Fault::None);
    drained(&forwarder).await;
    all_acknowledged(&forwarder.ledger(), sent);
    assert_eq!(global.flush(), each(200, 20));
}

#[tokio::test]
async fn what_may_have_been_taken_never_goes_to_one_that_would_not_recognise_it() {
    let global = global().await;
    let proxy = Proxy::start(&global, first([Fault::None, Fault::CutAfter])).await;
    // As a Veneur: it takes everything, and says nothing of repeats.
    let stranger = Upstream::start(Behaviour::Accept).await;
    let mut config = config(&[&proxy]);
    config.addresses.push(stranger.address.to_string());
    let forwarder = Forwarder::start(config).unwrap();
    for name in ["first", "second", "third"] {
        forwarder.send(vec![counter(name, 1)]);
        // One after the other, so that each takes its turn.
        eventually(|| {
            let calls = proxy.calls().len() + stranger.calls().len();
            let tried = calls as u64 == forwarder.ledger().handed;
            (tried || forwarder.backlog().is_empty()).then_some(())
        })
        .await;
    }
    drained(&forwarder).await;
    all_acknowledged(&forwarder.ledger(), 3);
    let merged: BTreeSet<_> = global.flush().into_iter().collect();
    let elsewhere = names(&stranger.metrics());
    assert_eq!(stranger.metrics().len() + merged.len(), 3);
    assert!(proxy.calls().len() > merged.len(), "nothing was repeated");
    for line in &merged {
        assert!(!elsewhere.contains(line.trim_end_matches(" 1")), "{line}");
    }
}

#[tokio::test]
async fn draining_goes_on_trying_until_its_deadline() {
    let global = global().await;
    let began = Instant::now();
    let proxy = Proxy::start(&global, move |_| {
        match began.elapsed() < Duration::from_secs(1) {
            true => Fault::Refused(Code::Unavailable),
            false => Fault::None,
        }
    })
    .await;
    let forwarder = Forwarder::start(config(&[&proxy])).unwrap();
    forwarder.send(counters(50));
    drained(&forwarder).await;
    assert_eq!(global.flush(), each(50, 1));

    // A part of it is never acknowledged.
    proxy.behave(|_| Fault::Part(5, Duration::ZERO));
    let forwarder = Forwarder::start(config(&[&proxy])).unwrap();
    forwarder.send(counters(50));
    let deadline = Instant::now() + Duration::from_secs(4);
    let remained = forwarder.drain(deadline).await;
    assert!(remained.metrics > 0 && remained.metrics < 10);
    let ledger = forwarder.ledger();
    assert_eq!(ledger.lost, [("shutdown", remained.metrics)].into());
    assert_eq!((ledger.residue(), ledger.waiting), (0, 0));
    assert_eq!(global.flush().len() as u64, ledger.acknowledged);
}

#[tokio::test]
async fn what_is_given_up_is_counted_once_whatever_was_merged_of_it() {
    let global = global().await;
    let mut turn = 0;
    let proxy = Proxy::start(&global, move |_| {
        turn += 1;
        match turn % 3 {
            0 => Fault::PartUnsaid,
            1 => Fault::Part(3, Duration::ZERO),
            _ => Fault::Refused(Code::Unavailable),
        }
    })
    .await;
    let mut config = config(&[&proxy]);
    config.addresses.push(nobody().await);
    let forwarder = Forwarder::start(ForwardConfig {
        retention: Retention {
            time: Duration::from_secs(2),
            bytes: 30_000,
        },
        batch: BatchLimits {
            metrics: 50,
            bytes: 1 << 20,
        },
        ..config
    })
    .unwrap();
    for _ in 0..30 {
        forwarder.send(counters(100));
        eventually(|| (forwarder.backlog().flushes == 0).then_some(())).await;
        assert_eq!(forwarder.ledger().residue(), 0);
    }
    eventually(|| forwarder.backlog().is_empty().then_some(())).await;
    let ledger = forwarder.ledger();
    assert_eq!((ledger.handed, ledger.residue()), (3000, 0));
    let lost: u64 = ledger.lost.values().sum();
    assert!(lost > 0 && ledger.acknowledged > 0, "{ledger:?}");
    let merged: u64 = global
        .flush()
        .iter()
        .map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap())
        .sum();
    assert!(merged >= ledger.acknowledged && merged <= ledger.handed);
}

#[tokio::test]
async fn through_proxies_that_fail_in_every_way_at_random_each_metric_is_merged_once() {
    for seed in 1..=2 {
        let global = global().await;
        let flips = |seed| {
            let mut random = fastrand::Rng::with_seed(seed);
            move |_: &[Metric]| match random.u32(..100) {
                0..5 => Fault::Slow(TOO_LATE),
                5..10 => Fault::LateAnswer(TOO_LATE),
                10..12 => Fault::CutAfter,
                12..14 => Fault::CutBefore,
                14..19 => Fault::Disowned(Code::Internal),
                19..24 => Fault::Disowned(Code::Unavailable),
                24..29 => Fault::Refused(Code::ResourceExhausted),
                29..34 => Fault::PartUnsaid,
                34..39 => Fault::Garbage,
                39..60 => Fault::Part(random.usize(1..5), Duration::from_millis(20)),
                _ => Fault::None,
            }
        };
        let (one, other) = (
            Proxy::start(&global, flips(seed)).await,
            Proxy::start(&global, flips(seed + 100)).await,
        );
        let forwarder = Forwarder::start(ForwardConfig {
            batch: BatchLimits {
                metrics: 29,
                bytes: 1 << 20,
            },
            ..config(&[&one, &other])
        })
        .unwrap();
        for _ in 0..20 {
            forwarder.send_flush(SystemTime::now(), counters(100));
            tokio::time::sleep(Duration::from_millis(20)).await;
            assert_eq!(forwarder.ledger().residue(), 0);
        }
        // The proxies go on failing: only patience brings everything through.
        let remained = forwarder.drain(Instant::now() + 3 * PATIENCE).await;
        assert!(remained.is_empty(), "seed {seed}: {remained:?}");
        all_acknowledged(&forwarder.ledger(), 2000);
        assert_eq!(global.flush(), each(100, 20), "seed {seed}");
        assert!(forwarder.ledger().repeated > 0);
    }
}
