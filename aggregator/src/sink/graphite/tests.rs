//! The sink against receivers that read, refuse, hang, close and come back.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use serde_json::{Value, json};
use tributary_node::tls::{Acceptor, ServerTls};

use super::address::Address;
use super::receiver::{Mood, Receiver, wait};
use super::*;
use crate::key::Tags;
use crate::point::{Point, PointKind, Timestamp};
use crate::receipt::Fate;
use crate::sink::recorder::Counts;
use crate::sink::registry;

/// A batch of gauges `NAME0`, `NAME1`, ….
fn batch(name: &str, points: usize) -> Batch {
    let point = |number: usize| Point {
        base: format!("{name}{number}").into(),
        suffix: None,
        tags: Tags::default(),
        kind: PointKind::Gauge,
        value: number as f64 + 0.5,
        timestamp: Timestamp::from_millis(1_700_000_000_250),
        check: None,
    };
    Batch {
        points: (0..points).map(point).collect(),
        ..Batch::default()
    }
}

/// With a receipt.
fn asked(name: &str, points: usize) -> (Batch, crate::receipt::Pending) {
    let (receipt, pending) = Receipt::new();
    let mut batch = batch(name, points);
    batch.receipts.push(receipt);
    (batch, pending)
}

fn names(name: &str, points: usize) -> BTreeSet<String> {
    (0..points)
        .map(|number| format!("{name}{number}"))
        .collect()
}

fn sink(config: Value) -> Box<dyn Sink> {
    registry::build("graphite", "g", &config).unwrap_or_else(|problems| panic!("{problems}"))
}

/// To a receiver that is there: however slow the machine is.
fn to(address: SocketAddr) -> Value {
    json!({
        "destinations": [address.to_string()],
        "timeout": "30s", "reconnect_min": "10ms", "reconnect_max": "20ms",
    })
}

/// To one that is not.
fn soon(config: Value) -> Value {
    with(config, "timeout", json!("2s"))
}

fn with(mut config: Value, key: &str, value: Value) -> Value {
    config[key] = value;
    config
}

fn all(addresses: &[SocketAddr]) -> Value {
    let texts: Vec<_> = addresses.iter().map(ToString::to_string).collect();
    let config = with(to(addresses[0]), "destinations", json!(texts));
    with(config, "router", json!("all"))
}

const fn points(points: usize) -> Amount {
    Amount { points, events: 0 }
}

