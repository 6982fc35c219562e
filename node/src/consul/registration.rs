//! Keeps a program registered at Consul's agent while it is ready, and takes it out when it leaves.
//!
//! The check is one that the program tells itself (Consul's TTL): the agent need not reach the program, the telling says what the program knows
//! of itself, and its refusal is how the program learns that the agent has forgotten it.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::watch::Receiver;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::client::{Client, ConsulError, encoded};
use super::events::{Deregistered, Registered, RegistrationFailed, RegistrationLost};
use super::register::{Entry, Register, RegisterError};
use super::{AddressError, Options, Settings};
use crate::admin::{Readiness, State};
use crate::repeats::Repeats;
use crate::tls::TlsError;

/// Leaving waits for Consul no longer than this.
const LEAVING: Duration = Duration::from_secs(2);
/// The first pause after a failure; it doubles up to the interval between beats.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// One request, at most.
const PATIENCE: Duration = Duration::from_secs(5);

/// Why a program cannot be registered.
#[derive(Debug, thiserror::Error)]
pub enum RegistrationError {
    /// Consul's address makes no sense.
    #[error("consul_address: {0}")]
    Consul(#[from] AddressError),
    /// The files for TLS cannot be used.
    #[error("consul_tls.{0}")]
    Tls(#[from] TlsError),
    /// The program's own address makes no sense.
    #[error("consul_register.address: {0}")]
    Own(#[from] RegisterError),
}

/// A program's entry in Consul, as long as it runs.
#[derive(Debug)]
pub struct Registration {
    task: JoinHandle<bool>,
}

impl Registration {
    /// Registers what `register` says as soon as the program is ready, and takes it out at `stop`. `listens` is where the program takes gRPC, as it
    /// is configured, and `bound` as the system says. `None` where nothing is to be registered.
    ///
    /// # Errors
    /// When one of the addresses makes no sense.
    pub fn start(
        options: &Options,
        register: &Register,
        listens: &str,
        bound: Option<SocketAddr>,
        readiness: &Readiness,
        stop: CancellationToken,
    ) -> Result<Option<Self>, RegistrationError> {
        if !register.is_wanted() {
            return Ok(None);
        }
        let hostname = nix::unistd::gethostname().unwrap_or_default();
        let keeper = Keeper {
            entry: register.entry(listens, bound, &hostname.to_string_lossy())?,
            client: Client::new(Settings::new(options)?)?,
            interval: register.check_interval.get(),
            readiness: readiness.subscribe(),
            entered: false,
            tried: false,
            failures: 0,
            repeats: Repeats::default(),
        };
        if keeper.entry.is_loopback() {
            tracing::warn!(
                address = %keeper.entry.host,
                "registers an address in Consul that nobody but this host can reach: see consul_register.address"
            );
        }
        let task = tokio::spawn(keeper.run(stop));
        Ok(Some(Self { task }))
    }

    /// After the stop: waits until the entry is gone, or two seconds have been spent on it. Whether it was there and is gone.
    pub async fn ended(self) -> bool {
        self.task.await.unwrap_or(false)
    }
}

struct Keeper {
    entry: Entry,
    client: Client,
    interval: Duration,
    readiness: Receiver<State>,
    /// The agent has the entry, as far as is known.
    entered: bool,
    /// The agent may have the entry.
    tried: bool,
    failures: u32,
    repeats: Repeats<()>,
}

// === impl Keeper ===

impl Keeper {
    async fn run(mut self, stop: CancellationToken) -> bool {
        let _ = stop.run_until_cancelled(self.keep()).await;
        self.leave().await
    }

    /// Registers once the program is ready, and goes on telling how it is.
    async fn keep(&mut self) {
        // The sender lives as long as the program.
        let _ = self.readiness.wait_for(|state| state.check().is_ok()).await;
        loop {
            let outcome = match self.entered {
                true => self.beat().await,
                false => self.enter().await,
            };
            let pause = match outcome {
                Ok(()) => {
                    self.failures = 0;
                    self.interval
                }
                // The agent answers and will not have it: it was started anew, or somebody has taken the entry out.
                Err(error @ ConsulError::Status { .. }) if self.entered => {
                    self.entered = false;
                    RegistrationLost {
                        service: &self.entry.service,
                        error: &error,
                    }
                    .emit();
                    continue;
                }
                Err(error) => {
                    self.fail(&error);
                    self.backoff()
                }
            };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                Ok(()) = self.readiness.changed() => {}
            }
        }
    }

    async fn enter(&mut self) -> Result<(), ConsulError> {
        self.tried = true;
        let path = "/v1/agent/service/register?replace-existing-checks=true";
        self.client.put(path, &self.entry.body, PATIENCE).await?;
        self.entered = true;
        Registered {
            service: &self.entry.service,
            id: &self.entry.id,
        }
        .emit();
        Ok(())
    }

    async fn beat(&self) -> Result<(), ConsulError> {
        let told = match self.readiness.borrow().check() {
            Ok(()) => json!({"Status": "passing", "Output": "ready"}),
            Err(reason) => json!({"Status": "critical", "Output": reason}),
        };
        let path = format!("/v1/agent/check/update/{}", encoded(&self.entry.check));
        self.client
            .put(&path, &told, PATIENCE.min(self.interval))
            .await
    }

    /// Takes the entry out. Whether it was there and is gone.
    async fn leave(&self) -> bool {
        if !self.tried {
            return false;
        }
        let path = format!("/v1/agent/service/deregister/{}", encoded(&self.entry.id));
        let until = Instant::now() + LEAVING;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            match self.client.put(&path, &Value::Null, left).await {
                Ok(()) => {
                    Deregistered {
                        service: &self.entry.service,
                        id: &self.entry.id,
                    }
                    .emit();
                    return true;
                }
                Err(ConsulError::Unreachable(_)) if left > FIRST_PAUSE => {
                    tokio::time::sleep(FIRST_PAUSE).await;
                }
                Err(error) => {
                    self.fail(&error);
                    return false;
                }
            }
        }
    }

    fn fail(&self, error: &ConsulError) {
        RegistrationFailed {
            service: &self.entry.service,
            error,
            told: self.repeats.tell(&()),
        }
        .emit();
    }

    /// A while that doubles with each failure, up to the interval, and is not the same for all.
    fn backoff(&mut self) -> Duration {
        let pause = FIRST_PAUSE.saturating_mul(1 << self.failures.min(10));
        self.failures = self.failures.saturating_add(1);
        pause
            .min(self.interval)
            .mul_f64(0.75 + fastrand::f64() / 4.0)
    }
}

#[cfg(test)]
mod tests;
