//! The load generator: metrics of any number of series, tags and kinds, by gRPC (unary or streamed), legacy JSON or DogStatsD, as fast as the
//! other side takes them or at a rate.
//!
//! Everything is encoded before the first byte leaves, so that sending costs little beside what is measured.

pub mod command;
mod datagrams;
mod json;
mod pace;
mod stream;
mod unary;
pub mod workload;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

pub use workload::{Mix, Workload};

/// How a load travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Way {
    /// gRPC `SendMetrics`, many metrics a request.
    Unary,
    /// gRPC `SendMetricsV2` as Go's gRPC sends it: each metric in a DATA frame of its own.
    Stream,
    /// Legacy JSON, `POST /import`.
    Json,
    /// DogStatsD over UDP.
    Udp,
}

/// What is sent, how, and how fast.
#[derive(Debug, Clone)]
pub struct Plan {
    /// How.
    pub way: Way,
    /// `host:port`.
    pub to: String,
    /// Connections, or sockets, each with a sender of its own.
    pub connections: usize,
    /// Metrics in a request or lines in a datagram.
    pub batch: usize,
    /// Metrics a second over all connections; `None`: as fast as they are taken.
    pub rate: Option<u64>,
    /// What.
    pub workload: Workload,
}

/// A load under way. Dropped, it stops without waiting.
#[derive(Debug)]
pub struct Load {
    shared: Arc<Shared>,
    senders: Vec<tokio::task::JoinHandle<io::Result<()>>>,
}

/// What senders and their owner share.
#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    sent: AtomicU64,
}

impl Shared {
    fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn count(&self, metrics: usize) {
        self.sent.fetch_add(metrics as u64, Ordering::Relaxed);
    }
}

impl Load {
    /// Encodes everything, connects and starts to send.
    ///
    /// # Errors
    /// If the other side cannot be connected to.
    pub async fn start(plan: &Plan) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let connections = plan.connections.max(1);
        let rate = plan.rate.map(|rate| rate as f64 / connections as f64);
        let mut senders = Vec::new();
        match plan.way {
            Way::Unary => {
                let bodies: Arc<[_]> = unary::bodies(&plan.workload, plan.batch).into();
                // All stand before the first sends: else the many that come would wait for the few that are served.
                let mut clients = Vec::with_capacity(connections);
                for _ in 0..connections {
                    clients.push(unary::connect(&plan.to).await?);
                }
                for (number, client) in clients.into_iter().enumerate() {
                    let (bodies, shared) = (Arc::clone(&bodies), Arc::clone(&shared));
                    senders.push(tokio::spawn(async move {
                        unary::send(client, &bodies, number, rate, &shared).await
                    }));
                }
            }
            Way::Stream => {
                let pieces: Arc<[_]> = stream::pieces(&plan.workload).into();
                for number in 0..connections {
                    let peer = stream::connect(&plan.to)?;
                    let (pieces, shared) = (Arc::clone(&pieces), Arc::clone(&shared));
                    senders.push(tokio::task::spawn_blocking(move || {
                        peer.send(&pieces, number, rate, &shared)
                    }));
                }
            }
            Way::Json => {
                let bodies: Arc<[_]> = json::bodies(&plan.workload, plan.batch)?.into();
                for number in 0..connections {
                    let (to, bodies, shared) =
                        (plan.to.clone(), Arc::clone(&bodies), Arc::clone(&shared));
                    senders.push(tokio::spawn(async move {
                        json::send(&to, &bodies, number, rate, &shared).await
                    }));
                }
            }
            Way::Udp => {
                let datagrams: Arc<[_]> = datagrams::datagrams(&plan.workload, plan.batch).into();
                for number in 0..connections {
                    let socket = datagrams::connect(&plan.to)?;
                    let (datagrams, shared) = (Arc::clone(&datagrams), Arc::clone(&shared));
                    senders.push(tokio::task::spawn_blocking(move || {
                        datagrams::send(&socket, &datagrams, number, rate, &shared)
                    }));
                }
            }
        }
        Ok(Self { shared, senders })
    }

    /// Metrics that were sent so far; by gRPC and JSON: those that have an answer, or are in a stream.
    pub fn sent(&self) -> u64 {
        self.shared.sent.load(Ordering::Relaxed)
    }

    /// Lets every sender finish what it is at, and tells how many metrics were sent in all.
    ///
    /// # Errors
    /// What the first sender that failed met.
    pub async fn stop(mut self) -> io::Result<u64> {
        self.shared.stop.store(true, Ordering::Relaxed);
        for sender in std::mem::take(&mut self.senders) {
            sender.await.map_err(io::Error::other)??;
        }
        Ok(self.sent())
    }

    /// Whether a sender has failed and ended.
    pub fn has_failed(&self) -> bool {
        self.senders
            .iter()
            .any(tokio::task::JoinHandle::is_finished)
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        for sender in &self.senders {
            sender.abort();
        }
    }
}
