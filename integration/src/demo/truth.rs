//! What was sent in one round, and the exact answers computed from it.

use std::collections::HashSet;
use std::f64::consts::PI;
use std::time::Duration;

use crate::tier::Emitted;

/// The endpoints whose latencies are timed, with the median of each in milliseconds.
pub(super) const ENDPOINTS: [(&str, f64); 3] =
    [("/search", 40.0), ("/checkout", 180.0), ("/health", 1.5)];

/// The names under which the demo sends.
pub(super) const DURATION: &str = "demo.request.duration";
pub(super) const REQUESTS: &str = "demo.requests";
pub(super) const USERS: &str = "demo.users";

/// One timed request.
#[derive(Debug, Clone, Copy)]
pub(super) struct Request {
    /// Index in [`ENDPOINTS`].
    pub(super) endpoint: usize,
    pub(super) milliseconds: f64,
    pub(super) user: u32,
}

/// One interval's load, and what came out of it.
#[derive(Debug)]
pub(super) struct Round {
    pub(super) number: u64,
    /// Sets this round's series apart from every other's.
    pub(super) tag: String,
    /// Since the epoch.
    pub(super) start: Duration,
    pub(super) requests: Vec<Request>,
    pub(super) emitted: Vec<Emitted>,
}

/// One result beside its exact answer.
#[derive(Debug)]
pub(super) struct Comparison {
    pub(super) what: String,
    /// The global that emitted it, or what is wrong.
    pub(super) by: String,
    pub(super) merged: Option<f64>,
    pub(super) exact: f64,
    /// `None`: a late sample fell into the next interval, so there is no single value to judge.
    pub(super) agrees: Option<bool>,
}

impl Round {
    /// Log-normal latencies of random users: each request is one timer sample, one set member and one count.
    pub(super) fn random(number: u64, start: Duration, samples: u64) -> Self {
        let users = u32::try_from(samples / 6).unwrap_or(u32::MAX).max(1);
        let requests = (0..samples / 3)
            .map(|_| {
                let endpoint = fastrand::usize(..ENDPOINTS.len());
                let (_, median) = ENDPOINTS[endpoint];
                // As text with three decimals on the wire, so rounded here too: the exact answer is of what was sent.
                let milliseconds = (median * (0.6 * normal()).exp() * 1e3).round() / 1e3;
                Request {
                    endpoint,
                    milliseconds,
                    user: fastrand::u32(..users),
                }
            })
            .collect();
        Self {
            number,
            tag: format!("round:{number}"),
            start,
            requests,
            emitted: Vec::new(),
        }
    }

    /// Every result that is shown.
    pub(super) fn compare(&self) -> Vec<Comparison> {
        let mut all = Vec::new();
        for (index, (endpoint, _)) in ENDPOINTS.iter().enumerate() {
            let mut samples: Vec<f64> = self
                .requests
                .iter()
                .filter(|request| request.endpoint == index)
                .map(|request| request.milliseconds)
                .collect();
            samples.sort_unstable_by(f64::total_cmp);
            for (q, suffix) in [(0.5, "50percentile"), (0.99, "99percentile")] {
                let name = format!("{DURATION}.{suffix}");
                let found = self.find(&name, Some(&format!("endpoint:{endpoint}")));
                let what = format!("{endpoint} p{:.0} ms", q * 100.0);
                let slack = rank_error(q, samples.len());
                let (low, high) = (quantile(&samples, q - slack), quantile(&samples, q + slack));
                all.push(compare(what, &found, quantile(&samples, q), |merged| {
                    (low..=high).contains(&merged)
                }));
            }
        }
        let users: HashSet<u32> = self.requests.iter().map(|request| request.user).collect();
        let exact = users.len() as f64;
        // Four standard errors of a HyperLogLog with 16,384 registers.
        let slack = 4.0 * 1.04 / 128.0 * exact + 1.0;
        all.push(compare(
            "different users".into(),
            &self.find(USERS, None),
            exact,
            |merged| (merged - exact).abs() <= slack,
        ));
        all.push(self.compare_requests());
        all
    }

