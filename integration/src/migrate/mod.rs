//! `tributary migrate`: from the configuration of another program to ours, with a word on each of its keys.
//!
//! What always holds: the configuration that comes out passes `--check`, and each key of the old file is in the report once: taken as it is, changed,
//! or not supported, with the reason. A value that our own check refuses is taken out again and reported with the check's words.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "it is a command of a terminal"
)]

mod draft;
mod proxy;
mod report;
mod sinks;
mod statsd;
mod telegraf;
#[cfg(test)]
mod tests;
mod veneur;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use serde_json::{Map, Value};
use tributary_node::Program as _;
use tributary_node::config::{Environment, Prefixes, Problems, Settings, parse};

pub use report::{Entry, Report, Verdict};

/// What to read, and where the answers go.
#[derive(Debug, Clone, Args)]
pub struct Options {
    /// The file of the other program: YAML, JSON, TOML or statsd's JavaScript object.
    pub file: PathBuf,
    /// Whose file it is. Default: told by its keys.
    #[arg(long, value_enum)]
    pub from: Option<Origin>,
    /// Write the configuration here, and the report to standard output. Default: the configuration goes to standard output, and the report to
    /// standard error.
    #[arg(long, short)]
    pub output: Option<PathBuf>,
    /// End with exit code 2 if any key that does something is not supported.
    #[arg(long)]
    pub strict: bool,
}

/// A program whose configuration can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Origin {
    /// Veneur's server: an agent or a global.
    Veneur,
    /// Veneur's proxy.
    VeneurProxy,
    /// Etsy's statsd.
    Statsd,
    /// Telegraf with its statsd input.
    Telegraf,
}

/// One of our programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ours {
    /// `tributary-aggregator`.
    Aggregator,
    /// `tributary-proxy`.
    Proxy,
}

impl Ours {
    fn name(self) -> &'static str {
        match self {
            Self::Aggregator => tributary_aggregator::config::Config::NAME,
            Self::Proxy => tributary_proxy::config::Config::NAME,
        }
    }

    /// What `--check` says, without the environment, which is this process's and not the program's.
    fn check(self, text: &str) -> Result<(), Problems> {
        fn of<T: Settings>(text: &str) -> Result<(), Problems> {
            let none = Environment::new(
                Prefixes {
                    ours: "TRIBUTARY_",
                    veneur: &[],
                },
                [],
            );
            parse::<T>("the new file", text, &none).map(|_| ())
        }
        match self {
            Self::Aggregator => of::<tributary_aggregator::config::Config>(text),
            Self::Proxy => of::<tributary_proxy::config::Config>(text),
        }
    }
}

/// What came out.
#[derive(Debug, Clone)]
pub struct Migrated {
    /// The program that the configuration is for.
    pub program: Ours,
    /// Its configuration, as YAML.
    pub config: String,
    /// A word on each key of the old one.
    pub report: Report,
}

/// Reads, migrates and writes as the options say.
pub fn run(options: &Options) -> ExitCode {
    match try_run(options) {
        Ok(report) if options.strict && report.is_anything_lost() => ExitCode::from(2),
        Ok(_) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("tributary: {problem}");
            ExitCode::FAILURE
        }
    }
}

fn try_run(options: &Options) -> Result<Report, String> {
    let text = std::fs::read_to_string(&options.file)
        .map_err(|error| format!("{}: {error}", options.file.display()))?;
    let migrated = migrate(&options.file, &text, options.from)?;
    match &options.output {
        Some(path) => {
            std::fs::write(path, &migrated.config)
                .map_err(|error| format!("{}: {error}", path.display()))?;
            println!("{}", migrated.report);
            println!("{} -f {}", migrated.program.name(), path.display());
        }
        None => {
            eprintln!("{}", migrated.report);
            print!("{}", migrated.config);
        }
    }
    Ok(migrated.report)
}

/// Migrates the text of a file; its name tells the format where the text does not.
///
/// # Errors
/// If it cannot be read as what it is, or it is not clear whose it is.
pub fn migrate(file: &Path, text: &str, from: Option<Origin>) -> Result<Migrated, String> {
    let old = read(file, text, from)?;
    let origin = match from {
        Some(origin) => origin,
        None => told_by_keys(&old).ok_or_else(|| {
            format!(
                "{}: its keys do not tell whose configuration it is: say --from veneur, veneur-proxy, statsd or telegraf",
                file.display()
            )
        })?,
    };
    let draft = match origin {
        Origin::Veneur => veneur::migrate(old),
        Origin::VeneurProxy => proxy::migrate(old),
        Origin::Statsd => statsd::migrate(old),
        Origin::Telegraf => telegraf::migrate(old),
    };
    draft.finish(&file.display().to_string())
}

/// The keys of a file in any of the formats.
fn read(file: &Path, text: &str, from: Option<Origin>) -> Result<Map<String, Value>, String> {
    let is_toml = from == Some(Origin::Telegraf)
        || file.extension().is_some_and(|ext| ext == "toml")
        || (from.is_none() && file.extension().is_some_and(|ext| ext == "conf"));
    let is_script = from == Some(Origin::Statsd) || file.extension().is_some_and(|ext| ext == "js");
    let value: Value = if is_toml {
        toml::from_str(text).map_err(|error| format!("{}: {error}", file.display()))?
    } else if is_script {
        json5::from_str(text).map_err(|error| {
            format!(
                "{}: {error} (only values can be read, no expressions of JavaScript)",
                file.display()
            )
        })?
    } else {
        if let Some(line) = text.lines().position(|line| line.contains("{{")) {
            return Err(format!(
                "{}:{}: Veneur runs its file through a template first: give the file that comes out of that",
                file.display(),
                line + 1
            ));
        }
        serde_saphyr::from_str(text).map_err(|error| format!("{}: {error}", file.display()))?
    };
    match value {
        Value::Object(keys) => Ok(keys),
        Value::Null => Ok(Map::new()),
        _ => Err(format!("{}: expected keys with values", file.display())),
    }
}

fn told_by_keys(old: &Map<String, Value>) -> Option<Origin> {
    let any = |keys: &[&str]| keys.iter().any(|key| old.contains_key(*key));
    if any(&["inputs", "outputs", "agent"]) {
        Some(Origin::Telegraf)
    } else if any(&[
        "graphitePort",
        "graphiteHost",
        "backends",
        "flushInterval",
        "percentThreshold",
        "mgmt_port",
    ]) {
        Some(Origin::Statsd)
    } else if any(&[
        "forward_addresses",
        "forward_service",
        "grpc_server",
        "consul_forward_service_name",
        "consul_forward_grpc_service_name",
        "grpc_forward_address",
        "runtime_metrics_interval",
        "ignore_tags",
    ]) {
        Some(Origin::VeneurProxy)
    } else if any(&[
        "statsd_listen_addresses",
        "ssf_listen_addresses",
        "metric_sinks",
        "aggregates",
        "percentiles",
        "interval",
        "udp_address",
        "grpc_address",
        "http_address",
        "forward_address",
    ]) {
        Some(Origin::Veneur)
    } else {
        None
    }
}
