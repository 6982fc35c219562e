//! The time of the last point of each metric: what came before it, or again, is not stored.
//!
//! A mark moves once every sink has taken the point: see [`Marks::settle`]. What is on
//! its way to the sinks counts as seen meanwhile. Only marks that can still matter are kept: a point older than `max_age` is refused at the door.

use std::sync::Arc;

use hashbrown::HashMap;
use parking_lot::Mutex;

use super::item::Item;
use super::keys::under;

/// Metrics whose marks are kept at most; points of further ones are taken unchecked.
const MOST: usize = 1_000_000;

/// What is remembered of one metric.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Mark {
    /// The newest time that the sinks have, if they have any.
    taken: Option<i64>,
    /// The newest time that was handed over, at least as new.
    ahead: i64,
    /// Points that are on their way.
    out: u32,
    /// The newest value.
    value: f64,
    /// When the last one came, or a gap was filled.
    heard: i64,
}

/// A mark that has moved: the metric, Unix time in seconds and the value.
pub(super) type Moved = (Arc<str>, i64, f64);

/// The marks of all metrics.
#[derive(Debug)]
pub(super) struct Marks {
    table: Mutex<HashMap<Arc<str>, Mark>>,
    check: bool,
    max_age: i64,
    /// The namespaces whose metrics are never forgotten, because their gaps are filled.
    kept: Vec<String>,
}

/// What [`Marks::admit`] makes of items.
#[derive(Debug, Default)]
pub(super) struct Admitted {
    /// Those that are to be stored.
    pub(super) items: Vec<Item>,
    /// To be [settled](Marks::settle) once the fate of the items is known.
    pub(super) claims: Vec<Moved>,
    /// How many came before.
    pub(super) repeated: usize,
    /// How many are of metrics for which there is no room.
    pub(super) unmarked: usize,
}

impl Marks {
    /// `check` is whether what came before is left out.
    pub(super) fn new(check: bool, max_age: i64, kept: Vec<String>) -> Self {
        Self {
            table: Mutex::default(),
            check,
            max_age,
            kept,
        }
    }

    /// Takes over marks that somebody else moved, or that were moved before a restart.
    pub(super) fn raise(&self, known: impl IntoIterator<Item = Moved>) {
        let mut table = self.table.lock();
        for (name, seconds, value) in known {
            if table.len() >= MOST && !table.contains_key(&name) {
                continue;
            }
            let fresh = Mark {
                taken: None,
                ahead: seconds,
                out: 0,
                value,
                heard: seconds,
            };
            let mark = table.entry(name).or_insert(fresh);
            if mark.taken.is_none_or(|taken| taken < seconds) {
                mark.taken = Some(seconds);
                if seconds >= mark.ahead {
                    mark.ahead = seconds;
                    mark.value = value;
                }
            }
        }
    }

    /// Leaves out what came before, and counts the rest as on its way.
    pub(super) fn admit(&self, items: Vec<Item>, now: i64) -> Admitted {
        let mut admitted = Admitted::default();
        let mut table = self.table.lock();
        for item in items {
            if item.fill {
                admitted.items.push(item);
                continue;
            }
            let name: Arc<str> = match table.get_key_value(item.name.as_str()) {
                Some((name, _)) => Arc::clone(name),
                None if table.len() >= MOST => {
                    admitted.unmarked += 1;
                    admitted.items.push(item);
                    continue;
                }
                None => item.name.as_str().into(),
            };
            let mark = table.entry(Arc::clone(&name)).or_insert(Mark {
                taken: None,
                ahead: i64::MIN,
                out: 0,
                value: item.value,
                heard: now,
            });
            mark.heard = now;
            if item.seconds > mark.ahead {
                mark.ahead = item.seconds;
                mark.value = item.value;
            } else if self.check {
                admitted.repeated += 1;
                continue;
            }
            mark.out += 1;
            admitted.claims.push((name, item.seconds, item.value));
            admitted.items.push(item);
        }
        admitted
    }

    /// Moves the marks of points whose fate is known, and gives those that have moved. With `lost` a sink did not get all of them: marks stay,
    /// so that they can be sent again.
    pub(super) fn settle(&self, claims: &[Moved], lost: bool) -> Vec<Moved> {
        let mut moved = Vec::new();
        let mut table = self.table.lock();
        for claim in claims {
            let (name, seconds, _) = claim;
            let Some(mark) = table.get_mut(name) else {
                continue;
            };
            mark.out = mark.out.saturating_sub(1);
            if !lost && mark.taken.is_none_or(|taken| taken < *seconds) {
                mark.taken = Some(*seconds);
                moved.push(claim.clone());
            }
            if mark.out == 0 {
                mark.ahead = mark.taken.unwrap_or(i64::MIN);
            }
        }
        moved
    }

    /// The newest time of a metric that the sinks have.
    pub(super) fn last(&self, name: &str) -> Option<i64> {
        self.table.lock().get(name)?.taken
    }

    /// Whether a mark of that time can matter at the door.
    pub(super) fn matters(&self, seconds: i64, now: i64) -> bool {
        seconds >= self.oldest(now)
    }

    fn oldest(&self, now: i64) -> i64 {
        // A clock that is set back a little must not open the door again.
        now.saturating_sub(self.max_age).saturating_sub(60)
    }

