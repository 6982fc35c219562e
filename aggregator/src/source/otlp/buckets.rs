//! From the buckets of a histogram to samples of ours.
//!
//! **Error.** How many there are is exact, and so are the smallest and the largest where the histogram tells them, and the sum wherever one is possible with
//! these buckets. Each sample lies in its bucket: a value is off by less than its bucket's width, which for exponential histograms is a share of the value
//! (4.4 % at scale 4), and for explicit bounds whatever the application has chosen. What has no upper bound is taken to lie at the maximum, or at
//! the last bound where none is told.
//!
//! Samples of one bucket are spread evenly over it, with weights that are powers of two: those survive the way through a sample rate without rounding. Then all
//! move together, each within its bucket, until their sum is the histogram's.

/// Samples between two values.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Bucket {
    pub(super) lower: f64,
    pub(super) upper: f64,
    pub(super) count: u64,
}

/// What is known of all samples together.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Known {
    pub(super) sum: Option<f64>,
    pub(super) min: Option<f64>,
    pub(super) max: Option<f64>,
}

/// Gives each sample, or many alike, as a value and the number of samples that it stands for, a power of two. Buckets come in ascending order; the first may
/// begin at −∞, and the last end at +∞.
pub(super) fn samples(buckets: &[Bucket], known: Known, mut give: impl FnMut(f64, u64)) {
    let mut filled: Vec<Bucket> = buckets
        .iter()
        .filter(|bucket| bucket.count > 0)
        .map(|bucket| bucket.within(&known))
        .collect();
    // The extremes themselves; one of them where there is one sample only.
    let ends = match (
        filled.first().copied(),
        filled.last().copied(),
        known.min,
        known.max,
    ) {
        (Some(_), Some(_), Some(min), Some(max))
            if filled.iter().map(|bucket| bucket.count).sum::<u64>() > 1 =>
        {
            if let Some(first) = filled.first_mut() {
                first.count -= 1;
            }
            // Of a bucket with one sample the first may have taken it; then there is another with the maximum, or it was the only one.
            if let Some(last) = filled.iter_mut().rev().find(|bucket| bucket.count > 0) {
                last.count -= 1;
            }
            [Some(min), Some(max)]
        }
        _ => [None, None],
    };
    for end in ends.into_iter().flatten() {
        filled.push(Bucket {
            lower: end,
            upper: end,
            count: 1,
        });
    }
    let shift = Shift::towards(&filled, known.sum);
    for bucket in filled {
        bucket.spread(shift, &mut give);
    }
}

impl Bucket {
    /// The part of it that can have samples.
    fn within(&self, known: &Known) -> Self {
        let (mut lower, mut upper) = (self.lower, self.upper);
        if let Some(min) = known.min {
            (lower, upper) = (lower.max(min), upper.max(min));
        }
        if let Some(max) = known.max {
            (lower, upper) = (lower.min(max), upper.min(max));
        }
        if lower == f64::NEG_INFINITY {
            lower = upper.min(0.0);
        }
        if upper == f64::INFINITY {
            upper = lower;
        }
        Self {
            lower,
            upper,
            ..*self
        }
    }

    fn spread(self, shift: Shift, give: &mut impl FnMut(f64, u64)) {
        let mut given = 0_u64;
        let width = self.upper - self.lower;
        while given < self.count {
            let weight = 1_u64 << (self.count - given).ilog2();
            // The middle of those samples' part of the bucket.
            let share = (given as f64 + weight as f64 / 2.0) / self.count as f64;
            let value = match width.is_finite() {
                true => self.lower + share * width,
                false => self.lower * (1.0 - share) + self.upper * share,
            };
            give(shift.of(value, self), weight);
            given += weight;
        }
    }
}

/// How far all samples move within their buckets: −1 is to the lower ends, 1 to the upper ones.
#[derive(Debug, Clone, Copy)]
struct Shift(f64);

impl Shift {
    /// The one that makes the sum right, or comes as near as the buckets let it.
    fn towards(buckets: &[Bucket], sum: Option<f64>) -> Self {
        let Some(sum) = sum.filter(|sum| sum.is_finite()) else {
            return Self(0.0);
        };
        let total = |value: fn(&Bucket) -> f64| -> f64 {
            let each = buckets
                .iter()
                .map(|bucket| value(bucket) * bucket.count as f64);
            each.sum()
        };
        let middle = total(|bucket| bucket.lower / 2.0 + bucket.upper / 2.0);
        let end = match sum < middle {
            true => total(|bucket| bucket.lower),
            false => total(|bucket| bucket.upper),
        };
        let share = ((sum - middle) / (end - middle)).abs();
        match share.is_finite() {
            true => Self(share.min(1.0) * if sum < middle { -1.0 } else { 1.0 }),
            false => Self(0.0),
        }
    }

