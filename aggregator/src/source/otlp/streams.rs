//! Cumulative values of applications, and what came since the last one.
//!
//! A stream that is seen for the first time and had begun before this source did cannot say how much of its value is new: its first value is only what the next
//! is compared with. One that began later is new as a whole. A stream that begins again, by its start time or because its value has fallen, counts from
//! zero. Values out of their order, or sent again, count for nothing. All that is bounded in number, and forgotten after a time of silence.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// What is remembered of all streams.
#[derive(Debug)]
pub(super) struct Streams {
    kept: Mutex<Kept>,
    most: usize,
    expiry: Duration,
    /// When this source began, in nanoseconds since 1970.
    began: u64,
}

#[derive(Debug)]
struct Kept {
    streams: HashMap<u128, Stream>,
    looked: Instant,
}

#[derive(Debug)]
struct Stream {
    span: Span,
    seen: Instant,
    value: Total,
}

/// From when to when a value was counted, in nanoseconds since 1970; 0 where it is not told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) start: u64,
    pub(super) time: u64,
}

/// What has been counted.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Total {
    /// Of a sum.
    Number(f64),
    /// Of a histogram with these bounds.
    Explicit {
        bounds: Vec<f64>,
        counts: Vec<u64>,
        sum: Option<f64>,
    },
    /// Of an exponential histogram.
    Exponential(Exponential),
}

/// An exponential histogram's counts.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Exponential {
    pub(super) scale: i32,
    pub(super) zero: u64,
    /// By index, ascending.
    pub(super) positive: Vec<(i64, u64)>,
    /// By index, ascending in magnitude.
    pub(super) negative: Vec<(i64, u64)>,
    pub(super) sum: Option<f64>,
}

/// What a value brings.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Step {
    /// So much is new.
    New(Total),
    /// It is the first, and there is nothing to compare it with.
    First,
    /// It is older than the last, or the same.
    Late,
    /// Too many streams are known.
    Full,
}

impl Streams {
    pub(super) fn new(most: usize, expiry: Duration, began: u64) -> Self {
        let kept = Kept {
            streams: HashMap::new(),
            looked: Instant::now(),
        };
        Self {
            kept: Mutex::new(kept),
            most,
            expiry,
            began,
        }
    }

    /// How many are remembered.
    pub(super) fn len(&self) -> usize {
        self.kept.lock().streams.len()
    }

    /// Takes the next value of a stream.
    pub(super) fn step(&self, stream: u128, span: Span, value: Total, now: Instant) -> Step {
        let mut kept = self.kept.lock();
        let Kept { streams, looked } = &mut *kept;
        // A look at all costs time: ten in the time that any may stay.
        if now.duration_since(*looked) * 10 >= self.expiry {
            *looked = now;
            streams.retain(|_, stream| now.duration_since(stream.seen) < self.expiry);
        }
        let count = streams.len();
        match streams.entry(stream) {
            Entry::Vacant(_) if count >= self.most => Step::Full,
            Entry::Vacant(new) => {
                let step = match span.start >= self.began {
                    true => Step::New(value.clone()),
                    false => Step::First,
                };
                new.insert(Stream {
                    span,
                    seen: now,
                    value,
                });
                step
            }
            Entry::Occupied(mut known) => {
                let known = known.get_mut();
                let late = span.time <= known.span.time && span.time != 0
                    || span.start < known.span.start && span.start != 0;
                if late {
                    known.seen = now;
                    return Step::Late;
                }
                let begun_anew = span.start > known.span.start && span.start >= known.span.time;
                let since = match begun_anew {
                    true => None,
                    false => value.since(&known.value),
                };
                let new = since.unwrap_or_else(|| value.clone());
                *known = Stream {
                    span,
                    seen: now,
                    value,
                };
                Step::New(new)
            }
        }
    }
}

impl Total {
    /// What came after `before`; `None` where that is no earlier value of the same.
    fn since(&self, before: &Self) -> Option<Self> {
        match (self, before) {
            (Self::Number(now), Self::Number(before)) => {
                (now >= before).then(|| Self::Number(now - before))
            }
            (
                Self::Explicit {
                    bounds,
                    counts,
                    sum,
                },
                Self::Explicit {
                    bounds: old_bounds,
                    counts: old_counts,
                    sum: old_sum,
                },
            ) => {
                let same = bounds == old_bounds && counts.len() == old_counts.len();
                let counts = counts
                    .iter()
                    .zip(old_counts)
                    .map(|(now, before)| now.checked_sub(*before));
                Some(Self::Explicit {
                    bounds: same.then(|| bounds.clone())?,
                    counts: counts.collect::<Option<_>>()?,
                    sum: difference(*sum, *old_sum),
                })
            }
            (Self::Exponential(now), Self::Exponential(before)) => {
                now.since(before).map(Self::Exponential)
            }
            _ => None,
        }
    }
}

