//! Agents that forward to a topic, readers that bring what it holds to a proxy, and globals, under steady load.
#![allow(clippy::print_stdout, reason = "the accounts are read in the output")]

use std::io;
use std::time::Duration;

use serde_json::{Value, json};
use tributary_integration::audit::{self, Account};
use tributary_integration::faults::{SteadyLoad, Verdict, judge};
use tributary_integration::tier::{Aggregator, Binaries, Proxy, Tier, wait_for};

use crate::kafka::{source, until_metric};

/// Counts a second over all agents.
const RATE: u64 = 5_000;
const SERIES: usize = 200;

/// Two agents, a topic, two readers, a proxy and two globals.
pub struct Fleet {
    pub brokers: String,
    login: Value,
    pub agents: Vec<Aggregator>,
    pub readers: Vec<Aggregator>,
    pub proxy: Proxy,
    pub globals: Vec<Aggregator>,
    tier: Tier,
}

impl Fleet {
    /// Readers and agents log in with `login`, unless it is null.
    pub async fn start(brokers: String, login: Value) -> io::Result<Self> {
        let tier = Tier::new(Binaries::of(env!("CARGO_BIN_EXE_tributary")))?;
        let globals = vec![
            tier.global("g1").start().await?,
            tier.global("g2").start().await?,
        ];
        let mut proxy = tier.proxy("p").with("interval", json!("1s"));
        for global in &globals {
            proxy = proxy.destination(&global.grpc);
        }
        let proxy = proxy.start().await?;
        let mut fleet = Self {
            agents: Vec::new(),
            readers: Vec::new(),
            brokers,
            login,
            proxy,
            globals,
            tier,
        };
        for name in ["a1", "a2"] {
            let topic = json!({"brokers": [fleet.brokers], "topic": "forward", "compression": "zstd", "sasl": fleet.login});
            let agent = fleet.tier.agent(name).with("forward_kafka", topic);
            fleet
                .agents
                .push(agent.with("forward_timeout", json!("2s")).start().await?);
        }
        for name in ["r1", "r2"] {
            let reader = fleet.reader(name).await?;
            fleet.readers.push(reader);
        }
        Ok(fleet)
    }

    pub async fn reader(&self, name: &str) -> io::Result<Aggregator> {
        let topics = json!({"forward": "metric-list"});
        // Few enough at once that readers are at their bound now and then.
        let config = source(
            &self.brokers,
            "readers",
            topics,
            json!({"max_in_flight": 500, "sasl": self.login}),
        );
        let reader = self.tier.global(name).forward_to(&self.proxy.grpc);
        reader.with("sources", config).start().await
    }

    pub fn load(&self) -> SteadyLoad {
        let sockets: Vec<_> = self
            .agents
            .iter()
            .map(|agent| agent.socket.clone())
            .collect();
        SteadyLoad::start(&sockets, RATE, SERIES)
    }

    /// Waits until the globals have emitted so many counts more.
    pub async fn until_more(&self, counts: f64) -> io::Result<()> {
        let before = self.emitted()?;
        wait_for("more counts", async || {
            (self.emitted().ok()? >= before + counts).then_some(())
        })
        .await
    }

    fn emitted(&self) -> io::Result<f64> {
        let mut sum = 0.0;
        for global in &self.globals {
            sum += global
                .emitted()?
                .iter()
                .map(|point| point.value)
                .sum::<f64>();
        }
        Ok(sum)
    }

    /// The ledgers from the readers on, added up.
    pub async fn account(&self) -> io::Result<Account> {
        let proxies = std::slice::from_ref(&self.proxy);
        audit::add_up(&audit::Options::of(&self.readers, proxies, &self.globals)).await
    }

    /// Ends the load, and waits until all of it has come out and the readers have committed it.
    pub async fn settle(&self, name: &str, load: SteadyLoad) -> io::Result<Verdict> {
        let sent = load.stop().await?;
        let verdict = || -> io::Result<Verdict> {
            let mut emitted = Vec::new();
            for global in &self.globals {
                emitted.extend(global.emitted()?);
            }
            Ok(judge(&sent, &emitted))
        };
        let all = wait_for("everything to come out", async || {
            (verdict().ok()?.missing == 0.0).then_some(())
        });
        let waited = all.await;
        if waited.is_ok() {
            for reader in &self.readers {
                until_metric(reader, "kafka_in_flight", &[], |count| count == 0.0).await?;
            }
            // What comes twice is emitted with the next intervals.
            tokio::time::sleep(Duration::from_secs(3)).await;
        }
        let verdict = verdict()?;
        println!("{name}: {verdict}");
        if !verdict.is_exact() {
            let nodes = self.agents.iter().chain(&self.readers).chain(&self.globals);
            for program in nodes.map(|node| &node.program).chain([&self.proxy.program]) {
                println!("{}", program.log());
            }
        }
        Ok(verdict)
    }
}
