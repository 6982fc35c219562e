//! Forward and import over real sockets: what arrives, what is tried again, and what is counted.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test ends at the first surprise"
)]

mod bounds;
mod counters;
mod discovered;
mod forward;
mod global;
mod import;
mod once;
mod proxy;
mod relayed;
mod repeats;
#[cfg(feature = "kafka")]
mod topic;
mod upstream;

use std::time::Duration;

use tributary_proto::metricpb::{CounterValue, Metric, Scope, Type, metric};

/// No test here waits longer for anything.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Waits until `what` gives something.
pub(crate) async fn eventually<T>(what: impl Fn() -> Option<T>) -> T {
    let waiting = async {
        loop {
            if let Some(found) = what() {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting)
        .await
        .expect("did not come about in time")
}

/// A global counter.
pub(crate) fn counter(name: impl Into<String>, value: i64) -> Metric {
    Metric {
        name: name.into(),
        tags: vec!["env:test".into()],
        r#type: Type::Counter.into(),
        scope: Scope::Global.into(),
        value: Some(metric::Value::Counter(CounterValue { value })),
        ..Metric::default()
    }
}

/// Counters `c0`, `c1`, …
pub(crate) fn counters(count: usize) -> Vec<Metric> {
    (0..count)
        .map(|number| counter(format!("c{number}"), 1))
        .collect()
}
