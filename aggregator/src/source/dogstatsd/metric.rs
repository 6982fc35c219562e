//! A metric: `name:value[:value…]|type[|section…]`.
//!
//! Sections come in any order: `@rate`, `#tags`, `Ttimestamp`, and others, which are skipped: a later version of the protocol must not cost
//! its users their data.

use super::error::MetricError;
use super::field::{cut, cut_at_either, cut_near, seconds};
use super::number;
use crate::key::Kind;
use crate::sample::{Sample, Value};

#[inline]
pub(super) fn parse<'a>(
    line: &'a [u8],
    mut take: impl FnMut(Sample<'a>),
) -> Result<(), MetricError> {
    // A pipe before the first colon would make that colon part of a section.
    let (name, mark, after_name) = cut_at_either(line, b':', b'|').ok_or(MetricError::NoPipe)?;
    if mark != b':' {
        return Err(MetricError::NoColon);
    }
    let (values, after_values) = cut_near(after_name, b'|');
    let after_values = after_values.ok_or(MetricError::NoPipe)?;
    if name.is_empty() {
        return Err(MetricError::EmptyName);
    }
    let (type_name, sections) = cut_near(after_values, b'|');
    let kind = kind(type_name)?;
    let Sections { rate, tags } = match sections {
        None => Sections::default(),
        Some(sections) => Sections::read(sections)?,
    };
    let sample = |value| Sample {
        name,
        kind,
        tags,
        value,
        rate,
    };
    if kind == Kind::Set {
        // A set's member is free text, colons and all, so sets are never packed.
        if !values.is_empty() {
            take(sample(Value::Member(values)));
        }
        return Ok(());
    }
    let mut rest = values;
    while !rest.is_empty() {
        let (value, more) = cut_near(rest, b':');
        let value = number::parse(value).ok_or(MetricError::BadValue)?;
        take(sample(Value::Number(value)));
        rest = more.unwrap_or_default();
    }
    Ok(())
}

/// The first letter decides: clients in the field write `m` and `counter` too.
#[inline]
fn kind(type_name: &[u8]) -> Result<Kind, MetricError> {
    match type_name.first() {
        Some(b'c') => Ok(Kind::Counter),
        Some(b'g') => Ok(Kind::Gauge),
        Some(b'h' | b'd') => Ok(Kind::Histogram),
        Some(b'm') => Ok(Kind::Timer),
        Some(b's') => Ok(Kind::Set),
        Some(_) => Err(MetricError::UnknownType),
        None => Err(MetricError::EmptyType),
    }
}

/// What the sections after the type say.
struct Sections<'a> {
    rate: f64,
    tags: Option<&'a [u8]>,
}

impl Default for Sections<'_> {
    fn default() -> Self {
        Self {
            rate: 1.0,
            tags: None,
        }
    }
}

impl<'a> Sections<'a> {
    #[inline]
    fn read(sections: &'a [u8]) -> Result<Self, MetricError> {
        let mut read_rate = None;
        let mut read_tags = None;
        let mut rest = Some(sections);
        while let Some(sections) = rest {
            // Rates are short; tags, container names and the like are not.
            let (section, more) = match sections.first() {
                Some(b'@' | b'T') => cut_near(sections, b'|'),
                _ => cut(sections, b'|'),
            };
            rest = more;
            match section.split_first() {
                None => return Err(MetricError::EmptySection),
                Some((b'@', digits)) => {
                    if read_rate.is_some() {
                        return Err(MetricError::RateTwice);
                    }
                    read_rate = Some(rate(digits)?);
                }
                Some((b'#', tags)) => {
                    if read_tags.is_some() {
                        return Err(MetricError::TagsTwice);
                    }
                    read_tags = Some(tags);
                }
                Some((b'T', digits)) => {
                    seconds(digits)
                        .filter(|seconds| *seconds > 0)
                        .ok_or(MetricError::BadTimestamp)?;
                }
                Some(_) => {}
            }
        }
        Ok(Self {
            rate: read_rate.unwrap_or(1.0),
            tags: read_tags,
        })
    }
}

/// In double precision, so that one sample at 0.1 stands for ten and not for 9.9999998. What is accepted is decided in single precision, as
/// in Veneur: a rate too small for that would let one sample outweigh all others.
#[inline]
fn rate(digits: &[u8]) -> Result<f64, MetricError> {
    let rate = number::parse(digits).ok_or(MetricError::BadRate)?;
    let single = rate as f32;
    if single > 0.0 && single <= 1.0 {
        Ok(rate.min(1.0))
    } else {
        Err(MetricError::BadRate)
    }
}
