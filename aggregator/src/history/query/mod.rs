//! Graphite's expressions: read, and worked out over the store.
//!
//! What always holds: what a question may cost is counted before it is spent ([`Budget`]), so that no expression takes memory or time without bound.

mod aggregate;
mod budget;
mod evaluate;
mod functions;
mod grammar;
mod line;
mod number;
#[cfg(test)]
mod tests;
mod time;

pub(super) use budget::{Budget, QueryError};
pub(super) use evaluate::evaluate;
pub(super) use functions::describe;
pub(super) use line::Line;
pub(super) use number::push_float;
pub(super) use time::parse_time;

use super::store::Store;

/// What an expression is worked out over.
pub(super) struct Context<'a> {
    pub(super) store: &'a Store,
    /// Seconds since 1970, as are the others.
    pub(super) from: i64,
    pub(super) until: i64,
    pub(super) now: i64,
    pub(super) budget: &'a mut Budget,
}
