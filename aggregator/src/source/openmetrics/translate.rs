//! From a page's samples to names, kinds and tags as Veneur's source has them.

use std::borrow::Cow;
use std::collections::HashMap;

use regex::Regex;

use super::parse::{Sample, Type};
use crate::key::Kind;

/// What of a page is taken, and what it is called.
#[derive(Debug)]
pub(super) struct Rules {
    pub(super) allow: Option<Regex>,
    pub(super) deny: Option<Regex>,
    pub(super) ignored_labels: Option<Regex>,
    pub(super) bucket_tag: String,
    pub(super) quantile_tag: String,
    pub(super) prefix: String,
    pub(super) renamed: HashMap<String, String>,
    /// `key`, `value`, for samples without a tag of that key.
    pub(super) added: Vec<(String, String)>,
}

/// A sample as it is taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Named {
    pub(super) name: String,
    /// A counter, whose values are cumulative, or a gauge.
    pub(super) kind: Kind,
    /// Sorted, each `key:value`.
    pub(super) tags: Vec<String>,
}

/// The types that a page has named so far.
pub(super) type Types<'a> = HashMap<Cow<'a, str>, Type>;

/// What a sample is of its family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Counter,
    Gauge,
    Quantile,
    /// Of a histogram that counts, or of one that measures.
    Bucket(Kind),
    Sum(Kind),
    Count(Kind),
    /// When a series began: not a measurement.
    Created,
}

/// The family's name, and what a sample is of it.
fn part<'n>(name: &'n str, types: &Types<'_>) -> (&'n str, Part) {
    let of_type = |name: &str| types.get(name).copied();
    match of_type(name) {
        Some(Type::Counter) => return (name, Part::Counter),
        Some(Type::Summary) => return (name, Part::Quantile),
        Some(Type::Gauge | Type::Other) => return (name, Part::Gauge),
        Some(Type::Histogram | Type::GaugeHistogram) | None => {}
    }
    let suffixes = [
        "_bucket", "_sum", "_count", "_total", "_created", "_gsum", "_gcount",
    ];
    for suffix in suffixes {
        let Some(family) = name.strip_suffix(suffix) else {
            continue;
        };
        let part = match (of_type(family), suffix) {
            (Some(Type::Histogram), "_bucket") => Part::Bucket(Kind::Counter),
            (Some(Type::GaugeHistogram), "_bucket") => Part::Bucket(Kind::Gauge),
            (Some(Type::Histogram | Type::Summary), "_sum") => Part::Sum(Kind::Counter),
            (Some(Type::Histogram | Type::Summary), "_count") => Part::Count(Kind::Counter),
            (Some(Type::GaugeHistogram), "_gsum") => Part::Sum(Kind::Gauge),
            (Some(Type::GaugeHistogram), "_gcount") => Part::Count(Kind::Gauge),
            (Some(Type::Counter), "_total") => Part::Counter,
            (Some(Type::Counter | Type::Histogram | Type::Summary), "_created") => Part::Created,
            _ => continue,
        };
        return (family, part);
    }
    (name, Part::Gauge)
}

impl Rules {
    /// What a sample is called; `None` for one that is not taken.
    pub(super) fn named(&self, sample: &Sample<'_>, types: &Types<'_>) -> Option<Named> {
        let (family, part) = part(&sample.name, types);
        let matched = |regex: &Regex| regex.is_match(family) || regex.is_match(&sample.name);
        let taken = match (&self.allow, &self.deny) {
            (Some(allow), _) => matched(allow),
            (None, Some(deny)) => !matched(deny),
            (None, None) => true,
        };
        if !taken {
            return None;
        }
        let (name, suffix, kind, special) = match part {
            Part::Created => return None,
            Part::Counter => (&*sample.name, "", Kind::Counter, None),
            Part::Gauge => (&*sample.name, "", Kind::Gauge, None),
            Part::Quantile => {
                let special = Some(("quantile", &self.quantile_tag));
                (family, "", Kind::Gauge, special)
            }
            Part::Bucket(kind) => (family, ".bucket", kind, Some(("le", &self.bucket_tag))),
            Part::Sum(kind) => (family, ".sum", kind, None),
            Part::Count(kind) => (family, ".count", kind, None),
        };
        let labels = sample.labels.iter();
        let mut tags: Vec<_> = labels
            .filter_map(|(label, value)| self.tag(label, value, special))
            .collect();
        self.add_tags(&mut tags);
        tags.sort_unstable();
        Some(Named {
            name: self.name(name, suffix),
            kind,
            tags,
        })
    }

    /// A gauge of our own.
    pub(super) fn own(&self, name: &str) -> Named {
        let mut tags = Vec::new();
        self.add_tags(&mut tags);
        tags.sort_unstable();
        Named {
            name: self.name(name, ""),
            kind: Kind::Gauge,
            tags,
        }
    }

    fn name(&self, name: &str, suffix: &str) -> String {
        let mut text = String::with_capacity(self.prefix.len() + name.len() + suffix.len());
        text.push_str(&self.prefix);
        push_clean(&mut text, name, &[]);
        text.push_str(suffix);
        text
    }

    fn add_tags(&self, tags: &mut Vec<String>) {
        for (key, value) in &self.added {
            let has = |tag: &String| {
                let rest = tag.strip_prefix(key.as_str());
                rest.is_some_and(|rest| rest.starts_with(':'))
            };
            if !tags.iter().any(has) {
                tags.push(tag(key, value));
            }
        }
    }

    fn tag(&self, label: &str, value: &str, special: Option<(&str, &String)>) -> Option<String> {
        if value.is_empty() {
            return None;
        }
        if let Some((known, called)) = special
            && label == known
        {
            return Some(tag(called, value));
        }
        let ignored = self.ignored_labels.as_ref();
        if ignored.is_some_and(|ignored| ignored.is_match(label)) {
            return None;
        }
        let renamed = self.renamed.get(label).map(String::as_str);
        Some(tag(renamed.unwrap_or(label), value))
    }
}

fn tag(key: &str, value: &str) -> String {
    let mut tag = String::with_capacity(key.len() + value.len() + 1);
    push_clean(&mut tag, key, &[',', ':']);
    tag.push(':');
    push_clean(&mut tag, value, &[',']);
    tag
}

/// Appends a text with `_` for what would not be one name or one tag any more.
fn push_clean(text: &mut String, part: &str, others: &[char]) {
    let bad = |c: char| c.is_control() || others.contains(&c);
    text.extend(part.chars().map(|c| if bad(c) { '_' } else { c }));
}
