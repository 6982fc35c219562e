//! The source and the sink `kafka` of the real program with librdkafka's mock cluster, which speaks Kafka's protocol over TCP.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test ends at the first surprise"
)]

#[path = "../../aggregator/tests/blueflood/mock.rs"]
#[allow(
    dead_code,
    unreachable_pub,
    missing_docs,
    reason = "others use it as well"
)]
mod blueflood;
#[path = "kafka/mod.rs"]
#[allow(dead_code, unreachable_pub, reason = "others use it as well")]
mod kafka;

use std::cell::Cell;
use std::time::Duration;

use blueflood::{Blueflood, Fault, start};
use kafka::{
    Away, Outcome, arrived, metric, producer, source, until_all, until_metric, write, write_lines,
};
use rdkafka::ClientConfig;
use rdkafka::consumer::{Consumer as _, StreamConsumer};
use rdkafka::message::{Headers as _, Message as _, OwnedMessage};
use rdkafka::mocking::MockCluster;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
use serde_json::{Value, json};
use tributary_integration::tier::{Binaries, PATIENCE, Tier, get, wait_for};

fn tier() -> Tier {
    Tier::new(Binaries::of(env!("CARGO_BIN_EXE_tributary"))).unwrap()
}

#[tokio::test]
async fn topics_are_read_by_name_and_expression_and_nothing_again_after_an_orderly_restart()
-> Outcome {
    let cluster = MockCluster::new(1)?;
    let brokers = cluster.bootstrap_servers();
    cluster.create_topic("lines", 4, 1)?;
    cluster.create_topic("log-one", 2, 1)?;
    let producer = producer(&brokers);
    write_lines(&producer, "lines", "a", 0..300).await;
    write_lines(&producer, "log-one", "b", 0..100).await;
    // Poison among the good, one of it a line of a message.
    write(&producer, "lines", "1", b"\xff nonsense").await;
    write(
        &producer,
        "lines",
        "2",
        b"a.300 300 1700000000\nbad\na.301 301 1700000000\n",
    )
    .await;
    write(&producer, "lines", "3", b"").await;
    let tier = tier();
    let dead = tier.directory().join("dead.jsonl");
    let topics = json!({"lines": "carbon", "^log-.*": "carbon"});
    let config = source(
        &brokers,
        "g",
        topics,
        json!({"dead_letter": {"file": dead}}),
    );
    let mut reader = tier.global("r").with("sources", config).start().await?;
    until_all(&[&reader], "a", 302).await?;
    until_all(&[&reader], "b", 100).await?;
    until_metric(
        &reader,
        "kafka_messages_total",
        &["topic=\"lines\""],
        |count| count == 303.0,
    )
    .await?;
    assert_eq!(
        metric(&reader, "kafka_messages_total", &["topic=\"^log-.*\""]).await,
        100.0
    );
    assert_eq!(
        metric(
            &reader,
            "kafka_poison_total",
            &["topic=\"lines\"", "cause=\"fields\""]
        )
        .await,
        2.0
    );
    let letters = wait_for("the dead letters", async || {
        let text = std::fs::read_to_string(&dead).ok()?;
        let lines: Vec<Value> = text
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        (lines.len() == 2).then_some(lines)
    })
    .await?;
    assert!(letters.iter().any(|letter| letter["payload"] == "bad"));
    assert!(
        letters
            .iter()
            .any(|letter| letter["payload_base64"] == "/yBub25zZW5zZQ==")
    );
    assert!(
        letters
            .iter()
            .all(|letter| letter["topic"] == "lines" && letter["cause"] == "fields")
    );
    assert!(
        letters
            .iter()
            .all(|letter| letter["offset"].is_i64() && letter["partition"].is_i64())
    );
    // A topic that comes later is found.
    cluster.create_topic("log-two", 1, 1)?;
    write_lines(&producer, "log-two", "c", 0..10).await;
    until_all(&[&reader], "c", 10).await?;

    assert!(reader.stop().await?.success());
    write_lines(&producer, "lines", "a", 302..400).await;
    reader.start_again().await?;
    until_all(&[&reader], "a", 400).await?;
    for (prefix, count) in [("a", 400), ("b", 100), ("c", 10)] {
        let here = arrived(&[&reader], prefix);
        assert!(
            here.len() == count && here.values().all(|times| *times == 1),
            "{prefix}: {here:?}"
        );
    }
    assert!(reader.stop().await?.success());
    Ok(())
}

