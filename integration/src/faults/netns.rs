//! Network namespaces: networks of their own on one host, for the time of a test.
//!
//! Everything here is done inside the namespaces; the host's own network is never touched. Needs root and the program `ip`.

use std::fs::File;
use std::io::{self, Write as _};
use std::marker::PhantomData;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use nix::sched::{CloneFlags, setns};

/// Tells the namespaces of one process apart.
static NUMBER: AtomicU32 = AtomicU32::new(0);

/// A namespace with its loopback up. Dropped, it is removed once the processes in it have ended.
#[derive(Debug)]
pub(super) struct Namespace {
    name: String,
}

/// The thread that made this is inside a namespace until it drops it.
#[derive(Debug)]
pub(super) struct Inside {
    outside: File,
    /// It holds for one thread.
    _thread: PhantomData<*const ()>,
}

impl Namespace {
    /// Makes an empty one.
    pub(super) fn new() -> io::Result<Self> {
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("tributary-{}-{number}", std::process::id());
        run(&["ip", "netns", "add", &name], "").map_err(|error| {
            io::Error::new(
                error.kind(),
                format!("cannot make a network namespace, which takes root and the program `ip`: {error}"),
            )
        })?;
        let made = Self { name };
        made.ip(&["link", "set", "lo", "up"])?;
        Ok(made)
    }

    /// As `ip` calls it.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// The leading arguments of a command that is to run inside.
    pub(super) fn prefix(&self) -> [&str; 4] {
        ["ip", "netns", "exec", &self.name]
    }

    /// Runs `ip` with these arguments inside.
    pub(super) fn ip(&self, arguments: &[&str]) -> io::Result<String> {
        run(&[&["ip", "-n", &self.name], arguments].concat(), "")
    }

    /// Runs a command inside, with that input.
    pub(super) fn run(&self, call: &[&str], input: &str) -> io::Result<String> {
        run(&[&self.prefix(), call].concat(), input)
    }

    /// Takes this thread inside: sockets that it opens and processes that it starts from now on are there.
    pub(super) fn enter(&self) -> io::Result<Inside> {
        let outside = File::open("/proc/thread-self/ns/net")?;
        let inside = File::open(format!("/run/netns/{}", self.name))?;
        setns(inside, CloneFlags::CLONE_NEWNET)?;
        Ok(Inside {
            outside,
            _thread: PhantomData,
        })
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        if let Err(error) = run(&["ip", "netns", "delete", &self.name], "") {
            tracing::warn!(namespace = self.name, %error, "cannot remove a network namespace");
        }
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        if let Err(error) = setns(&self.outside, CloneFlags::CLONE_NEWNET) {
            tracing::warn!(%error, "cannot leave a network namespace");
        }
    }
}

/// Runs a command to its end; its standard output.
fn run(call: &[&str], input: &str) -> io::Result<String> {
    let (program, arguments) = call.split_first().ok_or(io::ErrorKind::InvalidInput)?;
    let failed = |why: String| io::Error::other(format!("{}: {why}", call.join(" ")));
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| failed(error.to_string()))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A command that fails early does not read: its own message says more than the broken pipe.
        let _ = stdin.write_all(input.as_bytes());
    }
    let output = child.wait_with_output()?;
    if !output.status.success() {
        let message = String::from_utf8_lossy(&output.stderr);
        return Err(failed(format!("{}: {}", output.status, message.trim())));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
