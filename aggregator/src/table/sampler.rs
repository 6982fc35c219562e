//! The mergeable state of one series in one interval.
//!
//! Small states stand in the table itself, large ones in a box of their own, so that a table of counters stays a table of counters.

use crate::key::Kind;
use crate::sample::Check;
use crate::sketch::{HyperLogLog, TDigest};

/// What was merged of one series, by its kind.
#[derive(Debug)]
pub(crate) enum Sampler {
    Counter(Sum),
    Gauge(Level),
    /// Of histograms and timers.
    Distribution(Box<Distribution>),
    Set(Box<HyperLogLog>),
    /// The last check.
    Status(Box<Status>),
}

impl Sampler {
    /// The state before anything was merged.
    pub(super) fn new(kind: Kind) -> Self {
        match kind {
            Kind::Counter => Self::Counter(Sum::default()),
            Kind::Gauge => Self::Gauge(Level::default()),
            Kind::Histogram | Kind::Timer => Self::Distribution(Box::default()),
            Kind::Set => Self::Set(Box::default()),
            Kind::Status => Self::Status(Box::default()),
        }
    }

    /// Reads where the next contribution will go, for [`super::shard::Shard::look_at`].
    #[inline]
    pub(super) fn look(&self) -> u64 {
        match self {
            Self::Distribution(distribution) => distribution.digest.look(),
            _ => 0,
        }
    }
}

impl Distribution {
    /// Reads the fields that merging a sample will, so that they are near by then; the number means nothing.
    #[inline]
    pub(super) fn warm(&self) -> f64 {
        self.digest.warm() + self.own.weight + self.own.reciprocal_sum
    }
}

/// A counter's total: exact for whole contributions, with the sum of what stood after their points beside it.
///
/// Sample rates scale each contribution without cutting it (Veneur drops the fraction of each one: `1|c|@0.1` counts 9 there, 10 here). A total
/// beyond the range of an i64 stays at its end instead of wrapping: a number that is visibly too large alarms, one that is negative misleads.
#[derive(Debug, Default, Clone, Copy, PartialEq)]
pub(crate) struct Sum {
    whole: i64,
    fraction: f64,
}

impl Sum {
    /// Adds any number but NaN.
    pub(super) fn add(&mut self, amount: f64) {
        // Saturates, infinities too; their remainder is no number, and one too large for an i64 has none.
        let whole = amount as i64;
        self.whole = self.whole.saturating_add(whole);
        let fraction = amount.fract();
        if fraction.is_finite() {
            self.fraction += fraction;
        }
    }

    /// Adds a whole number exactly.
    pub(super) fn add_whole(&mut self, amount: i64) {
        self.whole = self.whole.saturating_add(amount);
    }

    /// The total as points carry it.
    pub(crate) fn total(&self) -> f64 {
        self.whole as f64 + self.fraction
    }

    /// The total to the nearest whole number, as forwarding carries it; halves go away from zero.
    pub(crate) fn rounded(&self) -> i64 {
        self.whole.saturating_add(self.fraction.round() as i64)
    }
}

/// A gauge's last value.
///
/// Flushes of one sender may arrive out of their order, because what was not acknowledged is sent again later: of two that are merged in one
/// interval the newer one's value stays. Between senders there is no order but that of arrival; only what a leaving global hands over is
/// older than all else, and gives way to it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Level {
    /// NaN before the first, and never after it.
    value: f64,
    /// Half of the origin that the value came from, which is enough to tell the few senders of one gauge apart; 0 for none.
    origin: u32,
    /// That origin's flush.
    flush: u32,
}

impl Default for Level {
    fn default() -> Self {
        Self {
            value: f64::NAN,
            origin: 0,
            flush: 0,
        }
    }
}

impl Level {
    /// Takes a value that was handed over, unless there is any.
    pub(super) fn set_handed_over(&mut self, value: f64) {
        if self.value.is_nan() {
            self.set(value);
        }
    }

