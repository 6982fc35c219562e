//! Agents, proxies and globals as processes on free loopback ports.
//!
//! A test reads like the deployment that it checks:
//!
//! ```no_run
//! # async fn example() -> std::io::Result<()> {
//! use tributary_integration::tier::{Binaries, Tier};
//!
//! let mut tier = Tier::new(Binaries::beside_me()?)?;
//! let global = tier.global("g1").start().await?;
//! let proxy = tier.proxy("p1").destination(&global.grpc).start().await?;
//! let agent = tier.agent("a1").forward_to(&proxy.grpc).start().await?;
//! agent.send("api.latency:12.5|ms")?;
//! # Ok(())
//! # }
//! ```

mod http;
mod nodes;
mod points;
mod ports;
mod program;

use std::io;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::TempDir;

pub use http::{Answer, get, post, put};
pub use nodes::{Aggregator, AggregatorBuilder, Proxy, ProxyBuilder};
pub use points::{Emitted, Tail, read_points};
pub use ports::free_address;
pub use program::Program;

/// How long anything that a test waits for may take before it is a failure: these machines can be slow.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// How the two programs are called.
#[derive(Debug, Clone)]
pub struct Binaries {
    /// Program and leading arguments of an aggregator.
    pub aggregator: Vec<String>,
    /// Program and leading arguments of a proxy.
    pub proxy: Vec<String>,
}

impl Binaries {
    /// Both programs out of the one binary `tributary`.
    pub fn of(tributary: &str) -> Self {
        let call = |program: &str| vec![tributary.to_owned(), program.to_owned()];
        Self {
            aggregator: call("aggregator"),
            proxy: call("proxy"),
        }
    }

    /// Both programs out of the binary that runs now.
    pub fn beside_me() -> io::Result<Self> {
        let me = std::env::current_exe()?;
        Ok(Self::of(&me.to_string_lossy()))
    }
}

/// Where a member of a tier runs.
#[derive(Debug, Clone)]
pub struct Place {
    /// The address that it listens on, and that others reach it at.
    pub host: Ipv4Addr,
    /// The command that its own call is an argument of; empty: none.
    pub prefix: Vec<String>,
}

impl Place {
    /// On the loopback of whoever starts it.
    pub fn here() -> Self {
        Self {
            host: Ipv4Addr::LOCALHOST,
            prefix: Vec::new(),
        }
    }

    fn address(&self) -> io::Result<String> {
        ports::free_address_at(self.host)
    }

    fn call(&self, call: &[String]) -> Vec<String> {
        [self.prefix.as_slice(), call].concat()
    }
}

/// A place for the configuration, output and logs of a set of processes. Dropping it ends what still runs and removes the files.
#[derive(Debug)]
pub struct Tier {
    binaries: Binaries,
    directory: TempDir,
    interval: Duration,
}

impl Tier {
    /// An empty tier in a new temporary directory.
    pub fn new(binaries: Binaries) -> io::Result<Self> {
        Ok(Self {
            binaries,
            directory: tempfile::Builder::new().prefix("tributary-").tempdir()?,
            interval: Duration::from_secs(1),
        })
    }

    /// The flush interval of every aggregator started from now on; 1 s otherwise.
    pub fn set_interval(&mut self, interval: Duration) {
        self.interval = interval;
    }

    /// Where configuration, output and logs are.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// A global: imports by gRPC and HTTP, and writes points to a file.
    pub fn global(&self, name: &str) -> AggregatorBuilder {
        AggregatorBuilder::new(self, name)
    }

    /// An agent: takes DogStatsD over UDP, writes its own points to a file and forwards the rest.
    pub fn agent(&self, name: &str) -> AggregatorBuilder {
        AggregatorBuilder::new(self, name).listening_for_statsd()
    }

    /// A proxy, without a destination as yet.
    pub fn proxy(&self, name: &str) -> ProxyBuilder {
        ProxyBuilder::new(self, name)
    }

    fn path(&self, name: &str, extension: &str) -> PathBuf {
        self.directory.path().join(format!("{name}.{extension}"))
    }
}

/// Polls until `condition` gives a value.
///
/// # Errors
/// After [`PATIENCE`], with `what` was waited for.
pub async fn wait_for<T>(
    what: &str,
    mut condition: impl AsyncFnMut() -> Option<T>,
) -> io::Result<T> {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        if let Some(value) = condition().await {
            return Ok(value);
        }
        if tokio::time::Instant::now() > deadline {
            return Err(io::Error::new(
                io::ErrorKind::TimedOut,
                format!("waited {PATIENCE:?} for {what}"),
            ));
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