    /// Forgets the marks that no longer matter, and names them.
    pub(super) fn forget(&self, now: i64) -> Vec<Arc<str>> {
        let oldest = self.oldest(now);
        let mut table = self.table.lock();
        let over = |name: &Arc<str>, mark: &mut Mark| {
            mark.out == 0
                && mark.ahead < oldest
                && mark.heard < oldest
                && !self.kept.iter().any(|namespace| under(name, namespace))
        };
        table.extract_if(over).map(|(name, _)| name).collect()
    }

    /// The metrics of a namespace that were silent for so long, with their last values. They count as heard from now on.
    pub(super) fn silent(&self, namespace: &str, silence: i64, now: i64) -> Vec<(Arc<str>, f64)> {
        let mut table = self.table.lock();
        let mut silent = Vec::new();
        for (name, mark) in table.iter_mut() {
            if now.saturating_sub(mark.heard) >= silence && under(name, namespace) {
                mark.heard = now;
                silent.push((Arc::clone(name), mark.value));
            }
        }
        silent
    }

    /// Whether what came before is left out.
    pub(super) fn check(&self) -> bool {
        self.check
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.table.lock().len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_795_177_685;

    fn item(name: &str, seconds: i64, fill: bool) -> Item {
        Item {
            posted: name.to_owned(),
            name: name.to_owned(),
            seconds,
            value: seconds as f64,
            fill,
        }
    }

    fn times(admitted: &Admitted) -> Vec<i64> {
        admitted.items.iter().map(|item| item.seconds).collect()
    }

    fn marks() -> Marks {
        Marks::new(true, 3600, vec!["kept".to_owned()])
    }

    #[test]
    fn what_is_not_newer_than_the_last_is_left_out() {
        let marks = marks();
        let items = [10, 20, 15, 20, 21].map(|seconds| item("a", seconds, false));
        let admitted = marks.admit(items.to_vec(), NOW);
        assert_eq!((times(&admitted), admitted.repeated), (vec![10, 20, 21], 2));
        let other = marks.admit(vec![item("b", 5, false)], NOW);
        assert_eq!(times(&other), [5], "each metric has its own mark");
        assert_eq!(marks.settle(&admitted.claims, false).len(), 3);
        assert_eq!(times(&marks.admit(vec![item("a", 21, false)], NOW)), [0; 0]);
    }

    #[test]
    fn what_was_lost_may_come_again_but_not_while_it_is_on_its_way() {
        let marks = marks();
        let first = marks.admit(vec![item("a", 10, false)], NOW);
        assert_eq!(marks.admit(vec![item("a", 10, false)], NOW).repeated, 1);
        assert_eq!(marks.settle(&first.claims, true), []);
        let again = marks.admit(vec![item("a", 10, false)], NOW);
        assert_eq!(times(&again), [10]);
        assert_eq!(marks.settle(&again.claims, false).len(), 1);
        assert_eq!(marks.admit(vec![item("a", 10, false)], NOW).repeated, 1);
    }

    #[test]
    fn fill_neither_looks_at_the_mark_nor_moves_it() {
        let marks = marks();
        let admitted = marks.admit(vec![item("a", 10, false), item("a", 5, true)], NOW);
        assert_eq!(times(&admitted), [10, 5]);
        let ahead = marks.admit(vec![item("a", 99, true), item("a", 11, false)], NOW);
        assert_eq!(times(&ahead), [99, 11]);
    }

    #[test]
    fn without_the_check_everything_is_taken_and_values_are_known_still() {
        let marks = Marks::new(false, 3600, Vec::new());
        let admitted = marks.admit(vec![item("a", 10, false), item("a", 10, false)], NOW);
        assert_eq!(times(&admitted), [10, 10]);
        assert_eq!(marks.silent("a", 60, NOW + 60), [("a".into(), 10.0)]);
    }

    #[test]
    fn others_marks_count_and_never_go_back() {
        let marks = marks();
        marks.raise([("a".into(), 50, 1.0)]);
        marks.raise([("a".into(), 40, 1.0)]);
        let admitted = marks.admit(vec![item("a", 50, false), item("a", 51, false)], NOW);
        assert_eq!(times(&admitted), [51]);
    }

    #[test]
    fn marks_that_cannot_matter_are_forgotten_unless_their_gaps_are_filled() {
        let marks = marks();
        let old = NOW - 3661;
        marks.raise(["a", "b", "kept.c"].map(|name| (name.into(), old, 1.0)));
        let claims = marks.admit(vec![item("b", NOW, false)], NOW).claims;
        assert_eq!(marks.forget(NOW), [Arc::<str>::from("a")]);
        assert_eq!(marks.len(), 2);
        marks.settle(&claims, false);
        assert_eq!(marks.forget(NOW + 3661), [Arc::<str>::from("b")]);
    }

    #[test]
    fn a_silent_metric_is_told_once_a_minute() {
        let marks = marks();
        let _ = marks.admit(
            vec![item("kept.a", NOW, false), item("other", NOW, false)],
            NOW,
        );
        assert_eq!(marks.silent("kept", 60, NOW + 59), []);
        let told = [("kept.a".into(), NOW as f64)];
        assert_eq!(marks.silent("kept", 60, NOW + 60), told);
        assert_eq!(marks.silent("kept", 60, NOW + 61), []);
        assert_eq!(marks.silent("kept", 60, NOW + 120), told);
        let admitted = marks.admit(vec![item("kept.a", NOW + 1, false)], NOW + 121);
        assert_eq!(times(&admitted), [NOW + 1], "the mark has not moved");
    }
}
