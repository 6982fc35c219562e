//! Timing a command.

use std::ffi::OsString;
use std::io;
use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::Command;
use tokio::signal::unix::{SignalKind, signal};

/// What became of it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ended {
    /// From its start to its end.
    pub took: Duration,
    /// Its exit code; 128 and the signal's number where a signal ended it, as shells have it.
    pub code: u8,
}

/// Runs a command to its end with this process's standard streams.
///
/// Signals that would end this process before the command go to the command instead; what a terminal sends, the command gets by itself.
///
/// # Errors
/// When it cannot be started: the exit code that shells use for that (127 not found, 126 otherwise), and the reason.
pub(super) async fn time(
    program: &OsString,
    arguments: &[OsString],
) -> Result<Ended, (u8, String)> {
    let failed = |error: io::Error| {
        let code = match error.kind() {
            io::ErrorKind::NotFound => 127,
            _ => 126,
        };
        (code, format!("{}: {error}", program.display()))
    };
    // Taken over before the command starts, so that none of them ends this process only.
    let take = |kind| signal(kind).map_err(failed);
    let mut terminate = take(SignalKind::terminate())?;
    let mut hang_up = take(SignalKind::hangup())?;
    let _interrupt = take(SignalKind::interrupt())?;
    let _quit = take(SignalKind::quit())?;
    let began = Instant::now();
    let mut child = Command::new(program)
        .args(arguments)
        .spawn()
        .map_err(failed)?;
    let pid = child.id().and_then(|id| i32::try_from(id).ok());
    let status = loop {
        let passed_on = tokio::select! {
            status = child.wait() => break status.map_err(failed)?,
            _ = terminate.recv() => Signal::SIGTERM,
            _ = hang_up.recv() => Signal::SIGHUP,
        };
        if let Some(pid) = pid {
            // It may have ended at this moment.
            let _ = kill(Pid::from_raw(pid), passed_on);
        }
    };
    let took = began.elapsed();
    let code = code(status);
    Ok(Ended { took, code })
}

fn code(status: ExitStatus) -> u8 {
    let code = status
        .code()
        .or_else(|| status.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1)
}
