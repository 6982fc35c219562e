//! Patterns of paths: `*`, `?`, `[a-z]`, `[!x]` and `{a,b}` within a segment, and a backslash in front of what is meant as it is.

use std::collections::HashSet;
use std::sync::Arc;

/// A pattern that is longer is refused, in bytes.
const LONGEST: usize = 1024;

/// Texts that the braces of one segment may stand for.
const VARIANTS: usize = 256;

/// A compiled pattern: what each segment of a path must be.
#[derive(Debug)]
pub(super) struct Pattern {
    segments: Vec<Vec<Vec<Token>>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Is(char),
    One,
    Any,
    /// One of these ranges, or none of them.
    In {
        ranges: Vec<(char, char)>,
        not: bool,
    },
}

/// A character, and whether it stands for itself alone.
type Marked = (char, bool);

/// What a pattern finds: a series, or what stands above some.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Node {
    pub(super) path: String,
    pub(super) leaf: bool,
}

impl Node {
    /// The last segment.
    pub(super) fn name(&self) -> &str {
        self.path.rsplit('.').next().unwrap_or_default()
    }
}

impl Pattern {
    /// Compiles a pattern. The error tells what is wrong with it.
    pub(super) fn new(text: &str) -> Result<Self, String> {
        if text.len() > LONGEST {
            return Err(format!(
                "a pattern of {} bytes is too long, at most {LONGEST} are taken",
                text.len()
            ));
        }
        let mut marked: Vec<Marked> = Vec::with_capacity(text.len());
        let mut characters = text.chars();
        while let Some(c) = characters.next() {
            match c {
                '\\' => marked.extend(characters.next().map(|c| (c, true))),
                c => marked.push((c, false)),
            }
        }
        let segments = marked.split(|(c, _)| *c == '.');
        let segments = segments.map(|segment| {
            let mut variants = Vec::new();
            expand(segment, &mut variants)?;
            Ok(variants.iter().map(|variant| tokens(variant)).collect())
        });
        Ok(Self {
            segments: segments.collect::<Result<_, String>>()?,
        })
    }

    /// The one path that it finds, if it has no wildcards.
    pub(super) fn exact(&self) -> Option<String> {
        let prefix = self.literal();
        (prefix.len() == self.segments.len()).then(|| prefix.join("."))
    }

    /// What it finds among paths in order. `tick` is asked after some of them whether there is time for more.
    pub(super) fn find<E>(
        &self,
        paths: &[Arc<str>],
        mut tick: impl FnMut() -> Result<(), E>,
    ) -> Result<Vec<Node>, E> {
        let mut prefix = self.literal().join(".");
        if !prefix.is_empty() && self.segments.len() > 1 && self.exact().is_none() {
            prefix.push('.');
        }
        let start = paths.partition_point(|path| **path < *prefix);
        let mut seen: HashSet<(&str, bool)> = HashSet::new();
        let mut found = Vec::new();
        for (number, path) in paths.iter().skip(start).enumerate() {
            if !path.starts_with(&prefix) {
                break;
            }
            if number % 1024 == 1023 {
                tick()?;
            }
            if let Some((node, leaf)) = self.matched(path)
                && seen.insert((node, leaf))
            {
                found.push(Node {
                    path: node.to_owned(),
                    leaf,
                });
            }
        }
        Ok(found)
    }

    /// The part of a path that has as many segments as the pattern and fits it, and whether that is all of it.
    fn matched<'a>(&self, path: &'a str) -> Option<(&'a str, bool)> {
        let mut rest = Some(path);
        let mut end = 0;
        for (number, variants) in self.segments.iter().enumerate() {
            let (segment, after) = match rest?.split_once('.') {
                Some((segment, after)) => (segment, Some(after)),
                None => (rest?, None),
            };
            if !variants.iter().any(|variant| fits(variant, segment)) {
                return None;
            }
            end += segment.len() + usize::from(number > 0);
            rest = after;
        }
        Some((path.get(..end)?, rest.is_none()))
    }

    /// The leading segments that have no wildcards.
    fn literal(&self) -> Vec<String> {
        let text = |segment: &Vec<Vec<Token>>| match segment.as_slice() {
            [tokens] => tokens
                .iter()
                .map(|token| match token {
                    Token::Is(c) => Some(*c),
                    _ => None,
                })
                .collect::<Option<String>>(),
            _ => None,
        };
        self.segments.iter().map_while(text).collect()
    }
}

/// Lays braces flat, the innermost first.
fn expand(text: &[Marked], into: &mut Vec<Vec<Marked>>) -> Result<(), String> {
    let close = text.iter().position(|marked| *marked == ('}', false));
    let open = close.and_then(|close| {
        text.get(..close)?
            .iter()
            .rposition(|marked| *marked == ('{', false))
    });
    let parts = open.zip(close).and_then(|(open, close)| {
        Some((
            text.get(..open)?,
            text.get(open + 1..close)?,
            text.get(close + 1..)?,
        ))
    });
    let Some((before, inside, after)) = parts else {
        if into.len() >= VARIANTS {
            return Err(format!(
                "the braces of a segment stand for more than {VARIANTS} texts"
            ));
        }
        into.push(text.to_vec());
        return Ok(());
    };
    for part in inside.split(|marked| *marked == (',', false)) {
        expand(&[before, part, after].concat(), into)?;
    }
    Ok(())
}

fn tokens(text: &[Marked]) -> Vec<Token> {
    let mut tokens = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        tokens.push(match first {
            ('*', false) if tokens.last() == Some(&Token::Any) => continue,
            ('*', false) => Token::Any,
            ('?', false) => Token::One,
            ('[', false) => match set(after) {
                Some((token, after)) => {
                    rest = after;
                    token
                }
                None => Token::Is('['),
            },
            (c, _) => Token::Is(*c),
        });
    }
    tokens
}

