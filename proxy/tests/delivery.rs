//! What destinations do, and how their trouble stays theirs.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use prost::Message;
use support::global::{Global, Manner, at, global, ours};
use support::{
    config, configured, left, list, metrics, owner_on, proxy, ring, stamped, until, with,
};
use tokio::sync::Notify;
use tonic::Status;
use tributary_proto::json;
use tributary_proto::metricpb::Metric;

/// An address where nobody listens, for now.
fn nobody() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().to_string()
}

fn owned_by(address: &str, addresses: &[String], metrics: &[Bytes]) -> usize {
    let ring = ring(addresses);
    let owned = metrics
        .iter()
        .filter(|metric| owner_on(&ring, metric) == address);
    owned.count()
}

#[tokio::test]
async fn a_destination_that_hangs_and_one_that_is_gone_delay_no_other() {
    let well = global(Manner::Takes).await;
    let hung = global(Manner::Hangs).await;
    let addresses = [well.address.clone(), hung.address.clone(), nobody()];
    let proxy = proxy(&config(), &addresses).await;
    let metrics = metrics(300);
    let expected = owned_by(&well.address, &addresses, &metrics);
    let mut client = proxy.client().await;
    let start = Instant::now();
    for _ in 0..20 {
        client.send_metrics(list(&metrics)).await.unwrap();
    }
    until("the one that is well has all of its own", || {
        well.count() == 20 * expected
    })
    .await;
    // Far below the time after which the hung one is given up.
    assert!(start.elapsed() < Duration::from_secs(10));
    until("what is queued is the others'", || {
        let table = proxy.router.table();
        let queued = table
            .destinations()
            .iter()
            .map(|destination| destination.report().queued_metrics);
        queued.sum::<u64>() as usize == 20 * (300 - expected)
    })
    .await;
    proxy.node.stop.cancel();
}

#[tokio::test]
async fn what_waits_for_a_destination_is_delivered_when_it_comes_up_and_when_it_comes_back() {
    let address = nobody();
    let proxy = proxy(&config(), [&address]).await;
    let mut client = proxy.client().await;
    client.send_metrics(list(&metrics(500))).await.unwrap();
    let first = at(&address, Manner::Takes).await;
    until("what waited arrived", || first.count() == 500).await;

    drop(first);
    until("the proxy noticed", || {
        !proxy.router.table().destinations()[0].report().connected
    })
    .await;
    client.send_metrics(list(&metrics(700))).await.unwrap();
    let second = at(&address, Manner::Takes).await;
    until("it arrived after the restart", || second.count() == 700).await;
    proxy.stop().await;
}

#[tokio::test]
async fn a_destination_that_ends_connections_in_good_order_costs_nothing_and_gets_nothing_twice() {
    let brief = global(Manner::TakesBriefly).await;
    let proxy = proxy(&config(), [&brief.address]).await;
    let mut client = proxy.client().await;
    let sent = metrics(2000);
    let start = Instant::now();
    let mut rounds = 0;
    while start.elapsed() < Duration::from_secs(1) {
        for part in sent.chunks(10) {
            client.send_metrics(list(part)).await.unwrap();
        }
        rounds += 1;
    }
    until("all arrived", || brief.count() >= rounds * 2000).await;
    until("nothing is left", || {
        proxy.router.table().destinations()[0]
            .report()
            .queued_metrics
            == 0
    })
    .await;
    assert_eq!(brief.count(), rounds * 2000);
    proxy.stop().await;
}

#[tokio::test]
async fn a_destination_that_knows_streams_alone_gets_streams_and_everything_once() {
    // The last Veneur's global, and any gRPC server without the method.
    for answer in [
        Status::unknown("not implemented"),
        Status::unimplemented("unknown method SendMetrics"),
    ] {
        let old = global(Manner::StreamsOnly(answer)).await;
        let proxy = proxy(&config(), [&old.address]).await;
        let mut client = proxy.client().await;
        let sent = metrics(1000);
        for part in sent.chunks(100) {
            client.send_metrics(list(part)).await.unwrap();
        }
        until("all arrived", || old.count() >= 1000).await;
        let mut got = old.got();
        got.sort();
        let mut sent = sent;
        sent.sort();
        assert!(got == sent, "each once");
        let before = old.calls();
        client.send_metrics(list(&sent[..1])).await.unwrap();
        until("one more arrived", || old.count() == 1001).await;
        assert_eq!(old.calls(), before + 1, "the list was not tried again");
        proxy.stop().await;
    }
}

