//! A topic of Kafka as the place to forward to, with librdkafka's mock cluster.

use std::time::{Duration, UNIX_EPOCH};

use prost::Message as _;
use rdkafka::ClientConfig;
use rdkafka::consumer::{Consumer as _, StreamConsumer};
use rdkafka::message::{Message as _, OwnedMessage};
use rdkafka::mocking::MockCluster;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
use serde_json::{Value, json};
use tributary_aggregator::forward::{ForwardConfig, ForwardKafka, Forwarder};
use tributary_proto::forwardrpc::MetricList;
use tributary_proto::metricpb::{Metric, SetValue, metric};

use crate::forward::{drained, names};
use crate::{PATIENCE, counter, counters};

fn forwarder(brokers: &str, properties: Value) -> Forwarder {
    let topic = json!({"brokers": brokers, "topic": "forward", "properties": properties});
    let topic: ForwardKafka = serde_json::from_value(topic).unwrap();
    Forwarder::start(ForwardConfig {
        topic: Some(topic),
        timeout: Duration::from_secs(5),
        ..ForwardConfig::default()
    })
    .unwrap()
}

/// The first so many messages of the topic.
async fn messages(brokers: &str, count: usize) -> Vec<OwnedMessage> {
    let consumer: StreamConsumer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("group.id", "test")
        .set("auto.offset.reset", "earliest")
        .create()
        .unwrap();
    consumer.subscribe(&["forward"]).unwrap();
    let mut messages = Vec::new();
    while messages.len() < count {
        let message = tokio::time::timeout(PATIENCE, consumer.recv()).await;
        messages.push(message.unwrap().unwrap().detach());
    }
    messages
}

fn metrics(message: &OwnedMessage) -> Vec<Metric> {
    MetricList::decode(message.payload().unwrap())
        .unwrap()
        .metrics
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flush_is_written_in_batches_of_one_key_with_its_time() {
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic("forward", 4, 1).unwrap();
    let brokers = cluster.bootstrap_servers();
    let forwarder = forwarder(&brokers, json!({}));
    let flushed_at = UNIX_EPOCH + Duration::from_millis(1_700_000_000_123);
    forwarder.send_flush(flushed_at, counters(5000));
    drained(&forwarder).await;
    let messages = messages(&brokers, 3).await;
    let mut stamps: Vec<_> = messages.iter().flat_map(metrics).collect();
    stamps.sort_by_key(|metric| metric.index);
    assert_eq!(stamps.len(), 5000);
    assert_eq!(names(&stamps).len(), 5000);
    for (index, metric) in (0..).zip(&stamps) {
        let expected = (forwarder.origin(), 1, index);
        assert_eq!((metric.origin, metric.flush, metric.index), expected);
        assert_eq!(metric.interval, 0, "nothing is handed over");
    }
    for message in &messages {
        assert_eq!(message.timestamp().to_millis(), Some(1_700_000_000_123));
        assert_eq!(message.key().unwrap(), messages[0].key().unwrap());
        assert_eq!(message.partition(), messages[0].partition());
        assert!(message.payload().unwrap().len() <= 900 << 10);
    }
    assert_eq!(forwarder.ledger().acknowledged, 5000);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_broker_does_not_take_now_is_tried_again() {
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic("forward", 1, 1).unwrap();
    let brokers = cluster.bootstrap_servers();
    cluster.request_errors(
        RDKafkaApiKey::Produce,
        &[
            RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED,
            RDKafkaRespErr::RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS,
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN,
        ],
    );
    let forwarder = forwarder(&brokers, json!({}));
    forwarder.send(counters(20));
    drained(&forwarder).await;
    let ledger = forwarder.ledger();
    assert_eq!((ledger.handed, ledger.acknowledged), (20, 20));
    assert!(ledger.lost.is_empty(), "{ledger:?}");
    assert_eq!(metrics(&messages(&brokers, 1).await[0]).len(), 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_is_too_large_for_the_brokers_is_lost_and_the_next_goes_on() {
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic("forward", 1, 1).unwrap();
    let brokers = cluster.bootstrap_servers();
    let forwarder = forwarder(&brokers, json!({"message.max.bytes": 2000}));
    let large = Metric {
        value: Some(metric::Value::Set(SetValue {
            hyper_log_log: (0..=255).cycle().take(3000).collect::<Vec<u8>>().into(),
        })),
        ..counter("large", 1)
    };
    forwarder.send(vec![large]);
    forwarder.send(counters(3));
    drained(&forwarder).await;
    let ledger = forwarder.ledger();
    assert_eq!((ledger.acknowledged, ledger.lost["refused"]), (3, 1));
}
