//! Which discovery names the destinations. What the proxy makes of it is [`crate::membership`]'s business.

use tributary_node::BoxError;
use tributary_node::consul::Settings;
use tributary_node::discovery::{Consul, Discovery, Endpoint, Fixed};

use crate::config::Config;

/// The discovery that the settings name: Consul, or the configured addresses.
///
/// # Errors
/// When Consul's address makes no sense, or the files for TLS cannot be used.
pub fn from_config(config: &Config) -> Result<Box<dyn Discovery>, BoxError> {
    if config.consul_service().is_empty() {
        let endpoints = config.static_addresses().into_iter().map(Endpoint::new);
        return Ok(Box::new(Fixed::new(endpoints.collect())));
    }
    if !config.static_addresses().is_empty() {
        tracing::warn!(
            "forward_address and forward_addresses do nothing beside consul_forward_service_name"
        );
    }
    let settings = Settings::new(&config.consul())?;
    Ok(Box::new(Consul::new(settings, config.consul_service())?))
}
