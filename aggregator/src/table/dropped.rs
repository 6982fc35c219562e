//! What the table drops without a caller to tell: the type writes the log line and the counter together.

use tracing::debug;

use crate::metrics::EVENTS_DROPPED;

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
        EVENTS_DROPPED.with(["too_many".into()]).increment(1);
    }
}
