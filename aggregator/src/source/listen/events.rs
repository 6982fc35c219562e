//! What happens at listeners, and how it is counted and told.
//!
//! Counts are exact and go to the self-metrics. Log lines are for people, who need one example and a number: a peer that sends a million bad
//! lines a second must not fill a disk. So [`Complaints`] lets the first through and sums the rest up.

use std::fmt;
use std::sync::Once;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::metrics;

/// Lines were read, good and bad: of one protocol, time and again.
pub(super) struct LinesReceived(::metrics::Counter);

impl LinesReceived {
    pub(super) fn by(protocol: Protocol) -> Self {
        Self(metrics::RECEIVED.with([protocol.tag().into()]))
    }

    pub(super) fn emit(&self, count: u64) {
        self.0.increment(count);
    }
}

/// Something that came in was not taken.
pub(super) struct PacketsLost {
    pub(super) loss: Loss,
    pub(super) count: u64,
}

impl PacketsLost {
    /// Counts; the log line is the matter of [`Complaints`], which sees whole batches.
    pub(super) fn emit(&self) {
        metrics::PACKET_ERRORS
            .with([self.loss.packet_type.into(), self.loss.reason.into()])
            .increment(self.count);
    }
}

/// The kernel had no room for datagrams.
pub(super) struct DatagramsDropped {
    pub(super) protocol: Protocol,
    pub(super) count: u64,
}

impl DatagramsDropped {
    /// At most once a second for each socket.
    pub(super) fn emit(&self) {
        tracing::warn!(
            protocol = self.protocol.tag(),
            count = self.count,
            "the kernel dropped datagrams: raise read_buffer_size_bytes or num_readers"
        );
        metrics::KERNEL_DROPPED
            .with([self.protocol.tag().into()])
            .increment(self.count);
    }
}

/// The kernel's counts of dropped datagrams cannot be read.
pub(super) struct DropsUnknown {
    pub(super) path: &'static str,
    pub(super) error: std::io::Error,
}

impl DropsUnknown {
    /// Said once: it comes up every second, and nobody will mend it while we run.
    pub(super) fn emit(&self) {
        static SAID: Once = Once::new();
        SAID.call_once(|| {
            tracing::warn!(
                path = self.path, error = %self.error,
                "datagrams that the kernel drops are not counted"
            );
        });
    }
}

/// A peer connected to a stream listener.
pub(super) struct ConnectionOpened(pub(super) Protocol);

impl ConnectionOpened {
    pub(super) fn emit(&self) {
        metrics::CONNECTED.with([self.0.tag().into()]).increment(1);
    }
}

/// A connection ended, on whichever side.
pub(super) struct ConnectionClosed {
    pub(super) protocol: Protocol,
    /// Why: the `reason` tag.
    pub(super) reason: &'static str,
}

impl ConnectionClosed {
    pub(super) fn emit(&self) {
        tracing::debug!(
            protocol = self.protocol.tag(),
            reason = self.reason,
            "connection closed"
        );
        metrics::DISCONNECTED
            .with([self.protocol.tag().into(), self.reason.into()])
            .increment(1);
    }
}

/// A peer wanted to connect and could not.
pub(super) struct ConnectionNotTaken<'a> {
    pub(super) protocol: Protocol,
    /// Why: the `reason` tag.
    pub(super) reason: &'static str,
    pub(super) detail: &'a dyn fmt::Display,
}

impl ConnectionNotTaken<'_> {
    pub(super) fn emit(&self, complaints: &Complaints) {
        metrics::CONNECTIONS_REFUSED
            .with([self.protocol.tag().into(), self.reason.into()])
            .increment(1);
        complaints.complain(1, || format!("{}: {}", self.reason, self.detail));
    }
}

/// The system could not give us datagrams, for another reason than that there are none.
pub(super) struct ReceiveFailed {
    pub(super) protocol: Protocol,
    pub(super) error: nix::Error,
}

impl ReceiveFailed {
    pub(super) fn emit(&self, complaints: &Complaints) {
        metrics::RECEIVE_ERRORS
            .with([self.protocol.tag().into()])
            .increment(1);
        complaints.complain(1, || format!("cannot receive: {}", self.error));
    }
}

/// How a line reached us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Protocol {
    Udp,
    Tcp,
    Unix,
}

