//! Three proxies behind a real HAProxy, with the configuration that `docs/haproxy.cfg` recommends: proxies leave and come, and nothing is lost or
//! counted twice.
#![allow(clippy::print_stdout, reason = "the accounts are read in the output")]

use std::io;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::sleep;
use tributary_integration::consul::fetched;
use tributary_integration::faults::{SteadyLoad, judge};
use tributary_integration::tier::{Aggregator, Binaries, Proxy, Tier, free_address, get, wait_for};

type Outcome = Result<(), Box<dyn std::error::Error>>;

/// What `docs/load-balancers.md` recommends.
const CONFIG: &str = include_str!("../../docs/haproxy.cfg");

/// A running HAProxy in front of proxies.
struct HaProxy {
    /// `host:port` that balances calls.
    calls: String,
    /// `host:port` that balances connections.
    connections: String,
    admin: PathBuf,
    child: Child,
}

/// One line of its statistics.
#[derive(Debug, PartialEq)]
struct Server {
    /// Connections or calls that it was given.
    given: u64,
    up: bool,
}

impl HaProxy {
    /// Starts it with the recommended configuration, with these proxies' addresses in it.
    async fn start(tier: &Tier, proxies: &[Proxy]) -> io::Result<Self> {
        let (calls, connections) = (free_address()?, free_address()?);
        let admin = tier.directory().join("haproxy.sock");
        let mut config = CONFIG
            .replace("/run/haproxy/admin.sock", &admin.to_string_lossy())
            .replace("0.0.0.0:8128", &calls)
            .replace("0.0.0.0:8129", &connections);
        for (number, proxy) in (1..).zip(proxies) {
            let documented = format!("10.0.0.{number}:8228 port 8227");
            assert_eq!(config.matches(&documented).count(), 2, "{documented}");
            let (_, http) = proxy
                .http
                .rsplit_once(':')
                .ok_or(io::ErrorKind::InvalidInput)?;
            config = config.replace(&documented, &format!("{} port {http}", proxy.grpc));
        }
        assert!(!config.contains("10.0.0."), "a server is not replaced");
        let file = tier.directory().join("haproxy.cfg");
        std::fs::write(&file, config)?;
        let log = std::fs::File::create(tier.directory().join("haproxy.log"))?;
        let child = Command::new(fetched("TEST_HAPROXY")?)
            .arg("-f")
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        let haproxy = Self {
            calls,
            connections,
            admin,
            child,
        };
        for number in 1..=proxies.len() {
            haproxy.until(number, true).await.map_err(|error| {
                let log = std::fs::read_to_string(tier.directory().join("haproxy.log"));
                io::Error::other(format!("{error}\n{}", log.unwrap_or_default()))
            })?;
        }
        Ok(haproxy)
    }

    /// What it says of proxy `number` behind one of its doors.
    async fn server(&self, backend: &str, number: usize) -> Option<Server> {
        let mut socket = UnixStream::connect(&self.admin).await.ok()?;
        socket.write_all(b"show stat\n").await.ok()?;
        let mut text = String::new();
        socket.read_to_string(&mut text).await.ok()?;
        let (names, lines) = text.trim_start_matches("# ").split_once('\n')?;
        let place = |name| names.split(',').position(|found| found == name);
        let (given, status) = (place("stot")?, place("status")?);
        let server = format!("{backend},p{number},");
        let line = lines.lines().find(|line| line.starts_with(&server))?;
        let fields: Vec<&str> = line.split(',').collect();
        Some(Server {
            given: fields.get(given)?.parse().ok()?,
            up: fields.get(status)?.starts_with("UP") && self.is_checked(&fields, names),
        })
    }

    /// Before the first check a server counts as up.
    fn is_checked(&self, fields: &[&str], names: &str) -> bool {
        let place = names.split(',').position(|name| name == "check_status");
        let status = place.and_then(|place| fields.get(place));
        status.is_some_and(|status| status.starts_with("L7"))
    }

    /// Waits until both doors have proxy `number` in, or out.
    async fn until(&self, number: usize, up: bool) -> io::Result<()> {
        let what = format!(
            "HAProxy to find p{number} {}",
            if up { "up" } else { "down" }
        );
        wait_for(&what, async || {
            for backend in ["proxies", "proxies_tcp"] {
                if self.server(backend, number).await?.up != up {
                    return None;
                }
            }
            Some(())
        })
        .await
    }

