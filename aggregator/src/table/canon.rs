//! From the raw bytes of a sample to its [`Key`].
//!
//! The rules are those of Veneur (2.x to its last commit): tags are split at commas and kept as they are, empty ones and duplicates too; the
//! first magic tag in the order of the wire is taken out and sets the scope, any later one stays an ordinary tag; `extend_tags` replace tags
//! with the same key; then tags are sorted by their bytes. One thing differs: a magic tag is the bare word or has the value `true`, where Veneur
//! takes everything that begins with the word (`veneurglobalonly:false`, `veneurlocalonlyish`).

use std::str;

use super::names::Names;
use super::writer::SampleError;
use crate::key::{Key, Kind, SEPARATOR, Scope, Tags};
use crate::sample::Sample;

const LOCAL_ONLY: &str = "veneurlocalonly";
const GLOBAL_ONLY: &str = "veneurglobalonly";

/// Makes keys; knows the tags that the configuration adds.
#[derive(Debug)]
pub(super) struct Canon {
    extra: Vec<String>,
}

impl Canon {
    /// `extend_tags` that are empty are left out.
    pub(super) fn new(extend_tags: &[String]) -> Self {
        let extra = extend_tags.iter().filter(|tag| !tag.is_empty());
        Self {
            extra: extra.cloned().collect(),
        }
    }

    /// The key of a sample.
    pub(super) fn key_of(
        &self,
        names: &mut Names,
        sample: &Sample<'_>,
    ) -> Result<Key, SampleError> {
        self.key(names, sample.name, sample.kind, sample.tags)
    }

    /// The key of a sample with this name and tag section. Keys of one name share its memory as far as `names` knows it.
    fn key(
        &self,
        names: &mut Names,
        name: &[u8],
        kind: Kind,
        tags: Option<&[u8]>,
    ) -> Result<Key, SampleError> {
        let name = str::from_utf8(name).map_err(|_| SampleError::InvalidUtf8 { part: "name" })?;
        if name.is_empty() {
            return Err(SampleError::EmptyName);
        }
        let section = str::from_utf8(tags.unwrap_or_default())
            .map_err(|_| SampleError::InvalidUtf8 { part: "tags" })?;
        let mut tags: Vec<&str> = match section {
            "" => Vec::new(),
            section => section.split([',', SEPARATOR]).collect(),
        };
        let magic = tags
            .iter()
            .enumerate()
            .find_map(|(at, tag)| Some((at, magic(tag, kind)?)));
        let scope = match magic {
            Some((at, scope)) => {
                tags.remove(at);
                scope
            }
            None => Scope::Mixed,
        };
        self.replace_same_keys(&mut tags, |tag| *tag);
        tags.extend(self.extra.iter().map(String::as_str));
        Ok(Key::new(
            names.get(name),
            kind,
            Tags::sorted(tags),
            effective_scope(kind, scope),
        ))
    }

    /// Adds the configured tags to an event's and sorts them.
    pub(super) fn extend(&self, tags: &mut Vec<String>) {
        self.replace_same_keys(tags, String::as_str);
        tags.extend(self.extra.iter().cloned());
        tags.sort_unstable();
    }

    /// Takes out each tag whose place a configured one takes. An empty tag has no key, so nothing replaces it.
    fn replace_same_keys<T>(&self, tags: &mut Vec<T>, text: impl Fn(&T) -> &str) {
        if !self.extra.is_empty() {
            tags.retain(|tag| {
                let tag = text(tag);
                tag.is_empty() || !self.extra.iter().any(|extra| key_of(extra) == key_of(tag))
            });
        }
    }
}

/// The series' scope, where several that behave alike become one, so that they share a series: what a tier does with a counter or gauge of local
/// scope is what it does with a mixed one; a global set is forwarded and merged as mixed; a check never leaves its tier.
pub(super) fn effective_scope(kind: Kind, scope: Scope) -> Scope {
    match (kind, scope) {
        (Kind::Counter | Kind::Gauge, Scope::Local) | (Kind::Set, Scope::Global) => Scope::Mixed,
        (Kind::Status, _) => Scope::Local,
        (_, scope) => scope,
    }
}

/// The scope that a magic tag sets. Of a check's tags only the bare word is magic.
fn magic(tag: &str, kind: Kind) -> Option<Scope> {
    let (rest, scope) = match tag.strip_prefix(LOCAL_ONLY) {
        Some(rest) => (rest, Scope::Local),
        None => (tag.strip_prefix(GLOBAL_ONLY)?, Scope::Global),
    };
    (rest.is_empty() || (rest == ":true" && kind != Kind::Status)).then_some(scope)
}

