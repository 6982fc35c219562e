//! `tributary bench scale`: how the cost of a metric grows with series, destinations and connections.
//!
//! Each sweep changes one thing and leaves all others as they are. Every point is a run of its own, with a fresh program, and counts what
//! arrives.

use std::fmt::{self, Write as _};
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use serde_json::{Value, json};

use super::chart::{self, Chart, Line};
use super::row::{Row, Setting};

/// What is measured, and how long.
#[derive(Debug, Clone, Args)]
pub(super) struct Options {
    /// Only the sweeps whose name contains one of these.
    sweeps: Vec<String>,
    /// For how long each point is driven each time, after every series was sent once.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=3_600))]
    seconds: u32,
    /// How often each point is measured; the tables and charts have the median.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100))]
    repeat: u32,
    /// A hundredth of the series, destinations and connections: only to see that everything runs and counts right.
    #[arg(long)]
    smoke: bool,
    /// Also draw the charts, as SVG files in this directory.
    #[arg(long)]
    charts: Option<PathBuf>,
    /// Also write the figures as JSON to this file.
    #[arg(long)]
    json: Option<PathBuf>,
}

/// What changes from point to point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Axis {
    Series,
    Destinations,
    Connections,
}

/// One thing changed, over all its points.
#[derive(Debug)]
struct Sweep {
    name: &'static str,
    /// The row whose program and load it is.
    row: &'static str,
    what: &'static str,
    axis: Axis,
    points: [u32; 3],
}

const SERIES: [u32; 3] = [1_000, 100_000, 1_000_000];

const SWEEPS: &[Sweep] = &[
    Sweep {
        name: "global-series",
        row: "global-mixed",
        what: "global, import of the mixed load",
        axis: Axis::Series,
        points: SERIES,
    },
    Sweep {
        name: "agent-series",
        row: "agent-udp-packed",
        what: "agent, ten lines a datagram",
        axis: Axis::Series,
        points: SERIES,
    },
    Sweep {
        name: "proxy-series",
        row: "proxy-unary-mixed",
        what: "proxy, the mixed load",
        axis: Axis::Series,
        points: SERIES,
    },
    Sweep {
        name: "proxy-destinations",
        row: "proxy-unary-mixed",
        what: "proxy, the mixed load",
        axis: Axis::Destinations,
        points: [3, 30, 300],
    },
    Sweep {
        name: "proxy-connections",
        row: "proxy-unary-mixed",
        what: "proxy, 50,000 metrics a second in requests of ten",
        axis: Axis::Connections,
        points: [10, 1_000, 10_000],
    },
];

/// Metrics a second over all connections, and in a request, while connections are what changes.
const CONNECTED_RATE: u64 = 50_000;
const CONNECTED_BATCH: usize = 10;

/// Between two flushes: several fall into a run, and not so many that a million series are flushed all the time.
const INTERVAL: Duration = Duration::from_secs(4);

/// Open files beside connections: of a program, and of this one.
const OTHER_FILES: u64 = 1_000;

/// One point of a sweep.
#[derive(Debug)]
struct Point {
    at: u32,
    /// CPU time for each metric in microseconds, of each run, ascending.
    cpu: Vec<f64>,
    metrics: u64,
    missing: Option<i64>,
    /// Bytes in memory, the median run.
    resident: u64,
}

