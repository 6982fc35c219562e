//! Who is there to forward to: the globals for a proxy, the proxies for an agent.
//!
//! A [`Discovery`] names them again whenever they may have changed. What is made of it is its user's business: an error or an empty answer
//! never removes anybody.
//!
//! One source of endpoints is one file or folder here, plus one line where it is chosen.

mod background;
mod consul;
mod dns;
mod file;
mod fixed;
#[cfg(feature = "kubernetes")]
mod kubernetes;
#[cfg(not(feature = "kubernetes"))]
#[path = "kubernetes_off.rs"]
mod kubernetes;
mod settings;

use async_trait::async_trait;

use crate::BoxError;

pub use consul::Consul;
pub use fixed::Fixed;
pub use settings::{Kind, Settings};

/// One instance that can be forwarded to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Endpoint {
    /// `host:port`, an IPv6 address in brackets; `http://host:port` for a global that only takes legacy JSON. Its bytes place a global on the
    /// ring, so everybody must be told it alike.
    pub address: String,
    /// The share of keys, or of connections, against the others'; 1 is a plain one, 0 gets nothing.
    pub weight: u16,
}

impl Endpoint {
    /// An endpoint of weight 1.
    pub fn new(address: impl Into<String>) -> Self {
        Self {
            address: address.into(),
            weight: 1,
        }
    }
}

/// A source of endpoints.
#[async_trait]
pub trait Discovery: Send + std::fmt::Debug {
    /// What it is called in metrics and the log: the service's name.
    fn service(&self) -> &str;

    /// Waits for the next answer and gives all endpoints, in the order in which they are added to a ring. Nothing is lost if it is dropped
    /// while it waits.
    ///
    /// # Errors
    /// Whatever kept the answer away; asking again waits as long as is good for whom is asked.
    async fn next(&mut self) -> Result<Vec<Endpoint>, BoxError>;
}
