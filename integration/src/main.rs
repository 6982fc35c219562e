//! `tributary`: the demo, the tools, and both programs in one binary.

use std::ffi::OsString;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};
use tributary_integration::ask::{ready, top, whereabouts};
use tributary_integration::{audit, bench, demo, emit, load, manual, metrics, migrate, ring, tap};

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
    /// Send a metric, an event or a service check to a DogStatsD listener, or time a command.
    Emit(Box<emit::Options>),
    /// Show live metrics that pass a running proxy or aggregator.
    Tap(tap::Options),
    /// Ask about rings without a process running.
    #[command(subcommand)]
    Ring(ring::Question),
    /// Tell which global owns a series, when it last came in, from how many agents, what was emitted of it, and how its sinks are.
    Where(whereabouts::Options),
    /// Tell the names with the most series and samples of an agent or a global, and the tag that explodes.
    Top(top::Options),
    /// Wait until programs are ready, and say of each what it answers.
    Ready(ready::Options),
    /// Make a configuration from that of Veneur, Veneur's proxy, statsd or telegraf, and report each key: taken, changed, not supported and why.
    Migrate(migrate::Options),
    /// Print a manual as Markdown.
    Manual {
        /// Of what.
        #[arg(value_enum, default_value_t = Page::Settings)]
        page: Page,
        /// The folder that the pages of kinds are written into.
        #[arg(long, default_value = "docs")]
        into: PathBuf,
    },
    /// Measure what each program costs a metric in CPU time, and a live series in memory.
    Bench(bench::Options),
    /// Send a load of any size to a running program.
    Load(load::command::Options),
    /// Run the proxy: the same program as `tributary-proxy`.
    #[command(disable_help_flag = true)]
    Proxy(Rest),
    /// Run the aggregator: the same program as `tributary-aggregator`.
    #[command(disable_help_flag = true)]
    Aggregator(Rest),
}

/// A manual.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Page {
    /// All settings: docs/configuration.md.
    Settings,
    /// All self-metrics: docs/metrics.md.
    Metrics,
    /// Each kind of source and sink: docs/sources and docs/sinks, which are written and not printed.
    Kinds,
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
    let call = Call::parse_from(emit::with_two_dashes(std::env::args_os()));
    match call.command {
        Some(Command::Proxy(rest)) => tributary_proxy::main(rest.of("tributary proxy")),
        Some(Command::Aggregator(rest)) => {
            tributary_aggregator::main(rest.of("tributary aggregator"))
        }
        Some(Command::Audit(options)) => run_audit(options),
        Some(Command::Emit(options)) => run_emit(*options),
        Some(Command::Tap(options)) => run_tap(options),
        Some(Command::Ring(question)) => ring::run(&question),
        Some(Command::Where(options)) => run_where(options),
        Some(Command::Top(options)) => run_top(options),
        Some(Command::Ready(options)) => run_ready(options),
        Some(Command::Migrate(options)) => migrate::run(&options),
        Some(Command::Manual { page, into }) => print_manual(page, &into),
        Some(Command::Bench(options)) => run_bench(options),
        Some(Command::Load(options)) => run_load(options),
        Some(Command::Demo(options)) => run_demo(options),
        None => run_demo(call.demo),
    }
}

fn print_manual(page: Page, into: &Path) -> ExitCode {
    let done = match page {
        Page::Settings => print_text(&manual::manual()),
        Page::Metrics => print_text(&metrics::manual()),
        Page::Kinds => write_kinds(into),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nobody is left to tell if that cannot be written, either.
            let _ = writeln!(io::stderr(), "tributary: {error}");
            ExitCode::FAILURE
        }
    }
}

fn print_text(text: &str) -> io::Result<()> {
    io::stdout().write_all(text.as_bytes())
}

fn write_kinds(into: &Path) -> io::Result<()> {
    for (path, text) in manual::kinds() {
        let path = into.join(path);
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        std::fs::write(path, text)?;
    }
    Ok(())
}

#[tokio::main]
async fn run_audit(options: audit::Options) -> ExitCode {
    audit::run(options).await
}

#[tokio::main(flavor = "current_thread")]
async fn run_emit(options: emit::Options) -> ExitCode {
    emit::run(options).await
}

#[tokio::main(flavor = "current_thread")]
async fn run_tap(options: tap::Options) -> ExitCode {
    tap::run(options).await
}

#[tokio::main]
async fn run_where(options: whereabouts::Options) -> ExitCode {
    whereabouts::run(options).await
}

#[tokio::main(flavor = "current_thread")]
async fn run_ready(options: ready::Options) -> ExitCode {
    ready::run(options).await
}

#[tokio::main]
async fn run_top(options: top::Options) -> ExitCode {
    top::run(options).await
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