#[tokio::test]
async fn a_busy_destination_is_asked_again_and_nothing_is_lost_or_doubled() {
    let busy = global(Manner::Busy(Arc::new(AtomicUsize::new(3)))).await;
    let proxy = proxy(&config(), [&busy.address]).await;
    proxy
        .client()
        .await
        .send_metrics(list(&metrics(50)))
        .await
        .unwrap();
    until("all arrived", || busy.count() == 50).await;
    assert_eq!(busy.calls(), 4);
    proxy.stop().await;
}

#[tokio::test]
async fn what_a_destination_refuses_is_lost_and_the_next_goes_on() {
    let stern = global(Manner::Refuses(Status::invalid_argument("no"))).await;
    let proxy = proxy(&config(), [&stern.address]).await;
    let mut client = proxy.client().await;
    for _ in 0..2 {
        let before = stern.calls();
        client.send_metrics(list(&metrics(5))).await.unwrap();
        until("it was asked", || stern.calls() > before).await;
        until("the queue let go of it", || {
            proxy.router.table().destinations()[0]
                .report()
                .queued_metrics
                == 0
        })
        .await;
    }
    assert_eq!(stern.calls(), 2);
    proxy.stop().await;
}

#[tokio::test]
async fn an_answer_that_does_not_come_in_time_is_not_waited_for_any_longer() {
    let hung = global(Manner::Hangs).await;
    let config = configured(
        "{grpc_address: '127.0.0.1:0', http_address: '127.0.0.1:0', forward_timeout: 1s}",
    );
    let proxy = proxy(&config, [&hung.address]).await;
    proxy
        .client()
        .await
        .send_metrics(list(&metrics(5)))
        .await
        .unwrap();
    until("it was asked", || hung.calls() == 1).await;
    until("it was given up", || {
        proxy.router.table().destinations()[0]
            .report()
            .queued_metrics
            == 0
    })
    .await;
    // Its fate is unknown: it must not go again.
    assert_eq!(hung.calls(), 1);
    proxy.stop().await;
}

#[tokio::test]
async fn a_destination_that_leaves_the_ring_has_its_queue_routed_again() {
    let release = Arc::new(Notify::new());
    let leaving = global(Manner::Waits(release.clone())).await;
    let staying = global(Manner::Takes).await;
    let proxy = proxy(&config(), [&leaving.address]).await;
    let mut client = proxy.client().await;
    let sent = metrics(100);
    client.send_metrics(list(&sent[..10])).await.unwrap();
    until("the first ones are under way", || leaving.calls() == 1).await;
    client.send_metrics(list(&sent[10..])).await.unwrap();

    proxy.routes_to([&staying.address]).await;
    until("what was not sent arrived elsewhere", || {
        staying.count() == 90
    })
    .await;
    // What was under way stays where it is.
    release.notify_one();
    until("what was under way arrived", || leaving.count() == 10).await;
    assert_eq!((leaving.calls(), staying.count()), (1, 90));
    proxy.stop().await;
}

#[tokio::test]
async fn a_discovery_that_names_nobody_changes_nothing() {
    let global = global(Manner::Takes).await;
    let proxy = proxy(&config(), [&global.address]).await;
    proxy.feed.send(Vec::new()).unwrap();
    proxy.feed.send(vec![global.address.clone()]).unwrap();
    proxy
        .client()
        .await
        .send_metrics(list(&metrics(5)))
        .await
        .unwrap();
    until("it is still routed to", || global.count() == 5).await;
    assert_eq!(proxy.router.table().generation(), 1);
    proxy.stop().await;
}

