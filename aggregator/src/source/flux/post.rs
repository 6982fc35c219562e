//! `POST /metric_data_post`: one metric or many, as JSON.
//!
//! Every metric is judged before any is stored: one that is wrong refuses them all.

use http::{HeaderMap, StatusCode};
use serde_json::json;

use super::Judge;
use super::answer::{Answer, quoted};
use super::item::Item;
use super::json::{Json, Object};
use super::keys::Pass;
use super::rules::Given;
use super::telegraf::{self, Dropped};

/// What a POST brings, all of it good.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Submission {
    /// Whose it is.
    pub(super) pass: Pass,
    pub(super) items: Vec<Item>,
    /// Whether it was one metric without a list.
    pub(super) single: bool,
    /// What a telegraf batch had besides.
    pub(super) dropped: Vec<Dropped>,
    /// Only a test: nothing is to be stored.
    pub(super) test: bool,
}

/// A request's header as text, if it has it.
pub(super) fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    // What is no text is no key either.
    headers
        .get(name)
        .map(|value| value.to_str().unwrap_or_default())
}

/// Judges a body. `Err` is the answer to one that brings nothing to store.
pub(super) fn judge(
    judge: &Judge<'_>,
    headers: &HeaderMap,
    body: &[u8],
) -> Result<Submission, Answer> {
    let invalid = |_| Answer::bad("invalid_json", "invalid json data");
    let Json::Object(data) = serde_json::from_slice(body).map_err(invalid)? else {
        return Err(Answer::bad("invalid_json", "invalid json data"));
    };
    if data.is_empty() {
        return Err(Answer::bad("no_data", "no POST data received"));
    }
    if data.get("status").is_some() {
        return Err(status(&data));
    }
    let pass = pass(judge, headers, &data)?;
    if data.get("validate_key").is_some_and(is_true) {
        return Err(Answer::ok(json!({"status": "key valid"})));
    }
    let test = data.get("test").is_some_and(is_true) || headers.contains_key("x-test-only");
    let (items, single) = match data.get("metrics") {
        Some(Json::List(items)) if !items.is_empty() => (items.as_slice(), false),
        _ => match data.get("metric") {
            Some(_) => (&[][..], true),
            None => return Err(Answer::bad("no_data", "no metric data passed")),
        },
    };
    if judge.max_metrics != 0 && items.len() > judge.max_metrics {
        let message = format!(
            "{} metrics in one POST, at most {} are taken",
            items.len(),
            judge.max_metrics
        );
        return Err(Answer::refused(
            StatusCode::PAYLOAD_TOO_LARGE,
            "too_many_metrics",
            &message,
        ));
    }
    let mut submission = Submission {
        pass,
        items: Vec::with_capacity(items.len()),
        single,
        dropped: Vec::new(),
        test,
    };
    if single {
        let names = ["metric", "timestamp", "value"];
        let part = data
            .0
            .iter()
            .filter(|(name, _)| names.contains(&name.as_str()));
        let shown = Object(part.cloned().collect());
        let fill = data.get("fill").is_some_and(is_true);
        submission
            .items
            .push(item(judge, &submission.pass, &shown, fill)?);
    } else if telegraf::is_batch(headers, items) {
        telegraf::flatten(judge, headers, items, &mut submission)?;
    } else {
        for given in items {
            let Json::Object(given) = given else {
                let message = format!("invalid metric - {}", quoted(given));
                return Err(Answer::bad("invalid_parameters", &message));
            };
            let fill = given.get("fill").is_some_and(is_true);
            submission
                .items
                .push(item(judge, &submission.pass, given, fill)?);
        }
    }
    Ok(submission)
}

fn is_true(value: &Json) -> bool {
    Given::Json(value).is_true()
}

/// The answer to who asks whether we are there, or for a reply to try a client with.
fn status(data: &Object) -> Answer {
    let canned = match data.get("status_code") {
        Some(Json::Integer(207)) => StatusCode::MULTI_STATUS,
        Some(Json::Integer(400)) => StatusCode::BAD_REQUEST,
        Some(Json::Integer(401)) => StatusCode::UNAUTHORIZED,
        _ => return Answer::ok(json!({"status": "ok"})),
    };
    Answer {
        status: canned,
        body: Some(json!({"code": canned.as_u16(), "message": "test response"})),
        cause: "",
    }
}

/// Whose key it is: the header's, or else the body's.
fn pass(judge: &Judge<'_>, headers: &HeaderMap, data: &Object) -> Result<Pass, Answer> {
    let key = match (header(headers, "key"), data.get("key")) {
        (Some(key), _) => key,
        (None, Some(Json::Text(key))) => key,
        (None, Some(_)) => return Err(Answer::invalid_key()),
        (None, None) => return Err(Answer::bad("no_key", "no key passed")),
    };
    judge.keys.pass(key).ok_or_else(Answer::invalid_key)
}

/// Judges one metric.
fn item(judge: &Judge<'_>, pass: &Pass, given: &Object, fill: bool) -> Result<Item, Answer> {
    let Some(Json::Text(metric)) = given.get("metric") else {
        let message = format!("invalid metric - {}", quoted(given));
        return Err(Answer::bad("metric_name", &message));
    };
    let posted = judge.rules.repaired(metric);
    let name = pass.full_name(&posted);
    let named = match posted.is_empty() {
        true => Err("invalid characters in name"),
        false => judge.rules.name(&name),
    };
    named.map_err(|reason| {
        let message = format!("invalid metric - {} - {reason}", quoted(given));
        Answer::bad("metric_name", &message)
    })?;
    let seconds = match given.get("timestamp") {
        None => judge.now,
        Some(timestamp) => {
            let timestamp = Given::Json(timestamp);
            let judged = judge.rules.timestamp(timestamp, judge.now, fill);
            judged.map_err(|reason| {
                let shown = quoted(&timestamp);
                let message = format!("invalid timestamp - {shown} - {reason} - {}", quoted(given));
                Answer::bad("invalid_timestamp", &message)
            })?
        }
    };
    let value = given.get("value").ok_or_else(|| {
        let message = format!("no value parameter present - {}", quoted(given));
        Answer::bad("invalid_value", &message)
    })?;
    let value = Given::Json(value).value().ok_or_else(|| {
        let message = format!("invalid value - {}", quoted(given));
        Answer::bad("invalid_value", &message)
    })?;
    Ok(Item {
        posted: posted.into_owned(),
        name,
        seconds,
        value,
        fill,
    })
}
