//! What a scrape gets: the text format 0.0.4, or OpenMetrics 1.0.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io::Write as _;
use std::sync::Arc;
use std::time::Instant;

use flate2::Compression;
use flate2::write::GzEncoder;

use super::store::{Expiry, Kind, Series, Shown, Value};
use crate::point::Timestamp;
use crate::sink::text::Number;

/// All series after a flush. It never changes.
#[derive(Debug)]
pub(super) struct Page {
    /// By name.
    pub(super) families: Vec<Arc<Shown>>,
    pub(super) expiry: Expiry,
}

/// How a page is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Form {
    pub(super) format: Format,
    pub(super) gzip: bool,
    /// Only OpenMetrics has them.
    pub(super) created: bool,
}

/// The two that there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    Text,
    OpenMetrics,
}

impl Format {
    /// As in `Content-Type`.
    pub(super) fn content_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }

    /// The one that `Accept` likes better; OpenMetrics where it likes both alike and names it, for it says more.
    pub(super) fn wanted(accept: &str) -> Self {
        let (mut open, mut text) = (0.0_f64, 0.0_f64);
        for range in accept.split(',') {
            let (kind, quality, version) = media_range(range);
            match kind {
                "application/openmetrics-text" if matches!(version, "" | "1.0.0" | "0.0.1") => {
                    open = open.max(quality);
                }
                "text/plain" if matches!(version, "" | "0.0.4") => text = text.max(quality),
                "*/*" | "text/*" => text = text.max(quality),
                _ => {}
            }
        }
        match open > 0.0 && open >= text {
            true => Self::OpenMetrics,
            false => Self::Text,
        }
    }
}

/// Whether `Accept-Encoding` takes gzip.
pub(super) fn takes_gzip(accept: &str) -> bool {
    let mut ranges = accept.split(',').map(media_range);
    ranges.any(|(coding, quality, _)| coding.eq_ignore_ascii_case("gzip") && quality > 0.0)
}

/// What is accepted, how gladly, and in which version.
fn media_range(range: &str) -> (&str, f64, &str) {
    let mut parts = range.split(';').map(str::trim);
    let kind = parts.next().unwrap_or_default();
    let (mut quality, mut version) = (1.0, "");
    for part in parts {
        match part.split_once('=') {
            Some(("q", value)) => quality = value.parse().unwrap_or(0.0),
            Some(("version", value)) => version = value.trim_matches('"'),
            _ => {}
        }
    }
    (kind, quality, version)
}

/// Writes labels as they stand between braces.
pub(super) fn push_labels(text: &mut String, labels: &[(Cow<'_, str>, Cow<'_, str>)]) {
    for (place, (key, value)) in labels.iter().enumerate() {
        if place > 0 {
            text.push(',');
        }
        text.push_str(key);
        text.push_str("=\"");
        for c in value.chars() {
            match c {
                '\\' => text.push_str("\\\\"),
                '"' => text.push_str("\\\""),
                '\n' => text.push_str("\\n"),
                c => text.push(c),
            }
        }
        text.push('"');
    }
}

impl Page {
    /// A page with nothing on it.
    pub(super) fn empty() -> Self {
        Self {
            families: Vec::new(),
            expiry: Expiry {
                gauges: None,
                counters: None,
            },
        }
    }

    /// Writes what has not expired by `now`.
    pub(super) fn render(&self, form: Form, now: Instant) -> std::io::Result<Vec<u8>> {
        let mut text = String::with_capacity(1 << 16);
        for family in &self.families {
            self.push_family(&mut text, family, form, now);
        }
        if form.format == Format::OpenMetrics {
            text.push_str("# EOF\n");
        }
        if !form.gzip {
            return Ok(text.into_bytes());
        }
        let packed = Vec::with_capacity(text.len() / 8);
        let mut encoder = GzEncoder::new(packed, Compression::fast());
        encoder.write_all(text.as_bytes())?;
        encoder.finish()
    }

    fn push_family(&self, text: &mut String, family: &Shown, form: Form, now: Instant) {
        let kind = family.kind;
        let alive = |series: &&Series| !self.expiry.is_over(kind, series.seen, now);
        let mut series = family.series.iter().filter(alive).peekable();
        if series.peek().is_none() {
            return;
        }
        let open = form.format == Format::OpenMetrics;
        let base = match (kind, open) {
            (Kind::Counter, true) => family.name.strip_suffix("_total").unwrap_or(&family.name),
            _ => &family.name,
        };
        // Writing to a string cannot fail.
        let _ = writeln!(text, "# TYPE {base} {}", kind.as_str());
        for series in series {
            let created = match &series.value {
                Value::Total { total, created } => {
                    push_sample(text, &family.name, "", &series.labels, None, *total);
                    *created
                }
                Value::Gauge { value, .. } => {
                    push_sample(text, base, "", &series.labels, None, *value);
                    continue;
                }
                Value::Summary(summary) => {
                    let fresh = summary
                        .quantiles
                        .iter()
                        .filter(|one| !self.expiry.is_over(Kind::Gauge, one.seen, now));
                    for one in fresh {
                        let label = Some(&*one.label);
                        push_sample(text, base, "", &series.labels, label, one.value);
                    }
                    for (suffix, value) in [("_sum", summary.sum), ("_count", summary.count)] {
                        if let Some(value) = value {
                            push_sample(text, base, suffix, &series.labels, None, value);
                        }
                    }
                    summary.created
                }
            };
            if open && form.created {
                push_created(text, base, &series.labels, created);
            }
        }
    }
}

fn push_sample(
    text: &mut String,
    name: &str,
    suffix: &str,
    labels: &str,
    quantile: Option<&str>,
    value: f64,
) {
    push_series(text, name, suffix, labels, quantile);
    // Totals may grow beyond what a double holds.
    let _ = match value.is_finite() {
        true => writeln!(text, "{}", Number(value)),
        false if value.is_nan() => writeln!(text, "NaN"),
        false => writeln!(text, "{}Inf", if value > 0.0 { '+' } else { '-' }),
    };
}

fn push_created(text: &mut String, name: &str, labels: &str, created: Timestamp) {
    push_series(text, name, "_created", labels, None);
    let millis = created.millis();
    let (seconds, rest) = (millis.div_euclid(1000), millis.rem_euclid(1000));
    let _ = writeln!(text, "{seconds}.{rest:03}");
}

fn push_series(text: &mut String, name: &str, suffix: &str, labels: &str, quantile: Option<&str>) {
    text.push_str(name);
    text.push_str(suffix);
    if !labels.is_empty() || quantile.is_some() {
        text.push('{');
        text.push_str(labels);
        if let Some(quantile) = quantile {
            let comma = if labels.is_empty() { "" } else { "," };
            let _ = write!(text, "{comma}quantile=\"{quantile}\"");
        }
        text.push('}');
    }
    text.push(' ');
}
