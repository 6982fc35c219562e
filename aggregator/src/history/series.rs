//! One series: its ring, once it is known how far apart its values are.

use std::borrow::Cow;

use super::ring::Ring;

/// What is kept of one series.
#[derive(Debug)]
pub(super) struct Series {
    state: State,
    /// The newest point's time, in seconds.
    pub(super) newest: i64,
    /// Counts up with what is written to the store: the lowest was written least recently.
    pub(super) written: u64,
}

#[derive(Debug)]
enum State {
    /// Points that passed through, in the order in which they came; their distance tells the step.
    Learning(Vec<(i64, f64)>),
    Settled(Ring),
}

/// Points that are looked at before the step is settled.
const LEARN: usize = 6;

/// Steps that people choose. What is near one of them and not regular is meant to be it.
const CHOSEN: [i64; 14] = [1, 2, 5, 10, 15, 20, 30, 60, 120, 300, 600, 900, 1800, 3600];

/// How a store lays series out.
#[derive(Debug, Clone, Copy)]
pub(super) struct Layout {
    /// Seconds.
    pub(super) retention: i64,
    /// The step of a series of which one point is known, in seconds.
    pub(super) usual_step: i64,
}

impl Layout {
    fn ring(self, step: i64) -> Ring {
        // One more than fits: both ends of the retention are within a step.
        let slots = self.retention.div_euclid(step.max(1)).saturating_add(1);
        Ring::new(step, usize::try_from(slots).unwrap_or(usize::MAX))
    }

    fn ring_of(self, points: &[(i64, f64)]) -> Ring {
        let mut times: Vec<_> = points.iter().map(|(time, _)| *time).collect();
        times.sort_unstable();
        let mut ring = self.ring(step_of(&times).unwrap_or(self.usual_step));
        for (time, value) in points {
            ring.put(*time, *value);
        }
        ring
    }
}

impl Series {
    /// A series whose step is given, or to be learned.
    pub(super) fn new(step: Option<i64>, layout: Layout) -> Self {
        let state = match step {
            Some(step) => State::Settled(layout.ring(step)),
            None => State::Learning(Vec::new()),
        };
        Self {
            state,
            newest: i64::MIN,
            written: 0,
        }
    }

    /// Takes a point. `false` when it is older than what is kept.
    pub(super) fn put(&mut self, time: i64, value: f64, step: Option<i64>, layout: Layout) -> bool {
        if let State::Learning(points) = &mut self.state {
            // A repeated time tells nothing, and its last value wins.
            match points.iter_mut().find(|(known, _)| *known == time) {
                Some((_, known)) => *known = value,
                None => points.push((time, value)),
            }
            let settled = match step {
                Some(step) => Some(points.iter().fold(layout.ring(step), |mut ring, point| {
                    ring.put(point.0, point.1);
                    ring
                })),
                None => (points.len() >= LEARN).then(|| layout.ring_of(points)),
            };
            if let Some(ring) = settled {
                self.state = State::Settled(ring);
            }
            self.newest = self.newest.max(time);
            return true;
        }
        let State::Settled(ring) = &mut self.state else {
            return false;
        };
        self.newest = self.newest.max(time);
        ring.put(time, value)
    }

    /// The values on their grid; while the step is not settled, on the one that the points known so far show.
    pub(super) fn ring(&self, layout: Layout) -> Cow<'_, Ring> {
        match &self.state {
            State::Learning(points) => Cow::Owned(layout.ring_of(points)),
            State::Settled(ring) => Cow::Borrowed(ring),
        }
    }

    /// What its values take, in bytes.
    pub(super) fn bytes(&self) -> usize {
        match &self.state {
            State::Learning(points) => points.capacity() * size_of::<(i64, f64)>(),
            State::Settled(ring) => ring.bytes(),
        }
    }
}

/// The usual distance of points at these times, which are in order; `None` for less than two times.
fn step_of(times: &[i64]) -> Option<i64> {
    let mut distances: Vec<_> = times
        .windows(2)
        .map(|pair| pair.iter().rev().copied())
        .filter_map(|mut pair| {
            let (later, earlier) = (pair.next()?, pair.next()?);
            Some(later.saturating_sub(earlier)).filter(|distance| *distance > 0)
        })
        .collect();
    distances.sort_unstable();
    let middle = *distances.get(distances.len().checked_sub(1)? / 2)?;
    if distances.iter().all(|distance| distance % middle == 0) {
        return Some(middle);
    }
    let near = |chosen: &&i64| (**chosen - middle).abs() * 10 <= **chosen;
    Some(CHOSEN.iter().find(near).copied().unwrap_or(middle))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAYOUT: Layout = Layout {
        retention: 3600,
        usual_step: 10,
    };

    #[test]
    fn the_step_is_the_usual_distance() {
        for (times, step) in [
            (vec![], None),
            (vec![100], None),
            (vec![100, 100], None),
            (vec![100, 107, 114, 135], Some(7)),
            (vec![100, 160, 221, 280, 340], Some(60)),
            (vec![100, 109, 120, 131, 140, 500], Some(10)),
            (vec![100, 400, 410, 420, 430, 440], Some(10)),
        ] {
            assert_eq!(step_of(&times), step, "{times:?}");
        }
    }

    #[test]
    fn points_that_came_before_the_step_was_known_are_kept() {
        let mut series = Series::new(None, LAYOUT);
        for number in 0..10_i32 {
            let time = 1000 + 60 * i64::from(number);
            assert!(series.put(time, f64::from(number), None, LAYOUT));
            let ring = series.ring(LAYOUT);
            assert_eq!(ring.step(), if number == 0 { 10 } else { 60 });
            let mut values = Vec::new();
            ring.read(time, time + ring.step(), &mut values);
            assert_eq!(values, [f64::from(number)]);
        }
        assert_eq!(series.newest, 1540);
        let mut values = Vec::new();
        series.ring(LAYOUT).read(960, 1560, &mut values);
        assert_eq!(values, (0..10).map(f64::from).collect::<Vec<_>>());
    }

    #[test]
    fn a_flush_settles_the_step() {
        let mut series = Series::new(None, LAYOUT);
        series.put(1000, 1.0, None, LAYOUT);
        series.put(1020, 2.0, Some(5), LAYOUT);
        assert_eq!(series.ring(LAYOUT).step(), 5);
    }
}
