//! What came out, held against what was sent.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use super::Sent;
use crate::tier::Emitted;

/// The account of one run of [`SteadyLoad`](super::SteadyLoad).
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Verdict {
    /// Counts sent.
    pub sent: u64,
    /// Counts that came out of all globals together.
    pub delivered: f64,
    /// Sum over the series of what came out too little.
    pub missing: f64,
    /// Sum over the series of what came out too much.
    pub duplicated: f64,
    /// Series and interval for which more than one global emitted a point.
    pub split: usize,
    /// When, by whom, and for how many series.
    pub splits: BTreeMap<(i64, String), usize>,
    /// Points of the load.
    pub points: usize,
}

/// Adds up `emitted`, the points of all globals.
pub fn judge(sent: &Sent, emitted: &[Emitted]) -> Verdict {
    let mut arrived: HashMap<usize, f64> = HashMap::new();
    let mut emitters: BTreeMap<(usize, i64), Vec<&str>> = BTreeMap::new();
    let mut verdict = Verdict {
        sent: sent.values().sum(),
        ..Verdict::default()
    };
    for point in emitted.iter().filter(|point| point.name == "load.count") {
        let series = point
            .tags
            .iter()
            .find_map(|tag| tag.strip_prefix("series:"));
        let Some(series) = series.and_then(|series| series.parse().ok()) else {
            continue;
        };
        verdict.points += 1;
        verdict.delivered += point.value;
        *arrived.entry(series).or_default() += point.value;
        let hosts = emitters.entry((series, point.timestamp)).or_default();
        if !hosts.contains(&point.hostname.as_str()) {
            hosts.push(&point.hostname);
        }
    }
    for (series, count) in sent {
        let off = arrived.remove(series).unwrap_or_default() - *count as f64;
        verdict.missing += (-off).max(0.0);
        verdict.duplicated += off.max(0.0);
    }
    verdict.duplicated += arrived.values().sum::<f64>();
    for ((_, timestamp), hosts) in emitters {
        if hosts.len() > 1 {
            verdict.split += 1;
            *verdict
                .splits
                .entry((timestamp, hosts.join(" and ")))
                .or_default() += 1;
        }
    }
    verdict
}

impl Verdict {
    /// Whether everything came out exactly once.
    pub fn is_exact(&self) -> bool {
        self.sent > 0 && self.missing == 0.0 && self.duplicated == 0.0
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "sent {}, delivered {}, missing {}, duplicated {}, {} of {} points from two globals for one interval",
            self.sent, self.delivered, self.missing, self.duplicated, self.split, self.points
        )?;
        for ((timestamp, hosts), series) in &self.splits {
            write!(f, "\n  at {timestamp} {hosts}: {series} series")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(series: usize, value: f64, hostname: &str, timestamp: i64) -> Emitted {
        Emitted {
            name: "load.count".into(),
            kind: "counter".into(),
            value,
            timestamp,
            tags: vec![format!("series:{series}")],
            hostname: hostname.into(),
            interval: 1.0,
            message: None,
        }
    }

    #[test]
    fn what_is_missing_in_one_series_is_not_made_up_for_by_another() {
        let sent = Sent::from([(1, 10), (2, 10)]);
        let exact = judge(
            &sent,
            &[
                point(1, 10.0, "a", 1),
                point(2, 4.0, "b", 1),
                point(2, 6.0, "b", 2),
            ],
        );
        assert!(exact.is_exact(), "{exact}");
        let off = judge(&sent, &[point(1, 9.0, "a", 1), point(2, 11.0, "b", 1)]);
        assert_eq!((off.missing, off.duplicated), (1.0, 1.0));
        assert!(!off.is_exact());
    }

    #[test]
    fn two_globals_for_one_interval_are_seen() {
        let sent = Sent::from([(1, 2)]);
        let split = judge(&sent, &[point(1, 1.0, "a", 5), point(1, 1.0, "b", 5)]);
        assert_eq!(split.split, 1);
        assert!(split.is_exact());
    }
}