#[tokio::test]
async fn a_full_queue_drops_its_oldest_and_stays_within_its_bound() {
    let address = nobody();
    let config = configured(
        "{grpc_address: '127.0.0.1:0', http_address: '127.0.0.1:0', queue: {per_destination: 64KiB, total: 1MiB}}",
    );
    let proxy = proxy(&config, [&address]).await;
    let mut client = proxy.client().await;
    let sent = metrics(5000);
    for part in sent.chunks(500) {
        client.send_metrics(list(part)).await.unwrap();
    }
    let report = proxy.router.table().destinations()[0].report();
    assert!(report.queued_bytes <= 64 << 10, "{report:?}");
    let kept = report.queued_metrics as usize;
    assert!(kept > 500 && kept < 5000, "{report:?}");
    let late = at(&address, Manner::Takes).await;
    until("what was kept arrived", || late.count() == kept).await;
    let (mut got, mut newest) = (late.got(), sent[5000 - kept..].to_vec());
    got.sort();
    newest.sort();
    assert!(got == newest, "the newest were kept");
    proxy.stop().await;
}

#[tokio::test]
async fn all_queues_together_stay_within_the_total_at_the_cost_of_the_longest() {
    let well = global(Manner::Takes).await;
    let addresses = [well.address.clone(), nobody(), nobody()];
    let config = configured(
        "{grpc_address: '127.0.0.1:0', http_address: '127.0.0.1:0', queue: {per_destination: 128KiB, total: 128KiB}}",
    );
    let proxy = proxy(&config, &addresses).await;
    let mut client = proxy.client().await;
    let sent = metrics(9000);
    let mut expected = 0;
    for part in sent.chunks(500) {
        client.send_metrics(list(part)).await.unwrap();
        let held: usize = proxy
            .router
            .table()
            .destinations()
            .iter()
            .map(|destination| destination.report().queued_bytes)
            .sum();
        assert!(held <= 128 << 10, "{held}");
        // While it is behind, the longest queue may as well be that of the one that is well.
        expected += owned_by(&well.address, &addresses, part);
        until("the one that is well got all of its own", || {
            well.count() == expected
        })
        .await;
    }
    let destinations = proxy.router.table().destinations().to_vec();
    let reports = destinations.iter().map(|destination| destination.report());
    let queued: u64 = reports.map(|report| report.queued_metrics).sum();
    assert!(
        queued > 500 && queued as usize + expected < 9000,
        "{queued}"
    );
    proxy.node.stop.cancel();
}

#[tokio::test]
async fn leaving_sends_what_is_queued_and_waits_for_the_answers() {
    let release = Arc::new(Notify::new());
    let slow = global(Manner::Waits(release.clone())).await;
    let proxy = proxy(&config(), [&slow.address]).await;
    let mut client = proxy.client().await;
    client.send_metrics(list(&metrics(10))).await.unwrap();
    until("the first ones are under way", || slow.calls() == 1).await;
    client.send_metrics(list(&metrics(20))).await.unwrap();
    proxy.node.stop.cancel();
    until("it is draining", || proxy.node.readiness.is_draining()).await;
    assert_eq!(proxy.http("GET", "/ready", &[], Vec::new()).await.0, 503);
    assert!(!proxy.ended.is_finished());
    for _ in 0..2 {
        release.notify_one();
        until("an answer was given", || slow.count() >= 10).await;
    }
    until("everything arrived", || {
        release.notify_one();
        slow.count() == 30
    })
    .await;
    proxy.ended.await.unwrap().unwrap();
}

#[tokio::test]
async fn while_it_is_leaving_whoever_connects_again_is_served_and_acknowledged() {
    let release = Arc::new(Notify::new());
    let slow = ours(Manner::Waits(release.clone())).await;
    let proxy = proxy(&with("stall_after: 60s"), [&slow.address]).await;
    let mut client = proxy.client().await;
    let request = list(&stamped(1, 1, 10));
    let waiting = tokio::spawn(async move { client.send_metrics(request).await });
    until("it is under way", || slow.calls() == 1).await;
    proxy.node.stop.cancel();
    until("it is draining", || proxy.node.readiness.is_draining()).await;
    let mut client = proxy.client().await;
    let request = list(&stamped(1, 2, 10));
    let late = tokio::spawn(async move { client.send_metrics(request).await });
    until("the late one was taken", || {
        proxy.router.ledger().totals().waiting == 20
    })
    .await;
    for answer in [waiting, late] {
        release.notify_one();
        assert!(left(answer.await.unwrap(), 10).is_empty());
    }
    proxy.ended.await.unwrap().unwrap();
    assert_eq!(proxy.router.ledger().totals().residue(), 0);
    assert_eq!(slow.count(), 20);
}

