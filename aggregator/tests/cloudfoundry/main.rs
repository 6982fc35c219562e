//! Enrichment over real sockets: what is asked how often, and what becomes of events while nobody answers.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test ends at the first surprise"
)]

mod cached;
mod faults;
mod login;
mod lookups;
#[allow(
    dead_code,
    unreachable_pub,
    missing_docs,
    reason = "others use it as well"
)]
mod mock;
mod settings;

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use tributary_aggregator::dropsonde::{Event, parse};
use tributary_aggregator::enrich::cloudfoundry::{CloudFoundryConfig, Enricher, Passed};
use tributary_aggregator::point::Point;

use mock::CloudFoundry;

/// Applications of the recorded API.
pub(crate) const WEB: &str = "be268fe2-00cc-41c6-8b7f-0fdb65e25060";
pub(crate) const API_SERVER: &str = "3356a5c7-e86c-442a-b14f-ce5cc4f80ed1";

/// One that is nowhere, by its number.
pub(crate) fn nowhere(number: usize) -> String {
    format!("00000000-0000-4000-8000-{number:012}")
}

/// Settings of a password login, with others laid over them.
pub(crate) fn settings(cf: &CloudFoundry, more: Value) -> CloudFoundryConfig {
    let mut all = json!({"api": cf.url(), "user": "alice", "password": "p4ss", "timeout": "5s"});
    for (key, value) in more.as_object().unwrap() {
        all[key] = value.clone();
    }
    serde_json::from_value(all).unwrap()
}

pub(crate) async fn enricher(cf: &CloudFoundry, more: Value) -> Arc<Enricher> {
    Enricher::start(settings(cf, more), CancellationToken::new())
        .await
        .unwrap()
}

/// The same, once it has listed what there is.
pub(crate) async fn listed(cf: &CloudFoundry, more: Value) -> Arc<Enricher> {
    let enricher = enricher(cf, more).await;
    let stats = enricher.stats();
    until("listed", || stats.refresh.total() > 0).await;
    enricher
}

/// Waits until something is so.
pub(crate) async fn until(what: &str, is_so: impl Fn() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < Duration::from_secs(30), "never {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// A log line of an application.
pub(crate) fn event(guid: &str) -> Event {
    let log = json!({"message": "aGVsbG8=", "timestamp": 5, "app_id": guid, "source_type": "APP", "source_instance": "0"});
    let envelope = json!({"eventType": 5, "logMessage": log}).to_string();
    parse(envelope.as_bytes()).unwrap().unwrap()
}

/// The name that an application's event gets.
pub(crate) async fn name(enricher: &Enricher, guid: &str) -> Result<String, Passed> {
    let [made] = <[_; 1]>::try_from(enricher.events(vec![event(guid)]).await).unwrap();
    made.map(|points| tag(&points, "app"))
}

pub(crate) fn tag(points: &[Point], key: &str) -> String {
    let mut tags = points[0].tags.iter();
    let value = tags.find_map(|tag| tag.strip_prefix(key)?.strip_prefix(':'));
    value.unwrap_or_default().to_owned()
}
