//! HyperLogLog: how many different values a set had, in at most 8 KB and with an error of about 0.8 %.
//!
//! The variant of the Go package axiomhq/hyperloglog at precision 14, which Veneur uses for sets. A small set keeps sparse codes of its members' hashes and
//! is practically exact; one that outgrows that keeps 16,384 dense registers of four bits over a common offset.
//!
//! What always holds:
//! - equal members in equal order give the bytes that Veneur gives, but for the codes that still wait: theirs are in random order, ours ascend;
//! - a sparse sketch holds only codes that some hash can give.
//!
//! **Quirks that are kept**, because a mixed fleet must agree on every number: the count of zero registers takes each even register twice; an estimate overwrites the
//! count that decides about the offset; registers below the difference of two offsets keep their value when sketches are merged, which overestimates
//! (2,000,000 ∪ 20,000 members by 4 %). **One is not**: Veneur dies of malformed bytes, here they are refused.

mod dense;
mod error;
#[cfg(test)]
mod golden;
#[cfg(test)]
mod properties;
mod sparse;
mod wire;

use std::hash::Hasher;

use metrohash::MetroHash64;

use self::dense::Dense;
pub use self::error::HllError;
use self::sparse::{Code, Room, Sparse};

/// Bits of a hash that choose the register.
const PRECISION: u8 = 14;

/// Registers of a dense sketch.
const REGISTERS: usize = 1 << PRECISION;

/// The highest rank that a hash has: 64 bits less those that choose the register, and one.
const MAX_RANK: u8 = 64 - PRECISION + 1;

/// The seed that all sketches of a fleet share.
const SEED: u64 = 1337;

/// The set of members seen, as far as needed to tell how many.
///
/// Uses no heap until the first member, a few bytes for each of the first members, and 8 KB once it has seen about 7,700.
#[derive(Debug, Clone, Default)]
pub struct HyperLogLog {
    layout: Layout,
}

#[derive(Debug, Clone)]
enum Layout {
    Sparse(Sparse),
    Dense(Dense),
}

impl Default for Layout {
    fn default() -> Self {
        Self::Sparse(Sparse::default())
    }
}

impl HyperLogLog {
    /// An empty sketch.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes a member in.
    pub fn insert(&mut self, member: &[u8]) {
        self.insert_hash(hash(member));
    }

    /// Reads the fields that [`HyperLogLog::insert`] into a small set will, so that they are near by then; the number means nothing.
    #[inline]
    pub(crate) fn warm(&self) -> usize {
        match &self.layout {
            Layout::Sparse(sparse) => sparse.waiting.len(),
            Layout::Dense(_) => 0,
        }
    }

    /// The same for the codes that wait.
    #[inline]
    pub(crate) fn warm_waiting(&self) -> u32 {
        match &self.layout {
            Layout::Sparse(sparse) => sparse.waiting.first().map_or(0, |code| code.0),
            Layout::Dense(_) => 0,
        }
    }

    fn insert_hash(&mut self, hash: u64) {
        match &mut self.layout {
            Layout::Sparse(sparse) => {
                if sparse.insert(Code::of(hash)) == Room::Exceeded {
                    self.layout = Layout::Dense(sparse.to_dense());
                }
            }
            Layout::Dense(dense) => dense.insert_hash(hash),
        }
    }

    /// How many different members were taken in, about. To be asked at the end: as with Veneur it leaves traces. Codes that wait are sorted in, and a dense sketch
    /// that goes on growing chooses its offset by a wrong count of zeros.
    pub fn estimate(&mut self) -> u64 {
        match &mut self.layout {
            Layout::Sparse(sparse) => sparse.estimate(),
            Layout::Dense(dense) => dense.estimate(),
        }
    }

    /// Takes in all that `other` has seen.
    pub fn merge(&mut self, other: &Self) {
        match (&mut self.layout, &other.layout) {
            (Layout::Sparse(ours), Layout::Sparse(theirs)) => {
                if ours.merge(theirs) == Room::Exceeded {
                    self.layout = Layout::Dense(ours.to_dense());
                }
            }
            (Layout::Sparse(ours), Layout::Dense(theirs)) => {
                let mut ours = ours.to_dense();
                ours.merge(theirs);
                self.layout = Layout::Dense(ours);
            }
            (Layout::Dense(ours), Layout::Sparse(theirs)) => ours.insert_codes(theirs),
            (Layout::Dense(ours), Layout::Dense(theirs)) => ours.merge(theirs),
        }
    }
}

/// The hash that all sketches of a fleet share.
fn hash(member: &[u8]) -> u64 {
    let mut hasher = MetroHash64::with_seed(SEED);
    hasher.write(member);
    hasher.finish()
}
