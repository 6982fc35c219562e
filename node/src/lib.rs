//! The chassis both programs stand on: configuration, command line, logging, self-metrics, Sentry, the admin HTTP
//! server, discovery with the Consul client, TLS, and an orderly start and stop.
//!
//! Nothing here knows about metrics that travel the tier. Nothing outside this crate touches the metrics recorder,
//! Sentry or the process's signals.

pub mod admin;
pub mod allocator;
mod cause;
pub mod chassis;
pub mod cli;
pub mod config;
pub mod consul;
pub mod discovery;
mod follow;
pub mod grpc;
mod health;
pub mod inherited;
pub mod lifecycle;
pub mod metrics;
pub mod reload;
pub mod repeats;
mod supervisor;
pub mod tap;
pub mod telemetry;
pub mod tls;

pub use cause::deepest_cause;
pub use chassis::{BoxError, Chassis, Node, Program, run};
pub use reload::{Change, Reload, Reloads};
