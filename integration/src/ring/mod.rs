//! `tributary ring`: questions about rings that no process has to be running for.

mod keys;
mod report;
mod simulate;

use std::process::ExitCode;

use clap::Subcommand;

pub use simulate::{Options, Simulation, simulate};

/// What can be asked.
#[derive(Debug, Clone, Subcommand)]
pub enum Question {
    /// Show which keys a change of the destinations moves, and how evenly they are spread before and after.
    Simulate(Options),
}

/// Answers on standard output. 1 if the question cannot be answered.
pub fn run(question: &Question) -> ExitCode {
    match question {
        Question::Simulate(options) => simulate::run(options),
    }
}
