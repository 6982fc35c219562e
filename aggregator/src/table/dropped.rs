//! What the table drops without a caller to tell: the type writes the log line and the counter together.

use metrics::counter;
use tracing::debug;

/// An event beyond what one interval holds.
#[derive(Debug)]
pub(super) struct EventDropped {
    /// How many it holds.
    pub(super) limit: usize,
}

impl EventDropped {
    pub(super) fn emit(self) {
        debug!(
            limit = self.limit,
            "event dropped: the interval holds no more"
        );
        counter!("worker.events_dropped_total", "cause" => "too_many").increment(1);
    }
}
