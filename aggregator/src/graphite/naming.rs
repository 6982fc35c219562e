//! From a point's name and tags to one Graphite path.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::point::Point;

/// How paths are made. The documentation of the fields is the manual of each sink that has them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct NamingConfig {
    /// Stands in front of each path, with a dot between. Default: empty.
    pub prefix: String,

    /// What becomes of tags: `graphite` writes `name;key=value;…`, sorted, which Graphite 1.1 and later takes as tags; `flatten` makes one path of
    /// name and tags by `template`; `drop` leaves them out, so that series that differ in tags only become one.
    pub tags: TagStyle,

    /// For `flatten`: the path, with `{name}`, `{KEY}` for the value of the tag with that key (`none` where there is no such tag), and `{tags}` for
    /// all other tags as `key.value`, joined by dots. Dots in values become `_`. Default: `{name}.{tags}`.
    pub template: String,
}

/// What becomes of tags.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum TagStyle {
    /// `name;key=value`.
    #[default]
    Graphite,
    /// One path by a template.
    Flatten,
    /// None.
    Drop,
}

/// A compiled [`NamingConfig`].
#[derive(Debug, Clone)]
pub struct Naming {
    prefix: String,
    style: TagStyle,
    template: Vec<Piece>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(String),
    Name,
    /// The value of the tag with this key.
    Tag(String),
    /// All tags that are not named.
    Tags,
}

const DEFAULT_TEMPLATE: &str = "{name}.{tags}";

/// What stands for a tag that a point does not have.
const NONE: &str = "none";

/// What stands for the value of a tag that has none.
const BARE: &str = "true";

impl Naming {
    /// Compiles the settings. The error starts with the key that is to blame.
    pub fn new(config: &NamingConfig) -> Result<Self, String> {
        let template = match config.template.as_str() {
            "" => DEFAULT_TEMPLATE,
            given if config.tags == TagStyle::Flatten => given,
            _ => return Err("template: has no meaning without `tags: flatten`".to_owned()),
        };
        let template = compile(template)?;
        if !template.contains(&Piece::Name) {
            return Err("template: has no `{name}`".to_owned());
        }
        let mut prefix = String::new();
        push_clean(&mut prefix, config.prefix.trim_end_matches('.'), ";");
        Ok(Self {
            prefix,
            style: config.tags,
            template,
        })
    }

    /// Appends the path of a point. It holds no white space and no control characters; the name may be that of carbon's, with slashes or what else
    /// a file system takes.
    pub fn push_path(&self, point: &Point, path: &mut String) {
        if !self.prefix.is_empty() {
            path.push_str(&self.prefix);
            path.push('.');
        }
        match self.style {
            TagStyle::Drop => push_name(path, point),
            TagStyle::Graphite => {
                push_name(path, point);
                let tags = path.len();
                for tag in point.tags.iter() {
                    push_graphite_tag(path, tag);
                }
                sort_graphite_tags(path, tags);
            }
            TagStyle::Flatten => self.push_flat(path, point),
        }
    }

    /// The path of a point, by itself.
    pub fn path(&self, point: &Point) -> String {
        let mut path = String::with_capacity(64);
        self.push_path(point, &mut path);
        path
    }

    fn push_flat(&self, path: &mut String, point: &Point) {
        for (index, piece) in self.template.iter().enumerate() {
            match piece {
                Piece::Text(text) => path.push_str(text),
                Piece::Name => push_name(path, point),
                Piece::Tag(key) => {
                    let mut tags = point.tags.iter().map(split);
                    let value = tags.find(|(known, _)| known == key);
                    push_flat_value(path, value.map_or(NONE, |(_, value)| value));
                }
                Piece::Tags => {
                    let rest = point.tags.iter().map(split);
                    let rest = rest.filter(|(key, _)| !self.names(key));
                    let mut any = false;
                    for (key, value) in rest {
                        if any {
                            path.push('.');
                        }
                        any = true;
                        push_flat_value(path, key);
                        path.push('.');
                        push_flat_value(path, value);
                    }
                    // Nothing there: no dot of its own either.
                    let before = index.checked_sub(1).and_then(|i| self.template.get(i));
                    if !any && matches!(before, Some(Piece::Text(text)) if text == ".") {
                        path.pop();
                    }
                }
            }
        }
    }

    fn names(&self, key: &str) -> bool {
        let mut pieces = self.template.iter();
        pieces.any(|piece| matches!(piece, Piece::Tag(known) if known == key))
    }
}

fn compile(template: &str) -> Result<Vec<Piece>, String> {
    let mut pieces = Vec::new();
    let mut rest = template;
    while let Some((text, after)) = rest.split_once('{') {
        let (name, after) = after
            .split_once('}')
            .ok_or("template: a `{` without its `}`")?;
        if !text.is_empty() {
            pieces.push(Piece::Text(clean(text)));
        }
        pieces.push(match name {
            "" => return Err("template: `{}` names nothing".to_owned()),
            "name" => Piece::Name,
            "tags" => Piece::Tags,
            key => Piece::Tag(key.to_owned()),
        });
        rest = after;
    }
    if !rest.is_empty() {
        pieces.push(Piece::Text(clean(rest)));
    }
    Ok(pieces)
}

fn split(tag: &str) -> (&str, &str) {
    tag.split_once(':').unwrap_or((tag, BARE))
}

