//! The type definitions at the head of a stream.

use super::FLOAT;
use super::read::{Cursor, GobError};

/// The most definitions of one stream; a digest needs three.
const MAX_DEFINITIONS: usize = 16;
/// The most fields of a struct; a centroid has three.
const MAX_FIELDS: usize = 16;

/// What a type number of the stream stands for.
enum Definition<'a> {
    /// A slice of another type.
    Slice { element: i64 },
    /// A struct: each field's name and type.
    Struct { fields: Vec<(&'a [u8], i64)> },
}

/// The types defined so far.
#[derive(Default)]
pub(super) struct Definitions<'a>(Vec<(i64, Definition<'a>)>);

/// What a field of a centroid holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Mean,
    Weight,
    Samples,
}

/// The numbers of fields in the structs by which gob describes types, counted from 1.
mod number {
    /// Of `wireType`.
    pub(super) const SLICE: u64 = 2;
    pub(super) const STRUCT: u64 = 3;
    /// Of `sliceType` and `structType`.
    pub(super) const COMMON: u64 = 1;
    pub(super) const ELEMENT: u64 = 2;
    pub(super) const FIELDS: u64 = 2;
    /// Of `CommonType` and `fieldType`.
    pub(super) const NAME: u64 = 1;
    pub(super) const ID: u64 = 2;
}

impl<'a> Definitions<'a> {
    /// Reads the definition of a type.
    pub(super) fn add(&mut self, id: i64, cursor: &mut Cursor<'a>) -> Result<(), GobError> {
        if self.0.len() == MAX_DEFINITIONS || self.find(id).is_some() {
            return Err(GobError::Definition);
        }
        let mut last = 0;
        let definition = match cursor.field(&mut last)? {
            Some(number::SLICE) => slice(cursor)?,
            Some(number::STRUCT) => structure(cursor)?,
            _ => return Err(GobError::Definition),
        };
        end(cursor, &mut last)?;
        self.0.push((id, definition));
        Ok(())
    }

    fn find(&self, id: i64) -> Option<&Definition<'a>> {
        let (_, definition) = self.0.iter().find(|(known, _)| *known == id)?;
        Some(definition)
    }

    /// The roles of a centroid's fields in their order, given the type number of a slice of centroids.
    pub(super) fn centroid(&self, slice: i64) -> Result<Vec<Role>, GobError> {
        let wrong = GobError::Type(slice);
        let Some(Definition::Slice { element }) = self.find(slice) else {
            return Err(wrong);
        };
        let Some(Definition::Struct { fields }) = self.find(*element) else {
            return Err(wrong);
        };
        let mut roles = Vec::with_capacity(fields.len());
        for (name, id) in fields {
            let role = match (*name, *id) {
                (b"Mean", FLOAT) => Role::Mean,
                (b"Weight", FLOAT) => Role::Weight,
                (b"Samples", samples) if self.is_floats(samples) => Role::Samples,
                _ => return Err(wrong),
            };
            roles.push(role);
        }
        Ok(roles)
    }

    fn is_floats(&self, id: i64) -> bool {
        matches!(self.find(id), Some(Definition::Slice { element: FLOAT }))
    }
}

/// `sliceType`.
fn slice<'a>(cursor: &mut Cursor<'a>) -> Result<Definition<'a>, GobError> {
    let (mut last, mut element) = (0, 0);
    while let Some(number) = cursor.field(&mut last)? {
        match number {
            number::COMMON => _ = named(cursor)?,
            number::ELEMENT => element = cursor.int()?,
            _ => return Err(GobError::Definition),
        }
    }
    Ok(Definition::Slice { element })
}

/// `structType`.
fn structure<'a>(cursor: &mut Cursor<'a>) -> Result<Definition<'a>, GobError> {
    let (mut last, mut fields) = (0, Vec::new());
    while let Some(number) = cursor.field(&mut last)? {
        match number {
            number::COMMON => _ = named(cursor)?,
            number::FIELDS => {
                for _ in 0..cursor.count(MAX_FIELDS)? {
                    fields.push(named(cursor)?);
                }
            }
            _ => return Err(GobError::Definition),
        }
    }
    Ok(Definition::Struct { fields })
}

/// `CommonType` and `fieldType`: a name and a type number.
fn named<'a>(cursor: &mut Cursor<'a>) -> Result<(&'a [u8], i64), GobError> {
    let (mut last, mut name, mut id) = (0, &[][..], 0);
    while let Some(number) = cursor.field(&mut last)? {
        match number {
            number::NAME => name = cursor.bytes()?,
            number::ID => id = cursor.int()?,
            _ => return Err(GobError::Definition),
        }
    }
    Ok((name, id))
}

fn end(cursor: &mut Cursor<'_>, last: &mut u64) -> Result<(), GobError> {
    match cursor.field(last)? {
        None => Ok(()),
        Some(_) => Err(GobError::Definition),
    }
}
