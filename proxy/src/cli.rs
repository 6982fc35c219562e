//! The command line: `tributary-proxy -f FILE`, and `tributary-proxy owner -f FILE`.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args as _, FromArgMatches as _, Subcommand};
use tributary_node::cli::{self, Args};
use tributary_node::{Program, run};

use crate::app;
use crate::config::Config;
use crate::owner;

/// What can be asked instead of starting the proxy.
#[derive(Debug, Subcommand)]
enum Question {
    /// Reads `name|type|tag,tag` lines on standard input and prints the destination of each, one a line, in order.
    ///
    /// The type is counter, gauge, histogram, set or timer, or DogStatsD's c, g, h, d, s or ms. Nothing is started; with discovery by
    /// Consul, Consul is asked once. A line that is none gets an empty line and a message on standard error, and the exit code is 1.
    Owner {
        /// The proxy's settings.
        #[arg(short = 'f', long = "file", value_name = "FILE")]
        file: Option<PathBuf>,
        /// Take the tags in the order given. Otherwise they are sorted first, as agents send them.
        #[arg(long)]
        as_given: bool,
    },
}

/// Runs the program with these arguments, its name first.
pub fn main(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let command = clap::Command::new(Config::NAME)
        .version(Config::VERSION)
        .about(Config::ABOUT)
        .args_conflicts_with_subcommands(true);
    let command = Question::augment_subcommands(Args::augment_args(command));
    let found = match command
        .subcommand_required(false)
        .try_get_matches_from(arguments)
    {
        Ok(found) => found,
        Err(error) => return cli::exit(&error),
    };
    if found.subcommand().is_some() {
        return match Question::from_arg_matches(&found) {
            Ok(Question::Owner { file, as_given }) => owner::main(file.as_deref(), as_given),
            Err(error) => cli::exit(&error),
        };
    }
    match Args::from_arg_matches(&found) {
        Ok(args) => run(&args, app::run),
        Err(error) => cli::exit(&error),
    }
}
