//! Tributary's aggregator: an agent beside the applications, or a global that merges the whole fleet.
//!
//! `source` → `table` → `flush` → `forward` and `sink`; `import` writes into the table what other tiers forward. A source never names a sink,
//! and a sink never names a source: both know only [`sample`]s and [`point`]s.

pub mod app;
mod backoff;
mod clock;
pub mod config;
pub mod dropsonde;
mod endpoint;
pub mod enrich;
pub mod flush;
pub mod forward;
pub mod graphite;
mod history;
pub mod import;
#[cfg(feature = "kafka")]
mod kafka;
pub mod key;
pub mod ledger;
pub mod metrics;
mod options;
mod overview;
pub mod point;
pub mod points;
pub mod preset;
mod prometheus;
pub mod receipt;
mod reply;
pub mod sample;
mod secret_file;
pub mod sink;
pub mod sketch;
pub mod source;
pub mod table;

use std::ffi::OsString;
use std::process::ExitCode;

use tributary_node::cli;

/// The program `tributary-aggregator`: reads its arguments (program name first), runs until a signal, and gives the exit code.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    if let Some(code) = preset::main(&arguments) {
        return code;
    }
    match cli::parse::<config::Config>(arguments) {
        Ok(arguments) => tributary_node::run(&arguments, app::run),
        Err(code) => code,
    }
}
