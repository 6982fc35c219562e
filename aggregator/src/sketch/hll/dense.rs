//! The sketch of a large set: 16,384 registers of four bits over a common offset, two to a byte, the even one in the upper half.

use super::sparse::Sparse;
use super::{MAX_RANK, PRECISION, REGISTERS};

/// Bytes of all registers.
pub(super) const BYTES: usize = REGISTERS / 2;

/// Values that a register can have.
const CAPACITY: u8 = 16;

/// The registers: for each, the highest rank seen less the offset.
#[derive(Debug, Clone)]
pub(super) struct Dense {
    pub(super) registers: Box<[u8]>,
    pub(super) offset: u8,
    /// How many registers are zero, as Veneur counts them: wrong after an estimate and after some merges. The offset rises only while this is zero, so
    /// the errors show in the bytes and are kept.
    zeros: u32,
}

impl Default for Dense {
    fn default() -> Self {
        Self {
            registers: vec![0; BYTES].into_boxed_slice(),
            offset: 0,
            zeros: REGISTERS as u32,
        }
    }
}

impl Dense {
    /// Takes registers as they are; there are [`BYTES`] bytes of them.
    pub(super) fn from_registers(registers: Box<[u8]>, offset: u8) -> Self {
        let zeros = registers
            .iter()
            .map(|&byte| u32::from(byte >> 4 == 0) + u32::from(byte & 0xf == 0))
            .sum();
        Self {
            registers,
            offset,
            zeros,
        }
    }

    pub(super) fn insert_hash(&mut self, hash: u64) {
        let register = (hash >> (64 - PRECISION)) as u16;
        let rest = hash << PRECISION | 1 << (PRECISION - 1);
        self.insert(register, rest.leading_zeros() as u8 + 1);
    }

    pub(super) fn insert_codes(&mut self, sparse: &Sparse) {
        for code in sparse.codes() {
            let (register, rank) = code.register_and_rank();
            self.insert(register, rank);
        }
    }

    fn insert(&mut self, register: u16, rank: u8) {
        // A rank below the offset wraps and asks for room, too: a quirk of the original.
        if rank.wrapping_sub(self.offset) >= CAPACITY {
            // Only registers that no hash leads to would carry the offset past the highest rank, where nobody could read the sketch.
            let lowest = self.lowest().min(MAX_RANK.saturating_sub(self.offset));
            if lowest > 0 {
                self.offset += lowest;
                self.rebase(lowest);
            }
        }
        if rank > self.offset {
            self.raise(register, (rank - self.offset).min(CAPACITY - 1));
        }
    }

    /// Brings a register to at least `value`.
    fn raise(&mut self, register: u16, value: u8) {
        let Some(byte) = self.registers.get_mut(usize::from(register / 2)) else {
            return;
        };
        let shift = if register.is_multiple_of(2) { 4 } else { 0 };
        let old = *byte >> shift & 0xf;
        if value > old {
            *byte = *byte & !(0xf << shift) | value << shift;
            self.zeros = self.zeros.wrapping_sub(u32::from(old == 0));
        }
    }

    /// The lowest register, zero without a look when some are counted as zero.
    fn lowest(&self) -> u8 {
        if self.zeros > 0 {
            return 0;
        }
        self.registers
            .iter()
            .map(|&byte| (byte >> 4).min(byte & 0xf))
            .min()
            .unwrap_or(0)
    }

    /// Lowers the registers by `delta`.
    fn rebase(&mut self, delta: u8) {
        self.zeros = REGISTERS as u32;
        for byte in &mut self.registers {
            let (even, odd) = (*byte >> 4, *byte & 0xf);
            self.zeros -= u32::from(even > delta) + u32::from(odd > delta);
            *byte = lowered(even, delta) << 4 | lowered(odd, delta);
        }
    }

