//! `/render`: the values of targets.

use std::fmt::Write as _;

use super::super::Shared;
use super::super::query::{Budget, Context, Line, QueryError, evaluate, parse_time, push_float};
use super::form::Form;
use super::json::{push_list, push_text, push_value};
use super::{Answer, Caching};
use crate::point::Timestamp;

/// Targets of one question.
const TARGETS: usize = 500;

/// The values of all targets, as `raw` or `json`.
pub(super) fn render(shared: &Shared, form: &Form) -> Result<Answer, QueryError> {
    let clock = Timestamp::now().seconds();
    let time = |key: &str, now: i64| {
        form.get(key).map(|text| {
            parse_time(text, now).map_err(|error| QueryError::bad(format!("{key}: {error}")))
        })
    };
    let now = time("now", clock).transpose()?.unwrap_or(clock);
    let until = time("until", now).transpose()?.unwrap_or(now);
    let from = time("from", now).transpose()?.unwrap_or(now - 86_400);
    if from == until {
        return Err(QueryError::bad("Invalid empty time range"));
    }
    let raw = match form.get("format") {
        Some("raw") => true,
        None if form.get("rawData").is_some() => true,
        Some("json") | None => false,
        Some(other) => {
            return Err(QueryError::bad(format!(
                "format: {other} is not answered, use json or raw"
            )));
        }
    };
    let mut targets: Vec<_> = form.all("target").collect();
    if targets.is_empty() {
        targets = form.all("target[]").collect();
    }
    if targets.len() > TARGETS {
        return Err(QueryError::TooLarge(format!(
            "{} targets are too many, at most {TARGETS} are taken",
            targets.len()
        )));
    }
    let mut budget = Budget::new();
    let mut context = Context {
        store: &shared.store,
        from: from.min(until),
        until: until.max(from),
        now,
        budget: &mut budget,
    };
    let mut lines = Vec::new();
    for target in targets.iter().filter(|target| !target.trim().is_empty()) {
        lines.extend(evaluate(target, &mut context)?);
    }
    let shown: usize = lines
        .iter()
        .map(|line| line.values.len() + line.name.len() / 8)
        .sum();
    budget.values(shown)?;
    if raw {
        return Ok(as_raw(&lines));
    }
    as_json(lines, form)
}

fn as_raw(lines: &[Line]) -> Answer {
    let mut text = String::new();
    for line in lines {
        let _ = write!(
            text,
            "{},{},{},{}|",
            line.name, line.start, line.end, line.step
        );
        for (number, value) in line.values.iter().enumerate() {
            text.push_str(if number > 0 { "," } else { "" });
            if value.is_nan() {
                text.push_str("None");
            } else {
                push_float(&mut text, *value);
            }
        }
        text.push('\n');
    }
    Answer {
        kind: "text/plain",
        caching: Caching::Render,
        body: text,
    }
}

fn as_json(lines: Vec<Line>, form: &Form) -> Result<Answer, QueryError> {
    let digits = |text: &&str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let most = form.get("maxDataPoints").filter(digits);
    let most = most
        .map(|most| most.parse().unwrap_or(i64::MAX))
        .filter(|most| *most > 0);
    let without_gaps = form.get("noNullPoints").is_some();
    let start = lines
        .iter()
        .map(|line| line.start)
        .min()
        .unwrap_or_default();
    let end = lines.iter().map(|line| line.end).max().unwrap_or_default();
    let points = lines.into_iter().map(|line| {
        let mut points = consolidated(&line, most, end - start);
        points.retain(|(value, _)| !(without_gaps && value.is_nan()));
        (line, points)
    });
    let mut json = String::new();
    let told = points.filter(|(_, points)| !(without_gaps && points.is_empty()));
    push_list(&mut json, told, |json, (line, points)| {
        json.push_str("{\"target\": ");
        push_text(json, &line.name, true);
        json.push_str(", \"tags\": {");
        for (number, (key, value)) in line.tags.iter().enumerate() {
            json.push_str(if number > 0 { ", " } else { "" });
            push_text(json, key, true);
            json.push_str(": ");
            push_text(json, value, true);
        }
        json.push_str("}, \"datapoints\": ");
        push_list(json, points, |json, (value, time)| {
            json.push('[');
            push_value(json, value);
            let _ = write!(json, ", {time}]");
        });
        json.push('}');
    });
    let (kind, body) = match form.callback()? {
        Some(callback) => ("text/javascript", format!("{callback}({json})")),
        None => ("application/json", json),
    };
    Ok(Answer {
        kind,
        caching: Caching::Render,
        body,
    })
}

/// Values with their times, at most about `most` for the whole `range`. As in Graphite, those that become one begin at a multiple of their span, so that
/// they do not change from one question to the next.
fn consolidated(line: &Line, most: Option<i64>, range: i64) -> Vec<(f64, i64)> {
    let length = i64::try_from(line.values.len()).unwrap_or(i64::MAX);
    let (mut start, mut values) = (line.start, line.values.as_slice());
    let mut each = 1;
    match most {
        Some(1) => each = length.max(1),
        // Steps may not divide the range: that many and a part of one.
        Some(most) if i128::from(most) * i128::from(line.step) < i128::from(range) => {
            each = (range as f64 / line.step as f64 / most as f64).ceil() as i64;
            let span = each * line.step;
            let nudge = span + start.rem_euclid(line.step) - start.rem_euclid(span);
            start += nudge;
            let lost = usize::try_from(nudge / line.step - 1).unwrap_or_default();
            values = values.get(lost..).unwrap_or_default();
        }
        _ => {}
    }
    let times = (0..)
        .map(|number| start + number * each * line.step)
        .take_while(|time| *time <= line.end);
    let size = usize::try_from(each).unwrap_or(usize::MAX).max(1);
    let values = values.chunks(size).map(|values| match values {
        [value] => *value,
        values => line.consolidation.of(values),
    });
    values.zip(times).collect()
}
