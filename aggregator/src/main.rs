//! Tributary's aggregator.

use std::process::ExitCode;

fn main() -> ExitCode {
    tributary_aggregator::main(std::env::args_os())
}
