//! From a taken [`Interval`] to what leaves this tier: points and events for sinks, sampler state for the tier above.
//!
//! A pure function of interval and settings; nothing is kept between flushes, so a series that fell silent disappears. Which tier emits what is
//! Veneur's rule:
//!
//! | sampler | agent's sinks | forwarded | global's sinks |
//! |---|---|---|---|
//! | counter, gauge, mixed or local | the value | no | the value |
//! | counter, gauge, global | – | as global | the value |
//! | histogram, timer, mixed | aggregates of own samples | as mixed | the same, and percentiles of everything merged |
//! | histogram, timer, local | aggregates of own samples, percentiles | no | the same |
//! | histogram, timer, global | – | as global | aggregates and percentiles of everything merged |
//! | set, mixed (global ones are mixed too) | – | as mixed | the estimate |
//! | set, local | the estimate | no | the estimate |
//! | service check | the state | no | the state |
//!
//! A median is always that of everything merged here, also at an agent.
//!
//! Sinks that write [whole distributions](crate::point::Distribution) get those of histograms and timers by the same rule: what of a series comes of
//! everything merged at a global, and of own samples at an agent, is so as a distribution, too.

mod aggregate;
mod busiest;
mod counts;
mod distribution;
mod percentile;
mod state;

use std::sync::Arc;

use serde::Serialize;
use tributary_proto::metricpb::Metric;

use crate::key::{Key, Kind, Scope};
use crate::point::{self, CheckText, Point, PointKind, Timestamp};
use crate::sample::Event;
use crate::table::{Interval, Sampler, Series, Status};
use distribution::{View, whole};

pub use aggregate::{Aggregate, Aggregates};
pub(crate) use busiest::Busiest;
pub use counts::{FlushCounts, SeriesType};
pub use percentile::{PercentileError, Percentiles};

/// Which part of the fleet's work an aggregator does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(into = "&'static str")]
pub enum Role {
    /// An agent: what is mergeable is forwarded.
    Local,
    /// A global: everything ends here.
    Global,
}

impl From<Role> for &'static str {
    fn from(role: Role) -> Self {
        match role {
            Role::Local => "agent",
            Role::Global => "global",
        }
    }
}

/// How to emit. All but the timestamp is settled at start.
#[derive(Debug, Clone)]
pub struct FlushSettings {
    /// What this aggregator is.
    pub role: Role,
    /// Which percentiles, with their names.
    pub percentiles: Percentiles,
    /// Which aggregates of histograms and timers.
    pub aggregates: Aggregates,
    /// Whether a sink wants the distributions, too.
    pub distributions: bool,
    /// Unix time in seconds that the points get.
    pub timestamp: i64,
}

/// What one flush brings.
#[derive(Debug, Default)]
pub struct Emission {
    /// For sinks, in no particular order but for the points of one series.
    pub points: Vec<Point>,
    /// Behind some of the points, if they were asked for.
    pub distributions: Vec<point::Distribution>,
    /// For the tier above, without stamps; empty at a global.
    pub forward: Vec<Metric>,
    /// For sinks.
    pub events: Vec<Event>,
    /// What came in and what became of it.
    pub counts: FlushCounts,
    /// The few histograms and timers of which most was merged.
    pub(crate) busiest: Busiest,
}

/// Turns what one interval brought into points and forwarded metrics.
pub fn emit(mut interval: Interval, settings: &FlushSettings) -> Emission {
    let mut flush = Flush {
        settings,
        out: Emission {
            // Most series make one point at least; growing from there is a few steps.
            points: Vec::with_capacity(interval.len()),
            events: std::mem::take(&mut interval.events),
            counts: FlushCounts::new(settings.role, interval.counts),
            ..Emission::default()
        },
    };
    for series in interval.into_series() {
        flush.series(series);
    }
    flush.out
}

/// One flush under way.
struct Flush<'a> {
    settings: &'a FlushSettings,
    out: Emission,
}

impl Flush<'_> {
    fn series(&mut self, series: Series) {
        let Series {
            key,
            sampler,
            merged,
        } = series;
        let forwarded = is_forwarded(self.settings.role, &key);
        self.out.counts.note_series(&key, forwarded);
        match sampler {
            Sampler::Counter(sum) if forwarded => self.forward(&key, state::counter(sum.rounded())),
            Sampler::Counter(sum) => self.point(&key, None, PointKind::Counter, sum.total()),
            Sampler::Gauge(level) if forwarded => self.forward(&key, state::gauge(level.value())),
            Sampler::Gauge(level) => self.point(&key, None, PointKind::Gauge, level.value()),
            Sampler::Set(sketch) if forwarded => self.forward(&key, state::set(&sketch)),
            Sampler::Set(mut sketch) => {
                let size = sketch.estimate() as f64;
                self.point(&key, None, PointKind::Gauge, size);
            }
            Sampler::Distribution(mut distribution) => {
                let first = self.out.points.len();
                let view = View::of(self.settings.role, key.scope());
                self.distribution(&key, &mut distribution, view);
                let points = first..self.out.points.len();
                if self.settings.distributions && !points.is_empty() {
                    let whole = whole(&key, &mut distribution, view, points.clone());
                    self.out.distributions.extend(whole);
                }
                self.out.busiest.offer(merged, &key, points);
                if forwarded {
                    self.forward(&key, state::digest(&mut distribution.digest));
                }
            }
            Sampler::Status(status) => self.status(&key, *status),
        }
    }

    /// Emits a value; one that is NaN or infinite is counted instead.
    fn point(&mut self, key: &Key, suffix: Option<&Arc<str>>, kind: PointKind, value: f64) {
        if !value.is_finite() {
            self.out.counts.points_not_finite += 1;
            return;
        }
        self.out.points.push(Point {
            base: Arc::clone(key.name()),
            suffix: suffix.cloned(),
            tags: key.tags().clone(),
            kind,
            value,
            timestamp: Timestamp::from_seconds(self.settings.timestamp),
            check: None,
        });
    }

    /// A check's point has the time that the check itself named, if it did.
    fn status(&mut self, key: &Key, status: Status) {
        self.out.points.push(Point {
            base: Arc::clone(key.name()),
            suffix: None,
            tags: key.tags().clone(),
            kind: PointKind::Status,
            value: f64::from(status.status),
            timestamp: Timestamp::from_seconds(status.timestamp.unwrap_or(self.settings.timestamp)),
            check: Some(Arc::new(CheckText {
                message: status.message,
                hostname: status.hostname,
            })),
        });
    }

    fn forward(&mut self, key: &Key, value: state::State) {
        self.out.forward.push(state::metric(key, value));
    }
}

/// Whether a series' state goes to the tier above.
fn is_forwarded(role: Role, key: &Key) -> bool {
    role == Role::Local
        && match key.kind() {
            Kind::Counter | Kind::Gauge => key.scope() == Scope::Global,
            Kind::Histogram | Kind::Timer | Kind::Set => key.scope() != Scope::Local,
            Kind::Status => false,
        }
}

#[cfg(test)]
mod tests;
