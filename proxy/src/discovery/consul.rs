//! The healthy instances of a service in Consul.
//!
//! The client counts and logs what goes wrong with Consul and keeps the last good list, so an answer here is never an error and never
//! empty. Addresses come sorted: all proxies add them to their rings in the same order.

use async_trait::async_trait;
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};
use tributary_node::BoxError;
use tributary_node::consul::{self, Endpoints};

use super::Discovery;
use crate::config::Config;

/// See the module.
#[derive(Debug)]
pub struct Consul {
    service: String,
    endpoints: watch::Receiver<Endpoints>,
    _asking: DropGuard,
}

impl Consul {
    /// Starts to ask Consul, until this is dropped.
    ///
    /// # Errors
    /// When its address makes no sense.
    pub fn new(config: &Config) -> Result<Self, consul::AddressError> {
        let stop = CancellationToken::new();
        let service = config.consul_service().to_owned();
        Ok(Self {
            endpoints: consul::watch(config.consul()?, &service, stop.clone()),
            service,
            _asking: stop.drop_guard(),
        })
    }
}

#[async_trait]
impl Discovery for Consul {
    fn service(&self) -> &str {
        &self.service
    }

    async fn next(&mut self) -> Result<Vec<String>, BoxError> {
        self.endpoints.changed().await?;
        let endpoints = self.endpoints.borrow_and_update();
        let addresses = endpoints.iter().map(|endpoint| endpoint.address.clone());
        Ok(addresses.collect())
    }
}
