//! What an operator sees: logs on standard error, self-metrics, errors at Sentry.
//!
//! The rest of the code speaks only through `tracing` and the `metrics` facade; where that goes is decided here.

pub mod catalog;
mod errors;
pub mod level;
mod logging;
mod presence;
mod process;
mod recorder;
mod statsd;

use std::time::{Duration, Instant};

use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use errors::{DsnError, check_dsn};
pub use level::{Level, LevelError, LogHandle, LogStatus};
pub use logging::{LogFormat, Logging};
pub use presence::Presence;
pub use recorder::{InstallError, Recorder};

use crate::config::Secret;
use process::Process;

// What the process takes is read from files.
const PROCESS_EVERY: Duration = Duration::from_secs(5);

/// What is told and where to.
#[derive(Debug, Clone)]
pub struct Settings {
    /// What is logged.
    pub logging: Logging,
    /// Where errors go; empty: nowhere. The variable `SENTRY_DSN` is not read.
    pub sentry_dsn: Secret,
    /// The statsd receiver, `host:port`; empty: none.
    pub stats_address: String,
    /// How often it is told.
    pub stats_interval: Duration,
}

/// Keeps Sentry's client alive; dropped last, it waits a moment for what is still to be sent.
pub struct Guard {
    logs: Option<LogHandle>,
    sentry: Option<errors::Reporter>,
}

impl Guard {
    /// Changes what is logged; `None` where the process logged before.
    pub fn logs(&self) -> Option<LogHandle> {
        self.logs.clone()
    }
}

/// Starts logging and, with a DSN, Sentry. Call it once in a process, before anything is logged and outside the
/// runtime.
///
/// # Errors
/// When the DSN is malformed.
pub fn start(
    settings: &Settings,
    name: &'static str,
    version: &'static str,
) -> Result<Guard, DsnError> {
    let dsn = check_dsn(&settings.sentry_dsn)?;
    let sentry = dsn.map(|dsn| errors::Reporter::start(dsn, name, version));
    let logs = settings.logging.start(sentry.is_some());
    Ok(Guard { logs, sentry })
}

/// Starts what carries self-metrics on, and what tells Sentry of errors that it was not sent, until `stop`.
pub fn carry(
    guard: &Guard,
    recorder: &Recorder,
    settings: &Settings,
    version: &'static str,
    tasks: &TaskTracker,
    stop: &CancellationToken,
) {
    if !settings.stats_address.is_empty() {
        // Before anything is collected: what was counted until the first report belongs to it.
        recorder.keep_samples();
    }
    let mut process = Process::new(version);
    let (collected, stopped) = (recorder.clone(), stop.clone());
    let summary = guard.sentry.as_ref().map(errors::Reporter::summary);
    tasks.spawn(async move {
        let mut ticks = tokio::time::interval(Duration::from_secs(1));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut told: Option<Instant> = None;
        while stopped.run_until_cancelled(ticks.tick()).await.is_some() {
            if told.is_none_or(|told| told.elapsed() >= PROCESS_EVERY) {
                process.tell();
                told = Some(Instant::now());
            }
            collected.collect();
            if let Some(summary) = &summary {
                summary.tell();
            }
        }
    });
    if !settings.stats_address.is_empty() {
        let address = settings.stats_address.clone();
        tasks.spawn(statsd::report(
            recorder.clone(),
            address,
            settings.stats_interval,
            stop.clone(),
        ));
    }
}
