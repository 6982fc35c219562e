//! The merging t-digest: a distribution in at most about 130 weighted means, precise at both ends.
//!
//! Ted Dunning's merging variant with the arcsine scale, as Veneur (v2 to its end) computes it. Samples wait in a small tail; when the tail is full, it is
//! sorted and folded into the sorted head in one pass (`compress.rs`). Equal samples in equal order give the bits that Veneur gives.
//!
//! What always holds:
//! - every mean is finite, every weight is finite and above 0, and their sum at most [`DigestError::MAX_WEIGHT`];
//! - `head` centroids come first and ascend by mean; the tail behind them is no longer than a capacity that follows from the compression, or, where other
//!   digests were merged, than `merge::MERGED_TAIL`;
//! - an empty digest has `min` = +∞ and `max` = −∞, any other has finite ones with `min` ≤ every mean ≤ `max`
//!   (a folded mean may miss that by its last rounding).
//!
//! **Deliberate differences.** Veneur updates a merged digest's min and max from the other's centroid *means*, which loses the true extremes of more than about
//! 4,000 samples; here they come from the other's own min and max. And where Veneur merges in random order, [`TDigest::merge`] has one order.

mod compress;
mod error;
#[cfg(test)]
mod golden;
mod merge;
#[cfg(test)]
mod properties;
mod quantile;
mod wire;

pub use error::DigestError;
pub use wire::ReceivedDigest;

/// The compression of Veneur's histograms and timers.
pub const DEFAULT_COMPRESSION: f64 = 100.0;

/// A weighted mean: one or more samples that lie side by side.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Centroid {
    mean: f64,
    weight: f64,
}

/// The distribution of a series of weighted values, in bounded memory.
///
/// Uses no heap until the first sample, 64 bytes from the first to the fourth, and up to 4 KB once it has seen many.
#[derive(Debug, Clone)]
pub struct TDigest {
    /// The head: sorted and folded. Behind it the tail: as it came.
    centroids: Vec<Centroid>,
    head: usize,
    head_weight: f64,
    tail_weight: f64,
    min: f64,
    max: f64,
    reciprocal_sum: f64,
    compression: f64,
}

impl Default for TDigest {
    /// With [`DEFAULT_COMPRESSION`].
    fn default() -> Self {
        Self::new(DEFAULT_COMPRESSION)
    }
}

impl TDigest {
    /// An empty digest. `compression` bounds the number of centroids (about 1.3 times it) and with that the error; what is not between 1 and
    /// [`DigestError::MAX_COMPRESSION`] is taken as the nearest of them, NaN as the default.
    pub fn new(compression: f64) -> Self {
        let compression = if compression.is_nan() {
            DEFAULT_COMPRESSION
        } else {
            compression.clamp(1.0, DigestError::MAX_COMPRESSION)
        };
        Self {
            centroids: Vec::new(),
            head: 0,
            head_weight: 0.0,
            tail_weight: 0.0,
            min: f64::INFINITY,
            max: f64::NEG_INFINITY,
            reciprocal_sum: 0.0,
            compression,
        }
    }

    /// Takes one value that stands for `weight` samples (1 ÷ sample rate).
    ///
    /// # Errors
    /// A value that is not finite, a weight that is not finite and above 0, or one that would bring the sum of weights above
    /// [`DigestError::MAX_WEIGHT`]. The digest is then as it was.
    pub fn add(&mut self, value: f64, weight: f64) -> Result<(), DigestError> {
        let centroid = Centroid::checked(value, weight)?;
        self.has_room_for(weight)?;
        self.min = self.min.min(value);
        self.max = self.max.max(value);
        self.reciprocal_sum += (1.0 / value) * weight;
        self.push(centroid);
        Ok(())
    }

    /// Reads the fields that [`TDigest::add`] will, so that they are near by then; the number means nothing.
    #[inline]
    pub(crate) fn warm(&self) -> f64 {
        self.centroids.len() as f64 + self.head_weight + self.min + self.compression
    }

    /// The same for the end of the tail.
    #[inline]
    pub(crate) fn warm_tail(&self) -> f64 {
        self.centroids.last().map_or(0.0, |last| last.weight)
    }

    /// The smallest value seen, +∞ when empty.
    pub fn min(&self) -> f64 {
        self.min
    }

    /// The largest value seen, −∞ when empty.
    pub fn max(&self) -> f64 {
        self.max
    }

    /// The sum of all weights: the number of samples, before sampling.
    pub fn count(&self) -> f64 {
        self.head_weight + self.tail_weight
    }

    /// Whether no sample was seen.
    pub fn is_empty(&self) -> bool {
        self.centroids.is_empty()
    }

    /// The sum of value · weight. Infinite where the values are so large that it cannot be told.
    pub fn sum(&mut self) -> f64 {
        self.compress();
        self.centroids
            .iter()
            .fold(0.0, |sum, centroid| sum + centroid.mean * centroid.weight)
    }

    /// The sum of weight ÷ value; `count` ÷ this is the harmonic mean. ±∞ once a zero was seen, NaN once both +0 and −0 were, as with Veneur.
    pub fn reciprocal_sum(&self) -> f64 {
        self.reciprocal_sum
    }

    /// All centroids, folded, ascending by mean.
    pub fn centroids(&mut self) -> &[Centroid] {
        self.compress();
        &self.centroids
    }

    /// The accuracy parameter.
    pub fn compression(&self) -> f64 {
        self.compression
    }

