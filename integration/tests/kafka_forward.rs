//! Kafka as the buffer between agents and proxies, with librdkafka's mock cluster: what agents forward waits in a topic, and is counted once.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test ends at the first surprise"
)]

#[path = "kafka/mod.rs"]
#[allow(dead_code, unreachable_pub, reason = "others use it as well")]
mod kafka;

use std::time::Duration;

use kafka::fleet::Fleet;
use kafka::{Away, Outcome, metric, producer, until_metric, write};
use rdkafka::mocking::MockCluster;
use serde_json::Value;
use tributary_integration::tier::wait_for;

/// Readers are killed in the middle and come back, one more joins them, and for a while there is no proxy: each count comes out once.
#[tokio::test(flavor = "multi_thread")]
async fn whatever_becomes_of_readers_and_proxies_each_count_comes_out_once() -> Outcome {
    let cluster = MockCluster::new(1)?;
    cluster.create_topic("forward", 4, 1)?;
    let mut fleet = Fleet::start(cluster.bootstrap_servers(), Value::Null).await?;
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
    let away = Away::of(&cluster);
    let mut fleet = Fleet::start(cluster.bootstrap_servers(), Value::Null).await?;
    let load = fleet.load();
    until_metric(&fleet.agents[0], "forward_backlog_metrics", &[], |count| {
        count > 0.0
    })
    .await?;
    away.comes_back();
    fleet.until_more(10_000.0).await?;
    let away = Away::of(&cluster);
    // Longer than an attempt may take.
    tokio::time::sleep(Duration::from_secs(4)).await;
    away.comes_back();
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
    let account = fleet.account().await?;
    // What a broker has taken although nobody heard of it is in the topic twice: it is handed over twice, and merged once.
    assert!(account.residue() >= 0, "{account:?}");
    let given_up = account.lost_at_agents + account.refused_at_globals;
    assert_eq!((account.waiting, given_up), (0, 0), "{account:?}");
    for agent in &mut fleet.agents {
        assert!(agent.stop().await?.success());
    }
    Ok(())
}
