//! From a t-digest to an exponential histogram: buckets whose bounds are powers of one base, 2^(2^-scale).
//!
//! **Error.** A value read back from a bucket is off by at most the base, less one: with 160 buckets 1.1 % where the largest value is four times the
//! smallest, 4.4 % at a thousand times, 9.1 % at 500,000 times; half of that where the middle of the bucket is read. That comes on top of the digest's own
//! error, and of at most 1½ samples by which a rank can be off: half a sample is rounding, for counts are whole numbers, and one sample is the difference
//! between a sample and the evenly spread one that a digest reads. Count, sum, minimum and maximum are exact.
//!
//! **Where samples lie.** A centroid of one sample is that sample: it goes into its bucket. One of more samples is spread evenly over the range that the
//! digest takes its samples to lie in, the midpoints to its neighbours, so that quantiles of the buckets are those of the digest; put into the bucket of its
//! mean it would leave the buckets beside it empty where they are narrower than the centroids lie apart (the tests measure both). A centroid whose range has
//! zero in it stays together at its mean: an even spread would reach into any number of tiny buckets.

use crate::point::Distribution;
use crate::sketch::Centroid;

/// The finest and the coarsest scale; the coarsest has all floats of one sign in four buckets.
const SCALES: std::ops::RangeInclusive<i32> = -10..=20;

/// Fewer buckets than this would not do for every range at the coarsest scale.
pub(super) const LEAST_BUCKETS: usize = 4;

/// An exponential histogram's buckets, as OTLP has them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Exponential {
    pub(super) scale: i32,
    /// Samples that are zero.
    pub(super) zero: u64,
    pub(super) positive: Side,
    /// By magnitude.
    pub(super) negative: Side,
}

/// Buckets of one sign: bucket `offset + n` is for magnitudes above base^(offset + n) and up to base^(offset + n + 1).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Side {
    pub(super) offset: i32,
    pub(super) counts: Vec<u64>,
}

/// Samples that lie between two values, evenly, or all at one.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Piece {
    lower: f64,
    upper: f64,
    weight: f64,
}

impl Exponential {
    /// At the finest scale at which neither sign takes more than so many buckets. The counts add up to the distribution's count, rounded, and 1 at least.
    pub(super) fn of(distribution: &Distribution, most: usize) -> Self {
        Self::from_pieces(&pieces(distribution), distribution.count, most)
    }

    fn from_pieces(pieces: &[Piece], count: f64, most: usize) -> Self {
        let magnitudes = |sign: f64| {
            let of_sign = pieces
                .iter()
                .map(|piece| (piece.lower * sign, piece.upper * sign))
                .filter(|(lower, upper)| *lower > 0.0 && *upper > 0.0);
            of_sign
                .map(|(a, b)| (a.min(b), a.max(b)))
                .reduce(|all, this| (all.0.min(this.0), all.1.max(this.1)))
        };
        let sides = [magnitudes(-1.0), magnitudes(1.0)];
        let fits = |scale: i32| {
            sides.iter().flatten().all(|(lowest, highest)| {
                let buckets = index(*highest, scale) - index(*lowest, scale) + 1;
                usize::try_from(buckets).is_ok_and(|buckets| buckets <= most)
            })
        };
        let scale = SCALES.rev().find(|scale| fits(*scale));
        let scale = scale.unwrap_or(*SCALES.start());
        let [mut negative, mut positive] = sides.map(|side| Masses::new(side, scale));
        let mut zero = 0.0;
        for piece in pieces {
            if piece.lower > 0.0 {
                positive.spread(piece.lower, piece.upper, piece.weight);
            } else if piece.upper < 0.0 {
                negative.spread(-piece.upper, -piece.lower, piece.weight);
            } else {
                zero += piece.weight;
            }
        }
        let mut rounding = Rounding::new(count);
        let mut below: Vec<u64> = negative
            .masses
            .iter()
            .rev()
            .map(|mass| rounding.next(*mass))
            .collect();
        below.reverse();
        let zero = rounding.next(zero);
        let above = positive
            .masses
            .iter()
            .map(|mass| rounding.next(*mass))
            .collect();
        let mut whole = Self {
            scale,
            zero,
            positive: Side {
                offset: positive.first,
                counts: above,
            },
            negative: Side {
                offset: negative.first,
                counts: below,
            },
        };
        // Only rounding leaves anything; it belongs to the largest value.
        let left = rounding.left();
        match (
            whole.positive.counts.last_mut(),
            whole.negative.counts.first_mut(),
        ) {
            (Some(largest), _) => *largest += left,
            (None, Some(largest)) if whole.zero == 0 => *largest += left,
            _ => whole.zero += left,
        }
        whole.positive.trim();
        whole.negative.trim();
        whole
    }
}