    /// Reads where the next centroid will go, so that this memory is near by then. The result means nothing.
    #[inline]
    pub(crate) fn look(&self) -> u64 {
        let last = self.centroids.last();
        last.map_or(0, |centroid| centroid.weight.to_bits())
    }

    /// How many samples or merged centroids may wait before the next pass: 42 at compression 100. Part of what makes results equal to Veneur's.
    fn tail_capacity(&self) -> usize {
        let bounded = self.compression.clamp(20.0, 925.0);
        (7.5 + 0.37 * bounded - 2e-4 * bounded * bounded) as usize
    }

    fn tail_len(&self) -> usize {
        self.centroids.len() - self.head
    }

    /// Puts a centroid on the tail, after a pass if the tail is full.
    fn push(&mut self, centroid: Centroid) {
        if self.tail_len() >= self.tail_capacity() {
            self.compress();
        }
        self.tail_weight += centroid.weight;
        self.centroids.push(centroid);
    }

    /// Whether the sum of weights stays within bounds with `weight` more.
    fn has_room_for(&self, weight: f64) -> Result<(), DigestError> {
        if self.count() + weight <= DigestError::MAX_WEIGHT {
            Ok(())
        } else {
            Err(DigestError::WeightOverflow)
        }
    }
}

impl Centroid {
    /// The mean of its samples; finite.
    pub fn mean(&self) -> f64 {
        self.mean
    }

    /// How many samples it stands for; finite and above 0.
    pub fn weight(&self) -> f64 {
        self.weight
    }

    fn checked(mean: f64, weight: f64) -> Result<Self, DigestError> {
        if !mean.is_finite() {
            return Err(DigestError::Mean(mean));
        }
        if !(weight > 0.0 && weight.is_finite()) {
            return Err(DigestError::Weight(weight));
        }
        Ok(Self { mean, weight })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_digest_has_no_heap_and_a_single_sample_64_bytes() {
        let mut digest = TDigest::default();
        assert_eq!(digest.centroids.capacity(), 0);
        digest.add(1.5, 1.0).unwrap();
        digest.compress();
        assert!(digest.centroids.capacity() * size_of::<Centroid>() <= 64);
        assert!(size_of::<TDigest>() <= 88);
    }

    #[test]
    fn a_full_digest_stays_within_four_kilobytes() {
        let mut digest = TDigest::default();
        for step in 0..100_000_u32 {
            digest
                .add(f64::from(step.wrapping_mul(2_654_435_761)), 1.0)
                .unwrap();
        }
        assert!(digest.centroids.capacity() * size_of::<Centroid>() <= 4096);
    }

    #[test]
    fn the_tail_holds_42_at_compression_100() {
        assert_eq!(TDigest::default().tail_capacity(), 42);
        assert_eq!(TDigest::new(0.0).tail_capacity(), 14);
        assert_eq!(TDigest::new(1000.0).tail_capacity(), 178);
    }

    #[test]
    fn a_refused_sample_changes_nothing() {
        let mut digest = TDigest::default();
        digest.add(2.0, 3.0).unwrap();
        for (value, weight, cause) in [
            (f64::NAN, 1.0, "mean"),
            (f64::INFINITY, 1.0, "mean"),
            (1.0, 0.0, "weight"),
            (1.0, -1.0, "weight"),
            (1.0, f64::NAN, "weight"),
            (1.0, f64::INFINITY, "weight"),
        ] {
            assert_eq!(
                digest.add(value, weight).unwrap_err().cause(),
                cause,
                "{value} {weight}"
            );
        }
        assert_eq!(
            (digest.count(), digest.min(), digest.max()),
            (3.0, 2.0, 2.0)
        );
        assert_eq!((digest.sum(), digest.reciprocal_sum()), (6.0, 1.5));
    }

    #[test]
    fn weights_that_would_add_up_towards_infinity_are_refused() {
        let mut digest = TDigest::default();
        digest.add(1.0, 1e300).unwrap();
        assert_eq!(digest.add(1.0, 1e299), Err(DigestError::WeightOverflow));
        assert_eq!(
            digest.clone().merge(&digest),
            Err(DigestError::WeightOverflow)
        );
        assert_eq!(
            TDigest::default().add(1.0, f64::MAX),
            Err(DigestError::WeightOverflow)
        );
        assert_eq!(digest.count(), 1e300);
    }

    #[test]
    fn no_quantile_passes_the_maximum_where_weights_round_up() {
        let mut digest = TDigest::default();
        digest.add(0.0, 9_007_199_254_740_992.0).unwrap();
        digest.add(1.0, 1.5).unwrap();
        assert_eq!(digest.quantile(1.0), 1.0);
    }

    #[test]
    fn shares_of_large_values_with_large_weights_are_told() {
        let mut digest = TDigest::default();
        for value in [0.0, 1e200, 2e200] {
            digest.add(value, 1e299).unwrap();
        }
        assert!((digest.cdf(1e200) - 0.5).abs() < 1e-9);
    }

    #[test]
    fn values_at_both_ends_of_the_number_line_keep_finite_means_and_quantiles() {
        let mut digest = TDigest::default();
        for step in 0..1000 {
            digest
                .add(if step % 2 == 0 { f64::MAX } else { -f64::MAX }, 1e10)
                .unwrap();
        }
        for step in 0..=10 {
            assert!(
                digest.quantile(f64::from(step) / 10.0).is_finite(),
                "{step}"
            );
        }
        assert!(
            digest
                .centroids
                .iter()
                .all(|centroid| centroid.mean.is_finite())
        );
    }
}
