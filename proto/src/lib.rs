//! Tributary's wire contract, which is Stripe Veneur's; and [`otlp`], OpenTelemetry's.
//!
//! What travels between agents, proxies and globals, in layers:
//! - the generated messages ([`metricpb`], [`tdigest`], [`forwardrpc`]),
//! - [`scan`]: name, type, tags and stamp read from a metric that stays undecoded, which is all a proxy needs,
//! - [`ack`]: how a receiver tells what it has merged, so that a sender may repeat the rest,
//! - [`json`] and [`gob`]: the legacy form that Veneur's HTTP `/import` speaks.
//!
//! The gRPC service ([`raw::forward_server`], [`raw::forward_client`]) hands over message bytes as they came.

pub mod ack;
pub mod gob;
pub mod json;
mod kind;
pub mod otlp;
pub mod raw;
pub mod repeats;
pub mod scan;

/// Generated from `proto/forwardrpc/forward.proto`.
#[allow(missing_docs, unreachable_pub, reason = "generated code")]
pub mod forwardrpc {
    include!(concat!(env!("OUT_DIR"), "/forwardrpc.rs"));
}

/// Generated from `proto/metricpb/metric.proto`.
#[allow(missing_docs, unreachable_pub, reason = "generated code")]
pub mod metricpb {
    include!(concat!(env!("OUT_DIR"), "/metricpb.rs"));
}

/// Generated from `proto/tdigest/tdigest.proto`.
#[allow(missing_docs, unreachable_pub, reason = "generated code")]
pub mod tdigest {
    include!(concat!(env!("OUT_DIR"), "/tdigest.rs"));
}
