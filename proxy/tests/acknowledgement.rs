//! What senders that stamp their metrics are told, and when.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use support::global::{Manner, global, ours};
use support::{
    Relay, Running, config, left, list, metrics, owner_on, proxy, ring, stamped, until, with,
};
use tokio::sync::{Notify, watch};
use tonic::{Code, Response, Status};
use tributary_proto::ack;

/// An address where nobody listens.
fn nobody() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().to_string()
}

async fn send(proxy: &Running, metrics: &[Bytes]) -> Result<Response<Bytes>, Status> {
    proxy.client().await.send_metrics(list(metrics)).await
}

/// The positions of those that an address owns.
fn owned_by(address: &str, addresses: &[String], metrics: &[Bytes]) -> Vec<u32> {
    let ring = ring(addresses);
    (0..)
        .zip(metrics)
        .filter(|(_, metric)| owner_on(&ring, metric) == address)
        .map(|(position, _)| position)
        .collect()
}

#[tokio::test]
async fn a_stamped_request_is_answered_when_it_is_merged_and_not_before() {
    let release = Arc::new(Notify::new());
    let global = ours(Manner::Waits(release.clone())).await;
    let proxy = proxy(&with("stall_after: 60s"), [&global.address]).await;
    let sent = stamped(1, 1, 100);
    let mut client = proxy.client().await;
    let request = list(&sent);
    let answer = tokio::spawn(async move { client.send_metrics(request).await });
    until("it was sent on", || global.calls() == 1).await;
    assert_eq!(proxy.ledger().await["totals"]["waiting"], 100);
    assert!(!answer.is_finished());
    release.notify_one();
    assert!(left(answer.await.unwrap(), 100).is_empty());
    assert_eq!(global.count(), 100);
    let totals = proxy.router.ledger().totals();
    assert_eq!((totals.acknowledged, totals.unacknowledged), (100, 0));
    proxy.books_balance().await;
    proxy.stop().await;
}

#[tokio::test]
async fn every_answer_says_that_repeats_are_recognised() {
    let global = ours(Manner::Takes).await;
    let config = with("max_message_size: 64KiB");
    let proxy = proxy(&config, [&global.address]).await;
    let mut client = proxy.client().await;
    let answer = client.send_metrics(list(&metrics(3))).await.unwrap();
    assert!(ack::read_dedup(answer.metadata()));
    let answer = client.send_metrics_v2(tokio_stream::iter(metrics(3))).await;
    assert!(ack::read_dedup(answer.unwrap().metadata()));
    let malformed = client.send_metrics(Bytes::from_static(&[0x0a, 9])).await;
    let malformed = malformed.unwrap_err();
    assert_eq!(malformed.code(), Code::InvalidArgument);
    assert!(ack::read_dedup(malformed.metadata()));
    let long = client.send_metrics(Bytes::from(vec![0; 65 << 10])).await;
    let long = long.unwrap_err();
    assert_eq!(long.code(), Code::ResourceExhausted);
    assert!(ack::read_dedup(long.metadata()));
    proxy.stop().await;
}

#[tokio::test]
async fn a_metric_that_cannot_be_routed_counts_as_acknowledged_and_as_skipped() {
    let global = ours(Manner::Takes).await;
    let proxy = proxy(&config(), [&global.address]).await;
    let mut sent = stamped(1, 1, 10);
    sent[0] = Bytes::from_static(b"\xff");
    sent[4] = Bytes::new();
    assert!(left(send(&proxy, &sent).await, 10).is_empty());
    assert_eq!(global.count(), 8);
    let ledger = proxy.ledger().await;
    assert_eq!(ledger["totals"]["skipped"]["name"], 1);
    assert_eq!(ledger["totals"]["acknowledged"], 10);
    proxy.books_balance().await;
    proxy.stop().await;
}

