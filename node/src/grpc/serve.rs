//! Connections, each with an end.
//!
//! A connection that reaches its age is told so (GOAWAY): its calls go on, and its client connects anew, through a load balancer to whoever is
//! there by then. tonic knows an age too, but one for all connections, so that clients that connected together come back together; and with a
//! bound on the calls under way it cuts them off without a word. So each connection gets a server of its own here, which is told when to end.

use std::future::pending;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::{Stream, StreamExt, stream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::sleep;
use tokio_util::sync::{CancellationToken, DropGuard, WaitForCancellationFutureOwned};
use tokio_util::task::TaskTracker;
use tonic::service::Routes;
use tonic::transport::server::Connected;

use super::{GrpcSettings, server};
use crate::metrics;

/// How much of its age a connection may live longer or shorter.
const JITTER: f64 = 0.2;

/// After an error of accepting, such as too many open files, the next one may wait.
const ACCEPT_PAUSE: Duration = Duration::from_millis(500);

/// Serves these connections until `until`; then no more are taken, all are told to end, and it returns when they have. Dropped before that, it
/// leaves them to end by themselves.
pub async fn serve<IO>(
    settings: &GrpcSettings,
    routes: Routes,
    incoming: impl Stream<Item = io::Result<IO>>,
    until: CancellationToken,
) where
    IO: AsyncRead + AsyncWrite + Connected + Unpin + Send + 'static,
{
    let connections = TaskTracker::new();
    {
        // Gone with this block: whoever connects later is refused instead of waiting for nobody.
        let mut incoming = pin!(incoming);
        loop {
            let accepted = tokio::select! {
                biased;
                () = until.cancelled() => break,
                accepted = incoming.next() => accepted,
            };
            match accepted {
                Some(Ok(io)) => {
                    metrics::GRPC_CONNECTIONS.increment(1);
                    let (settings, routes) = (settings.clone(), routes.clone());
                    connections.spawn(serve_one(settings, routes, io, until.clone()));
                }
                Some(Err(error)) => {
                    metrics::GRPC_ACCEPT_ERRORS.increment(1);
                    tracing::warn!(%error, "a gRPC connection could not be accepted");
                    tokio::select! {
                        () = until.cancelled() => break,
                        () = sleep(ACCEPT_PAUSE) => {}
                    }
                }
                None => break,
            }
        }
    }
    connections.close();
    connections.wait().await;
}

/// Serves one connection until it is closed.
fn serve_one<IO>(
    settings: GrpcSettings,
    routes: Routes,
    io: IO,
    until: CancellationToken,
) -> impl Future<Output = ()> + Send + 'static
where
    IO: AsyncRead + AsyncWrite + Connected + Unpin + Send + 'static,
{
    let [closed, cut, end] = [(); 3].map(|()| CancellationToken::new());
    let connection = Connection {
        io,
        cut: Box::pin(cut.clone().cancelled_owned()),
        _closed: closed.clone().drop_guard(),
    };
    // Without an end: at the end of its connections a server ends those that it has.
    let alone = stream::iter([Ok::<_, io::Error>(connection)]).chain(stream::pending());
    let serving = server(&settings)
        .add_routes(routes)
        .serve_with_incoming_shutdown(alone, end.clone().cancelled_owned());
    let ending = async move {
        let aged = tokio::select! {
            () = closed.cancelled() => false,
            () = until.cancelled() => false,
            () = grow_old(settings.max_connection_age) => true,
        };
        end.cancel();
        if !aged {
            return;
        }
        metrics::GRPC_CONNECTIONS_AGED.increment(1);
        let in_time = closed.run_until_cancelled(sleep(settings.max_connection_age_grace));
        if in_time.await.is_some() {
            metrics::GRPC_CONNECTIONS_CUT.increment(1);
            tracing::debug!("a gRPC connection that was asked to end had calls for too long");
            cut.cancel();
        }
    };
    async move {
        if let (Err(error), ()) = tokio::join!(serving, ending) {
            tracing::debug!(%error, "a gRPC connection ended badly");
        }
    }
}

/// Waits for about this age; for ever if it is zero.
async fn grow_old(age: Duration) {
    if age.is_zero() {
        return pending().await;
    }
    sleep(age.mul_f64(1.0 + JITTER * (2.0 * fastrand::f64() - 1.0))).await;
}

/// A connection that tells when it is dropped, and that can be cut off.
struct Connection<IO> {
    io: IO,
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
    _closed: DropGuard,
}

impl<IO: Connected> Connected for Connection<IO> {
    type ConnectInfo = IO::ConnectInfo;

    fn connect_info(&self) -> Self::ConnectInfo {
        self.io.connect_info()
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Connection<IO> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.cut.as_mut().poll(context).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        Pin::new(&mut self.io).poll_read(context, buffer)
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Connection<IO> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(context, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;
    use tonic::Request;
    use tonic_health::pb::HealthCheckRequest;
    use tonic_health::pb::health_client::HealthClient;

    use super::*;
    use crate::admin::Readiness;
    use crate::grpc::{health, incoming};

    const LONG: Duration = Duration::from_secs(60);

    /// A server of the health service alone, and a client with one connection to it.
    async fn connected(
        age: Duration,
        grace: Duration,
    ) -> (
        HealthClient<tonic::transport::Channel>,
        CancellationToken,
        tokio::task::JoinHandle<()>,
    ) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let until = CancellationToken::new();
        let stop = until.clone();
        let serving = tokio::spawn(async move {
            let settings = GrpcSettings {
                max_connection_age: age,
                max_connection_age_grace: grace,
                ..GrpcSettings::default()
            };
            let routes = Routes::new(health(&Readiness::new(), &[]));
            serve(&settings, routes, incoming(listener), stop).await;
        });
        let endpoint = tonic::transport::Endpoint::from_shared(address).unwrap();
        let channel = endpoint.connect().await.unwrap();
        (HealthClient::new(channel), until, serving)
    }

    fn whole() -> Request<HealthCheckRequest> {
        Request::new(HealthCheckRequest::default())
    }

    #[tokio::test]
    async fn a_call_under_way_outlives_the_age_of_its_connection_until_the_grace_is_over() {
        let second = Duration::from_secs(1);
        let (mut client, _until, _serving) = connected(second, second).await;
        let start = std::time::Instant::now();
        // A watch has no end of its own.
        let mut watch = client.watch(whole()).await.unwrap().into_inner();
        assert!(watch.message().await.unwrap().is_some());
        let ended = tokio::time::timeout(LONG, watch.message()).await.unwrap();
        assert!(ended.is_err(), "it was cut off: {ended:?}");
        assert!(start.elapsed() >= Duration::from_millis(1700));
        // The client comes back by itself.
        client.check(whole()).await.unwrap();
    }

    #[tokio::test]
    async fn it_ends_when_it_is_told_to_and_its_connections_have_ended() {
        let (mut client, until, serving) = connected(Duration::ZERO, LONG).await;
        client.check(whole()).await.unwrap();
        until.cancel();
        tokio::time::timeout(LONG, serving).await.unwrap().unwrap();
        assert!(client.check(whole()).await.is_err());
    }

    #[tokio::test]
    async fn a_connection_that_its_client_closes_leaves_nothing_behind() {
        let (client, until, serving) = connected(LONG, LONG).await;
        drop(client);
        until.cancel();
        tokio::time::timeout(LONG, serving).await.unwrap().unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn no_two_connections_need_have_the_same_age() {
        let mut ages = Vec::new();
        for _ in 0..50 {
            let start = tokio::time::Instant::now();
            grow_old(Duration::from_secs(100)).await;
            ages.push(start.elapsed().as_secs());
        }
        ages.sort_unstable();
        ages.dedup();
        assert!(ages.len() > 10, "{ages:?}");
        assert!(ages.iter().all(|age| (80..=121).contains(age)), "{ages:?}");
    }
}
