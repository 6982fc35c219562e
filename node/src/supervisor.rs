//! What the supervisor that started this process is told of it, by `sd_notify(3)`: when it is up, what it is doing, and that it is alive.
//!
//! Nothing is told where `NOTIFY_SOCKET` is not set, and a supervisor that cannot be told changes nothing.

use std::time::Duration;

use sd_notify::NotifyState;
use tokio_util::sync::CancellationToken;

/// Beyond the time to leave: for the process to be gone.
const MARGIN: Duration = Duration::from_secs(5);

/// Everything listens.
pub(crate) fn started() {
    tell(&[NotifyState::Ready, NotifyState::Status("running")]);
}

/// The settings are being read again.
pub(crate) fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(error) => tracing::debug!(%error, "no clock to tell the supervisor the time by"),
    }
}

/// It goes on after [`reloading`]: with new settings or the old ones, as `outcome` says in words for a person.
pub(crate) fn reloaded(outcome: &str) {
    tell(&[NotifyState::Ready, NotifyState::Status(outcome)]);
}

/// It leaves, and takes `within` at most: the supervisor is asked for that much patience.
pub(crate) fn stopping(within: Duration) {
    let patience = u32::try_from((within + MARGIN).as_micros()).unwrap_or(u32::MAX);
    tell(&[
        NotifyState::Stopping,
        NotifyState::ExtendTimeoutUsec(patience),
        NotifyState::Status("leaving"),
    ]);
}

/// Tells that it lives, as often as was asked for (`WATCHDOG_USEC`), until `gone`: a process whose tasks are not run any more is silent.
pub(crate) async fn keep_alive(gone: CancellationToken) {
    let Some(patience) = sd_notify::watchdog_enabled().filter(|patience| !patience.is_zero())
    else {
        return;
    };
    let mut ticks = tokio::time::interval(patience / 3);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    while gone.run_until_cancelled(ticks.tick()).await.is_some() {
        // A supervisor that does not read must not hold a thread of the runtime.
        let told = tokio::task::spawn_blocking(|| tell(&[NotifyState::Watchdog]));
        gone.run_until_cancelled(told).await;
    }
}

fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(%error, "the supervisor cannot be told");
    }
}
