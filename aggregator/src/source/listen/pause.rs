//! When a reader of UDP waits a moment for more datagrams before it goes back to its socket.
//!
//! Being woken costs more than reading a datagram does: at some ten thousand datagrams a second, a reader that is woken for each spends most of its
//! time in the scheduler. So a reader that has emptied its socket sleeps for up to [`LONGEST`], and one system call then brings what came
//! meanwhile. Where traffic is thin it does not: there a datagram is read at once, and nothing is to be saved.
//!
//! What always holds: a pause is so short that what comes in it leaves most of the receive buffer empty, at the rate measured as well as at
//! one that no sender is likely to reach.

use std::time::Duration;

/// The longest pause, and so the delay of a sample.
pub(super) const LONGEST: Duration = Duration::from_millis(1);

/// A shorter pause costs as much as it saves.
const SHORTEST: Duration = Duration::from_micros(50);

/// A pause is worth it from so many datagrams on.
const WORTHWHILE: f64 = 4.0;

/// The part of the buffer that may fill at the rate measured.
const SHARE: f64 = 0.25;

/// Datagrams a second at which a burst may begin within a pause: what one core can send.
const FASTEST_BURST: f64 = 1e6;

/// The part of the buffer that may fill at the rate of such a burst.
const BURST_SHARE: f64 = 0.5;

/// How much a new measurement counts.
const NEW: f64 = 0.25;

/// Bytes that Linux counts for a datagram besides its text: the structures around it, and headers.
const AROUND: f64 = 1152.0;

/// What one socket brought of late.
#[derive(Debug)]
pub(super) struct Pauses {
    /// The receive buffer, in bytes as the kernel counts them.
    room: f64,
    /// Datagrams a second.
    rate: f64,
    /// Bytes of a datagram's text.
    length: f64,
    datagrams: u64,
    bytes: u64,
}

impl Pauses {
    /// `room` is what `SO_RCVBUF` says. An unknown one (0) means that there are no pauses.
    pub(super) fn new(room: usize) -> Self {
        Self {
            room: room as f64,
            rate: 0.0,
            length: 0.0,
            datagrams: 0,
            bytes: 0,
        }
    }

    /// A datagram was read.
    #[inline]
    pub(super) fn note(&mut self, bytes: usize) {
        self.datagrams += 1;
        self.bytes += bytes as u64;
    }

    /// The socket is empty, `since` it was so the last time (or since the pause after that began) that much time has passed: how long to pause.
    pub(super) fn next(&mut self, since: Duration) -> Option<Duration> {
        let datagrams = std::mem::take(&mut self.datagrams) as f64;
        let bytes = std::mem::take(&mut self.bytes) as f64;
        if datagrams == 0.0 {
            self.rate = 0.0;
            return None;
        }
        let latest = datagrams / since.as_secs_f64().max(1e-6);
        self.rate += (latest - self.rate) * NEW;
        self.length += (bytes / datagrams - self.length) * NEW;
        let length = self.length.max(bytes / datagrams);
        pause(self.room, self.rate, self.rate.max(latest), length)
    }
}

/// How long to pause where `usual` datagrams of `length` bytes come a second, of late perhaps `peak`, and the buffer has `room` bytes.
fn pause(room: f64, usual: f64, peak: f64, length: f64) -> Option<Duration> {
    // Memory comes in powers of two, so a text may take up nearly twice its length.
    let fit = room / (AROUND + 2.0 * length);
    let safe = (fit * SHARE / peak).min(fit * BURST_SHARE / FASTEST_BURST);
    let seconds = safe.min(LONGEST.as_secs_f64());
    let is_long_enough = seconds >= SHORTEST.as_secs_f64() && seconds * usual >= WORTHWHILE;
    is_long_enough.then(|| Duration::from_secs_f64(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What Linux makes of the 2 MiB asked for by default.
    const ROOM: f64 = (4 << 20) as f64;

    #[test]
    fn thin_traffic_is_read_at_once_and_dense_traffic_after_the_longest_pause() {
        assert_eq!(pause(ROOM, 1_000.0, 1_000.0, 100.0), None);
        assert_eq!(pause(ROOM, 3_900.0, 3_900.0, 100.0), None);
        assert_eq!(pause(ROOM, 10_000.0, 10_000.0, 100.0), Some(LONGEST));
        assert_eq!(pause(ROOM, 100_000.0, 100_000.0, 100.0), Some(LONGEST));
    }

    #[test]
    fn what_comes_in_a_pause_fills_a_quarter_of_the_buffer_at_most() {
        for room in [1e3, 2e5, 425_984.0, ROOM, 64e6] {
            for length in [0.0, 30.0, 1_000.0, 4_096.0, 65_000.0] {
                for rate in [1e3, 1e4, 1e5, 1e6, 1e7] {
                    let Some(pause) = pause(room, rate, rate, length) else {
                        continue;
                    };
                    let taken = |rate: f64| pause.as_secs_f64() * rate * (AROUND + 2.0 * length);
                    assert!(taken(rate) <= room * 0.2501, "{room} {length} {rate}");
                    assert!(taken(1e6) <= room * 0.5001, "{room} {length} {rate}");
                    assert!((SHORTEST..=LONGEST).contains(&pause));
                }
            }
        }
    }

    #[test]
    fn a_small_buffer_allows_no_pause() {
        assert_eq!(pause(2e5, 1e6, 1e6, 1_000.0), None);
        assert_eq!(pause(0.0, 1e5, 1e5, 100.0), None);
    }

    #[test]
    fn a_burst_after_silence_shortens_the_pause_at_once_and_silence_ends_them() {
        let mut pauses = Pauses::new(ROOM as usize);
        let mut round = |datagrams: u32, since| {
            (0..datagrams).for_each(|_| pauses.note(100));
            pauses.next(since)
        };
        for _ in 0..20 {
            assert_eq!(round(1, Duration::from_millis(1)), None);
        }
        let mut paused = None;
        for _ in 0..20 {
            paused = round(100, Duration::from_millis(1));
        }
        assert_eq!(paused, Some(LONGEST));
        let burst = round(10_000, Duration::from_millis(5));
        assert!(burst < Some(LONGEST) && burst.is_some(), "{burst:?}");
        assert_eq!(round(0, Duration::from_millis(1)), None);
        assert_eq!(round(1, Duration::from_secs(1)), None);
    }
}