/// Sweeps with their points.
#[derive(Debug, Default)]
struct Results(Vec<(&'static Sweep, Vec<Point>)>);

/// Measures, prints the tables and draws the charts. Exit code 0 only if every point ran and counted right.
pub(super) async fn run(options: &Options) -> ExitCode {
    match measure(options).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("tributary: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn measure(options: &Options) -> io::Result<bool> {
    let chosen = |sweep: &&Sweep| {
        options.sweeps.is_empty()
            || options
                .sweeps
                .iter()
                .any(|part| sweep.name.contains(&**part))
    };
    let chosen: Vec<&'static Sweep> = SWEEPS.iter().filter(chosen).collect();
    if chosen.is_empty() {
        let names: Vec<_> = SWEEPS.iter().map(|sweep| sweep.name).collect();
        let error = format!("no such sweep; there are {}", names.join(", "));
        return Err(io::Error::other(error));
    }
    let mut results = Results::default();
    for sweep in chosen {
        let mut points = Vec::new();
        for at in sweep.points {
            points.push(sweep.point(at, options).await?);
        }
        results.0.push((sweep, points));
    }
    print!("{results}");
    if let Some(path) = &options.json {
        std::fs::write(path, serde_json::to_vec_pretty(&results.json())?)?;
    }
    if let Some(directory) = &options.charts {
        results.draw(directory)?;
    }
    Ok(results.is_right())
}

impl Sweep {
    async fn point(&self, at: u32, options: &Options) -> io::Result<Point> {
        let row = Row::named(self.row)?;
        let at = if options.smoke { at.div_ceil(100) } else { at };
        let setting = self.setting(at, options);
        allow_files(setting.connections as u64 + setting.destinations as u64 + OTHER_FILES)?;
        let (mut runs, mut metrics, mut missing) = (Vec::new(), 0, None);
        for _ in 0..options.repeat {
            eprintln!("{} at {at} …", self.name);
            let run = row.measure(&setting, None).await?;
            metrics += run.outcome.metrics;
            if let Some(now) = run.outcome.missing {
                missing = Some(missing.unwrap_or(0) + now);
            }
            runs.push((run.outcome.value, run.resident));
        }
        runs.sort_by(|a, b| a.0.total_cmp(&b.0));
        Ok(Point {
            at,
            resident: runs.get(runs.len() / 2).map_or(0, |run| run.1),
            cpu: runs.into_iter().map(|run| run.0).collect(),
            metrics,
            missing,
        })
    }

    fn setting(&self, at: u32, options: &Options) -> Setting {
        let paced = match self.row {
            "agent-udp-packed" => Some((10, 400_000)),
            _ => None,
        };
        let mut setting = Setting {
            series: if options.smoke { 100 } else { 10_000 },
            destinations: 3,
            connections: 4,
            batch: paced.map_or(1_000, |(batch, _)| batch),
            rate: paced.map(|(_, rate)| rate),
            interval: INTERVAL,
            span: Duration::from_secs(options.seconds.into()),
        };
        match self.axis {
            Axis::Series => setting.series = at as usize,
            Axis::Destinations => setting.destinations = at as usize,
            Axis::Connections => {
                setting.connections = at as usize;
                setting.batch = CONNECTED_BATCH;
                setting.rate = Some(CONNECTED_RATE);
            }
        }
        if options.smoke {
            setting.rate = setting.rate.map(|rate| rate / 100);
        }
        setting
    }
}

/// Raises the limit on open files, which programs started from here have from this one.
fn allow_files(wanted: u64) -> io::Result<()> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if soft >= wanted {
        return Ok(());
    }
    if hard < wanted {
        let error = format!("{wanted} open files are needed, and the hard limit is {hard}");
        return Err(io::Error::other(error));
    }
    Ok(setrlimit(Resource::RLIMIT_NOFILE, wanted, hard)?)
}

impl Point {
    fn median(&self) -> f64 {
        self.cpu
            .get(self.cpu.len() / 2)
            .copied()
            .unwrap_or(f64::NAN)
    }

    /// Kilobytes for each one more than at `first`.
    fn each_more(&self, first: &Self) -> Option<f64> {
        let more = self.at.checked_sub(first.at).filter(|more| *more > 0)?;
        Some((self.resident as f64 - first.resident as f64) / 1e3 / f64::from(more))
    }
}

impl Axis {
    const fn name(self) -> &'static str {
        match self {
            Self::Series => "series",
            Self::Destinations => "destinations",
            Self::Connections => "connections",
        }
    }
}

impl Results {
    /// Whether nothing is missing; what UDP loses is shown, and no failure.
    fn is_right(&self) -> bool {
        self.0.iter().all(|(sweep, points)| {
            let may_lose = Row::named(sweep.row).is_ok_and(Row::may_lose);
            points.iter().all(|point| match point.missing {
                Some(missing) => missing == 0 || may_lose && missing > 0,
                None => true,
            })
        })
    }

    fn json(&self) -> Value {
        let sweeps: Vec<Value> = self
            .0
            .iter()
            .map(|(sweep, points)| {
                let points: Vec<Value> = points
                    .iter()
                    .map(|point| {
                        json!({
                            "at": point.at,
                            "cpu_microseconds": point.median(),
                            "runs": point.cpu,
                            "metrics": point.metrics,
                            "missing": point.missing,
                            "memory_bytes": point.resident,
                        })
                    })
                    .collect();
                json!({
                    "name": sweep.name,
                    "what": sweep.what,
                    "axis": sweep.axis.name(),
                    "points": points,
                })
            })
            .collect();
        json!({ "sweeps": sweeps })
    }

    fn lines(&self, axis: Axis, value: impl Fn(&Point, &Point) -> Option<f64>) -> Vec<Line> {
        let of_axis = self.0.iter().filter(|(sweep, _)| sweep.axis == axis);
        let line = of_axis.filter_map(|(sweep, points)| {
            let first = points.first()?;
            let points = points.iter();
            Some(Line {
                name: sweep.what.to_owned(),
                points: points
                    .filter_map(|point| Some((f64::from(point.at), value(point, first)?)))
                    .collect(),
            })
        });
        line.collect()
    }

    fn draw(&self, directory: &Path) -> io::Result<()> {
        std::fs::create_dir_all(directory)?;
        let charts = [
            (Axis::Series, "Live series", "series"),
            (Axis::Destinations, "Destinations", "destinations"),
            (Axis::Connections, "Connections of agents", "connections"),
        ];
        for (axis, x, file) in charts {
            let lines = self.lines(axis, |point, _| Some(point.median()));
            let chart = Chart {
                title: format!("CPU time of a metric by {}", axis.name()),
                x: format!("{x} (logarithmic)"),
                y: "CPU time for each metric, µs".to_owned(),
                lines,
            };
            chart::draw(&chart, &directory.join(format!("{file}.svg")))?;
        }
        let memory = Chart {
            title: "Memory of a proxy by connections".to_owned(),
            x: "Connections of agents (logarithmic)".to_owned(),
            y: "Memory of the process, MB".to_owned(),
            lines: self.lines(Axis::Connections, |point, _| {
                Some(point.resident as f64 / 1e6)
            }),
        };
        chart::draw(&memory, &directory.join("connections-memory.svg"))
    }
}

impl fmt::Display for Results {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<20} {:>10} {:>8} {:>17} {:>9} {:>9} {:>12} {:>8}",
            "sweep", "at", "µs CPU", "(min to max)", "MB", "kB each", "metrics", "missing"
        )?;
        for (sweep, points) in &self.0 {
            for point in points {
                let mut extremes = String::new();
                if let [min, .., max] = point.cpu[..] {
                    write!(extremes, "({min:.3} to {max:.3})")?;
                }
                let each = points.first().and_then(|first| point.each_more(first));
                let each = each.map_or_else(|| "-".to_owned(), |each| format!("{each:.2}"));
                let missing = point
                    .missing
                    .map_or_else(|| "?".to_owned(), |it| it.to_string());
                writeln!(
                    f,
                    "{:<20} {:>10} {:>8.3} {extremes:>17} {:>9.1} {each:>9} {:>12} {missing:>8}",
                    sweep.name,
                    point.at,
                    point.median(),
                    point.resident as f64 / 1e6,
                    point.metrics,
                )?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(at: u32, cpu: &[f64], missing: i64) -> Point {
        Point {
            at,
            cpu: cpu.to_vec(),
            metrics: 10,
            missing: Some(missing),
            resident: 1_000_000 + u64::from(at) * 3_000,
        }
    }

    fn results(name: &str, points: Vec<Point>) -> Results {
        let sweep = SWEEPS.iter().find(|sweep| sweep.name == name).unwrap();
        Results(vec![(sweep, points)])
    }

    #[test]
    fn every_sweep_is_of_a_row_that_is_there() {
        for sweep in SWEEPS {
            assert!(Row::named(sweep.row).is_ok(), "{}", sweep.row);
            assert!(sweep.points.is_sorted());
        }
    }

    #[test]
    fn the_table_has_medians_and_what_each_one_more_takes() {
        let points = vec![
            point(10, &[0.1, 0.2, 0.4], 0),
            point(1_010, &[0.3, 0.5, 0.9], 0),
        ];
        let results = results("proxy-connections", points);
        let text = results.to_string();
        assert!(text.contains("0.500  (0.300 to 0.900)"), "{text}");
        assert!(text.contains("      3.00 "), "{text}");
        assert_eq!(
            results.json()["sweeps"][0]["points"][0]["cpu_microseconds"],
            0.2
        );
        assert!(results.is_right());
    }

    #[test]
    fn only_udp_may_lose_and_nothing_may_come_twice() {
        let right = |name, missing| results(name, vec![point(1, &[0.1], missing)]).is_right();
        assert!(!right("proxy-series", 1) && !right("proxy-series", -1));
        assert!(right("agent-series", 1) && !right("agent-series", -1));
    }

    #[test]
    fn the_charts_are_drawn_with_their_axes() {
        let points = vec![point(3, &[0.1], 0), point(30, &[0.2], 0)];
        let directory = tempfile::tempdir().unwrap();
        let drawn = directory.path().join("charts");
        results("proxy-destinations", points).draw(&drawn).unwrap();
        let chart = std::fs::read_to_string(drawn.join("destinations.svg")).unwrap();
        for text in [
            "<svg",
            "CPU time for each metric, µs",
            "Destinations",
            "polyline",
        ] {
            assert!(chart.contains(text), "{text}: {chart}");
        }
        // What was not measured has no chart.
        assert!(!drawn.join("series.svg").exists());
    }
}
