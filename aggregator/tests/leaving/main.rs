//! Real processes that leave, take over from each other and change their settings, with everything that they were given counted.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test ends at the first surprise"
)]

mod closed;
mod handoff;
mod inherited;
mod program;
mod reload;
mod shutdown;
mod takeover;
mod traffic;

use std::time::{Duration, Instant};

/// No test here waits longer for anything.
pub(crate) const PATIENCE: Duration = Duration::from_secs(40);

/// Waits until `what` gives something; `told` says what else is known when it does not.
pub(crate) fn eventually<T>(mut what: impl FnMut() -> Option<T>, told: impl Fn() -> String) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = what() {
            return found;
        }
        assert!(
            Instant::now() < deadline,
            "did not come about in time: {}",
            told()
        );
        std::thread::sleep(Duration::from_millis(5));
    }
}
