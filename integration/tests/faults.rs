//! What goes wrong in a fleet, with real processes under steady load: everything comes out, and once.
//!
//! Each test prints its account; `docs/reliability.md` quotes it.
#![allow(clippy::print_stdout, reason = "the accounts are read in the output")]

use std::collections::HashMap;
use std::error::Error;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::json;
use tokio::sync::Mutex;
use tokio::time::sleep;
use tributary_integration::audit::{self, Account};
use tributary_integration::faults::{Relay, Sent, SteadyLoad, Verdict, Weather, judge};
use tributary_integration::tier::{Aggregator, Binaries, Proxy, Tier, wait_for};

type Outcome = Result<(), Box<dyn Error>>;

/// Counts a second over all agents.
const RATE: u64 = 20_000;
const SERIES: usize = 500;

/// Fleets do not share the machine.
static ALONE: Mutex<()> = Mutex::const_new(());

struct Fleet {
    agents: Vec<Aggregator>,
    proxies: Vec<Proxy>,
    globals: Vec<Aggregator>,
    /// Holds the files.
    _tier: Tier,
}

impl Fleet {
    /// Two agents, two proxies and three globals; what the proxies call each global is up to `seen`.
    async fn start(seen: impl AsyncFn(usize, &str) -> io::Result<String>) -> io::Result<Self> {
        let tier = Tier::new(Binaries::of(env!("CARGO_BIN_EXE_tributary")))?;
        let mut globals = Vec::new();
        let mut addresses = Vec::new();
        for number in 0..3 {
            let global = tier.global(&format!("g{number}")).start().await?;
            addresses.push(seen(number, &global.grpc).await?);
            globals.push(global);
        }
        let mut proxies = Vec::new();
        for number in 0..2 {
            let proxy = tier
                .proxy(&format!("p{number}"))
                .with("forward_addresses", json!(addresses))
                .with("interval", json!("1s"));
            proxies.push(proxy.start().await?);
        }
        let upstream: Vec<_> = proxies.iter().map(|proxy| proxy.grpc.clone()).collect();
        let mut agents = Vec::new();
        for number in 0..2 {
            let agent = tier.agent(&format!("a{number}"));
            agents.push(
                agent
                    .with("forward_address", json!(upstream))
                    .start()
                    .await?,
            );
        }
        Ok(Self {
            agents,
            proxies,
            globals,
            _tier: tier,
        })
    }

    async fn usual() -> io::Result<Self> {
        Self::start(async |_, address| Ok(address.to_owned())).await
    }

    fn load(&self) -> SteadyLoad {
        let sockets: Vec<PathBuf> = self
            .agents
            .iter()
            .map(|agent| agent.socket.clone())
            .collect();
        SteadyLoad::start(&sockets, RATE, SERIES)
    }

    fn verdict(&self, sent: &Sent) -> io::Result<Verdict> {
        let mut emitted = Vec::new();
        for global in &self.globals {
            emitted.extend(global.emitted()?);
        }
        Ok(judge(sent, &emitted))
    }

    /// The fleet's ledgers, added up.
    async fn account(&self) -> io::Result<Account> {
        let whose = audit::Options::of(&self.agents, &self.proxies, &self.globals);
        audit::add_up(&whose).await
    }

    /// Waits until the last acknowledgements are in and nothing is unaccounted for.
    async fn balances(&self) -> io::Result<()> {
        wait_for("a residue of 0", async || {
            let account = self.account().await.ok()?;
            (account.residue() == 0 && account.waiting == 0).then_some(())
        })
        .await
    }

    /// Stops the load and waits until all of it has come out; gives the last account otherwise.
    async fn settle(&self, name: &str, load: SteadyLoad) -> io::Result<Verdict> {
        let sent = load.stop().await?;
        let mut last = Verdict::default();
        let waited = wait_for("everything to come out", async || {
            last = self.verdict(&sent).ok()?;
            (last.missing == 0.0).then_some(())
        })
        .await;
        // What comes twice comes late.
        sleep(Duration::from_secs(3)).await;
        let last = self.verdict(&sent)?;
        println!("{name}: {last}");
        if let Ok(account) = self.account().await {
            println!("ledger: {account:?}, residue {}", account.residue());
        }
        if waited.is_err() {
            for program in self
                .agents
                .iter()
                .chain(&self.globals)
                .map(|node| &node.program)
                .chain(self.proxies.iter().map(|proxy| &proxy.program))
            {
                println!("{}", program.log());
            }
        }
        Ok(last)
    }
}

/// Without any fault the suite's own account is exact: what the others find is not an artefact.
#[tokio::test]
async fn without_faults_everything_comes_out_once() -> Outcome {
    let _alone = ALONE.lock().await;
    let fleet = Fleet::usual().await?;
    let load = fleet.load();
    sleep(Duration::from_secs(5)).await;
    let verdict = fleet.settle("no fault", load).await?;
    assert!(verdict.is_exact(), "{verdict}");
    assert!(verdict.sent > 20_000, "{verdict}");
    assert_eq!(verdict.split, 0);
    fleet.balances().await?;
    Ok(())
}

#[tokio::test]
async fn a_proxy_that_is_killed_again_and_again_costs_nothing() -> Outcome {
    let _alone = ALONE.lock().await;
    let mut fleet = Fleet::usual().await?;
    let load = fleet.load();
    for round in 0..6 {
        sleep(Duration::from_millis(1_300)).await;
        let proxy = &mut fleet.proxies[round % 2];
        proxy.program.kill().await?;
        sleep(Duration::from_millis(300)).await;
        proxy.start_again().await?;
    }
    let verdict = fleet.settle("proxies killed", load).await?;
    assert!(verdict.is_exact(), "{verdict}");
    fleet.balances().await?;
    Ok(())
}

