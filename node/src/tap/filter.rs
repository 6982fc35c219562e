//! Which metrics a tap shows.
//!
//! Words separated by spaces; all of them must hold. A word in double quotes may contain spaces.
//!
//! | word | holds for |
//! |---|---|
//! | `name:api.latency` | metrics of this name |
//! | `name~^api` | metrics whose name the regular expression finds a place in |
//! | `type:counter` | metrics of this type: counter, gauge, histogram, set, timer or status |
//! | `env:prod` | metrics with this tag |
//! | `env~^(prod\|stage)` | metrics with a tag `env:…` whose value the regular expression finds a place in |
//! | `-WORD` | metrics for which the word does not hold |

use std::str::FromStr;

use regex::{Regex, RegexBuilder};

use super::Observed;

const KINDS: [&str; 6] = ["counter", "gauge", "histogram", "set", "timer", "status"];

/// The longest filter, in bytes.
const LONGEST: usize = 4096;
/// The memory that a compiled expression may take, in bytes.
const REGEX_SIZE: usize = 1 << 20;

/// See the module. The empty filter lets everything through.
#[derive(Debug, Clone, Default)]
pub struct Filter(Vec<Word>);

#[derive(Debug, Clone)]
struct Word {
    negated: bool,
    test: Test,
}

#[derive(Debug, Clone)]
enum Test {
    Name(String),
    NameLike(Regex),
    Kind(String),
    Tag(String),
    TagLike { key: String, value: Regex },
}

/// What is wrong with a filter.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FilterError {
    /// Neither `key:value` nor `key~regex`.
    #[error(
        "filter word {0:?} is neither key:value nor key~regex, where key is name, type or a tag's"
    )]
    Form(String),
    /// Nothing stands after the mark, or before it.
    #[error("filter word {0:?} needs something on both sides of its mark")]
    Empty(String),
    /// Not a type.
    #[error(
        "filter word {0:?} has an unknown type: known are counter, gauge, histogram, set, timer and status"
    )]
    Kind(String),
    /// Not a regular expression, or too large a one.
    #[error("filter word {word:?} has a bad regular expression: {reason}")]
    Regex {
        /// The word.
        word: String,
        /// What is wrong.
        reason: String,
    },
    /// A quote that does not end.
    #[error("filter has a double quote without an end")]
    Quote,
    /// Too long.
    #[error("filter is longer than {LONGEST} bytes")]
    Long,
}

// === impl Filter ===

impl FromStr for Filter {
    type Err = FilterError;

    fn from_str(text: &str) -> Result<Self, FilterError> {
        if text.len() > LONGEST {
            return Err(FilterError::Long);
        }
        let words = words(text)?;
        let words = words.iter().map(|word| Word::read(word));
        words.collect::<Result<_, _>>().map(Self)
    }
}

impl Filter {
    /// Whether every word holds.
    pub fn matches(&self, metric: &dyn Observed) -> bool {
        self.0
            .iter()
            .all(|word| word.test.holds(metric) != word.negated)
    }
}

/// Cut at spaces outside of quotes; the quotes are gone.
fn words(text: &str) -> Result<Vec<String>, FilterError> {
    let (mut words, mut word) = (Vec::new(), String::new());
    let mut quoted = false;
    for character in text.chars() {
        match character {
            '"' => quoted = !quoted,
            space if space.is_whitespace() && !quoted => {
                if !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
            }
            other => word.push(other),
        }
    }
    if quoted {
        return Err(FilterError::Quote);
    }
    if !word.is_empty() {
        words.push(word);
    }
    Ok(words)
}

// === impl Word ===

impl Word {
    fn read(whole: &str) -> Result<Self, FilterError> {
        let (word, negated) = match whole.strip_prefix('-') {
            Some(word) => (word, true),
            None => (whole, false),
        };
        let mark = word
            .find([':', '~'])
            .ok_or_else(|| FilterError::Form(whole.to_owned()))?;
        let (key, rest) = word.split_at(mark);
        let (is_like, value) = match rest.strip_prefix('~') {
            Some(expression) => (true, expression),
            None => (false, rest.strip_prefix(':').unwrap_or(rest)),
        };
        // A tag may have an empty value.
        let is_tag = key != "name" && key != "type";
        if key.is_empty() || (value.is_empty() && (is_like || !is_tag)) {
            return Err(FilterError::Empty(whole.to_owned()));
        }
        let regex = || {
            let built = RegexBuilder::new(value).size_limit(REGEX_SIZE).build();
            built.map_err(|error| FilterError::Regex {
                word: whole.to_owned(),
                // The last line says it; those before draw a picture of it.
                reason: error
                    .to_string()
                    .lines()
                    .last()
                    .unwrap_or_default()
                    .to_owned(),
            })
        };
        let test = match (key, is_like) {
            ("name", false) => Test::Name(value.to_owned()),
            ("name", true) => Test::NameLike(regex()?),
            ("type", false) if KINDS.contains(&value) => Test::Kind(value.to_owned()),
            ("type", _) => return Err(FilterError::Kind(whole.to_owned())),
            (_, false) => Test::Tag(word.to_owned()),
            (key, true) => Test::TagLike {
                key: key.to_owned(),
                value: regex()?,
            },
        };
        Ok(Self { negated, test })
    }
}

// === impl Test ===

impl Test {
    fn holds(&self, metric: &dyn Observed) -> bool {
        match self {
            Self::Name(name) => metric.name() == name,
            Self::NameLike(regex) => regex.is_match(metric.name()),
            Self::Kind(kind) => metric.kind() == kind,
            Self::Tag(wanted) => metric.any_tag(&mut |tag| tag == wanted),
            Self::TagLike { key, value } => metric.any_tag(&mut |tag| {
                tag.split_once(':')
                    .is_some_and(|(own, rest)| own == key && value.is_match(rest))
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::Example;
    use super::*;

    fn matches(filter: &str) -> bool {
        let metric = Example {
            name: "api.latency",
            kind: "timer",
            tags: &["env:prod", "bare", "path:/a b"],
        };
        filter
            .parse::<Filter>()
            .unwrap_or_else(|error| panic!("{filter}: {error}"))
            .matches(&metric)
    }

    #[test]
    fn all_words_must_hold() {
        for yes in [
            "",
            "  ",
            "name:api.latency",
            "name~^api",
            "name~^api env:prod",
            "type:timer env~^pr -env:stage -name~count",
            "\"path:/a b\"",
            "path~\"^/a b$\"",
        ] {
            assert!(matches(yes), "{yes}");
        }
        for no in [
            "name:api",
            "name~^latency",
            "name~^api env:stage",
            "type:counter",
            "-env:prod",
            "env:pro",
            "en~v",
            "env~^stage",
        ] {
            assert!(!matches(no), "{no}");
        }
    }

    #[test]
    fn what_is_wrong_is_told_with_the_word() {
        for (bad, reason) in [
            ("latency", "neither"),
            ("-", "neither"),
            ("name:", "both sides"),
            (":x", "both sides"),
            ("env~", "both sides"),
            ("type:meter", "unknown type"),
            ("type~timer", "unknown type"),
            ("name~(", "unclosed group"),
            ("name~(a{1000}){1000}", "size limit"),
            ("\"name:x", "quote"),
        ] {
            let error = bad.parse::<Filter>().unwrap_err().to_string();
            assert!(error.contains(reason), "{bad}: {error}");
        }
        assert_eq!(
            "x".repeat(5000).parse::<Filter>().unwrap_err(),
            FilterError::Long
        );
    }
}
