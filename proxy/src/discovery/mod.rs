//! Who the destinations are.
//!
//! A [`Discovery`] names them again whenever they may have changed. What the proxy makes of it is [`crate::membership`]'s business: an error
//! or an empty answer never empties the ring.

mod consul;
mod fixed;

use async_trait::async_trait;
use tributary_node::BoxError;

use crate::config::Config;

pub use consul::Consul;
pub use fixed::Fixed;

/// A source of destinations' addresses.
#[async_trait]
pub trait Discovery: Send + std::fmt::Debug {
    /// What it is called in metrics: the service's name.
    fn service(&self) -> &str;

    /// Waits for the next answer and gives all addresses, in the order in which they are added to a ring. Nothing is lost if it is dropped
    /// while it waits.
    ///
    /// # Errors
    /// Whatever kept the answer away; asking again waits as long as is good for whom is asked.
    async fn next(&mut self) -> Result<Vec<String>, BoxError>;
}

/// The discovery that the settings name: Consul, or the configured addresses.
///
/// # Errors
/// When Consul's address makes no sense.
pub fn from_config(config: &Config) -> Result<Box<dyn Discovery>, BoxError> {
    if config.consul_service().is_empty() {
        return Ok(Box::new(Fixed::new(config.static_addresses())));
    }
    if !config.static_addresses().is_empty() {
        tracing::warn!(
            "forward_address and forward_addresses do nothing beside consul_forward_service_name"
        );
    }
    Ok(Box::new(Consul::new(config)?))
}
