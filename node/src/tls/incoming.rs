//! The connections of a listener, each after its handshake.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_util::Stream as Streaming;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::{Sleep, sleep};

use super::{Acceptor, Stream};
use crate::metrics::GRPC_ACCEPT_ERRORS;

/// As many handshakes as may be under way at once. More connections wait to be accepted; a handshake's time is bounded.
const HANDSHAKES: usize = 512;

/// After a connection could not be accepted, most likely for lack of file descriptors.
const BREATH: Duration = Duration::from_millis(100);

/// See the module. Handshakes are made side by side; one that fails is counted and told, and is not seen here. Never ends.
#[derive(Debug)]
pub struct Incoming {
    listener: TcpListener,
    tls: Option<Acceptor>,
    handshakes: JoinSet<io::Result<Stream>>,
    pause: Option<Pin<Box<Sleep>>>,
}

impl Incoming {
    /// With TLS if there is an acceptor.
    pub fn new(listener: TcpListener, tls: Option<Acceptor>) -> Self {
        Self {
            listener,
            tls,
            handshakes: JoinSet::new(),
            pause: None,
        }
    }

    /// The next connection; where there is TLS, its handshake has just begun.
    fn poll_accept(&mut self, context: &mut Context<'_>) -> Poll<Option<Stream>> {
        if let Some(pause) = &mut self.pause {
            ready!(pause.as_mut().poll(context));
            self.pause = None;
        }
        match ready!(self.listener.poll_accept(context)) {
            Ok((stream, _)) => {
                // Answers are small and awaited; a failure costs some delay only.
                let _ = stream.set_nodelay(true);
                let Some(tls) = self.tls.clone() else {
                    return Poll::Ready(Some(Stream::plain(stream)));
                };
                self.handshakes
                    .spawn(async move { tls.accept(stream).await });
            }
            Err(error) => {
                GRPC_ACCEPT_ERRORS.increment(1);
                tracing::warn!(%error, "cannot accept connections");
                self.pause = Some(Box::pin(sleep(BREATH)));
            }
        }
        Poll::Ready(None)
    }
}

impl From<TcpListener> for Incoming {
    /// Without TLS.
    fn from(listener: TcpListener) -> Self {
        Self::new(listener, None)
    }
}

impl Streaming for Incoming {
    type Item = io::Result<Stream>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        loop {
            while let Poll::Ready(Some(shaken)) = this.handshakes.poll_join_next(context) {
                if let Ok(Ok(stream)) = shaken {
                    return Poll::Ready(Some(Ok(stream)));
                }
            }
            if this.handshakes.len() >= HANDSHAKES {
                return Poll::Pending;
            }
            if let Some(stream) = ready!(this.poll_accept(context)) {
                return Poll::Ready(Some(Ok(stream)));
            }
        }
    }
}
