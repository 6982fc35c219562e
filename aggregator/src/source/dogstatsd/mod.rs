//! The DogStatsD protocol: one line in, samples or an event out.
//!
//! Protocol: <https://docs.datadoghq.com/developers/dogstatsd/datagram_shell/>, up to its version 1.6, in the reading that Veneur gives it
//! where the two differ and nobody loses data by it. The fixture test lists each deliberate difference from Veneur.
//!
//! What always holds: no input panics, a plain metric's line is parsed without allocating, and names and tags are passed on as the bytes they
//! came as. Sorting tags, the scope tags and UTF-8 are the table's business.

mod check;
mod error;
mod event;
mod field;
mod metric;
mod number;

#[cfg(test)]
mod tests;

pub(super) use number::short_decimal;

pub use error::{CheckError, EventError, MetricError, ParseError};

use crate::sample::{Event, Sample};

/// What one line can hold.
#[derive(Debug, Clone, PartialEq)]
pub enum Item<'a> {
    /// One value of a metric, or a service check.
    Sample(Sample<'a>),
    /// An event: rare, and much larger than a sample.
    Event(Box<Event>),
}

/// Parses one line, without its line break, and hands each item to `take` in order.
///
/// A metric may pack several values, `name:1:2:3|ms`: each is an item of its own. A timestamp field (`|T1656581400`) is checked but not
/// used: such a value counts in the current interval like any other.
///
/// # Errors
/// Says what is wrong with the line. Values before a bad one were taken by then, as Veneur does it.
#[inline]
pub fn parse(line: &[u8], mut take: impl FnMut(Item<'_>)) -> Result<(), ParseError> {
    if is_metric(line) {
        return parse_metric(line, |sample| take(Item::Sample(sample)));
    }
    if line.starts_with(event::PREFIX) {
        let event = event::parse(line).map_err(ParseError::Event)?;
        take(Item::Event(Box::new(event)));
        return Ok(());
    }
    check::parse(line, |sample| take(Item::Sample(sample))).map_err(ParseError::Check)
}

/// Whether a line is neither an event nor a service check: [`parse_metric`] reads it.
#[inline]
pub(crate) fn is_metric(line: &[u8]) -> bool {
    line.first() != Some(&b'_')
        || !(line.starts_with(event::PREFIX) || line.starts_with(check::PREFIX))
}

/// [`parse`] for metrics alone, whose samples are all of the line's own bytes: they may be kept for as long as the line is.
#[inline]
pub(crate) fn parse_metric<'a>(
    line: &'a [u8],
    take: impl FnMut(Sample<'a>),
) -> Result<(), ParseError> {
    metric::parse(line, take).map_err(ParseError::Metric)
}
