//! Reading a digest.

use thiserror::Error;

use super::define::{Definitions, Role};
use super::{FLOAT, MAX_CENTROIDS};
use crate::tdigest::{Centroid, MergingDigestData};

/// Why bytes are not a digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum GobError {
    /// It ends too early.
    #[error("gob value is cut off")]
    Truncated,
    /// An integer of more than eight bytes, or one that is out of range where it stands.
    #[error("gob integer is out of range")]
    Integer,
    /// A type definition that no digest needs, or that is not well formed.
    #[error("gob type definition is not that of a digest")]
    Definition,
    /// A value of this type stands where a digest has another.
    #[error("gob value has unexpected type {0}")]
    Type(i64),
    /// A centroid has a field that its type does not have.
    #[error("gob field {0} is not defined")]
    Field(u64),
    /// More elements are announced than there can be.
    #[error("gob count {0} is too large")]
    Count(u64),
    /// A message is longer than what it holds.
    #[error("gob message is too long")]
    Trailing,
}

/// Reads a digest. A missing reciprocal sum is 0; bytes after the reciprocal sum are left unread, as Go leaves them.
///
/// Whether the numbers make sense as a digest is not looked at.
///
/// # Errors
/// See [`GobError`].
pub fn decode(bytes: &[u8]) -> Result<MergingDigestData, GobError> {
    let mut stream = Stream {
        rest: Cursor(bytes),
        types: Definitions::default(),
    };
    let main_centroids = stream.centroids()?;
    let compression = stream.float()?;
    let min = stream.float()?;
    let max = stream.float()?;
    let reciprocal_sum = if stream.rest.0.is_empty() {
        0.0
    } else {
        stream.float()?
    };
    Ok(MergingDigestData {
        main_centroids,
        compression,
        min,
        max,
        reciprocal_sum,
    })
}

/// A stream of values.
struct Stream<'a> {
    rest: Cursor<'a>,
    types: Definitions<'a>,
}

impl<'a> Stream<'a> {
    /// The next value that is no struct at its top: its type, and its content. Takes in the type definitions before it.
    fn value(&mut self) -> Result<(i64, Cursor<'a>), GobError> {
        loop {
            let mut message = Cursor(self.rest.bytes()?);
            let id = message.int()?;
            if id >= 0 {
                return match message.uint()? {
                    0 => Ok((id, message)),
                    _ => Err(GobError::Type(id)),
                };
            }
            let defined = id.checked_neg().ok_or(GobError::Integer)?;
            self.types.add(defined, &mut message)?;
            message.end()?;
        }
    }

    fn float(&mut self) -> Result<f64, GobError> {
        let (id, mut content) = self.value()?;
        if id != FLOAT {
            return Err(GobError::Type(id));
        }
        let value = content.float()?;
        content.end()?;
        Ok(value)
    }

    fn centroids(&mut self) -> Result<Vec<Centroid>, GobError> {
        let (id, mut content) = self.value()?;
        let roles = self.types.centroid(id)?;
        let mut centroids = Vec::new();
        for _ in 0..content.count(MAX_CENTROIDS)? {
            centroids.push(centroid(&mut content, &roles)?);
        }
        content.end()?;
        Ok(centroids)
    }
}

fn centroid(content: &mut Cursor<'_>, roles: &[Role]) -> Result<Centroid, GobError> {
    let mut centroid = Centroid::default();
    let mut last = 0;
    while let Some(number) = content.field(&mut last)? {
        let place = usize::try_from(number - 1).map_err(|_| GobError::Field(number))?;
        match roles.get(place).ok_or(GobError::Field(number))? {
            Role::Mean => centroid.mean = content.float()?,
            Role::Weight => centroid.weight = content.float()?,
            Role::Samples => {
                for _ in 0..content.count(usize::MAX)? {
                    centroid.samples.push(content.float()?);
                }
            }
        }
    }
    Ok(centroid)
}

/// What is left to read.
pub(super) struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], GobError> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(GobError::Truncated)?;
        self.0 = rest;
        Ok(taken)
    }

    /// Below 128 the byte itself, else the negated count of the big-endian bytes that follow.
    fn uint(&mut self) -> Result<u64, GobError> {
        let (&first, rest) = self.0.split_first().ok_or(GobError::Truncated)?;
        self.0 = rest;
        if first < 0x80 {
            return Ok(u64::from(first));
        }
        let length = usize::from(first.wrapping_neg());
        if length > 8 {
            return Err(GobError::Integer);
        }
        let bytes = self.take(length)?;
        Ok(bytes
            .iter()
            .fold(0, |value, byte| value << 8 | u64::from(*byte)))
    }

    /// The lowest bit tells whether the others are to be complemented.
    pub(super) fn int(&mut self) -> Result<i64, GobError> {
        let value = self.uint()?;
        let shifted = (value >> 1) as i64;
        Ok(if value & 1 == 1 { !shifted } else { shifted })
    }

    fn float(&mut self) -> Result<f64, GobError> {
        Ok(f64::from_bits(self.uint()?.swap_bytes()))
    }

    /// A length and as many bytes.
    pub(super) fn bytes(&mut self) -> Result<&'a [u8], GobError> {
        let length = self.uint()?;
        self.take(usize::try_from(length).map_err(|_| GobError::Truncated)?)
    }

    /// The number, from 1, of a struct's next field, given that of the last one; `None` at the struct's end.
    pub(super) fn field(&mut self, last: &mut u64) -> Result<Option<u64>, GobError> {
        let distance = self.uint()?;
        if distance == 0 {
            return Ok(None);
        }
        *last = last.checked_add(distance).ok_or(GobError::Integer)?;
        Ok(Some(*last))
    }

    /// A count of elements, each of which takes at least one byte.
    pub(super) fn count(&mut self, most: usize) -> Result<usize, GobError> {
        let count = self.uint()?;
        match usize::try_from(count) {
            Ok(fits) if fits <= self.0.len() && fits <= most => Ok(fits),
            _ => Err(GobError::Count(count)),
        }
    }

    fn end(&self) -> Result<(), GobError> {
        if self.0.is_empty() {
            return Ok(());
        }
        Err(GobError::Trailing)
    }
}
