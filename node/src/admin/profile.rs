//! CPU profiles of the running process, for those who enabled them.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use pprof::protos::Message;
use serde::Deserialize;
use tokio::sync::Mutex;

// The answer comes only after the profile; clients and load balancers give up on longer silence.
const LONGEST: u64 = 60;
const USUAL: u64 = 10;
// Not a divisor of any usual timer, so that periodic work is not missed or hit each time.
const TIMES_A_SECOND: i32 = 99;

/// Sampling is a process-wide signal: one profile at a time.
pub(super) type OneAtATime = Arc<Mutex<()>>;

#[derive(Debug, Deserialize)]
pub(super) struct Wanted {
    seconds: Option<u64>,
    format: Option<Format>,
}

/// How a profile is written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Format {
    /// The protocol buffers that `go tool pprof` and others read.
    Pprof,
    /// A picture for the browser.
    Flamegraph,
}

/// `/debug/pprof/profile?seconds=N`: for `go tool pprof`, or as a picture with `&format=flamegraph` or for clients that accept nothing but SVG.
pub(super) async fn profile(
    State(turn): State<OneAtATime>,
    Query(wanted): Query<Wanted>,
    headers: HeaderMap,
) -> Response {
    let wants_picture = || {
        headers
            .get(header::ACCEPT)
            .is_some_and(|accept| accept == "image/svg+xml")
    };
    let format = wanted.format.unwrap_or_else(|| match wants_picture() {
        true => Format::Flamegraph,
        false => Format::Pprof,
    });
    answer(turn, wanted.seconds, format).await
}

/// `/debug/pprof/flamegraph?seconds=N`: a picture for the browser.
pub(super) async fn flamegraph(
    State(turn): State<OneAtATime>,
    Query(wanted): Query<Wanted>,
) -> Response {
    let format = wanted.format.unwrap_or(Format::Flamegraph);
    answer(turn, wanted.seconds, format).await
}

async fn answer(turn: OneAtATime, seconds: Option<u64>, format: Format) -> Response {
    let render = move |report: pprof::Report| match format {
        Format::Pprof => report.pprof().map(|profile| profile.encode_to_vec()),
        Format::Flamegraph => {
            let mut picture = Vec::new();
            report.flamegraph(&mut picture).map(|()| picture)
        }
    };
    let kind = match format {
        Format::Pprof => "application/octet-stream",
        Format::Flamegraph => "image/svg+xml",
    };
    match sample(turn, seconds, render).await {
        Ok(bytes) => ([(header::CONTENT_TYPE, kind)], bytes).into_response(),
        Err(refusal) => refusal.into_response(),
    }
}

async fn sample(
    turn: OneAtATime,
    seconds: Option<u64>,
    render: impl FnOnce(pprof::Report) -> pprof::Result<Vec<u8>> + Send + 'static,
) -> Result<Vec<u8>, (StatusCode, String)> {
    let seconds = seconds.unwrap_or(USUAL);
    if !(1..=LONGEST).contains(&seconds) {
        return Err((
            StatusCode::BAD_REQUEST,
            format!("seconds must be 1 to {LONGEST}, got {seconds}\n"),
        ));
    }
    let Ok(turn) = turn.try_lock_owned() else {
        return Err((
            StatusCode::CONFLICT,
            "another profile is being taken\n".to_owned(),
        ));
    };
    let failed = |error: pprof::Error| {
        (
            StatusCode::INTERNAL_SERVER_ERROR,
            format!("no profile: {error}\n"),
        )
    };
    let profiler = pprof::ProfilerGuardBuilder::default()
        .frequency(TIMES_A_SECOND)
        // Unwinding out of these can deadlock or fault.
        .blocklist(&["libc", "libgcc", "pthread", "vdso"])
        .build()
        .map_err(failed)?;
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    // Symbols are looked up in the binary: too slow for a thread that serves others.
    let rendered = tokio::task::spawn_blocking(move || {
        let report = profiler.report().build().and_then(render);
        drop(profiler);
        drop(turn);
        report
    });
    match rendered.await {
        Ok(report) => report.map_err(failed),
        Err(error) => Err((
            StatusCode::INTERNAL_SERVER_ERROR,
            format!("no profile: {error}\n"),
        )),
    }
}
