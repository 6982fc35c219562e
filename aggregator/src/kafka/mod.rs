//! What the source and the sink `kafka` share with `forward_kafka`: how they connect, how they write, and what finished points look like in a message.
//!
//! All stand on librdkafka, by the crate rdkafka: behind the feature `kafka`, with TLS and SCRAM behind `kafka-tls`.

mod connection;
pub(crate) mod json;
mod monitor;
pub(crate) mod producer;

pub(crate) use connection::{Connection, Properties, SaslConfig};
pub(crate) use monitor::{Health, Monitor};
pub(crate) use producer::Compression;
