//! Lines and packets.

use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::key::Tags;
use crate::point::{CheckText, Point, PointKind, Timestamp};
use crate::sample::Event;
use crate::sink::registry;

fn point(name: &str, kind: PointKind, value: f64, tags: &[&str]) -> Point {
    Point {
        base: name.into(),
        suffix: None,
        tags: Tags::new(tags),
        kind,
        value,
        timestamp: Timestamp::from_seconds(1_700_000_000),
        check: None,
    }
}

fn lines(config: Value) -> Lines {
    let config: StatsdConfig = serde_json::from_value(config).unwrap();
    config.lines(false, 1432).unwrap()
}

/// All packets of a batch, and what was written.
fn packets(lines: &mut Lines, most: usize, batch: &Batch) -> (Vec<String>, Amount) {
    let (mut packets, mut progress) = (Vec::new(), Progress::default());
    let mut packet = Vec::new();
    loop {
        progress = lines.fill(&mut packet, most, batch, progress);
        if packet.is_empty() {
            assert_eq!(progress.done, Amount::of(batch));
            return (packets, progress.written);
        }
        packets.push(String::from_utf8(packet.clone()).unwrap());
    }
}

fn text(config: Value, points: Vec<Point>) -> String {
    let batch = Batch {
        points: points.into(),
        ..Batch::default()
    };
    packets(&mut lines(config), 1432, &batch).0.join("\n")
}

#[test]
fn each_kind_has_its_line_and_a_negative_gauge_is_set_to_zero_first() {
    let mut check = point("db.up", PointKind::Status, 2.0, &["a:1"]);
    check.check = Some(Arc::new(CheckText {
        message: "m: it|is\ndown".to_owned(),
        hostname: Some("db9".to_owned()),
    }));
    let points = || {
        vec![
            point("hits", PointKind::Counter, 3.0, &["b:2", "a:1"]),
            point("neg", PointKind::Counter, -3.0, &[]),
            point("load", PointKind::Gauge, 0.1, &["a:1"]),
            point("temp", PointKind::Integer, -5.0, &["a:1"]),
            point("zero", PointKind::Gauge, -0.0, &[]),
            point("big", PointKind::Gauge, 1e21, &[]),
            check.clone(),
        ]
    };
    assert_eq!(
        text(json!({"prefix": "p."}), points()),
        "p.hits:3|c|#b:2,a:1\np.neg:-3|c\np.load:0.1|g|#a:1\np.temp:0|g|#a:1\np.temp:-5|g|#a:1\np.zero:0|g\np.big:1000000000000000000000|g\n\
         _sc|p.db.up|2|d:1700000000|h:db9|#a:1|m:m\\: it_is\\ndown"
    );
    assert_eq!(
        text(json!({"tags": "graphite"}), points()[..1].to_vec()),
        "hits;a=1;b=2:3|c"
    );
    let flat = text(json!({"tags": "flatten", "prefix": "p"}), points());
    assert!(flat.starts_with("p.hits.b.2.a.1:3|c\n"), "{flat}");
    assert!(
        flat.contains("\np.temp.a.1:0|g\np.temp.a.1:-5|g\n"),
        "{flat}"
    );
    assert!(flat.ends_with("\np.db.up.a.1:2|g"), "{flat}");
    assert_eq!(text(json!({"checks": "skip"}), vec![check.clone()]), "");
    assert_eq!(
        text(json!({"timestamps": true}), points()[..1].to_vec()),
        "hits:3|c|#b:2,a:1|T1700000000"
    );
}

#[test]
fn what_would_end_a_field_is_replaced_and_names_that_mean_something_else_are_skipped() {
    let odd = point(
        "a:b|c@d#e f\n",
        PointKind::Gauge,
        1.0,
        &["x,y|z:1\n", "url:http://a"],
    );
    assert_eq!(
        text(json!({}), vec![odd]),
        "a_b_c_d_e_f_:1|g|#x_y_z:1_,url:http://a"
    );
    let skipped = ["_scale", "_e{1,1}", ""].map(|name| point(name, PointKind::Gauge, 1.0, &[]));
    let batch = Batch {
        points: skipped.to_vec().into(),
        ..Batch::default()
    };
    let (packets, written) = packets(&mut lines(json!({})), 1432, &batch);
    assert_eq!((packets.len(), written.points), (0, 0));
}

#[test]
fn an_events_lengths_are_those_of_the_text_as_written() {
    let event = Event {
        title: "é|x".to_owned(),
        text: "a\nb".to_owned(),
        timestamp: 7,
        hostname: Some("h".to_owned()),
        aggregation_key: Some("k|1".to_owned()),
        priority: "low",
        source_type: None,
        alert_type: "error",
        tags: vec!["a:1".to_owned(), "b".to_owned()],
    };
    let batch = Batch {
        events: vec![event],
        ..Batch::default()
    };
    let (packets, written) = packets(&mut lines(json!({})), 1432, &batch);
    assert_eq!(
        packets,
        ["_e{4,4}:é|x|a\\nb|d:7|h:h|k:k_1|p:low|t:error|#a:1,b"]
    );
    assert_eq!(written.events, 1);
    let plain = self::packets(&mut lines(json!({"tags": "drop"})), 1432, &batch);
    assert_eq!((plain.0.len(), plain.1.events), (0, 0));
}