    fn of(self, value: f64, bucket: Bucket) -> f64 {
        let end = if self.0 < 0.0 {
            bucket.lower
        } else {
            bucket.upper
        };
        value * (1.0 - self.0.abs()) + end * self.0.abs()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn all(buckets: &[Bucket], known: Known) -> Vec<(f64, u64)> {
        let mut found = Vec::new();
        samples(buckets, known, |value, weight| found.push((value, weight)));
        found
    }

    fn bucket(lower: f64, upper: f64, count: u64) -> Bucket {
        Bucket {
            lower,
            upper,
            count,
        }
    }

    fn count(found: &[(f64, u64)]) -> u64 {
        found.iter().map(|(_, weight)| weight).sum()
    }

    fn sum(found: &[(f64, u64)]) -> f64 {
        found
            .iter()
            .map(|(value, weight)| value * *weight as f64)
            .sum()
    }

    #[test]
    fn one_sample_that_is_told_exactly_is_that_sample() {
        let known = Known {
            sum: Some(3.25),
            min: Some(3.25),
            max: Some(3.25),
        };
        assert_eq!(all(&[bucket(2.0, 4.0, 1)], known), [(3.25, 1)]);
        let known = Known {
            sum: Some(3.25),
            ..Known::default()
        };
        assert_eq!(all(&[bucket(2.0, 4.0, 1)], known), [(3.25, 1)]);
        assert_eq!(all(&[bucket(2.0, 4.0, 0)], known), []);
    }

    #[test]
    fn count_sum_and_extremes_are_kept() {
        let buckets = [
            bucket(f64::NEG_INFINITY, 10.0, 3),
            bucket(10.0, 100.0, 1000),
            bucket(100.0, f64::INFINITY, 7),
        ];
        let known = Known {
            sum: Some(30_000.0),
            min: Some(2.0),
            max: Some(450.0),
        };
        let found = all(&buckets, known);
        assert_eq!(count(&found), 1010);
        assert!((sum(&found) - 30_000.0).abs() < 1e-6, "{}", sum(&found));
        let values = || found.iter().map(|(value, _)| *value);
        assert_eq!(values().fold(f64::MAX, f64::min), 2.0);
        assert_eq!(values().fold(f64::MIN, f64::max), 450.0);
    }

    #[test]
    fn open_ends_without_extremes_reach_to_zero_or_to_the_last_bound() {
        let open = [
            bucket(f64::NEG_INFINITY, 10.0, 2),
            bucket(10.0, f64::INFINITY, 1),
        ];
        assert_eq!(all(&open, Known::default()), [(5.0, 2), (10.0, 1)]);
        let below = [bucket(f64::NEG_INFINITY, -10.0, 1)];
        assert_eq!(all(&below, Known::default()), [(-10.0, 1)]);
    }

    #[test]
    fn extremes_and_sums_that_contradict_the_buckets_break_nothing() {
        let known = Known {
            sum: Some(1e9),
            min: Some(50.0),
            max: Some(-5.0),
        };
        let found = all(&[bucket(0.0, 10.0, 5)], known);
        assert_eq!(count(&found), 5);
        assert!(
            found.iter().all(|(value, _)| value.is_finite()),
            "{found:?}"
        );
    }

    proptest! {
        #[test]
        fn every_sample_stays_in_its_bucket_and_the_sum_is_right(counts in prop::collection::vec(0_u64..100_000, 1..30), part in 0.0..1.0_f64) {
            let buckets: Vec<_> = (0_i32..).zip(&counts).map(|(n, count)| bucket(2_f64.powi(n), 2_f64.powi(n + 1), *count)).collect();
            let bounds: (f64, f64) = buckets.iter().fold((0.0, 0.0), |sums, bucket| {
                let count = bucket.count as f64;
                (sums.0 + bucket.lower * count, sums.1 + bucket.upper * count)
            });
            let wanted = bounds.0 + part * (bounds.1 - bounds.0);
            let found = all(&buckets, Known { sum: Some(wanted), ..Known::default() });
            prop_assert_eq!(count(&found), counts.iter().sum::<u64>());
            prop_assert!((sum(&found) - wanted).abs() <= wanted * 1e-9, "{} {}", sum(&found), wanted);
            for bucket in &buckets {
                let inside: u64 = found.iter().filter(|(value, _)| bucket.lower <= *value && *value < bucket.upper).map(|(_, weight)| weight).sum();
                // At either end of the sums the samples lie on the bounds.
                prop_assert!(inside == bucket.count || !(0.001..0.999).contains(&part));
            }
            for (_, weight) in found {
                prop_assert!(weight.is_power_of_two());
            }
        }
    }
}
