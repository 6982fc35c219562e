//! telegraf's batches: what its `outputs.http` posts with `data_format = "json"`.
//!
//! Each numeric field becomes a metric `[prefix.]HOST.TAGVALUES.MEASUREMENT.FIELD`, the values of the tags in the order of the batch (telegraf
//! sorts them by key), the host's first. What cannot be stored is dropped and named in the answer: telegraf repeats what is refused, and one metric
//! must not hold up its batch for ever.

use http::{HeaderMap, StatusCode};
use serde_json::{Value, json};

use super::Judge;
use super::answer::{Answer, quoted};
use super::item::Item;
use super::json::{Json, Object};
use super::post::{Submission, header};
use super::rules::{Given, repaired};

/// What the names of a batch may take in all, in bytes, with so much for each beside its letters: each field repeats its metric's tags, so that a
/// small body can make much of them.
const ROOM: usize = 16 * 1024 * 1024;
const EACH: usize = 200;

/// A metric of a batch that was not stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Dropped {
    /// Its name without the key's namespace, or what there is of it.
    pub(super) metric: String,
    pub(super) why: Why,
    /// In words.
    pub(super) reason: String,
}

/// Why a metric of a batch was dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Why {
    /// A field that is text, a boolean or nothing.
    NonNumeric,
    /// Older than what is taken.
    Late,
    /// A timestamp that is none, or is ahead of the time.
    Timestamp,
    /// No host tag.
    NoHost,
    /// A name that cannot be one, or no telegraf metric at all.
    Name,
}

impl Why {
    /// What counters call it.
    pub(super) fn fate(self) -> &'static str {
        match self {
            Self::NonNumeric => "non_numeric",
            Self::Late => "late",
            Self::Timestamp => "invalid_timestamp",
            Self::NoHost => "no_host",
            Self::Name => "metric_name",
        }
    }
}

/// Whether these metrics are to be read as telegraf's: the headers say so, and the first looks like it.
pub(super) fn is_batch(headers: &HeaderMap, items: &[Json]) -> bool {
    let said = header(headers, "telegraf").is_some_and(|said| !said.eq_ignore_ascii_case("false"));
    said && headers.contains_key("key")
        && matches!(items.first(), Some(Json::Object(first)) if Parts::of(first).is_some())
}

/// What a telegraf metric consists of.
struct Parts<'a> {
    name: &'a str,
    tags: &'a Object,
    fields: &'a Object,
    timestamp: &'a Json,
}

impl<'a> Parts<'a> {
    fn of(item: &'a Object) -> Option<Self> {
        let (Json::Text(name), Json::Object(tags), Json::Object(fields)) =
            (item.get("name")?, item.get("tags")?, item.get("fields")?)
        else {
            return None;
        };
        Some(Self {
            name,
            tags,
            fields,
            timestamp: item.get("timestamp")?,
        })
    }
}

/// Turns a batch into items, and notes what it drops. Only a batch in which no time is right at all is refused: somebody has to
/// set something right.
pub(super) fn flatten(
    judge: &Judge<'_>,
    headers: &HeaderMap,
    batch: &[Json],
    submission: &mut Submission,
) -> Result<(), Answer> {
    let prefix = header(headers, "prefix").unwrap_or_default();
    let prefix = prefix.trim().trim_matches('.');
    if !prefix.is_empty() && judge.rules.name(prefix).is_err() {
        let message = format!("invalid prefix - {}", quoted(&prefix));
        return Err(Answer::bad("metric_name", &message));
    }
    let mut room = ROOM;
    for item in batch {
        let parts = match item {
            Json::Object(object) => Parts::of(object),
            _ => None,
        };
        match parts {
            Some(parts) => flatten_one(judge, prefix, &parts, submission, &mut room)?,
            None => submission.dropped.push(Dropped {
                metric: quoted(item),
                why: Why::Name,
                reason: "not a telegraf metric".to_owned(),
            }),
        }
    }
    let wrong_time = |dropped: &&Dropped| dropped.why == Why::Timestamp;
    let first = submission.dropped.iter().find(wrong_time);
    let late = |dropped: &Dropped| dropped.why == Why::Late;
    match first {
        Some(first) if submission.items.is_empty() && !submission.dropped.iter().any(late) => {
            let message = format!("invalid timestamp - {} - {}", first.reason, first.metric);
            Err(Answer::bad("invalid_timestamp", &message))
        }
        _ => Ok(()),
    }
}

