//! A set as bytes, the form in which Veneur's agents forward it. All numbers are big-endian.
//!
//! | bytes | what |
//! |---|---|
//! | 1 | version, 1 |
//! | 1 | precision, 14 |
//! | 1 | the registers' offset, 0 in a sparse sketch |
//! | 1 | layout: 1 sparse, 0 dense |
//! | *dense:* 4 | number of bytes, 8,192 |
//! | 8,192 | registers |
//! | *sparse:* 4 | number of codes that wait |
//! | 4 each | those codes, in any order |
//! | 4 + 4 + 4 | the list's number of codes, its last code, its number of bytes |
//! | as said | the list |
//!
//! Everything is checked before a sketch is made. Veneur does not look at the version, since there is only this one; a format to come cannot be guessed, so any
//! other is refused.

use super::dense::{BYTES, Dense};
use super::error::HllError;
use super::sparse::{Code, CodeList, Sparse, difference};
use super::{HyperLogLog, Layout, MAX_RANK, PRECISION, REGISTERS};

const VERSION: u8 = 1;
const DENSE: u8 = 0;
const SPARSE: u8 = 1;

/// The most codes that may wait. A sender folds at 164.
const MAX_WAITING: usize = REGISTERS;

/// The most bytes of a list. A sender changes to registers at half of this.
const MAX_LIST: usize = 2 * REGISTERS;

impl HyperLogLog {
    /// A sketch as its sender had it.
    ///
    /// # Errors
    /// Bytes that are not one whole sketch of precision 14, or hold what no sender can come to.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, HllError> {
        let mut rest = Rest(bytes);
        let [version, precision, offset, layout] = rest.take("the header")?;
        if version != VERSION {
            return Err(HllError::Version(version));
        }
        if precision != PRECISION {
            return Err(HllError::Precision(precision));
        }
        let layout = match layout {
            SPARSE if offset > 0 => return Err(HllError::Offset(offset)),
            SPARSE => Layout::Sparse(read_sparse(&mut rest)?),
            DENSE if offset > MAX_RANK => return Err(HllError::Offset(offset)),
            DENSE => Layout::Dense(read_dense(&mut rest, offset)?),
            other => return Err(HllError::Layout(other)),
        };
        match rest.0.len() {
            0 => Ok(Self { layout }),
            more => Err(HllError::Trailing(more)),
        }
    }

    /// The sketch as bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        match &self.layout {
            Layout::Sparse(Sparse { waiting, list }) => {
                let mut out = Vec::with_capacity(20 + 4 * waiting.len() + list.bytes.len());
                out.extend([VERSION, PRECISION, 0, SPARSE]);
                put(&mut out, waiting.len() as u32);
                for code in waiting {
                    put(&mut out, code.0);
                }
                put(&mut out, list.count);
                put(&mut out, list.last);
                put(&mut out, list.bytes.len() as u32);
                out.extend_from_slice(&list.bytes);
                out
            }
            Layout::Dense(dense) => {
                let mut out = Vec::with_capacity(8 + BYTES);
                out.extend([VERSION, PRECISION, dense.offset, DENSE]);
                put(&mut out, BYTES as u32);
                out.extend_from_slice(&dense.registers);
                out
            }
        }
    }
}

fn put(out: &mut Vec<u8>, number: u32) {
    out.extend(number.to_be_bytes());
}

fn read_dense(rest: &mut Rest<'_>, offset: u8) -> Result<Dense, HllError> {
    let stated = rest.number("the number of register bytes")?;
    if stated as usize != BYTES {
        return Err(HllError::Registers(stated));
    }
    let registers = rest.slice(BYTES, "the registers")?;
    Ok(Dense::from_registers(registers.into(), offset))
}

fn read_sparse(rest: &mut Rest<'_>) -> Result<Sparse, HllError> {
    let number = rest.number("the number of waiting codes")?;
    let number = bounded(number, MAX_WAITING)?;
    let (codes, _) = rest.slice(4 * number, "the waiting codes")?.as_chunks();
    let mut waiting = codes
        .iter()
        .map(|&code| possible(u32::from_be_bytes(code).into()))
        .collect::<Result<Vec<_>, _>>()?;
    waiting.sort_unstable();
    waiting.dedup();

    let count = rest.number("the number of listed codes")?;
    let last = rest.number("the last code")?;
    let length = rest.number("the length of the list")?;
    let bytes = rest.slice(bounded(length, MAX_LIST)?, "the list")?;
    check_list(bytes, count, last)?;
    Ok(Sparse {
        waiting,
        list: CodeList {
            bytes: bytes.into(),
            count,
            last,
        },
    })
}

/// Checks that a list is what its three numbers say, and that its codes are possible and ascend.
fn check_list(list: &[u8], stated_count: u32, stated_last: u32) -> Result<(), HllError> {
    if list.last().is_some_and(|&byte| byte >= 0x80) {
        return Err(HllError::Truncated("a listed code"));
    }
    let mut rest = list.iter();
    let (mut found, mut code) = (0, 0_u64);
    while let Some(difference) = difference(&mut rest) {
        // Code 0 is impossible, so the first difference, too, must be above zero.
        code = code.saturating_add(difference);
        if difference == 0 {
            return Err(HllError::Code(code));
        }
        possible(code)?;
        found += 1;
    }
    if found != stated_count {
        return Err(HllError::Count {
            stated: stated_count,
            found,
        });
    }
    let found = code as u32;
    if found != stated_last {
        return Err(HllError::Last {
            stated: stated_last,
            found,
        });
    }
    Ok(())
}

