//! Connecting for clients that ask for a connection by URI: hyper-util's and tonic's.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tonic::codegen::Service;

use super::{Connector, Proof, Stream};

/// Connects to `https://` by TLS, and to `http://` without. Clones share everything.
#[derive(Debug, Clone)]
pub struct Dialer {
    hop: &'static str,
    http: HttpConnector,
    tls: Option<Connector>,
    proof: Option<Arc<Mutex<Option<Proof>>>>,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// The name has no address, or nobody listens there.
    #[error("{0}")]
    Connect(#[source] <HttpConnector as Service<Uri>>::Error),
    /// No TLS connection. That has been counted and told already.
    #[error(transparent)]
    Tls(#[from] io::Error),
    /// `https://` without a [`Connector`].
    #[error("{0} asks for TLS, which is not set up")]
    NoTls(Uri),
}

impl Dialer {
    /// `hop` is the settings' key, by which failures are counted.
    pub fn new(hop: &'static str, tls: Option<Connector>) -> Self {
        let mut http = HttpConnector::new();
        http.enforce_http(false);
        http.set_nodelay(true);
        Self {
            hop,
            http,
            tls,
            proof: None,
        }
    }

    /// How long TCP's handshake may take with each of a host's addresses; without it, as long as the system likes.
    pub fn connect_timeout(mut self, within: Duration) -> Self {
        self.http.set_connect_timeout(Some(within));
        self
    }

    /// A silent connection is tried by TCP after so long.
    pub fn tcp_keepalive(mut self, after: Duration) -> Self {
        self.http.set_keepalive(Some(after));
        self
    }

    /// Whether it can connect by TLS.
    pub fn is_secure(&self) -> bool {
        self.tls.is_some()
    }

    /// The same, keeping the proof of the last connection made for whoever does not get to see the stream.
    pub fn with_proof(&self) -> Self {
        Self {
            proof: Some(Arc::default()),
            ..self.clone()
        }
    }

    /// Takes the proof of the last connection, if [`Dialer::with_proof`] asked for it.
    pub fn proof(&self) -> Option<Proof> {
        self.proof.as_ref()?.lock().take()
    }
}

impl Service<Uri> for Dialer {
    type Response = TokioIo<Stream>;
    type Error = DialError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, DialError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), DialError>> {
        self.http.poll_ready(context).map_err(DialError::Connect)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let encrypted = uri.scheme_str() == Some("https");
        let address = uri.authority().map(ToString::to_string).unwrap_or_default();
        let (hop, tls, kept) = (self.hop, self.tls.clone(), self.proof.clone());
        let connecting = self.http.call(uri.clone());
        Box::pin(async move {
            let tls = match (encrypted, tls) {
                (true, None) => return Err(DialError::NoTls(uri)),
                (true, tls) => tls,
                (false, _) => None,
            };
            let socket = connecting.await.map_err(DialError::Connect)?.into_inner();
            let stream = match tls {
                Some(tls) => tls.connect(&address, socket).await?,
                None => Stream::plain_to(hop, &address, socket),
            };
            if let Some(kept) = kept {
                *kept.lock() = Some(stream.proof());
            }
            Ok(TokioIo::new(stream))
        })
    }
}
