//! What the demo prints.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "the demo's results are its standard output"
)]

use std::io;

use super::truth::{Comparison, Round};
use super::{Fleet, Options};

/// The tally of all rounds.
#[derive(Debug, Default)]
pub(super) struct Report {
    rounds: u64,
    agreed: u64,
    disagreed: u64,
    split: u64,
}

/// Says where everything is.
pub(super) fn introduce(fleet: &Fleet, options: &Options) {
    println!("Tributary: two agents → two proxies → three globals, all on this host\n");
    for (number, agent) in fleet.agents.iter().enumerate() {
        println!(
            "  agent-{}   DogStatsD udp://{}   http://{}",
            number + 1,
            agent.statsd,
            agent.http
        );
    }
    for (number, proxy) in fleet.proxies.iter().enumerate() {
        println!(
            "  proxy-{}   gRPC {}   http://{}",
            number + 1,
            proxy.grpc,
            proxy.http
        );
    }
    for (number, global) in fleet.globals.iter().enumerate() {
        println!(
            "  global-{}  gRPC {}   http://{}   points in {}",
            number + 1,
            global.grpc,
            global.http,
            global.points.display()
        );
    }
    if let Some(global) = fleet.globals.first() {
        println!(
            "\nHorizon charts of global-1: http://{}/cubism?pattern=demo.request.duration.*.*",
            global.http
        );
    }
    println!(
        "\nConfiguration and logs: {}",
        fleet.tier.directory().display()
    );
    let end = match options.seconds {
        Some(seconds) => format!("Ends after {seconds} s."),
        None => "Ctrl-C ends it.".to_owned(),
    };
    println!(
        "{} samples each {} s. The first results are due after two intervals. {end}\n",
        options.samples,
        options.interval().as_secs()
    );
}

/// Says why there is no demo.
pub(super) fn failed(error: &io::Error) {
    eprintln!("tributary: {error}");
}

impl Report {
    /// Prints one round and counts it.
    pub(super) fn add(&mut self, round: Round) {
        self.rounds += 1;
        println!(
            "round {} · {} requests sent",
            round.number,
            round.requests.len()
        );
        println!(
            "  {:<22} {:>12} {:>12} {:>9}   emitted by",
            "", "merged", "exact", "off"
        );
        for comparison in round.compare() {
            match comparison.agrees {
                Some(true) => self.agreed += 1,
                Some(false) => self.disagreed += 1,
                None => self.split += 1,
            }
            println!("{}", line(&comparison));
        }
        println!();
    }

    /// Prints the tally.
    pub(super) fn close(&self, stopped: bool) {
        println!(
            "{} rounds: {} results agreed within the sketches' error, {} did not, {} were split over two intervals",
            self.rounds, self.agreed, self.disagreed, self.split
        );
        if !stopped {
            println!("a process did not stop cleanly");
        }
    }

    /// Whether there were results, nearly all could be judged, and none was off.
    pub(super) fn all_agreed(&self) -> bool {
        self.disagreed == 0 && self.agreed > self.split
    }
}

fn line(comparison: &Comparison) -> String {
    let Comparison {
        what,
        by,
        merged,
        exact,
        agrees,
    } = comparison;
    let shown = merged.map_or_else(|| "–".to_owned(), number);
    let off = merged.map_or_else(
        || "–".to_owned(),
        |merged| format!("{:+.2} %", (merged - exact) / exact * 100.0),
    );
    let verdict = match agrees {
        Some(true) => "",
        Some(false) => "   ← DIFFERS",
        None => "   (split over two intervals: not judged)",
    };
    format!(
        "  {what:<22} {shown:>12} {exact:>12} {off:>9}   {by}{verdict}",
        exact = number(*exact)
    )
}

fn number(value: f64) -> String {
    if value.fract() == 0.0 {
        format!("{value:.0}")
    } else {
        format!("{value:.3}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_demo_without_results_has_not_agreed() {
        assert!(!Report::default().all_agreed());
    }
}