#[tokio::test]
async fn a_stopped_global_delays_no_metric_of_another() -> Outcome {
    let _alone = ALONE.lock().await;
    let fleet = Fleet::usual().await?;
    let load = fleet.load();
    sleep(Duration::from_secs(3)).await;
    fleet.globals[0].program.signal(Signal::SIGSTOP)?;
    // While one is stopped, each interval of the others is as full as before.
    sleep(Duration::from_secs(6)).await;
    let from = unix_now();
    sleep(Duration::from_secs(14)).await;
    let to = unix_now();
    for global in &fleet.globals[1..] {
        let emitted = global.emitted()?;
        let mut late = Vec::new();
        for second in from..to - 1 {
            let count: f64 = emitted
                .iter()
                .filter(|point| point.timestamp == second)
                .map(|point| point.value)
                .sum();
            if count < RATE as f64 / 3.0 * 0.5 {
                late.push((second - from, count));
            }
        }
        // A busy machine holds one up now and then; a proxy that waits for the stopped one holds up all.
        assert!(
            late.len() as i64 * 2 < to - from,
            "{} was held up: {late:?}\n{}",
            global.grpc,
            fleet.proxies[0].program.log()
        );
    }
    fleet.globals[0].program.signal(Signal::SIGCONT)?;
    let verdict = fleet.settle("global stopped for 20 s", load).await?;
    assert!(verdict.is_exact(), "{verdict}");
    fleet.balances().await?;
    Ok(())
}

#[tokio::test]
async fn a_slow_way_to_a_global_costs_nothing() -> Outcome {
    let _alone = ALONE.lock().await;
    let relays = std::sync::Mutex::new(Vec::new());
    let fleet = Fleet::start(async |number, address| {
        if number > 0 {
            return Ok(address.to_owned());
        }
        let relay = Relay::start(address).await?;
        let seen = relay.address().to_owned();
        relays.lock().map_err(|_| io::ErrorKind::Other)?.push(relay);
        Ok(seen)
    })
    .await?;
    let relay = relays.into_inner()?.remove(0);
    let load = fleet.load();
    for weather in [
        Weather::Slow(Duration::from_millis(400)),
        Weather::Storm,
        Weather::Clear,
        Weather::Silent,
        Weather::Clear,
        Weather::Deaf,
        Weather::Storm,
        Weather::Clear,
    ] {
        relay.set(weather);
        sleep(Duration::from_millis(2_500)).await;
    }
    let verdict = fleet.settle("bad weather before a global", load).await?;
    assert!(verdict.is_exact(), "{verdict}");
    fleet.balances().await?;
    Ok(())
}

#[tokio::test]
async fn a_rolling_restart_of_every_process_costs_nothing() -> Outcome {
    let _alone = ALONE.lock().await;
    let mut fleet = Fleet::usual().await?;
    let load = fleet.load();
    sleep(Duration::from_secs(2)).await;
    for number in 0..fleet.agents.len() {
        assert!(fleet.agents[number].stop().await?.success());
        fleet.agents[number].start_again().await?;
        sleep(Duration::from_secs(1)).await;
    }
    for number in 0..fleet.proxies.len() {
        assert!(fleet.proxies[number].stop().await?.success());
        fleet.proxies[number].start_again().await?;
        sleep(Duration::from_secs(1)).await;
    }
    for number in 0..fleet.globals.len() {
        assert!(fleet.globals[number].stop().await?.success());
        fleet.globals[number].start_again().await?;
        sleep(Duration::from_secs(2)).await;
    }
    let verdict = fleet.settle("rolling restart", load).await?;
    assert!(verdict.is_exact(), "{verdict}");
    Ok(())
}

#[tokio::test]
async fn a_destination_that_accepts_and_never_answers_holds_up_nobody_else() -> Outcome {
    let _alone = ALONE.lock().await;
    let tier = Tier::new(Binaries::of(env!("CARGO_BIN_EXE_tributary")))?;
    let dead = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let address = dead.local_addr()?.to_string();
    let accepting = tokio::spawn(async move {
        let mut kept = Vec::new();
        while let Ok((stream, _)) = dead.accept().await {
            kept.push(stream);
        }
    });
    let global = tier.global("alive").start().await?;
    let proxy = tier
        .proxy("p")
        .destination(&global.grpc)
        .destination(&address)
        .start()
        .await?;
    let agent = tier.agent("a").forward_to(&proxy.grpc).start().await?;
    let load = SteadyLoad::start(std::slice::from_ref(&agent.socket), RATE, SERIES);
    sleep(Duration::from_secs(12)).await;
    let sent = load.stop().await?;
    // The living one owns about half of the series, and each of them is complete.
    wait_for("the living global's series to be complete", async || {
        let verdict = judge(&sent, &global.emitted().ok()?);
        let whole = series_complete(&sent, &global);
        (whole > SERIES * 3 / 10 && verdict.duplicated == 0.0).then_some(())
    })
    .await?;
    accepting.abort();
    Ok(())
}

/// How many series have come out whole.
fn series_complete(sent: &Sent, global: &Aggregator) -> usize {
    let mut arrived: HashMap<String, f64> = HashMap::new();
    for point in global.emitted().unwrap_or_default() {
        *arrived.entry(point.tags.join(",")).or_default() += point.value;
    }
    let whole = |series: &usize, count: &u64| {
        arrived.get(&format!("series:{series}")) == Some(&(*count as f64))
    };
    sent.iter()
        .filter(|(series, count)| whole(series, count))
        .count()
}

fn unix_now() -> i64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(0, |now| now.as_secs() as i64)
}
