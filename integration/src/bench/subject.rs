//! The process that is measured: ours, or a peer.

use std::io;
use std::process::Stdio;
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

use super::row::{Row, Tested};
use crate::tier::{Binaries, Program, Tier, free_address, get, wait_for};

/// How other programs are started. Each is a shell command, which finds in its environment where to listen (`BENCH_GRPC`, `BENCH_HTTP`,
/// `BENCH_STATSD`: `host:port`), where to forward to (`BENCH_DESTINATIONS`: `host:port`, with commas) and the flush interval (`BENCH_INTERVAL`,
/// such as `10s`). It is ready once it listens on `BENCH_GRPC`, an agent on `BENCH_HTTP`.
#[derive(Debug, Clone, Default, Args)]
pub(super) struct Peers {
    /// The peer of our proxy.
    #[arg(long)]
    peer_proxy: Option<String>,
    /// The peer of our agent.
    #[arg(long)]
    peer_agent: Option<String>,
    /// The peer of our global.
    #[arg(long)]
    peer_global: Option<String>,
}

impl Peers {
    pub(super) fn of(&self, row: &Row) -> Option<&str> {
        match row.tested {
            Tested::Proxy => self.peer_proxy.as_deref(),
            Tested::Agent => self.peer_agent.as_deref(),
            Tested::Global => self.peer_global.as_deref(),
        }
    }
}

/// A started one. Dropped, it is killed.
#[derive(Debug)]
pub(super) struct Subject {
    pub(super) pid: i32,
    pub(super) grpc: String,
    pub(super) statsd: String,
    http: String,
    is_ours: bool,
    _running: Running,
}

#[derive(Debug)]
enum Running {
    Ours(
        #[allow(dead_code, reason = "it is killed when dropped")] Program,
        #[allow(dead_code, reason = "its files go with it")] Tier,
    ),
    Peer(#[allow(dead_code, reason = "it is killed when dropped")] Child),
}

impl Subject {
    /// Starts what a row measures.
    pub(super) async fn start(
        tested: Tested,
        interval: Duration,
        destinations: &[String],
        peer: Option<&str>,
    ) -> io::Result<Self> {
        match peer {
            None => Self::ours(tested, interval, destinations).await,
            Some(command) => Self::peer(command, tested, interval, destinations).await,
        }
    }

    async fn ours(tested: Tested, interval: Duration, destinations: &[String]) -> io::Result<Self> {
        let mut tier = Tier::new(Binaries::beside_me()?)?;
        tier.set_interval(interval);
        let (statsd, http, grpc, program) = match tested {
            Tested::Proxy => {
                let mut proxy = tier.proxy("proxy");
                for destination in destinations {
                    proxy = proxy.destination(destination);
                }
                let proxy = proxy.start().await?;
                (String::new(), proxy.http, proxy.grpc, proxy.program)
            }
            Tested::Agent | Tested::Global => {
                let mut aggregator = match tested {
                    Tested::Agent => tier
                        .agent("agent")
                        .with("read_buffer_size_bytes", json!("8MiB")),
                    _ => tier.global("global"),
                };
                aggregator = aggregator
                    .with("metric_sinks", json!([]))
                    .with("max_series", json!(0))
                    .with("synchronize_with_interval", json!(false));
                for destination in destinations {
                    aggregator = aggregator.forward_to(destination);
                }
                let started = aggregator.start().await?;
                (started.statsd, started.http, started.grpc, started.program)
            }
        };
        Ok(Self {
            pid: program.pid().ok_or(io::ErrorKind::NotFound)?,
            grpc,
            statsd,
            http,
            is_ours: true,
            _running: Running::Ours(program, tier),
        })
    }

    async fn peer(
        command: &str,
        tested: Tested,
        interval: Duration,
        destinations: &[String],
    ) -> io::Result<Self> {
        let (grpc, http, statsd) = (free_address()?, free_address()?, free_address()?);
        let child = Command::new("sh")
            // The process that is measured, and not a shell that waits for it.
            .args(["-c", &format!("exec {command}")])
            .env("BENCH_GRPC", &grpc)
            .env("BENCH_HTTP", &http)
            .env("BENCH_STATSD", &statsd)
            .env("BENCH_DESTINATIONS", destinations.join(","))
            .env("BENCH_INTERVAL", format!("{}s", interval.as_secs()))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .spawn()?;
        let listens = if tested == Tested::Agent {
            &http
        } else {
            &grpc
        };
        wait_for("the peer to listen", async || {
            TcpStream::connect(listens).await.ok()
        })
        .await?;
        let pid = child.id().and_then(|id| id.try_into().ok());
        Ok(Self {
            pid: pid.ok_or(io::ErrorKind::NotFound)?,
            grpc,
            statsd,
            http,
            is_ours: false,
            _running: Running::Peer(child),
        })
    }

    /// What our own counts in its ledger's totals; `None` of a peer.
    pub(super) async fn ledger(&self, key: &str) -> io::Result<Option<u64>> {
        if !self.is_ours {
            return Ok(None);
        }
        let answer = get(&self.http, "/api/ledger").await?;
        let ledger: Value = serde_json::from_slice(&answer.body)?;
        let value = ledger["totals"].get(key).or_else(|| ledger.get(key));
        Ok(value.and_then(Value::as_u64))
    }
}
