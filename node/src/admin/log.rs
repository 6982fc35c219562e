//! What is logged, and changing it: `GET` and `PUT /api/log`.

use std::time::Duration;

use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde::Deserialize;

use crate::config;
use crate::telemetry::{Level, LogHandle};

/// The longest time that a change can be asked for; one without an end is asked for without `for`.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

#[derive(Debug, Deserialize)]
struct Asked {
    r#for: Option<String>,
}

/// The routes; without a handle they say that nothing can be changed.
pub(crate) fn routes(logs: Option<LogHandle>) -> Router {
    Router::new()
        .route("/api/log", get(status).put(change))
        .with_state(logs)
}

async fn status(State(logs): State<Option<LogHandle>>) -> Response {
    answer(logs.as_ref())
}

/// The body is a level, or `default` for what the settings say.
async fn change(
    State(logs): State<Option<LogHandle>>,
    Query(asked): Query<Asked>,
    body: String,
) -> Response {
    let bad = |error: String| (StatusCode::BAD_REQUEST, format!("{error}\n")).into_response();
    let lasts = match asked.r#for.as_deref().map(str::parse::<config::Duration>) {
        None => None,
        Some(Ok(lasts)) if !lasts.is_zero() && lasts.get() <= LONGEST => Some(lasts.get()),
        Some(Ok(_)) => return bad("for: must be more than 0s and at most 24h".to_owned()),
        Some(Err(error)) => return bad(format!("for: {error}")),
    };
    let Some(handle) = &logs else {
        return answer(None);
    };
    match body.trim() {
        "default" => handle.end_override(),
        level => match level.parse::<Level>() {
            Ok(level) => handle.override_with(level, lasts),
            Err(error) => return bad(error.to_string()),
        },
    }
    answer(logs.as_ref())
}

fn answer(logs: Option<&LogHandle>) -> Response {
    match logs {
        Some(logs) => Json(logs.status()).into_response(),
        None => (
            StatusCode::SERVICE_UNAVAILABLE,
            "what this process logs was decided before it began\n",
        )
            .into_response(),
    }
}