    /// Waits until proxy `number` was given more than before through each door.
    async fn until_given_more(&self, number: usize, before: [u64; 2]) -> io::Result<()> {
        wait_for(&format!("p{number} to get its share"), async || {
            let now = self.given(number).await?;
            (now[0] > before[0] && now[1] > before[1]).then_some(())
        })
        .await
    }

    async fn given(&self, number: usize) -> Option<[u64; 2]> {
        let calls = self.server("proxies", number).await?.given;
        let connections = self.server("proxies_tcp", number).await?.given;
        Some([calls, connections])
    }
}

impl Drop for HaProxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// How many metrics a proxy has taken since it started.
async fn received(proxy: &Proxy) -> Option<u64> {
    let answer = get(&proxy.http, "/api/ledger").await.ok()?;
    let ledger: Value = serde_json::from_slice(&answer.body).ok()?;
    ledger["totals"]["received"].as_u64()
}

#[tokio::test]
#[cfg_attr(
    not(feature = "servers"),
    ignore = "needs HAProxy: run integration/test"
)]
async fn proxies_leave_and_come_behind_haproxy_and_everything_arrives_once() -> Outcome {
    let tier = Tier::new(Binaries::of(env!("CARGO_BIN_EXE_tributary")))?;
    let mut globals: Vec<Aggregator> = Vec::new();
    for number in 1..=2 {
        globals.push(tier.global(&format!("g{number}")).start().await?);
    }
    let mut proxies = Vec::new();
    for number in 1..=3 {
        let proxy = tier
            .proxy(&format!("p{number}"))
            .destination(&globals[0].grpc)
            .destination(&globals[1].grpc)
            .with("interval", json!("1s"))
            .with("grpc_max_connection_age", json!("1s"));
        proxies.push(proxy.start().await?);
    }
    let haproxy = HaProxy::start(&tier, &proxies).await?;
    let mut sockets = Vec::new();
    let mut agents: Vec<Aggregator> = Vec::new();
    for (number, door) in [&haproxy.calls, &haproxy.connections]
        .into_iter()
        .enumerate()
    {
        for twin in ["a", "b"] {
            let agent = tier.agent(&format!("{twin}{number}"));
            let agent = agent.forward_to(door).start().await?;
            sockets.push(agent.socket.clone());
            agents.push(agent);
        }
    }
    let load = SteadyLoad::start(&sockets, 8_000, 400);
    for proxy in &proxies {
        wait_for("each proxy to get metrics", async || {
            (received(proxy).await? > 0).then_some(())
        })
        .await?;
    }

    let ended = proxies[1].stop().await?;
    assert!(ended.success(), "{ended}\n{}", proxies[1].program.log());
    haproxy.until(2, false).await?;
    let before = haproxy.given(2).await.ok_or("no statistics")?;
    proxies[1].start_again().await?;
    haproxy.until(2, true).await?;
    haproxy.until_given_more(2, before).await?;
    wait_for("the new proxy to get metrics", async || {
        (received(&proxies[1]).await? > 0).then_some(())
    })
    .await?;

    let sent = load.stop().await?;
    let emitted = || -> io::Result<Vec<_>> {
        let all = globals.iter().map(Aggregator::emitted);
        Ok(all.collect::<io::Result<Vec<_>>>()?.concat())
    };
    let waited = wait_for("everything to come out", async || {
        (judge(&sent, &emitted().ok()?).missing == 0.0).then_some(())
    })
    .await;
    // What comes twice comes late.
    sleep(Duration::from_secs(3)).await;
    let verdict = judge(&sent, &emitted()?);
    println!("behind HAProxy: {verdict}");
    if waited.is_err() || !verdict.is_exact() {
        for program in agents
            .iter()
            .chain(&globals)
            .map(|node| &node.program)
            .chain(proxies.iter().map(|proxy| &proxy.program))
        {
            println!("{}", program.log());
        }
    }
    assert!(verdict.is_exact(), "{verdict}");
    Ok(())
}
