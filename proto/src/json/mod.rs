//! The legacy form of forwarded metrics: what Veneur up to version 14 sends to `POST /import`.
//!
//! A body is a JSON array of [`JsonMetric`], in a zlib stream if `Content-Encoding` is `deflate`. The encoding of a value goes by the
//! metric's type: a counter is 8 bytes of little-endian `i64`, a gauge 8 bytes of little-endian `f64`, a set the sketch's own
//! bytes, a histogram or timer a [`gob`](crate::gob) stream.
//!
//! [`parse_import`] decides what becomes of a request, for proxies and globals alike. An element that makes no metric costs only
//! itself: it is skipped, with its cause, and the others go on.

mod element;
mod import;
mod loose;
mod zlib;

pub use element::{ElementError, JsonMetric};
pub use import::{Import, Refusal, Skipped, decode, encode, parse_import};
pub use zlib::{InflateError, deflate, inflate};
