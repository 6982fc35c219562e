//! Request bodies: complete, in time and not too long, or refused.

use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http_body_util::LengthLimitError;
use hyper::body::Body as _;

use super::Limits;

#[derive(Debug, Clone, Copy)]
pub(super) struct BodyLimits {
    bytes: usize,
    time: Duration,
}

// === impl BodyLimits ===

impl BodyLimits {
    pub(super) fn of(limits: &Limits) -> Self {
        Self {
            bytes: limits.body.as_usize(),
            time: limits.body_time,
        }
    }
}

/// Reads the whole body before anybody handles the request.
pub(super) async fn complete(
    State(limits): State<BodyLimits>,
    request: Request,
    next: Next,
) -> Response {
    let (head, body) = request.into_parts();
    if body.is_end_stream() {
        return next.run(Request::from_parts(head, Body::empty())).await;
    }
    let too_long = || {
        (
            StatusCode::PAYLOAD_TOO_LARGE,
            format!("the body is longer than {} bytes\n", limits.bytes),
        )
    };
    // Said up front: refused before it is sent.
    if body.size_hint().lower() > limits.bytes as u64 {
        return too_long().into_response();
    }
    match tokio::time::timeout(limits.time, to_bytes(body, limits.bytes)).await {
        Ok(Ok(bytes)) => next.run(Request::from_parts(head, Body::from(bytes))).await,
        Ok(Err(error)) if caused_by_length(&error) => too_long().into_response(),
        Ok(Err(error)) => (
            StatusCode::BAD_REQUEST,
            format!("the body did not come whole: {error}\n"),
        )
            .into_response(),
        Err(_) => (StatusCode::REQUEST_TIMEOUT, "the body took too long\n").into_response(),
    }
}

fn caused_by_length(error: &axum::Error) -> bool {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if error.is::<LengthLimitError>() {
            return true;
        }
        cause = error.source();
    }
    false
}