    /// Takes a value that has no place in any order.
    pub(super) fn set(&mut self, value: f64) {
        *self = Self {
            value,
            ..Self::default()
        };
    }

    /// Takes a forwarded value, unless a later flush of the same origin has been here.
    pub(super) fn set_forwarded(&mut self, value: f64, origin: u64, flush: u64) {
        let origin = (origin ^ (origin >> 32)) as u32;
        let flush = u32::try_from(flush).unwrap_or(u32::MAX);
        let late = origin != 0 && origin == self.origin && flush < self.flush;
        if !late {
            *self = Self {
                value,
                origin,
                flush,
            };
        }
    }

    pub(crate) fn value(self) -> f64 {
        self.value
    }
}

/// A histogram's or timer's digest, and what this tier saw of it itself.
#[derive(Debug, Default)]
pub(crate) struct Distribution {
    /// Of samples and imports.
    pub(crate) digest: TDigest,
    /// Of samples alone.
    pub(crate) own: OwnSamples,
}

/// Accumulators that only direct samples touch: a tier's aggregates of mixed scope speak of what it saw itself.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct OwnSamples {
    /// How many, scaled by sample rate.
    pub(crate) weight: f64,
    /// +Inf before the first.
    pub(crate) min: f64,
    /// -Inf before the first.
    pub(crate) max: f64,
    /// Σ value · weight.
    pub(crate) sum: f64,
    /// Σ weight / value.
    pub(crate) reciprocal_sum: f64,
}

impl Default for OwnSamples {
    fn default() -> Self {
        Self {
            weight: 0.0,
            min: f64::INFINITY,
            max: f64::NEG_INFINITY,
            sum: 0.0,
            reciprocal_sum: 0.0,
        }
    }
}

impl OwnSamples {
    pub(super) fn add(&mut self, value: f64, weight: f64) {
        self.weight += weight;
        self.min = self.min.min(value);
        self.max = self.max.max(value);
        self.sum += value * weight;
        self.reciprocal_sum += (1.0 / value) * weight;
    }
}

/// The last word of a service check.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Status {
    /// 0 OK, 1 warning, 2 critical, 3 unknown.
    pub(crate) status: u8,
    pub(crate) message: String,
    pub(crate) hostname: Option<String>,
    /// Unix time in seconds, where the check carried one.
    pub(crate) timestamp: Option<i64>,
}

impl Status {
    pub(super) fn set(&mut self, check: &Check<'_>) {
        self.status = check.status;
        self.message.clear();
        self.message.push_str(check.message);
        self.hostname = check.hostname.map(str::to_owned);
        self.timestamp = check.timestamp;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(amounts: &[f64]) -> Sum {
        let mut sum = Sum::default();
        amounts.iter().for_each(|amount| sum.add(*amount));
        sum
    }

    #[test]
    fn whole_contributions_are_exact_beyond_the_precision_of_a_float() {
        let mut sum = sum(&[9_007_199_254_740_992.0, 1.0, 1.0, -5.0]);
        sum.add_whole(1);
        assert_eq!(sum.rounded(), 9_007_199_254_740_990);
    }

    #[test]
    fn fractions_add_up_instead_of_being_cut() {
        assert_eq!(sum(&[0.5, 0.5]).rounded(), 1);
        assert!((sum(&[1.9, 1.9]).total() - 3.8).abs() < 1e-12);
        assert_eq!(sum(&[1.0 / 0.3; 3]).rounded(), 10);
        assert_eq!(sum(&[-0.5]).rounded(), -1);
    }

    #[test]
    fn totals_out_of_range_stay_at_its_end() {
        assert_eq!(sum(&[1e300, 5.0]).rounded(), i64::MAX);
        assert_eq!(sum(&[f64::NEG_INFINITY, -5.0]).rounded(), i64::MIN);
        assert!(sum(&[f64::INFINITY, 0.25]).total().is_finite());
    }

    #[test]
    fn a_sampler_takes_no_more_room_in_the_table_than_a_counter() {
        assert!(size_of::<Sampler>() <= 24);
    }
}
