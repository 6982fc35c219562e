//! A forwarder whose destinations are discovered.

use async_trait::async_trait;
use tokio::sync::mpsc;
use tributary_aggregator::forward::{ForwardConfig, Forwarder};
use tributary_node::BoxError;
use tributary_node::discovery::{Discovery, Endpoint};

use crate::counters::Counters;
use crate::forward::{config, drained};
use crate::upstream::{Behaviour, Upstream};
use crate::{counter, counters, eventually};

type Answer = Result<Vec<Endpoint>, BoxError>;

/// A discovery that says what a test tells it.
#[derive(Debug)]
struct Told(mpsc::UnboundedReceiver<Answer>);

#[async_trait]
impl Discovery for Told {
    fn service(&self) -> &str {
        "proxies"
    }

    async fn next(&mut self) -> Answer {
        match self.0.recv().await {
            Some(answer) => answer,
            None => std::future::pending().await,
        }
    }
}

fn start() -> (Forwarder, mpsc::UnboundedSender<Answer>) {
    let (tell, told) = mpsc::unbounded_channel();
    let mut config = config(&[]);
    config.batch.metrics = 10;
    let forwarder = Forwarder::discover(config, Box::new(Told(told))).unwrap();
    (forwarder, tell)
}

fn these(upstreams: &[&Upstream]) -> Answer {
    let addresses = upstreams.iter().map(|upstream| upstream.address);
    Ok(addresses
        .map(|address| Endpoint::new(address.to_string()))
        .collect())
}

#[tokio::test]
async fn metrics_wait_until_somebody_is_known() {
    let upstream = Upstream::start(Behaviour::Accept).await;
    let (forwarder, tell) = start();
    forwarder.send(counters(100));
    eventually(|| (forwarder.backlog().metrics == 100).then_some(())).await;
    tell.send(these(&[&upstream])).unwrap();
    drained(&forwarder).await;
    assert_eq!(upstream.metrics().len(), 100);
    assert_eq!(forwarder.ledger().lost.values().sum::<u64>(), 0);
}

#[tokio::test]
async fn who_is_new_is_used_and_who_is_gone_ends_what_it_has_and_gets_no_more() {
    let (old, new) = (
        Upstream::start(Behaviour::Stall).await,
        Upstream::start(Behaviour::Accept).await,
    );
    let (forwarder, tell) = start();
    tell.send(these(&[&old])).unwrap();
    forwarder.send(vec![counter("first", 1)]);
    eventually(|| (!old.metrics().is_empty()).then_some(())).await;
    tell.send(these(&[&new])).unwrap();
    forwarder.send(counters(100));
    eventually(|| (new.metrics().len() == 100).then_some(())).await;
    assert_eq!(old.metrics().len(), 1, "it gets no more");
    // It ends what it has. What the other has taken is acknowledged a moment later.
    eventually(|| (forwarder.backlog().metrics == 1).then_some(())).await;
    assert_eq!(old.metrics().len(), 1);
}

#[tokio::test]
async fn neither_an_error_nor_an_empty_answer_removes_anybody() {
    let recorded = Counters::leaked();
    let _recording = recorded.record();
    let upstream = Upstream::start(Behaviour::Accept).await;
    let (forwarder, tell) = start();
    let no_weight = Endpoint {
        weight: 0,
        ..Endpoint::new("127.0.0.1:1")
    };
    tell.send(these(&[&upstream])).unwrap();
    tell.send(Err("away".into())).unwrap();
    tell.send(Ok(Vec::new())).unwrap();
    tell.send(Ok(vec![no_weight])).unwrap();
    tell.send(Ok(vec![Endpoint::new("no address")])).unwrap();
    // One that makes no sense, and one that is nothing to look at, beside one that is there.
    let mut some = these(&[&upstream]).unwrap();
    some.push(Endpoint::new("no address"));
    tell.send(Ok(some)).unwrap();
    let errors = || recorded.get("discoverer.errors{service=proxies}");
    eventually(|| (errors() == 6).then_some(())).await;
    forwarder.send(counters(50));
    drained(&forwarder).await;
    assert_eq!(upstream.metrics().len(), 50);
}

#[tokio::test]
async fn destinations_that_are_discovered_outlive_a_change_of_the_settings() {
    let upstream = Upstream::start(Behaviour::Accept).await;
    let (forwarder, tell) = start();
    tell.send(these(&[&upstream])).unwrap();
    forwarder.send(counters(1));
    eventually(|| (upstream.metrics().len() == 1).then_some(())).await;
    let changed = ForwardConfig {
        addresses: vec!["127.0.0.1:1".to_owned()],
        timeout: std::time::Duration::from_secs(3),
        ..config(&[])
    };
    forwarder.reconfigure(&changed).unwrap();
    forwarder.send(counters(100));
    drained(&forwarder).await;
    assert_eq!(upstream.metrics().len(), 101);
}
