//! The table.

use std::fmt;
use std::io;
use std::path::Path;

use serde_json::{Value, json};

use super::row::{Row, Unit};

/// What one run of a row gave.
#[derive(Debug, Clone, Copy)]
pub(super) struct Outcome {
    /// In the row's unit.
    pub(super) value: f64,
    /// Metrics that were sent, or series.
    pub(super) metrics: u64,
    /// Metrics that did not arrive; negative: too many did. `None` if it cannot be known.
    pub(super) missing: Option<i64>,
    /// The most bytes that the process had in memory.
    pub(super) peak: u64,
}

/// All rows so far.
#[derive(Debug, Default)]
pub(super) struct Report {
    lines: Vec<Line>,
}

#[derive(Debug)]
struct Line {
    row: &'static Row,
    ours: Vec<Outcome>,
    peer: Vec<Outcome>,
}

impl Report {
    pub(super) fn add_ours(&mut self, row: &'static Row, outcome: Outcome) {
        self.line(row).ours.push(outcome);
    }

    pub(super) fn add_peer(&mut self, row: &'static Row, outcome: Outcome) {
        self.line(row).peer.push(outcome);
    }

    fn line(&mut self, row: &'static Row) -> &mut Line {
        let at = match self.lines.iter().position(|line| line.row.name == row.name) {
            Some(at) => at,
            None => {
                self.lines.push(Line {
                    row,
                    ours: Vec::new(),
                    peer: Vec::new(),
                });
                self.lines.len() - 1
            }
        };
        &mut self.lines[at]
    }

    /// Whether our own programs counted right. UDP may lose what the machine was too busy for: that is shown, and no failure.
    pub(super) fn is_right(&self) -> bool {
        let ours = self
            .lines
            .iter()
            .flat_map(|line| line.ours.iter().map(move |run| (line, run)));
        ours.into_iter().all(|(line, run)| match run.missing {
            Some(missing) if line.row.may_lose() => missing >= 0,
            Some(missing) => missing == 0,
            None => true,
        })
    }

    pub(super) fn write_json(&self, path: &Path) -> io::Result<()> {
        let rows: Vec<Value> = self.lines.iter().map(Line::json).collect();
        std::fs::write(path, serde_json::to_vec_pretty(&json!({ "rows": rows }))?)
    }
}

impl Line {
    fn json(&self) -> Value {
        let runs = |outcomes: &[Outcome]| -> Vec<Value> {
            let runs = outcomes.iter().map(|run| {
                json!({
                    "value": run.value,
                    "metrics": run.metrics,
                    "missing": run.missing,
                    "peak_memory_bytes": run.peak,
                })
            });
            runs.collect()
        };
        json!({
            "name": self.row.name,
            "what": self.row.what,
            "unit": self.row.unit.name(),
            "target": self.row.target,
            "veneur": self.row.veneur,
            "ours": runs(&self.ours),
            "peer": runs(&self.peer),
        })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let has_peer = self.lines.iter().any(|line| !line.peer.is_empty());
        write!(
            f,
            "{:<26} {:<11} {:>8} {:>17}",
            "row", "unit", "ours", "(min to max)"
        )?;
        if has_peer {
            write!(f, " {:>8} {:>17}", "peer", "(min to max)")?;
        }
        writeln!(
            f,
            " {:>8} {:>8} {:>12} {:>8} {:>9}",
            "target", "Veneur", "metrics", "missing", "peak MiB"
        )?;
        for line in &self.lines {
            write!(
                f,
                "{:<26} {:<11} {}",
                line.row.name,
                line.row.unit.name(),
                Spread::of(&line.ours)
            )?;
            if has_peer {
                write!(f, " {}", Spread::of(&line.peer))?;
            }
            let number = |value: Option<f64>| {
                value.map_or_else(|| "-".to_owned(), |value| value.to_string())
            };
            let metrics: u64 = line.ours.iter().map(|run| run.metrics).sum();
            let missing: Option<i64> = line.ours.iter().map(|run| run.missing).sum();
            let peak = line
                .ours
                .iter()
                .map(|run| run.peak)
                .max()
                .unwrap_or_default();
            writeln!(
                f,
                " {:>8} {:>8} {metrics:>12} {:>8} {:>9}",
                number(line.row.target),
                number(line.row.veneur),
                missing.map_or_else(|| "?".to_owned(), |missing| missing.to_string()),
                peak >> 20,
            )?;
        }
        Ok(())
    }
}

/// Median and extremes.
struct Spread {
    values: Vec<f64>,
}

impl Spread {
    fn of(outcomes: &[Outcome]) -> Self {
        let mut values: Vec<f64> = outcomes.iter().map(|run| run.value).collect();
        values.sort_by(f64::total_cmp);
        Self { values }
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [min, .., max] = self.values[..] else {
            return match self.values[..] {
                [only] => write!(f, "{only:>8.3} {:>17}", ""),
                _ => write!(f, "{:>8} {:>17}", "-", ""),
            };
        };
        let median = self.values[self.values.len() / 2];
        write!(f, "{median:>8.3} {:>17}", format!("({min:.3} to {max:.3})"))
    }
}

impl Unit {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::CpuMicroseconds => "µs CPU",
            Self::KilobytesPerSeries => "kB/series",
            Self::StallMilliseconds => "ms stall",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::row::ROWS;
    use super::*;

    fn outcome(value: f64, missing: i64) -> Outcome {
        Outcome {
            value,
            metrics: 10,
            missing: Some(missing),
            peak: 1 << 20,
        }
    }

    #[test]
    fn a_row_shows_its_median_and_one_that_lost_something_is_not_right() {
        let mut report = Report::default();
        for value in [0.5, 0.1, 0.2] {
            report.add_ours(&ROWS[0], outcome(value, 0));
        }
        let text = report.to_string();
        assert!(text.contains(" 0.200 "), "{text}");
        assert!(text.contains("(0.100 to 0.500)"), "{text}");
        assert!(report.is_right());
        report.add_ours(&ROWS[0], outcome(0.3, 1));
        assert!(!report.is_right());
    }
}
