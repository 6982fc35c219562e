//! The lines of a page: Prometheus' text format 0.0.4, and OpenMetrics 1.0.
//!
//! After <https://prometheus.io/docs/instrumenting/exposition_formats/> and <https://prometheus.io/docs/specs/om/open_metrics_spec/>, with the quoted names
//! of Prometheus 3. Each line is read by itself; nothing is allocated for it but its labels, and texts that have escapes in them.

use std::borrow::Cow;

use crate::point::Timestamp;

/// Which of the two a page is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    Text,
    OpenMetrics,
}

/// One line.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Line<'a> {
    /// Empty, a comment, or something about a family that does not matter here.
    Nothing,
    /// Of which type the family with that name is.
    Type(Cow<'a, str>, Type),
    Sample(Sample<'a>),
    /// The end of an OpenMetrics page.
    End,
}

/// What a family is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Type {
    Counter,
    Gauge,
    Histogram,
    GaugeHistogram,
    Summary,
    /// Said to be unknown, or one that is one value as a gauge is.
    Other,
}

/// One value.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Sample<'a> {
    pub(super) name: Cow<'a, str>,
    /// In the order in which they stand.
    pub(super) labels: Vec<(Cow<'a, str>, Cow<'a, str>)>,
    /// Any double.
    pub(super) value: f64,
    pub(super) timestamp: Option<Timestamp>,
}

/// What is wrong with a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(super) struct Malformed(pub(super) &'static str);

type Result<T> = std::result::Result<T, Malformed>;

/// Reads a line without its line break.
pub(super) fn line(line: &str, format: Format) -> Result<Line<'_>> {
    let mut rest = Rest(line.strip_suffix('\r').unwrap_or(line));
    rest.skip_blanks();
    if rest.0.is_empty() {
        return Ok(Line::Nothing);
    }
    match rest.0.strip_prefix('#') {
        Some(comment) => self::comment(comment, format),
        None => rest.sample(format).map(Line::Sample),
    }
}

fn comment(text: &str, format: Format) -> Result<Line<'_>> {
    let mut rest = Rest(text);
    rest.skip_blanks();
    if format == Format::OpenMetrics && rest.0 == "EOF" {
        return Ok(Line::End);
    }
    let Some(about) = rest.0.strip_prefix("TYPE") else {
        return Ok(Line::Nothing);
    };
    if !about.starts_with(BLANKS) {
        return Ok(Line::Nothing);
    }
    let mut rest = Rest(about);
    rest.skip_blanks();
    let name = match rest.0.starts_with('"') {
        true => rest.quoted()?,
        false => rest.name(true)?.into(),
    };
    rest.skip_blanks();
    let kind = match rest.0.trim_end_matches(BLANKS) {
        "counter" => Type::Counter,
        "gauge" => Type::Gauge,
        "histogram" => Type::Histogram,
        "gaugehistogram" => Type::GaugeHistogram,
        "summary" => Type::Summary,
        "untyped" | "unknown" | "info" | "stateset" => Type::Other,
        _ => return Err(Malformed("an unknown type")),
    };
    Ok(Line::Type(name, kind))
}

const BLANKS: [char; 2] = [' ', '\t'];

/// What is left of a line.
#[derive(Debug, Clone, Copy)]
struct Rest<'a>(&'a str);

impl<'a> Rest<'a> {
    fn skip_blanks(&mut self) {
        self.0 = self.0.trim_start_matches(BLANKS);
    }

    /// Takes one character if it is that one.
    fn take(&mut self, wanted: char) -> bool {
        let rest = self.0.strip_prefix(wanted);
        self.0 = rest.unwrap_or(self.0);
        rest.is_some()
    }

