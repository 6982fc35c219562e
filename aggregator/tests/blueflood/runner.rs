//! With the queue in front, as the program has it: waits, gathering, and the last flush.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;
use tributary_aggregator::sink::{SinkConfig, Sinks};

use super::mock::{Blueflood, Fault, Server, start};
use super::{batch, point, points, with_defaults};

const PATIENCE: Duration = Duration::from_secs(60);

fn sinks(blueflood: &Server<Blueflood>, settings: Value) -> Sinks {
    let mut config = SinkConfig::new("blueflood");
    config.config = with_defaults(&blueflood.url(), settings);
    Sinks::start(&[config], &[]).unwrap()
}

async fn until(what: impl Fn() -> bool) {
    let waiting = async {
        while !what() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.unwrap();
}

#[tokio::test]
async fn what_was_refused_goes_out_again_while_nothing_else_comes() {
    let blueflood = start::<Blueflood>().await;
    let away = [503, 500, 429, 503, 408].map(Fault::status);
    blueflood.state().faults.extend(away);
    let sinks = sinks(&blueflood, json!({}));
    sinks.send(Arc::new(batch(points(7))));
    until(|| blueflood.state().stored.len() == 7).await;
    assert_eq!(blueflood.state().counts(), (7, 0));
    assert_eq!(blueflood.state().statuses(), [503, 500, 429, 503, 408, 200]);
    let left = sinks.close(Instant::now() + PATIENCE).await;
    assert_eq!(left, []);
    assert_eq!(blueflood.state().counts(), (7, 0));
}

#[tokio::test]
async fn what_comes_in_an_interval_is_one_request_and_the_end_waits_for_none() {
    let blueflood = start::<Blueflood>().await;
    let sinks = sinks(&blueflood, json!({"interval": "1h"}));
    for number in 0..20 {
        let point = point(&format!("m{number}"), 1.0);
        sinks.send(Arc::new(batch(vec![point])));
    }
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(
        blueflood.state().seen.is_empty(),
        "the interval is not over"
    );
    assert_eq!(sinks.close(Instant::now() + PATIENCE).await, []);
    let state = blueflood.state();
    assert_eq!(state.counts(), (20, 0));
    assert_eq!(state.seen.len(), 1);
}

#[tokio::test]
async fn an_interval_ends() {
    let blueflood = start::<Blueflood>().await;
    let sinks = sinks(&blueflood, json!({"interval": "100ms"}));
    sinks.send(Arc::new(batch(points(3))));
    until(|| blueflood.state().stored.len() == 3).await;
    drop(sinks);
}

#[tokio::test]
async fn one_bad_point_holds_up_nobody() {
    let blueflood = start::<Blueflood>().await;
    {
        let mut state = blueflood.state();
        state.all_or_nothing = true;
        state.wordless = true;
        state.unstorable.insert("bad".to_owned(), usize::MAX);
    }
    let sinks = sinks(&blueflood, json!({}));
    for round in 0..5 {
        let mut given: Vec<_> = (0..10)
            .map(|n| point(&format!("m{round}.{n}"), 1.0))
            .collect();
        given.push(point("bad", 1.0));
        sinks.send(Arc::new(batch(given)));
    }
    until(|| blueflood.state().stored.len() == 50).await;
    assert_eq!(sinks.close(Instant::now() + PATIENCE).await, []);
    assert_eq!(blueflood.state().counts(), (50, 0));
}
