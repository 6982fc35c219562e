//! The listener: connections bounded in number and in time.

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tributary_node::admin::Patient;
use tributary_node::tls::{Acceptor, Stream};

use super::door::Door;
use crate::metrics;

/// How long the header of a request may take, the time before its first byte included: a connection is kept that long between requests.
const HEADER_TIME: Duration = Duration::from_secs(75);
/// How long a connection may be silent, whatever it is about; longer than any of its parts may take.
const SILENCE: Duration = Duration::from_secs(90);
/// One request's header.
const HEADER_BYTES: usize = 32 * 1024;
/// How long requests under way may take once we stop.
const GRACE: Duration = Duration::from_millis(1500);
/// After a connection could not be accepted, most likely for lack of file descriptors.
const BREATH: Duration = Duration::from_millis(100);

/// An open address.
pub(super) struct Server {
    pub(super) listener: TcpListener,
    pub(super) tls: Option<Acceptor>,
    pub(super) connections: usize,
}

impl Server {
    /// Serves until `stop`, and then what is under way, but not for long.
    pub(super) async fn run(self, door: &Arc<Door>, stop: &CancellationToken) {
        let graceful = GracefulShutdown::new();
        let places = Arc::new(Semaphore::new(self.connections));
        loop {
            let accepted = tokio::select! {
                biased;
                () = stop.cancelled() => break,
                accepted = self.accept(&places) => accepted,
            };
            let Some((stream, peer, place)) = accepted else {
                break;
            };
            let (door, tls, stop) = (Arc::clone(door), self.tls.clone(), stop.clone());
            let watcher = graceful.watcher();
            tokio::spawn(async move {
                let _place = place;
                let stream = match tls {
                    None => Stream::plain(stream),
                    Some(tls) => match stop.run_until_cancelled(tls.accept(stream)).await {
                        Some(Ok(stream)) => stream,
                        _ => return,
                    },
                };
                let service = service_fn(move |request: Request<Incoming>| {
                    let door = Arc::clone(&door);
                    async move { Ok::<_, Infallible>(door.answer(peer, request).await) }
                });
                let stream = TokioIo::new(Patient::new(stream, SILENCE));
                let connection = http1::Builder::new()
                    .timer(TokioTimer::new())
                    .header_read_timeout(HEADER_TIME)
                    .max_buf_size(HEADER_BYTES)
                    .serve_connection(stream, service);
                if let Err(error) = watcher.watch(connection).await {
                    tracing::debug!(%peer, %error, "a Flux connection ended");
                }
            });
        }
        drop(self.listener);
        if tokio::time::timeout(GRACE, graceful.shutdown())
            .await
            .is_err()
        {
            tracing::warn!("Flux requests under way were cut off");
        }
    }

    /// The next connection, once there is a place for it; `None` when there can be none any more.
    async fn accept(
        &self,
        places: &Arc<Semaphore>,
    ) -> Option<(TcpStream, IpAddr, OwnedSemaphorePermit)> {
        let place = Arc::clone(places).acquire_owned().await.ok()?;
        loop {
            match self.listener.accept().await {
                Ok((stream, peer)) => {
                    // Answers are small and awaited; a failure costs some delay only.
                    let _ = stream.set_nodelay(true);
                    return Some((stream, peer.ip(), place));
                }
                Err(error) => {
                    metrics::CONNECTIONS_REFUSED
                        .with(["flux".into(), "accept_failed".into()])
                        .increment(1);
                    tracing::warn!(%error, "cannot accept Flux connections");
                    tokio::time::sleep(BREATH).await;
                }
            }
        }
    }
}
