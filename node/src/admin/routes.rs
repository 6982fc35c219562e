//! The admin server's own routes.

use std::sync::Arc;

use arc_swap::ArcSwap;
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use serde_json::Value;
use tokio::sync::Mutex;

use super::{Admin, Readiness, memory, profile};
use crate::telemetry::Recorder;

pub(super) fn router(admin: Admin) -> Router {
    let version = format!("{} {}\n", admin.name, admin.version);
    let pages = Router::new()
        .route("/healthcheck", get(async || "ok\n"))
        .route("/ready", get(ready).with_state(admin.readiness))
        .route("/version", get(async move || version))
        .route("/config", get(config_json))
        .route("/config/json", get(config_json))
        .route("/config/yaml", get(config_yaml))
        .route("/api/memory", get(memory::memory))
        .with_state(admin.config)
        .route("/metrics", get(metrics).with_state(admin.recorder));
    if !admin.profiling {
        return pages;
    }
    let turn: profile::OneAtATime = Arc::new(Mutex::new(()));
    let profiles = Router::new()
        .route("/debug/pprof/profile", get(profile::profile))
        .route("/debug/pprof/flamegraph", get(profile::flamegraph))
        .with_state(turn);
    pages.merge(profiles)
}

async fn ready(State(readiness): State<Readiness>) -> impl IntoResponse {
    match readiness.check() {
        Ok(()) => (StatusCode::OK, "ok\n".to_owned()),
        Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")),
    }
}

async fn config_json(State(config): State<Arc<ArcSwap<Value>>>) -> impl IntoResponse {
    (
        [(header::CONTENT_TYPE, "application/json")],
        format!("{:#}\n", config.load()),
    )
}

async fn config_yaml(State(config): State<Arc<ArcSwap<Value>>>) -> impl IntoResponse {
    match serde_saphyr::to_string(&**config.load()) {
        Ok(text) => ([(header::CONTENT_TYPE, "application/yaml")], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

async fn metrics(State(recorder): State<Recorder>) -> impl IntoResponse {
    (
        [(
            header::CONTENT_TYPE,
            "text/plain; version=0.0.4; charset=utf-8",
        )],
        recorder.render(),
    )
}
