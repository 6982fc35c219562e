//! The demo: two agents, two proxies and three globals under a live synthetic load, with every result held against the exact answer.
//!
//! Each flush interval is a round with a tag of its own, so that what the globals merged can be compared with exactly what was sent.

mod load;
mod report;
mod truth;

use std::io;
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::Args;
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};

use crate::tier::{Aggregator, Binaries, Proxy, Tail, Tier};
use load::Load;
use report::Report;
use truth::Round;

/// How the demo runs.
#[derive(Debug, Clone, Args)]
pub struct Options {
    /// End after this many seconds, but not before there are results; exit code 0 only if all of them agreed within the sketches' error. Without
    /// it, run until Ctrl-C.
    #[arg(long)]
    seconds: Option<u64>,
    /// Flush interval of every process, in seconds. Default: 2, or 1 when it is to end within 12 seconds.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=60))]
    interval: Option<u64>,
    /// Samples in each interval.
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u64).range(1_000..=2_000_000))]
    samples: u64,
}

impl Options {
    fn interval(&self) -> Duration {
        let short = self.seconds.is_some_and(|seconds| seconds < 12);
        Duration::from_secs(self.interval.unwrap_or(if short { 1 } else { 2 }))
    }
}

/// The processes, in the order in which metrics pass them.
struct Fleet {
    tier: Tier,
    agents: Vec<Aggregator>,
    proxies: Vec<Proxy>,
    globals: Vec<Aggregator>,
}

/// Runs the demo.
///
/// Exit code 0 means that every process stopped cleanly and, with `--seconds`, that there were results and all of them agreed.
pub async fn run(options: Options) -> ExitCode {
    match play(&options).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            tracing::error!(%error, "the demo failed");
            report::failed(&error);
            ExitCode::FAILURE
        }
    }
}

async fn play(options: &Options) -> io::Result<bool> {
    let mut terminate = signal(SignalKind::terminate())?;
    let interval = options.interval();
    let mut fleet = Fleet::start(interval).await?;
    report::introduce(&fleet, options);

    let mut report = Report::default();
    let rounds = rounds(&fleet, options, &mut report);
    let interrupted = tokio::select! {
        finished = rounds => finished.map(|()| false)?,
        _ = tokio::signal::ctrl_c() => true,
        _ = terminate.recv() => true,
    };
    let stopped = fleet.stop().await?;
    report.close(stopped);
    Ok(stopped && (interrupted && options.seconds.is_none() || report.all_agreed()))
}

/// Sends round after round, and judges each when its points are due.
async fn rounds(fleet: &Fleet, options: &Options, report: &mut Report) -> io::Result<()> {
    let interval = options.interval();
    let end = options
        .seconds
        .map(|seconds| now() + Duration::from_secs(seconds));
    let load = Load::new(&fleet.agents)?;
    let mut tails: Vec<Tail> = fleet
        .globals
        .iter()
        .map(|global| Tail::new(&global.points))
        .collect();
    let mut open: Vec<Round> = Vec::new();
    for number in 1.. {
        let start = next_multiple(now(), interval);
        if number > 1 && end.is_some_and(|end| start + 3 * interval > end) {
            break;
        }
        let round = Round::random(number, start, options.samples);
        // Agents flush on multiples of the interval: a round keeps clear of both edges, so that it stays in one piece.
        load.send(&round, start + interval * 3 / 20, interval / 2)
            .await?;
        open.push(round);
        judge(&mut open, &mut tails, interval, report)?;
    }
    while !open.is_empty() {
        tokio::time::sleep(Duration::from_millis(100)).await;
        judge(&mut open, &mut tails, interval, report)?;
    }
    Ok(())
}

/// Compares each round whose points the globals have emitted by now.
fn judge(
    open: &mut Vec<Round>,
    tails: &mut [Tail],
    interval: Duration,
    report: &mut Report,
) -> io::Result<()> {
    for tail in tails {
        for point in tail.read()? {
            if let Some(round) = open.iter_mut().find(|round| point.has_tag(&round.tag)) {
                round.emitted.push(point);
            }
        }
    }
    // The agents flush one interval after the round's start, and the globals one interval later.
    let due = 2 * interval + interval / 4;
    while let Some(round) = open.first() {
        if now() < round.start + due {
            break;
        }
        report.add(open.remove(0));
    }
    Ok(())
}

/// Time since the epoch.
fn now() -> Duration {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
}

/// The first multiple of `step` after `time`.
fn next_multiple(time: Duration, step: Duration) -> Duration {
    let step_ns = step.as_nanos().max(1);
    let past = (time.as_nanos() % step_ns).min(u128::from(u64::MAX));
    time + step - Duration::from_nanos(u64::try_from(past).unwrap_or_default())
}

impl Fleet {
    async fn start(interval: Duration) -> io::Result<Self> {
        let mut tier = Tier::new(Binaries::beside_me()?)?;
        tier.set_interval(interval);
        let mut globals = Vec::new();
        for number in 1..=3 {
            let global = tier.global(&format!("global-{number}"));
            globals.push(
                global
                    .with("percentiles", json!([0.5, 0.99]))
                    // Without the round in the path, all rounds of an endpoint are one series.
                    .with("history", json!({"template": "{name}.{endpoint}"}))
                    .start()
                    .await?,
            );
        }
        let mut proxies = Vec::new();
        for number in 1..=2 {
            let mut proxy = tier.proxy(&format!("proxy-{number}"));
            for global in &globals {
                proxy = proxy.destination(&global.grpc);
            }
            proxies.push(proxy.start().await?);
        }
        let mut agents = Vec::new();
        for number in 1..=2 {
            let mut agent = tier.agent(&format!("agent-{number}"));
            for proxy in &proxies {
                agent = agent.forward_to(&proxy.grpc);
            }
            agents.push(agent.start().await?);
        }
        Ok(Self {
            tier,
            agents,
            proxies,
            globals,
        })
    }

    /// Stops everything in the direction of the flow, so that nothing is on its way to somebody who has left. Whether all ended with 0.
    async fn stop(&mut self) -> io::Result<bool> {
        let mut clean = true;
        for agent in &mut self.agents {
            clean &= agent.stop().await?.success();
        }
        for proxy in &mut self.proxies {
            clean &= proxy.stop().await?.success();
        }
        for global in &mut self.globals {
            clean &= global.stop().await?.success();
        }
        Ok(clean)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_multiple_is_after_now_and_at_most_a_step_away() {
        let step = Duration::from_secs(10);
        assert_eq!(
            next_multiple(Duration::from_secs(23), step),
            Duration::from_secs(30)
        );
        assert_eq!(
            next_multiple(Duration::from_secs(30), step),
            Duration::from_secs(40)
        );
    }
}