impl Protocol {
    /// As Veneur names it in its self-metrics.
    pub(super) fn tag(self) -> &'static str {
        match self {
            Self::Udp => "dogstatsd-udp",
            Self::Tcp => "dogstatsd-tcp",
            Self::Unix => "dogstatsd-unix",
        }
    }
}

/// What was lost and why, as `packet.error_total` is tagged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Loss {
    pub(super) packet_type: &'static str,
    pub(super) reason: &'static str,
}

impl Loss {
    /// A datagram over `metric_max_length`, or a line or frame of a stream over its bound.
    pub(super) const TOO_LONG: Self = Self::unknown("toolong");
    /// A stream ended, other than by a clean close, within a line or frame.
    pub(super) const CUT_SHORT: Self = Self::unknown("cut_short");

    const fn unknown(reason: &'static str) -> Self {
        Self {
            packet_type: "unknown",
            reason,
        }
    }
}

/// One log line at once, then a sum for each [`Complaints::WINDOW`].
#[derive(Debug)]
pub(in crate::source) struct Complaints {
    /// What happens too often to be logged each time.
    what: &'static str,
    window: Mutex<Option<Window>>,
}

#[derive(Debug)]
struct Window {
    since: Instant,
    unsaid: u64,
}

impl Complaints {
    pub(in crate::source) const WINDOW: Duration = Duration::from_secs(10);

    pub(in crate::source) fn about(what: &'static str) -> Self {
        Self {
            what,
            window: Mutex::new(None),
        }
    }

    /// `count` more of them; `example` shows one.
    pub(in crate::source) fn complain(&self, count: u64, example: impl FnOnce() -> String) {
        if let Some(unsaid) = self.note(count, Instant::now()) {
            self.say_sum(unsaid);
            tracing::warn!(count, example = example(), "{}", self.what);
        }
    }

    /// So many more, of which nobody needs an example.
    pub(in crate::source) fn add(&self, count: u64) {
        let fresh = || Window {
            since: Instant::now(),
            unsaid: 0,
        };
        self.window.lock().get_or_insert_with(fresh).unsaid += count;
    }

    /// Says what is unsaid, once its window is over or when everything ends.
    pub(in crate::source) fn sum_up(&self, everything_ends: bool) {
        let now = Instant::now();
        let over = self
            .window
            .lock()
            .take_if(|window| everything_ends || now.duration_since(window.since) >= Self::WINDOW);
        self.say_sum(over.map_or(0, |window| window.unsaid));
    }

    /// Whether to speak: what is unsaid of the window before, if `now` opens a new one.
    fn note(&self, count: u64, now: Instant) -> Option<u64> {
        let mut window = self.window.lock();
        match window.as_mut() {
            Some(open) if now.duration_since(open.since) < Self::WINDOW => {
                open.unsaid += count;
                None
            }
            _ => {
                let fresh = Window {
                    since: now,
                    unsaid: 0,
                };
                Some(window.replace(fresh).map_or(0, |before| before.unsaid))
            }
        }
    }

    fn say_sum(&self, unsaid: u64) {
        if unsaid > 0 {
            tracing::warn!(
                count = unsaid,
                "{}: more of them since the last message",
                self.what
            );
        }
    }
}

/// The beginning of a peer's bytes, fit for a log.
pub(in crate::source) fn shown(bytes: &[u8]) -> String {
    const SHOWN: usize = 200;
    match bytes.split_at_checked(SHOWN) {
        Some((start, rest)) if !rest.is_empty() => {
            format!("{}… ({} bytes)", start.escape_ascii(), bytes.len())
        }
        _ => bytes.escape_ascii().to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_complaint_speaks_and_the_next_ones_are_summed_up() {
        let complaints = Complaints::about("x");
        let start = Instant::now();
        assert_eq!(complaints.note(5, start), Some(0));
        assert_eq!(complaints.note(2, start + Duration::from_secs(1)), None);
        assert_eq!(complaints.note(3, start + Duration::from_secs(9)), None);
        assert_eq!(complaints.note(1, start + Complaints::WINDOW), Some(5));
        assert_eq!(complaints.note(1, start + Complaints::WINDOW), None);
    }

    #[test]
    fn summing_up_ends_the_window_only_when_it_is_over() {
        let complaints = Complaints::about("x");
        let now = Instant::now();
        assert_eq!(complaints.note(1, now), Some(0));
        complaints.sum_up(false);
        assert_eq!(complaints.note(1, now), None);
        complaints.sum_up(true);
        assert_eq!(complaints.note(1, now), Some(0));
    }
}
