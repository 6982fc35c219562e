//! Populating: metrics whose past is fetched from a Graphite or a Prometheus when somebody posts where it is.
//!
//! `request` judges a POST, `fetch` asks the servers named in it, `reply` reads what they answer, `worker` does so for one metric after the other.
//! What always holds: only hosts that the configuration names are asked, no redirect leads elsewhere, and only what is newer than what is known of a
//! metric is sent on.

mod fetch;
mod reply;
mod request;
#[cfg(test)]
mod tests;
mod worker;

pub(super) use request::{Hosts, Request};
pub(super) use worker::Worker;
