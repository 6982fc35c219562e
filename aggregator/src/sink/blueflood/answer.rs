//! What Blueflood's answers mean.

use std::collections::HashMap;

use serde::Deserialize;
use serde_json::Value;

use crate::sink::http::{NoReply, Reply};

/// What became of the points of a request.
#[derive(Debug)]
pub(super) enum Answer {
    /// Blueflood has them.
    Stored,
    /// Some are refused: the `named` ones, if it says which. The others are stored if `rest_stored`, and otherwise nothing is.
    Refused { rest_stored: bool, named: Named },
    /// The body is longer than somebody on the way takes.
    TooLarge,
    /// It says nothing about the points: they may be taken later.
    Later,
}

/// Why a point is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cause {
    /// Its name breaks a rule.
    MetricName,
    /// Its time is too far away.
    CollectionTime,
    /// Its time to live is.
    Ttl,
    /// Its value is no number.
    MetricValue,
    /// Something else is wrong, that may pass: it could not be stored.
    Other,
    /// Blueflood refused it without naming it.
    Unnamed,
    /// A body with this point alone is too long.
    TooLarge,
}

/// The points that an answer names.
#[derive(Debug, Default)]
pub(super) struct Named {
    /// By name; a time of `None` is any.
    points: HashMap<String, Vec<(Option<i64>, Refusal)>>,
}

/// What an answer says about a point.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) cause: Cause,
    /// Blueflood's words.
    pub(super) message: String,
}

impl Cause {
    /// As in the label `cause`.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::MetricName => "metric_name",
            Self::CollectionTime => "collection_time",
            Self::Ttl => "ttl",
            Self::MetricValue => "metric_value",
            Self::Other => "other",
            Self::Unnamed => "unnamed",
            Self::TooLarge => "too_large",
        }
    }

    /// Whether sending the same point again can help.
    pub(super) fn may_pass(self) -> bool {
        self == Self::Other
    }

    fn of(source: &str) -> Self {
        match source {
            "metricName" => Self::MetricName,
            "collectionTime" => Self::CollectionTime,
            "ttlInSeconds" => Self::Ttl,
            "metricValue" => Self::MetricValue,
            _ => Self::Other,
        }
    }
}

/// Reads an answer; the text is the label `outcome`.
pub(super) fn read(reply: &Reply) -> (Answer, &'static str) {
    let refused = |rest_stored| Answer::Refused {
        rest_stored,
        named: Named::read(&reply.body),
    };
    match reply.status.as_u16() {
        200 | 201 | 204 => (Answer::Stored, "stored"),
        // Storing took longer than Blueflood waits; it goes on with it.
        202 => (Answer::Stored, "accepted"),
        207 => (refused(true), "partial"),
        400 | 422 => (refused(false), "refused"),
        413 => (Answer::TooLarge, "too_large"),
        401 | 403 => (Answer::Later, "unauthorized"),
        429 => (Answer::Later, "throttled"),
        500.. => (Answer::Later, "unavailable"),
        _ => (Answer::Later, "unexpected"),
    }
}

/// The label `outcome` where there is no answer.
pub(super) fn outcome(error: &NoReply) -> &'static str {
    match error {
        NoReply::Timeout(_) => "timeout",
        NoReply::Unreachable(_) => "unreachable",
        NoReply::Request(_) => "invalid",
    }
}

#[derive(Deserialize)]
struct ErrorBody {
    errors: Vec<ErrorEntry>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ErrorEntry {
    #[serde(default)]
    timestamp: Value,
    #[serde(default)]
    metric_name: Value,
    #[serde(default)]
    source: Value,
    #[serde(default)]
    message: Value,
}

impl Named {
    /// Nothing for a body that is no list of errors.
    pub(super) fn read(body: &[u8]) -> Self {
        let Ok(ErrorBody { errors }) = serde_json::from_slice(body) else {
            return Self::default();
        };
        let mut points = HashMap::<String, Vec<_>>::new();
        for error in errors {
            let time = milliseconds(&error.timestamp);
            let name = match error.metric_name {
                Value::String(name) => name,
                // A point without a name is known by its time.
                Value::Null if time.is_some() => String::new(),
                _ => continue,
            };
            let refusal = Refusal {
                cause: Cause::of(error.source.as_str().unwrap_or_default()),
                message: error.message.as_str().unwrap_or_default().to_owned(),
            };
            points.entry(name).or_default().push((time, refusal));
        }
        Self { points }
    }

    /// What is said about a point. A point may be named more than once, for each rule that it breaks: then one that cannot pass decides.
    pub(super) fn find(&self, name: &str, time: i64) -> Option<&Refusal> {
        let refusals = self.points.get(name)?.iter();
        let mut about = refusals
            .filter(|(at, _)| at.is_none_or(|at| at == time))
            .map(|(_, refusal)| refusal);
        let first = about.next()?;
        Some(
            std::iter::once(first)
                .chain(about)
                .find(|refusal| !refusal.cause.may_pass())
                .unwrap_or(first),
        )
    }
}

/// A time as a number, or a number in a text.
fn milliseconds(value: &Value) -> Option<i64> {
    match value {
        Value::Number(number) => number
            .as_i64()
            .or_else(|| number.as_f64().map(|float| float as i64)),
        Value::String(text) => text.parse().ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn named(errors: Value) -> Named {
        Named::read(json!({"errors": errors}).to_string().as_bytes())
    }

    #[test]
    fn a_point_is_known_by_name_and_time() {
        let named = named(json!([
            {"tenantId": "1", "timestamp": 5, "metricName": "a", "source": "collectionTime", "message": "Out of bounds."},
            {"tenantId": "1", "timestamp": "7", "metricName": "b", "source": "", "message": "not stored"},
            {"timestamp": null, "metricName": "c", "source": "metricName", "message": "odd"},
            {"timestamp": 9.0, "metricName": "", "source": "metricName", "message": "may not be empty"},
        ]));
        let cause = |name, time| named.find(name, time).map(|refusal| refusal.cause);
        assert_eq!(cause("a", 5), Some(Cause::CollectionTime));
        assert_eq!(cause("a", 6), None);
        assert_eq!(cause("b", 7), Some(Cause::Other));
        assert_eq!(cause("c", 1), Some(Cause::MetricName));
        assert_eq!(cause("", 9), Some(Cause::MetricName));
        assert_eq!(cause("", 8), None);
        assert_eq!(named.find("a", 5).unwrap().message, "Out of bounds.");
    }

    #[test]
    fn of_two_errors_about_a_point_the_one_that_stays_decides() {
        let error = |source| json!({"timestamp": 5, "metricName": "a", "source": source});
        let named = named(json!([error("store"), error("ttlInSeconds")]));
        assert_eq!(named.find("a", 5).unwrap().cause, Cause::Ttl);
    }

    #[test]
    fn what_is_no_list_of_errors_names_nothing() {
        for body in [
            "",
            "Cannot parse content",
            "[]",
            "{\"errors\": 5}",
            "{\"errors\": [5]}",
            "{\"errors\": [{}]}",
            "{\"errors\": [{\"metricName\": 5, \"timestamp\": 1}]}",
        ] {
            assert!(Named::read(body.as_bytes()).points.is_empty(), "{body}");
        }
    }
}
