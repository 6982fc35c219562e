//! The identity of a time series.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::io::Write as _;
use std::sync::Arc;

use xxhash_rust::xxh3::{Xxh3, xxh3_64};

/// What a series measures. Decides the sampler and is part of the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Kind {
    /// A sum over the interval.
    Counter,
    /// The last value.
    Gauge,
    /// A distribution of values.
    Histogram,
    /// The number of different values.
    Set,
    /// A distribution of durations, in milliseconds.
    Timer,
    /// The last state of a service check.
    Status,
}

impl Kind {
    /// The lower-case name that routing and the legacy JSON use.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
            Self::Set => "set",
            Self::Timer => "timer",
            Self::Status => "status",
        }
    }
}

/// Which tier emits a series.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
#[repr(u8)]
pub enum Scope {
    /// Counters and gauges by the agent; of histograms, timers and sets the agent emits aggregates and the global percentiles and sizes.
    #[default]
    Mixed,
    /// By the agent alone.
    Local,
    /// By the global alone.
    Global,
}

/// Between two tags in [`Tags`]: a character that text protocols do not carry in a tag.
pub(crate) const SEPARATOR: char = '\u{1f}';

/// The tags of a series, each `key:value` or a bare word, cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tags(Arc<str>);

impl Tags {
    /// Takes tags in the order given. A tag that holds U+001F counts as two.
    pub fn new<T: AsRef<str>>(tags: impl IntoIterator<Item = T>) -> Self {
        let mut joined = String::new();
        for (position, tag) in tags.into_iter().enumerate() {
            Self::join(&mut joined, tag.as_ref(), position == 0);
        }
        Self(joined.into())
    }

    /// Takes tags in any order and sorts them by their bytes.
    pub fn sorted<T: AsRef<str> + Ord>(mut tags: Vec<T>) -> Self {
        tags.sort_unstable();
        Self::new(tags)
    }

    /// Each tag in order.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        let split = (!self.0.is_empty()).then(|| self.0.split(SEPARATOR));
        split.into_iter().flatten()
    }

    /// All tags in one string, separated by U+001F.
    pub(crate) fn joined(&self) -> &str {
        &self.0
    }

    /// Appends `tag` to tags joined so far, as [`Tags::joined`] has them; `first` tells that there is none before it.
    pub(crate) fn join(joined: &mut String, tag: &str, first: bool) {
        if !first {
            joined.push(SEPARATOR);
        }
        joined.push_str(tag);
    }

    /// Takes tags that [`Tags::join`] joined.
    pub(crate) fn from_joined(joined: &str) -> Self {
        Self(joined.into())
    }

    /// Whether there is no tag. A single empty tag counts as none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Default for Tags {
    fn default() -> Self {
        Self("".into())
    }
}

impl fmt::Debug for Tags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// Joined with commas, as Veneur writes tags.
impl fmt::Display for Tags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, tag) in self.iter().enumerate() {
            if position > 0 {
                f.write_str(",")?;
            }
            f.write_str(tag)?;
        }
        Ok(())
    }
}

/// Name, kind, sorted tags and scope: one series of the table. Hashed once, when it is made.
#[derive(Debug, Clone)]
pub struct Key {
    name: Arc<str>,
    tags: Tags,
    kind: Kind,
    scope: Scope,
    hash: u64,
}

impl Key {
    /// Makes a key; `tags` are taken as they are, so sort them first.
    pub fn new(name: impl Into<Arc<str>>, kind: Kind, tags: Tags, scope: Scope) -> Self {
        let name = name.into();
        Self {
            hash: Self::hash_of(&name, kind, scope, &tags.0),
            name,
            tags,
            kind,
            scope,
        }
    }

    /// The hash of the key with these parts, without making it; `joined` as [`Tags::joined`] has it.
    pub(crate) fn hash_of(name: &str, kind: Kind, scope: Scope, joined: &str) -> u64 {
        let pieces = [
            name.as_bytes(),
            &[0xff, kind as u8, scope as u8],
            joined.as_bytes(),
        ];
        // One piece of memory is hashed in a fraction of the time that it takes to set a hasher up for several.
        let mut whole = [0; 256];
        let mut room = &mut whole[..];
        let fits = pieces.iter().all(|piece| room.write_all(piece).is_ok());
        let left = room.len();
        if fits {
            return xxh3_64(whole.get(..whole.len() - left).unwrap_or_default());
        }
        let mut hasher = Xxh3::new();
        pieces.iter().for_each(|piece| hasher.update(piece));
        hasher.digest()
    }

    /// The metric's name.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// The tags, sorted.
    pub fn tags(&self) -> &Tags {
        &self.tags
    }

    /// What the series measures.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Which tier emits it.
    pub fn scope(&self) -> Scope {
        self.scope
    }

    /// xxh3 of everything that makes the key.
    pub fn hash64(&self) -> u64 {
        self.hash
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.hash == other.hash
            && self.kind == other.kind
            && self.scope == other.scope
            && self.name == other.name
            && self.tags == other.tags
    }
}

impl Eq for Key {}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_come_back_in_order_and_join_with_commas() {
        let tags = Tags::sorted(vec!["b:2", "a:1", "bare"]);
        assert_eq!(tags.iter().collect::<Vec<_>>(), ["a:1", "b:2", "bare"]);
        assert_eq!(tags.to_string(), "a:1,b:2,bare");
    }

    #[test]
    fn empty_tags_between_others_are_kept() {
        assert_eq!(Tags::new(["", ""]).iter().collect::<Vec<_>>(), ["", ""]);
        assert_eq!(Tags::default().iter().count(), 0);
    }

    #[test]
    fn a_hash_is_that_of_all_parts_in_a_row_whatever_their_length() {
        for length in [0, 1, 16, 100, 240, 241, 251, 252, 253, 254, 300, 2000] {
            let tags = "t".repeat(length);
            let whole = [b"n\xff\x04\x02", tags.as_bytes()].concat();
            let hash = Key::hash_of("n", Kind::Timer, Scope::Global, &tags);
            assert_eq!(hash, xxh3_64(&whole), "{length}");
        }
    }

    #[test]
    fn keys_differ_by_each_part() {
        let key = |name: &str, kind, tag, scope| Key::new(name, kind, Tags::new([tag]), scope);
        let base = key("a", Kind::Timer, "x", Scope::Mixed);
        assert_eq!(base, key("a", Kind::Timer, "x", Scope::Mixed));
        assert_ne!(base, key("b", Kind::Timer, "x", Scope::Mixed));
        assert_ne!(base, key("a", Kind::Histogram, "x", Scope::Mixed));
        assert_ne!(base, key("a", Kind::Timer, "y", Scope::Mixed));
        assert_ne!(base, key("a", Kind::Timer, "x", Scope::Global));
    }
}
