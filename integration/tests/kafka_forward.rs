//! Kafka as the buffer between agents and proxies, with librdkafka's mock cluster: what agents forward waits in a topic, and is counted once.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test ends at the first surprise"
)]
#![allow(clippy::print_stdout, reason = "the accounts are read in the output")]

#[path = "kafka/mod.rs"]
#[allow(dead_code, unreachable_pub, reason = "others use it as well")]
mod kafka;

use std::io;
use std::time::Duration;

use kafka::{Outcome, metric, producer, source, until_metric, write};
use rdkafka::mocking::MockCluster;
use serde_json::{Value, json};
use tributary_integration::faults::{SteadyLoad, Verdict, judge};
use tributary_integration::tier::{Aggregator, Binaries, Proxy, Tier, wait_for};

/// Counts a second over all agents.
const RATE: u64 = 5_000;
const SERIES: usize = 200;

/// Two agents, a topic, two readers, a proxy and two globals.
struct Fleet {
    brokers: String,
    agents: Vec<Aggregator>,
    readers: Vec<Aggregator>,
    proxy: Proxy,
    globals: Vec<Aggregator>,
    tier: Tier,
}

impl Fleet {
    async fn start(brokers: String) -> io::Result<Self> {
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
            proxy,
            globals,
            tier,
        };
        for name in ["a1", "a2"] {
            let topic =
                json!({"brokers": [fleet.brokers], "topic": "forward", "compression": "zstd"});
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

    async fn reader(&self, name: &str) -> io::Result<Aggregator> {
        let topics = json!({"forward": "metric-list"});
        let config = source(&self.brokers, "readers", topics, Value::Null);
        let reader = self.tier.global(name).forward_to(&self.proxy.grpc);
        reader.with("sources", config).start().await
    }

    fn load(&self) -> SteadyLoad {
        let sockets: Vec<_> = self
            .agents
            .iter()
            .map(|agent| agent.socket.clone())
            .collect();
        SteadyLoad::start(&sockets, RATE, SERIES)
    }

    /// Waits until the globals have emitted so many counts more.
    async fn until_more(&self, counts: f64) -> io::Result<()> {
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

    /// Ends the load, and waits until all of it has come out and the readers have committed it.
    async fn settle(&self, name: &str, load: SteadyLoad) -> io::Result<Verdict> {
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

/// Readers are killed in the middle and come back, one more joins them, and for a while there is no proxy: each count comes out once.
#[tokio::test(flavor = "multi_thread")]
async fn whatever_becomes_of_readers_and_proxies_each_count_comes_out_once() -> Outcome {
    let cluster = MockCluster::new(1)?;
    cluster.create_topic("forward", 4, 1)?;
    let mut fleet = Fleet::start(cluster.bootstrap_servers()).await?;
    let load = fleet.load();
    fleet.until_more(10_000.0).await?;

    fleet.readers[0].program.kill().await?;
    fleet.until_more(5_000.0).await?;
    fleet.readers[0].start_again().await?;
    let third = fleet.reader("r3").await?;
    fleet.readers.push(third);
    fleet.until_more(10_000.0).await?;

    fleet.proxy.program.kill().await?;
    tokio::time::sleep(Duration::from_secs(3)).await;
    // With what they have read and not brought to anybody.
    fleet.readers[1].program.kill().await?;
    fleet.proxy.start_again().await?;
    fleet.readers[1].start_again().await?;
    fleet.until_more(10_000.0).await?;

    assert!(fleet.readers[2].stop().await?.success());
    let left = fleet.readers.pop();
    fleet.until_more(5_000.0).await?;
    let verdict = fleet.settle("readers and a proxy killed", load).await?;
    assert!(verdict.is_exact(), "{verdict}");
    drop(left);
    Ok(())
}

/// The brokers are away, at the start and later: what agents forward waits with them, and comes out once.
#[tokio::test(flavor = "multi_thread")]
async fn brokers_that_are_away_for_a_while_cost_nothing() -> Outcome {
    let cluster = MockCluster::new(1)?;
    cluster.create_topic("forward", 2, 1)?;
    cluster.broker_down(1)?;
    let mut fleet = Fleet::start(cluster.bootstrap_servers()).await?;
    let load = fleet.load();
    until_metric(&fleet.agents[0], "forward_backlog_metrics", &[], |count| {
        count > 0.0
    })
    .await?;
    cluster.broker_up(1)?;
    fleet.until_more(10_000.0).await?;
    cluster.broker_down(1)?;
    // Longer than an attempt may take.
    tokio::time::sleep(Duration::from_secs(4)).await;
    cluster.broker_up(1)?;
    fleet.until_more(20_000.0).await?;

    // What is no batch costs nobody else anything.
    let stranger = producer(&fleet.brokers);
    write(&stranger, "forward", "1", b"\x0a\xffnonsense").await;
    let poison = async || {
        let mut sum = 0.0;
        for reader in &fleet.readers {
            sum += metric(reader, "kafka_poison_total", &["topic=\"forward\""]).await;
        }
        sum
    };
    wait_for("the poison", async || (poison().await == 1.0).then_some(())).await?;
    let verdict = fleet.settle("brokers away twice", load).await?;
    assert!(verdict.is_exact(), "{verdict}");
    for agent in &mut fleet.agents {
        assert!(agent.stop().await?.success());
    }
    Ok(())
}
