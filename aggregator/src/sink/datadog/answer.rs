//! What Datadog's answers mean.

use std::time::Duration;

use serde::Deserialize;

use crate::reply::LONGEST_RETRY_AFTER;
use crate::sink::http::{NoReply, Reply};

/// What became of a body.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// Datadog has it; it may complain all the same.
    Taken(Vec<String>),
    /// Something in it is wrong.
    Refused,
    /// It is longer than somebody on the way takes.
    TooLarge,
    /// The key is not known: only a human can help.
    BadKey,
    /// It says nothing about the body, which may be taken later.
    Later,
}

#[derive(Deserialize)]
struct Errors {
    #[serde(default)]
    errors: Vec<serde_json::Value>,
}

/// Reads an answer; the text is the label `outcome`.
pub(super) fn read(reply: &Reply) -> (Answer, &'static str) {
    match reply.status.as_u16() {
        200..=299 => match complaints(&reply.body) {
            none if none.is_empty() => (Answer::Taken(none), "taken"),
            some => (Answer::Taken(some), "partial"),
        },
        400 | 422 => (Answer::Refused, "refused"),
        401 | 403 => (Answer::BadKey, "unauthorized"),
        413 => (Answer::TooLarge, "too_large"),
        429 => (Answer::Later, "throttled"),
        408 | 500.. => (Answer::Later, "unavailable"),
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

/// What Datadog wants us to wait.
pub(super) fn asked(reply: &Reply) -> Option<Duration> {
    reply.retry_after().or_else(|| {
        let reset = reply.headers.get("x-ratelimit-reset")?.to_str().ok()?;
        let seconds = Duration::from_secs(reset.trim().parse().ok()?);
        Some(seconds.min(LONGEST_RETRY_AFTER))
    })
}

fn complaints(body: &[u8]) -> Vec<String> {
    let errors = serde_json::from_slice::<Errors>(body).map(|body| body.errors);
    let text = |error: serde_json::Value| match error {
        serde_json::Value::String(text) => text,
        other => other.to_string(),
    };
    errors.unwrap_or_default().into_iter().map(text).collect()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::{HeaderMap, StatusCode};

    use super::*;

    fn reply(status: u16, body: &'static str) -> Reply {
        Reply {
            status: StatusCode::from_u16(status).unwrap(),
            headers: HeaderMap::new(),
            body: Bytes::from(body),
        }
    }

    #[test]
    fn each_status_says_whether_the_body_is_gone_wrong_or_to_come_again() {
        for (status, expected) in [
            (202, "taken"),
            (200, "taken"),
            (400, "refused"),
            (403, "unauthorized"),
            (408, "unavailable"),
            (413, "too_large"),
            (429, "throttled"),
            (503, "unavailable"),
            (301, "unexpected"),
            (404, "unexpected"),
        ] {
            assert_eq!(
                read(&reply(status, "{\"errors\": []}")).1,
                expected,
                "{status}"
            );
        }
    }

    #[test]
    fn a_taken_body_may_have_errors_of_any_shape() {
        let errors = "{\"errors\": [\"old\", {\"index\": 3}]}";
        let expected = vec!["old".to_owned(), "{\"index\":3}".to_owned()];
        assert_eq!(read(&reply(202, errors)).0, Answer::Taken(expected));
        for body in ["", "{}", "{\"status\": \"ok\"}", "[]", "{\"errors\": null}"] {
            assert_eq!(read(&reply(202, body)).1, "taken", "{body}");
        }
    }

    #[test]
    fn a_rate_limit_says_when_it_is_over() {
        let mut reply = reply(429, "");
        assert_eq!(asked(&reply), None);
        reply
            .headers
            .insert("x-ratelimit-reset", "7".parse().unwrap());
        assert_eq!(asked(&reply), Some(Duration::from_secs(7)));
        reply.headers.insert("retry-after", "3".parse().unwrap());
        assert_eq!(asked(&reply), Some(Duration::from_secs(3)));
    }
}
