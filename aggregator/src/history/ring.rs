//! The values of one series on a grid of whole steps.

use std::collections::VecDeque;
use std::mem::size_of;

/// The last values of a series, one for each step; NaN where there is none.
///
/// What always holds: there are never more values than `slots`, and memory is only taken for the span between the oldest and the newest one.
#[derive(Debug, Clone)]
pub(crate) struct Ring {
    /// Seconds.
    step: i64,
    slots: usize,
    /// The number of the front value's step since 1970.
    first: i64,
    values: VecDeque<f64>,
}

/// Room that a new ring takes at once, in values: many series live for a few steps only.
const FIRST_ROOM: usize = 8;

impl Ring {
    /// An empty one for so many steps of so many seconds, at least one of each.
    pub(crate) fn new(step: i64, slots: usize) -> Self {
        Self {
            step: step.max(1),
            slots: slots.max(1),
            first: 0,
            values: VecDeque::new(),
        }
    }

    pub(crate) fn step(&self) -> i64 {
        self.step
    }

    /// What its values take, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.values.capacity() * size_of::<f64>()
    }

    /// Writes the value of the step that holds `time`; the last one wins. `false` when that step is too old to be kept beside the newest.
    pub(crate) fn put(&mut self, time: i64, value: f64) -> bool {
        let slot = time.div_euclid(self.step);
        if self.values.is_empty() {
            self.first = slot;
            self.push(value);
            return true;
        }
        let last = self.last();
        if slot > last {
            self.append(slot, last, value);
            return true;
        }
        if slot < self.first {
            let span = last.saturating_sub(slot);
            if usize::try_from(span).map_or(true, |span| span >= self.slots) {
                return false;
            }
            while self.first > slot {
                self.make_room();
                self.values.push_front(f64::NAN);
                self.first -= 1;
            }
        }
        let place = usize::try_from(slot - self.first).ok();
        if let Some(place) = place.and_then(|place| self.values.get_mut(place)) {
            *place = value;
        }
        true
    }

    /// Appends the values of the steps that begin in `start..end`, NaN where there is none.
    pub(crate) fn read(&self, start: i64, end: i64, into: &mut Vec<f64>) {
        let (start, end) = (start.div_euclid(self.step), end.div_euclid(self.step));
        for slot in start..end {
            let place = usize::try_from(slot - self.first).ok();
            let value = place.and_then(|place| self.values.get(place));
            into.push(value.copied().unwrap_or(f64::NAN));
        }
    }

    fn last(&self) -> i64 {
        let length = i64::try_from(self.values.len()).unwrap_or(i64::MAX);
        self.first + length - 1
    }

    fn append(&mut self, slot: i64, last: i64, value: f64) {
        let gap = usize::try_from(slot - last).unwrap_or(usize::MAX);
        if gap >= self.slots {
            // Nothing of what is there is left: its memory may be of use to others.
            self.values = VecDeque::new();
            self.first = slot;
        } else {
            (1..gap).for_each(|_| self.push(f64::NAN));
        }
        self.push(value);
    }

    fn push(&mut self, value: f64) {
        if self.values.len() >= self.slots {
            self.values.pop_front();
            self.first += 1;
        }
        self.make_room();
        self.values.push_back(value);
    }

    /// Doubles what is there when it is full, without ever taking more than `slots`.
    fn make_room(&mut self) {
        let length = self.values.len();
        if length == self.values.capacity() {
            let more = length
                .max(FIRST_ROOM)
                .min(self.slots.saturating_sub(length));
            self.values.reserve_exact(more.max(1));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn read(ring: &Ring, start: i64, end: i64) -> Vec<Option<f64>> {
        let mut values = Vec::new();
        ring.read(start, end, &mut values);
        let told = |value: f64| (!value.is_nan()).then_some(value);
        values.into_iter().map(told).collect()
    }

    #[test]
    fn values_stay_in_their_steps_and_late_ones_find_theirs() {
        let mut ring = Ring::new(10, 4);
        assert!(ring.put(1005, 1.0) && ring.put(1021, 3.0) && ring.put(1029, 4.0));
        assert!(ring.put(1010, 2.0), "late, and still kept");
        assert!(ring.put(990, 0.5), "older than all that is there");
        assert!(!ring.put(989, 9.0), "four steps before the newest");
        let wanted = [None, Some(0.5), Some(1.0), Some(2.0), Some(4.0), None];
        assert_eq!(read(&ring, 980, 1040), wanted);
        assert!(ring.put(1030, 5.0));
        assert_eq!(read(&ring, 990, 1010), [None, Some(1.0)]);
        assert!(ring.put(5000, 6.0));
        assert_eq!(read(&ring, 4990, 5010), [None, Some(6.0)]);
        assert_eq!(ring.bytes(), 4 * 8);
    }

    #[test]
    fn a_series_of_few_values_takes_little_memory() {
        let mut ring = Ring::new(1, 100_000);
        assert_eq!(ring.bytes(), 0);
        ring.put(7, 1.0);
        assert_eq!(ring.bytes(), FIRST_ROOM * 8);
        for time in 8..200_000 {
            ring.put(time, 1.0);
        }
        assert_eq!(ring.bytes(), 100_000 * 8);
    }

    proptest! {
        /// Against a map of all that was ever written.
        #[test]
        fn a_ring_holds_the_last_value_of_each_of_the_last_steps(
            step in 1_i64..30, slots in 1_usize..40,
            points in prop::collection::vec((-500_i64..1500, 0_u32..1000), 0..120),
        ) {
            let mut ring = Ring::new(step, slots);
            let mut model = BTreeMap::new();
            for (time, value) in points {
                let slot = time.div_euclid(step);
                let newest = model.keys().next_back().copied().unwrap_or(slot).max(slot);
                let kept = usize::try_from(newest - slot).unwrap() < slots;
                prop_assert_eq!(ring.put(time, f64::from(value)), kept);
                if kept {
                    model.insert(slot, f64::from(value));
                }
                model.retain(|slot, _| usize::try_from(newest - slot).unwrap() < slots);
                prop_assert!(ring.values.len() <= slots && ring.values.capacity() <= slots.max(FIRST_ROOM));
            }
            let wanted: Vec<_> = (-600..1600).map(|slot| model.get(&slot).copied()).collect();
            prop_assert_eq!(read(&ring, -600 * step, 1600 * step), wanted);
        }
    }
}
