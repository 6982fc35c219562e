//! Which discovery names the destinations. What the proxy makes of it is [`crate::membership`]'s business.

use tributary_node::BoxError;
use tributary_node::discovery::{Consul, Discovery, Fixed};

use crate::config::Config;

/// The discovery that the settings name: Consul, or the configured addresses.
///
/// # Errors
/// When Consul's address makes no sense.
pub fn from_config(config: &Config) -> Result<Box<dyn Discovery>, BoxError> {
    if config.consul_service().is_empty() {
        return Ok(Box::new(Fixed::new(config.static_endpoints())));
    }
    if !config.static_endpoints().is_empty() {
        tracing::warn!(
            "forward_address and forward_addresses do nothing beside consul_forward_service_name"
        );
    }
    Ok(Box::new(Consul::new(
        config.consul()?,
        config.consul_service(),
    )))
}