fn flatten_one(
    judge: &Judge<'_>,
    prefix: &str,
    parts: &Parts<'_>,
    submission: &mut Submission,
    room: &mut usize,
) -> Result<(), Answer> {
    let host = match parts.tags.get("host") {
        Some(Json::Text(host)) if !host.is_empty() => host,
        _ => {
            submission.dropped.push(Dropped {
                metric: quoted(&parts.name),
                why: Why::NoHost,
                reason: "no host tag".to_owned(),
            });
            return Ok(());
        }
    };
    let mut stem = String::new();
    for element in prefix.split('.').filter(|element| !element.is_empty()) {
        push(&mut stem, element);
    }
    push(&mut stem, &element(host, !judge.telegraf_replace_host));
    for (key, value) in &parts.tags.0 {
        match value {
            Json::Text(value) if key != "host" => push(&mut stem, &element(value, false)),
            Json::Integer(_) | Json::Float(_) | Json::Bool(_) => {
                push(&mut stem, &element(&value.to_string(), false));
            }
            _ => {}
        }
    }
    push(&mut stem, &element(parts.name, false));
    let seconds = judge
        .rules
        .timestamp(Given::Json(parts.timestamp), judge.now, false);
    for (field, value) in &parts.fields.0 {
        let length = 2 * (stem.len() + field.len()) + EACH;
        *room = room.checked_sub(length).ok_or_else(too_much)?;
        let mut posted = stem.clone();
        push(&mut posted, &element(field, false));
        let number = match value {
            Json::Integer(_) | Json::Float(_) => Given::Json(value).value(),
            _ => None,
        };
        let name = submission.pass.full_name(&posted);
        let judged = match (number, &seconds) {
            (None, _) => Err((Why::NonNumeric, "non-numeric value".to_owned())),
            (Some(_), Err(reason)) => Err((why(reason), reason.clone())),
            (Some(value), Ok(seconds)) => match judge.rules.name(&name) {
                Ok(()) => Ok((value, *seconds)),
                Err(reason) => Err((Why::Name, reason.to_owned())),
            },
        };
        match judged {
            Ok((value, seconds)) => submission.items.push(Item {
                posted,
                name,
                seconds,
                value,
                fill: false,
            }),
            Err((why, reason)) => submission.dropped.push(Dropped {
                metric: posted,
                why,
                reason,
            }),
        }
    }
    Ok(())
}

fn too_much() -> Answer {
    Answer::refused(
        StatusCode::PAYLOAD_TOO_LARGE,
        "too_large",
        "the names of the batch are too long in all",
    )
}

fn why(reason: &str) -> Why {
    match reason.contains("too old") {
        true => Why::Late,
        false => Why::Timestamp,
    }
}

fn push(stem: &mut String, element: &str) {
    if element.is_empty() {
        return;
    }
    if !stem.is_empty() {
        stem.push('.');
    }
    stem.push_str(element);
}

/// Text as one element of a name, or as several where dots are kept: a dot becomes `_`, a slash `-`, and what no name may have `_`.
fn element(text: &str, keep_dots: bool) -> String {
    let replace = |c: char| match c {
        '.' if keep_dots => '.',
        '/' => '-',
        c if c.is_ascii_alphanumeric() || "+-%_=:".contains(c) => c,
        _ => '_',
    };
    let clean: String = text.chars().map(replace).collect();
    repaired(clean.trim_matches('.')).into_owned()
}

/// The body of a 207, in Flux's words where it has them.
pub(super) fn report(dropped: &[Dropped], processed: usize) -> Value {
    let of = |sorts: &[Why]| -> Vec<&str> {
        let those = dropped
            .iter()
            .filter(|dropped| sorts.contains(&dropped.why));
        those.map(|dropped| dropped.metric.as_str()).collect()
    };
    let non_numeric = of(&[Why::NonNumeric]);
    let untimely = of(&[Why::Late, Why::Timestamp]);
    let homeless = of(&[Why::NoHost]);
    let misnamed = of(&[Why::Name]);
    let mut message = Vec::new();
    for (metrics, what) in [
        (&non_numeric, "non-numeric value metrics"),
        (&untimely, "metrics with timestamps that are not taken"),
        (&homeless, "metrics without a host tag"),
        (&misnamed, "metrics with invalid names"),
    ] {
        if !metrics.is_empty() {
            message.push(format!("{} {what} were dropped", metrics.len()));
        }
    }
    let data: Vec<Value> = dropped
        .iter()
        .map(|dropped| json!({"metric": dropped.metric, "status": 400, "reason": dropped.reason}))
        .collect();
    json!({
        "code": 207,
        "data": data,
        "message": message.join(", "),
        "dropped non-numeric metrics": non_numeric,
        "dropped non-numeric metrics count": non_numeric.len(),
        "dropped invalid timestamp metrics": untimely,
        "dropped invalid timestamp metrics count": untimely.len(),
        "dropped no host metrics": homeless,
        "dropped no host metrics count": homeless.len(),
        "dropped invalid name metrics": misnamed,
        "dropped invalid name metrics count": misnamed.len(),
        "processed metrics count": processed,
        // Those that were numbers.
        "submitted metrics count": processed + untimely.len(),
        "defined skipped_metrics_count": 0,
    })
}
