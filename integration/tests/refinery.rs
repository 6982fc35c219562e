//! The preset `cf-metrics-refinery` as one pipeline: Apache Kafka, the real program, InfluxDB, and a Cloud Controller with its UAA that fail as a test says.
//! `integration/test` brings the servers.

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
#[path = "../../aggregator/tests/cloudfoundry/mock.rs"]
#[allow(
    dead_code,
    unreachable_pub,
    missing_docs,
    reason = "others use it as well"
)]
mod mock;
#[path = "kafka/server.rs"]
#[allow(dead_code, unreachable_pub, reason = "others use it as well")]
mod server;

#[path = "refinery/away.rs"]
mod away;
#[path = "refinery/counts.rs"]
mod counts;
#[path = "refinery/endings.rs"]
mod endings;
#[path = "refinery/events.rs"]
mod events;
#[path = "refinery/names.rs"]
mod names;
#[path = "refinery/recorded.rs"]
mod recorded;
#[path = "refinery/world.rs"]
mod world;
