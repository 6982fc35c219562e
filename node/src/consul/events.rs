//! What happens while a service is watched or the program is registered: the log line and the self-metric together.

use std::time::Duration;

use super::client::ConsulError;
use crate::metrics::{
    DESTINATION_NUMBER, DISCOVERY_DURATION, DISCOVERY_ERRORS, REGISTERED, REGISTRATION_ERRORS,
    REGISTRATION_LOST,
};
use crate::repeats::More;

/// An answer named the instances; how long it took to take it over, not how long Consul waited for a change.
pub(super) struct Updated<'a> {
    pub(super) service: &'a str,
    pub(super) instances: usize,
    pub(super) took: Duration,
    /// Whether they differ from those before.
    pub(super) changed: bool,
}

/// There was no answer, or none that names an instance: the last good list stays.
pub(super) struct Failed<'a> {
    pub(super) service: &'a str,
    pub(super) error: &'a ConsulError,
    /// How many instances are kept.
    pub(super) kept: usize,
    /// Whether it is told, and how many were not told before.
    pub(super) told: Option<More>,
}

/// An instance's metadata have a weight that is none: what Consul's own weights say counts.
pub(super) struct WeightIgnored<'a> {
    pub(super) service: &'a str,
    /// The instance's address.
    pub(super) instance: &'a str,
    /// What it has for a weight.
    pub(super) weight: &'a str,
    /// Whether it is told, and how many were not told before.
    pub(super) told: Option<More>,
}

/// Consul's agent has the program's entry.
pub(super) struct Registered<'a> {
    pub(super) service: &'a str,
    pub(super) id: &'a str,
}

/// Consul's agent had the program's entry and has it no more: it is registered again.
pub(super) struct RegistrationLost<'a> {
    pub(super) service: &'a str,
    /// What the agent said.
    pub(super) error: &'a ConsulError,
}

/// Consul could not be told of the program, or how it is.
pub(super) struct RegistrationFailed<'a> {
    pub(super) service: &'a str,
    pub(super) error: &'a ConsulError,
    /// Whether it is told, and how many were not told before.
    pub(super) told: Option<More>,
}

/// The program has taken its entry out.
pub(super) struct Deregistered<'a> {
    pub(super) service: &'a str,
    pub(super) id: &'a str,
}

// === impl Updated ===

impl Updated<'_> {
    pub(super) fn emit(&self) {
        let service = || [self.service.to_owned().into()];
        DESTINATION_NUMBER
            .with(service())
            .set(self.instances as f64);
        DISCOVERY_DURATION
            .with(service())
            .record(self.took.as_nanos() as f64);
        // From 0 on: a rate needs to have seen the counter before its first error.
        DISCOVERY_ERRORS.with(service()).increment(0);
        if self.changed {
            tracing::info!(
                service = self.service,
                instances = self.instances,
                "the service's instances changed"
            );
        }
    }
}

// === impl Failed ===

impl Failed<'_> {
    pub(super) fn emit(&self) {
        DISCOVERY_ERRORS
            .with([self.service.to_owned().into()])
            .increment(1);
        if let Some(more) = self.told {
            let (service, kept) = (self.service, self.kept);
            tracing::warn!(service, kept, error = %self.error, "Consul gave no instances, the last ones stay{more}");
        }
    }
}

// === impl WeightIgnored ===

impl WeightIgnored<'_> {
    pub(super) fn emit(&self) {
        let Self {
            service,
            instance,
            weight,
            told,
        } = self;
        if let Some(more) = told {
            tracing::warn!(
                service,
                instance,
                weight,
                "tributary_weight is no number from 0 to 65535 and does nothing{more}"
            );
        }
    }
}

// === impl Registered ===

impl Registered<'_> {
    pub(super) fn emit(&self) {
        let (service, id) = (self.service, self.id);
        REGISTERED.with([service.to_owned().into()]).set(1.0);
        tracing::info!(service, id, "registered in Consul");
    }
}

// === impl RegistrationLost ===

impl RegistrationLost<'_> {
    pub(super) fn emit(&self) {
        let service = self.service;
        REGISTERED.with([service.to_owned().into()]).set(0.0);
        REGISTRATION_LOST
            .with([service.to_owned().into()])
            .increment(1);
        tracing::warn!(service, error = %self.error, "Consul has forgotten this program, registering again");
    }
}

// === impl RegistrationFailed ===

impl RegistrationFailed<'_> {
    pub(super) fn emit(&self) {
        REGISTRATION_ERRORS
            .with([self.service.to_owned().into()])
            .increment(1);
        if let Some(more) = self.told {
            let service = self.service;
            tracing::warn!(service, error = %self.error, "Consul could not be told of this program{more}");
        }
    }
}

// === impl Deregistered ===

impl Deregistered<'_> {
    pub(super) fn emit(&self) {
        let (service, id) = (self.service, self.id);
        REGISTERED.with([service.to_owned().into()]).set(0.0);
        tracing::info!(service, id, "taken out of Consul");
    }
}
