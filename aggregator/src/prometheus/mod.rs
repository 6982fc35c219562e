//! What the sinks and the source that speak with Prometheus share: names and labels, logins, and the HTTP client.

pub(crate) mod client;
pub(crate) mod dial;
pub(crate) mod login;
pub(crate) mod naming;
