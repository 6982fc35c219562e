//! `tributary bench`: what each program costs a metric, in CPU time of its process, and a live series in memory.
//!
//! The programs run as users run them, as processes of their own; load and destinations are in this process. A peer, another program with the
//! same protocols, can be measured beside ours with the same load, in turns.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "the bench's results are its standard output"
)]

mod chart;
mod counting;
mod meter;
mod report;
mod row;
mod scale;
mod subject;

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand};

use report::Report;
use row::{ROWS, Row};
use subject::Peers;

/// What is measured, and how long.
#[derive(Debug, Clone, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Options {
    #[command(subcommand)]
    other: Option<Other>,
    /// Only the rows whose name contains one of these.
    rows: Vec<String>,
    /// For how long each row is driven each time, after a second to warm up.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=3_600))]
    seconds: u32,
    /// How often each row is measured; the report has the median and the extremes.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100))]
    repeat: u32,
    /// Different series, where the row does not say how many.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    series: u32,
    /// Destinations of a proxy.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    destinations: u16,
    /// Connections to a program that takes gRPC.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    connections: u16,
    /// Metrics or series are a hundredth of what they should be: only to see that everything runs and counts right.
    #[arg(long)]
    smoke: bool,
    /// Also write the report as JSON to this file.
    #[arg(long)]
    json: Option<PathBuf>,
    #[command(flatten)]
    peers: Peers,
}

/// What else there is to measure.
#[derive(Debug, Clone, Subcommand)]
enum Other {
    /// How the cost of a metric grows with series, destinations and connections.
    Scale(scale::Options),
}

/// Measures, and prints the table. Exit code 0 only if every row ran and counted right.
pub async fn run(options: Options) -> ExitCode {
    if let Some(Other::Scale(options)) = options.other {
        return scale::run(&options).await;
    }
    match measure(&options).await {
        Ok(report) => {
            print!("{report}");
            if let Some(path) = &options.json
                && let Err(error) = report.write_json(path)
            {
                eprintln!("tributary: {}: {error}", path.display());
                return ExitCode::FAILURE;
            }
            match report.is_right() {
                true => ExitCode::SUCCESS,
                false => ExitCode::FAILURE,
            }
        }
        Err(error) => {
            eprintln!("tributary: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn measure(options: &Options) -> io::Result<Report> {
    let chosen: Vec<&Row> = ROWS
        .iter()
        .filter(|row| {
            options.rows.is_empty() || options.rows.iter().any(|part| row.name.contains(&**part))
        })
        .collect();
    if chosen.is_empty() {
        let names: Vec<_> = ROWS.iter().map(|row| row.name).collect();
        let error = format!("no such row; there are {}", names.join(", "));
        return Err(io::Error::other(error));
    }
    let mut report = Report::default();
    for row in chosen {
        for _ in 0..options.repeat {
            // In turns, so that a machine that gets busier does not favour either.
            eprintln!("{} …", row.name);
            report.add_ours(row, row.run(options, None).await?);
            if let Some(peer) = options.peers.of(row) {
                eprintln!("{} (peer) …", row.name);
                report.add_peer(row, row.run(options, Some(peer)).await?);
            }
        }
    }
    Ok(report)
}

impl Options {
    fn span(&self) -> Duration {
        Duration::from_secs(self.seconds.into())
    }

    /// `full` of something, or little of it.
    fn scaled(&self, full: usize) -> usize {
        if self.smoke { full.div_ceil(100) } else { full }
    }
}
