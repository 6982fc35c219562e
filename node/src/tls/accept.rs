//! The server's side of a handshake.

use std::cell::RefCell;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use super::event::HandshakeFailed;
use super::failure::{Failure, Side};
use super::live::Live;
use super::material::Server;
use super::stream::Stream;
use super::verify::REFUSED;
use super::{Alpn, ServerTls, TlsError};

/// Makes verified streams of accepted connections. Clones share the certificate, which follows its files.
#[derive(Debug, Clone)]
pub struct Acceptor {
    live: Arc<Live<ServerConfig>>,
    hop: &'static str,
    within: Duration,
}

/// How long a handshake may take.
pub(super) const HANDSHAKE: Duration = Duration::from_secs(10);

/// How long a client that was refused has to read why.
const FAREWELL: Duration = Duration::from_secs(1);

/// As much as such a client may still send, in bytes.
const LAST_BYTES: usize = 256 << 10;

impl Acceptor {
    /// Reads the files; `None` where the settings ask for no TLS. `hop` is the settings' key, by which failures are counted. Must be called within
    /// a tokio runtime.
    ///
    /// # Errors
    /// What [`ServerTls::check`] tells.
    pub fn new(
        settings: &ServerTls,
        hop: &'static str,
        alpn: Alpn,
    ) -> Result<Option<Self>, TlsError> {
        if !settings.is_on() {
            return Ok(None);
        }
        Ok(Some(Self {
            live: Live::start(Server::new(settings, alpn), hop)?,
            hop,
            within: HANDSHAKE,
        }))
    }

    /// Gives handshakes another time than 10 seconds.
    pub fn within(self, within: Duration) -> Self {
        Self { within, ..self }
    }

    /// Waits until the client is verified, within bounded time.
    ///
    /// # Errors
    /// Why it is not. It has been counted and told already.
    pub async fn accept(&self, stream: TcpStream) -> io::Result<Stream> {
        let peer = match stream.peer_addr() {
            Ok(peer) => peer.to_string(),
            // It is gone already, which the handshake will tell.
            Err(_) => "unknown".to_owned(),
        };
        let acceptor = TlsAcceptor::from(self.live.config());
        let handshake = async {
            let done = timeout(self.within, acceptor.accept(stream).into_fallible()).await;
            (done, REFUSED.with(RefCell::take))
        };
        let (done, refused) = REFUSED.scope(RefCell::default(), handshake).await;
        let failure = match done {
            Ok(Ok(stream)) => return Ok(Stream::of_tls(stream.into())),
            Ok(Err((error, stream))) => {
                let failure = Failure::of(&error, Side::Server, refused.as_ref());
                self.failed(&peer, &failure);
                part(stream).await;
                failure
            }
            Err(_) => {
                let failure = Failure::timeout(Side::Server, self.within);
                self.failed(&peer, &failure);
                failure
            }
        };
        Err(failure.into())
    }

    fn failed(&self, peer: &str, failure: &Failure) {
        HandshakeFailed {
            hop: self.hop,
            side: Side::Server,
            peer,
            failure,
        }
        .emit();
    }
}

/// Lets the client read why it was refused: what it has sent already, unread, would make the system take our last words back.
async fn part(mut stream: TcpStream) {
    let _ = stream.shutdown().await;
    let _ = timeout(FAREWELL, async {
        let (mut left, mut bytes) = (LAST_BYTES, [0; 4096]);
        while let Ok(count @ 1..) = stream.read(&mut bytes).await {
            left = left.saturating_sub(count);
            if left == 0 {
                break;
            }
        }
    })
    .await;
}
