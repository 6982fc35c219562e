//! How the ring changes, and where metrics go that were flushed before it did.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use support::global::{Global, Manner, at, ours};
use support::{
    Running, flushed_at, left, list, metrics, owner_on, proxy, ring, stamped, until, wall_clock,
    with,
};

/// The metrics that an address owns on the ring of these.
fn owned_by(address: &str, addresses: &[String], metrics: &[Bytes]) -> HashSet<Bytes> {
    let ring = ring(addresses);
    let owned = metrics
        .iter()
        .filter(|metric| owner_on(&ring, metric) == address);
    owned.cloned().collect()
}

fn got(global: &Global) -> HashSet<Bytes> {
    global.got().into_iter().collect()
}

/// Milliseconds. Half of it is long enough for what has to happen before its middle, on a slow machine too.
const INTERVAL: u64 = 6000;

/// Waits until an interval has just begun, and gives its end.
async fn early_in_an_interval() -> u64 {
    until("an interval has begun", || {
        wall_clock() % INTERVAL < INTERVAL / 12
    })
    .await;
    (wall_clock() / INTERVAL + 1) * INTERVAL
}

fn generation(proxy: &Running) -> u64 {
    proxy.router.table().generation()
}

async fn send(proxy: &Running, metrics: &[Bytes], at: u64) -> Vec<u32> {
    let answer = proxy
        .client()
        .await
        .send_metrics(flushed_at(list(metrics), at))
        .await;
    left(answer, metrics.len())
}

#[tokio::test]
async fn all_proxies_take_a_new_destination_up_at_the_same_boundary() {
    let globals = [ours(Manner::Takes).await, ours(Manner::Takes).await];
    let addresses: Vec<String> = globals
        .iter()
        .map(|global| global.address.clone())
        .collect();
    let config = tributary_proxy::config::Config {
        interval: tributary_node::config::Duration::seconds(INTERVAL / 1000),
        ..support::config()
    };
    let proxies = [
        proxy(&config, &addresses[..1]).await,
        proxy(&config, &addresses[..1]).await,
    ];
    let boundary = early_in_an_interval().await;
    // They hear of it at different times.
    proxies[0].feed.send(addresses.clone()).unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    proxies[1].feed.send(addresses.clone()).unwrap();
    for proxy in &proxies {
        until("it is known what is to come", || {
            proxy.router.tables().next().is_some()
        })
        .await;
        assert_eq!(generation(proxy), 1);
        let (_, body) = proxy.http("GET", "/api/ring", &[], Vec::new()).await;
        let status: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!(status["generation"], 1);
        assert_eq!(status["members"].as_array().unwrap().len(), 1);
        assert_eq!(status["next"]["since"], boundary);
        assert_eq!(status["next"]["members"].as_array().unwrap().len(), 2);
    }
    assert!(wall_clock() < boundary);
    // What belongs to the present interval, and what a clock that is ahead says of the next one.
    let sent = stamped(1, 1, 100);
    assert!(send(&proxies[0], &sent, wall_clock()).await.is_empty());
    assert_eq!(globals[1].count(), 0);
    let next = stamped(1, 2, 100);
    assert!(send(&proxies[0], &next, boundary).await.is_empty());
    assert_eq!(got(&globals[1]), owned_by(&addresses[1], &addresses, &next));

    for proxy in &proxies {
        until("the ring has changed", || generation(proxy) == 2).await;
        assert!(wall_clock() >= boundary);
        assert_eq!(proxy.router.table().since(), boundary);
        assert!(proxy.router.tables().next().is_none());
    }
    // Whoever carries what was flushed before the boundary, it goes where it went then.
    for proxy in &proxies {
        assert!(send(proxy, &sent, boundary - 1).await.is_empty());
    }
    assert_eq!(
        got(&globals[1]).len(),
        owned_by(&addresses[1], &addresses, &next).len()
    );
    for proxy in proxies {
        proxy.books_balance().await;
        proxy.stop().await;
    }
}

#[tokio::test]
async fn a_destination_that_has_left_gets_what_was_flushed_before_while_it_is_there() {
    let (staying, leaving) = (ours(Manner::Takes).await, ours(Manner::Takes).await);
    let addresses = [staying.address.clone(), leaving.address.clone()];
    let proxy = proxy(&support::config(), &addresses).await;
    let before = wall_clock();
    let sent = stamped(1, 1, 200);
    let of_leaving = owned_by(&leaving.address, &addresses, &sent);
    assert!(send(&proxy, &sent, before).await.is_empty());
    assert_eq!(got(&leaving), of_leaving);

    proxy.routes_to([&staying.address]).await;
    // Repeated, it goes where it is recognised; what comes later, and what is not stamped, does not.
    assert!(send(&proxy, &sent, before).await.is_empty());
    assert_eq!(leaving.count(), 2 * of_leaving.len());
    assert!(
        send(&proxy, &stamped(1, 2, 200), wall_clock() + 1000)
            .await
            .is_empty()
    );
    let mut client = proxy.client().await;
    client
        .send_metrics(flushed_at(list(&metrics(50)), before))
        .await
        .unwrap();
    until("the one that stays has it", || {
        staying.count() == 2 * (200 - of_leaving.len()) + 250
    })
    .await;
    assert_eq!(leaving.count(), 2 * of_leaving.len());

    // It is let go when it has been idle for a while; then the ring of this moment is all there is.
    drop(leaving);
    until("nothing waits for it", || {
        proxy.router.ledger().totals().queued == 0
    })
    .await;
    let mut rounds = 0;
    while !send(&proxy, &sent, before).await.is_empty() {
        rounds += 1;
        assert!(rounds < 1000);
    }
    proxy.books_balance().await;
    proxy.stop().await;
}

