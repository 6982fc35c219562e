//! A finished value with a timestamp: what sinks take.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::key::Tags;
use crate::points::Points;
use crate::sample::Event;

/// One finished value.
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
    /// Unix time in seconds.
    pub timestamp: i64,
    /// What a service check said and of whom.
    pub check: Option<Arc<CheckText>>,
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
    /// A service check's state: 0 OK, 1 warning, 2 critical, 3 unknown.
    Status,
}

impl PointKind {
    /// The lower-case name that files and pages show.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
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

/// What one flush hands to the sinks.
#[derive(Debug, Clone, Default)]
pub struct Batch {
    /// In no particular order.
    pub points: Points,
    /// Events since the flush before.
    pub events: Vec<Event>,
    /// The host that emits; empty when configured so.
    pub hostname: Arc<str>,
    /// How long the points' interval was.
    pub interval: Duration,
}
