//! From packets and lines to the intake, with counts kept aside until the batch ends.

use std::sync::Arc;

use memchr::memchr_iter;

use super::events::{Complaints, LinesReceived, Loss, PacketsLost, Protocol, shown};
use crate::key::Kind;
use crate::sample::Sample;
use crate::source::dogstatsd::{self, Item, ParseError};
use crate::source::{Intake, Refused};

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
                lines_received: None,
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
        self.packets(std::iter::once(packet));
    }

    /// Several of them, whose samples are handed on in bulk: so the intake can look for many series at the same time.
    pub(super) fn packets<'a>(&mut self, packets: impl Iterator<Item = &'a [u8]>) {
        let mut bulk = Bulk {
            reader: self,
            samples: Vec::new(),
            lines: Vec::new(),
        };
        for packet in packets {
            let mut start = 0;
            for end in memchr_iter(b'\n', packet) {
                bulk.line(packet.get(start..end).unwrap_or_default());
                start = end + 1;
            }
            bulk.line(packet.get(start..).unwrap_or_default());
        }
        bulk.hand_over();
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
                    tally.lose(Loss::refused(sample.kind, refused), line);
                }
            }
            Item::Event(event) => intake.event(*event),
        });
        if let Err(error) = parsed {
            tally.lose(Loss::unparsed(&error), line);
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

/// Samples on their way to the intake.
struct Bulk<'reader, 'a, I> {
    reader: &'reader mut LineReader<I>,
    samples: Vec<Sample<'a>>,
    /// Of each sample, the line that it is from.
    lines: Vec<&'a [u8]>,
}

/// How many samples are handed over at once, at most. More of them would be pushed out of the nearest cache before their turn comes.
const BULK: usize = 512;

impl<'a, I: Intake> Bulk<'_, 'a, I> {
    #[inline]
    fn line(&mut self, line: &'a [u8]) {
        if line.is_empty() {
            return;
        }
        if !dogstatsd::is_metric(line) {
            // In the order of the wire.
            self.hand_over();
            self.reader.line(line);
            return;
        }
        self.reader.tally.received += 1;
        let parsed = dogstatsd::parse_metric(line, |sample| {
            if self.samples.len() >= BULK {
                self.hand_over();
            }
            self.samples.push(sample);
            self.lines.push(line);
        });
        if let Err(error) = parsed {
            self.reader.tally.lose(Loss::unparsed(&error), line);
        }
    }

    fn hand_over(&mut self) {
        let LineReader { intake, tally } = &mut *self.reader;
        let (samples, lines) = (&self.samples, &self.lines);
        intake.samples(samples, &mut |place, refused| {
            if let (Some(sample), Some(line)) = (samples.get(place), lines.get(place)) {
                tally.lose(Loss::refused(sample.kind, refused), line);
            }
        });
        self.samples.clear();
        self.lines.clear();
    }
}

/// Counts of one reader since it last published them.
struct Tally {
    protocol: Protocol,
    complaints: Arc<Complaints>,
    received: u64,
    /// Where they are published; looked up once.
    lines_received: Option<LinesReceived>,
    /// Few different ones, and mostly none.
    lost: Vec<(Loss, u64)>,
    /// The first loss of the batch, for people.
    example: Option<String>,
}

impl Loss {
    fn refused(kind: Kind, refused: Refused) -> Self {
        let packet_type = match kind {
            Kind::Status => "service_check",
            _ => "metric",
        };
        Self {
            packet_type,
            reason: refused.cause,
        }
    }

    fn unparsed(error: &ParseError) -> Self {
        Self {
            packet_type: error.packet_type(),
            reason: error.cause(),
        }
    }
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
            self.lines_received
                .get_or_insert_with(|| LinesReceived::by(self.protocol))
                .emit(count);
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
