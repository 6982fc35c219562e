//! Source `carbon`: what Graphite's carbon takes, so that everything that feeds a Graphite can feed Tributary.
//!
//! Text lines come over TCP and UDP, pickles over TCP. Points pass through to the sinks with the timestamps that they have, or are aggregated where that is
//! configured. What always holds: a bad line, item or pickle costs only itself, and is counted by its cause; nothing of a pickle is executed; memory for
//! each peer is bounded; sinks that cannot follow lose points by their own bounded queues, and never hold a peer up.
//!
//! Carbon's rules are kept where they lose nothing. Otherwise than carbon: a line that is not UTF-8, or too long, costs only itself and not its connection; a
//! last line without a line feed counts when its peer has closed cleanly; infinite values are refused, because few sinks can write them; tags are put into
//! one order and one notation.

mod cache;
pub mod config;
mod event;
mod frames;
pub mod line;
mod naming;
mod number;
pub mod path;
pub mod pickle;
mod serve;
mod taker;
mod udp;

#[cfg(test)]
mod tests;

use std::io;
use std::sync::Arc;

use parking_lot::Mutex;
use std::time::Duration;

use async_trait::async_trait;
use regex::Regex;
use tokio::net::{TcpListener, UdpSocket};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use self::config::{CarbonConfig, listen_address};
use self::event::Way;
use self::naming::Naming;
use self::serve::{Bounds, Listener};
use self::taker::Shared;
#[cfg(feature = "kafka")]
pub(super) use self::taker::point;
use self::udp::Datagrams;
#[cfg(test)]
use super::listen::ListenAddress;
use super::listen::{Bound, Complaints, Sockets, StatsdConfig};
use super::{Outlets, Source};
use crate::key::Kind;

/// What the configuration comes to, but for the addresses.
struct Plan {
    name: String,
    max_line: usize,
    max_frame: usize,
    max_connections: usize,
    idle: Option<Duration>,
    aggregate: bool,
    rules: Vec<(Regex, Kind)>,
    naming: Naming,
}

/// Open addresses, and what becomes of what comes there.
pub(crate) struct Carbon {
    plan: Plan,
    streams: Vec<(Way, TcpListener)>,
    datagrams: Option<UdpSocket>,
    /// Of tests, which ask for the ports that they got.
    #[cfg(test)]
    addresses: Vec<ListenAddress>,
}

impl Carbon {
    /// Opens the addresses. The error starts with the key that is to blame.
    fn open(config: &CarbonConfig, plan: Plan) -> Result<Self, String> {
        let mut carbon = Self {
            plan,
            streams: Vec::new(),
            datagrams: None,
            #[cfg(test)]
            addresses: Vec::new(),
        };
        let buffer = config.read_buffer_size_bytes.as_usize();
        for (key, way, address) in [
            ("line", Way::Line, &config.line),
            ("pickle", Way::Pickle, &config.pickle),
            ("udp", Way::Udp, &config.udp),
        ] {
            if let Some(address) = address {
                carbon
                    .listen(way, address, buffer)
                    .map_err(|error| format!("{key}: cannot listen on {address}: {error}"))?;
            }
        }
        Ok(carbon)
    }

    fn listen(&mut self, way: Way, address: &str, buffer: usize) -> Result<(), String> {
        let scheme = if way == Way::Udp { "udp" } else { "tcp" };
        let address = listen_address(scheme, address)?;
        let settings = StatsdConfig {
            read_buffer_size_bytes: buffer,
            ..StatsdConfig::default()
        };
        let said = |error: io::Error| error.to_string();
        let bound = Bound::open(&address, &settings).map_err(said)?;
        tracing::info!(source = self.plan.name, protocol = way.tag(), address = %bound.address, "listening for carbon");
        match bound.sockets {
            Sockets::Tcp(listener) => {
                let listener = TcpListener::from_std(listener).map_err(said)?;
                self.streams.push((way, listener));
            }
            Sockets::Datagrams(sockets) => {
                // One reader was asked for.
                for socket in sockets.into_iter().take(1) {
                    socket.set_nonblocking(true).map_err(said)?;
                    let socket = UdpSocket::from_std(socket.into()).map_err(said)?;
                    self.datagrams = Some(socket);
                }
            }
            Sockets::Unix(_) => return Err("is no address of TCP or UDP".to_owned()),
        }
        #[cfg(test)]
        self.addresses.push(bound.address);
        Ok(())
    }
}

#[async_trait]
impl Source for Carbon {
    async fn run(self: Box<Self>, outlets: Outlets, stop: CancellationToken) {
        let Self {
            plan,
            streams,
            datagrams,
            ..
        } = *self;
        let complaints = Arc::new(Complaints::about(
            "carbon's clients sent what could not be taken",
        ));
        let shared = Arc::new(Shared {
            outlets,
            aggregate: plan.aggregate,
            rules: plan.rules,
            naming: plan.naming,
            allowance: Arc::default(),
            complaints: Arc::clone(&complaints),
            large: Mutex::default(),
        });
        let mut tasks = JoinSet::new();
        for (way, listener) in streams {
            let bounds = Bounds {
                connections: plan.max_connections,
                idle: plan.idle,
                longest: if way == Way::Pickle {
                    plan.max_frame
                } else {
                    plan.max_line
                },
            };
            let listener = Listener {
                listener,
                way,
                bounds,
                shared: Arc::clone(&shared),
            };
            tasks.spawn(listener.run(stop.clone()));
        }
        if let Some(socket) = datagrams {
            let datagrams = Datagrams {
                socket,
                longest: plan.max_line,
                shared,
            };
            tasks.spawn(datagrams.run(stop.clone()));
        }
        let summing_up = async {
            loop {
                tokio::time::sleep(Complaints::WINDOW).await;
                complaints.sum_up(false);
            }
        };
        let _ = stop.run_until_cancelled(summing_up).await;
        while let Some(ended) = tasks.join_next().await {
            if let Err(error) = ended {
                tracing::error!(source = plan.name, %error, "a carbon listener failed");
            }
        }
        complaints.sum_up(true);
    }
}
