//! The process's signals, and the time that leaving may take.
//!
//! SIGTERM and SIGINT ask for an orderly stop; a second one means "now". SIGHUP asks to read the settings again
//! ([`crate::reload`]); a program that does not follow it ignores it with a log line.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::supervisor;

/// The signals that this process listens to.
#[derive(Debug)]
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
    hang_ups: Arc<watch::Sender<u64>>,
}

/// How a stop came about, for the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopCause {
    /// SIGTERM: an init system, an orchestrator, `kill`.
    Terminate,
    /// SIGINT: Ctrl-C.
    Interrupt,
}

/// When the program was asked to leave, and how long it may take. Clones share both.
#[derive(Debug, Clone)]
pub struct Leaving {
    asked: Arc<OnceLock<Instant>>,
    bound: Arc<Mutex<Duration>>,
}

// === impl Signals ===

impl Signals {
    /// Takes the signals over; from here on none of them ends the process by itself. Each SIGHUP counts `hang_ups` up.
    /// Needs a running runtime.
    ///
    /// # Errors
    /// When the system refuses the handlers.
    pub fn take(hang_ups: Arc<watch::Sender<u64>>) -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
            hang_ups,
        })
    }

    /// The next one that asks to stop.
    pub async fn next_stop(&mut self) -> StopCause {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return StopCause::Terminate,
                _ = self.interrupt.recv() => return StopCause::Interrupt,
                _ = self.hang_up.recv() => self.hung_up(),
            }
        }
    }

    fn hung_up(&self) {
        if self.hang_ups.receiver_count() == 0 {
            tracing::info!("SIGHUP ignored, settings are read at start only");
            return;
        }
        supervisor::reloading();
        self.hang_ups.send_modify(|count| *count += 1);
    }

    /// Cancels `stop` at the first request to stop and returns at the second.
    pub async fn watch(mut self, stop: CancellationToken, leaving: Leaving) {
        let cause = self.next_stop().await;
        tracing::info!(signal = cause.name(), "stopping");
        leaving.begin();
        supervisor::stopping(leaving.gone_by().saturating_duration_since(Instant::now()));
        stop.cancel();
        let cause = self.next_stop().await;
        tracing::warn!(
            signal = cause.name(),
            "asked a second time to stop, leaving at once"
        );
    }
}

impl StopCause {
    /// The signal's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Terminate => "SIGTERM",
            Self::Interrupt => "SIGINT",
        }
    }
}

// === impl Leaving ===

/// What the chassis itself needs at the end, at most: the last self-metrics, the admin server's last answers.
const LONGEST_LAST_WORDS: Duration = Duration::from_secs(1);

impl Leaving {
    /// Not asked yet; leaving may take `bound` then.
    pub fn new(bound: Duration) -> Self {
        Self {
            asked: Arc::default(),
            bound: Arc::new(Mutex::new(bound)),
        }
    }

    /// The time counts from here, unless it does already.
    pub fn begin(&self) {
        let _ = self.asked.set(Instant::now());
    }

    /// Changes how long it may take.
    pub fn set_bound(&self, bound: Duration) {
        *self.bound.lock() = bound;
    }

    /// When the process has to be gone. Asking begins it.
    pub fn gone_by(&self) -> Instant {
        *self.asked.get_or_init(Instant::now) + *self.bound.lock()
    }

    /// When the program's own work has to be done: a tenth of the time earlier, and a second at most.
    pub fn done_by(&self) -> Instant {
        let last_words = (*self.bound.lock() / 10).min(LONGEST_LAST_WORDS);
        self.gone_by() - last_words
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_time_to_leave_counts_from_the_first_request() {
        let leaving = Leaving::new(Duration::from_secs(30));
        let asked = Instant::now();
        leaving.begin();
        tokio::time::advance(Duration::from_secs(5)).await;
        leaving.begin();
        assert_eq!(leaving.gone_by() - asked, Duration::from_secs(30));
        assert_eq!(leaving.done_by() - asked, Duration::from_secs(29));
        leaving.set_bound(Duration::from_secs(2));
        assert_eq!(leaving.done_by() - asked, Duration::from_millis(1800));
    }
}
