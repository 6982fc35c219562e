//! Histogram values of the legacy `/import`: a t-digest as a stream of Go `gob` values.
//!
//! The stream holds the centroids (a slice of `struct { Mean, Weight float64; Samples []float64 }`), compression, minimum, maximum
//! and, from Veneur 9 on, the reciprocal sum. [`encode`] writes byte for byte what Veneur writes. [`decode`] goes by the type
//! definitions in the stream, since a program that used gob for other types before numbers its types differently.
//!
//! The format is that of Go's `encoding/gob`: <https://pkg.go.dev/encoding/gob#hdr-Encoding_Details>. Every count is checked
//! against the bytes that are there, nothing recurses, and definitions and centroids have a bound.

mod define;
mod read;
mod write;

pub use read::{GobError, decode};
pub use write::encode;

/// The type number of `float64`, which the format fixes.
const FLOAT: i64 = 4;
/// The most centroids of one digest. Veneur's largest compression, 1000, makes about two thousand.
const MAX_CENTROIDS: usize = 1 << 16;

#[cfg(test)]
mod tests;
