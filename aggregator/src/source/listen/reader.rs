//! From packets and lines to the intake, with counts kept aside until the batch ends.

use std::sync::Arc;

use memchr::memchr_iter;

use super::events::{Complaints, LinesReceived, Loss, PacketsLost, Protocol, shown};
use crate::key::Kind;
use crate::source::Intake;
use crate::source::dogstatsd::{self, Item};

/// Parses what one socket or connection brings. Nothing here is shared with another reader until [`LineReader::end_batch`].
pub(super) struct LineReader<I> {
    intake: I,
    tally: Tally,
}

impl<I: Intake> LineReader<I> {
    pub(super) fn new(intake: I, protocol: Protocol, complaints: Arc<Complaints>) -> Self {
        Self {
            intake,
            tally: Tally {
                protocol,
                complaints,
                received: 0,
                lost: Vec::new(),
                example: None,
            },
        }
    }

    pub(super) fn protocol(&self) -> Protocol {
        self.tally.protocol
    }

    pub(super) fn complaints(&self) -> &Complaints {
        &self.tally.complaints
    }

    /// A datagram or frame: lines with a break between, and after the last one or not.
    #[inline]
    pub(super) fn packet(&mut self, packet: &[u8]) {
        let mut start = 0;
        for end in memchr_iter(b'\n', packet) {
            self.line(packet.get(start..end).unwrap_or_default());
            start = end + 1;
        }
        self.line(packet.get(start..).unwrap_or_default());
    }

    /// One line without its break; an empty one is nothing.
    #[inline]
    pub(super) fn line(&mut self, line: &[u8]) {
        if line.is_empty() {
            return;
        }
        let Self { intake, tally } = self;
        tally.received += 1;
        let parsed = dogstatsd::parse(line, |item| match item {
            Item::Sample(sample) => {
                if let Err(refused) = intake.sample(&sample) {
                    let packet_type = match sample.kind {
                        Kind::Status => "service_check",
                        _ => "metric",
                    };
                    let loss = Loss {
                        packet_type,
                        reason: refused.cause,
                    };
                    tally.lose(loss, line);
                }
            }
            Item::Event(event) => intake.event(*event),
        });
        if let Err(error) = parsed {
            let loss = Loss {
                packet_type: error.packet_type(),
                reason: error.cause(),
            };
            tally.lose(loss, line);
        }
    }

    /// Bytes that never became lines.
    pub(super) fn lose(&mut self, loss: Loss, bytes: &[u8]) {
        self.tally.lose(loss, bytes);
    }

    /// Publishes what was read since the last call.
    pub(super) fn end_batch(&mut self) {
        self.intake.end_batch();
        self.tally.publish();
    }
}

/// Counts of one reader since it last published them.
struct Tally {
    protocol: Protocol,
    complaints: Arc<Complaints>,
    received: u64,
    /// Few different ones, and mostly none.
    lost: Vec<(Loss, u64)>,
    /// The first loss of the batch, for people.
    example: Option<String>,
}

impl Tally {
    #[cold]
    fn lose(&mut self, loss: Loss, bytes: &[u8]) {
        match self.lost.iter_mut().find(|(known, _)| *known == loss) {
            Some((_, count)) => *count += 1,
            None => self.lost.push((loss, 1)),
        }
        self.example.get_or_insert_with(|| {
            format!("{} {}: {}", loss.packet_type, loss.reason, shown(bytes))
        });
    }

    fn publish(&mut self) {
        if self.received > 0 {
            let count = std::mem::take(&mut self.received);
            LinesReceived {
                protocol: self.protocol,
                count,
            }
            .emit();
        }
        if self.lost.is_empty() {
            return;
        }
        let mut sum = 0;
        for (loss, count) in self.lost.drain(..) {
            sum += count;
            PacketsLost { loss, count }.emit();
        }
        let example = self.example.take().unwrap_or_default();
        self.complaints.complain(sum, || example);
    }
}
