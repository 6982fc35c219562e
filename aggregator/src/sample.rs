//! One observation as a source read it: borrowed from the source's buffer.

use crate::key::Kind;

/// One value of one line.
///
/// Name and tags are the raw bytes of the wire: the table sorts tags, applies the magic ones and checks UTF-8 only for bytes that it has not
/// seen before.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sample<'a> {
    /// The metric's name, not empty.
    pub name: &'a [u8],
    /// What the series measures.
    pub kind: Kind,
    /// The tags as they came, separated by commas, in any order; `None` without a tag section.
    pub tags: Option<&'a [u8]>,
    /// The observation.
    pub value: Value<'a>,
    /// The share of observations that was sent, above 0 and at most 1.
    pub rate: f64,
}

/// What was observed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Value<'a> {
    /// For all kinds but sets and checks; finite.
    Number(f64),
    /// A set's member.
    Member(&'a [u8]),
    /// A service check.
    Status(Check<'a>),
}

/// A service check's result.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Check<'a> {
    /// 0 OK, 1 warning, 2 critical, 3 unknown.
    pub status: u8,
    /// Free text, with line breaks as they are meant.
    pub message: &'a str,
    /// The host it speaks of, where that is not this one.
    pub hostname: Option<&'a str>,
    /// Unix time in seconds, where the check carries one.
    pub timestamp: Option<i64>,
}

/// A DogStatsD event: goes to sinks at the next flush and is never forwarded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// One line.
    pub title: String,
    /// Free text, with line breaks as they are meant.
    pub text: String,
    /// Unix time in seconds.
    pub timestamp: i64,
    /// The host it speaks of, where that is not this one.
    pub hostname: Option<String>,
    /// Groups events in the place where they are shown.
    pub aggregation_key: Option<String>,
    /// `normal` or `low`.
    pub priority: &'static str,
    /// Where it comes from, as a free word.
    pub source_type: Option<String>,
    /// `error`, `warning`, `info` or `success`.
    pub alert_type: &'static str,
    /// Sorted.
    pub tags: Vec<String>,
}
