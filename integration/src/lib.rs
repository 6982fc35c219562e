//! The whole tier as one: start real processes, send them real load, read what comes out.
//!
//! [`tier`] starts agents, proxies and globals as processes on free loopback ports; the demo and every end-to-end test stand on it.

pub mod ask;
pub mod audit;
pub mod bench;
pub mod consul;
pub mod demo;
pub mod emit;
pub mod faults;
pub mod influxdb;
pub mod load;
pub mod manual;
pub mod metrics;
pub mod migrate;
pub mod ring;
pub mod tap;
pub mod tier;
