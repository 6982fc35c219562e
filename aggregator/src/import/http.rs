//! `POST /import`: the legacy JSON of Veneur's agents and proxies up to version 14, answered in their words.

use std::sync::Arc;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use http::{HeaderMap, Method, StatusCode};
use tokio::task::coop::consume_budget;
use tokio::task::{JoinError, spawn_blocking};
use tributary_proto::json::{Refusal, parse_import};

use super::event::RequestRefused;
use super::intake::Intake;

/// What counters and logs call this way in.
const PROTOCOL: &str = "http";

#[derive(Debug, Clone)]
struct Import {
    intake: Arc<Intake>,
    limit: usize,
}

/// The route, for the admin server. `limit` bounds a body in bytes, as it comes and inflated.
pub fn router(intake: Arc<Intake>, limit: usize) -> Router {
    Router::new()
        .route("/import", any(import))
        .with_state(Import { intake, limit })
}

/// Answers 202 when every metric is merged, or skipped and counted.
async fn import(State(import): State<Import>, request: Request) -> Response {
    if request.method() != Method::POST {
        return (StatusCode::NOT_FOUND, "404 page not found\n").into_response();
    }
    let (head, body) = request.into_parts();
    match take(import, &head.headers, body).await {
        Ok(()) => StatusCode::ACCEPTED.into_response(),
        Err(refusal) => answer(&refusal),
    }
}

async fn take(import: Import, headers: &HeaderMap, body: Body) -> Result<(), Refusal> {
    let Import { intake, limit } = import;
    let encoding = headers
        .get(CONTENT_ENCODING)
        .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
    let body = to_bytes(body, limit).await.map_err(|error| Refusal {
        status: StatusCode::PAYLOAD_TOO_LARGE.as_u16(),
        body: format!("body of more than {limit} bytes, or cut off: {error}\n"),
        cause: "too_large",
    })?;
    // Inflating and parsing take their time at one go.
    let parsing = spawn_blocking(move || parse_import(encoding.as_deref(), &body, limit));
    let parsed = parsing.await.map_err(ended)??;
    let mut tally = intake.open(PROTOCOL).ok_or_else(|| Refusal {
        status: StatusCode::SERVICE_UNAVAILABLE.as_u16(),
        body: "leaving: bring it to another owner\n".to_owned(),
        cause: "leaving",
    })?;
    for skipped in parsed.skipped {
        tally.skip(skipped.cause, skipped.count);
    }
    // In a task of its own: a caller that gives up must not leave half of the list merged.
    let merging = tokio::spawn(async move {
        for metric in parsed.metrics {
            tally.merge(metric);
            consume_budget().await;
        }
    });
    merging.await.map_err(ended)
}

/// A task that did not reach its end.
fn ended(error: JoinError) -> Refusal {
    Refusal {
        status: StatusCode::INTERNAL_SERVER_ERROR.as_u16(),
        body: format!("import ended early: {error}\n"),
        cause: "internal",
    }
}

fn answer(refusal: &Refusal) -> Response {
    RequestRefused {
        protocol: PROTOCOL,
        cause: refusal.cause,
        detail: refusal.body.trim_end(),
    }
    .emit();
    let status = StatusCode::from_u16(refusal.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = [(CONTENT_TYPE, "text/plain; charset=utf-8")];
    (status, headers, refusal.body.clone()).into_response()
}
