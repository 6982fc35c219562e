//! The admin HTTP server: what orchestrators, operators and scrapers ask a running program.
//!
//! | path | answer |
//! |---|---|
//! | `/healthcheck` | 200 `ok`: the process is alive |
//! | `/ready` | 200 `ok`, or 503 with the reason: it does not want work |
//! | `/version` | name and version |
//! | `/config`, `/config/json`, `/config/yaml` | the settings in force, secrets hidden |
//! | `/metrics` | self-metrics as Prometheus text |
//! | `/api/log` | what is logged; `PUT` a level to change it, `?for=10m` for a time |
//! | `/api/memory` | what the process holds |
//! | `/api/tap` | live metrics, see [`crate::tap`] |
//! | `/debug/pprof/profile`, `/debug/pprof/flamegraph` | CPU profiles; 404 unless enabled |
//!
//! A program adds its own routes, such as `POST /import`, `/api/…` and its [`page`] at `/`. HTTP/1.1 and HTTP/2 are spoken on the same port, by TLS if that is
//! set up.
//!
//! What always holds: connections, header bytes, body bytes and the time that any of them may take are bounded, so
//! that slow or hostile clients cannot pile up; a body reaches a handler complete or not at all.

mod body;
mod listen;
pub(crate) mod log;
mod memory;
pub mod page;
mod patience;
mod profile;
mod readiness;
mod routes;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use axum::Router;
use axum::extract::DefaultBodyLimit;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::config::Size;
use crate::telemetry::Recorder;
use crate::tls::{Acceptor, Stream};

pub use listen::{ListenError, bind, bind_shared, check_address};
pub use readiness::{Condition, Readiness, State};

use body::BodyLimits;
pub use patience::Patient;

/// What the admin server shows and how much it takes.
#[derive(Debug)]
pub struct Admin {
    /// The program's name, `tributary-proxy`.
    pub name: &'static str,
    /// The program's version.
    pub version: &'static str,
    /// The settings in force as [`crate::config::redacted`] gives them.
    pub config: Arc<ArcSwap<Value>>,
    /// What `/ready` answers.
    pub readiness: Readiness,
    /// What `/metrics` shows.
    pub recorder: Recorder,
    /// Whether CPU profiles can be taken.
    pub profiling: bool,
    /// The bounds.
    pub limits: Limits,
    /// With it, TLS is spoken.
    pub tls: Option<Acceptor>,
}

/// What one client, and all of them, may take.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// The longest request body as it is sent; a longer one is refused with 413.
    pub body: Size,
    /// How long a request's body may take to come; a slower one is refused with 408.
    pub body_time: Duration,
    /// How long the header of a request may take to come; a slower connection is closed.
    pub header_time: Duration,
    /// How long a connection may be silent.
    pub idle: Duration,
    /// How many connections there may be; more wait to be accepted.
    pub connections: usize,
    /// How long requests under way have once the server stops.
    pub grace: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body: Size::mib(32),
            body_time: Duration::from_secs(30),
            header_time: Duration::from_secs(10),
            // Longer than a profile takes, whose answer comes only at its end.
            idle: Duration::from_secs(90),
            connections: 1024,
            grace: Duration::from_secs(5),
        }
    }
}

// One request's header; real ones are below 1 KiB.
const HEADER_BYTES: usize = 32 * 1024;
// A peer that sends many small frames at once must not run into h2's budget, which is half of this window.
const CONNECTION_WINDOW: u32 = 4 * 1024 * 1024;

// === impl Admin ===

impl Admin {
    /// Serves on `listener` until `stop`, with the routes of `extra` beside its own. `extra` must not repeat a path of
    /// the table above.
    pub async fn serve(self, listener: TcpListener, extra: Router, stop: CancellationToken) {
        let (limits, tls) = (self.limits, self.tls.clone());
        let router = routes::router(self)
            .merge(extra)
            // The middleware's limit is the one that counts; axum's own is 2 MB.
            .layer(DefaultBodyLimit::disable())
            .layer(axum::middleware::from_fn_with_state(
                BodyLimits::of(&limits),
                body::complete,
            ));
        let graceful = GracefulShutdown::new();
        let places = Arc::new(Semaphore::new(limits.connections));
        loop {
            let accepted = tokio::select! {
                biased;
                () = stop.cancelled() => break,
                accepted = accept(&listener, &places) => accepted,
            };
            let Some((stream, place)) = accepted else {
                break;
            };
            let service = TowerToHyperService::new(router.clone());
            let (tls, stop, watcher) = (tls.clone(), stop.clone(), graceful.watcher());
            tokio::spawn(async move {
                let Some(stream) = secured(stream, tls, &stop).await else {
                    return;
                };
                let stream = TokioIo::new(Patient::new(stream, limits.idle));
                let connection = connection_builder(&limits)
                    .serve_connection(stream, service)
                    .into_owned();
                if let Err(error) = watcher.watch(connection).await {
                    tracing::debug!(%error, "admin connection ended");
                }
                drop(place);
            });
        }
        drop(listener);
        if tokio::time::timeout(limits.grace, graceful.shutdown())
            .await
            .is_err()
        {
            tracing::warn!("admin requests under way were cut off");
        }
    }
}

fn connection_builder(limits: &Limits) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_time)
        .max_buf_size(HEADER_BYTES);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_header_list_size(HEADER_BYTES as u32)
        .max_concurrent_streams(64)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .keep_alive_interval(limits.idle / 3)
        .keep_alive_timeout(limits.header_time);
    builder
}

/// The connection after its handshake, if that succeeds before the server stops. A failure is told by the acceptor.
async fn secured(
    stream: TcpStream,
    tls: Option<Acceptor>,
    stop: &CancellationToken,
) -> Option<Stream> {
    match tls {
        None => Some(Stream::plain(stream)),
        Some(tls) => stop.run_until_cancelled(tls.accept(stream)).await?.ok(),
    }
}

/// The next connection, once there is a place for it; `None` when there can be none any more.
async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> Option<(TcpStream, tokio::sync::OwnedSemaphorePermit)> {
    let place = Arc::clone(places).acquire_owned().await.ok()?;
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                // Answers are small and awaited; a failure costs some delay only.
                let _ = stream.set_nodelay(true);
                return Some((stream, place));
            }
            Err(error) => {
                // Mostly "too many open files": waiting is all that helps, and spinning would make it worse.
                tracing::warn!(%error, "admin server cannot accept");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}
