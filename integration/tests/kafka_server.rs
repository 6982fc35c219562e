//! The source and the sink `kafka` of the real program with Apache Kafka itself, which `integration/test` brings.

#![cfg(feature = "servers")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test ends at the first surprise"
)]

#[path = "kafka/mod.rs"]
#[allow(dead_code, unreachable_pub, reason = "others use it as well")]
mod kafka;
#[path = "kafka/server.rs"]
#[allow(dead_code, unreachable_pub, reason = "others use it as well")]
mod server;

use std::collections::BTreeSet;
use std::time::Duration;

use kafka::fleet::Fleet;
use kafka::{Outcome, arrived, metric, producer, source, until_all, until_metric, write_lines};
use serde_json::{Value, json};
use server::{Kafka, PASSWORD, USER};
use tributary_integration::tier::{Aggregator, Binaries, Tier, get, wait_for};

fn tier() -> Tier {
    Tier::new(Binaries::of(env!("CARGO_BIN_EXE_tributary"))).unwrap()
}

fn login() -> Value {
    json!({"user": USER, "password": PASSWORD})
}

/// The parts of what was emitted that go through Kafka.
fn points(of: &Aggregator) -> Vec<(String, Vec<String>, String, i64, u64)> {
    let emitted = of.emitted().unwrap().into_iter();
    emitted
        .map(|point| {
            (
                point.name,
                point.tags,
                point.kind,
                point.timestamp,
                point.value.to_bits(),
            )
        })
        .collect()
}

