//! What sources and sinks of the Graphite world share.

pub mod naming;