proptest! {
    #[test]
    fn packets_are_no_longer_than_allowed_and_hold_each_line_once(
        names in prop::collection::vec("[a-z]{1,60}", 0..200),
        values in prop::collection::vec(-1e6..1e6_f64, 200),
        most in 256_usize..2000,
        ended: bool,
    ) {
        let points: Vec<_> = names
            .iter()
            .zip(&values)
            .map(|(name, value)| point(name, PointKind::Gauge, *value, &[]))
            .collect();
        let batch = Batch { points: points.into(), ..Batch::default() };
        let mut lines = lines(json!({}));
        lines.most = most;
        lines.ended = ended;
        let (packets, written) = packets(&mut lines, most, &batch);
        prop_assert!(packets.iter().all(|packet| packet.len() <= most));
        prop_assert!(packets.iter().all(|packet| packet.ends_with('\n') == ended));
        let set = |line: &&str| !line.ends_with(":0|g");
        let read: Vec<(String, f64)> = packets
            .iter()
            .flat_map(|packet| packet.lines())
            .filter(set)
            .map(|line| {
                let (name, rest) = line.split_once(':').unwrap();
                (name.to_owned(), rest.strip_suffix("|g").unwrap().parse().unwrap())
            })
            .collect();
        let sent: Vec<_> = names.iter().cloned().zip(values).filter(|(_, value)| *value != 0.0).collect();
        prop_assert_eq!(written.points, names.len());
        prop_assert_eq!(read, sent);
    }
}

#[test]
fn each_wrong_setting_is_named() {
    let check = |config: Value| registry::check("statsd", &config);
    for fine in [
        json!({}),
        json!({"repeater_address": "127.0.0.1:9125", "network_type": "tcp"}),
        json!({"address": "unixgram:///run/dd.sock", "max_packet_bytes": "8KiB"}),
        json!({"address": "unix:///run/dd.sock", "framing": "length_prefix"}),
        json!({"address": "tcp://[::1]:8125", "tags": "flatten", "template": "{host}.{name}"}),
    ] {
        assert_eq!(check(fine.clone()), Vec::<String>::new(), "{fine}");
    }
    for (config, key) in [
        (json!({"address": "http://x:1"}), "address: "),
        (json!({"address": "udp://x"}), "address: "),
        (json!({"address": "udp://::1:8125"}), "address: "),
        (json!({"address": "unix://x"}), "address: "),
        (
            json!({"address": "udp://x:1", "network_type": "udp"}),
            "network_type: ",
        ),
        (json!({"max_packet_bytes": 70_000}), "max_packet_bytes: "),
        (json!({"max_packet_bytes": 10}), "max_packet_bytes: "),
        (json!({"framing": "length_prefix"}), "framing: "),
        (json!({"tags": "drop", "checks": "check"}), "checks: "),
        (json!({"tags": "drop", "events": true}), "events: "),
        (json!({"tags": "drop", "timestamps": true}), "timestamps: "),
        (json!({"template": "{name}"}), "template: "),
        (json!({"timeout": "0s"}), "timeout: "),
    ] {
        let found = check(config.clone());
        assert!(
            found.len() == 1 && found[0].starts_with(key),
            "{config}: {found:?}"
        );
    }
}

#[tokio::test]
async fn a_unix_socket_that_is_not_there_yet_gets_everything_later_and_once() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let config = json!({"address": format!("unixgram://{}", path.display()), "backoff": "1ms", "max_packet_bytes": 128});
    let mut sink = registry::build("statsd", "out", &config).unwrap();
    let points: Vec<_> = (0..100)
        .map(|n| point(&format!("m{n}"), PointKind::Counter, 1.0, &[]))
        .collect();
    let batch = Batch {
        points: points.into(),
        ..Batch::default()
    };
    let error = sink.write(&batch).await.unwrap_err();
    assert!(matches!(error, SinkError::Retriable { .. }), "{error}");
    assert!(error.to_string().contains("unixgram://"), "{error}");
    let server = tokio::net::UnixDatagram::bind(&path).unwrap();
    let reading = tokio::spawn(async move {
        let (mut lines, mut buffer) = (Vec::new(), [0; 8192]);
        while lines.len() < 100 {
            let length = server.recv(&mut buffer).await.unwrap();
            let text = std::str::from_utf8(&buffer[..length]).unwrap();
            lines.extend(text.lines().map(str::to_owned));
        }
        lines
    });
    let written = sink.write(&batch).await.unwrap();
    assert_eq!(written.points, 100);
    let lines = reading.await.unwrap();
    let expected: Vec<_> = (0..100).map(|n| format!("m{n}:1|c")).collect();
    assert_eq!(lines, expected);
}

#[tokio::test(start_paused = true)]
async fn packets_keep_their_pace() {
    let started = tokio::time::Instant::now();
    let mut pace = Pace::new(1000);
    for _ in 0..1001 {
        pace.keep().await;
    }
    let took = started.elapsed();
    assert!(
        took >= Duration::from_millis(990) && took <= Duration::from_millis(1200),
        "{took:?}"
    );
}