#[tokio::test]
async fn what_has_no_answer_yet_stays_with_a_destination_that_has_left() {
    let silent = Arc::new(AtomicUsize::new(0));
    let leaving = ours(Manner::MergesInSilence(silent.clone())).await;
    let staying = ours(Manner::Takes).await;
    let relay = support::Relay::to(&leaving.address).await;
    let proxy = proxy(&with("stall_after: 60s"), [&relay.address]).await;
    assert!(
        send(&proxy, &stamped(1, 1, 10), wall_clock())
            .await
            .is_empty()
    );
    silent.store(1, Ordering::SeqCst);
    let mut client = proxy.client().await;
    let request = flushed_at(list(&stamped(1, 2, 10)), wall_clock());
    let answer = tokio::spawn(async move { client.send_metrics(request).await });
    until("it was merged", || leaving.count() == 20).await;
    proxy.routes_to([&staying.address]).await;
    // The answer is lost, and the destination is there still.
    relay.cut();
    assert!(left(answer.await.unwrap(), 10).is_empty());
    assert_eq!((leaving.count(), staying.count()), (30, 0));
    assert_eq!(leaving.stamps().len(), 20);
    until("its connection is closed, since it is idle", || {
        relay.open() == 0
    })
    .await;
    proxy.books_balance().await;
    proxy.stop().await;
}

#[tokio::test]
async fn a_destination_that_comes_back_joins_at_a_boundary_and_keeps_its_connection() {
    let globals = [ours(Manner::Takes).await, ours(Manner::Takes).await];
    let addresses: Vec<String> = globals
        .iter()
        .map(|global| global.address.clone())
        .collect();
    let config = tributary_proxy::config::Config {
        interval: tributary_node::config::Duration::seconds(INTERVAL / 1000),
        ..support::config()
    };
    let proxy = proxy(&config, &addresses).await;
    let boundary = early_in_an_interval().await;
    proxy.routes_to(&addresses[..1]).await;
    assert_eq!(generation(&proxy), 2);
    proxy.routes_to_later(&addresses).await;
    assert_eq!(proxy.router.table().destinations().len(), 1);
    until("it is back on the ring", || generation(&proxy) == 3).await;
    assert_eq!(proxy.router.table().since(), boundary);
    let sent = stamped(1, 1, 100);
    assert!(send(&proxy, &sent, wall_clock()).await.is_empty());
    assert_eq!(got(&globals[1]), owned_by(&addresses[1], &addresses, &sent));
    proxy.books_balance().await;
    proxy.stop().await;
}

#[tokio::test]
async fn a_destination_that_is_dead_for_too_long_leaves_the_ring_until_it_is_back() {
    let well = ours(Manner::Takes).await;
    let gone = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap().to_string()
    };
    let addresses = [well.address.clone(), gone.clone()];
    let proxy = proxy(&with("failover_after: 300ms"), &addresses).await;
    // Without stamps: it waits for the one that is gone until the other takes over.
    let mut client = proxy.client().await;
    client.send_metrics(list(&metrics(100))).await.unwrap();
    until("the other one has it all", || well.count() == 100).await;
    assert_eq!(proxy.router.table().destinations().len(), 1);
    assert!(
        send(&proxy, &stamped(1, 1, 100), wall_clock())
            .await
            .is_empty()
    );

    let back = at(&gone, Manner::Takes).await;
    until("it is on the ring again", || {
        proxy.router.table().destinations().len() == 2
    })
    .await;
    assert!(
        send(&proxy, &stamped(1, 2, 100), wall_clock())
            .await
            .is_empty()
    );
    assert!(back.count() > 0);
    proxy.books_balance().await;
    proxy.stop().await;
}

#[tokio::test]
async fn what_an_owner_that_has_left_turns_away_goes_to_the_new_owner_and_repeats_are_acknowledged()
{
    let told = Arc::new(AtomicBool::new(false));
    let leaving = ours(Manner::Leaves(told.clone())).await;
    let staying = [ours(Manner::Takes).await, ours(Manner::Takes).await];
    let proxy = proxy(&support::config(), [&leaving.address]).await;
    let before = wall_clock();
    let merged = stamped(1, 1, 50);
    assert!(send(&proxy, &merged, before).await.is_empty());

    told.store(true, Ordering::SeqCst);
    let addresses: Vec<String> = staying
        .iter()
        .map(|global| global.address.clone())
        .collect();
    proxy.routes_to(&addresses).await;
    // Half of them are repeats; both kinds come again and again, and the old owner is asked each time.
    let new = stamped(1, 2, 50);
    let mixed: Vec<Bytes> = merged.iter().chain(&new).cloned().collect();
    for round in 1..=3 {
        assert!(send(&proxy, &mixed, before).await.is_empty());
        for global in &staying {
            assert_eq!(got(global), owned_by(&global.address, &addresses, &new));
        }
        let counts: usize = staying.iter().map(Global::count).sum();
        assert_eq!((counts, leaving.count()), (round * 50, 50));
    }
    assert_eq!(leaving.calls(), 4);
    proxy.books_balance().await;
    proxy.stop().await;
}
