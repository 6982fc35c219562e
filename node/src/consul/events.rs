//! What happens while a service is watched: the log line and the self-metric together.

use std::time::Duration;

use super::client::ConsulError;
use crate::metrics::{DESTINATION_NUMBER, DISCOVERY_DURATION, DISCOVERY_ERRORS};
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