fn possible(code: u64) -> Result<Code, HllError> {
    u32::try_from(code)
        .ok()
        .map(Code)
        .filter(|code| code.is_possible())
        .ok_or(HllError::Code(code))
}

fn bounded(number: u32, most: usize) -> Result<usize, HllError> {
    let size = number as usize;
    if size <= most {
        Ok(size)
    } else {
        Err(HllError::Oversized(number, most))
    }
}

/// What is not read yet.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn take<const N: usize>(&mut self, part: &'static str) -> Result<[u8; N], HllError> {
        let (taken, rest) = self
            .0
            .split_first_chunk()
            .ok_or(HllError::Truncated(part))?;
        self.0 = rest;
        Ok(*taken)
    }

    fn number(&mut self, part: &'static str) -> Result<u32, HllError> {
        self.take(part).map(u32::from_be_bytes)
    }

    fn slice(&mut self, length: usize, part: &'static str) -> Result<&'a [u8], HllError> {
        let (taken, rest) = self
            .0
            .split_at_checked(length)
            .ok_or(HllError::Truncated(part))?;
        self.0 = rest;
        Ok(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sketch(members: u32) -> HyperLogLog {
        let mut sketch = HyperLogLog::new();
        for member in 0..members {
            sketch.insert(&member.to_le_bytes());
        }
        sketch
    }

    fn cause(bytes: &[u8]) -> &'static str {
        HyperLogLog::from_bytes(bytes).unwrap_err().cause()
    }

    /// A sparse sketch of a list that says what it likes.
    fn listed(count: u32, last: u32, length: u32, list: &[u8]) -> Vec<u8> {
        let mut bytes = vec![1, 14, 0, 1, 0, 0, 0, 0];
        for number in [count, last, length] {
            put(&mut bytes, number);
        }
        bytes.extend(list);
        bytes
    }

    #[test]
    fn an_empty_sketch_is_twenty_bytes() {
        let mut expected = vec![1, 14, 0, 1];
        expected.resize(20, 0);
        assert_eq!(HyperLogLog::new().to_bytes(), expected);
    }

    #[test]
    fn every_shorter_and_every_longer_form_is_refused() {
        for members in [0, 5, 170, 300, 20_000] {
            let mut bytes = sketch(members).to_bytes();
            for length in (0..bytes.len()).rev().step_by(1 + bytes.len() / 500) {
                assert_eq!(
                    cause(&bytes[..length]),
                    "truncated",
                    "{members} members, {length} bytes"
                );
            }
            bytes.push(0);
            assert_eq!(cause(&bytes), "trailing");
        }
    }

    #[test]
    fn each_field_that_lies_has_its_cause() {
        let with = |place: usize, byte: u8, members| {
            let mut bytes = sketch(members).to_bytes();
            bytes[place] = byte;
            bytes
        };
        assert_eq!(cause(&with(0, 2, 5)), "version");
        assert_eq!(cause(&with(1, 16, 5)), "precision");
        assert_eq!(cause(&with(1, 3, 20_000)), "precision");
        assert_eq!(cause(&with(2, 1, 5)), "offset");
        assert_eq!(cause(&with(2, 52, 20_000)), "offset");
        assert_eq!(cause(&with(3, 2, 5)), "layout");
        assert_eq!(cause(&with(4, 0x80, 5)), "oversized");
        assert_eq!(cause(&with(6, 0x1f, 20_000)), "registers");
        assert_eq!(cause(&with(11, 1, 1)), "code");
        assert_eq!(cause(&with(8, 0x7f, 1)), "code");
    }

    #[test]
    fn a_list_must_be_what_its_numbers_say() {
        assert!(HyperLogLog::from_bytes(&listed(2, 6, 2, &[2, 4])).is_ok());
        assert_eq!(cause(&listed(1, 6, 2, &[2, 4])), "count");
        assert_eq!(cause(&listed(3, 6, 2, &[2, 4])), "count");
        assert_eq!(cause(&listed(2, 4, 2, &[2, 4])), "last");
        assert_eq!(cause(&listed(2, 2, 2, &[2, 0])), "code");
        assert_eq!(cause(&listed(1, 0, 1, &[0])), "code");
        assert_eq!(cause(&listed(2, 6, 2, &[2, 0x84])), "truncated");
        assert_eq!(cause(&listed(1, 2, 1, &[2, 4])), "trailing");
        assert_eq!(cause(&listed(2, 6, 3, &[2, 4])), "truncated");
        assert_eq!(cause(&listed(2, 6, u32::MAX, &[2, 4])), "oversized");
        assert_eq!(
            cause(&listed(1, 2, 6, &[0xff, 0xff, 0xff, 0xff, 0xff, 0x01])),
            "code"
        );
        assert_eq!(
            cause(&listed(1, 2, 5, &[0xff, 0xff, 0xff, 0xff, 0x7f])),
            "code"
        );
    }
}
