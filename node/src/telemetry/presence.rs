//! Tag values that come and go: which are there, and how many series they may make.
//!
//! A fleet's destinations are replaced all the time, each with an address of its own. Their series must not stay for ever, and a discovery
//! gone mad must not make a million of them.

use std::collections::HashMap;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use metrics::{Key, Label};
use parking_lot::Mutex;

use super::catalog::DESTINATION;

/// How many values of the tag are shown as they are; the others' series are added up under [`OTHER`].
pub(super) const MOST_VALUES: usize = 1000;
/// The value that stands for all beyond.
const OTHER: &str = "other";
/// A gauge tells of a state that is no more. Not at once: a destination may be replaced by itself when settings are read again.
pub(super) const GAUGES_STAY: Duration = Duration::from_secs(10);
/// Long enough for each last count to be scraped.
pub(super) const COUNTERS_STAY: Duration = Duration::from_secs(120);

/// Which values are there, and how often.
static PRESENT: LazyLock<Mutex<HashMap<String, usize>>> = LazyLock::new(Mutex::default);

/// Whoever owns a destination holds this: its series are kept for as long, and a little longer.
#[derive(Debug)]
pub struct Presence(String);

/// What a recorder knows of the tag's values.
#[derive(Debug, Default)]
pub(super) struct Values {
    /// Those shown, with since when they have been seen to be gone.
    shown: HashMap<String, Option<Instant>>,
}

// === impl Presence ===

impl Presence {
    /// The destination with this address is there.
    pub fn of(destination: &str) -> Self {
        *PRESENT.lock().entry(destination.to_owned()).or_default() += 1;
        Self(destination.to_owned())
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        let mut present = PRESENT.lock();
        if let Some(count) = present.get_mut(&self.0) {
            *count -= 1;
            if *count == 0 {
                present.remove(&self.0);
            }
        }
    }
}

// === impl Values ===

impl Values {
    /// Looks who has left and who is back; whether anybody has been gone for long enough to be dropped somewhere.
    pub(super) fn look(&mut self, now: Instant) -> bool {
        let present = PRESENT.lock();
        for (value, gone) in &mut self.shown {
            match present.contains_key(value) {
                true => *gone = None,
                false => *gone = gone.or(Some(now)),
            }
        }
        drop(present);
        self.shown
            .values()
            .any(|gone| gone_for(*gone, now) >= GAUGES_STAY)
    }

    /// Whether a series is of a value that has been gone for so long.
    pub(super) fn gone(&self, key: &Key, now: Instant, at_least: Duration) -> bool {
        value_of(key).is_some_and(|value| match self.shown.get(value) {
            Some(gone) => gone_for(*gone, now) >= at_least,
            None => false,
        })
    }

    /// Forgets the values whose counters are dropped.
    pub(super) fn forget(&mut self, now: Instant) {
        self.shown
            .retain(|_, gone| gone_for(*gone, now) < COUNTERS_STAY);
    }

    /// The key that a series is shown under: another than its own only beyond the bound.
    pub(super) fn shown(&mut self, key: &Key) -> Option<Key> {
        let value = value_of(key)?;
        if self.shown.contains_key(value) {
            return None;
        }
        if self.shown.len() < MOST_VALUES {
            self.shown.insert(value.to_owned(), None);
            return None;
        }
        let labels: Vec<Label> = key
            .labels()
            .map(|label| match label.key() == DESTINATION {
                true => Label::new(DESTINATION, OTHER),
                false => label.clone(),
            })
            .collect();
        Some(Key::from_parts(key.name().to_owned(), labels))
    }
}

fn gone_for(gone: Option<Instant>, now: Instant) -> Duration {
    gone.map_or(Duration::ZERO, |since| now.duration_since(since))
}

/// The value of the tag, if a series has it; that of no destination does not count.
fn value_of(key: &Key) -> Option<&str> {
    key.labels()
        .find(|label| label.key() == DESTINATION)
        .map(Label::value)
        .filter(|value| !value.is_empty())
}