impl Exponential {
    fn since(&self, before: &Self) -> Option<Self> {
        // A histogram becomes coarser as its range grows, and never finer.
        let steps = u32::try_from(before.scale - self.scale).ok()?;
        let side = |now: &[(i64, u64)], before: &[(i64, u64)]| -> Option<Vec<(i64, u64)>> {
            let mut left: Vec<(i64, u64)> = now.to_vec();
            for (index, count) in before {
                let index = index >> steps.min(63);
                let place = left.binary_search_by_key(&index, |(index, _)| *index);
                match place.ok().and_then(|place| left.get_mut(place)) {
                    Some((_, now)) => *now = now.checked_sub(*count)?,
                    None if *count == 0 => {}
                    None => return None,
                }
            }
            Some(left)
        };
        Some(Self {
            scale: self.scale,
            // Values near zero may become zeros as the threshold grows; of those it is not known which were there before.
            zero: self.zero.checked_sub(before.zero)?,
            positive: side(&self.positive, &before.positive)?,
            negative: side(&self.negative, &before.negative)?,
            sum: difference(self.sum, before.sum),
        })
    }
}

fn difference(now: Option<f64>, before: Option<f64>) -> Option<f64> {
    Some(now? - before?)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn streams() -> Streams {
        Streams::new(2, HOUR, 100)
    }

    fn number(streams: &Streams, stream: u128, start: u64, time: u64, value: f64) -> Step {
        streams.step(
            stream,
            Span { start, time },
            Total::Number(value),
            Instant::now(),
        )
    }

    fn new(value: f64) -> Step {
        Step::New(Total::Number(value))
    }

    #[test]
    fn what_is_new_is_counted_once() {
        let streams = streams();
        assert_eq!(
            number(&streams, 1, 50, 110, 1000.0),
            Step::First,
            "begun before us"
        );
        assert_eq!(number(&streams, 1, 50, 120, 1007.0), new(7.0));
        assert_eq!(
            number(&streams, 1, 50, 120, 1007.0),
            Step::Late,
            "sent again"
        );
        assert_eq!(
            number(&streams, 1, 50, 115, 1003.0),
            Step::Late,
            "out of order"
        );
        assert_eq!(number(&streams, 1, 50, 130, 1007.0), new(0.0));
        assert_eq!(number(&streams, 1, 135, 140, 3.0), new(3.0), "begun anew");
        assert_eq!(
            number(&streams, 1, 50, 150, 1010.0),
            Step::Late,
            "from the life before"
        );
        assert_eq!(number(&streams, 1, 135, 160, 2.0), new(2.0), "fallen");
        assert_eq!(
            number(&streams, 2, 105, 110, 4.0),
            new(4.0),
            "begun after us"
        );
        assert_eq!(number(&streams, 3, 105, 110, 4.0), Step::Full);
    }

    #[test]
    fn streams_without_times_are_compared_as_they_come() {
        let streams = streams();
        assert_eq!(number(&streams, 1, 0, 0, 5.0), Step::First);
        assert_eq!(number(&streams, 1, 0, 0, 6.0), new(1.0));
        assert_eq!(number(&streams, 1, 0, 0, 2.0), new(2.0));
    }

    #[test]
    fn silent_streams_make_room() {
        let streams = streams();
        let now = Instant::now();
        let step = |stream, now| {
            streams.step(
                stream,
                Span {
                    start: 105,
                    time: 110,
                },
                Total::Number(1.0),
                now,
            )
        };
        step(1, now);
        step(2, now + HOUR / 2);
        assert_eq!(step(3, now + HOUR / 2), Step::Full);
        assert_eq!(step(3, now + HOUR + HOUR / 10), new(1.0));
        assert_eq!(streams.len(), 2);
    }

    #[test]
    fn histograms_are_compared_bucket_by_bucket() {
        let explicit = |counts: &[u64], sum| Total::Explicit {
            bounds: vec![1.0],
            counts: counts.to_vec(),
            sum,
        };
        let now = explicit(&[5, 4], Some(20.0));
        assert_eq!(
            now.since(&explicit(&[2, 4], Some(15.0))),
            Some(explicit(&[3, 0], Some(5.0)))
        );
        assert_eq!(now.since(&explicit(&[6, 0], None)), None);
        assert_eq!(now.since(&Total::Number(1.0)), None);
    }

    #[test]
    fn an_exponential_histogram_that_became_coarser_is_compared_at_its_new_scale() {
        let before = Exponential {
            scale: 1,
            zero: 1,
            positive: vec![(-3, 1), (4, 2), (5, 3)],
            ..Exponential::default()
        };
        let now = Exponential {
            scale: 0,
            zero: 1,
            positive: vec![(-2, 1), (2, 6), (3, 1)],
            ..Exponential::default()
        };
        let since = now.since(&before).unwrap();
        assert_eq!(since.positive, [(-2, 0), (2, 1), (3, 1)]);
        assert_eq!(before.since(&now), None, "never finer");
    }
}