    /// A counter must be exact, and its parts add up should it have been split over two intervals.
    fn compare_requests(&self) -> Comparison {
        let found = self.find(REQUESTS, None);
        let exact = self.requests.len() as f64;
        let total: f64 = found.iter().map(|point| point.value).sum();
        Comparison {
            what: "requests".into(),
            by: emitters(&found),
            merged: (!found.is_empty()).then_some(total),
            exact,
            agrees: Some(!found.is_empty() && total.to_bits() == exact.to_bits()),
        }
    }

    fn find(&self, name: &str, tag: Option<&str>) -> Vec<&Emitted> {
        self.emitted
            .iter()
            .filter(|point| point.name == name && tag.is_none_or(|tag| point.has_tag(tag)))
            .collect()
    }
}

fn compare(what: String, found: &[&Emitted], exact: f64, fits: impl Fn(f64) -> bool) -> Comparison {
    let (merged, agrees) = match found {
        [] => (None, Some(false)),
        [one] => (Some(one.value), Some(fits(one.value))),
        // Two globals for one series is wrong; one global in two intervals is a sample that came late.
        [first, rest @ ..] if rest.iter().all(|point| point.hostname == first.hostname) => {
            (Some(first.value), None)
        }
        [first, ..] => (Some(first.value), Some(false)),
    };
    Comparison {
        what,
        by: emitters(found),
        merged,
        exact,
        agrees,
    }
}

fn emitters(found: &[&Emitted]) -> String {
    let mut names: Vec<&str> = found.iter().map(|point| point.hostname.as_str()).collect();
    names.dedup();
    if names.is_empty() {
        "missing".into()
    } else {
        names.join(", ")
    }
}

/// The exact quantile of sorted samples, linear between neighbours.
fn quantile(sorted: &[f64], q: f64) -> f64 {
    let Some(last) = sorted.len().checked_sub(1) else {
        return f64::NAN;
    };
    let place = q.clamp(0.0, 1.0) * last as f64;
    let (below, above) = (place.floor() as usize, place.ceil() as usize);
    let (low, high) = (sorted[below.min(last)], sorted[above.min(last)]);
    low + (high - low) * place.fract()
}

/// How far in rank a merged t-digest of compression 100 may be off at `q`: the width of one centroid, and one sample.
fn rank_error(q: f64, samples: usize) -> f64 {
    PI / 100.0 * (q * (1.0 - q)).sqrt() + 1.0 / samples.max(1) as f64
}

/// A standard normal variate (Box and Muller).
fn normal() -> f64 {
    let (u, v) = (1.0 - fastrand::f64(), fastrand::f64());
    (-2.0 * u.ln()).sqrt() * (2.0 * PI * v).cos()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(hostname: &str, value: f64) -> Emitted {
        Emitted {
            name: REQUESTS.into(),
            kind: "counter".into(),
            value,
            timestamp: 0,
            tags: vec!["round:1".into()],
            hostname: hostname.into(),
            interval: 1.0,
            message: None,
        }
    }

    #[test]
    fn exact_quantiles_are_linear_between_samples() {
        let samples = [1.0, 2.0, 3.0, 4.0];
        assert_eq!(quantile(&samples, 0.0), 1.0);
        assert_eq!(quantile(&samples, 0.5), 2.5);
        assert_eq!(quantile(&samples, 1.0), 4.0);
    }

    #[test]
    fn a_counter_that_misses_one_request_does_not_agree() {
        let mut round = Round::random(1, Duration::ZERO, 3_000);
        round.emitted.push(point("g1", 999.0));
        assert_eq!(round.compare_requests().agrees, Some(false));
        round.emitted.push(point("g1", 1.0));
        assert_eq!(round.compare_requests().agrees, Some(true));
    }

    #[test]
    fn a_value_from_two_globals_never_agrees() {
        let (first, second) = (point("g1", 5.0), point("g2", 5.0));
        assert_eq!(
            compare("x".into(), &[&first, &second], 5.0, |_| true).agrees,
            Some(false)
        );
        assert_eq!(
            compare("x".into(), &[&first], 5.0, |_| true).agrees,
            Some(true)
        );
        assert_eq!(compare("x".into(), &[], 5.0, |_| true).agrees, Some(false));
    }
}
