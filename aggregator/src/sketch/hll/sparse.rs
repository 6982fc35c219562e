//! The sketch of a small set: the codes of its members' hashes, at precision 25.
//!
//! New codes wait in a short sorted list; when 164 wait, they are folded into a byte string of the differences between ascending codes. A string above 16,384 bytes
//! is the point where registers are smaller.

use super::dense::Dense;
use super::{PRECISION, REGISTERS};

/// Bits of a hash that a code keeps.
const SPARSE_PRECISION: u8 = 25;

/// What a code keeps beyond the bits that choose the register.
const EXTRA_BITS: u8 = SPARSE_PRECISION - PRECISION;
const EXTRA_MASK: u32 = (1 << EXTRA_BITS) - 1;

/// Bits of a hash that a code does not keep.
const REST_BITS: u8 = 64 - SPARSE_PRECISION;

/// Whether a set is still small.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Room {
    Left,
    Exceeded,
}

/// What a sparse sketch keeps of a hash.
///
/// Even codes are the hash's top 25 bits, shifted. Where the last 11 of those are zero they do not tell the rank, so the code is odd and carries the rank of
/// the bits behind them, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Code(pub(super) u32);

impl Code {
    pub(super) fn of(hash: u64) -> Self {
        let top = (hash >> REST_BITS) as u32;
        if top & EXTRA_MASK == 0 {
            let rest = hash << SPARSE_PRECISION | ((1 << SPARSE_PRECISION) - 1);
            let rank = rest.leading_zeros() + 1;
            Self(top << 7 | rank << 1 | 1)
        } else {
            Self(top << 1)
        }
    }

    /// The register and the rank that the hash has in a dense sketch.
    pub(super) fn register_and_rank(self) -> (u16, u8) {
        let mask = (REGISTERS - 1) as u32;
        let (register, rank) = if self.0 & 1 == 1 {
            (self.0 >> 18, (self.0 >> 1 & 0x3f) + u32::from(EXTRA_BITS))
        } else {
            (self.0 >> 12, (self.0 << 20).leading_zeros() + 1)
        };
        ((register & mask) as u16, rank as u8)
    }

    /// Whether some hash gives this code.
    pub(super) fn is_possible(self) -> bool {
        if self.0 & 1 == 1 {
            let rank = self.0 >> 1 & 0x3f;
            self.0 >> 7 & EXTRA_MASK == 0 && (1..=u32::from(REST_BITS) + 1).contains(&rank)
        } else {
            self.0 >> (SPARSE_PRECISION + 1) == 0 && self.0 >> 1 & EXTRA_MASK != 0
        }
    }
}

/// The codes of a small set.
#[derive(Debug, Clone, Default)]
pub(super) struct Sparse {
    /// Ascending, without repetition; may repeat codes of the list.
    pub(super) waiting: Vec<Code>,
    pub(super) list: CodeList,
}

impl Sparse {
    pub(super) fn insert(&mut self, code: Code) -> Room {
        if let Err(place) = self.waiting.binary_search(&code) {
            self.waiting.insert(place, code);
        }
        self.check()
    }

    pub(super) fn merge(&mut self, other: &Self) -> Room {
        self.waiting.extend_from_slice(&other.waiting);
        self.waiting.extend(other.list.iter());
        self.waiting.sort_unstable();
        self.waiting.dedup();
        self.check()
    }

    fn check(&mut self) -> Room {
        if self.waiting.len() * 100 <= REGISTERS {
            return Room::Left;
        }
        self.fold();
        if self.list.bytes.len() > REGISTERS {
            Room::Exceeded
        } else {
            Room::Left
        }
    }

    /// Brings the codes that wait into the list.
    pub(super) fn fold(&mut self) {
        if self.waiting.is_empty() {
            return;
        }
        let mut folded = CodeList::with_capacity(self.list.bytes.len() + 2 * self.waiting.len());
        let mut listed = self.list.iter().peekable();
        for &code in &self.waiting {
            while let Some(smaller) = listed.next_if(|&listed| listed < code) {
                folded.push(smaller);
            }
            listed.next_if_eq(&code);
            folded.push(code);
        }
        listed.for_each(|code| folded.push(code));
        self.list = folded;
        self.waiting = Vec::new();
    }

