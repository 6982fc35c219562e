//! A partitioned network, with real processes under steady load: everything comes out, and once.
//!
//! Agents and proxies, or agents alone, are in one network namespace and the rest of the tier in another; see [`Wire`]. Each test prints its
//! account; `docs/reliability.md` quotes it.
#![allow(clippy::print_stdout, reason = "the accounts are read in the output")]

use std::error::Error;
use std::io;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use serde_json::json;
use tokio::time::sleep;
use tributary_integration::audit::{self, Account};
use tributary_integration::faults::{Line, SteadyLoad, Verdict, Wire, judge, longest_delay};
use tributary_integration::tier::{Aggregator, Binaries, Place, Proxy, Tier, wait_for};

type Outcome = Result<(), Box<dyn Error>>;

/// Counts a second over all agents.
const RATE: u64 = 20_000;
const SERIES: usize = 500;

/// One at a time: two of these on a small machine would be a test of its processor.
static TURN: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// Where the wire runs.
#[derive(Clone, Copy)]
enum Between {
    /// Two of the three globals are far.
    ProxiesAndGlobals,
    /// The proxies and all globals are far.
    AgentsAndProxies,
}

/// The program of nftables, which `integration/servers/fetch` brings.
fn nft() -> io::Result<String> {
    std::env::var("TEST_NFT")
        .map_err(|_| io::Error::other("TEST_NFT is not set: run integration/test"))
}

struct Fleet {
    agents: Vec<Aggregator>,
    proxies: Vec<Proxy>,
    globals: Vec<Aggregator>,
    wire: Wire,
    /// Holds the files.
    _tier: Tier,
}

/// What came of one fault.
struct Report {
    verdict: Verdict,
    delay: Duration,
    /// Packets dropped or answered with a reset.
    hits: u64,
    account: Account,
}

impl Fleet {
    /// Two agents, two proxies and three globals.
    async fn start(between: Between) -> io::Result<Self> {
        let tier = Tier::new(Binaries::of(env!("CARGO_BIN_EXE_tributary")))?;
        let wire = Wire::lay(&nft()?)?;
        let (near, far) = (Place::here(), wire.far());
        let mut globals = Vec::new();
        for number in 0..3 {
            let place = match between {
                Between::ProxiesAndGlobals if number == 0 => &near,
                Between::ProxiesAndGlobals | Between::AgentsAndProxies => &far,
            };
            let global = tier.global(&format!("g{number}"));
            globals.push(global.at(place).start().await?);
        }
        let destinations: Vec<_> = globals.iter().map(|global| &global.grpc).collect();
        let mut proxies = Vec::new();
        for number in 0..2 {
            let place = match between {
                Between::ProxiesAndGlobals => &near,
                Between::AgentsAndProxies => &far,
            };
            let proxy = tier
                .proxy(&format!("p{number}"))
                .at(place)
                .with("forward_addresses", json!(destinations))
                .with("interval", json!("1s"));
            proxies.push(proxy.start().await?);
        }
        let upstream: Vec<_> = proxies.iter().map(|proxy| &proxy.grpc).collect();
        let mut agents = Vec::new();
        for number in 0..2 {
            let agent = tier.agent(&format!("a{number}"));
            let agent = agent.with("forward_address", json!(upstream));
            agents.push(agent.start().await?);
        }
        Ok(Self {
            agents,
            proxies,
            globals,
            wire,
            _tier: tier,
        })
    }

    /// Steady load, with the wire in that state for a while in its midst, and the account at the end.
    async fn suffer(&self, name: &str, line: Line, time: Duration) -> io::Result<Report> {
        let sockets: Vec<PathBuf> = self.agents.iter().map(|a| a.socket.clone()).collect();
        let started = SystemTime::now();
        let load = SteadyLoad::start(&sockets, RATE, SERIES);
        sleep(Duration::from_secs(3)).await;
        self.wire.set(line)?;
        sleep(time).await;
        let hits = self.wire.hits()?;
        self.wire.set(Line::Whole)?;
        sleep(Duration::from_secs(4)).await;
        let stopped = SystemTime::now();
        let sent = load.stop().await?;

        let mut emitted = Vec::new();
        let waited = wait_for("everything to come out", async || {
            emitted = self.emitted().ok()?;
            (judge(&sent, &emitted).missing == 0.0).then_some(())
        })
        .await;
        // What comes twice comes late.
        sleep(Duration::from_secs(3)).await;
        emitted = self.emitted()?;
        let verdict = judge(&sent, &emitted);
        let delay = longest_delay(&sent, &emitted, started, stopped);
        let account = self.account().await?;
        println!(
            "{name}: {verdict}; longest delay {:.1} s; {hits} packets dropped or reset; {account:?}, residue {}",
            delay.as_secs_f64(),
            account.residue()
        );
        if waited.is_err() {
            self.print_logs();
        }
        Ok(Report {
            verdict,
            delay,
            hits,
            account,
        })
    }

