//! Sends a round's samples as DogStatsD, spread over time and over the agents.

use std::fmt::Write as _;
use std::io;
use std::time::Duration;

use tokio::net::UdpSocket;

use super::now;
use super::truth::{DURATION, ENDPOINTS, REQUESTS, Round, USERS};
use crate::tier::Aggregator;

/// Datagrams stay under an Ethernet frame's payload, as statsd clients keep them.
const DATAGRAM: usize = 1_400;

/// How often a portion of the load leaves.
const STEP: Duration = Duration::from_millis(5);

/// One socket for each agent.
pub(super) struct Load {
    sockets: Vec<UdpSocket>,
}

impl Load {
    pub(super) fn new(agents: &[Aggregator]) -> io::Result<Self> {
        let sockets = agents
            .iter()
            .map(|agent| {
                let socket = std::net::UdpSocket::bind("127.0.0.1:0")?;
                socket.connect(&agent.statsd)?;
                socket.set_nonblocking(true)?;
                UdpSocket::from_std(socket)
            })
            .collect::<io::Result<_>>()?;
        Ok(Self { sockets })
    }

    /// Sends all of the round between `start` (since the epoch) and `start + span`.
    pub(super) async fn send(
        &self,
        round: &Round,
        start: Duration,
        span: Duration,
    ) -> io::Result<()> {
        let datagrams = datagrams(round);
        tokio::time::sleep(start.saturating_sub(now())).await;
        let mut sent = 0;
        while sent < datagrams.len() {
            let share = (now().saturating_sub(start).as_secs_f64() / span.as_secs_f64()).min(1.0);
            let due = ((datagrams.len() as f64 * share) as usize).min(datagrams.len());
            for (number, datagram) in datagrams.iter().enumerate().take(due).skip(sent) {
                // Neighbouring datagrams go to different agents: every series is seen by all of them.
                let socket = &self.sockets[number % self.sockets.len()];
                socket.send(datagram.as_bytes()).await?;
            }
            sent = sent.max(due);
            tokio::time::sleep(STEP).await;
        }
        Ok(())
    }
}

fn datagrams(round: &Round) -> Vec<String> {
    let mut all = Vec::new();
    let mut open = String::with_capacity(DATAGRAM);
    let mut line = String::new();
    for request in &round.requests {
        let (endpoint, _) = ENDPOINTS[request.endpoint];
        line.clear();
        // Writing into a string cannot fail.
        let _ = write!(
            line,
            "{DURATION}:{ms:.3}|ms|#endpoint:{endpoint},{tag}\n{USERS}:u{user}|s|#{tag}\n{REQUESTS}:1|c|#{tag},veneurglobalonly\n",
            ms = request.milliseconds,
            tag = round.tag,
            user = request.user,
        );
        if open.len() + line.len() > DATAGRAM {
            all.push(std::mem::replace(
                &mut open,
                String::with_capacity(DATAGRAM),
            ));
        }
        open.push_str(&line);
    }
    if !open.is_empty() {
        all.push(open);
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_request_is_in_some_datagram_and_none_is_too_long() {
        let round = Round::random(7, Duration::ZERO, 9_000);
        let datagrams = datagrams(&round);
        assert!(datagrams.iter().all(|datagram| datagram.len() <= DATAGRAM));
        let counted = datagrams
            .iter()
            .flat_map(|datagram| datagram.lines())
            .filter(|line| line.starts_with("demo.requests:1|c"))
            .count();
        assert_eq!(counted, 3_000);
    }
}
