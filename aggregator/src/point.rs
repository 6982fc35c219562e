//! A finished value with a timestamp: what sinks take.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use crate::key::{Kind, Tags};
use crate::points::Points;
use crate::receipt::Receipt;
use crate::sample::Event;
use crate::sketch::Centroid;

/// One finished value.
///
/// What was measured together, as the fields of one event or the aggregates of one histogram, comes as points that follow one another and differ
/// only in suffix, kind and value: a sink whose format has several fields to a line joins them.
#[derive(Debug, Clone, PartialEq)]
pub struct Point {
    /// The series' name; [`Point::name`] adds the suffix.
    pub base: Arc<str>,
    /// What an aggregate adds to the name, with its dot: `.99percentile`.
    pub suffix: Option<Arc<str>>,
    /// The tags, in order.
    pub tags: Tags,
    /// How to read the value.
    pub kind: PointKind,
    /// A counter's is the interval's total.
    pub value: f64,
    /// When it holds.
    pub timestamp: Timestamp,
    /// What a service check said and of whom.
    pub check: Option<Arc<CheckText>>,
}

/// A time, in nanoseconds since 1970 (UTC): from the year 1677 to 2262.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

impl Timestamp {
    const SECOND: i64 = 1_000_000_000;

    /// From whole seconds; what is out of range becomes the nearest time in range.
    pub const fn from_seconds(seconds: i64) -> Self {
        Self(seconds.saturating_mul(Self::SECOND))
    }

    /// From seconds with a fraction; `None` for what is no number or out of range. At today's times a double keeps microseconds.
    pub fn from_seconds_f64(seconds: f64) -> Option<Self> {
        let nanos = seconds * Self::SECOND as f64;
        // Whole seconds stay exact.
        let whole = seconds.trunc();
        let in_range = nanos.abs() < i64::MAX as f64;
        in_range.then(|| {
            let fraction = ((seconds - whole) * Self::SECOND as f64).round() as i64;
            Self(
                (whole as i64)
                    .saturating_mul(Self::SECOND)
                    .saturating_add(fraction),
            )
        })
    }

    /// From milliseconds; what is out of range becomes the nearest time in range.
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis.saturating_mul(1_000_000))
    }

    /// From nanoseconds.
    pub const fn from_nanos(nanos: i64) -> Self {
        Self(nanos)
    }

    /// Now, by the system's clock.
    pub fn now() -> Self {
        std::time::SystemTime::now().into()
    }

    /// Whole seconds, rounded down.
    pub const fn seconds(self) -> i64 {
        self.0.div_euclid(Self::SECOND)
    }

    /// Seconds with a fraction.
    pub fn seconds_f64(self) -> f64 {
        let fraction = self.0.rem_euclid(Self::SECOND) as f64 / Self::SECOND as f64;
        self.seconds() as f64 + fraction
    }

    /// Whole milliseconds, rounded down.
    pub const fn millis(self) -> i64 {
        self.0.div_euclid(1_000_000)
    }

    /// Nanoseconds.
    pub const fn nanos(self) -> i64 {
        self.0
    }
}

/// What is out of range becomes the nearest time in range.
impl From<std::time::SystemTime> for Timestamp {
    fn from(time: std::time::SystemTime) -> Self {
        let nanos = |span: Duration| i64::try_from(span.as_nanos()).unwrap_or(i64::MAX);
        match time.duration_since(std::time::UNIX_EPOCH) {
            Ok(since) => Self(nanos(since)),
            Err(before) => Self(nanos(before.duration()).saturating_neg()),
        }
    }
}

/// What a service check's point carries besides its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckText {
    /// Free text.
    pub message: String,
    /// The host it speaks of, where that is not the batch's.
    pub hostname: Option<String>,
}

/// How a point's value is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PointKind {
    /// The interval's total.
    Counter,
    /// A value at a time.
    Gauge,
    /// A value at a time that is a whole number by its nature, as a size in bytes is. To sinks that tell no integers from floats it is a gauge.
    Integer,
    /// A service check's state: 0 OK, 1 warning, 2 critical, 3 unknown.
    Status,
}

impl PointKind {
    /// The lower-case name that files and pages show.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Integer => "integer",
            Self::Status => "status",
        }
    }
}

