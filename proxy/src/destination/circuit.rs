//! Whether a destination takes part at present.
//!
//! The circuit is open while the destination is known not to answer: it cannot be connected to, it asked for patience, or it has been silent for
//! too long while something was under way. Senders that wait for acknowledgements are told at once then, instead of waiting along with it; what
//! cannot be sent again queues as ever. Whoever answers closes it.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// See the module. It starts closed.
#[derive(Debug, Default)]
pub(super) struct Circuit(Mutex<Option<Open>>);

#[derive(Debug, Clone, Copy)]
struct Open {
    since: Instant,
    cause: &'static str,
}

impl Circuit {
    /// Opens it. Returns whether it was closed.
    pub(super) fn open(&self, cause: &'static str) -> bool {
        let mut state = self.0.lock();
        let since = state.map_or_else(Instant::now, |open| open.since);
        state.replace(Open { since, cause }).is_none()
    }

    /// Closes it. Returns how long it was open, if it was.
    pub(super) fn close(&self) -> Option<Duration> {
        self.0.lock().take().map(|open| open.since.elapsed())
    }

    /// Why it is open, if it is.
    pub(super) fn cause(&self) -> Option<&'static str> {
        self.0.lock().map(|open| open.cause)
    }

    /// How long it has been open, if it is.
    pub(super) fn open_for(&self) -> Option<Duration> {
        self.0.lock().map(|open| open.since.elapsed())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_opens_once_and_counts_from_then_on_until_somebody_answers() {
        let circuit = Circuit::default();
        assert_eq!((circuit.cause(), circuit.close()), (None, None));
        assert!(circuit.open("connect"));
        let before = circuit.open_for().unwrap();
        std::thread::sleep(Duration::from_millis(2));
        assert!(!circuit.open("stalled"));
        assert_eq!(circuit.cause(), Some("stalled"));
        assert!(circuit.open_for().unwrap() > before);
        assert!(circuit.close().is_some());
        assert_eq!(circuit.open_for(), None);
    }
}
