//! Taking another digest's samples in.
//!
//! Veneur adds the other's centroids one by one in random order, because in ascending order each pass would take the lowest part of the other for the whole of
//! it. Here no pass ever sees a part: the other's centroids wait in the tail all together, or go through one pass all together. That needs no randomness,
//! costs fewer passes, and the result depends on nothing but the two digests.

use super::{Centroid, DigestError, TDigest};

/// How many merged centroids may wait in the tail. A pass costs the walk over the whole head, whatever comes with it: the more wait, the fewer passes.
/// With as many as this a digest's memory stays within 4 KB.
pub(super) const MERGED_TAIL: usize = 124;

impl TDigest {
    /// Takes in all that `other` has seen.
    ///
    /// # Errors
    /// [`DigestError::WeightOverflow`], with nothing taken.
    pub fn merge(&mut self, other: &Self) -> Result<(), DigestError> {
        self.has_room_for(other.count())?;
        self.take_in(&other.centroids);
        self.widen(other.min, other.max);
        self.reciprocal_sum += other.reciprocal_sum;
        Ok(())
    }

    /// Takes in all that `other` has seen, its folded centroids in the given order and one by one as Veneur does: bit for bit what Veneur makes of that order, but
    /// for min and max. `order` names each of them once by its place.
    ///
    /// # Errors
    /// [`DigestError::WeightOverflow`] or [`DigestError::Order`], with nothing taken.
    pub fn merge_in_order(&mut self, other: &Self, order: &[usize]) -> Result<(), DigestError> {
        self.has_room_for(other.count())?;
        let (head, tail) = other.centroids.split_at(other.head);
        let mut sorted = order.to_vec();
        sorted.sort_unstable();
        if !sorted.into_iter().eq(0..head.len()) {
            return Err(DigestError::Order(head.len()));
        }
        for &centroid in order
            .iter()
            .filter_map(|&place| head.get(place))
            .chain(tail)
        {
            self.push(centroid);
        }
        self.widen(other.min, other.max);
        self.reciprocal_sum += other.reciprocal_sum;
        Ok(())
    }

    /// Puts centroids on the tail, and sends all of it through one pass if it is longer then than a tail may be.
    pub(super) fn take_in(&mut self, centroids: &[Centroid]) {
        self.make_room(centroids.len());
        self.centroids.extend_from_slice(centroids);
        let weights = centroids.iter().map(|centroid| centroid.weight);
        self.tail_weight = weights.fold(self.tail_weight, |sum, weight| sum + weight);
        if self.tail_len() > MERGED_TAIL.max(self.tail_capacity()) {
            self.compress();
        }
    }

    /// Asks for memory in few steps, and never for much more than a full digest needs.
    fn make_room(&mut self, more: usize) {
        let (needed, most) = (self.centroids.len() + more, self.most_centroids());
        let capacity = self.centroids.capacity();
        if needed > capacity {
            let wanted = (2 * capacity).min(most).max(needed);
            self.centroids.reserve_exact(wanted - self.centroids.len());
        }
    }

    /// Stretches the range over another's. An empty digest's range stretches nothing.
    pub(super) fn widen(&mut self, min: f64, max: f64) {
        self.min = self.min.min(min);
        self.max = self.max.max(max);
    }
}