/// The set that begins here, and what follows it; `None` where its bracket never closes.
fn set(text: &[Marked]) -> Option<(Token, &[Marked])> {
    let not = text.first() == Some(&('!', false));
    let text = if not { text.get(1..)? } else { text };
    // A bracket that comes first is one of the set.
    let end = 1 + text
        .get(1..)?
        .iter()
        .position(|marked| *marked == (']', false))?;
    let mut inside = text.get(..end)?;
    let mut ranges = Vec::new();
    loop {
        inside = match inside {
            [] => break,
            [(low, _), ('-', false), (high, _), rest @ ..] => {
                ranges.push((*low, *high));
                rest
            }
            [(c, _), rest @ ..] => {
                ranges.push((*c, *c));
                rest
            }
        };
    }
    Some((Token::In { ranges, not }, text.get(end + 1..)?))
}

/// Whether all of `text` fits. It takes at most as many steps as both lengths multiplied.
fn fits(tokens: &[Token], text: &str) -> bool {
    let (mut tokens, mut rest) = (tokens, text);
    // Where to go on when the last `*` has to take one character more.
    let mut again: Option<(&[Token], &str)> = None;
    loop {
        match tokens.split_first() {
            Some((Token::Any, after)) => {
                tokens = after;
                again = Some((after, rest));
                continue;
            }
            Some((token, after)) => {
                let mut characters = rest.chars();
                if characters.next().is_some_and(|c| token.takes(c)) {
                    tokens = after;
                    rest = characters.as_str();
                    continue;
                }
            }
            None if rest.is_empty() => return true,
            None => {}
        }
        let Some((after, from)) = again else {
            return false;
        };
        let mut characters = from.chars();
        if characters.next().is_none() {
            return false;
        }
        tokens = after;
        rest = characters.as_str();
        again = Some((after, rest));
    }
}

impl Token {
    fn takes(&self, c: char) -> bool {
        match self {
            Self::Is(own) => *own == c,
            Self::One | Self::Any => true,
            Self::In { ranges, not } => {
                ranges.iter().any(|(low, high)| (*low..=*high).contains(&c)) != *not
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    fn find(pattern: &str, paths: &[&str]) -> Vec<(String, bool)> {
        let mut paths: Vec<Arc<str>> = paths.iter().map(|path| (*path).into()).collect();
        paths.sort();
        let found = Pattern::new(pattern)
            .unwrap()
            .find::<Infallible>(&paths, || Ok(()))
            .unwrap();
        found
            .into_iter()
            .map(|node| (node.path, node.leaf))
            .collect()
    }

    #[test]
    fn segments_fit_as_in_fnmatch() {
        for (pattern, fitting, others) in [
            ("*", &["", "a", "über"][..], &[][..]),
            ("a*c", &["ac", "abc", "abcabc"], &["abcd", "bac"]),
            ("*a*b*", &["ab", "xaxbx"], &["ba"]),
            ("?b", &["ab", "üb"], &["b", "aab"]),
            ("[a-c1]x", &["ax", "1x"], &["dx", "-x"]),
            ("[!a-c]x", &["dx"], &["ax", "x"]),
            ("[]x]", &["]", "x"], &["a"]),
            ("[a", &["[a"], &["a"]),
            ("{a,b*}c", &["ac", "bxc"], &["c", "cc"]),
            ("{a{1,2},b}", &["a1", "a2", "b"], &["a", "{b"]),
            ("{a,}b", &["ab", "b"], &["cb"]),
            ("a}b{", &["a}b{"], &["ab"]),
            (r"\*\{a\}\[b", &["*{a}[b"], &["x{a}[b"]),
        ] {
            for text in fitting {
                assert_eq!(find(pattern, &[text]).len(), 1, "{pattern} {text}");
            }
            for text in others {
                assert_eq!(find(pattern, &[text]).len(), 0, "{pattern} {text}");
            }
        }
    }

    #[test]
    fn series_and_what_stands_above_them_are_told_apart() {
        let paths = ["a.b", "a.b-c", "a.b.c", "a.b.d.e", "ab.c"];
        let node = |path: &str, leaf| (path.to_owned(), leaf);
        assert_eq!(
            find("a.*", &paths),
            [node("a.b", true), node("a.b-c", true), node("a.b", false)]
        );
        assert_eq!(find("a*", &paths), [node("a", false), node("ab", false)]);
        assert_eq!(find("a.b.c", &paths), [node("a.b.c", true)]);
        assert_eq!(find("a.b", &paths), [node("a.b", true), node("a.b", false)]);
        assert_eq!(find("a.b.*.e", &paths), [node("a.b.d.e", true)]);
        assert_eq!(find("x.*", &paths), []);
        assert_eq!(find("{a,ab}.c", &paths), [node("ab.c", true)]);
    }

    #[test]
    fn patterns_that_stand_for_too_much_are_refused() {
        let error = |text: &str| Pattern::new(text).unwrap_err();
        assert!(error(&"{a,b}".repeat(9)).contains("256"));
        assert!(error(&"x".repeat(1025)).contains("too long"));
        // Deep, and still in time and memory.
        let deep = format!("{}a{}", "{".repeat(500), "}".repeat(500));
        assert_eq!(find(&deep, &["a"]).len(), 1);
        let slow = "*a".repeat(500);
        assert_eq!(find(&slow, &[&"a".repeat(1000)]).len(), 1);
    }
}
