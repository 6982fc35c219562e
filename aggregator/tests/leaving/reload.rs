//! Settings that change while the aggregator runs.

use std::net::{TcpListener, UdpSocket};
use std::path::Path;

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::eventually;
use crate::program::{Program, read_points};

/// Writes the settings anew, sends SIGHUP, and waits until the log says `outcome` once more.
fn reload(program: &Program, config: Value, outcome: &str) {
    let before = program.log().matches(outcome).count();
    program.write_config(config);
    program.signal(Signal::SIGHUP);
    let more = || (program.log().matches(outcome).count() > before).then_some(());
    eventually(more, || program.log());
}

fn send(program: &Program, line: &str) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.send_to(line.as_bytes(), program.statsd()).unwrap();
}

/// Waits for a point.
fn until_emitted(program: &Program, path: &Path, name: &str) -> f64 {
    let found = || {
        let points = read_points_so_far(path);
        points.into_iter().find(|(point, _)| point == name)
    };
    eventually(found, || {
        format!("{name} in {}\n{}", path.display(), program.log())
    })
    .1
}

/// Whole lines only: the last one may be half written.
fn read_points_so_far(path: &Path) -> Vec<(String, f64)> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    if !text.ends_with('\n') {
        return Vec::new();
    }
    let points = read_points(path).into_iter();
    points.map(|point| (point.name, point.value)).collect()
}

fn agent(sink: &Path) -> Value {
    json!({
        "statsd_listen_addresses": ["udp://127.0.0.1:0"],
        "interval": "100ms",
        "percentiles": [],
        "aggregates": ["max"],
        "metric_sinks": [{"kind": "localfile", "name": "file", "config": {"path": sink}}],
    })
}

#[test]
fn points_that_a_sink_could_not_write_get_out_once_its_settings_are_right() {
    let dir = tempfile::tempdir().unwrap();
    let good = dir.path().join("good");
    // A disk that is full.
    let mut agent_with_full_disk = Program::start(&dir, "agent", agent(Path::new("/dev/full")));
    let program = &agent_with_full_disk;
    send(program, "stuck:1|c");
    program.until_logged("No space left on device");
    reload(program, agent(&good), "read again and applied");
    assert_eq!(until_emitted(program, &good, "stuck"), 1.0);
    send(program, "later:2|c");
    assert_eq!(until_emitted(program, &good, "later"), 2.0);
    agent_with_full_disk.stop();
}

#[test]
fn aggregates_follow_the_settings_and_what_cannot_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let points = dir.path().join("points");
    let mut program = Program::start(&dir, "agent", agent(&points));
    send(&program, "a:5|h");
    until_emitted(&program, &points, "a.max");
    let mut config = agent(&points);
    config["aggregates"] = json!(["min"]);
    config["percentiles"] = json!([0.5]);
    config["interval"] = json!("200ms");
    config["statsd_listen_addresses"] = json!(["udp://127.0.0.1:1"]);
    config["http_address"] = json!("127.0.0.1:1");
    reload(&program, config, "read again and applied");
    let log = program.log();
    for key in ["interval", "statsd_listen_addresses", "http_address"] {
        let line = format!("needs a restart key=\"{key}\"");
        assert!(log.contains(&line), "{line} is not in\n{log}");
    }
    assert!(
        log.contains(r#"keys=["aggregates", "percentiles"]"#),
        "{log}"
    );
    // The old address still is the one.
    send(&program, "b:7|h|#veneurlocalonly");
    until_emitted(&program, &points, "b.min");
    until_emitted(&program, &points, "b.50percentile");
    let names = read_points(&points);
    assert!(!names.iter().any(|point| point.name == "b.max"));
    let metrics = program.get("/metrics");
    assert!(
        metrics.contains("config_reloads_total{outcome=\"applied\"} 1"),
        "{metrics}"
    );
    program.stop();
}

#[test]
fn settings_that_are_wrong_or_cannot_be_had_change_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let points = dir.path().join("points");
    let mut program = Program::start(&dir, "agent", agent(&points));
    let mut config = agent(Path::new("/no-such-directory/points"));
    config["aggregates"] = json!(["mean"]);
    config["forward_addres"] = json!("127.0.0.1:1");
    reload(&program, config, "settings refused");
    let log = program.log();
    for part in ["forward_addres: unknown key", "aggregates[0]: "] {
        assert!(log.contains(part), "{part} is not in\n{log}");
    }
    let mut config = agent(&points);
    config["forward_address"] = json!("127.0.0.1:1");
    reload(&program, config, "cannot be applied");
    let mut config = agent(Path::new("/proc/none"));
    config["aggregates"] = json!(["min"]);
    reload(&program, config, "cannot be applied");
    send(&program, "a:5|h|#veneurlocalonly");
    assert_eq!(until_emitted(&program, &points, "a.max"), 5.0);
    program.stop();
}

#[test]
fn what_a_dead_proxy_did_not_take_goes_to_the_one_in_its_place() {
    let dir = tempfile::tempdir().unwrap();
    let global = json!({"grpc_address": "127.0.0.1:0", "percentiles": [], "aggregates": ["max"]});
    let mut global = Program::start(&dir, "global", global);
    let dead = {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap().to_string()
    };
    let points = dir.path().join("points");
    let mut config = agent(&points);
    config["forward_address"] = json!(dead);
    let mut program = Program::start(&dir, "agent", config.clone());
    send(&program, "far:4|c|#veneurglobalonly");
    program.until_logged("forward destination does not answer");
    config["forward_address"] = json!(global.grpc());
    reload(&program, config.clone(), "read again and applied");
    let delivered = || {
        let metrics = program.get("/metrics");
        metrics
            .contains("\nveneur_forward_post_metrics_total 1\n")
            .then_some(())
    };
    eventually(delivered, || program.log());
    send(&program, "far:5|c|#veneurglobalonly");
    program.stop();
    global.stop();
    let points = global.points();
    assert_eq!(points.len(), 1, "{points:?}");
    assert_eq!((points[0].name.as_str(), points[0].value), ("far", 9.0));
}
