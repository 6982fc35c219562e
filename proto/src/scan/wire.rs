//! Protobuf's wire format, as far as skipping through it needs: keys, varints, lengths.
//!
//! Reference: <https://protobuf.dev/programming-guides/encoding/>. Reading stops at the first byte that is wrong; nothing is allocated.

use thiserror::Error;

/// Why bytes are not a protobuf message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum WireError {
    /// A field reaches beyond the end.
    #[error("protobuf field is cut off")]
    Truncated,
    /// A varint has more than 64 bits, or a field key more than 32.
    #[error("protobuf varint is too long")]
    Varint,
    /// Field numbers start at 1.
    #[error("protobuf field number 0")]
    FieldNumber,
    /// Groups (wire types 3 and 4) are not part of any message of ours, nor of any version of Veneur.
    #[error("protobuf group in field {field}")]
    Group {
        /// The field's number.
        field: u32,
    },
    /// A wire type that does not exist, or not the one that this field has.
    #[error("protobuf field {field} has wire type {wire_type}")]
    WireType {
        /// The field's number.
        field: u32,
        /// The wire type that was found.
        wire_type: u8,
    },
}

impl WireError {
    /// The cause to count it by.
    pub const fn cause(&self) -> &'static str {
        match self {
            Self::Truncated => "truncated",
            Self::Varint => "varint",
            Self::FieldNumber => "field_number",
            Self::Group { .. } => "group",
            Self::WireType { .. } => "wire_type",
        }
    }
}

/// The wire type of a varint.
pub(super) const VARINT: u8 = 0;
/// The wire type of eight bytes, little-endian.
pub(super) const FIXED64: u8 = 1;
/// The wire type of a length and as many bytes.
pub(super) const DELIMITED: u8 = 2;
const GROUP_START: u8 = 3;
const GROUP_END: u8 = 4;
const FIXED32: u8 = 5;

/// What is left to read of a message.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

/// A field key.
#[derive(Debug, Clone, Copy)]
pub(super) struct Field {
    pub(super) number: u32,
    pub(super) wire_type: u8,
}

impl Field {
    /// Refuses the field unless it has this wire type.
    #[inline]
    pub(super) fn must_be(self, wire_type: u8) -> Result<(), WireError> {
        if self.wire_type == wire_type {
            return Ok(());
        }
        Err(self.wrong_type())
    }

    #[cold]
    fn wrong_type(self) -> WireError {
        match self.wire_type {
            GROUP_START | GROUP_END => WireError::Group { field: self.number },
            wire_type => WireError::WireType {
                field: self.number,
                wire_type,
            },
        }
    }
}

impl<'a> Reader<'a> {
    /// Reads a varint of up to ten bytes.
    #[inline]
    pub(super) fn varint(&mut self) -> Result<u64, WireError> {
        match self.0 {
            [byte, rest @ ..] if *byte < 0x80 => {
                self.0 = rest;
                Ok(u64::from(*byte))
            }
            [low, high, rest @ ..] if *high < 0x80 => {
                self.0 = rest;
                Ok(u64::from(*low & 0x7f) | u64::from(*high) << 7)
            }
            _ => self.long_varint(),
        }
    }

    #[inline(never)]
    fn long_varint(&mut self) -> Result<u64, WireError> {
        let mut value = 0;
        for (place, byte) in self.0.iter().copied().enumerate() {
            // The tenth byte holds the 64th bit and nothing else.
            if place == 9 && byte > 1 {
                return Err(WireError::Varint);
            }
            value |= u64::from(byte & 0x7f) << (7 * place);
            if byte < 0x80 {
                self.0 = self.0.get(place + 1..).unwrap_or_default();
                return Ok(value);
            }
        }
        Err(WireError::Truncated)
    }

    /// Reads a field key.
    #[inline]
    pub(super) fn field(&mut self) -> Result<Field, WireError> {
        let key = u32::try_from(self.varint()?).map_err(|_| WireError::Varint)?;
        let field = Field {
            number: key >> 3,
            wire_type: (key & 7) as u8,
        };
        if field.number == 0 {
            return Err(WireError::FieldNumber);
        }
        Ok(field)
    }

    /// Takes a number of bytes.
    #[inline]
    pub(super) fn take(&mut self, length: usize) -> Result<&'a [u8], WireError> {
        let (taken, rest) = self
            .0
            .split_at_checked(length)
            .ok_or(WireError::Truncated)?;
        self.0 = rest;
        Ok(taken)
    }

    /// Reads a length and takes as many bytes.
    #[inline]
    pub(super) fn delimited(&mut self) -> Result<&'a [u8], WireError> {
        let length = usize::try_from(self.varint()?).map_err(|_| WireError::Truncated)?;
        self.take(length)
    }

    /// What follows a field with this one-byte key and a length below 128; `None` if the next field is no such field.
    #[inline]
    pub(super) fn short(&self, key: u8) -> Option<&'a [u8]> {
        match self.0 {
            [next, length, rest @ ..] if *next == key && *length < 0x80 => {
                rest.get(usize::from(*length)..)
            }
            _ => None,
        }
    }

    /// Reads eight bytes.
    #[inline]
    pub(super) fn fixed64(&mut self) -> Result<u64, WireError> {
        let (bytes, rest) = self.0.split_first_chunk().ok_or(WireError::Truncated)?;
        self.0 = rest;
        Ok(u64::from_le_bytes(*bytes))
    }

    /// Passes over a field's value.
    #[inline]
    pub(super) fn skip(&mut self, field: Field) -> Result<(), WireError> {
        match field.wire_type {
            VARINT => self.varint().map(|_| ()),
            FIXED64 => self.take(8).map(|_| ()),
            DELIMITED => self.delimited().map(|_| ()),
            FIXED32 => self.take(4).map(|_| ()),
            _ => Err(field.wrong_type()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn varints_have_up_to_64_bits() {
        let mut reader = Reader(&[0xff; 9]);
        assert_eq!(reader.varint(), Err(WireError::Truncated));
        let mut longest = [0xff; 11];
        longest[9] = 0x01;
        let mut reader = Reader(&longest);
        assert_eq!(reader.varint(), Ok(u64::MAX));
        assert_eq!(reader.0, [0xff]);
        longest[9] = 0x02;
        assert_eq!(Reader(&longest).varint(), Err(WireError::Varint));
        assert_eq!(Reader(&[0x80; 11]).varint(), Err(WireError::Varint));
        // Padding is legal while the length is.
        assert_eq!(Reader(&[0x85, 0x80, 0x00]).varint(), Ok(5));
    }

    #[test]
    fn a_key_of_more_than_32_bits_is_refused() {
        let mut reader = Reader(&[0x80, 0x80, 0x80, 0x80, 0x10]);
        assert!(matches!(reader.field(), Err(WireError::Varint)));
    }

    #[test]
    fn a_length_beyond_the_end_is_refused() {
        assert_eq!(Reader(&[3, 1, 2]).delimited(), Err(WireError::Truncated));
        let huge = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01];
        assert_eq!(Reader(&huge).delimited(), Err(WireError::Truncated));
    }
}