#[tokio::test]
async fn a_stopped_global_costs_one_request_a_moment_and_the_others_nothing() {
    let (run, runs) = watch::channel(true);
    let well = ours(Manner::Takes).await;
    let stops = ours(Manner::Stops(runs)).await;
    let addresses = [well.address.clone(), stops.address.clone()];
    let proxy = proxy(&with("stall_after: 1500ms, ack_timeout: 60s"), &addresses).await;
    let sent = stamped(1, 1, 200);
    assert!(left(send(&proxy, &sent).await, 200).is_empty());

    run.send(false).unwrap();
    let of_stopped = owned_by(&stops.address, &addresses, &sent);
    let start = Instant::now();
    // The first one finds out; what is under way stays, and is the question whether anybody answers.
    assert_eq!(
        left(send(&proxy, &stamped(1, 2, 200)).await, 200),
        of_stopped
    );
    assert!(start.elapsed() >= Duration::from_millis(1500));
    let calls = stops.calls();
    let start = Instant::now();
    for flush in 3..13 {
        assert_eq!(
            left(send(&proxy, &stamped(1, flush, 200)).await, 200),
            of_stopped
        );
    }
    // Not even two of the ten have waited as the first one had to.
    assert!(start.elapsed() < Duration::from_secs(3));
    assert_eq!(stops.calls(), calls);
    let report = |proxy: &Running| {
        let table = proxy.router.table();
        let of = table.destinations().iter();
        let mut of = of.filter(|destination| **destination.address() == *stops.address);
        of.next().unwrap().report()
    };
    assert_eq!(report(&proxy).unavailable, Some("stalled"));

    run.send(true).unwrap();
    until("it is available again", || {
        report(&proxy).unavailable.is_none()
    })
    .await;
    assert!(left(send(&proxy, &stamped(1, 13, 200)).await, 200).is_empty());
    // What the sender was told is not merged may have been merged all the same: it is delivered twice, and recognised by its stamp.
    assert!(left(send(&proxy, &stamped(1, 2, 200)).await, 200).is_empty());
    assert_eq!(
        stops.stamps().values().filter(|times| **times > 1).count(),
        of_stopped.len()
    );
    proxy.books_balance().await;
    let ledger = proxy.ledger().await;
    let of_destination = ledger["destinations"].as_array().unwrap();
    let line = of_destination
        .iter()
        .find(|line| line["address"] == *stops.address);
    assert_eq!(line.unwrap()["returned"]["stalled"], 10 * of_stopped.len());
    assert_eq!(line.unwrap()["lost"], serde_json::json!({}));
    proxy.stop().await;
}

#[tokio::test]
async fn a_global_that_is_gone_leaves_its_part_with_the_sender_at_once() {
    let well = ours(Manner::Takes).await;
    let addresses = [well.address.clone(), nobody()];
    let proxy = proxy(&config(), &addresses).await;
    let sent = stamped(1, 1, 200);
    let of_gone = owned_by(&addresses[1], &addresses, &sent);
    for _ in 0..5 {
        let start = Instant::now();
        assert_eq!(left(send(&proxy, &sent).await, 200), of_gone);
        assert!(start.elapsed() < Duration::from_secs(5));
    }
    assert_eq!(well.count(), 5 * (200 - of_gone.len()));
    proxy.books_balance().await;
    proxy.stop().await;
}