/// What cannot be read goes to a topic, with where it was and why, before it counts as read; while that topic takes nothing, nothing is forgotten.
#[tokio::test]
async fn bad_messages_go_to_a_topic_of_their_own() -> Outcome {
    let cluster = MockCluster::new(1)?;
    let brokers = cluster.bootstrap_servers();
    cluster.create_topic("lines", 1, 1)?;
    cluster.create_topic("dead", 1, 1)?;
    let producer = producer(&brokers);
    write(&producer, "lines", "k", b"a.0 0 1700000000\nbad\n").await;
    write(&producer, "lines", "k", b"\xff nonsense").await;
    cluster.request_errors(
        RDKafkaApiKey::Produce,
        &[RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED; 3],
    );
    let more = json!({"dead_letter": {"topic": "dead"}});
    let config = source(&brokers, "g", json!({"lines": "carbon"}), more);
    let tier = tier();
    let mut reader = tier.global("r").with("sources", config).start().await?;
    until_all(&[&reader], "a", 1).await?;
    until_metric(&reader, "kafka_in_flight", &[], |count| count == 0.0).await?;
    assert!(metric(&reader, "kafka_dead_letters_total", &["failed"]).await > 0.0);

    let letters = first_messages(&brokers, "dead", 2).await;
    let header = |letter: &OwnedMessage, name: &str| {
        let headers = letter.headers().unwrap();
        let found = headers.iter().find(|header| header.key == name);
        String::from_utf8(found.and_then(|header| header.value).unwrap().to_vec()).unwrap()
    };
    for (letter, offset, payload) in [
        (&letters[0], "0", &b"bad"[..]),
        (&letters[1], "1", b"\xff nonsense"),
    ] {
        assert_eq!(letter.payload(), Some(payload));
        assert_eq!(letter.key(), Some(&b"k"[..]));
        assert_eq!(header(letter, "tributary-topic"), "lines");
        assert_eq!(header(letter, "tributary-partition"), "0");
        assert_eq!(header(letter, "tributary-offset"), offset);
        assert_eq!(header(letter, "tributary-cause"), "fields");
        assert!(!header(letter, "tributary-detail").is_empty());
    }
    assert!(reader.stop().await?.success());
    Ok(())
}

/// The first so many messages of a topic, which must be there soon.
async fn first_messages(brokers: &str, topic: &str, count: usize) -> Vec<OwnedMessage> {
    let consumer: StreamConsumer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("group.id", "letters")
        .set("auto.offset.reset", "earliest")
        .create()
        .unwrap();
    consumer.subscribe(&[topic]).unwrap();
    let mut messages = Vec::new();
    while messages.len() < count {
        let message = tokio::time::timeout(PATIENCE, consumer.recv()).await;
        messages.push(message.unwrap().unwrap().detach());
    }
    messages
}

#[tokio::test]
async fn newest_begins_with_what_comes_from_now_on() -> Outcome {
    let cluster = MockCluster::new(1)?;
    let brokers = cluster.bootstrap_servers();
    cluster.create_topic("lines", 1, 1)?;
    let producer = producer(&brokers);
    write_lines(&producer, "lines", "old", 0..50).await;
    let config = source(
        &brokers,
        "g",
        json!({"lines": "carbon"}),
        json!({"start": "newest"}),
    );
    let tier = tier();
    let reader = tier.global("r").with("sources", config).start().await?;
    until_metric(&reader, "kafka_partitions", &["assigned"], |count| {
        count == 1.0
    })
    .await?;
    // Where the end is, it asks for a moment later: one of these is the first that it gets.
    let mut written = 0;
    wait_for("a new message", async || {
        write_lines(&producer, "lines", "new", written..written + 1).await;
        written += 1;
        (!arrived(&[&reader], "new").is_empty()).then_some(())
    })
    .await
    .map_err(|error| format!("{error}\n{}", reader.program.log()))?;
    assert!(arrived(&[&reader], "old").is_empty());
    Ok(())
}

