//! Leaving under load, and leaving in time.

use std::fs::File;
use std::io::Read;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use nix::sys::signal::Signal;
use nix::sys::stat::Mode;
use serde_json::json;

use crate::program::Program;
use crate::traffic::{Traffic, counted, not_once};

fn send(to: SocketAddr, lines: impl Iterator<Item = String>) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    for line in lines {
        socket.send_to(line.as_bytes(), to).unwrap();
    }
}

#[test]
fn an_agent_that_leaves_under_load_has_counted_all_that_was_sent_before() {
    let dir = tempfile::tempdir().unwrap();
    for round in 0..3 {
        let config = json!({"statsd_listen_addresses": ["udp://127.0.0.1:0"], "num_readers": 2});
        let mut agent = Program::start(&dir, &format!("agent-{round}"), config);
        let mut traffic = Traffic::start(agent.statsd(), 4);
        crate::eventually(
            || traffic.sent().iter().all(|sent| *sent > 100).then_some(()),
            String::new,
        );
        let before = traffic.sent();
        agent.signal(Signal::SIGTERM);
        let status = agent.ended();
        let sent = traffic.stop();
        assert!(status.success(), "{}", agent.log());
        let points = agent.points();
        assert_eq!(
            not_once(&points, &before),
            [],
            "before the signal: {before:?}"
        );
        for ((sender, number), times) in counted(&points) {
            assert!(
                number < sent[sender] && times == 1.0,
                "{sender} {number}: {times}"
            );
        }
    }
}

#[test]
fn an_agent_whose_proxy_never_answers_is_gone_in_time() {
    let dir = tempfile::tempdir().unwrap();
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut agent = Program::start(
        &dir,
        "agent",
        json!({
            "statsd_listen_addresses": ["udp://127.0.0.1:0"],
            "forward_address": silent.local_addr().unwrap().to_string(),
            "shutdown_timeout": "2s",
        }),
    );
    send(
        agent.statsd(),
        (0..100).map(|number| format!("h{number}:1|h")),
    );
    let took = agent.stop();
    assert!(took < Duration::from_secs(10), "{took:?}");
    let log = agent.log();
    assert!(
        log.contains("not forwarded before the end: lost metrics=100"),
        "{log}"
    );
    // What is for sinks does not wait for the proxy.
    assert!(agent.points().iter().any(|point| point.name == "h7.max"));
}

/// A pipe that somebody has open and nobody reads.
fn stuck_pipe(path: &Path) -> File {
    nix::unistd::mkfifo(path, Mode::S_IRWXU).unwrap();
    File::options()
        .read(true)
        .custom_flags(nix::fcntl::OFlag::O_NONBLOCK.bits())
        .open(path)
        .unwrap()
}

#[test]
fn a_sink_that_hangs_holds_nobody_up_beyond_the_time_to_leave() {
    let dir = tempfile::tempdir().unwrap();
    let pipe = dir.path().join("pipe");
    let mut reader = stuck_pipe(&pipe);
    let points = dir.path().join("agent.points");
    let mut agent = Program::start(
        &dir,
        "agent",
        json!({
            "statsd_listen_addresses": ["udp://127.0.0.1:0"],
            "shutdown_timeout": "2s",
            "metric_sinks": [
                {"kind": "localfile", "name": "stuck", "config": {"path": pipe}},
                {"kind": "localfile", "name": "file", "config": {"path": points}},
            ],
        }),
    );
    // More than a pipe holds.
    let many = 3000;
    send(
        agent.statsd(),
        (0..many).map(|number| format!("some.rather.long.name.{number}:1|c")),
    );
    let took = agent.stop();
    assert!(took < Duration::from_secs(10), "{took:?}");
    assert_eq!(agent.points().len(), many);
    let log = agent.log();
    assert!(log.contains("sink=stuck"), "{log}");
    let mut some = [0; 4096];
    assert!(reader.read(&mut some).unwrap() > 0, "it was written to");
}

#[test]
fn an_agent_with_nothing_in_its_way_leaves_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let mut agent = Program::start(&dir, "agent", json!({}));
    let took = agent.stop();
    assert!(took < Duration::from_secs(10), "{took:?}");
}