    fn emitted(&self) -> io::Result<Vec<tributary_integration::tier::Emitted>> {
        let mut emitted = Vec::new();
        for global in &self.globals {
            emitted.extend(global.emitted()?);
        }
        Ok(emitted)
    }

    async fn account(&self) -> io::Result<Account> {
        let whose = audit::Options::of(&self.agents, &self.proxies, &self.globals);
        audit::add_up(&whose).await
    }

    fn print_logs(&self) {
        let aggregators = self.agents.iter().chain(&self.globals);
        let programs = aggregators.map(|node| &node.program);
        for program in programs.chain(self.proxies.iter().map(|proxy| &proxy.program)) {
            println!("{}", program.log());
        }
    }
}

impl Report {
    /// Everything came out once, and the ledgers say so, too.
    fn is_exact(&self) -> bool {
        self.verdict.is_exact() && self.account.lost_at_agents == 0 && self.account.residue() == 0
    }
}

#[tokio::test]
#[cfg_attr(
    not(feature = "servers"),
    ignore = "needs root and network namespaces: run integration/test"
)]
async fn a_cut_link_between_proxies_and_globals_costs_nothing() -> Outcome {
    let _turn = TURN.lock().await;
    let fleet = Fleet::start(Between::ProxiesAndGlobals).await?;
    let name = "link between proxies and globals cut for 8 s";
    let report = fleet
        .suffer(name, Line::Cut, Duration::from_secs(8))
        .await?;
    assert!(report.is_exact(), "{}", report.verdict);
    assert!(report.delay > Duration::from_secs(5), "it was not cut");
    Ok(())
}

#[tokio::test]
#[cfg_attr(
    not(feature = "servers"),
    ignore = "needs root and network namespaces: run integration/test"
)]
async fn a_cut_link_between_agents_and_proxies_costs_nothing() -> Outcome {
    let _turn = TURN.lock().await;
    let fleet = Fleet::start(Between::AgentsAndProxies).await?;
    let name = "link between agents and proxies cut for 8 s";
    let report = fleet
        .suffer(name, Line::Cut, Duration::from_secs(8))
        .await?;
    assert!(report.is_exact(), "{}", report.verdict);
    assert!(report.delay > Duration::from_secs(5), "it was not cut");
    Ok(())
}

#[tokio::test]
#[cfg_attr(
    not(feature = "servers"),
    ignore = "needs root and network namespaces: run integration/test"
)]
async fn a_third_of_all_packets_lost_costs_nothing() -> Outcome {
    let _turn = TURN.lock().await;
    for (between, name) in [
        (
            Between::ProxiesAndGlobals,
            "one in three packets between proxies and globals dropped for 8 s",
        ),
        (
            Between::AgentsAndProxies,
            "one in three packets between agents and proxies dropped for 8 s",
        ),
    ] {
        let fleet = Fleet::start(between).await?;
        let report = fleet
            .suffer(name, Line::Lossy, Duration::from_secs(8))
            .await?;
        assert!(report.is_exact(), "{name}: {}", report.verdict);
        assert!(
            report.hits > 10,
            "{name}: few packets were lost: {}",
            report.hits
        );
    }
    Ok(())
}

#[tokio::test]
#[cfg_attr(
    not(feature = "servers"),
    ignore = "needs root and network namespaces: run integration/test"
)]
async fn resets_of_every_connection_cost_nothing() -> Outcome {
    let _turn = TURN.lock().await;
    for (between, name) in [
        (
            Between::ProxiesAndGlobals,
            "connections from proxies to globals reset for 5 s",
        ),
        (
            Between::AgentsAndProxies,
            "connections from agents to proxies reset for 5 s",
        ),
    ] {
        let fleet = Fleet::start(between).await?;
        let report = fleet
            .suffer(name, Line::Resetting, Duration::from_secs(5))
            .await?;
        assert!(report.is_exact(), "{name}: {}", report.verdict);
        assert!(report.hits > 2, "{name}: nothing was reset");
    }
    Ok(())
}

#[tokio::test]
#[cfg_attr(
    not(feature = "servers"),
    ignore = "needs root and network namespaces: run integration/test"
)]
async fn a_wire_leaves_nothing_behind_even_after_a_panic() -> Outcome {
    let _turn = TURN.lock().await;
    let ours = format!("tributary-{}-", std::process::id());
    let left = || -> io::Result<usize> {
        let entries = std::fs::read_dir("/run/netns")?;
        let ours = |name: std::ffi::OsString| name.to_string_lossy().starts_with(&ours);
        Ok(entries.flatten().filter(|e| ours(e.file_name())).count())
    };
    let nft = nft()?;
    let (laid, during) = std::sync::mpsc::channel();
    let thread = std::thread::spawn(move || {
        let _wire = Wire::lay(&nft).unwrap();
        laid.send(std::fs::read_link("/proc/thread-self/ns/net").unwrap())
            .unwrap();
        panic!("on purpose");
    });
    let inside = during.recv()?;
    assert!(thread.join().is_err());
    assert_ne!(inside, std::fs::read_link("/proc/thread-self/ns/net")?);
    assert_eq!(left()?, 0);
    Ok(())
}
