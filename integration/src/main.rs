//! `tributary`: the demo, the tools, and both programs in one binary.

use std::ffi::OsString;
use std::io::Write as _;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tributary_integration::manual::manual;
use tributary_integration::{audit, bench, demo, load};

/// A metrics pipeline of agents, proxies and global aggregators. Without a command: the demo.
#[derive(Debug, Parser)]
#[command(name = "tributary", version, args_conflicts_with_subcommands = true)]
struct Call {
    #[command(flatten)]
    demo: demo::Options,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start two agents, two proxies and three globals, send them a live load, and compare what comes out with the exact answer.
    Demo(demo::Options),
    /// Read the ledgers of a running fleet, add them up, and say what is unaccounted for: 0 when all is well.
    Audit(audit::Options),
    /// Measure what each program costs a metric in CPU time, and a live series in memory.
    Bench(bench::Options),
    /// Send a load of any size to a running program.
    Load(load::command::Options),
    /// Print the manual of all settings as Markdown.
    Manual,
    /// Run the proxy: the same program as `tributary-proxy`.
    #[command(disable_help_flag = true)]
    Proxy(Rest),
    /// Run the aggregator: the same program as `tributary-aggregator`.
    #[command(disable_help_flag = true)]
    Aggregator(Rest),
}

/// Arguments that are another program's to read.
#[derive(Debug, clap::Args)]
struct Rest {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<OsString>,
}

impl Rest {
    fn of(self, program: &str) -> impl Iterator<Item = OsString> {
        std::iter::once(OsString::from(program)).chain(self.arguments)
    }
}

fn main() -> ExitCode {
    let call = Call::parse();
    match call.command {
        Some(Command::Proxy(rest)) => tributary_proxy::main(rest.of("tributary proxy")),
        Some(Command::Aggregator(rest)) => {
            tributary_aggregator::main(rest.of("tributary aggregator"))
        }
        Some(Command::Audit(options)) => run_audit(options),
        Some(Command::Bench(options)) => run_bench(options),
        Some(Command::Load(options)) => run_load(options),
        Some(Command::Manual) => print_manual(),
        Some(Command::Demo(options)) => run_demo(options),
        None => run_demo(call.demo),
    }
}

fn print_manual() -> ExitCode {
    match std::io::stdout().write_all(manual().as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

#[tokio::main]
async fn run_audit(options: audit::Options) -> ExitCode {
    audit::run(options).await
}

#[tokio::main]
async fn run_bench(options: bench::Options) -> ExitCode {
    bench::run(options).await
}

#[tokio::main]
async fn run_load(options: load::command::Options) -> ExitCode {
    load::command::run(options).await
}

#[tokio::main]
async fn run_demo(options: demo::Options) -> ExitCode {
    demo::run(options).await
}
