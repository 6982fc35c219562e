//! The pass that folds the tail into the head.
//!
//! All centroids are walked in ascending order. One joins the centroid before it as long as the two together span at most one step of the scale
//! k(q) = compression · (asin(2q − 1) ÷ π + ½), where q is the share of the weight up to there; the scale is steep at both ends, so centroids there stay small.
//!
//! An arcsine costs more than all the rest of the walk, and the walk needs only to know which side of a limit a weight falls on. So the limit is computed
//! once for each centroid that opens, by the addition theorem, sin(B + θ) = sin B · cos θ + cos B · sin θ, with θ = π ÷ compression the angle of one step.
//! Only a weight within [`DOUBT`] of the limit is decided by arcsines, with the roundings that Veneur's decision has.

use std::cell::RefCell;
use std::f64::consts::PI;

use super::{Centroid, TDigest};

/// How many centroids of a pass's memory are kept for the next pass of the thread.
const MOST_KEPT: usize = 1024;

thread_local! {
    /// What a pass folds, before it takes its place in the digest: so a pass asks for no memory.
    static FOLDED: RefCell<Vec<Centroid>> = const { RefCell::new(Vec::new()) };
}

/// Half the width of the band around the limit in which rounding may decide, as a share of the total weight. The roundings of either way to compute the limit
/// are below 1e-15 at any compression; a thousand times that costs nothing.
const DOUBT: f64 = 1e-12;

impl TDigest {
    /// Folds waiting samples into the head. Reading does so by itself. Samples that follow then find another tail, so their last digits depend on when this is done.
    pub fn compress(&mut self) {
        if self.tail_len() == 0 {
            return;
        }
        let total = self.head_weight + self.tail_weight;
        let mut pass = Pass::new(self.compression, total);
        let (centroids, head) = (&mut self.centroids, self.head);
        if let Some(tail) = centroids.get_mut(head..) {
            sort(tail);
        }
        if head == 0 {
            // The usual digest of an interval sees its only pass at the flush: nothing to merge with, so it is folded where it lies.
            if let Some(first) = centroids.first() {
                pass.open(first.weight);
            }
            centroids.dedup_by(|next, kept| pass.folds(next, kept));
        } else {
            FOLDED.with_borrow_mut(|folded| {
                let (head, tail) = centroids.split_at(head);
                folded.clear();
                pass.merge(head, tail, folded);
                centroids.clear();
                centroids.extend_from_slice(folded);
                // What a large digest of a peer left behind is not kept.
                folded.shrink_to(MOST_KEPT);
            });
        }
        self.centroids.shrink_to(self.most_centroids());
        self.folded(total);
    }

    /// How many centroids a digest may keep memory for: as many as a walk leaves, and about a tail's more. The default has 4 KB.
    pub(super) fn most_centroids(&self) -> usize {
        256.max(2 * self.compression as usize + 2)
    }

    /// Notes that all centroids are head now.
    fn folded(&mut self, total: f64) {
        self.head = self.centroids.len();
        self.head_weight = total;
        self.tail_weight = 0.0;
    }
}

/// Ascending by mean; equal means stay in the order in which they came.
pub(super) fn sort(centroids: &mut [Centroid]) {
    centroids.sort_by(|a, b| a.mean.total_cmp(&b.mean));
}

impl Centroid {
    /// Takes another into this one.
    #[inline]
    fn fold(&mut self, other: Self) {
        self.weight += other.weight;
        let mean = self.mean + (other.mean - self.mean) * other.weight / self.weight;
        self.mean = if mean.is_finite() {
            mean
        } else {
            // The difference or its product left the number line; the convex form cannot, but for a last rounding.
            let share = other.weight / self.weight;
            let (low, high) = (self.mean.min(other.mean), self.mean.max(other.mean));
            (self.mean * (1.0 - share) + other.mean * share).clamp(low, high)
        };
    }
}

/// The state of one walk.
struct Pass {
    compression: f64,
    total: f64,
    /// The weight walked over.
    walked: f64,
    /// The weight that had been walked over when the last centroid opened.
    opened: f64,
    /// Up to here a weight surely joins.
    joins: f64,
    /// From here on, and up to `tops`, it surely opens a centroid of its own.
    opens: f64,
    /// Above this, rounding may carry q past 1, where the scale has no value and everything joins.
    tops: f64,
    cos_step: f64,
    sin_step: f64,
}

impl Pass {
    fn new(compression: f64, total: f64) -> Self {
        let step = PI / compression;
        Self {
            compression,
            total,
            walked: 0.0,
            opened: 0.0,
            joins: 0.0,
            opens: 0.0,
            tops: total * (1.0 - DOUBT),
            cos_step: step.cos(),
            sin_step: step.sin(),
        }
    }

