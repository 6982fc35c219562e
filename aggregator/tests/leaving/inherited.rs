//! Agents that come and go while somebody else holds their socket.

use std::net::UdpSocket;
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use serde_json::json;

use crate::eventually;
use crate::program::{Program, read_points};
use crate::traffic::{Traffic, not_once};

/// A receive buffer of the usual size holds what comes so slowly for half a minute.
const PAUSE: Duration = Duration::from_millis(100);

#[test]
fn an_agent_restarts_and_what_comes_meanwhile_waits_in_the_socket_that_systemd_holds() {
    let dir = tempfile::tempdir().unwrap();
    // The part of systemd.
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    // As systemd sets its sockets.
    socket.set_nonblocking(true).unwrap();
    let statsd = socket.local_addr().unwrap();
    let agent = |number: u32| {
        let config = json!({
            "statsd_listen_addresses": [format!("udp://{statsd}")],
            "num_readers": 2,
        });
        let handed = socket.try_clone().unwrap().into();
        Program::start_with_socket(&dir, &format!("agent-{number}"), config, handed)
    };
    let mut traffic = Traffic::start_slowly(statsd, 2, PAUSE);
    let until_more = |traffic: &Traffic| {
        let before = traffic.sent();
        eventually(
            || {
                let now = traffic.sent();
                let all = now.iter().zip(&before);
                all.clone()
                    .all(|(now, before)| *now > before + 3)
                    .then_some(())
            },
            || "nothing is sent".to_owned(),
        );
    };
    let mut agents = Vec::new();
    for number in 0..3 {
        // Nobody reads now.
        until_more(&traffic);
        let mut agent = agent(number);
        assert_eq!(agent.statsd(), statsd);
        until_more(&traffic);
        agent.stop();
        agents.push(agent);
    }
    until_more(&traffic);
    let sent = traffic.stop();
    let mut last = agent(3);
    last.statsd();
    last.stop();
    agents.push(last);
    let points: Vec<_> = agents.iter().flat_map(Program::points).collect();
    assert_eq!(not_once(&points, &sent), [], "of {sent:?}");
    for agent in &agents {
        let log = agent.log();
        assert!(!agent.points().is_empty(), "an agent got nothing:\n{log}");
        assert!(log.contains("stays when it leaves"), "{log}");
    }
}

#[test]
fn a_unix_socket_that_was_inherited_keeps_its_path_and_one_that_nobody_names_is_told_of() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("statsd.sock");
    let socket = UnixDatagram::bind(&path).unwrap();
    let sender = UnixDatagram::unbound().unwrap();
    sender.send_to(b"early:1|c", &path).unwrap();
    let config = |address: String| json!({"statsd_listen_addresses": [address], "num_readers": 2});
    let named = config(format!("unixgram://{}", path.display()));
    let handed = || socket.try_clone().unwrap().into();
    let mut agent = Program::start_with_socket(&dir, "agent", named, handed());
    agent.until_logged("listening for DogStatsD address=");
    sender.send_to(b"late:1|c", &path).unwrap();
    agent.stop();
    let points = read_points(&agent.path("points"));
    let mut names: Vec<&str> = points.iter().map(|point| point.name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["early", "late"], "{}", agent.log());
    assert!(path.exists());

    let other = config("udp://127.0.0.1:0".to_owned());
    let mut agent = Program::start_with_socket(&dir, "other", other, handed());
    agent.until_logged("nobody reads it");
    agent.stop();
}