/// A sink that is away: nothing is read beyond the bound, nobody is thrown out of the group, and nothing is lost.
#[tokio::test]
async fn a_sink_that_is_away_pauses_the_partitions_for_as_long_as_it_takes() -> Outcome {
    const COUNT: u32 = 500;
    let cluster = MockCluster::new(1)?;
    let brokers = cluster.bootstrap_servers();
    cluster.create_topic("lines", 4, 1)?;
    let producer = producer(&brokers);
    let server = start::<Blueflood>().await;
    server
        .state()
        .faults
        .extend((0..10_000).map(|_| Fault::status(503)));
    let tier = tier();
    let sinks = json!([{"kind": "blueflood", "config": {"url": server.url(), "tenant": "1", "interval": "0s", "backoff": "100ms", "max_backoff": "200ms"}}]);
    let more = json!({"max_in_flight": 100, "properties": {"max.poll.interval.ms": 6000, "heartbeat.interval.ms": 500}});
    let config = source(&brokers, "g", json!({"lines": "carbon"}), more);
    let mut reader = tier
        .global("r")
        .with("sources", config)
        .with("metric_sinks", sinks)
        .start()
        .await?;
    write_lines(&producer, "lines", "n", 0..COUNT).await;
    until_metric(&reader, "kafka_partitions", &["paused"], |count| {
        count == 4.0
    })
    .await?;
    // Longer than the session, and than a member may go without polling.
    tokio::time::sleep(Duration::from_secs(8)).await;
    let read = metric(&reader, "kafka_messages_total", &[]).await;
    assert!((100.0..250.0).contains(&read), "{read}");
    assert_eq!(metric(&reader, "kafka_rebalances_total", &[]).await, 1.0);
    assert_eq!(metric(&reader, "kafka_commits_total", &[]).await, 0.0);
    assert!(server.state().stored.is_empty());
    assert!(get(&reader.http, "/ready").await?.status.is_success());

    server.state().faults.clear();
    wait_for("all points", async || {
        (server.state().stored.len() == COUNT as usize).then_some(())
    })
    .await?;
    assert_eq!(server.state().counts(), (COUNT as usize, 0), "each once");
    for i in 0..COUNT {
        assert_eq!(server.state().values[&format!("n.{i}")], f64::from(i));
    }
    until_metric(&reader, "kafka_partitions", &["paused"], |count| {
        count == 0.0
    })
    .await?;
    until_metric(&reader, "kafka_in_flight", &[], |count| count == 0.0).await?;
    assert_eq!(metric(&reader, "kafka_rebalances_total", &[]).await, 1.0);
    assert!(reader.stop().await?.success());
    Ok(())
}

/// A sink's queue that is smaller than what may be in flight loses points; they are read again until all are written.
#[tokio::test]
async fn what_a_sinks_queue_has_no_room_for_is_read_again() -> Outcome {
    const COUNT: u32 = 400;
    let cluster = MockCluster::new(1)?;
    let brokers = cluster.bootstrap_servers();
    cluster.create_topic("lines", 1, 1)?;
    let producer = producer(&brokers);
    let server = start::<Blueflood>().await;
    server
        .state()
        .faults
        .extend((0..10_000).map(|_| Fault::status(503)));
    let sinks = json!([{"kind": "blueflood", "queue_points": 20,
        "config": {"url": server.url(), "tenant": "1", "interval": "0s", "backoff": "50ms", "max_backoff": "100ms"}}]);
    let config = source(&brokers, "g", json!({"lines": "carbon"}), json!({}));
    let tier = tier();
    let mut reader = tier
        .global("r")
        .with("sources", config)
        .with("metric_sinks", sinks)
        .start()
        .await?;
    until_metric(&reader, "kafka_partitions", &["assigned"], |count| {
        count == 1.0
    })
    .await?;
    // The newest batch is always kept: it takes several to lose one.
    for from in (0..COUNT).step_by(50) {
        write_lines(&producer, "lines", "n", from..from + 50).await;
        let read = f64::from(from + 50);
        let enough = |count| count >= read;
        until_metric(&reader, "kafka_messages_total", &[], enough).await?;
    }
    until_metric(&reader, "kafka_messages_read_again_total", &[], |count| {
        count > 0.0
    })
    .await?;
    server.state().faults.clear();
    wait_for("all points", async || {
        (server.state().stored.len() == COUNT as usize).then_some(())
    })
    .await
    .map_err(|error| {
        format!(
            "{error}: {}\n{}",
            server.state().stored.len(),
            reader.program.log()
        )
    })?;
    assert!(reader.stop().await?.success());
    Ok(())
}

