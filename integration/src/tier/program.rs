//! One started process.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::{Child, Command};

use super::{PATIENCE, wait_for};

/// A running process with its log in a file. Dropped, it is killed.
#[derive(Debug)]
pub struct Program {
    name: String,
    child: Child,
    call: Vec<String>,
    config: PathBuf,
    log: PathBuf,
}

impl Program {
    /// Starts `call` (program, then arguments) with `-f config`; standard output and error go to `log`.
    pub(super) fn start(
        name: &str,
        call: &[String],
        config: &Path,
        log: PathBuf,
    ) -> io::Result<Self> {
        Ok(Self {
            name: name.to_owned(),
            child: spawn(call, config, &log)?,
            call: call.to_vec(),
            config: config.to_owned(),
            log,
        })
    }

    /// Starts it anew, with the same configuration, after it has ended; its log goes on.
    pub(super) fn start_again(&mut self) -> io::Result<()> {
        self.child = spawn(&self.call, &self.config, &self.log)?;
        Ok(())
    }

    /// Ends it at once, as a crash would, and waits until it is gone.
    pub async fn kill(&mut self) -> io::Result<()> {
        self.child.kill().await
    }

    /// The process id, while it runs.
    pub fn pid(&self) -> Option<i32> {
        self.child.id().and_then(|id| id.try_into().ok())
    }

    /// Everything it logged so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// If it has ended already.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        let pid = self.pid().ok_or_else(|| self.ended_early())?;
        kill(Pid::from_raw(pid), signal).map_err(io::Error::from)
    }

    /// Asks it to end with SIGTERM and waits until it has.
    pub async fn stop(&mut self) -> io::Result<ExitStatus> {
        if self.pid().is_some() {
            self.signal(Signal::SIGTERM)?;
        }
        self.wait().await
    }

    /// Waits until it ends by itself.
    pub async fn wait(&mut self) -> io::Result<ExitStatus> {
        match tokio::time::timeout(PATIENCE, self.child.wait()).await {
            Ok(status) => status,
            Err(_) => Err(io::Error::new(
                io::ErrorKind::TimedOut,
                format!("{} did not end:\n{}", self.name, self.log()),
            )),
        }
    }

    /// Waits until `GET path` at `address` answers 200.
    pub(super) async fn until_ok(&mut self, address: &str, path: &str) -> io::Result<()> {
        let (name, log) = (self.name.clone(), self.log.clone());
        let what = format!("{name} at {address}{path}");
        let waited = wait_for(&what, async || {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Some(Err(io::Error::other(format!("{name} ended with {status}"))));
            }
            let answer = super::get(address, path).await.ok()?;
            answer.status.is_success().then_some(Ok(()))
        });
        waited.await.and_then(|result| result).map_err(|error| {
            let log = std::fs::read_to_string(log).unwrap_or_default();
            io::Error::new(error.kind(), format!("{error}\nlog of {name}:\n{log}"))
        })
    }

    /// Waits until connections are accepted at `address`.
    pub(super) async fn until_listening(&mut self, address: &str) -> io::Result<()> {
        let what = format!("{} to listen at {address}", self.name);
        let waited = wait_for(&what, async || {
            if let Ok(Some(_)) = self.child.try_wait() {
                return Some(Err(()));
            }
            tokio::net::TcpStream::connect(address).await.ok().map(Ok)
        });
        match waited.await? {
            Ok(_) => Ok(()),
            Err(()) => Err(self.ended_early()),
        }
    }

    fn ended_early(&self) -> io::Error {
        io::Error::other(format!("{} has ended:\n{}", self.name, self.log()))
    }
}

fn spawn(call: &[String], config: &Path, log: &Path) -> io::Result<Child> {
    let (program, arguments) = call.split_first().ok_or(io::ErrorKind::InvalidInput)?;
    let out = File::options().create(true).append(true).open(log)?;
    Command::new(program)
        .args(arguments)
        .arg("-f")
        .arg(config)
        .stdin(Stdio::null())
        .stdout(out.try_clone()?)
        .stderr(out)
        // Ctrl-C in a terminal reaches the whole process group: the starter decides who stops when.
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| io::Error::new(error.kind(), format!("cannot start {program}: {error}")))
}