#[tokio::test]
async fn leaving_ends_in_time_even_if_a_destination_never_answers() {
    let hung = global(Manner::Hangs).await;
    let config = configured(
        "{grpc_address: '127.0.0.1:0', http_address: '127.0.0.1:0', shutdown_timeout: 300ms}",
    );
    let proxy = proxy(&config, [hung.address.clone(), nobody()]).await;
    proxy
        .client()
        .await
        .send_metrics(list(&metrics(100)))
        .await
        .unwrap();
    until("it was asked", || hung.calls() == 1).await;
    let start = Instant::now();
    proxy.stop().await;
    assert!(start.elapsed() < Duration::from_secs(5));
}

/// A global of the first generation: JSON over HTTP.
async fn legacy_global() -> (String, Arc<Mutex<Vec<Metric>>>, Arc<AtomicUsize>) {
    let got = Arc::new(Mutex::new(Vec::new()));
    let refusals = Arc::new(AtomicUsize::new(1));
    let (keep, left) = (got.clone(), refusals.clone());
    let routes = axum::Router::new().route(
        "/import",
        axum::routing::post(move |headers: http::HeaderMap, body: Bytes| async move {
            let more = left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| {
                left.checked_sub(1)
            });
            if more.is_ok() {
                return http::StatusCode::SERVICE_UNAVAILABLE;
            }
            assert_eq!(headers["content-type"], "application/json");
            let encoding = headers["content-encoding"].to_str().unwrap();
            let import = json::parse_import(Some(encoding), &body, 1 << 20).unwrap();
            assert!(import.skipped.is_empty());
            keep.lock().unwrap().extend(import.metrics);
            http::StatusCode::ACCEPTED
        }),
    );
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, routes).await });
    (address, got, refusals)
}

#[tokio::test]
async fn a_destination_written_as_a_url_gets_legacy_json_with_the_same_values() {
    let (address, got, _) = legacy_global().await;
    let proxy = proxy(&config(), [&address]).await;
    let sent = metrics(200);
    // A message that routing has no objection to, but that has no value.
    let empty = Bytes::from(
        Metric {
            name: "empty".to_owned(),
            ..Metric::default()
        }
        .encode_to_vec(),
    );
    proxy
        .client()
        .await
        .send_metrics(list(sent.iter().chain([&empty])))
        .await
        .unwrap();
    until("all arrived", || got.lock().unwrap().len() == 200).await;
    let decoded: Vec<Metric> = sent
        .iter()
        .map(|bytes| Metric::decode(&bytes[..]).unwrap())
        .collect();
    assert_eq!(*got.lock().unwrap(), decoded);
    until("the queue is empty", || {
        proxy.router.table().destinations()[0]
            .report()
            .queued_metrics
            == 0
    })
    .await;
    proxy.stop().await;
}

#[tokio::test]
async fn two_kinds_of_destinations_share_one_ring() {
    let (legacy, got, _) = legacy_global().await;
    let modern = global(Manner::Takes).await;
    let addresses = [legacy.clone(), modern.address.clone()];
    let proxy = proxy(&config(), &addresses).await;
    let sent = metrics(400);
    proxy
        .client()
        .await
        .send_metrics(list(&sent))
        .await
        .unwrap();
    let expected = owned_by(&legacy, &addresses, &sent);
    until("each has its own", || {
        got.lock().unwrap().len() == expected && modern.count() == 400 - expected
    })
    .await;
    let total: fn(&Global) -> usize = Global::count;
    assert_eq!(total(&modern) + expected, 400);
    proxy.stop().await;
}