/// See the module.
fn pieces(distribution: &Distribution) -> Vec<Piece> {
    let mut lower = distribution.min;
    let spans = Centroid::spans(&distribution.centroids, distribution.max);
    let pieces = spans.map(|(centroid, upper)| {
        let below = std::mem::replace(&mut lower, upper);
        let (mean, weight) = (centroid.mean(), centroid.weight());
        let around_zero = below <= 0.0 && upper >= 0.0;
        if weight > 1.0 && below < upper && !around_zero && (upper - below).is_finite() {
            Piece {
                lower: below,
                upper,
                weight,
            }
        } else {
            Piece {
                lower: mean,
                upper: mean,
                weight,
            }
        }
    });
    pieces.collect()
}

impl Side {
    /// Takes empty buckets off both ends.
    fn trim(&mut self) {
        let filled = |count: &u64| *count > 0;
        let end = self
            .counts
            .iter()
            .rposition(filled)
            .map_or(0, |last| last + 1);
        self.counts.truncate(end);
        let start = self.counts.iter().position(filled).unwrap_or(0);
        self.counts.drain(..start);
        self.offset = match self.counts.is_empty() {
            true => 0,
            false => self
                .offset
                .saturating_add(i32::try_from(start).unwrap_or(i32::MAX)),
        };
    }
}

/// Buckets before their counts are whole.
struct Masses {
    scale: i32,
    first: i32,
    masses: Vec<f64>,
}

impl Masses {
    /// Empty buckets for magnitudes of this range.
    fn new(range: Option<(f64, f64)>, scale: i32) -> Self {
        let (first, buckets) = range.map_or((0, 0), |(lowest, highest)| {
            let first = index(lowest, scale);
            (first, index(highest, scale) - first + 1)
        });
        Self {
            scale,
            first,
            masses: vec![0.0; usize::try_from(buckets).unwrap_or_default()],
        }
    }

    fn add(&mut self, index: i32, mass: f64) {
        let place = usize::try_from(index - self.first).ok();
        if let Some(held) = place.and_then(|place| self.masses.get_mut(place)) {
            *held += mass;
        }
    }

    /// Adds what lies evenly between two magnitudes.
    fn spread(&mut self, lower: f64, upper: f64, weight: f64) {
        let last = index(upper, self.scale);
        let mut left = weight;
        for bucket in index(lower, self.scale)..last {
            let within =
                bound(bucket + 1, self.scale).min(upper) - bound(bucket, self.scale).max(lower);
            let share = (within / (upper - lower)).clamp(0.0, 1.0);
            let mass = (weight * share).min(left);
            self.add(bucket, mass);
            left -= mass;
        }
        self.add(last, left);
    }
}

/// Makes shares whole numbers: after each, what was given is what has come, rounded. So no rank is off by more than a half.
struct Rounding {
    total: u64,
    come: f64,
    given: u64,
}

impl Rounding {
    fn new(total: f64) -> Self {
        Self {
            total: (total.round() as u64).max(1),
            come: 0.0,
            given: 0,
        }
    }

    fn next(&mut self, mass: f64) -> u64 {
        self.come += mass;
        let due = (self.come.round() as u64).min(self.total);
        let next = due.saturating_sub(self.given);
        self.given += next;
        next
    }

    /// What of the total was not given.
    fn left(&self) -> u64 {
        self.total - self.given
    }
}

/// The bucket of a magnitude above 0.
fn index(magnitude: f64, scale: i32) -> i32 {
    const FRACTION: u32 = 52;
    const BIAS: i32 = 1023;
    // What is too small for a leading one is made larger first.
    let (magnitude, lifted) = match magnitude < f64::MIN_POSITIVE {
        true => (magnitude * 2_f64.powi(54), 54),
        false => (magnitude, 0),
    };
    let bits = magnitude.to_bits();
    let exponent = (bits >> FRACTION) as i32 - BIAS - lifted;
    // From 1 up to 2.
    let fraction = f64::from_bits(bits & ((1 << FRACTION) - 1) | (BIAS as u64) << FRACTION);
    if fraction == 1.0 {
        // Bounds belong to the bucket below.
        return match scale > 0 {
            true => (exponent << scale) - 1,
            false => (exponent - 1) >> -scale,
        };
    }
    if scale <= 0 {
        return exponent >> -scale;
    }
    let steps = 1_i32 << scale;
    let within = (fraction.log2() * f64::from(steps)).ceil() as i32 - 1;
    (exponent << scale) + within.clamp(0, steps - 1)
}

/// The lower bound of a bucket.
fn bound(index: i32, scale: i32) -> f64 {
    (f64::from(index) * f64::from(-scale).exp2()).exp2()
}

#[cfg(test)]
mod tests;
