//! Mergeable summaries: t-digest for distributions and HyperLogLog for the number of different values, bit for bit those of Veneur.
//!
//! Bit for bit, because a fleet in migration has both programs at every tier: what one writes the other must read, and the same samples must give
//! the same percentile whoever saw them. Where this differs from Veneur on purpose, the module in question says so.
//!
//! Both types are plain values without locks or input and output. Nothing that a peer sends makes them panic: bytes and messages are checked in full before
//! they touch a sketch that stands, and each refusal has a cause to be counted by.

pub mod hll;
pub mod tdigest;

pub use hll::{HllError, HyperLogLog};
pub use tdigest::{Centroid, DigestError, ReceivedDigest, TDigest};
