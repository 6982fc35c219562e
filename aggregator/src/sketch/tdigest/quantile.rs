//! Reading a digest: which value has a given rank, and which rank a given value.
//!
//! A centroid's samples are taken as spread evenly between the midpoints to its neighbours; the outermost ones end at min and max.

use super::{Centroid, TDigest};

impl TDigest {
    /// The value below which the share `q` of the samples lies. NaN when empty or when `q` is NaN; `q` beyond 0 or 1 counts as that end.
    pub fn quantile(&mut self, q: f64) -> f64 {
        self.compress();
        if self.is_empty() || q.is_nan() {
            return f64::NAN;
        }
        let target = q.clamp(0.0, 1.0) * self.head_weight;
        let mut below = 0.0;
        let mut lower = self.min;
        for (centroid, upper) in self.spans() {
            if target <= below + centroid.weight {
                // Added up, the weights may round up past this span.
                let share = ((target - below) / centroid.weight).min(1.0);
                return between(lower, upper, share);
            }
            below += centroid.weight;
            lower = upper;
        }
        // Only rounding gets here: the weights, added up in another order, came to a little less.
        self.max
    }

    /// The share of the samples that lies below `value`, from 0 to 1. NaN when empty or when `value` is NaN.
    pub fn cdf(&mut self, value: f64) -> f64 {
        self.compress();
        if self.is_empty() || value.is_nan() {
            return f64::NAN;
        }
        if value <= self.min {
            return 0.0;
        }
        if value >= self.max {
            return 1.0;
        }
        let mut below = 0.0;
        let mut lower = self.min;
        for (centroid, upper) in self.spans() {
            if value < upper {
                let part = centroid.weight * (value - lower) / (upper - lower);
                let part = if part.is_finite() {
                    part
                } else {
                    // The share first: a large weight must not carry the product off the number line.
                    let share = (value / 2.0 - lower / 2.0) / (upper / 2.0 - lower / 2.0);
                    centroid.weight * share
                };
                return ((below + part) / self.head_weight).min(1.0);
            }
            below += centroid.weight;
            lower = upper;
        }
        1.0
    }

    /// Each centroid with the upper end of its samples.
    fn spans(&self) -> impl Iterator<Item = (&Centroid, f64)> {
        Centroid::spans(&self.centroids, self.max)
    }
}

impl Centroid {
    /// Each of a digest's centroids with the upper end of its samples, which begin where those of the one before end; those of the first begin at the
    /// digest's minimum. `max` is the digest's maximum.
    pub fn spans(centroids: &[Self], max: f64) -> impl Iterator<Item = (&Self, f64)> {
        let uppers = centroids
            .iter()
            .skip(1)
            .zip(centroids)
            .map(|(next, this)| midpoint(this.mean, next.mean));
        centroids.iter().zip(uppers.chain(std::iter::once(max)))
    }
}

/// Half way between two finite values, with Veneur's rounding wherever that has an answer.
fn midpoint(a: f64, b: f64) -> f64 {
    let midpoint = (b + a) / 2.0;
    if midpoint.is_finite() {
        midpoint
    } else {
        a / 2.0 + b / 2.0
    }
}

/// From `lower` the given share of the way to `upper`.
fn between(lower: f64, upper: f64, share: f64) -> f64 {
    let value = lower + share * (upper - lower);
    if value.is_finite() {
        value
    } else {
        lower * (1.0 - share) + upper * share
    }
}
