//! JSON as a peer sent it: objects keep the order of their keys, which telegraf's names are made in.

use std::fmt::{self, Write as _};

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

/// One value.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Json {
    Null,
    Bool(bool),
    /// A whole number that 64 bits hold.
    Integer(i128),
    Float(f64),
    Text(String),
    List(Vec<Json>),
    Object(Object),
}

/// The members of an object, in order.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Object(pub(super) Vec<(String, Json)>);

impl Object {
    /// The member of that name; the last one counts, as in Python.
    pub(super) fn get(&self, name: &str) -> Option<&Json> {
        let mut members = self.0.iter().rev();
        members.find(|(key, _)| key == name).map(|(_, value)| value)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Tree)
    }
}

struct Tree;

impl<'de> Visitor<'de> for Tree {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Json, E> {
        Ok(Json::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Json, E> {
        Ok(Json::Integer(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Json, E> {
        Ok(Json::Integer(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Json, E> {
        Ok(Json::Float(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Json, E> {
        Ok(Json::Text(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Json, E> {
        Ok(Json::Text(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Json, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = list.next_element()? {
            items.push(item);
        }
        Ok(Json::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Json, A::Error> {
        let mut members = Vec::new();
        while let Some(member) = map.next_entry()? {
            members.push(member);
        }
        Ok(Json::Object(Object(members)))
    }
}

/// As Python writes it, which Flux's messages quote items in.
impl fmt::Display for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("None"),
            Self::Bool(true) => f.write_str("True"),
            Self::Bool(false) => f.write_str("False"),
            Self::Integer(value) => write!(f, "{value}"),
            Self::Float(value) => write!(f, "{value:?}"),
            Self::Text(text) => quote(f, text),
            Self::List(items) => {
                f.write_char('[')?;
                for (position, item) in items.iter().enumerate() {
                    comma(f, position)?;
                    write!(f, "{item}")?;
                }
                f.write_char(']')
            }
            Self::Object(object) => write!(f, "{object}"),
        }
    }
}

impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_char('{')?;
        for (position, (name, value)) in self.0.iter().enumerate() {
            comma(f, position)?;
            quote(f, name)?;
            write!(f, ": {value}")?;
        }
        f.write_char('}')
    }
}

fn comma(f: &mut fmt::Formatter<'_>, position: usize) -> fmt::Result {
    match position {
        0 => Ok(()),
        _ => f.write_str(", "),
    }
}

fn quote(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    let mark = match text.contains('\'') && !text.contains('"') {
        true => '"',
        false => '\'',
    };
    f.write_char(mark)?;
    for character in text.chars() {
        match character {
            '\\' => f.write_str("\\\\")?,
            '\n' => f.write_str("\\n")?,
            '\r' => f.write_str("\\r")?,
            '\t' => f.write_str("\\t")?,
            other if other == mark => write!(f, "\\{other}")?,
            other if other.is_control() => write!(f, "\\x{:02x}", u32::from(other))?,
            other => f.write_char(other)?,
        }
    }
    f.write_char(mark)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_keep_their_order_and_are_quoted_as_python_does() {
        let text = r#"{"z":"it's","a":[1,-2.5,true,null,1.0],"b":{"c":"\"'"}}"#;
        let json: Json = serde_json::from_str(text).unwrap();
        assert_eq!(
            json.to_string(),
            r#"{'z': "it's", 'a': [1, -2.5, True, None, 1.0], 'b': {'c': '"\''}}"#
        );
    }

    #[test]
    fn of_two_members_of_one_name_the_last_counts() {
        let json: Json = serde_json::from_str(r#"{"a":1,"a":2}"#).unwrap();
        let Json::Object(object) = json else {
            panic!("an object")
        };
        assert_eq!(object.get("a"), Some(&Json::Integer(2)));
    }
}
