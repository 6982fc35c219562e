//! Errors that repeat: the first is told, the next are counted and told as a sum.
//!
//! A destination that is down makes the same line thousands of times a second; a log full of it hides everything else.

use std::collections::HashMap;
use std::fmt;
use std::hash::Hash;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// How often the same thing is told at most.
pub const PERIOD: Duration = Duration::from_secs(10);

// Who is told apart; further ones share one count, so that hostile peers cannot fill the memory.
const MOST_KEYS: usize = 1024;

/// Lets the first happening through for each key and sums up what follows within the period.
///
/// ```
/// # let repeats = tributary_node::repeats::Repeats::default();
/// # let (destination, error) = ("global-1:8128", "refused");
/// if let Some(more) = repeats.tell(&destination) {
///     tracing::warn!(destination, error, "cannot deliver{more}");
/// }
/// ```
#[derive(Debug)]
pub struct Repeats<K> {
    period: Duration,
    state: Mutex<State<K>>,
}

#[derive(Debug)]
struct State<K> {
    known: HashMap<K, Entry>,
    others: Option<Entry>,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    told: Instant,
    untold: u64,
}

/// How many more there were since the last one that was told; empty when displayed where there were none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct More(pub u64);

// === impl Repeats ===

impl<K: Hash + Eq + Clone> Repeats<K> {
    /// Tells each key at most once in `period`.
    pub fn new(period: Duration) -> Self {
        Self {
            period,
            state: Mutex::new(State {
                known: HashMap::new(),
                others: None,
            }),
        }
    }

    /// It happened to `key`: `Some` when it is to be told, with how many were held back before.
    pub fn tell(&self, key: &K) -> Option<More> {
        self.tell_at(key, Instant::now())
    }

    fn tell_at(&self, key: &K, now: Instant) -> Option<More> {
        let mut state = self.state.lock();
        let period = self.period;
        if !state.known.contains_key(key) && state.known.len() >= MOST_KEYS {
            // Silent ones make room.
            state
                .known
                .retain(|_, entry| entry.untold > 0 || now.duration_since(entry.told) < period);
        }
        let full = state.known.len() >= MOST_KEYS;
        let State { known, others } = &mut *state;
        match known.get_mut(key) {
            Some(entry) => entry.tell(now, period),
            None if full => match others {
                Some(entry) => entry.tell(now, period),
                None => {
                    *others = Some(Entry {
                        told: now,
                        untold: 0,
                    });
                    Some(More(0))
                }
            },
            None => {
                known.insert(
                    key.clone(),
                    Entry {
                        told: now,
                        untold: 0,
                    },
                );
                Some(More(0))
            }
        }
    }

    /// What was held back and has not been told although its period is over: for a timer, so that the last ones before
    /// silence are not forgotten.
    pub fn overdue(&self) -> Vec<(K, More)> {
        self.overdue_at(Instant::now())
    }

    fn overdue_at(&self, now: Instant) -> Vec<(K, More)> {
        let mut state = self.state.lock();
        let mut found = Vec::new();
        for (key, entry) in &mut state.known {
            let over = now.duration_since(entry.told) >= self.period;
            if entry.untold > 0 && over {
                entry.told = now;
                found.push((key.clone(), More(std::mem::take(&mut entry.untold))));
            }
        }
        found
    }
}

impl<K: Hash + Eq + Clone> Default for Repeats<K> {
    fn default() -> Self {
        Self::new(PERIOD)
    }
}

// === impl Entry ===

impl Entry {
    fn tell(&mut self, now: Instant, period: Duration) -> Option<More> {
        if now.duration_since(self.told) < period {
            self.untold += 1;
            return None;
        }
        self.told = now;
        Some(More(std::mem::take(&mut self.untold)))
    }
}

// === impl More ===

impl More {
    /// A line without the sum at its end, if it has one.
    pub(crate) fn cut(line: &str) -> &str {
        let digits = |sum: &str| {
            sum.bytes()
                .all(|byte| byte.is_ascii_digit() || byte == b',')
        };
        line.strip_suffix(" more")
            .and_then(|line| line.rsplit_once(" … and "))
            .filter(|(_, sum)| digits(sum))
            .map_or(line, |(line, _)| line)
    }
}

impl fmt::Display for More {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == 0 {
            return Ok(());
        }
        write!(f, " … and {} more", Grouped(self.0))
    }
}

/// A number with a comma between thousands.
struct Grouped(u64);

impl fmt::Display for Grouped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 >= 1000 {
            write!(f, "{},{:03}", Self(self.0 / 1000), self.0 % 1000)
        } else {
            write!(f, "{}", self.0)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_is_told_and_the_next_are_summed_up() {
        let (repeats, now) = (Repeats::default(), Instant::now());
        assert_eq!(repeats.tell_at(&"a", now), Some(More(0)));
        for _ in 0..1234 {
            assert_eq!(repeats.tell_at(&"a", now), None);
        }
        assert_eq!(
            repeats.tell_at(&"b", now),
            Some(More(0)),
            "another key is told at once"
        );
        assert_eq!(repeats.tell_at(&"a", now + PERIOD), Some(More(1234)));
        assert_eq!(repeats.tell_at(&"a", now + PERIOD), None);
    }

    #[test]
    fn what_was_held_back_before_silence_is_found() {
        let (repeats, now) = (Repeats::default(), Instant::now());
        repeats.tell_at(&"a", now);
        repeats.tell_at(&"a", now);
        assert_eq!(repeats.overdue_at(now), []);
        assert_eq!(repeats.overdue_at(now + PERIOD), [("a", More(1))]);
        assert_eq!(repeats.overdue_at(now + PERIOD * 2), []);
    }

    #[test]
    fn any_number_of_keys_takes_bounded_memory() {
        let (repeats, now) = (Repeats::default(), Instant::now());
        let told = (0..20_000u32)
            .filter(|key| repeats.tell_at(key, now).is_some())
            .count();
        assert_eq!(told, MOST_KEYS + 1);
        assert_eq!(repeats.state.lock().known.len(), MOST_KEYS);
        assert_eq!(
            repeats.tell_at(&1_000_000, now + PERIOD),
            Some(More(0)),
            "silent keys have made room"
        );
    }

    #[test]
    fn the_sum_reads_well() {
        assert_eq!(More(0).to_string(), "");
        assert_eq!(More(7).to_string(), " … and 7 more");
        assert_eq!(More(1_234_005).to_string(), " … and 1,234,005 more");
    }
}
