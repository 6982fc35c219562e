//! Consul: which instances of a service are healthy, followed as they come and go.
//!
//! [`watch`] asks `GET /v1/health/service/<name>?passing=1` as a blocking query: Consul answers when something changed,
//! or when the wait is over. `docs/adr/0001-own-consul-client.md` tells why this client is our own.
//!
//! [`Registration`] keeps the program itself registered at Consul's agent.
//!
//! What always holds:
//! - the list changes only by a good answer that names at least one instance; an error, a refusal or an empty answer
//!   leaves the last good list as it is, is counted, and is told in the log. With ACLs that deny by default a missing
//!   token is answered 200 and an empty list, so an empty answer says nothing about the service;
//! - no sequence of answers, however they are made, leads to more than about one request a second in the long run;
//! - a question that hangs is given up.

mod client;
mod events;
mod health;
mod pace;
mod register;
mod registration;
mod settings;
#[cfg(test)]
mod tests;
mod watch;

pub use client::ConsulError;
pub use register::{Register, RegisterError};
pub use registration::{Registration, RegistrationError};
pub use settings::{AddressError, AddressPreference, Options, Settings};
pub use watch::{Endpoints, watch};
