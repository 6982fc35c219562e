//! `tributary load`: the load generator by hand.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "the command's result is its standard output"
)]

use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Args;

use super::{Load, Mix, Plan, Way, Workload};

/// What to send where.
#[derive(Debug, Clone, Args)]
pub struct Options {
    /// `host:port` to send to: a proxy's or global's gRPC address, its HTTP address for `json`, an agent's DogStatsD address for `udp`.
    to: String,
    /// How it travels.
    #[arg(long, value_enum, default_value = "unary")]
    way: Way,
    /// Which kinds of metrics. By JSON it is counters always.
    #[arg(long, value_enum, default_value = "mixed")]
    mix: Mix,
    /// Different series.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    series: u32,
    /// Tags of each series.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u8).range(1..=50))]
    tags: u8,
    /// Centroids of each digest.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    centroids: u16,
    /// Connections or sockets.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    connections: u16,
    /// Metrics in a request, or lines in a datagram. Default: 1000, and 10 for `udp`.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    batch: Option<u32>,
    /// Metrics a second. Default: as fast as they are taken, and 100000 for `udp`, which nothing would hold back.
    #[arg(long)]
    rate: Option<u64>,
    /// For so long.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=86_400))]
    seconds: u32,
}

impl Options {
    fn plan(&self) -> Plan {
        let udp = self.way == Way::Udp;
        Plan {
            way: self.way,
            to: self.to.clone(),
            connections: self.connections.into(),
            batch: self.batch.unwrap_or(if udp { 10 } else { 1_000 }) as usize,
            rate: self.rate.or(udp.then_some(100_000)),
            workload: Workload {
                mix: self.mix,
                series: self.series as usize,
                tags: self.tags.into(),
                centroids: self.centroids.into(),
            },
        }
    }
}

/// Sends, and prints how much it was.
pub async fn run(options: Options) -> ExitCode {
    let outcome = async {
        let load = Load::start(&options.plan()).await?;
        let began = Instant::now();
        let end = Duration::from_secs(options.seconds.into());
        while began.elapsed() < end && !load.has_failed() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let sent = load.stop().await?;
        std::io::Result::Ok((sent, began.elapsed()))
    };
    match outcome.await {
        Ok((sent, took)) => {
            let rate = sent as f64 / took.as_secs_f64();
            println!(
                "{sent} metrics in {:.1} s, {rate:.0} a second",
                took.as_secs_f64()
            );
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("tributary: {}: {error}", options.to);
            ExitCode::FAILURE
        }
    }
}