impl Point {
    /// The full name: base and suffix.
    pub fn name(&self) -> impl fmt::Display + '_ {
        Name(self)
    }

    /// Length of the full name in bytes.
    pub fn name_len(&self) -> usize {
        self.base.len() + self.suffix.as_ref().map_or(0, |suffix| suffix.len())
    }
}

struct Name<'a>(&'a Point);

impl fmt::Display for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.base)?;
        f.write_str(self.0.suffix.as_deref().unwrap_or_default())
    }
}

/// What a flush knows of one histogram or timer beyond its points: the whole distribution, for sinks that can write one.
///
/// It is another form of some of the batch's points, and nothing besides them: its name, tags and time are theirs, it goes where at least one of them
/// goes, and it is not counted. A sink that writes it has written all its points. A series without any point, as where neither aggregates nor
/// percentiles are configured, has no distribution either: nobody could route it.
#[derive(Debug, Clone, PartialEq)]
pub struct Distribution {
    /// Its points: their places in the batch. Never empty.
    pub points: Range<usize>,
    /// Histogram or timer; a timer's values are milliseconds.
    pub kind: Kind,
    /// How many samples, scaled by sample rate; above 0.
    pub count: f64,
    /// Of all values; finite.
    pub sum: f64,
    /// The smallest value.
    pub min: f64,
    /// The largest value.
    pub max: f64,
    /// The t-digest, ascending: `min` ≤ each mean ≤ `max`. [`Centroid::spans`] says where their samples lie.
    pub centroids: Arc<[Centroid]>,
}

/// What one flush, or one source, hands to the sinks.
#[derive(Debug, Clone, Default)]
pub struct Batch {
    /// In no particular order.
    pub points: Points,
    /// The distributions behind some of the points, in the points' order; empty where no sink [wants](crate::sink::Sink::wants_distributions) any.
    pub distributions: Vec<Distribution>,
    /// Events since the flush before.
    pub events: Vec<Event>,
    /// The host that emits; empty when configured so.
    pub hostname: Arc<str>,
    /// How long the points' interval was; zero for points that only pass through.
    pub interval: Duration,
    /// Who wants to know what becomes of the points.
    pub receipts: Vec<Receipt>,
}

impl Batch {
    /// Notes that a sink has lost so many of the points.
    pub(crate) fn lose(&self, points: usize) {
        self.receipts
            .iter()
            .for_each(|receipt| receipt.lose(points));
    }

    /// Notes that a sink's service refused so many of the points for good.
    pub(crate) fn refuse(&self, points: usize) {
        self.receipts
            .iter()
            .for_each(|receipt| receipt.refuse(points));
    }

    /// Whether the points of both may be written as one batch.
    pub(crate) fn goes_with(&self, other: &Self) -> bool {
        self.interval == other.interval && self.hostname == other.hostname
    }

    /// Takes in another that [goes with](Self::goes_with) this one.
    pub(crate) fn absorb(&mut self, other: Self) {
        let moved = self.points.len();
        let distributions = other.distributions.into_iter().map(|mut distribution| {
            distribution.points.start += moved;
            distribution.points.end += moved;
            distribution
        });
        self.distributions.extend(distributions);
        self.points.extend(other.points);
        self.events.extend(other.events);
        self.receipts.extend(other.receipts);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_keep_whole_seconds_exact_and_fractions_to_the_microsecond() {
        let time = Timestamp::from_seconds_f64(1_700_000_000.25).unwrap();
        assert_eq!(time.nanos(), 1_700_000_000_250_000_000);
        assert_eq!(
            (time.seconds(), time.millis()),
            (1_700_000_000, 1_700_000_000_250)
        );
        assert_eq!(time.seconds_f64(), 1_700_000_000.25);
        assert_eq!(
            Timestamp::from_seconds_f64(4e9),
            Some(Timestamp::from_seconds(4_000_000_000))
        );
        let before = Timestamp::from_seconds_f64(-1.5).unwrap();
        assert_eq!((before.seconds(), before.nanos()), (-2, -1_500_000_000));
        for bad in [f64::NAN, f64::INFINITY, 1e11, -1e11] {
            assert_eq!(Timestamp::from_seconds_f64(bad), None, "{bad}");
        }
        assert_eq!(Timestamp::from_seconds(i64::MAX).nanos(), i64::MAX);
    }
}
