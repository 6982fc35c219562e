//! `POST /import`: the legacy JSON of Veneur's agents up to version 14.
//!
//! Statuses and texts are Veneur's. Each metric is encoded as protobuf and goes the way of all others from there; its key is that of the same
//! metric sent by gRPC. What Veneur answers with 202 before it looked, this answers with 202 when the metrics are queued.

use std::fmt::Display;
use std::sync::Arc;
use std::time::Instant;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use bytes::Bytes;
use prost::Message;
use tokio_util::sync::CancellationToken;
use tributary_proto::json::{self, Import, Refusal};

use crate::event::{MetricsSkipped, Protocol, RequestRefused, RequestServed};
use crate::ledger::{self, Ledger};
use crate::route::Router;

const PROTOCOL: Protocol = Protocol::Http;

/// What the handler works with.
#[derive(Debug, Clone)]
struct Intake {
    router: Arc<Router>,
    /// The longest body as JSON.
    cap: usize,
    stop: CancellationToken,
}

/// The route, to be served beside the admin pages. A body may hold `cap` bytes of JSON. After `stop` everything is refused.
pub fn routes(router: Arc<Router>, cap: usize, stop: CancellationToken) -> axum::Router {
    let intake = Intake { router, cap, stop };
    axum::Router::new()
        .route("/import", post(import).fallback(other_methods))
        .with_state(intake)
}

async fn import(State(intake): State<Intake>, headers: HeaderMap, body: Bytes) -> Response {
    let start = Instant::now();
    if intake.stop.is_cancelled() {
        return refuse(&unavailable("leaving", "the proxy is leaving"));
    }
    let encoding = headers
        .get(header::CONTENT_ENCODING)
        .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
    let router = intake.router.clone();
    let taking = router.clone();
    // A flush of digests takes long enough to read that the connections on this thread would notice.
    let parsed = tokio::task::spawn_blocking(move || {
        json::parse_import(encoding.as_deref(), &body, intake.cap)
            .map(|import| encode(import, taking.ledger()))
    });
    let metrics = match parsed.await {
        Ok(Ok(metrics)) => metrics,
        Ok(Err(refusal)) => return refuse(&refusal),
        Err(error) => {
            return (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response();
        }
    };
    if let Err(error) = router.route(PROTOCOL, metrics.iter().map(Vec::as_slice)) {
        return refuse(&unavailable("no_destination", error));
    }
    RequestServed {
        protocol: PROTOCOL,
        took: start.elapsed(),
    }
    .emit();
    StatusCode::ACCEPTED.into_response()
}

async fn other_methods() -> (StatusCode, &'static str) {
    (StatusCode::NOT_FOUND, "404 page not found\n")
}

/// The metrics as they are routed; what was skipped is counted.
fn encode(import: Import, ledger: &Ledger) -> Vec<Vec<u8>> {
    for skipped in &import.skipped {
        ledger.intake(|intake| {
            intake.received += skipped.count;
            ledger::add(&mut intake.skipped, skipped.cause, skipped.count);
        });
        MetricsSkipped {
            protocol: PROTOCOL,
            cause: skipped.cause,
            metrics: skipped.count,
            detail: &skipped.first.to_string(),
        }
        .emit();
    }
    import.metrics.iter().map(Message::encode_to_vec).collect()
}

fn unavailable(cause: &'static str, why: impl Display) -> Refusal {
    Refusal {
        status: StatusCode::SERVICE_UNAVAILABLE.as_u16(),
        body: format!("{why}\n"),
        cause,
    }
}

fn refuse(refusal: &Refusal) -> Response {
    RequestRefused {
        protocol: PROTOCOL,
        cause: refusal.cause,
        detail: refusal.body.trim_end(),
    }
    .emit();
    let status = StatusCode::from_u16(refusal.status).unwrap_or(StatusCode::BAD_REQUEST);
    (status, refusal.body.clone()).into_response()
}
