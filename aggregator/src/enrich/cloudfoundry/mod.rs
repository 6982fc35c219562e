//! Cloud Foundry's names: which application, space and organization an event is of.
//!
//! An [`Enricher`] keeps what the Cloud Controller has said about applications. It lists them all from time to time, and asks for those that events
//! name and it does not know, many at once. What holds:
//! - an application is asked for once, however many callers wait for it; no more than `max_concurrent_lookups` requests ask at a time;
//! - what is known stays known while the Cloud Controller is away: a listing that fails changes nothing, and nothing expires;
//! - what the Cloud Controller says it does not know is not asked for again for `negative_expire`, unless a listing has it;
//! - each request is tried three times at most, with growing waits between; a server that asks for a longer wait gets it, from all requests.
//!
//! The API is documented at v3-apidocs.cloudfoundry.org, the one of tokens at docs.cloudfoundry.org/api/uaa.

mod api;
mod app;
mod cache;
mod client;
mod config;
mod enricher;
mod flights;
mod happened;
mod session;
mod stats;
mod v2;
mod v3;

pub use app::{App, Named};
pub use config::{CloudFoundryConfig, OnUnavailable};
pub use enricher::{AtOnce, Enricher, Passed};
pub use stats::{Stats, Tally};

pub(crate) use app::TagWriter;
