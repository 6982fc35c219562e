//! Consul: which instances of a service are healthy, followed as they come and go.
//!
//! [`watch`] asks `GET /v1/health/service/<name>?passing=1` as a blocking query: Consul answers when something changed,
//! or when the wait is over. `docs/adr/0001-own-consul-client.md` tells why this client is our own.
//!
//! What always holds:
//! - the list changes only by a good answer that names at least one instance; an error, a refusal or an empty answer
//!   leaves the last good list as it is, is counted, and is told in the log. With ACLs that deny by default a missing
//!   token is answered 200 and an empty list, so an empty answer says nothing about the service;
//! - no answer, however it is made, leads to more than about one request a second;
//! - a question that hangs is given up.

mod client;
mod events;
mod health;
#[cfg(test)]
mod tests;
mod watch;

use std::time::Duration;

use http::uri::{Authority, PathAndQuery, Scheme};

use crate::config::Secret;

pub use client::ConsulError;
pub use watch::{Endpoints, watch};

/// Where Consul is and how it is asked.
#[derive(Debug, Clone)]
pub struct Settings {
    authority: Authority,
    /// In front of `/v1/…`, for a Consul behind a reverse proxy; without a slash at its end.
    prefix: String,
    token: Secret,
    refresh_interval: Duration,
    /// Between the beginnings of two questions, at least.
    least_gap: Duration,
    /// What a question may take beyond the wait that it asks for.
    patience: Duration,
}

/// An address that this client cannot use.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// Not a host and a port.
    #[error("{0:?} is not Consul's address, write it like 127.0.0.1:8500")]
    Malformed(String),
    /// `https://…`, `unix://…`
    #[error("{0:?} cannot be spoken to, only plain http:// can")]
    Scheme(String),
}

// What Consul's own tools assume.
const USUAL_ADDRESS: &str = "127.0.0.1:8500";
// Consul's own bound for a wait.
const LONGEST_WAIT: Duration = Duration::from_secs(600);
const SHORTEST_WAIT: Duration = Duration::from_secs(1);

// === impl Settings ===

impl Settings {
    /// Consul at `address` (`host:port` or `http://host:port/prefix`), asked with `token`, with `refresh_interval` as
    /// the longest time that the list may go without being looked at. An empty address or token is read from
    /// `CONSUL_HTTP_ADDR` and `CONSUL_HTTP_TOKEN`, as Consul's own tools do.
    ///
    /// # Errors
    /// See [`AddressError`].
    pub fn new(
        address: &str,
        token: &Secret,
        refresh_interval: Duration,
    ) -> Result<Self, AddressError> {
        Self::with_variables(address, token, refresh_interval, |name| {
            std::env::var(name).ok()
        })
    }

    fn with_variables(
        address: &str,
        token: &Secret,
        refresh_interval: Duration,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, AddressError> {
        let given = |name: &str| variable(name).filter(|text| !text.trim().is_empty());
        let address = match address.trim() {
            "" => given("CONSUL_HTTP_ADDR").unwrap_or_else(|| USUAL_ADDRESS.to_owned()),
            address => address.to_owned(),
        };
        let token = if token.is_empty() {
            given("CONSUL_HTTP_TOKEN")
                .map(Secret::new)
                .unwrap_or_default()
        } else {
            token.clone()
        };
        let (authority, prefix) = parse(address.trim())?;
        Ok(Self {
            authority,
            prefix,
            token,
            refresh_interval: refresh_interval.clamp(SHORTEST_WAIT, LONGEST_WAIT),
            least_gap: Duration::from_millis(100),
            patience: Duration::from_secs(10),
        })
    }
}

fn parse(address: &str) -> Result<(Authority, String), AddressError> {
    let malformed = || AddressError::Malformed(address.to_owned());
    let with_scheme = if address.contains("://") {
        address.to_owned()
    } else {
        format!("http://{address}")
    };
    if !with_scheme.starts_with("http://") {
        return Err(AddressError::Scheme(address.to_owned()));
    }
    let uri: http::Uri = with_scheme.parse().map_err(|_| malformed())?;
    let parts = uri.into_parts();
    let (Some(authority), Some(true)) = (
        parts.authority,
        parts.scheme.map(|scheme| scheme == Scheme::HTTP),
    ) else {
        return Err(malformed());
    };
    if authority.host().is_empty() {
        return Err(malformed());
    }
    let prefix = parts
        .path_and_query
        .as_ref()
        .map_or("", PathAndQuery::path)
        .trim_end_matches('/')
        .to_owned();
    Ok((authority, prefix))
}
