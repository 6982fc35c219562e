//! Why a sample or a forwarded digest is refused.

use thiserror::Error;

/// Why a sample or a forwarded digest is refused. The digest that should have taken it is then as it was.
#[derive(Debug, Clone, Copy, PartialEq, Error)]
pub enum DigestError {
    /// A value or a centroid's mean that is NaN or infinite.
    #[error("the mean {0} is not finite")]
    Mean(f64),
    /// A weight that is NaN, infinite, zero or negative.
    #[error("the weight {0} is not finite and above zero")]
    Weight(f64),
    /// Weights that add up to more than [`DigestError::MAX_WEIGHT`].
    #[error("the weights add up to more than {max:e}", max = Self::MAX_WEIGHT)]
    WeightOverflow,
    /// A compression that is NaN, infinite, negative or above [`DigestError::MAX_COMPRESSION`].
    #[error("the compression {0} is not between 0 and {max}", max = Self::MAX_COMPRESSION)]
    Compression(f64),
    /// Extremes of a digest with samples that are NaN or infinite, or a minimum above the maximum.
    #[error("the range from {min} to {max} is none")]
    Range {
        /// The message's minimum.
        min: f64,
        /// The message's maximum.
        max: f64,
    },
    /// More centroids than [`DigestError::MAX_CENTROIDS`].
    #[error("{0} centroids are more than {max}", max = Self::MAX_CENTROIDS)]
    Centroids(usize),
    /// An order of merging that does not name each of the other's centroids once.
    #[error("the order is no permutation of {0} centroids")]
    Order(usize),
}

impl DigestError {
    /// The largest sum of weights: so far from the end of the number line that no order of adding up gets to infinity.
    pub const MAX_WEIGHT: f64 = 1e300;

    /// The largest compression that is taken: a hundred times what histograms and timers use.
    pub const MAX_COMPRESSION: f64 = 10_000.0;

    /// The largest number of centroids that is taken from a message: what [`Self::MAX_COMPRESSION`] can lead to, and a hundred times what Veneur sends.
    pub const MAX_CENTROIDS: usize = 20_001;

    /// One word for the counter of refused metrics.
    pub fn cause(&self) -> &'static str {
        match self {
            Self::Mean(_) => "mean",
            Self::Weight(_) => "weight",
            Self::WeightOverflow => "weight_overflow",
            Self::Compression(_) => "compression",
            Self::Range { .. } => "range",
            Self::Centroids(_) => "centroids",
            Self::Order(_) => "order",
        }
    }
}
