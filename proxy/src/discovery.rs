//! Which discovery names the destinations. What the proxy makes of it is [`crate::membership`]'s business.

use tributary_node::BoxError;
use tributary_node::consul::Settings;
use tributary_node::discovery::{Consul, Discovery, Fixed};

use crate::config::Config;

/// The discovery that the settings name: Consul, another source, or the configured addresses.
///
/// # Errors
/// When Consul's address makes no sense, the files for TLS cannot be used, or the other source cannot be looked at.
pub fn from_config(config: &Config) -> Result<Box<dyn Discovery>, BoxError> {
    if config.is_static() {
        return Ok(Box::new(Fixed::new(config.static_endpoints())));
    }
    let discovered_by = if config.forward_discovery.is_given() {
        "forward_discovery"
    } else {
        "consul_forward_service_name"
    };
    if !config.static_endpoints().is_empty() {
        tracing::warn!("forward_address and forward_addresses do nothing beside {discovered_by}");
    }
    if config.forward_discovery.is_given() {
        return config.forward_discovery.build();
    }
    let settings = Settings::new(&config.consul())?;
    Ok(Box::new(Consul::new(settings, config.consul_service())?))
}