/// Writes a batch as the runner does: again after a retriable error.
async fn write(sink: &mut dyn Sink, batch: &Batch) -> usize {
    let until = Instant::now() + Duration::from_secs(60);
    loop {
        match sink.write(batch).await {
            Ok(amount) => return amount.points,
            Err(SinkError::Retriable { .. }) if Instant::now() < until => {}
            Err(error) => panic!("{error}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// An address that refuses, until somebody listens there.
fn vacant() -> SocketAddr {
    let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    socket.local_addr().unwrap()
}

#[tokio::test]
async fn frames_and_lines_arrive_exactly_and_batch_by_batch() {
    for protocol in [Protocol::Pickle, Protocol::Line] {
        let receiver = Receiver::start(protocol);
        let config = with(to(receiver.address), "protocol", json!(protocol));
        let mut sink = sink(with(config, "max_frame_points", json!(480)));
        assert_eq!(sink.write(&batch("a", 1000)).await, Ok(points(1000)));
        assert_eq!(sink.write(&batch("b", 1)).await, Ok(points(1)));
        let received = receiver.wait_for(1001).await;
        assert_eq!(received.len(), 1001);
        let seconds = match protocol {
            Protocol::Pickle => 1_700_000_000.25,
            Protocol::Line => 1_700_000_000.0,
        };
        for (number, point) in received.iter().take(1000).enumerate() {
            assert_eq!(point.path, format!("a{number}"));
            assert_eq!(point.value, number as f64 + 0.5);
            assert_eq!(point.timestamp, seconds);
        }
        assert_eq!(received[1000].path, "b0");
        if protocol == Protocol::Pickle {
            assert_eq!(receiver.frames(), [480, 480, 40, 1]);
        }
        assert_eq!(receiver.connections(), 1);
    }
}

#[tokio::test]
async fn each_path_goes_where_carbons_ring_says_and_replicas_to_other_hosts() {
    let hosts = ["127.0.0.1:0", "127.0.0.2:0", "127.0.0.3:0"];
    let receivers: Vec<_> = hosts
        .iter()
        .map(|host| Receiver::start_at(host.parse().unwrap(), Protocol::Pickle, None))
        .collect();
    let texts: Vec<_> = receivers
        .iter()
        .map(|receiver| format!("{}:a", receiver.address))
        .collect();
    let addresses: Vec<_> = texts
        .iter()
        .map(|text| Address::parse(text).unwrap())
        .collect();
    let config = with(to(receivers[0].address), "destinations", json!(texts));
    let mut sink = sink(with(config, "replication", json!(2)));
    assert_eq!(sink.write(&batch("series.", 600)).await, Ok(points(600)));
    let router = Router::new(RouterKind::CarbonCh, &addresses, 2, true);
    let mut expected = vec![BTreeSet::new(); 3];
    for path in names("series.", 600) {
        for owner in router.route(&path) {
            expected[*owner].insert(path.clone());
        }
    }
    for (receiver, expected) in receivers.iter().zip(expected) {
        assert!(expected.len() > 200, "{}", expected.len());
        let received = receiver.wait_for(expected.len()).await;
        assert_eq!(received.len(), expected.len());
        assert_eq!(
            receiver.paths().into_iter().collect::<BTreeSet<_>>(),
            expected
        );
    }
}

#[tokio::test]
async fn tags_are_written_and_hashed_in_their_normal_order() {
    let receiver = Receiver::start(Protocol::Line);
    let mut sink = sink(with(to(receiver.address), "protocol", json!("line")));
    let mut tagged = batch("a", 1);
    tagged.points[0].tags = Tags::new(["b:2", "a.b:1", "a:0"]);
    sink.write(&tagged).await.unwrap();
    receiver.wait_for(1).await;
    assert_eq!(receiver.paths(), ["a0;a.b=1;a=0;b=2"]);
}

#[tokio::test]
async fn a_single_destination_that_is_away_leaves_the_batch_with_the_runner() {
    let address = vacant();
    let mut sink = sink(soon(to(address)));
    let (first, pending) = asked("a", 3);
    let error = sink.write(&first).await.unwrap_err();
    let SinkError::Retriable { reason, after } = error else {
        panic!("{error}");
    };
    assert!(
        reason.contains("cannot connect: Connection refused"),
        "{reason}"
    );
    assert_eq!(after, Some(AGAIN));
    let receiver = Receiver::start_at(address, Protocol::Pickle, None);
    assert_eq!(write(&mut *sink, &first).await, 3);
    drop(first);
    assert_eq!(pending.fate().await, Fate::default());
    assert_eq!(receiver.wait_for(3).await.len(), 3);
}

#[tokio::test]
async fn a_dead_destination_costs_its_own_points_only_and_gets_them_when_it_is_back() {
    let healthy = Receiver::start(Protocol::Pickle);
    let address = vacant();
    let mut sink = sink(soon(all(&[healthy.address, address])));
    let (first, pending) = asked("a", 1000);
    let mut fate = Box::pin(pending.fate());
    assert_eq!(sink.write(&first).await, Ok(points(1000)));
    drop(first);
    assert_eq!(healthy.wait_for(1000).await.len(), 1000);
    assert!(
        futures_util::poll!(&mut fate).is_pending(),
        "one has not got them"
    );
    // Nobody waits for it from now on.
    let began = Instant::now();
    for number in 0..20 {
        let batch = batch(&format!("b{number}."), 10);
        assert_eq!(sink.write(&batch).await, Ok(points(10)));
    }
    assert!(began.elapsed() < Duration::from_secs(20 * 2));
    assert_eq!(healthy.wait_for(1200).await.len(), 1200);
    let back = Receiver::start_at(address, Protocol::Pickle, None);
    assert_eq!(back.wait_for(1200).await, healthy.points());
    assert_eq!(fate.await, Fate::default());
    // It has caught up: a write waits for it again.
    sink.write(&batch("c", 5)).await.unwrap();
    assert_eq!(back.wait_for(1205).await.len(), 1205);
}

#[tokio::test]
async fn over_its_bound_the_oldest_of_a_dead_destination_are_dropped_and_counted() {
    let counts = Counts::default();
    let _guard = metrics::set_default_local_recorder(&counts);
    let healthy = Receiver::start(Protocol::Pickle);
    let address = vacant();
    let config = with(
        soon(all(&[healthy.address, address])),
        "queue_points",
        json!(100),
    );
    let mut sink = sink(with(config, "max_frame_points", json!(10)));
    let (first, pending) = asked("a", 70);
    sink.write(&first).await.unwrap();
    drop(first);
    sink.write(&batch("b", 95)).await.unwrap();
    // 165 in frames of 10: seven and nine and a half.
    assert_eq!(pending.fate().await.lost, 70);
    let dropped = format!("sink.destination_points_dropped_total g {address} queue_full");
    assert_eq!(counts.get(&dropped), 70);
    assert_eq!(healthy.wait_for(165).await.len(), 165);
    let back = Receiver::start_at(address, Protocol::Pickle, None);
    assert_eq!(back.wait_for(95).await.len(), 95);
    let written = |address| {
        counts.get(&format!(
            "sink.destination_points_written_total g {address}"
        ))
    };
    wait("the count", || written(address) == 95).await;
    assert_eq!(written(healthy.address), 165);
}

#[tokio::test]
async fn what_a_connection_took_that_died_in_the_middle_comes_again() {
    let counts = Counts::default();
    let _guard = metrics::set_default_local_recorder(&counts);
    let receiver = Receiver::start(Protocol::Pickle);
    // In the middle of a frame.
    receiver.set_mood(Mood::Closes(30_000));
    let address = receiver.address;
    let config = with(to(address), "resend", json!("60s"));
    let mut sink = sink(with(config, "max_frame_points", json!(100)));
    wait("the connection", || receiver.connections() == 1).await;
    receiver.set_mood(Mood::Reads);
    assert_eq!(write(&mut *sink, &batch("a", 5000)).await, 5000);
    wait("all points", || {
        receiver.paths().into_iter().collect::<BTreeSet<_>>() == names("a", 5000)
    })
    .await;
    assert_eq!(receiver.connections(), 2);
    let counted = |name: &str| counts.get(&format!("{name} g {address}"));
    assert_eq!(counted("sink.destination_connects_total"), 2);
    let resent = counted("sink.destination_points_resent_total");
    // The first connection's 30,000 bytes held 500 to 600 points in whole frames.
    assert!(resent >= 400, "{resent}");
    assert_eq!(
        counted("sink.destination_points_written_total"),
        5000 + resent
    );
}

#[tokio::test]
async fn a_peer_that_closed_in_silence_is_noticed_before_anything_is_written_to_it() {
    let counts = Counts::default();
    let _guard = metrics::set_default_local_recorder(&counts);
    let receiver = Receiver::start(Protocol::Pickle);
    let address = receiver.address;
    let mut sink = sink(with(to(address), "resend", json!("0s")));
    sink.write(&batch("a", 5)).await.unwrap();
    receiver.wait_for(5).await;
    drop(receiver);
    let closed = format!("sink.destination_errors_total g {address} closed");
    wait("the close", || counts.get(&closed) == 1).await;
    let receiver = Receiver::start_at(address, Protocol::Pickle, None);
    assert_eq!(write(&mut *sink, &batch("b", 5)).await, 5);
    assert_eq!(receiver.wait_for(5).await.len(), 5, "once each");
}

#[tokio::test]
async fn one_that_hangs_is_left_behind_and_given_up() {
    let counts = Counts::default();
    let _guard = metrics::set_default_local_recorder(&counts);
    let (healthy, deaf) = (
        Receiver::start(Protocol::Pickle),
        Receiver::start(Protocol::Pickle),
    );
    deaf.set_mood(Mood::Deaf);
    let config = soon(all(&[healthy.address, deaf.address]));
    let mut sink = sink(with(config, "stall_timeout", json!("2s")));
    // More than the sockets' buffers hold.
    assert_eq!(sink.write(&batch("a", 300_000)).await, Ok(points(300_000)));
    let began = Instant::now();
    for number in 0..10 {
        let batch = batch(&format!("b{number}."), 10);
        assert_eq!(sink.write(&batch).await, Ok(points(10)));
    }
    assert!(
        began.elapsed() < Duration::from_secs(10 * 2),
        "nobody waits for it"
    );
    assert_eq!(healthy.wait_for(300_100).await.len(), 300_100);
    let stalled = format!("sink.destination_errors_total g {} stalled", deaf.address);
    wait("the end of its patience", || counts.get(&stalled) > 0).await;
    wait("another connection", || deaf.connections() > 1).await;
}

#[tokio::test]
async fn a_spool_keeps_points_over_a_restart_and_counts_them_as_written() {
    let directory = tempfile::tempdir().unwrap();
    let address = vacant();
    let config = with(soon(to(address)), "spool_dir", json!(directory.path()));
    let mut first = sink(config.clone());
    for number in 0..3 {
        let (batch, pending) = asked(&format!("a{number}."), 1000);
        assert_eq!(write(&mut *first, &batch).await, 1000);
        drop(batch);
        assert_eq!(pending.fate().await, Fate::default(), "on the disk");
    }
    // The next one is there before the first has let go.
    let mut second = sink(config);
    let receiver = Receiver::start_at(address, Protocol::Pickle, None);
    wait("both", || receiver.connections() == 2).await;
    drop(first);
    assert_eq!(write(&mut *second, &batch("b", 10)).await, 10);
    let mut expected: BTreeSet<_> = names("b", 10);
    (0..3).for_each(|number| expected.extend(names(&format!("a{number}."), 1000)));
    wait("all points", || {
        receiver.paths().into_iter().collect::<BTreeSet<_>>() == expected
    })
    .await;
    let spooled: Vec<_> = receiver
        .paths()
        .into_iter()
        .filter(|path| path.starts_with('a'))
        .collect();
    assert_eq!(spooled.first().unwrap(), "a0.0");
    second.close().await;
    drop(second);
    let path = config::spool_path(directory.path(), "g", &address.to_string());
    let left: Vec<_> = fs::read_dir(path)
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(left, ["lock"]);
}

#[tokio::test]
async fn closing_brings_what_waits_to_the_spool_or_counts_it() {
    let counts = Counts::default();
    let _guard = metrics::set_default_local_recorder(&counts);
    let healthy = Receiver::start(Protocol::Pickle);
    let address = vacant();
    let mut sink = sink(soon(all(&[healthy.address, address])));
    let (batch, pending) = asked("a", 7);
    sink.write(&batch).await.unwrap();
    drop(batch);
    sink.close().await;
    drop(sink);
    assert_eq!(pending.fate().await.lost, 7);
    let dropped = format!("sink.destination_points_dropped_total g {address} shutdown");
    assert_eq!(counts.get(&dropped), 7);
    assert_eq!(healthy.points().len(), 7);
}

#[tokio::test]
async fn what_cannot_be_carried_is_skipped() {
    let receiver = Receiver::start(Protocol::Line);
    let mut sink = sink(with(to(receiver.address), "protocol", json!("line")));
    let mut odd = batch("a", 3);
    odd.points[0].base = "".into();
    odd.points[1].base = "x".repeat(LONGEST_PATH + 1).into();
    assert_eq!(sink.write(&odd).await, Ok(points(1)));
    receiver.wait_for(1).await;
    assert_eq!(receiver.paths(), ["a2"]);
}

#[tokio::test]
async fn long_paths_make_small_frames() {
    let receiver = Receiver::start(Protocol::Pickle);
    let mut sink = sink(to(receiver.address));
    let long = "x".repeat(15_000);
    assert_eq!(sink.write(&batch(&long, 200)).await, Ok(points(200)));
    assert_eq!(receiver.wait_for(200).await.len(), 200);
    assert_eq!(receiver.frames(), [66, 66, 66, 2]);
}

#[tokio::test]
async fn tls_is_spoken_and_the_certificate_checked() {
    let made = rcgen::generate_simple_self_signed(["carbon.example".to_owned()]).unwrap();
    let (certificate, key) = (made.cert.pem(), made.signing_key.serialize_pem());
    let server: ServerTls =
        serde_json::from_value(json!({"cert_file": certificate, "key_file": key})).unwrap();
    let acceptor = Acceptor::new(&server, "graphite_tls", Alpn::None).unwrap();
    let receiver = Receiver::start_at("127.0.0.1:0".parse().unwrap(), Protocol::Pickle, acceptor);
    let tls = json!({"ca_file": certificate, "server_name": "carbon.example"});
    let mut right = sink(with(to(receiver.address), "tls", tls));
    assert_eq!(write(&mut *right, &batch("a", 10)).await, 10);
    assert_eq!(receiver.wait_for(10).await.len(), 10);
    let tls = json!({"ca_file": certificate, "server_name": "other.example"});
    let mut wrong = sink(soon(with(to(receiver.address), "tls", tls)));
    let error = wrong.write(&batch("b", 1)).await.unwrap_err();
    assert!(error.to_string().contains("TLS: "), "{error}");
    assert_eq!(receiver.points().len(), 10);
}

#[test]
fn all_problems_of_the_settings_are_told_at_once() {
    let told = |config: Value| registry::check("graphite", &config);
    assert_eq!(told(json!({})), ["destinations: there is none"]);
    assert_eq!(
        told(json!({
            "destinations": ["127.0.0.1:2004:a", "127.0.0.1:2104:a", "nowhere"],
            "template": "x", "max_frame_points": 0, "timeout": "0s", "reconnect_min": "10s",
            "spool_max_bytes": "1MiB", "tls": {"enabled": true, "ca_file": "/nowhere/ca.pem"},
        })),
        [
            "destinations[1]: another one has the host and instance of `127.0.0.1:2104:a`, give each an instance of its own",
            "destinations[2]: `nowhere` is not of the form host:port or host:port:instance",
            "template: has no meaning without `tags: flatten`",
            "tls.ca_file: /nowhere/ca.pem cannot be read: No such file or directory (os error 2)",
            "max_frame_points: has to be 1 at least",
            "timeout: is zero",
            "reconnect_max: is shorter than reconnect_min",
            "spool_max_bytes: has to be 8MiB at least",
        ]
    );
    let two = json!({"destinations": ["h:1:a", "h:1:b"]});
    assert_eq!(told(two.clone()), Vec::<String>::new());
    assert_eq!(
        told(with(two.clone(), "replication", json!(2))),
        ["replication: 2 is more than the 1 hosts (see diverse_replicas)"]
    );
    let same = with(two, "replication", json!(2));
    assert_eq!(
        told(with(same, "diverse_replicas", json!(false))),
        Vec::<String>::new()
    );
}