#[tokio::test]
async fn a_global_that_asks_for_patience_leaves_its_part_with_the_sender_and_gets_it_later() {
    let busy = ours(Manner::Busy(Arc::new(AtomicUsize::new(2)))).await;
    let proxy = proxy(&config(), [&busy.address]).await;
    let sent = stamped(1, 1, 20);
    let mut refusals = 0;
    while !left(send(&proxy, &sent).await, 20).is_empty() {
        refusals += 1;
        assert!(refusals < 2000);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(refusals >= 2);
    assert_eq!(busy.count(), 20);
    proxy.books_balance().await;
    proxy.stop().await;
}

#[tokio::test]
async fn after_the_time_for_acknowledgements_the_sender_learns_what_is_known() {
    let well = ours(Manner::Takes).await;
    let slow = ours(Manner::Hangs).await;
    let addresses = [well.address.clone(), slow.address.clone()];
    let config = with("ack_timeout: 2s, stall_after: 60s");
    let config = tributary_proxy::config::Config {
        shutdown_timeout: tributary_node::config::Duration::seconds(1),
        ..config
    };
    let proxy = proxy(&config, &addresses).await;
    let sent = stamped(1, 1, 200);
    let of_slow = owned_by(&slow.address, &addresses, &sent);
    // The first is under way, the others are queued behind it: after their time they are not sent.
    for _ in 0..3 {
        assert_eq!(left(send(&proxy, &sent).await, 200), of_slow);
    }
    assert_eq!(slow.calls(), 1);
    proxy.stop().await;
}

#[tokio::test]
async fn what_was_merged_before_the_connection_broke_is_sent_there_again_and_acknowledged() {
    let silent = Arc::new(AtomicUsize::new(0));
    let global = ours(Manner::MergesInSilence(silent.clone())).await;
    let relay = Relay::to(&global.address).await;
    let proxy = proxy(&with("stall_after: 60s"), [&relay.address]).await;
    assert!(left(send(&proxy, &stamped(1, 1, 10)).await, 10).is_empty());

    silent.store(1, Ordering::SeqCst);
    let mut client = proxy.client().await;
    let request = list(&stamped(1, 2, 50));
    let answer = tokio::spawn(async move { client.send_metrics(request).await });
    until("it was merged", || global.count() == 60).await;
    relay.cut();
    assert!(left(answer.await.unwrap(), 50).is_empty());
    let stamps = global.stamps();
    let twice = stamps
        .iter()
        .filter(|(stamp, times)| stamp.flush == 2 && **times == 2);
    assert_eq!((stamps.len(), twice.count()), (60, 50));
    proxy.books_balance().await;
    assert_eq!(proxy.router.ledger().totals().delivered, 60);
    proxy.stop().await;
}

#[tokio::test]
async fn what_a_global_may_have_merged_is_not_sent_again_if_it_has_not_said_that_it_recognises_it()
{
    let silent = Arc::new(AtomicUsize::new(1));
    let global = global(Manner::MergesInSilence(silent.clone())).await;
    let relay = Relay::to(&global.address).await;
    let proxy = proxy(&with("stall_after: 60s"), [&relay.address]).await;
    let breaks = async |flush, expected| {
        let mut client = proxy.client().await;
        let request = list(&stamped(1, flush, 10));
        let answer = tokio::spawn(async move { client.send_metrics(request).await });
        until("it was merged", || global.count() == expected).await;
        relay.cut();
        left(answer.await.unwrap(), 10)
    };
    // It has not said anything yet: the sender keeps it.
    assert_eq!(breaks(1, 10).await.len(), 10);
    assert!(left(send(&proxy, &stamped(1, 2, 10)).await, 10).is_empty());
    // Now it is known to be of another kind: nobody must send it again, so it is lost, as if it had no stamp.
    silent.store(1, Ordering::SeqCst);
    assert!(breaks(3, 30).await.is_empty());
    assert_eq!((global.count(), global.calls()), (30, 3));
    let totals = proxy.router.ledger().totals();
    assert_eq!(totals.lost.values().sum::<u64>(), 10);
    assert_eq!(totals.returned.values().sum::<u64>(), 10);
    proxy.books_balance().await;
    proxy.stop().await;
}

#[tokio::test]
async fn what_a_global_refuses_stays_with_its_sender() {
    let stern = ours(Manner::Refuses(Status::internal("no"))).await;
    let proxy = proxy(&config(), [&stern.address]).await;
    for _ in 0..2 {
        assert_eq!(left(send(&proxy, &stamped(1, 1, 5)).await, 5).len(), 5);
    }
    assert_eq!(stern.calls(), 2);
    assert_eq!(proxy.router.ledger().totals().returned["internal"], 10);
    proxy.books_balance().await;
    proxy.stop().await;
}

#[tokio::test]
async fn over_the_total_a_stamped_request_is_refused_whole() {
    let release = Arc::new(Notify::new());
    let slow = ours(Manner::Waits(release.clone())).await;
    let config = with("stall_after: 60s, queue: {per_destination: 128KiB, total: 128KiB}");
    let proxy = proxy(&config, [&slow.address]).await;
    let waiting: Vec<_> = (1..=2)
        .map(|flush| {
            let (request, grpc) = (list(&stamped(1, flush, 1000)), proxy.grpc.clone());
            tokio::spawn(async move {
                let client = tributary_proto::raw::forward_client::ForwardClient::connect(format!(
                    "http://{grpc}"
                ));
                client.await.unwrap().send_metrics(request).await
            })
        })
        .collect();
    until("both wait", || {
        proxy.router.ledger().totals().waiting == 2000
    })
    .await;
    let before = proxy.router.ledger().totals().queued;
    let refusal = send(&proxy, &stamped(1, 3, 1000)).await.unwrap_err();
    assert_eq!(refusal.code(), Code::ResourceExhausted);
    assert!(ack::read_dedup(refusal.metadata()));
    assert!(ack::read_turned_away(refusal.metadata()));
    assert!(
        !refusal.message().contains("too large"),
        "senders repeat it"
    );
    let totals = proxy.router.ledger().totals();
    assert_eq!(
        (totals.refused["total_full"], totals.queued),
        (1000, before)
    );
    assert!(totals.lost.is_empty());
    for answer in waiting {
        while !answer.is_finished() {
            release.notify_one();
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert!(left(answer.await.unwrap(), 1000).is_empty());
    }
    proxy.books_balance().await;
    proxy.stop().await;
}

#[tokio::test]
async fn a_full_queue_leaves_only_its_own_part_with_the_sender() {
    let well = ours(Manner::Takes).await;
    let slow = ours(Manner::Hangs).await;
    let addresses = [well.address.clone(), slow.address.clone()];
    let config =
        with("stall_after: 60s, ack_timeout: 5s, queue: {per_destination: 64KiB, total: 1MiB}");
    let config = tributary_proxy::config::Config {
        shutdown_timeout: tributary_node::config::Duration::seconds(1),
        ..config
    };
    let proxy = proxy(&config, &addresses).await;
    // Without stamps, to fill the queue.
    send(&proxy, &metrics(4000)).await.unwrap();
    // The other one's is full as well until it has been sent.
    until("the one that is well has taken its part", || {
        let table = proxy.router.table();
        table.destinations().iter().all(|destination| {
            let report = destination.report();
            *report.address == *slow.address || report.queued_metrics == 0
        })
    })
    .await;
    let sent = stamped(1, 1, 400);
    let of_slow = owned_by(&slow.address, &addresses, &sent);
    let start = Instant::now();
    assert_eq!(left(send(&proxy, &sent).await, 400), of_slow);
    assert!(start.elapsed() < Duration::from_secs(4));
    assert_eq!(
        proxy.router.ledger().totals().returned["queue_full"],
        of_slow.len() as u64
    );
    proxy.stop().await;
}

#[tokio::test]
async fn a_request_that_is_not_stamped_throughout_is_answered_when_it_is_queued() {
    let hung = ours(Manner::Hangs).await;
    let config = tributary_proxy::config::Config {
        shutdown_timeout: tributary_node::config::Duration::seconds(1),
        ..config()
    };
    let proxy = proxy(&config, [&hung.address]).await;
    let mut mixed = stamped(1, 1, 3);
    mixed.push(support::metric(7));
    send(&proxy, &mixed).await.unwrap();
    until("it was sent on", || hung.calls() == 1).await;
    proxy.stop().await;
}

/// Whether an answer vouches that what it leaves is merged by nobody, and how much that is.
fn vouches(answer: Result<Response<Bytes>, Status>, metrics: usize) -> (bool, usize) {
    let vouched = ack::read_turned_away(answer.as_ref().unwrap_err().metadata());
    (vouched, left(answer, metrics).len())
}

#[tokio::test]
async fn what_nobody_was_sent_is_turned_away() {
    let proxy = proxy(&config(), [] as [String; 0]).await;
    let sent = stamped(1, 1, 100);
    assert_eq!(vouches(send(&proxy, &sent).await, 100), (true, 100));
    let well = ours(Manner::Takes).await;
    let addresses = [well.address.clone(), nobody()];
    proxy.routes_to(&addresses).await;
    let of_gone = owned_by(&addresses[1], &addresses, &sent).len();
    assert_eq!(vouches(send(&proxy, &sent).await, 100), (true, of_gone));
    proxy.books_balance().await;
    proxy.stop().await;
}

#[tokio::test]
async fn what_an_owner_turned_away_is_turned_away_and_what_it_has_is_acknowledged() {
    let leaving = Arc::new(AtomicBool::new(false));
    let owner = ours(Manner::Leaves(leaving.clone())).await;
    let proxy = proxy(&config(), [&owner.address]).await;
    let old = stamped(1, 1, 10);
    assert!(left(send(&proxy, &old).await, 10).is_empty());
    leaving.store(true, Ordering::SeqCst);
    // Every other one is a repeat.
    let new = stamped(1, 2, 10);
    let mixed: Vec<Bytes> = (0..20)
        .map(|i| [&old, &new][i % 2][i / 2].clone())
        .collect();
    let answer = send(&proxy, &mixed).await;
    assert!(ack::read_turned_away(
        answer.as_ref().unwrap_err().metadata()
    ));
    let odd: Vec<u32> = (0..20).filter(|position| position % 2 == 1).collect();
    assert_eq!(left(answer, 20), odd);
    assert_eq!(owner.count(), 10);
    proxy.books_balance().await;
    proxy.stop().await;
}

#[tokio::test]
async fn nobody_vouches_for_what_was_sent_and_not_answered_for() {
    let config = with("ack_timeout: 300ms, stall_after: 60s");
    let config = tributary_proxy::config::Config {
        shutdown_timeout: tributary_node::config::Duration::seconds(1),
        ..config
    };
    let hung = ours(Manner::Hangs).await;
    let busy = ours(Manner::Busy(Arc::new(AtomicUsize::new(1000)))).await;
    let stern = ours(Manner::Refuses(Status::internal("no"))).await;
    for global in [hung, busy, stern] {
        let proxy = proxy(&config, [&global.address]).await;
        let sent = stamped(1, 1, 10);
        assert_eq!(vouches(send(&proxy, &sent).await, 10), (false, 10));
        proxy.stop().await;
    }
    // One part of a request in doubt puts the others in doubt, too: there is one word for all.
    let (hung, gone) = (ours(Manner::Hangs).await, nobody());
    let proxy = proxy(&config, [hung.address.clone(), gone]).await;
    let sent = stamped(1, 1, 100);
    assert_eq!(vouches(send(&proxy, &sent).await, 100), (false, 100));
    proxy.stop().await;
}
