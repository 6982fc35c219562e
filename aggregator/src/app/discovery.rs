//! Which discoveries name the proxies that an aggregator sends to. What is made of them is the forwarder's business.

use tributary_node::BoxError;
use tributary_node::consul::Settings;
use tributary_node::discovery::{Consul, Discovery};

use crate::config::Config;
use crate::flush::Role;

/// Whom an agent forwards to; `None` where addresses are configured.
///
/// # Errors
/// When Consul's address makes no sense, the files for TLS cannot be used, or the other source cannot be looked at.
pub(super) fn forward(config: &Config) -> Result<Option<Box<dyn Discovery>>, BoxError> {
    if config.discovers_proxies() && !config.forward_address.is_empty() {
        tracing::warn!("forward_address does nothing where proxies are discovered");
    }
    if config.forward_discovery.is_given() {
        return Ok(Some(config.forward_discovery.build()?));
    }
    in_consul(config, &config.consul_forward_service_name)
}

/// Whom a leaving global hands its open interval to; `None` where addresses are configured, or nobody is.
///
/// # Errors
/// When Consul's address makes no sense, or the files for TLS cannot be used.
pub(super) fn handoff(config: &Config) -> Result<Option<Box<dyn Discovery>>, BoxError> {
    match config.role() {
        Role::Global => in_consul(config, &config.consul_handoff_service_name),
        Role::Local => Ok(None),
    }
}

fn in_consul(config: &Config, service: &str) -> Result<Option<Box<dyn Discovery>>, BoxError> {
    if service.is_empty() {
        return Ok(None);
    }
    let settings = Settings::new(&config.consul())?;
    Ok(Some(Box::new(Consul::new(settings, service)?)))
}
