//! What happens at import, as types: each writes its log line and its counters together.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tracing::{debug, warn};

use crate::metrics;

/// Lets one warning a second through: what a peer sends must not be able to flood the log.
struct Seldom(Mutex<Option<Instant>>);

static SKIPS: Seldom = Seldom(Mutex::new(None));
static REFUSALS: Seldom = Seldom(Mutex::new(None));

impl Seldom {
    fn warn_now(&self) -> bool {
        let mut last = self.0.lock();
        let now = Instant::now();
        let due = last.is_none_or(|last| now.duration_since(last) >= Duration::from_secs(1));
        if due {
            *last = Some(now);
        }
        due
    }
}

/// Metrics of one batch, or a stretch of a stream, were dealt with.
#[derive(Debug)]
pub(super) struct MetricsImported<'a> {
    /// `grpc-single`, `grpc-stream` or `http`.
    pub protocol: &'static str,
    /// How many were merged.
    pub merged: u64,
    /// How many had been merged before.
    pub repeated: u64,
    /// How many were skipped, by cause: the table's, and `stamp_forgotten` and `stamp_absurd`.
    pub skipped: &'a BTreeMap<&'static str, u64>,
}

impl MetricsImported<'_> {
    pub(super) fn emit(&self) {
        metrics::IMPORTED.increment(self.merged);
        if self.repeated > 0 {
            metrics::REPEATED.increment(self.repeated);
        }
        for (cause, count) in self.skipped {
            metrics::IMPORT_ERRORS
                .with([(*cause).into()])
                .increment(*count);
        }
        if self.skipped.is_empty() {
            return;
        }
        if SKIPS.warn_now() {
            warn!(
                protocol = self.protocol,
                skipped = ?self.skipped,
                "metrics skipped at import; further ones this second are logged at level debug"
            );
        } else {
            debug!(protocol = self.protocol, skipped = ?self.skipped, "metrics skipped at import");
        }
    }
}

/// The memory of stamps has changed its size.
#[derive(Debug)]
pub(super) struct MemorySized {
    /// Heap bytes, roughly.
    pub bytes: usize,
    /// Senders that are remembered.
    pub origins: usize,
}

impl MemorySized {
    pub(super) fn emit(&self) {
        metrics::DEDUP_BYTES.set(self.bytes as f64);
        metrics::DEDUP_ORIGINS.set(self.origins as f64);
    }
}

/// A whole request was refused, and nothing of it taken.
#[derive(Debug)]
pub(super) struct RequestRefused<'a> {
    /// As in [`MetricsImported`].
    pub protocol: &'static str,
    /// Veneur's causes `deflate`, `json` and `unknown_content_encoding`; ours: `empty`, `too_large`, `leaving`, `other_interval`, and those of a frame error.
    pub cause: &'static str,
    /// What the sender is told.
    pub detail: &'a str,
}

impl RequestRefused<'_> {
    pub(super) fn emit(&self) {
        metrics::REQUESTS_REFUSED
            .with([self.protocol.into(), self.cause.into()])
            .increment(1);
        if REFUSALS.warn_now() {
            warn!(
                protocol = self.protocol,
                cause = self.cause,
                detail = self.detail,
                "import request refused; further ones this second are logged at level debug"
            );
        } else {
            debug!(
                protocol = self.protocol,
                cause = self.cause,
                detail = self.detail,
                "import request refused"
            );
        }
    }
}

/// A stream broke. Everything that came before is merged.
#[derive(Debug)]
pub(super) struct StreamBroken<'a> {
    /// What the transport says.
    pub status: &'a tonic::Status,
}

impl StreamBroken<'_> {
    pub(super) fn emit(&self) {
        metrics::REQUESTS_REFUSED
            .with(["grpc-stream".into(), "broken".into()])
            .increment(1);
        debug!(status = %self.status, "import stream broke off");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_warning_at_once_is_held_back() {
        let warnings = Seldom(Mutex::new(None));
        assert!(warnings.warn_now());
        assert!(!warnings.warn_now());
        *warnings.0.lock() = Instant::now().checked_sub(Duration::from_secs(2));
        assert!(warnings.warn_now());
    }
}