    /// Linear counting over the 2^25 codes' places.
    pub(super) fn estimate(&mut self) -> u64 {
        self.fold();
        let places = f64::from(1_u32 << SPARSE_PRECISION);
        (places * (places / (places - f64::from(self.list.count))).ln()) as u64
    }

    /// The registers that these codes lead to.
    pub(super) fn to_dense(&self) -> Dense {
        let mut dense = Dense::default();
        dense.insert_codes(self);
        dense
    }

    /// All codes, some of them perhaps twice.
    pub(super) fn codes(&self) -> impl Iterator<Item = Code> {
        self.waiting.iter().copied().chain(self.list.iter())
    }
}

/// Ascending codes, each as the difference to the one before in groups of seven bits, lowest first.
#[derive(Debug, Clone, Default)]
pub(super) struct CodeList {
    pub(super) bytes: Vec<u8>,
    pub(super) count: u32,
    pub(super) last: u32,
}

impl CodeList {
    fn with_capacity(bytes: usize) -> Self {
        Self {
            bytes: Vec::with_capacity(bytes),
            ..Self::default()
        }
    }

    /// Appends a code above all others.
    fn push(&mut self, code: Code) {
        let mut difference = code.0.wrapping_sub(self.last);
        while difference >= 0x80 {
            self.bytes.push(difference as u8 | 0x80);
            difference >>= 7;
        }
        self.bytes.push(difference as u8);
        self.last = code.0;
        self.count += 1;
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = Code> {
        let mut rest = self.bytes.iter();
        let mut last = 0_u32;
        std::iter::from_fn(move || {
            last = last.wrapping_add(difference(&mut rest)? as u32);
            Some(Code(last))
        })
    }
}

/// Reads one difference: `None` at the end, or where the bytes end inside one. At most five bytes are read, so the result may exceed 32 bits.
pub(super) fn difference<'a>(bytes: &mut impl Iterator<Item = &'a u8>) -> Option<u64> {
    let mut value = 0;
    for shift in [0, 7, 14, 21, 28] {
        let byte = *bytes.next()?;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    Some(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_tells_register_and_rank_as_the_whole_hash_does() {
        for zeros in 0..50 {
            let hash =
                0x1234 << 50 | 1_u64 << (49 - zeros) | ((1 << (49 - zeros)) - 1) & 0x5555_5555_5555;
            let code = Code::of(hash);
            assert!(code.is_possible(), "{zeros}");
            assert_eq!(code.register_and_rank(), (0x1234, zeros + 1), "{zeros}");
        }
        assert_eq!(Code::of(0x1234 << 50).register_and_rank(), (0x1234, 51));
    }

    #[test]
    fn codes_that_no_hash_gives_are_told_apart() {
        for code in [
            0,
            1 << 26,
            1 << 12,
            u32::MAX,
            1,
            41 << 1 | 1 | 1 << 18,
            1 << 7 | 3,
        ] {
            assert!(!Code(code).is_possible(), "{code:#x}");
        }
        for code in [2, (1 << 26) - 2, 3, 0xfffc_0000 | 40 << 1 | 1] {
            assert!(Code(code).is_possible(), "{code:#x}");
        }
    }

    #[test]
    fn folding_keeps_codes_ascending_and_unique() {
        let mut sparse = Sparse::default();
        for code in [40, 2, 1000, 2, 70_000] {
            sparse.insert(Code(code));
        }
        sparse.fold();
        for code in [2, 6, 90_000] {
            sparse.insert(Code(code));
        }
        sparse.fold();
        assert_eq!(
            sparse.list.iter().map(|code| code.0).collect::<Vec<_>>(),
            [2, 6, 40, 1000, 70_000, 90_000]
        );
        assert_eq!((sparse.list.count, sparse.list.last), (6, 90_000));
    }

    #[test]
    fn a_small_set_is_small_in_memory() {
        let mut sparse = Sparse::default();
        assert_eq!(
            (sparse.waiting.capacity(), sparse.list.bytes.capacity()),
            (0, 0)
        );
        sparse.insert(Code(2));
        assert!(sparse.waiting.capacity() * size_of::<Code>() <= 16);
    }
}
