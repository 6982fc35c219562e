//! What the tests of Kafka share: writing to topics, and reading what an aggregator says of them.

pub mod fleet;

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::time::Duration;

use futures_util::future::try_join_all;
use rdkafka::ClientConfig;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{DefaultProducerContext, FutureProducer, FutureRecord};
use serde_json::{Value, json};
use tokio::net::TcpSocket;
use tributary_integration::tier::{Aggregator, get, wait_for};

pub type Outcome = Result<(), Box<dyn std::error::Error>>;

pub fn producer(brokers: &str) -> FutureProducer {
    ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("message.timeout.ms", "30000")
        .set("partitioner", "murmur2_random")
        .set("enable.idempotence", "true")
        .create()
        .unwrap()
}

/// Writes a message, and waits until it is there.
pub async fn write(producer: &FutureProducer, topic: &str, key: &str, payload: &[u8]) {
    let record = FutureRecord::to(topic).key(key).payload(payload);
    producer
        .send(record, Duration::from_secs(30))
        .await
        .unwrap();
}

/// Writes one line of carbon's for each number, a message each: `PREFIX.i` with the value `i`, now.
pub async fn write_lines(producer: &FutureProducer, topic: &str, prefix: &str, which: Range<u32>) {
    let now = now();
    let sent = which.map(|i| async move {
        let (key, line) = (i.to_string(), format!("{prefix}.{i} {i} {now}"));
        let record = FutureRecord::to(topic).key(&key).payload(&line);
        producer.send(record, Duration::from_secs(30)).await
    });
    try_join_all(sent).await.unwrap();
}

pub fn now() -> u64 {
    let now = std::time::SystemTime::now();
    now.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs()
}

/// The one broker of a mock cluster, while it is away.
///
/// Its port is kept for it. Clients that go on connecting to it could else get it as their own port, and the cluster ends the process when a broker cannot
/// have its port again.
pub struct Away<'a> {
    cluster: &'a MockCluster<'static, DefaultProducerContext>,
    _port: TcpSocket,
}

impl<'a> Away<'a> {
    pub fn of(cluster: &'a MockCluster<'static, DefaultProducerContext>) -> Self {
        cluster.broker_down(1).unwrap();
        let port = TcpSocket::new_v4().unwrap();
        // Bound by both, as long as only one listens.
        port.set_reuseaddr(true).unwrap();
        port.bind(cluster.bootstrap_servers().parse().unwrap())
            .unwrap();
        Self {
            cluster,
            _port: port,
        }
    }

    pub fn comes_back(self) {
        self.cluster.broker_up(1).unwrap();
    }
}

/// A source that reads topics, with short times.
pub fn source(brokers: &str, group: &str, topics: Value, more: Value) -> Value {
    let mut config = json!({
        "brokers": brokers.split(',').collect::<Vec<_>>(), "group": group, "topics": topics,
        "commit_interval": "200ms", "session_timeout": "6s",
        "properties": {"topic.metadata.refresh.interval.ms": 500, "heartbeat.interval.ms": 500},
    });
    for (key, value) in more.as_object().into_iter().flatten() {
        config[key] = value.clone();
    }
    json!([{"kind": "kafka", "name": "k", "config": config}])
}

/// How many times each point with that prefix came, by its number.
pub fn arrived(aggregators: &[&Aggregator], prefix: &str) -> BTreeMap<u32, usize> {
    let mut times = BTreeMap::new();
    for aggregator in aggregators {
        for point in aggregator.emitted().unwrap() {
            let Some(number) = point.name.strip_prefix(prefix) else {
                continue;
            };
            let number: u32 = number.trim_start_matches('.').parse().unwrap();
            assert_eq!(point.value, f64::from(number));
            *times.entry(number).or_default() += 1;
        }
    }
    times
}

/// Waits until each of the first so many numbers came.
pub async fn until_all(aggregators: &[&Aggregator], prefix: &str, count: u32) -> io::Result<()> {
    let what = format!("{count} points of {prefix}");
    let waited = wait_for(&what, async || {
        let here = arrived(aggregators, prefix);
        (0..count).all(|i| here.contains_key(&i)).then_some(())
    });
    waited.await.map_err(|error| {
        let here = arrived(aggregators, prefix);
        let missing: Vec<_> = (0..count).filter(|i| !here.contains_key(i)).collect();
        let logs = aggregators.iter().map(|one| one.program.log());
        let logs: String = logs.collect::<Vec<_>>().join("\n----\n");
        io::Error::other(format!(
            "{error}; {} missing, as {:?}\n{logs}",
            missing.len(),
            missing.first()
        ))
    })
}

/// The sum of a self-metric over what has all these labels.
pub async fn metric(aggregator: &Aggregator, name: &str, labels: &[&str]) -> f64 {
    let Ok(answer) = get(&aggregator.http, "/metrics").await else {
        return f64::NAN;
    };
    let text = answer.text();
    let lines = text.lines().filter(|line| {
        let name_of = line.split(['{', ' ']).next().unwrap_or_default();
        name_of == format!("veneur_{name}") && labels.iter().all(|label| line.contains(label))
    });
    let values = lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
    values.sum()
}

/// Waits until a self-metric is so.
pub async fn until_metric(
    aggregator: &Aggregator,
    name: &str,
    labels: &[&str],
    is: impl Fn(f64) -> bool,
) -> io::Result<f64> {
    let what = format!("{name} {labels:?}");
    let waited = wait_for(&what, async || {
        let value = metric(aggregator, name, labels).await;
        is(value).then_some(value)
    });
    waited
        .await
        .map_err(|error| io::Error::other(format!("{error}\n{}", aggregator.program.log())))
}