    pub(super) fn merge(&mut self, other: &Self) {
        if self.offset < other.offset {
            self.rebase(other.offset - self.offset);
            self.offset = other.offset;
        }
        let delta = self.offset - other.offset;
        let mut filled = 0;
        for (ours, &theirs) in self.registers.iter_mut().zip(&other.registers) {
            let (even, odd) = (*ours >> 4, *ours & 0xf);
            let (their_even, their_odd) =
                (lowered(theirs >> 4, delta), lowered(theirs & 0xf, delta));
            filled += u32::from(even == 0 && their_even > 0) + u32::from(odd == 0 && their_odd > 0);
            *ours = even.max(their_even) << 4 | odd.max(their_odd);
        }
        self.zeros = self.zeros.wrapping_sub(filled);
    }

    /// LogLog-Beta while the offset is zero, the plain harmonic estimate above.
    pub(super) fn estimate(&mut self) -> u64 {
        let mut of_value = [0_u32; CAPACITY as usize];
        let mut zero_evens = 0;
        for &byte in &self.registers {
            for value in [byte >> 4, byte & 0xf] {
                if let Some(count) = of_value.get_mut(usize::from(value)) {
                    *count += 1;
                }
            }
            zero_evens += u32::from(byte >> 4 == 0);
        }
        let offset = i32::from(self.offset);
        let sum: f64 = (offset..)
            .zip(of_value)
            .map(|(rank, count)| f64::from(count) * 2_f64.powi(-rank))
            .sum();
        // Each even register is looked at twice and the odd ones never; with an offset no register is zero.
        self.zeros = if self.offset == 0 { 2 * zero_evens } else { 0 };

        let m = REGISTERS as f64;
        let alpha = 0.7213 / (1.0 + 1.079 / m);
        let zeros = f64::from(self.zeros);
        let estimate = if self.offset == 0 {
            alpha * m * (m - zeros) / (sum + beta(zeros)) + 0.5
        } else {
            alpha * m * m / sum + 0.5
        };
        (estimate + 0.5) as u64
    }
}

/// What a rebase makes of a register: those below the difference keep their value, a quirk of the original.
fn lowered(value: u8, delta: u8) -> u8 {
    if value >= delta { value - delta } else { value }
}

/// The bias of LogLog-Beta at precision 14 (Qin, Kim, Tung: "LogLog-Beta and More", 2016).
fn beta(zeros: f64) -> f64 {
    let z = (zeros + 1.0).ln();
    -0.370393911 * zeros + 0.070471823 * z + 0.17393686 * z.powi(2) + 0.16339839 * z.powi(3)
        - 0.09237745 * z.powi(4)
        + 0.03738027 * z.powi(5)
        - 0.005384159 * z.powi(6)
        + 0.00042419 * z.powi(7)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_register_keeps_its_highest_rank_and_leaves_its_neighbour_alone() {
        let mut dense = Dense::default();
        for (register, rank) in [(6, 3), (7, 9), (6, 2), (7, 40)] {
            dense.insert(register, rank);
        }
        assert_eq!(dense.registers[3], 0x3f);
        assert_eq!(dense.zeros, REGISTERS as u32 - 2);
    }

    #[test]
    fn the_offset_rises_only_when_a_rank_needs_it_and_no_register_is_zero() {
        let mut dense = Dense::default();
        for register in 0..REGISTERS as u16 {
            dense.insert(register, 2);
        }
        dense.insert(1, 15);
        assert_eq!(dense.offset, 0);
        dense.insert(0, 17);
        assert_eq!(
            (dense.offset, dense.registers[0], dense.registers[1]),
            (2, 0xfd, 0)
        );
        assert_eq!(dense.zeros, REGISTERS as u32 - 2);
    }

    #[test]
    fn the_offset_never_passes_the_highest_rank() {
        let registers = vec![0xff; BYTES].into_boxed_slice();
        let mut dense = Dense::from_registers(registers, MAX_RANK - 1);
        dense.insert(0, 1);
        assert_eq!((dense.offset, dense.registers[0]), (MAX_RANK, 0xee));
        dense.insert(0, 1);
        assert_eq!((dense.offset, dense.registers[0]), (MAX_RANK, 0xee));
    }

    #[test]
    fn registers_below_the_difference_of_offsets_keep_their_value() {
        let mut dense = Dense::default();
        dense.insert(0, 2);
        dense.insert(1, 7);
        dense.rebase(5);
        assert_eq!(dense.registers[0], 0x22);
        assert_eq!(dense.zeros, REGISTERS as u32 - 1);
    }
}