#[tokio::test]
async fn a_member_that_is_killed_takes_no_message_with_it() -> Outcome {
    const COUNT: u32 = 3000;
    let cluster = MockCluster::new(1)?;
    let brokers = cluster.bootstrap_servers();
    cluster.create_topic("lines", 4, 1)?;
    let producer = producer(&brokers);
    let tier = tier();
    let config = || source(&brokers, "g", json!({"lines": "carbon"}), json!({}));
    let mut one = tier.global("one").with("sources", config()).start().await?;
    let mut two = tier.global("two").with("sources", config()).start().await?;
    write_lines(&producer, "lines", "n", 0..100).await;
    until_all(&[&one, &two], "n", 100).await?;
    // They share the partitions, and then one dies with the load on.
    for member in [&one, &two] {
        until_metric(member, "kafka_partitions", &["assigned"], |count| {
            count == 2.0
        })
        .await?;
    }
    let writing = async {
        for from in (100..COUNT).step_by(100) {
            write_lines(&producer, "lines", "n", from..from + 100).await;
        }
    };
    let killing = async {
        until_metric(&two, "kafka_messages_total", &[], |count| count > 300.0).await?;
        two.program.kill().await
    };
    let ((), killed) = tokio::join!(writing, killing);
    killed?;
    until_all(&[&one, &two], "n", COUNT).await?;
    let twice = arrived(&[&one, &two], "n")
        .values()
        .filter(|times| **times > 1)
        .count();
    println!("{twice} of {COUNT} came twice");
    assert!(one.stop().await?.success());
    Ok(())
}

