//! What a proxy needs of a metric, read from the bytes of a `metricpb.Metric` that stays undecoded.
//!
//! A scan passes over the message once, allocates nothing and hands out slices of it. It checks what routing relies on: the wire
//! format, the name, the type and UTF-8. The value is the importing global's to judge; a scan only says which kind of value it saw.
//! A field that comes more than once counts as protobuf says: the last one wins, tags add up.
//!
//! [`frames`] and [`frame_into`] take a `forwardrpc.MetricList` apart and put one together; [`Pieces`] reads one that lies in several pieces.

mod fields;
mod frame;
mod metric;
mod pieces;
mod tags;
pub mod value;
mod wire;

pub use frame::{Entries, FrameError, Frames, entries, frame_into, framed_len, frames};
pub use metric::{ANY_INTERVAL, ScanError, Scanned, Stamp, ValueField};
pub use pieces::{PieceEntries, Pieces};
pub use tags::TagIter;
pub use wire::WireError;
