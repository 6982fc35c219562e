//! Reading an element whose fields may hold anything, so that a bad element does not end its array.
//!
//! The reader must get past a value of any shape to reach the next element; what does not fit is remembered as an [`ElementError`].

use std::fmt;

use base64::DecodeError;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::element::{ElementError, JsonMetric};

/// An element as it was found.
pub(super) struct Element(pub(super) Result<JsonMetric, ElementError>);

/// A value as far as a field of an element could hold it.
enum Loose {
    Null,
    Text(String),
    List(Vec<String>),
    Element(Box<Element>),
    Other,
}

#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "lowercase")]
enum Field {
    Name,
    Type,
    Tagstring,
    Tags,
    Value,
    #[serde(other)]
    Unknown,
}

impl<'de> Deserialize<'de> for Element {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let found = deserializer.deserialize_any(LooseVisitor { element: true })?;
        Ok(match found {
            Loose::Element(element) => *element,
            Loose::Null => Self(Ok(JsonMetric::default())),
            _ => Self(Err(shape("element", "an object"))),
        })
    }
}

impl<'de> Deserialize<'de> for Loose {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(LooseVisitor { element: false })
    }
}

fn shape(field: &'static str, expected: &'static str) -> ElementError {
    ElementError::Shape { field, expected }
}

impl Loose {
    /// Null counts as the empty value, as in Go.
    fn text(self, field: &'static str) -> Result<String, ElementError> {
        match self {
            Self::Null => Ok(String::new()),
            Self::Text(text) => Ok(text),
            _ => Err(shape(field, "a string")),
        }
    }

    fn list(self, field: &'static str) -> Result<Vec<String>, ElementError> {
        match self {
            Self::Null => Ok(Vec::new()),
            Self::List(list) => Ok(list),
            _ => Err(shape(field, "a list of strings")),
        }
    }
}

fn decode_base64(text: &str) -> Result<Vec<u8>, ElementError> {
    STANDARD.decode(text).map_err(|error| match error {
        DecodeError::InvalidByte(at, _) | DecodeError::InvalidLastSymbol { offset: at, .. } => {
            ElementError::Base64(at)
        }
        _ => ElementError::Base64(text.len()),
    })
}

struct LooseVisitor {
    /// Whether this is the place of an element, not of something inside one.
    element: bool,
}

impl<'de> Visitor<'de> for LooseVisitor {
    type Value = Loose;

    fn expecting(&self, into: &mut fmt::Formatter<'_>) -> fmt::Result {
        into.write_str("any JSON value")
    }

    fn visit_unit<E>(self) -> Result<Loose, E> {
        Ok(Loose::Null)
    }

    fn visit_str<E>(self, text: &str) -> Result<Loose, E> {
        Ok(Loose::Text(text.to_owned()))
    }

    fn visit_string<E>(self, text: String) -> Result<Loose, E> {
        Ok(Loose::Text(text))
    }

    fn visit_bool<E>(self, _: bool) -> Result<Loose, E> {
        Ok(Loose::Other)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Loose, E> {
        Ok(Loose::Other)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Loose, E> {
        Ok(Loose::Other)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Loose, E> {
        Ok(Loose::Other)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Loose, A::Error> {
        if self.element {
            while items.next_element::<IgnoredAny>()?.is_some() {}
            return Ok(Loose::Other);
        }
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            let Loose::Text(text) = item else {
                while items.next_element::<IgnoredAny>()?.is_some() {}
                return Ok(Loose::Other);
            };
            list.push(text);
        }
        Ok(Loose::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Loose, A::Error> {
        if !self.element {
            while entries.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
            return Ok(Loose::Other);
        }
        let mut metric = JsonMetric::default();
        let mut first_error = None;
        while let Some((field, value)) = entries.next_entry()? {
            if let Err(error) = set(&mut metric, field, value) {
                first_error.get_or_insert(error);
            }
        }
        let element = first_error.map_or(Ok(metric), Err);
        Ok(Loose::Element(Box::new(Element(element))))
    }
}

fn set(metric: &mut JsonMetric, field: Field, value: Loose) -> Result<(), ElementError> {
    match field {
        Field::Name => metric.name = value.text("name")?,
        Field::Type => metric.kind = value.text("type")?,
        Field::Tagstring => metric.tagstring = value.text("tagstring")?,
        Field::Tags => metric.tags = value.list("tags")?,
        Field::Value => metric.value = decode_base64(&value.text("value")?)?,
        Field::Unknown => {}
    }
    Ok(())
}
