//! From a path to a name and tags.
//!
//! Graphite writes tags in two ways, `name;tag=value;…` and `name{tag="value",…}`. Both become tags of ours, `tag:value` in order, so that one series has
//! one identity whatever the notation and the order in which it was sent. The rules are carbon's: of a tag that is there twice the last one counts,
//! and a tag `name` is left out, because Graphite keeps the name itself there.

use std::borrow::Cow;
use std::collections::BTreeMap;

use crate::key::{SEPARATOR, Tags};

/// What a path says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Path<'a> {
    /// Not empty.
    pub name: &'a str,
    /// In order; neither keys nor values are empty.
    pub tags: BTreeMap<Cow<'a, str>, Cow<'a, str>>,
}

/// Why a path is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// Bytes that are no text.
    #[error("the path is not valid utf-8")]
    InvalidUtf8,
    /// Nothing in front of the tags.
    #[error("the name is empty")]
    EmptyName,
    /// A name that the configuration does not want.
    #[error("the name holds a character that is not allowed")]
    InvalidCharacter,
    /// Neither of the two notations.
    #[error("the tags are not written as `;tag=value` or `{{tag=\"value\"}}`")]
    TagSyntax,
    /// A key with a character that Graphite keeps for itself.
    #[error("a tag's key holds one of `;!^=`, or a control character")]
    TagKey,
    /// A value that Graphite does not take.
    #[error("a tag's value is empty, begins with `~`, or holds `;` or a control character")]
    TagValue,
}

impl PathError {
    /// A short word for counters.
    pub fn cause(self) -> &'static str {
        match self {
            Self::InvalidUtf8 => "invalid_utf8",
            Self::EmptyName => "empty_name",
            Self::InvalidCharacter => "invalid_character",
            Self::TagSyntax => "tag_syntax",
            Self::TagKey => "tag_key",
            Self::TagValue => "tag_value",
        }
    }
}

impl<'a> Path<'a> {
    /// Takes a path apart.
    ///
    /// # Errors
    /// [`PathError`] says what is wrong with it.
    pub fn parse(path: &'a [u8]) -> Result<Self, PathError> {
        let path = std::str::from_utf8(path).map_err(|_| PathError::InvalidUtf8)?;
        let braced = path
            .strip_suffix('}')
            .filter(|rest| rest.ends_with('"'))
            .and_then(|rest| rest.split_once('{'));
        let mut parsed = Self {
            name: path,
            tags: BTreeMap::new(),
        };
        if let Some((name, tags)) = braced {
            parsed.name = name;
            parsed.braced_tags(tags)?;
        } else if let Some((name, tags)) = path.split_once(';') {
            parsed.name = name;
            for tag in tags.split(';') {
                let (key, value) = tag.split_once('=').ok_or(PathError::TagSyntax)?;
                parsed.tag(key, value.into())?;
            }
        }
        if parsed.name.is_empty() {
            return Err(PathError::EmptyName);
        }
        if parsed.name.contains(';') {
            return Err(PathError::TagSyntax);
        }
        Ok(parsed)
    }

    /// `tag="value",…`, where a value may hold `\"` and `\\`.
    fn braced_tags(&mut self, mut rest: &'a str) -> Result<(), PathError> {
        while !rest.is_empty() {
            let (key, after) = rest.split_once("=\"").ok_or(PathError::TagSyntax)?;
            let end = end_of_value(after).ok_or(PathError::TagSyntax)?;
            let (value, after) = after.split_at_checked(end).ok_or(PathError::TagSyntax)?;
            let value = if value.contains('\\') {
                // No escape is left of what the first replacement made: a pair of backslashes stands for itself.
                unescaped(value).into()
            } else {
                Cow::Borrowed(value)
            };
            self.tag(key.trim_ascii_start(), value)?;
            rest = match after.strip_prefix('"') {
                Some("") => "",
                Some(more) => more.strip_prefix(',').ok_or(PathError::TagSyntax)?,
                None => return Err(PathError::TagSyntax),
            };
        }
        Ok(())
    }

    fn tag(&mut self, key: &'a str, value: Cow<'a, str>) -> Result<(), PathError> {
        if key.is_empty() {
            return Err(PathError::TagSyntax);
        }
        if key.contains(|c: char| matches!(c, ';' | '!' | '^' | '=') || c.is_ascii_control()) {
            return Err(PathError::TagKey);
        }
        let bad = |c: char| c == ';' || c.is_ascii_control();
        if value.is_empty() || value.starts_with('~') || value.contains(bad) {
            return Err(PathError::TagValue);
        }
        if key != "name" {
            // Our tags end their key at the first colon.
            let key = if key.contains(':') {
                key.replace(':', "_").into()
            } else {
                Cow::Borrowed(key)
            };
            self.tags.insert(key, value);
        }
        Ok(())
    }

    /// The tags as ours.
    pub fn tags(&self) -> Tags {
        if self.tags.is_empty() {
            return Tags::default();
        }
        let tags = self.tags.iter();
        Tags::sorted(tags.map(|(key, value)| format!("{key}:{value}")).collect())
    }

