//! The healthy instances of a service in Consul.
//!
//! The client counts and logs what goes wrong with Consul and keeps the last good list, so an answer here is never an error and never
//! empty. Endpoints come sorted: all proxies add them to their rings in the same order.

use async_trait::async_trait;
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{Discovery, Endpoint};
use crate::BoxError;
use crate::consul::{self, Endpoints, Settings};
use crate::tls::TlsError;

/// See the module.
#[derive(Debug)]
pub struct Consul {
    service: String,
    endpoints: watch::Receiver<Endpoints>,
    _asking: DropGuard,
}

impl Consul {
    /// Starts to ask Consul for the healthy instances of `service`, until this is dropped.
    ///
    /// # Errors
    /// When the files for TLS cannot be used.
    pub fn new(settings: Settings, service: impl Into<String>) -> Result<Self, TlsError> {
        let service = service.into();
        let stop = CancellationToken::new();
        Ok(Self {
            endpoints: consul::watch(settings, &service, stop.clone())?,
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

    async fn next(&mut self) -> Result<Vec<Endpoint>, BoxError> {
        self.endpoints.changed().await?;
        Ok(self.endpoints.borrow_and_update().to_vec())
    }
}
