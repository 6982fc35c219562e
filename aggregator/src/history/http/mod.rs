//! Graphite's query API over HTTP, as Cubism and Grafana's Graphite data source use it.
//!
//! | path | answer |
//! |---|---|
//! | `/metrics/find`, `/metrics/expand` | which series there are |
//! | `/render` | values |
//! | `/functions`, `/tags…`, `/events/get_data` | what Grafana asks beside them |
//! | `/api/history` | what is kept |
//! | `/cubism` | the page |
//!
//! The first three are below `/graphite`, too, where `/graphite/version` tells which Graphite is spoken: the one at `/version` is the program's.

mod find;
mod form;
mod json;
mod page;
mod render;
#[cfg(test)]
mod tests;

use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get};
use serde_json::json;

use super::query::{QueryError, describe};
use super::{History, Shared};
use crate::metrics;
use form::Form;

/// The version of Graphite whose answers these are.
const SPOKEN: &str = "1.1.10";

/// A question that comes while others are worked on waits so long for its turn.
const PATIENCE: Duration = Duration::from_secs(5);

/// What a question is answered with.
struct Answer {
    kind: &'static str,
    caching: Caching,
    body: String,
}

/// What Graphite says about how long an answer is good.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Caching {
    Find,
    Render,
}

/// Works out an answer, on a thread where that may take time.
type Work = fn(&Shared, &Form) -> Result<Answer, QueryError>;

pub(super) fn router(history: History) -> Router {
    let asked = |work: Work| {
        let ask = async move |State(history): State<History>,
                              RawQuery(query),
                              headers: HeaderMap,
                              body: Bytes| {
            answer(history, work, query, &headers, body).await
        };
        get(ask).post(ask)
    };
    // What knows no tags and no events says so.
    let nothing = || any(async || axum::Json(json!([])));
    let api = Router::new()
        .route("/metrics/find", asked(find::find))
        .route("/metrics/find/", asked(find::find))
        .route("/metrics/expand", asked(find::expand))
        .route("/metrics/expand/", asked(find::expand))
        .route("/render", asked(render::render))
        .route("/render/", asked(render::render))
        .route("/functions", get(functions))
        .route("/functions/", get(functions))
        .route("/tags", nothing())
        .route("/tags/autoComplete/tags", nothing())
        .route("/tags/autoComplete/values", nothing())
        .route("/tags/findSeries", nothing())
        .route("/tags/{tag}", any(async || axum::Json(json!(null))))
        .route("/events/get_data", nothing());
    let version = || get(async || SPOKEN);
    let below = api
        .clone()
        .route("/version", version())
        .route("/version/", version());
    Router::new()
        .nest("/graphite", below)
        .route("/api/history", get(about))
        .merge(api)
        .with_state(history)
        .merge(page::routes())
}

/// Where the history would be.
pub(super) fn off() -> Router {
    let missing = || {
        any(async || {
            (
                StatusCode::NOT_FOUND,
                "no history is kept: set `history` in the configuration\n",
            )
        })
    };
    Router::new()
        .route("/metrics/find", missing())
        .route("/render", missing())
        .route("/graphite/{*path}", missing())
        .route("/api/history", missing())
        .route("/cubism", missing())
}

async fn functions() -> impl IntoResponse {
    axum::Json(describe())
}

/// `/api/history`.
async fn about(State(history): State<History>) -> impl IntoResponse {
    let store = &history.0.store;
    let layout = store.layout();
    axum::Json(json!({
        "retention": layout.retention,
        "step": layout.usual_step,
        "series": store.series(),
        "bytes": store.bytes(),
        "max_bytes": store.max_bytes(),
    }))
}

async fn answer(
    history: History,
    work: Work,
    query: Option<String>,
    headers: &HeaderMap,
    body: Bytes,
) -> Response {
    let accept = headers
        .get(header::ACCEPT)
        .map(|accept| accept.to_str().unwrap_or_default());
    let form = Form::read(query.as_deref().unwrap_or_default(), &body, accept);
    let shared = history.clone();
    let answer = match form {
        Ok(form) => in_turn(history, work, form).await,
        Err(error) => Err(error),
    };
    let outcome = match &answer {
        Ok(_) => "answered",
        Err(QueryError::Bad(_)) => "refused",
        Err(QueryError::TooLarge(_)) => "too_large",
        Err(QueryError::TooLong) => "too_long",
        Err(QueryError::Busy) => "busy",
    };
    metrics::HISTORY_QUERIES.with([outcome.into()]).increment(1);
    let mut response = match answer {
        Ok(answer) => answer.into_response(),
        Err(error) => refusal(&error),
    };
    let headers = response.headers_mut();
    // What a peer wrote is in the answer: it must not be taken for a page or a script.
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    headers.insert(
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'"),
    );
    let origin = HeaderValue::from_str(&shared.0.allow_origin).ok();
    if let Some(origin) = origin.filter(|origin| !origin.is_empty()) {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(header::VARY, HeaderValue::from_static("Origin"));
    }
    response
}

/// Works on a question once there is room for it. It is worked on to its end, which the budget brings soon, even if nobody waits any more.
async fn in_turn(history: History, work: Work, form: Form) -> Result<Answer, QueryError> {
    let places = history.0.places.clone();
    let place = tokio::time::timeout(PATIENCE, places.acquire_owned()).await;
    let Ok(Ok(place)) = place else {
        return Err(QueryError::Busy);
    };
    let worked = tokio::task::spawn_blocking(move || {
        let _place = place;
        work(&history.0, &form)
    });
    worked.await.unwrap_or_else(|error| {
        tracing::error!(%error, "a question to the history ended early");
        Err(QueryError::Busy)
    })
}

fn refusal(error: &QueryError) -> Response {
    let status = match error {
        QueryError::Bad(_) | QueryError::TooLarge(_) => StatusCode::BAD_REQUEST,
        QueryError::TooLong | QueryError::Busy => StatusCode::SERVICE_UNAVAILABLE,
    };
    let text = error
        .to_string()
        .replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;");
    let text = match status {
        StatusCode::BAD_REQUEST => format!("Invalid parameters ({text})"),
        _ => text,
    };
    (
        status,
        [(header::CONTENT_TYPE, "text/html; charset=utf-8")],
        text,
    )
        .into_response()
}

impl IntoResponse for Answer {
    fn into_response(self) -> Response {
        let mut response = ([(header::CONTENT_TYPE, self.kind)], self.body).into_response();
        let headers = response.headers_mut();
        match self.caching {
            Caching::Find => {
                headers.insert(header::PRAGMA, HeaderValue::from_static("no-cache"));
                headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
            }
            Caching::Render => {
                let never = "max-age=0, no-cache, no-store, must-revalidate, private";
                headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(never));
            }
        }
        response
    }
}
