//! Destinations that are discovered: they follow whom the discovery names.
//!
//! Whoever is new is used at once. Whoever is gone is given nothing more; what is under way to it ends there. An error or an empty answer changes
//! nothing.

use std::sync::Arc;

use parking_lot::Mutex;
use tributary_node::BoxError;
use tributary_node::discovery::{Discovery, Endpoint};

use super::address::Address;
use super::dispatch::Shared;
use super::event::{DestinationsDiscovered, DiscoveryFailed};
use super::{ForwardConfig, change};

/// Follows the discovery for ever.
pub(super) async fn follow(
    mut discovery: Box<dyn Discovery>,
    shared: Arc<Shared>,
    config: Arc<Mutex<ForwardConfig>>,
) {
    let service = discovery.service().to_owned();
    loop {
        let outcome = match discovery.next().await {
            Ok(endpoints) => take(&service, endpoints, &shared, &config),
            Err(error) => Err(error),
        };
        if let Err(error) = outcome {
            DiscoveryFailed {
                service: &service,
                detail: &error.to_string(),
            }
            .emit();
        }
    }
}

/// These are the destinations from now on. One whose address makes no sense is left out and told.
fn take(
    service: &str,
    endpoints: Vec<Endpoint>,
    shared: &Shared,
    config: &Mutex<ForwardConfig>,
) -> Result<(), BoxError> {
    let wanted = endpoints.into_iter().filter(|endpoint| endpoint.weight > 0);
    let mut in_force = config.lock();
    let mut addresses = Vec::new();
    for Endpoint { address, .. } in wanted {
        match Address::parse(&address, in_force.tls.is_some()) {
            Ok(_) => addresses.push(address),
            Err(error) => DiscoveryFailed {
                service,
                detail: &error.to_string(),
            }
            .emit(),
        }
    }
    if addresses.is_empty() {
        return Err("names nobody to forward to".into());
    }
    if in_force.addresses == addresses {
        return Ok(());
    }
    DestinationsDiscovered {
        service,
        addresses: &addresses,
    }
    .emit();
    let config = ForwardConfig {
        addresses,
        ..in_force.clone()
    };
    change(shared, &mut in_force, config)?;
    Ok(())
}