    /// The tags as a sample has them, separated by commas. A comma in a tag becomes `_`: there it would begin another one.
    pub(super) fn joined_tags(&self) -> String {
        let mut joined = String::new();
        for (key, value) in &self.tags {
            if !joined.is_empty() {
                joined.push(',');
            }
            for (part, end) in [(key, ":"), (value, "")] {
                joined.push_str(&part.replace([',', SEPARATOR], "_"));
                joined.push_str(end);
            }
        }
        joined
    }
}

/// Where the quote stands that ends a value.
fn end_of_value(text: &str) -> Option<usize> {
    let mut bytes = text.bytes().enumerate();
    while let Some((at, byte)) = bytes.next() {
        match byte {
            b'"' => return Some(at),
            b'\\' => {
                let (_, escaped) = bytes.next()?;
                if !matches!(escaped, b'"' | b'\\') {
                    return None;
                }
            }
            _ => {}
        }
    }
    None
}

fn unescaped(value: &str) -> String {
    let mut plain = String::with_capacity(value.len());
    let mut chars = value.chars();
    while let Some(c) = chars.next() {
        plain.push(if c == '\\' {
            chars.next().unwrap_or(c)
        } else {
            c
        });
    }
    plain
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parsed(path: &str) -> Result<(String, String), &'static str> {
        Path::parse(path.as_bytes())
            .map(|parsed| (parsed.name.to_owned(), parsed.tags().to_string()))
            .map_err(PathError::cause)
    }

    #[test]
    fn both_notations_of_tags_give_the_same_tags_in_order() {
        for (path, name, tags) in [
            ("a.b", "a.b", ""),
            ("disk;rack=a1;dc=dc1", "disk", "dc:dc1,rack:a1"),
            ("disk;dc=dc1;rack=a1", "disk", "dc:dc1,rack:a1"),
            (r#"disk{rack="a1",dc="dc1"}"#, "disk", "dc:dc1,rack:a1"),
            (r#"disk{rack="a1", dc="dc1"}"#, "disk", "dc:dc1,rack:a1"),
            ("a;k=x=y", "a", "k:x=y"),
            ("a;k=1;k=2", "a", "k:2"),
            ("a;name=b;k=v", "a", "k:v"),
            ("a;k:l=v", "a", "k_l:v"),
            (r#"a{k="say \"hi\" \\ you"}"#, "a", r#"k:say "hi" \ you"#),
            (r#"a{k="x{y}"}"#, "a", "k:x{y}"),
            ("/dev/sda1", "/dev/sda1", ""),
            ("a{b}", "a{b}", ""),
            ("unicode.métric;a=ü", "unicode.métric", "a:ü"),
        ] {
            assert_eq!(parsed(path), Ok((name.into(), tags.into())), "{path}");
        }
    }

    #[test]
    fn bad_tags_are_refused_by_cause() {
        for (path, cause) in [
            ("", "empty_name"),
            (";a=b", "empty_name"),
            (r#"{a="b"}"#, "empty_name"),
            ("a;", "tag_syntax"),
            ("a;b", "tag_syntax"),
            ("a;=b", "tag_syntax"),
            ("a;b=c;;d=e", "tag_syntax"),
            ("a;b!=c", "tag_key"),
            ("a;^b=c", "tag_key"),
            ("a;b=", "tag_value"),
            ("a;b=~c", "tag_value"),
            ("a;b=c\u{1f}d", "tag_value"),
            (r#"a{b="c;d"}"#, "tag_value"),
            (r#"a{b=""}"#, "tag_value"),
            (r#"a{b="c"d="e"}"#, "tag_syntax"),
            (r#"a{b="\c"}"#, "tag_syntax"),
            (r#"a{="c"}"#, "tag_syntax"),
            (r#"a{"}"#, "tag_syntax"),
            (r#"a;b=c{d="e"}"#, "tag_syntax"),
        ] {
            assert_eq!(parsed(path), Err(cause), "{path}");
        }
        assert_eq!(Path::parse(b"a\xff"), Err(PathError::InvalidUtf8));
    }

    #[test]
    fn a_comma_does_not_make_two_tags_of_a_samples() {
        let path = Path::parse(b"a;k=x,y;b=z").unwrap();
        assert_eq!(path.joined_tags(), "b:z,k:x_y");
    }

    proptest! {
        #[test]
        fn both_notations_mean_the_same(tags in prop::collection::btree_map("[a-mo-z]{1,8}", "[a-z0-9\"\\\\.{}=]{1,8}", 0..5)) {
            let carbon: String = tags.iter().rev().map(|(key, value)| format!(";{key}={value}")).collect();
            let braced: Vec<String> = tags
                .iter()
                .map(|(key, value)| format!("{key}=\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\"")))
                .collect();
            let braced = if braced.is_empty() { String::new() } else { format!("{{{}}}", braced.join(",")) };
            let carbon = format!("x{carbon}");
            // One that ends as the other notation does is read as such.
            prop_assume!(!carbon.ends_with("\"}"));
            let braced = format!("x{braced}");
            let (carbon, braced) = (Path::parse(carbon.as_bytes()).unwrap(), Path::parse(braced.as_bytes()).unwrap());
            prop_assert_eq!(carbon.tags(), braced.tags());
        }
    }
}
