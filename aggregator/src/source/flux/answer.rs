//! Answers, in the words of Flux.

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Response, StatusCode};
use http_body_util::Full;
use serde_json::{Value, json};

/// How much of a peer's own text a message quotes, in characters.
const QUOTED: usize = 1000;

/// What a peer is told.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    /// JSON; a string is sent as plain text, and `None` is an empty body.
    pub(super) body: Option<Value>,
    /// Why nothing was taken, in the words of a counter's tag; empty where the request was all right.
    pub(super) cause: &'static str,
}

impl Answer {
    /// All was taken: 204.
    pub(super) fn taken() -> Self {
        Self {
            status: StatusCode::NO_CONTENT,
            body: None,
            cause: "",
        }
    }

    /// 200 with a body.
    pub(super) fn ok(body: Value) -> Self {
        Self {
            status: StatusCode::OK,
            body: Some(body),
            cause: "",
        }
    }

    /// Some was taken: 207 with a body that names what was not.
    pub(super) fn partly(body: Value) -> Self {
        Self {
            status: StatusCode::MULTI_STATUS,
            body: Some(body),
            cause: "",
        }
    }

    /// Nothing was taken.
    pub(super) fn refused(status: StatusCode, cause: &'static str, message: &str) -> Self {
        Self {
            status,
            body: Some(json!({"code": status.as_u16(), "message": message})),
            cause,
        }
    }

    /// 400.
    pub(super) fn bad(cause: &'static str, message: &str) -> Self {
        Self::refused(StatusCode::BAD_REQUEST, cause, message)
    }

    /// 401.
    pub(super) fn invalid_key() -> Self {
        Self::refused(StatusCode::UNAUTHORIZED, "invalid_key", "invalid key")
    }

    /// 500.
    pub(super) fn internal() -> Self {
        Self::refused(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal",
            "internal error",
        )
    }

    pub(super) fn into_response(self) -> Response<Full<Bytes>> {
        let (kind, body) = match self.body {
            None => (None, Bytes::new()),
            Some(Value::String(text)) => (Some("text/plain; charset=utf-8"), text.into()),
            Some(body) => (Some("application/json"), body.to_string().into()),
        };
        let mut response = Response::new(Full::new(body));
        *response.status_mut() = self.status;
        if let Some(kind) = kind {
            let kind = HeaderValue::from_static(kind);
            response.headers_mut().insert(CONTENT_TYPE, kind);
        }
        response
    }
}

/// A peer's own text as a message quotes it: not all of it where it is long.
pub(super) fn quoted(item: &dyn std::fmt::Display) -> String {
    let text = item.to_string();
    match text.char_indices().nth(QUOTED) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_text_is_not_sent_back_whole() {
        assert_eq!(quoted(&"é".repeat(QUOTED)), "é".repeat(QUOTED));
        let long = quoted(&"é".repeat(QUOTED + 1));
        assert_eq!(long, format!("{}…", "é".repeat(QUOTED)));
    }
}
