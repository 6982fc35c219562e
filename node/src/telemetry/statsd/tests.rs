//! What a statsd receiver gets to see.

use std::net::UdpSocket;

use super::lines::PACKET;
use super::*;

fn lines(packets: Vec<Vec<u8>>) -> Vec<String> {
    let text: Vec<String> = packets
        .into_iter()
        .map(|packet| String::from_utf8(packet).expect("text"))
        .collect();
    let mut lines: Vec<String> = text
        .iter()
        .flat_map(|packet| packet.lines().map(str::to_owned))
        .collect();
    lines.sort();
    lines
}

fn reporter(prefix: &str) -> (Recorder, Reporter) {
    let recorder = Recorder::new(prefix);
    recorder.keep_samples();
    (recorder.clone(), Reporter::new(recorder))
}

#[test]
fn increments_gauges_and_values_go_out_with_prefix_dots_and_tags() {
    let (recorder, mut reporter) = reporter("veneur_proxy.");
    metrics::with_local_recorder(&recorder, || {
        metrics::counter!("forward.error_total", "cause" => "post").increment(2);
        metrics::gauge!("metrics_by_destination", "destination" => "127.0.0.1:8128").set(7.5);
        metrics::histogram!("forward.duration_ns").record(1500.0);
    });
    assert_eq!(
        lines(reporter.packets()),
        [
            "veneur_proxy.forward.duration_ns:1500|d",
            "veneur_proxy.forward.error_total:2|c|#cause:post",
            "veneur_proxy.metrics_by_destination:7.5|g|#destination:127.0.0.1:8128",
        ]
    );
    metrics::with_local_recorder(&recorder, || {
        metrics::counter!("forward.error_total", "cause" => "post").increment(1);
    });
    assert_eq!(
        lines(reporter.packets()),
        [
            "veneur_proxy.forward.error_total:1|c|#cause:post",
            "veneur_proxy.metrics_by_destination:7.5|g|#destination:127.0.0.1:8128",
        ],
        "a counter's increment, not its total; a gauge again; no value twice"
    );
}

#[test]
fn gauges_may_go_up_and_down() {
    let (recorder, mut reporter) = reporter("");
    metrics::with_local_recorder(&recorder, || {
        metrics::gauge!("open").increment(3.0);
        metrics::gauge!("open").decrement(1.0);
    });
    assert_eq!(lines(reporter.packets()), ["open:2|g"]);
}

#[test]
fn a_label_cannot_add_a_line_a_field_or_a_tag() {
    let (recorder, mut reporter) = reporter("");
    metrics::with_local_recorder(&recorder, || {
        metrics::counter!("c", "peer" => "a,b|c\nd:1|c#e").increment(1);
    });
    assert_eq!(lines(reporter.packets()), ["c:1|c|#peer:a_b_c_d:1_c_e"]);
}

#[test]
fn many_values_are_thinned_with_a_rate_that_restores_their_count() {
    let (recorder, mut reporter) = reporter("");
    metrics::with_local_recorder(&recorder, || {
        for value in 1..=2000 {
            metrics::histogram!("h", "k" => "v").record(f64::from(value));
        }
    });
    let lines = lines(reporter.packets());
    assert_eq!(lines.len(), MOST_VALUES);
    assert!(
        lines.iter().all(|line| line.ends_with("|d|@0.05|#k:v")),
        "{:?}",
        lines.first()
    );
    let mut values: Vec<f64> = lines
        .iter()
        .filter_map(|line| {
            line.strip_prefix("h:")
                .and_then(|rest| rest.split('|').next()?.parse().ok())
        })
        .collect();
    values.sort_by(f64::total_cmp);
    assert_eq!((values.first(), values.last()), (Some(&1.0), Some(&2000.0)));
    let median = values.get(MOST_VALUES / 2).copied().unwrap_or_default();
    assert!((median - 1000.0).abs() < 25.0, "{median}");
}

#[test]
fn packets_fit_a_frame() {
    let (recorder, mut reporter) = reporter("p.");
    metrics::with_local_recorder(&recorder, || {
        for number in 0..200 {
            metrics::counter!("some.counter.with.a.name", "number" => number.to_string())
                .increment(1);
        }
    });
    let packets = reporter.packets();
    assert!(packets.len() > 1);
    assert!(packets.iter().all(|packet| packet.len() <= PACKET));
    assert_eq!(lines(packets).len(), 200);
}

#[tokio::test]
async fn reports_reach_a_receiver_by_the_clock_and_once_more_at_the_end() {
    let receiver = tokio::net::UdpSocket::bind("127.0.0.1:0")
        .await
        .expect("a port");
    let address = receiver.local_addr().expect("bound").to_string();
    let recorder = Recorder::new("veneur.");
    let stop = CancellationToken::new();
    let count = || metrics::with_local_recorder(&recorder, || metrics::counter!("c").increment(1));
    let reporting = tokio::spawn(report(
        recorder.clone(),
        address,
        Duration::from_millis(20),
        stop.clone(),
    ));
    let mut buffer = [0u8; 2048];
    let mut next = async || {
        let received =
            tokio::time::timeout(Duration::from_secs(10), receiver.recv(&mut buffer)).await;
        let length = received.expect("in time").expect("received");
        String::from_utf8_lossy(buffer.get(..length).unwrap_or_default()).into_owned()
    };
    count();
    assert_eq!(
        next().await,
        "veneur.c:1|c",
        "a lone line is not held back until a packet is full"
    );
    count();
    stop.cancel();
    assert_eq!(next().await, "veneur.c:1|c");
    reporting.await.expect("ended");
}

#[tokio::test]
async fn a_receiver_that_is_not_there_hurts_nobody() {
    let nobody = {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
        socket.local_addr().expect("bound").to_string()
    };
    for address in [nobody, "no.such.host.invalid:8125".to_owned()] {
        let recorder = Recorder::new("");
        metrics::with_local_recorder(&recorder, || metrics::counter!("c").increment(1));
        let stop = CancellationToken::new();
        let reporting = tokio::spawn(report(
            recorder,
            address,
            Duration::from_millis(5),
            stop.clone(),
        ));
        tokio::time::sleep(Duration::from_millis(50)).await;
        stop.cancel();
        let ended = tokio::time::timeout(Duration::from_secs(10), reporting).await;
        ended.expect("in time").expect("no panic");
    }
}
