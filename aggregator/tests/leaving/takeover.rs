//! A second agent takes over from the first.

use std::time::Duration;

use serde_json::json;

use crate::program::Program;
use crate::traffic::{Traffic, not_once};

#[test]
fn agents_that_take_over_from_each_other_count_every_datagram_once() {
    let dir = tempfile::tempdir().unwrap();
    let agent = |number: u32, statsd: &str, http: &str| {
        let name = format!("agent-{number}");
        let config = json!({
            "statsd_listen_addresses": [format!("udp://{statsd}")],
            "http_address": http,
            "reuse_port": true,
            "num_readers": 2,
            "shutdown_timeout": "20s",
        });
        let agent = Program::start_unready(&dir, &name, config);
        // Its admin server shares the old one's port, too: the log says that it is up.
        agent.until_logged("admin server listens address=");
        agent.statsd();
        agent
    };
    let mut agents = vec![agent(0, "127.0.0.1:0", "127.0.0.1:0")];
    let statsd = agents[0].statsd();
    let http = agents[0].until_logged("admin server listens address=");
    let mut traffic = Traffic::start(statsd, 4);
    for number in 1..=5 {
        agents.push(agent(number, &statsd.to_string(), &http));
        let took = agents[number as usize - 1].stop();
        assert!(took < Duration::from_secs(10), "{took:?}");
    }
    let sent = traffic.stop();
    agents[5].stop();
    let points: Vec<_> = agents.iter().flat_map(Program::points).collect();
    assert!(sent.iter().all(|sent| *sent > 100), "{sent:?}");
    assert_eq!(not_once(&points, &sent), [], "of {sent:?}");
    assert_eq!(points.len() as u64, sent.iter().sum::<u64>());
    for agent in &agents {
        assert!(
            !agent.points().is_empty(),
            "an agent got nothing:\n{}",
            agent.log()
        );
    }
}

#[test]
fn a_second_agent_that_cannot_start_takes_nothing_from_the_first() {
    let dir = tempfile::tempdir().unwrap();
    let config = |statsd: &str| json!({"statsd_listen_addresses": [format!("udp://{statsd}")], "reuse_port": true});
    let mut first = Program::start(&dir, "first", config("127.0.0.1:0"));
    let statsd = first.statsd();
    let mut traffic = Traffic::start(statsd, 4);
    for number in 0..3 {
        let mut config = config(&statsd.to_string());
        config["metric_sinks"] = json!([{"kind": "localfile", "config": {"path": "/proc/none"}}]);
        let mut second = Program::start_unready(&dir, &format!("second-{number}"), config);
        assert_eq!(second.ended().code(), Some(1), "{}", second.log());
    }
    let sent = traffic.stop();
    first.stop();
    assert_eq!(not_once(&first.points(), &sent), [], "of {sent:?}");
}
