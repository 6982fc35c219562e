//! Live metrics for whoever asks: what passes this program now, filtered, a bounded number a second.
//!
//! `GET /api/tap?filter=…&rate=50/s` on the admin server opens a tap; each line of the answer is a JSON object: a metric, or how many were
//! left out. The tap ends when the client goes, or the program.
//!
//! What always holds: while nobody listens, a metric costs one relaxed load of a flag that nobody writes; the path of metrics never waits for
//! a tap; there are at most [`MOST_TAPS`] taps with at most [`QUEUE`] lines each; what a tap leaves out is counted and told in its
//! stream.

mod filter;
mod rate;
mod route;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use arc_swap::{ArcSwap, Guard};
use bytes::Bytes;
use parking_lot::Mutex;
use serde_json::{Map, Value};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

pub use filter::{Filter, FilterError};
pub use rate::{Rate, RateError};
pub(crate) use route::routes;

use rate::Bucket;

/// How many may listen at once.
pub const MOST_TAPS: usize = 8;

/// How many lines wait for a client that reads slowly.
pub const QUEUE: usize = 1024;

/// A metric on its way, as a tap looks at it.
pub trait Observed {
    /// The metric's name.
    fn name(&self) -> &str;

    /// `counter`, `gauge`, `histogram`, `set`, `timer` or `status`.
    fn kind(&self) -> &'static str;

    /// Hands each tag to `is_wanted` until that says yes; whether it did.
    fn any_tag(&self, is_wanted: &mut dyn FnMut(&str) -> bool) -> bool;

    /// Adds what this place knows beyond that: a value, a destination.
    fn describe(&self, line: &mut Map<String, Value>);
}

/// All taps of a program. Clones share them.
#[derive(Clone)]
pub struct Taps {
    shared: Arc<Shared>,
}

struct Shared {
    /// Whether there is any: all that the path of metrics reads while there is none.
    any: AtomicBool,
    open: ArcSwap<Vec<Arc<Tap>>>,
    /// Held while the list is exchanged.
    changing: Mutex<()>,
    ends: CancellationToken,
}

/// One listener.
#[derive(Debug)]
struct Tap {
    filter: Filter,
    bucket: Mutex<Bucket>,
    lines: mpsc::Sender<Bytes>,
    counts: Counts,
}

/// What a tap has seen.
#[derive(Debug, Default)]
struct Counts {
    /// Metrics that the filter lets through.
    matched: AtomicU64,
    /// Of those, left out because the rate was used up.
    over_rate: AtomicU64,
    /// Of those, left out because the client reads too slowly.
    queue_full: AtomicU64,
}

/// The taps that are open; to be held for a moment only.
pub struct Open(Guard<Arc<Vec<Arc<Tap>>>>);

/// The client's end of a tap: dropped, the tap is closed.
#[derive(Debug)]
struct Listener {
    taps: Taps,
    tap: Arc<Tap>,
    lines: mpsc::Receiver<Bytes>,
}

/// There are [`MOST_TAPS`] already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{MOST_TAPS} taps are open already")]
struct TooMany;

// === impl Taps ===

impl Taps {
    /// Without a tap. Those that are opened later end with `ends`.
    pub fn new(ends: CancellationToken) -> Self {
        Self {
            shared: Arc::new(Shared {
                any: AtomicBool::new(false),
                open: ArcSwap::default(),
                changing: Mutex::default(),
                ends,
            }),
        }
    }

    /// The open taps, if there are any.
    #[inline]
    pub fn open(&self) -> Option<Open> {
        match self.shared.any.load(Ordering::Relaxed) {
            false => None,
            true => Some(Open(self.shared.open.load())),
        }
    }

    fn listen(&self, filter: Filter, rate: Rate) -> Result<Listener, TooMany> {
        let (sender, lines) = mpsc::channel(QUEUE);
        let tap = Arc::new(Tap {
            filter,
            bucket: Mutex::new(Bucket::new(rate)),
            lines: sender,
            counts: Counts::default(),
        });
        self.change(|open| {
            if open.len() >= MOST_TAPS {
                return Err(TooMany);
            }
            open.push(Arc::clone(&tap));
            Ok(())
        })?;
        Ok(Listener {
            taps: self.clone(),
            tap,
            lines,
        })
    }

    fn change<T>(&self, change: impl FnOnce(&mut Vec<Arc<Tap>>) -> T) -> T {
        let _changing = self.shared.changing.lock();
        let mut open = Vec::clone(&self.shared.open.load());
        let result = change(&mut open);
        let any = !open.is_empty();
        self.shared.open.store(Arc::new(open));
        self.shared.any.store(any, Ordering::Relaxed);
        result
    }
}

impl Default for Taps {
    /// Taps that nobody ends.
    fn default() -> Self {
        Self::new(CancellationToken::new())
    }
}

impl fmt::Debug for Taps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Taps")
            .field("open", &self.shared.open.load().len())
            .finish()
    }
}

// === impl Open ===

impl Open {
    /// Shows a metric to each tap whose filter lets it through and whose rate is not used up.
    pub fn offer(&self, metric: &impl Observed) {
        for tap in self.0.iter() {
            tap.offer(metric);
        }
    }
}

// === impl Tap ===

impl Tap {
    fn offer(&self, metric: &dyn Observed) {
        if !self.filter.matches(metric) {
            return;
        }
        let counts = &self.counts;
        counts.matched.fetch_add(1, Ordering::Relaxed);
        if !self.bucket.lock().take() {
            counts.over_rate.fetch_add(1, Ordering::Relaxed);
            return;
        }
        // A place first, and only then a line to fill it.
        match self.lines.try_reserve() {
            Ok(place) => place.send(route::line(metric)),
            Err(_) => {
                counts.queue_full.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

// === impl Listener ===

impl Drop for Listener {
    fn drop(&mut self) {
        self.taps
            .change(|open| open.retain(|tap| !Arc::ptr_eq(tap, &self.tap)));
    }
}