    /// Walks head and tail together into `out`, which is empty; of equal means the tail's comes first.
    fn merge(&mut self, head: &[Centroid], tail: &[Centroid], out: &mut Vec<Centroid>) {
        let mut head = head.iter().copied().peekable();
        for &centroid in tail {
            while let Some(smaller) = head.next_if(|waiting| waiting.mean < centroid.mean) {
                self.walk(smaller, out);
            }
            self.walk(centroid, out);
        }
        head.for_each(|centroid| self.walk(centroid, out));
    }

    /// Takes the walk one centroid further.
    #[inline]
    fn walk(&mut self, next: Centroid, out: &mut Vec<Centroid>) {
        if let Some(kept) = out.last_mut() {
            if self.folds(&next, kept) {
                return;
            }
        } else {
            self.open(next.weight);
        }
        out.push(next);
    }

    /// Folds `next` into `kept` and says true, or opens a new centroid for it and says false.
    #[inline]
    fn folds(&mut self, next: &Centroid, kept: &mut Centroid) -> bool {
        let reached = self.walked + next.weight;
        let spans_a_step = if reached <= self.joins {
            false
        } else if reached >= self.opens && reached <= self.tops {
            true
        } else {
            self.scale(reached) - self.scale(self.opened) > 1.0
        };
        if spans_a_step {
            self.open(next.weight);
            false
        } else {
            kept.fold(*next);
            self.walked = reached;
            true
        }
    }

    /// Opens a centroid where the walk stands, and walks over its first weight.
    #[inline]
    fn open(&mut self, weight: f64) {
        self.opened = self.walked;
        self.walked += weight;
        let sin = 2.0 * (self.opened / self.total) - 1.0;
        let limit = if self.compression < 2.0 {
            // A step is more than a right angle: the theorem no longer tells sides apart, so every decision is made by arcsines.
            (self.joins, self.opens) = (f64::NEG_INFINITY, f64::INFINITY);
            return;
        } else if sin > self.cos_step + DOUBT {
            // Less than a step is left.
            2.0
        } else {
            let cos = ((1.0 - sin) * (1.0 + sin)).max(0.0).sqrt();
            sin * self.cos_step + cos * self.sin_step
        };
        let share = (limit + 1.0) * 0.5;
        self.joins = self.total * (share - DOUBT);
        self.opens = self.total * (share + DOUBT);
    }

    /// Where the weight walked over stands on the scale. NaN past the end.
    fn scale(&self, walked: f64) -> f64 {
        self.compression * ((2.0 * (walked / self.total) - 1.0).asin() / PI + 0.5)
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    /// The pass as Veneur has it: two arcsines for each centroid.
    fn plain(sorted: &[Centroid], compression: f64, total: f64) -> Vec<Centroid> {
        let scale = |q: f64| compression * ((2.0 * q - 1.0).asin() / PI + 0.5);
        let mut out: Vec<Centroid> = Vec::new();
        let (mut walked, mut opened) = (0.0, 0.0);
        for &next in sorted {
            let reached = scale((walked + next.weight) / total);
            match out.last_mut() {
                Some(kept) if reached - opened <= 1.0 || reached.is_nan() || opened.is_nan() => {
                    kept.fold(next)
                }
                _ => {
                    opened = scale(walked / total);
                    out.push(next);
                }
            }
            walked += next.weight;
        }
        out
    }

    fn assert_as_plain(weights: &[f64], compression: f64) {
        let sorted: Vec<Centroid> = (0_u32..)
            .zip(weights)
            .map(|(mean, &weight)| Centroid {
                mean: f64::from(mean),
                weight,
            })
            .collect();
        let total = weights.iter().sum();
        let expected = plain(&sorted, compression, total);
        let mut out = Vec::new();
        Pass::new(compression, total).merge(&[], &sorted, &mut out);
        assert_eq!(out, expected, "compression {compression}");
    }

    #[test]
    fn equal_weights_fall_on_the_same_side_as_by_arcsines() {
        for compression in [
            0.5, 1.0, 1.9, 2.0, 3.0, 6.0, 20.0, 50.0, 100.0, 1000.0, 10_000.0,
        ] {
            for n in [1, 2, 3, 4, 7, 8, 64, 100, 1000, 20_000] {
                assert_as_plain(&vec![1.0; n], compression);
                assert_as_plain(&vec![0.1; n], compression);
            }
        }
    }

    proptest! {
        #[test]
        fn any_weights_fall_on_the_same_side_as_by_arcsines(
            weights in vec(prop_oneof![1e-6..1e-3_f64, 1.0..100.0_f64, Just(1.0), 1e6..1e15_f64], 1..500),
            compression in prop_oneof![Just(100.0), 1.0..1000.0_f64],
        ) {
            assert_as_plain(&weights, compression);
        }
    }
}
