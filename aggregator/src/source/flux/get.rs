//! `GET /metric_data`: one metric in the parameters of a URL.

use http::HeaderMap;
use serde_json::json;

use super::Judge;
use super::answer::{Answer, quoted};
use super::item::Item;
use super::keys::Pass;
use super::post::header;
use super::rules::Given;

/// What a URL says, each parameter's last mention.
#[derive(Debug, Default)]
struct Parameters {
    metric: Option<String>,
    timestamp: Option<String>,
    value: Option<String>,
    key: Option<String>,
    fill: bool,
}

/// Judges a request by its query. `Err` is the answer to one that brings no metric.
pub(super) fn judge(
    judge: &Judge<'_>,
    headers: &HeaderMap,
    query: &str,
) -> Result<(Pass, Item, bool), Answer> {
    let parameters = || form_urlencoded::parse(query.as_bytes());
    if parameters().any(|(name, _)| name == "status") {
        return Err(Answer::ok(json!({"status": "ok"})));
    }
    let mut given = Parameters::default();
    let mut test = false;
    for (name, value) in parameters() {
        let value = Some(value.into_owned());
        match name.as_ref() {
            "metric" => given.metric = value,
            "timestamp" => given.timestamp = value,
            "value" => given.value = value,
            "key" => given.key = value,
            "fill" => given.fill = value.is_some_and(|text| Given::Text(&text).is_true()),
            "test" => test = value.is_some_and(|text| Given::Text(&text).is_true()),
            other => {
                let message = format!("Invalid parameter received - {}", quoted(&other));
                return Err(Answer::bad("invalid_parameters", &message));
            }
        }
    }
    let (pass, item) = item(judge, headers, &given)?;
    Ok((pass, item, test))
}

fn item(
    judge: &Judge<'_>,
    headers: &HeaderMap,
    given: &Parameters,
) -> Result<(Pass, Item), Answer> {
    let missing =
        |name: &str| Answer::bad("invalid_parameters", &format!("no {name} parameter passed"));
    let key = header(headers, "key").or(given.key.as_deref());
    let key = key.ok_or_else(|| missing("key"))?;
    let pass = judge.keys.pass(key).ok_or_else(Answer::invalid_key)?;
    let seconds = match given.timestamp.as_deref() {
        None => judge.now,
        Some(text) => judge
            .rules
            .timestamp(Given::Text(text), judge.now, given.fill)
            .map_err(|reason| {
                let message = format!("invalid timestamp - {} - {reason}", quoted(&text));
                Answer::bad("invalid_timestamp", &message)
            })?,
    };
    let value = given.value.as_deref().map(|text| {
        Given::Text(text).value().ok_or_else(|| {
            Answer::bad(
                "invalid_value",
                &format!("invalid value - {}", quoted(&text)),
            )
        })
    });
    let value = value.transpose()?;
    let posted = given.metric.as_deref().filter(|name| !name.is_empty());
    let posted = judge
        .rules
        .repaired(posted.ok_or_else(|| missing("metric"))?);
    let value = value.ok_or_else(|| missing("value"))?;
    let name = pass.full_name(&posted);
    judge.rules.name(&name).map_err(|reason| {
        let message = format!("invalid metric - {} - {reason}", quoted(&posted));
        Answer::bad("metric_name", &message)
    })?;
    let item = Item {
        posted: posted.into_owned(),
        name,
        seconds,
        value,
        fill: given.fill,
    };
    Ok((pass, item))
}