/// The text before a tag's first colon; of a bare tag all of it.
fn key_of(tag: &str) -> &str {
    tag.split_once(':').map_or(tag, |(key, _)| key)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn canon(extend: &[&str]) -> Canon {
        Canon::new(&extend.iter().map(ToString::to_string).collect::<Vec<_>>())
    }

    fn key(tags: &str) -> Key {
        canon(&[])
            .key(
                &mut Names::default(),
                b"a.b.c",
                Kind::Histogram,
                Some(tags.as_bytes()),
            )
            .unwrap()
    }

    fn tags(key: &Key) -> Vec<&str> {
        key.tags().iter().collect()
    }

    #[test]
    fn tags_are_sorted_and_kept_verbatim_with_empty_ones_and_duplicates() {
        assert_eq!(tags(&key("z:1,a:2,m,a:2")), ["a:2", "a:2", "m", "z:1"]);
        assert_eq!(tags(&key("a,,b")), ["", "a", "b"]);
        assert_eq!(tags(&key(" foo : bar ")), [" foo : bar "]);
        assert_eq!(tags(&key("")), [""; 0]);
        assert_eq!(tags(&key("b\u{1f}a,c")), ["a", "b", "c"]);
    }

    #[test]
    fn the_first_magic_tag_on_the_wire_sets_the_scope_and_a_second_one_stays() {
        for (section, scope, rest) in [
            ("veneurlocalonly", Scope::Local, &[][..]),
            ("a:1,veneurglobalonly,b:2", Scope::Global, &["a:1", "b:2"]),
            ("veneurlocalonly:true", Scope::Local, &[]),
            (
                "veneurlocalonly,veneurglobalonly",
                Scope::Local,
                &["veneurglobalonly"],
            ),
            (
                "veneurglobalonly,veneurlocalonly",
                Scope::Global,
                &["veneurlocalonly"],
            ),
            (
                "veneurglobalonly,host:foo,veneurglobalonly",
                Scope::Global,
                &["host:foo", "veneurglobalonly"],
            ),
            ("VENEURLOCALONLY", Scope::Mixed, &["VENEURLOCALONLY"]),
            ("xveneurlocalonly", Scope::Mixed, &["xveneurlocalonly"]),
        ] {
            let key = key(section);
            assert_eq!(
                (key.scope(), tags(&key)),
                (scope, rest.to_vec()),
                "{section}"
            );
        }
    }

    #[test]
    fn words_that_only_begin_like_a_magic_tag_are_ordinary() {
        for tag in [
            "veneurglobalonly:false",
            "veneurlocalonlyish",
            "veneurlocalonly:",
        ] {
            let key = key(tag);
            assert_eq!((key.scope(), tags(&key)), (Scope::Mixed, vec![tag]));
        }
    }

    #[test]
    fn a_check_knows_only_the_bare_magic_words() {
        let check = |section: &[u8]| {
            canon(&[])
                .key(&mut Names::default(), b"c", Kind::Status, Some(section))
                .unwrap()
        };
        assert_eq!(
            tags(&check(b"veneurlocalonly:true")),
            ["veneurlocalonly:true"]
        );
        assert_eq!(tags(&check(b"veneurlocalonly")), [""; 0]);
    }

    #[test]
    fn extend_tags_replace_tags_with_the_same_key() {
        let canon = canon(&["foo:ext", "bare", "", "r:1"]);
        let with = |section: &str| {
            let key = canon
                .key(
                    &mut Names::default(),
                    b"a.b.c",
                    Kind::Counter,
                    Some(section.as_bytes()),
                )
                .unwrap();
            key.tags().to_string()
        };
        assert_eq!(with(""), "bare,foo:ext,r:1");
        assert_eq!(with("foo:orig,x:1"), "bare,foo:ext,r:1,x:1");
        assert_eq!(with("foobar:1,r:2,"), ",bare,foo:ext,foobar:1,r:1");
        assert_eq!(with("foo,bare:2"), "bare,foo:ext,r:1");
        let mut event = vec!["k:v".to_owned(), "foo:orig".to_owned()];
        canon.extend(&mut event);
        assert_eq!(event, ["bare", "foo:ext", "k:v", "r:1"]);
    }

    #[test]
    fn bytes_that_are_no_utf8_are_refused_by_part() {
        let refused = |name: &[u8], tags: &[u8]| {
            canon(&[])
                .key(&mut Names::default(), name, Kind::Gauge, Some(tags))
                .unwrap_err()
        };
        assert_eq!(
            refused(b"a\xff", b""),
            SampleError::InvalidUtf8 { part: "name" }
        );
        assert_eq!(
            refused(b"a", b"b\xc3"),
            SampleError::InvalidUtf8 { part: "tags" }
        );
        assert_eq!(refused(b"", b""), SampleError::EmptyName);
    }
}