#[tokio::test]
async fn members_come_and_go_under_load_and_each_message_is_stored_once() -> Outcome {
    let cluster = MockCluster::new(1)?;
    let brokers = cluster.bootstrap_servers();
    cluster.create_topic("lines", 6, 1)?;
    let producer = producer(&brokers);
    let tier = tier();
    let config = || source(&brokers, "g", json!({"lines": "carbon"}), json!({}));
    let mut one = tier.global("one").with("sources", config()).start().await?;
    until_metric(&one, "kafka_partitions", &["assigned"], |count| {
        count == 6.0
    })
    .await?;
    // However long the group takes to let somebody in.
    let is_over = Cell::new(false);
    let writing = async {
        let mut count = 0;
        while !is_over.get() {
            write_lines(&producer, "lines", "n", count..count + 50).await;
            count += 50;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        count
    };
    let coming_and_going = async {
        let mut two = tier.global("two").with("sources", config()).start().await?;
        until_metric(&two, "kafka_messages_total", &[], |count| count > 100.0).await?;
        assert!(two.stop().await?.success());
        std::io::Result::Ok(two)
    };
    let coming_and_going = async {
        let two = coming_and_going.await;
        is_over.set(true);
        two
    };
    let (count, two) = tokio::join!(writing, coming_and_going);
    let two = two?;
    until_all(&[&one, &two], "n", count).await?;
    let here = arrived(&[&one, &two], "n");
    let twice = here.values().filter(|times| **times > 1).count();
    assert_eq!(twice, 0, "{}\n{}", one.program.log(), two.program.log());
    assert!(one.stop().await?.success());
    Ok(())
}

#[tokio::test]
async fn what_one_aggregator_writes_another_reads_back_exactly() -> Outcome {
    let cluster = MockCluster::new(1)?;
    let brokers = cluster.bootstrap_servers();
    cluster.create_topic("points", 3, 1)?;
    // The first attempts fail in ways that pass.
    let errors = [
        RDKafkaRespErr::RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION,
        RDKafkaRespErr::RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT,
    ];
    cluster.request_errors(RDKafkaApiKey::Produce, &errors);
    cluster.request_errors(
        RDKafkaApiKey::OffsetCommit,
        &[RDKafkaRespErr::RD_KAFKA_RESP_ERR_COORDINATOR_NOT_AVAILABLE],
    );
    let tier = tier();
    let sinks = json!([
        {"kind": "localfile", "name": "file", "config": {"path": tier.directory().join("writer.jsonl")}},
        {"kind": "kafka", "name": "out", "config": {"brokers": [brokers], "topic": "points"}},
    ]);
    let mut writer = tier
        .agent("writer")
        .with("metric_sinks", sinks)
        .start()
        .await?;
    let config = source(
        &brokers,
        "g",
        json!({"points": "tributary-json"}),
        json!({}),
    );
    let mut reader = tier
        .global("reader")
        .with("sources", config)
        .start()
        .await?;
    for i in 0..40 {
        writer.send(&format!(
            "hits:{i}|c|#env:prod,n:{}\nload:{}|g|#a,z\ntook:{}.{i}|ms|#n:{}\nusers:u{i}|s\n_sc|up|1|#x|m:so so",
            i % 7, f64::from(i) / 3.0, i * 3, i % 5
        ))?;
        tokio::time::sleep(Duration::from_millis(60)).await;
    }
    assert!(writer.stop().await?.success());
    let sent = writer.emitted()?;
    assert!(sent.len() > 100, "{}", sent.len());
    let comparable = |points: Vec<tributary_integration::tier::Emitted>| {
        let mut lines: Vec<_> = points
            .into_iter()
            .map(|p| {
                (
                    p.name,
                    p.tags,
                    p.kind,
                    p.timestamp,
                    p.value.to_bits(),
                    p.message,
                )
            })
            .collect();
        lines.sort();
        lines
    };
    wait_for("all points", async || {
        (reader.emitted().ok()?.len() >= sent.len()).then_some(())
    })
    .await
    .map_err(|error| {
        format!(
            "{error}\n{}\n{}",
            writer.program.log(),
            reader.program.log()
        )
    })?;
    assert!(reader.stop().await?.success());
    assert_eq!(comparable(reader.emitted()?), comparable(sent));
    Ok(())
}

#[tokio::test]
async fn while_no_broker_answers_the_aggregator_serves_and_goes_on_trying() -> Outcome {
    let cluster = MockCluster::new(1)?;
    let brokers = cluster.bootstrap_servers();
    cluster.create_topic("lines", 1, 1)?;
    let producer = producer(&brokers);
    write_lines(&producer, "lines", "n", 0..20).await;
    let away = Away::of(&cluster);
    let config = source(&brokers, "g", json!({"lines": "carbon"}), json!({}));
    let tier = tier();
    let mut reader = tier.agent("r").with("sources", config).start().await?;
    until_metric(
        &reader,
        "kafka_errors_total",
        &["all_brokers_down"],
        |count| count > 0.0,
    )
    .await?;
    assert_eq!(metric(&reader, "kafka_brokers_up", &[]).await, 0.0);
    reader.send("alive:1|c")?;
    reader
        .wait_for_point("a sample", |point| point.name == "alive")
        .await?;
    away.comes_back();
    until_all(&[&reader], "n", 20).await?;
    until_metric(&reader, "kafka_brokers_up", &[], |count| count == 1.0).await?;
    until_metric(&reader, "kafka_lag", &[], |lag| lag == 0.0).await?;
    assert!(reader.stop().await?.success());
    Ok(())
}

#[tokio::test]
async fn the_manuals_examples_are_accepted() -> Outcome {
    let manual = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/kafka.md"))?;
    let examples: Vec<_> = manual
        .split("```yaml\n")
        .skip(1)
        .filter_map(|rest| rest.split("```").next())
        .collect();
    assert_eq!(examples.len(), 5);
    let directory = tempfile::TempDir::new()?;
    for (number, example) in examples.iter().enumerate() {
        let file = directory.path().join(format!("{number}.yaml"));
        std::fs::write(&file, example)?;
        let mut check = std::process::Command::new(env!("CARGO_BIN_EXE_tributary"));
        let done = check
            .args(["aggregator", "--check", "-f"])
            .arg(&file)
            .output()?;
        let said = String::from_utf8_lossy(&done.stderr);
        assert!(done.status.success(), "{example}\n{said}");
    }
    Ok(())
}