    /// Takes up to a place.
    fn split(&mut self, at: usize) -> &'a str {
        let (taken, rest) = self.0.split_at_checked(at).unwrap_or((self.0, ""));
        self.0 = rest;
        taken
    }

    /// A metric's name, or a label's, which has no colons.
    fn name(&mut self, colons: bool) -> Result<&'a str> {
        let good = |c: char| c.is_ascii_alphanumeric() || c == '_' || (colons && c == ':');
        let end = self.0.find(|c| !good(c)).unwrap_or(self.0.len());
        let name = self.split(end);
        match name.starts_with(|c: char| c.is_ascii_digit()) || name.is_empty() {
            true => Err(Malformed(
                "a name is missing, or has characters that none can have",
            )),
            false => Ok(name),
        }
    }

    /// A text in quotation marks, with its escapes resolved.
    fn quoted(&mut self) -> Result<Cow<'a, str>> {
        if !self.take('"') {
            return Err(Malformed("a quotation mark is missing"));
        }
        let mut text = Cow::Borrowed("");
        loop {
            let end = self.0.find(['"', '\\']);
            let end = end.ok_or(Malformed("a quotation mark is not closed"))?;
            let piece = self.split(end);
            match text.is_empty() {
                true => text = piece.into(),
                false => text.to_mut().push_str(piece),
            }
            if self.take('"') {
                return Ok(text);
            }
            self.split(1);
            let mut chars = self.0.chars();
            let escaped = chars.next().ok_or(Malformed("an escape is not ended"))?;
            self.0 = chars.as_str();
            match escaped {
                'n' => text.to_mut().push('\n'),
                '\\' | '"' => text.to_mut().push(escaped),
                // As Prometheus reads it: what is no escape stands for itself.
                _ => text.to_mut().extend(['\\', escaped]),
            }
        }
    }

    fn sample(mut self, format: Format) -> Result<Sample<'a>> {
        let mut name = match self.0.starts_with('{') {
            true => None,
            false => Some(Cow::Borrowed(self.name(true)?)),
        };
        self.skip_blanks();
        let mut labels = Vec::new();
        if self.take('{') {
            self.labels(&mut name, &mut labels)?;
        }
        let name = name.ok_or(Malformed("the name is missing"))?;
        let number = Malformed("the value is no number");
        let value = self.word().ok_or(Malformed("the value is missing"))?;
        let value = value.parse().map_err(|_| number)?;
        let timestamp = match self.word() {
            None => None,
            Some(text) => {
                let wrong = Malformed("the timestamp is no number");
                Some(match format {
                    Format::Text => Timestamp::from_millis(text.parse().map_err(|_| wrong)?),
                    Format::OpenMetrics => {
                        let seconds = text.parse().map_err(|_| wrong)?;
                        Timestamp::from_seconds_f64(seconds).ok_or(wrong)?
                    }
                })
            }
        };
        self.skip_blanks();
        // An exemplar may follow.
        if !self.0.is_empty() && !self.0.starts_with('#') {
            return Err(Malformed("something follows that does not belong there"));
        }
        Ok(Sample {
            name,
            labels,
            value,
            timestamp,
        })
    }

    /// The next word, unless an exemplar begins there.
    fn word(&mut self) -> Option<&'a str> {
        self.skip_blanks();
        if self.0.is_empty() || self.0.starts_with('#') {
            return None;
        }
        let end = self.0.find(BLANKS).unwrap_or(self.0.len());
        Some(self.split(end))
    }

    /// Labels up to the closing brace; a quoted text without a value is the metric's name.
    fn labels(
        &mut self,
        name: &mut Option<Cow<'a, str>>,
        labels: &mut Vec<(Cow<'a, str>, Cow<'a, str>)>,
    ) -> Result<()> {
        loop {
            self.skip_blanks();
            if self.take('}') {
                return Ok(());
            }
            let quoted = self.0.starts_with('"');
            let key = match quoted {
                true => self.quoted()?,
                false => self.name(false)?.into(),
            };
            self.skip_blanks();
            if self.take('=') {
                self.skip_blanks();
                labels.push((key, self.quoted()?));
            } else if quoted && name.is_none() {
                *name = Some(key);
            } else {
                return Err(Malformed("a label has no value"));
            }
            self.skip_blanks();
            if !self.take(',') && !self.0.starts_with('}') {
                return Err(Malformed("a comma or a brace is missing"));
            }
        }
    }
}