/// The whole way, from before there is a broker: it comes, goes and comes back with what it had, while one aggregator writes and another reads.
#[tokio::test]
async fn a_broker_that_comes_late_and_goes_for_a_while_costs_nothing() -> Outcome {
    let mut server = Kafka::prepare("SASL_PLAINTEXT", "").await?;
    let tier = tier();
    let topics = json!({"lines": "carbon", "points": "tributary-json"});
    let more = json!({"sasl": login()});
    let config = source(&server.clients, "g", topics, more);
    let mut reader = tier
        .global("reader")
        .with("sources", config)
        .start()
        .await?;
    let sinks = json!([
        {"kind": "localfile", "name": "file", "config": {"path": tier.directory().join("writer.jsonl")}},
        {"kind": "kafka", "name": "out", "config": {"brokers": [server.clients], "topic": "points", "sasl": login(),
            "compression": "zstd", "timeout": "5s"}},
    ]);
    let mut writer = tier
        .agent("writer")
        .with("metric_sinks", sinks)
        .start()
        .await?;
    // One whose password is wrong: it serves, and says so.
    let wrong = json!({"sasl": {"user": USER, "password": "0pen"}});
    let wrong = source(&server.clients, "h", json!({"lines": "carbon"}), wrong);
    let stranger = tier
        .global("stranger")
        .with("sources", wrong)
        .start()
        .await?;
    writer.send("hits:1|c|#at:once")?;
    until_metric(
        &reader,
        "kafka_errors_total",
        &["all_brokers_down"],
        |count| count > 0.0,
    )
    .await?;

    server.start().await?;
    let lines = producer(&server.open);
    write_lines(&lines, "lines", "n", 0..1000).await;
    until_all(&[&reader], "n", 1000).await?;
    wait_for("the first point", async || {
        points(&reader)
            .iter()
            .any(|point| point.0 == "hits")
            .then_some(())
    })
    .await?;
    until_metric(&stranger, "kafka_errors_total", &["not_allowed"], |count| {
        count > 0.0
    })
    .await?;
    assert!(get(&stranger.http, "/ready").await?.status.is_success());
    assert!(!stranger.program.log().contains("0pen"));
    let shown = get(&reader.http, "/config").await?.text();
    assert!(shown.contains(USER) && !shown.contains(PASSWORD), "{shown}");

    // Gone for longer than a member may be silent, while points go on.
    server.stop().await?;
    let sending = async {
        for i in 0..70 {
            writer.send(&format!(
                "hits:1|c\nload:{}|g|#n:{}\ntook:{i}|ms",
                f64::from(i) / 7.0,
                i % 9
            ))?;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        std::io::Result::Ok(())
    };
    sending.await?;
    server.start().await?;
    write_lines(&lines, "lines", "n", 1000..2000).await;
    until_all(&[&reader], "n", 2000).await?;
    assert!(writer.stop().await?.success());
    let sent: BTreeSet<_> = points(&writer).into_iter().collect();
    assert!(sent.len() > 20, "{}", sent.len());
    wait_for("all points", async || {
        let here: BTreeSet<_> = points(&reader).into_iter().collect();
        sent.is_subset(&here).then_some(())
    })
    .await
    .map_err(|error| {
        format!(
            "{error}\n{}\n{}",
            writer.program.log(),
            reader.program.log()
        )
    })?;

    // After an orderly stop nothing is read again.
    until_metric(&reader, "kafka_in_flight", &[], |count| count == 0.0).await?;
    assert!(reader.stop().await?.success());
    let before = points(&reader).len();
    reader.start_again().await?;
    write_lines(&lines, "lines", "n", 2000..2100).await;
    until_all(&[&reader], "n", 2100).await?;
    assert_eq!(points(&reader).len(), before + 100);
    let twice = arrived(&[&reader], "n")
        .values()
        .filter(|times| **times > 1)
        .count();
    println!(
        "{twice} lines of 2100 and {} points of {} came twice",
        before - 2000 - sent.len(),
        sent.len()
    );
    assert!(reader.stop().await?.success());
    Ok(())
}

#[tokio::test]
async fn a_killed_member_loses_nothing_and_its_partitions_go_to_the_other() -> Outcome {
    const COUNT: u32 = 6000;
    let mut server = Kafka::prepare("PLAINTEXT", "").await?;
    server.start().await?;
    let lines = producer(&server.open);
    let tier = tier();
    let config = || source(&server.clients, "g", json!({"lines": "carbon"}), json!({}));
    let mut one = tier.global("one").with("sources", config()).start().await?;
    let mut two = tier.global("two").with("sources", config()).start().await?;
    write_lines(&lines, "lines", "n", 0..100).await;
    for member in [&one, &two] {
        until_metric(member, "kafka_partitions", &["assigned"], |count| {
            count == 2.0
        })
        .await?;
    }
    let writing = async {
        for from in (100..COUNT).step_by(100) {
            write_lines(&lines, "lines", "n", from..from + 100).await;
        }
    };
    let killing = async {
        until_metric(&two, "kafka_messages_total", &[], |count| count > 500.0).await?;
        two.program.kill().await
    };
    let ((), killed) = tokio::join!(writing, killing);
    killed?;
    until_all(&[&one, &two], "n", COUNT).await?;
    until_metric(&one, "kafka_partitions", &["assigned"], |count| {
        count == 4.0
    })
    .await?;
    until_metric(&one, "kafka_lag", &[], |lag| lag == 0.0).await?;
    // Its successor takes part again.
    two.start_again().await?;
    until_metric(&two, "kafka_partitions", &["assigned"], |count| {
        count == 2.0
    })
    .await?;
    assert_eq!(metric(&one, "kafka_rebalances_total", &["lost"]).await, 0.0);
    let twice = arrived(&[&one, &two], "n")
        .values()
        .filter(|times| **times > 1)
        .count();
    println!("{twice} of {COUNT} came twice");
    assert!(one.stop().await?.success() && two.stop().await?.success());
    Ok(())
}

/// Kafka between agents and proxies: it comes late, is away in the middle, and a reader is killed. Each count comes out once.
#[tokio::test(flavor = "multi_thread")]
async fn what_agents_forward_waits_in_a_topic_and_comes_out_once() -> Outcome {
    let mut server = Kafka::prepare("SASL_PLAINTEXT", "").await?;
    let mut fleet = Fleet::start(server.clients.clone(), login()).await?;
    let load = fleet.load();
    until_metric(&fleet.agents[0], "forward_backlog_metrics", &[], |count| {
        count > 0.0
    })
    .await?;
    server.start().await?;
    fleet.until_more(10_000.0).await?;
    server.stop().await?;
    server.start().await?;
    fleet.until_more(10_000.0).await?;
    fleet.readers[0].program.kill().await?;
    fleet.until_more(10_000.0).await?;
    fleet.readers[0].start_again().await?;
    let verdict = fleet.settle("Kafka away, a reader killed", load).await?;
    assert!(verdict.is_exact(), "{verdict}");
    Ok(())
}

#[cfg(feature = "kafka-tls")]
#[tokio::test]
async fn brokers_with_tls_and_logins_are_read_and_written() -> Outcome {
    use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
    let mut ca = CertificateParams::default();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    // With the name of what it signs, OpenSSL would take that to be signed by itself.
    ca.distinguished_name
        .push(DnType::CommonName, "a CA for brokers");
    let ca_key = KeyPair::generate()?;
    let ca_cert = ca.self_signed(&ca_key)?;
    let issuer = Issuer::new(ca, ca_key);
    let key = KeyPair::generate()?;
    let cert = CertificateParams::new(vec!["127.0.0.1".to_owned()])?.signed_by(&key, &issuer)?;
    let directory = tempfile::TempDir::new()?;
    let (ca_file, store) = (
        directory.path().join("ca.pem"),
        directory.path().join("server.pem"),
    );
    std::fs::write(&ca_file, ca_cert.pem())?;
    std::fs::write(&store, format!("{}{}", key.serialize_pem(), cert.pem()))?;
    let more = format!(
        "ssl.keystore.type=PEM\nssl.keystore.location={}\n",
        store.display()
    );
    let mut server = Kafka::prepare("SASL_SSL", &more).await?;
    server.start().await?;
    let lines = producer(&server.open);
    write_lines(&lines, "lines", "n", 0..100).await;
    let tier = tier();
    let tls = json!({"ca_file": ca_file});
    for mechanism in ["PLAIN", "SCRAM-SHA-512"] {
        let sasl = json!({"mechanism": mechanism, "user": USER, "password": PASSWORD});
        let more = json!({"tls": tls, "sasl": sasl});
        let config = source(&server.clients, mechanism, json!({"lines": "carbon"}), more);
        let mut reader = tier
            .global(mechanism)
            .with("sources", config)
            .start()
            .await?;
        until_all(&[&reader], "n", 100).await?;
        assert!(reader.stop().await?.success());
    }
    let sasl = json!({"mechanism": "SCRAM-SHA-512", "user": USER, "password": PASSWORD});
    let sinks = json!([{"kind": "kafka", "config": {"brokers": [server.clients], "topic": "points", "tls": tls, "sasl": sasl}}]);
    let mut writer = tier
        .agent("writer")
        .with("metric_sinks", sinks)
        .start()
        .await?;
    writer.send("hits:1|c")?;
    until_metric(
        &writer,
        "sink_kafka_messages_total",
        &["delivered"],
        |count| count == 1.0,
    )
    .await?;
    // A broker that nobody we trust has signed for is not spoken to.
    let more = json!({"tls": {"enabled": true}, "sasl": login()});
    let config = source(&server.clients, "x", json!({"lines": "carbon"}), more);
    let stranger = tier
        .global("stranger")
        .with("sources", config)
        .start()
        .await?;
    until_metric(
        &stranger,
        "kafka_errors_total",
        &["cause=\"tls\""],
        |count| count > 0.0,
    )
    .await?;
    assert!(writer.stop().await?.success());
    Ok(())
}
