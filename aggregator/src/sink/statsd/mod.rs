//! Sink `statsd`: points as statsd lines to another statsd server: Datadog's agent, Prometheus' statsd_exporter, Etsy's statsd, a Veneur, or ourselves.
//!
//! It is Veneur's sink `prometheus` (a repeater), with more places to repeat to. Lines are packed into packets of up to `max_packet_bytes`.
//!
//! On failure:
//! - UDP answers nothing: a datagram that gets lost on its way, or that the server has no room for, is lost without anybody knowing. An error at sending (nobody
//!   listens, no route, no such name) is counted; the packet is sent once more on a new socket, and then the batch is retriable after `backoff`, from that
//!   packet on. "Connection refused" tells of an earlier datagram, which is lost.
//! - A Unix datagram socket whose server does not keep up makes the sink wait up to `timeout`; then, and when there is no server, as above. Nothing is lost.
//! - TCP and Unix streams: a connection that ended is noticed before more is written to it. One that breaks, or takes nothing for `timeout`, is made anew, and the
//!   packet under way (up to `max_packet_bytes`) is written again: its lines may arrive twice, and what the server had not read yet before it went
//!   is lost. The protocol has no answers, so nobody can know.
//! - Packets of a batch that were sent are remembered and not sent again.
//!
//! A write takes as long as the server takes to read, `timeout` for a packet at most. Skipped are lines that are longer than a packet and names that would be
//! read as something else (`_sc`, `_e{`); and, by settings, checks and events.

mod config;
mod line;
mod target;

#[cfg(test)]
mod tests;

use async_trait::async_trait;

use self::line::Lines;
use self::target::{SendError, Target};
use super::unfinished::Unfinished;
use super::{Amount, Gather, Sink, SinkError};
use crate::backoff::Backoff;
use crate::metrics;
use crate::point::Batch;

pub use config::StatsdConfig;

/// Repeats to one server.
struct Statsd {
    name: String,
    lines: Lines,
    target: Target,
    most: usize,
    pace: Pace,
    gather: Gather,
    backoff: Backoff,
    /// A batch that is to come again.
    unfinished: Unfinished<Progress>,
}

/// How far a batch has come.
#[derive(Debug, Clone, Copy, Default)]
struct Progress {
    /// Points and events that are done with: written or skipped.
    done: Amount,
    written: Amount,
}

/// Not more than so many packets in a second, so that a server's buffer is not flooded.
#[derive(Debug)]
struct Pace {
    a_second: u32,
    started: tokio::time::Instant,
    sent: u32,
}

/// So many packets go out at once.
const BURST: u32 = 50;

impl Statsd {
    fn new(config: &StatsdConfig, name: &str) -> Result<Self, String> {
        let place = config.place()?;
        let most = config.max_packet(&place);
        Ok(Self {
            name: name.to_owned(),
            lines: config.lines(place.is_stream(), most)?,
            target: Target::new(place, config.timeout.get(), config.framing),
            most,
            pace: Pace::new(config.packets_per_second),
            gather: Gather {
                // What goes through is gathered for a moment, so that packets are full.
                amount: 10_000,
                time: config.interval.get(),
            },
            backoff: Backoff::new(config.backoff.get(), config.max_backoff.get()),
            unfinished: Unfinished::default(),
        })
    }

    async fn send(&mut self, batch: &Batch, progress: &mut Progress) -> Result<(), SendError> {
        let mut packet = Vec::with_capacity(self.most.min(1 << 16));
        loop {
            let next = self.lines.fill(&mut packet, self.most, batch, *progress);
            if !packet.is_empty() {
                self.pace.keep().await;
                if let Err(error) = self.target.send(&packet).await {
                    self.failed(&error);
                    // The server may have been started anew just now.
                    self.target.send(&packet).await.inspect_err(|error| {
                        self.failed(error);
                    })?;
                }
                self.sent();
            }
            let over = packet.is_empty();
            *progress = next;
            if over {
                return Ok(());
            }
        }
    }

    fn failed(&self, error: &SendError) {
        metrics::STATSD_SINK_ERRORS
            .with([self.name.clone().into(), error.cause().into()])
            .increment(1);
    }

    fn sent(&self) {
        metrics::STATSD_SINK_PACKETS
            .with([self.name.clone().into()])
            .increment(1);
    }
}

impl Pace {
    fn new(a_second: u32) -> Self {
        Self {
            a_second,
            started: tokio::time::Instant::now(),
            sent: 0,
        }
    }

    /// Waits until another packet may go.
    async fn keep(&mut self) {
        if self.sent >= BURST {
            if self.a_second > 0 {
                let due = std::time::Duration::from_secs_f64(
                    f64::from(self.sent) / f64::from(self.a_second),
                );
                tokio::time::sleep_until(self.started + due).await;
            } else {
                tokio::task::yield_now().await;
            }
            self.sent = 0;
        }
        if self.sent == 0 {
            self.started = tokio::time::Instant::now();
        }
        self.sent += 1;
    }
}

#[async_trait]
impl Sink for Statsd {
    fn gather(&self) -> Gather {
        self.gather
    }

    async fn write(&mut self, batch: &Batch) -> Result<Amount, SinkError> {
        let mut progress = self.unfinished.take(batch).await.unwrap_or_default();
        if let Err(error) = self.send(batch, &mut progress).await {
            self.unfinished.keep(batch, progress).await;
            return Err(SinkError::Retriable {
                reason: format!("{}: {error}", self.target),
                after: Some(self.backoff.next(None)),
            });
        }
        self.backoff.reset();
        Ok(progress.written)
    }
}
