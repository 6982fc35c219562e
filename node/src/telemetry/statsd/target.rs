//! The receiver and the way there.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use tokio::time::Instant;

const LOOK_UP_EVERY: Duration = Duration::from_secs(60);

/// The receiver, by name, and where that is now.
pub(super) struct Target {
    name: String,
    found: Option<(SocketAddr, UdpSocket)>,
    looked_up: Option<Instant>,
}

// === impl Target ===

impl Target {
    pub(super) fn new(name: String) -> Self {
        Self {
            name,
            found: None,
            looked_up: None,
        }
    }

    /// Sends what can be sent without waiting; how many packets could not be.
    pub(super) async fn send(&mut self, packets: &[Vec<u8>]) -> u64 {
        self.find().await;
        let Some((address, socket)) = &self.found else {
            return packets.len() as u64;
        };
        packets
            .iter()
            .filter(|packet| socket.send_to(packet, address).is_err())
            .count() as u64
    }

    /// Looks the name up again from time to time: receivers move.
    async fn find(&mut self) {
        if self.found.is_some()
            && self
                .looked_up
                .is_some_and(|at| at.elapsed() < LOOK_UP_EVERY)
        {
            return;
        }
        let looked_up =
            tokio::time::timeout(Duration::from_secs(2), tokio::net::lookup_host(&self.name)).await;
        let Ok(Ok(mut addresses)) = looked_up else {
            return;
        };
        let Some(address) = addresses.next() else {
            return;
        };
        self.looked_up = Some(Instant::now());
        if self
            .found
            .as_ref()
            .is_some_and(|(known, _)| *known == address)
        {
            return;
        }
        let any = match address {
            SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
            SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
        };
        // Not connected: a receiver that is down would make later sends fail.
        match UdpSocket::bind(any).and_then(|socket| socket.set_nonblocking(true).map(|()| socket))
        {
            Ok(socket) => self.found = Some((address, socket)),
            Err(error) => tracing::warn!(%error, "no socket for self-metrics"),
        }
    }
}
