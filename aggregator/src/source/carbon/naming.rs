//! What the configuration makes of names.

use std::borrow::Cow;

use super::config::{CarbonConfig, InvalidCharacters};
use super::path::PathError;

/// The configured changes of names.
#[derive(Debug, Clone, Default)]
pub(super) struct Naming {
    replace: Vec<(String, String)>,
    normalise: bool,
    invalid: InvalidCharacters,
}

impl Naming {
    pub(super) fn new(config: &CarbonConfig) -> Self {
        let replace = config.replace.iter();
        Self {
            replace: replace
                .map(|(from, to)| (from.clone(), to.clone()))
                .collect(),
            normalise: config.normalise,
            invalid: config.invalid_characters,
        }
    }

    /// The name as it is kept; `text` tells that it came in a text line.
    pub(super) fn apply<'a>(&self, name: &'a str, text: bool) -> Result<Cow<'a, str>, PathError> {
        let mut name = Cow::Borrowed(name);
        for (from, to) in &self.replace {
            if name.contains(from.as_str()) {
                name = name.replace(from.as_str(), to).into();
            }
        }
        if text && name.contains(is_invalid) {
            match self.invalid {
                InvalidCharacters::Keep => {}
                InvalidCharacters::Replace => name = name.replace(is_invalid, "_").into(),
                InvalidCharacters::Refuse => return Err(PathError::InvalidCharacter),
            }
        }
        let crooked = name.starts_with('.') || name.ends_with('.') || name.contains("..");
        if self.normalise && crooked {
            let nodes: Vec<&str> = name.split('.').filter(|node| !node.is_empty()).collect();
            name = nodes.join(".").into();
        }
        if name.is_empty() {
            return Err(PathError::EmptyName);
        }
        Ok(name)
    }
}

fn is_invalid(c: char) -> bool {
    c.is_control() || "*?[]{}()\"',\\`".contains(c)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn named(config: serde_json::Value, name: &str, text: bool) -> Result<String, PathError> {
        let config: CarbonConfig = serde_json::from_value(config).unwrap();
        Naming::new(&config).apply(name, text).map(Cow::into_owned)
    }

    #[test]
    fn names_stay_as_they_are_unless_configured() {
        for name in ["salt/job/1", "a..b.", "a*[x] y", "mé"] {
            assert_eq!(named(json!({}), name, true), Ok(name.to_owned()));
        }
    }

    #[test]
    fn texts_are_replaced_and_dots_put_right() {
        let config = json!({"replace": {"/": "_", "_dev": ""}, "normalise": true});
        assert_eq!(
            named(config.clone(), "disk./dev/sda1", true),
            Ok("disk._sda1".into())
        );
        assert_eq!(named(config.clone(), "..a...b.", false), Ok("a.b".into()));
        assert_eq!(named(config, "..", false), Err(PathError::EmptyName));
    }

    #[test]
    fn invalid_characters_matter_in_text_only() {
        let config = json!({"invalid_characters": "replace"});
        assert_eq!(
            named(config.clone(), "a*{b}\u{1}é/", true),
            Ok("a__b__é/".into())
        );
        assert_eq!(named(config, "a*", false), Ok("a*".into()));
        let config = json!({"invalid_characters": "refuse"});
        assert_eq!(
            named(config.clone(), "a*", true),
            Err(PathError::InvalidCharacter)
        );
        assert_eq!(named(config.clone(), "a*", false), Ok("a*".into()));
        assert_eq!(named(config, "/a-b:c", true), Ok("/a-b:c".into()));
    }
}
