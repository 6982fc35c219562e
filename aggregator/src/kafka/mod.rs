//! What the source and the sink `kafka` share: how they connect, and what finished points look like in a message.
//!
//! Both stand on librdkafka, by the crate rdkafka: behind the feature `kafka`, with TLS and SCRAM behind `kafka-tls`.

mod connection;
pub(crate) mod json;
mod monitor;

pub(crate) use connection::{Connection, Properties, SaslConfig};
pub(crate) use monitor::{Health, Monitor};
