//! A digest as `tdigest.MergingDigestData`, the form in which Veneur's agents forward it.
//!
//! The message is checked in full before anything of it is used. Refused: means that are not finite, weights that are not finite and above 0 or add up towards infinity,
//! a compression or a range that cannot be, and sizes that no sender reaches. Taken, because senders have it and it does no harm:
//! - no centroids at all: an empty digest, whatever else the message says;
//! - centroids out of order: Veneur takes them as they are and then answers wrong; here they are sorted, since order carries no information;
//! - compression 0: a sender that leaves it out; it means the default;
//! - a range that does not reach the outermost means: it is stretched to them. An old Veneur's merged digests are like that;
//! - a reciprocal sum that is infinite or NaN: samples of zero make it so, and nothing but the harmonic mean depends on it;
//! - raw samples (`samples`): debug builds send them; they are left aside.

use tributary_proto::scan::value::{self, DigestNumbers};
use tributary_proto::tdigest::{Centroid as WireCentroid, MergingDigestData};

use super::{Centroid, DEFAULT_COMPRESSION, DigestError, TDigest, compress};

/// What is left to know of a message once its centroids were checked.
struct Checked {
    weight: f64,
    min: f64,
    max: f64,
}

/// A forwarded digest that is read but not yet merged. Its memory serves one digest after the other.
#[derive(Debug, Clone, Default)]
pub struct ReceivedDigest {
    centroids: Vec<Centroid>,
    numbers: DigestNumbers,
}

impl ReceivedDigest {
    /// Reads an encoded `tdigest.MergingDigestData` in place of what was here. False where only a decoder can tell what the bytes are, or that
    /// they are none: [`value::digest`] says when. What is read is not checked yet.
    pub fn read(&mut self, data: &[u8]) -> bool {
        let centroids = &mut self.centroids;
        centroids.clear();
        let read = value::digest(data, |mean, weight| {
            centroids.push(Centroid { mean, weight });
            // One more than is taken tells that they are too many.
            centroids.len() <= DigestError::MAX_CENTROIDS
        });
        match read {
            Some(numbers) => self.numbers = numbers,
            None => return false,
        }
        true
    }

    /// Puts a decoded message in place of what was here.
    pub fn put(&mut self, data: &MergingDigestData) {
        self.numbers = numbers(data);
        self.centroids.clear();
        let wanted = data.main_centroids.iter().map(of_wire);
        self.centroids
            .extend(wanted.take(DigestError::MAX_CENTROIDS + 1));
    }

    /// Whether there is no centroid.
    pub fn is_empty(&self) -> bool {
        self.centroids.is_empty()
    }
}

impl TDigest {
    /// A digest as its sender had it. One without samples is empty, not an error.
    ///
    /// # Errors
    /// What the module's doc says.
    pub fn from_proto(data: &MergingDigestData) -> Result<Self, DigestError> {
        let mut centroids: Vec<Centroid> = data.main_centroids.iter().map(of_wire).collect();
        let numbers = numbers(data);
        let Some(checked) = check(&numbers, &centroids)? else {
            return Ok(Self::new(stated_compression(data)));
        };
        if !centroids.is_sorted_by(|a, b| a.mean <= b.mean) {
            compress::sort(&mut centroids);
        }
        Ok(Self {
            head: centroids.len(),
            centroids,
            head_weight: checked.weight,
            tail_weight: 0.0,
            min: checked.min,
            max: checked.max,
            reciprocal_sum: numbers.reciprocal_sum,
            // As it is, below what `new` takes too: the centroids that came were made with it.
            compression: stated_compression(data),
        })
    }

    /// Takes in a forwarded digest without building it first: the same as [`Self::from_proto`] and [`Self::merge`].
    ///
    /// # Errors
    /// Those of both, with nothing taken.
    pub fn merge_proto(&mut self, data: &MergingDigestData) -> Result<(), DigestError> {
        let mut received = ReceivedDigest::default();
        received.put(data);
        self.merge_received(&received)
    }

    /// Takes in a forwarded digest that was read from its encoded bytes, as [`Self::merge_proto`] does.
    ///
    /// # Errors
    /// The same, with nothing taken.
    pub fn merge_received(&mut self, received: &ReceivedDigest) -> Result<(), DigestError> {
        let Some(checked) = check(&received.numbers, &received.centroids)? else {
            return Ok(());
        };
        self.has_room_for(checked.weight)?;
        self.take_in(&received.centroids);
        self.widen(checked.min, checked.max);
        self.reciprocal_sum += received.numbers.reciprocal_sum;
        Ok(())
    }

    /// The digest as a message, after a pass if samples are waiting.
    pub fn to_proto(&mut self) -> MergingDigestData {
        self.compress();
        let main_centroids = self
            .centroids
            .iter()
            .map(|centroid| WireCentroid {
                mean: centroid.mean,
                weight: centroid.weight,
                samples: Vec::new(),
            })
            .collect();
        MergingDigestData {
            main_centroids,
            compression: self.compression,
            min: self.min,
            max: self.max,
            reciprocal_sum: self.reciprocal_sum,
        }
    }
}

fn of_wire(centroid: &WireCentroid) -> Centroid {
    Centroid {
        mean: centroid.mean,
        weight: centroid.weight,
    }
}

fn numbers(data: &MergingDigestData) -> DigestNumbers {
    DigestNumbers {
        compression: data.compression,
        min: data.min,
        max: data.max,
        reciprocal_sum: data.reciprocal_sum,
    }
}

fn stated_compression(data: &MergingDigestData) -> f64 {
    if data.compression == 0.0 {
        DEFAULT_COMPRESSION
    } else {
        data.compression
    }
}

/// Checks everything; `None` for a digest without samples.
fn check(numbers: &DigestNumbers, centroids: &[Centroid]) -> Result<Option<Checked>, DigestError> {
    if !(0.0..=DigestError::MAX_COMPRESSION).contains(&numbers.compression) {
        return Err(DigestError::Compression(numbers.compression));
    }
    if centroids.is_empty() {
        return Ok(None);
    }
    if centroids.len() > DigestError::MAX_CENTROIDS {
        return Err(DigestError::Centroids(centroids.len()));
    }
    let (mut min, mut max) = (numbers.min, numbers.max);
    if !(min.is_finite() && max.is_finite() && min <= max) {
        return Err(DigestError::Range { min, max });
    }
    let mut weight = 0.0;
    for &Centroid {
        mean,
        weight: share,
    } in centroids
    {
        Centroid::checked(mean, share)?;
        weight += share;
        min = min.min(mean);
        max = max.max(mean);
    }
    if weight > DigestError::MAX_WEIGHT {
        return Err(DigestError::WeightOverflow);
    }
    Ok(Some(Checked { weight, min, max }))
}
