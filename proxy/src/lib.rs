//! Tributary's proxy: it routes each metric to the one global that owns its key.
//!
//! [`ingest`] → [`route`] → [`ring`] → [`destination`]; [`discovery`] feeds the ring through [`membership`]. The proxy keeps no state
//! that outlives it and decodes no sketch: a metric is a slice of the request that it came in.

pub mod address;
pub mod app;
mod changes;
mod cli;
pub mod config;
pub mod destination;
pub mod discovery;
mod event;
pub mod ignore;
pub mod ingest;
pub mod ledger;
pub mod membership;
pub mod metrics;
mod overview;
pub mod owner;
mod receipt;
pub mod ring;
mod roster;
pub mod route;
mod status;

pub use cli::main;