fn clean(text: &str) -> String {
    let mut cleaned = String::with_capacity(text.len());
    push_clean(&mut cleaned, text, "");
    cleaned
}

fn push_name(path: &mut String, point: &Point) {
    push_clean(path, &point.base, ";");
    push_clean(path, point.suffix.as_deref().unwrap_or_default(), ";");
}

/// Appends a text with `_` for white space, control characters and those of `others`.
fn push_clean(path: &mut String, text: &str, others: &str) {
    let bad = |c: char| c.is_whitespace() || c.is_control() || others.contains(c);
    path.extend(text.chars().map(|c| if bad(c) { '_' } else { c }));
}

fn push_flat_value(path: &mut String, value: &str) {
    if value.is_empty() {
        path.push('_');
    }
    push_clean(path, value, ".;");
}

/// Brings the tags from `start` on into Graphite's order, that of the texts `;key=value`. They mostly are in it.
fn sort_graphite_tags(path: &mut String, start: usize) {
    let Some(tags) = path.get(start..).and_then(|tags| tags.strip_prefix(';')) else {
        return;
    };
    if tags.split(';').is_sorted() {
        return;
    }
    let mut sorted: Vec<_> = tags.split(';').map(str::to_owned).collect();
    sorted.sort_unstable();
    path.truncate(start);
    for tag in sorted {
        path.push(';');
        path.push_str(&tag);
    }
}

/// Appends `;key=value`, with what Graphite does not take replaced: it wants neither to be empty, no `;!^=` in a key, no `;` in a value and no `~` in
/// front of one.
fn push_graphite_tag(path: &mut String, tag: &str) {
    let (key, value) = split(tag);
    path.push(';');
    if key.is_empty() {
        path.push('_');
    }
    push_clean(path, key, ";!^=");
    path.push('=');
    match value.strip_prefix('~') {
        Some(rest) => {
            path.push('_');
            push_clean(path, rest, ";");
        }
        None if value.is_empty() => path.push('_'),
        None => push_clean(path, value, ";"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::Tags;
    use crate::point::{PointKind, Timestamp};

    fn point(name: &str, suffix: Option<&str>, tags: &[&str]) -> Point {
        Point {
            base: name.into(),
            suffix: suffix.map(Into::into),
            tags: Tags::new(tags),
            kind: PointKind::Gauge,
            value: 1.0,
            timestamp: Timestamp::default(),
            check: None,
        }
    }

    fn naming(prefix: &str, tags: TagStyle, template: &str) -> Result<Naming, String> {
        Naming::new(&NamingConfig {
            prefix: prefix.to_owned(),
            tags,
            template: template.to_owned(),
        })
    }

    #[test]
    fn graphite_tags_are_sorted_and_hold_nothing_that_graphite_refuses() {
        let naming = naming("", TagStyle::Graphite, "").unwrap();
        let path = |tags: &[&str]| naming.path(&point("api.latency", Some(".max"), tags));
        assert_eq!(path(&[]), "api.latency.max");
        assert_eq!(
            path(&["env:prod", "canary"]),
            "api.latency.max;canary=true;env=prod"
        );
        assert_eq!(path(&["a=b!:c;d e"]), "api.latency.max;a_b_=c_d_e");
        assert_eq!(path(&["a:~x", "b:"]), "api.latency.max;a=_x;b=_");
    }

    #[test]
    fn flat_paths_follow_the_template() {
        let flat = |template: &str, tags: &[&str]| {
            let naming = naming("dc1.", TagStyle::Flatten, template).unwrap();
            naming.path(&point("api.latency", None, tags))
        };
        let tags = ["env:prod", "host:db.1", "canary"];
        assert_eq!(
            flat("", &tags),
            "dc1.api.latency.env.prod.host.db_1.canary.true"
        );
        assert_eq!(flat("", &[]), "dc1.api.latency");
        let deeper = naming("shop.dc 1", TagStyle::Drop, "").unwrap();
        let path = deeper.path(&point("api.latency", None, &tags));
        assert_eq!(path, "shop.dc_1.api.latency");
        assert_eq!(
            flat("{host}.{name}.{tags}.x", &tags),
            "dc1.db_1.api.latency.env.prod.canary.true.x"
        );
        assert_eq!(flat("{host}.{name}", &[]), "dc1.none.api.latency");
    }

    #[test]
    fn a_name_of_carbons_stays_and_white_space_does_not() {
        let naming = naming("", TagStyle::Drop, "").unwrap();
        let path = naming.path(&point("disk./dev/sda1.a b\n", None, &["x:1"]));
        assert_eq!(path, "disk./dev/sda1.a_b_");
    }

    #[test]
    fn a_bad_template_is_refused_with_its_key() {
        for (style, template, problem) in [
            (TagStyle::Flatten, "{tags}", "template: has no `{name}`"),
            (
                TagStyle::Flatten,
                "{name",
                "template: a `{` without its `}`",
            ),
            (
                TagStyle::Flatten,
                "{name}{}",
                "template: `{}` names nothing",
            ),
            (
                TagStyle::Drop,
                "{name}",
                "template: has no meaning without `tags: flatten`",
            ),
        ] {
            assert_eq!(naming("", style, template).unwrap_err(), problem);
        }
    }
}
