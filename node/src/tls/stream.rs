//! A connection with or without TLS, one type for both.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use hyper_util::client::legacy::connect::{Connected as Reached, Connection};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio_rustls::TlsStream;
use tonic::transport::server::{Connected, TcpConnectInfo};

use super::event::HandshakeFailed;
use super::failure::{Cause, Failure, Side, of_tls};

/// See the module.
#[derive(Debug)]
pub struct Stream {
    io: Io,
    /// Until the first bytes of the server are here.
    unproven: Option<Box<Unproven>>,
}

#[derive(Debug)]
enum Io {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// A client's connection on which the server has not said anything yet.
///
/// Only its first words tell two things: whether it has accepted our certificate (with TLS 1.3 the client is done before the server has looked at
/// it), and, where we do not speak TLS, whether the server does.
#[derive(Debug)]
pub(super) struct Unproven {
    hop: &'static str,
    peer: String,
    word: watch::Sender<Word>,
}

/// What a server has said first.
#[derive(Debug, Default)]
enum Word {
    #[default]
    Nothing,
    /// Something of the protocol inside.
    Welcome,
    /// That it does not want this connection.
    Refusal(String),
}

/// Tells whether a server has accepted a connection; see [`Stream::proof`].
#[derive(Debug, Clone)]
pub struct Proof(watch::Receiver<Word>);

/// No TLS connection came about: nothing that was written has reached the server's program. Inside an [`io::Error`].
#[derive(Debug, thiserror::Error)]
#[error("TLS: {0}")]
pub struct HandshakeError(String);

/// How a record of TLS begins that is an alert: a server's answer to what is no TLS. No protocol of ours begins like that.
const ALERT: [u8; 2] = [0x15, 0x03];

impl Stream {
    /// A server's connection without TLS.
    pub fn plain(stream: TcpStream) -> Self {
        Self {
            io: Io::Plain(stream),
            unproven: None,
        }
    }

    /// A client's connection without TLS to `address`. If the server speaks TLS, that is counted under `hop` and told.
    pub fn plain_to(hop: &'static str, address: &str, stream: TcpStream) -> Self {
        Self::plain(stream).until_proven(Unproven::new(hop, address))
    }

    pub(super) fn of_tls(stream: TlsStream<TcpStream>) -> Self {
        Self {
            io: Io::Tls(Box::new(stream)),
            unproven: None,
        }
    }

    pub(super) fn until_proven(self, unproven: Unproven) -> Self {
        Self {
            unproven: Some(Box::new(unproven)),
            ..self
        }
    }

    /// Whether the server accepts this connection, as will turn out by its first word. For a client's connection that was not read from yet.
    pub fn proof(&self) -> Proof {
        match &self.unproven {
            Some(unproven) => Proof(unproven.word.subscribe()),
            None => Proof(watch::channel(Word::Welcome).1),
        }
    }

    fn socket(&self) -> &TcpStream {
        match &self.io {
            Io::Plain(stream) => stream,
            Io::Tls(stream) => stream.get_ref().0,
        }
    }

    /// The first word of the server is here.
    fn prove(&mut self, read: io::Result<()>, first: &[u8]) -> io::Result<()> {
        let Some(unproven) = self.unproven.take() else {
            return read;
        };
        let failure = match (&self.io, &read) {
            // Nothing else would say that the server has not read what we wrote.
            (Io::Tls(_), Err(error))
                if matches!(of_tls(error), Some(rustls::Error::AlertReceived(_))) =>
            {
                Some(Failure::of(error, Side::Client, None))
            }
            (Io::Plain(_), Ok(())) if first.starts_with(&ALERT) => Some(Failure::new(
                Cause::NotTls,
                "the server speaks TLS, and this side does not",
            )),
            _ => None,
        };
        let Some(failure) = failure else {
            if read.is_ok() && !first.is_empty() {
                unproven.word.send_replace(Word::Welcome);
            }
            return read;
        };
        unproven
            .word
            .send_replace(Word::Refusal(failure.words.clone()));
        Err(unproven.failed(failure))
    }
}

impl Unproven {
    pub(super) fn new(hop: &'static str, peer: &str) -> Self {
        Self {
            hop,
            peer: peer.to_owned(),
            word: watch::Sender::default(),
        }
    }

    /// Counts and tells it.
    pub(super) fn failed(&self, failure: Failure) -> io::Error {
        HandshakeFailed {
            hop: self.hop,
            side: Side::Client,
            peer: &self.peer,
            failure: &failure,
        }
        .emit();
        failure.into()
    }
}

impl From<Failure> for io::Error {
    fn from(failure: Failure) -> Self {
        let kind = match failure.cause {
            Cause::Timeout => io::ErrorKind::TimedOut,
            Cause::Closed => io::ErrorKind::UnexpectedEof,
            _ => io::ErrorKind::InvalidData,
        };
        Self::new(kind, HandshakeError(failure.words))
    }
}

impl HandshakeError {
    /// Whether this error, or one that caused it, is one of these.
    pub fn is_in(error: &(dyn std::error::Error + 'static)) -> bool {
        let mut next = Some(error);
        while let Some(error) = next {
            let inner = error
                .downcast_ref::<io::Error>()
                .and_then(io::Error::get_ref);
            if error.is::<Self>() || inner.is_some_and(|inner| inner.is::<Self>()) {
                return true;
            }
            next = error.source();
        }
        false
    }
}

impl Proof {
    /// Waits for the server's first word, which somebody else has to read.
    ///
    /// # Errors
    /// Why the server does not want this connection, or that it has ended without a word.
    pub async fn wait(&mut self) -> io::Result<()> {
        match self.0.wait_for(|word| !matches!(word, Word::Nothing)).await {
            Ok(word) => match &*word {
                Word::Refusal(words) => Err(io::Error::other(HandshakeError(words.clone()))),
                _ => Ok(()),
            },
            Err(_) => Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "the server closed the connection before it had said anything",
            )),
        }
    }

    /// Why the server does not want this connection, if it has said so.
    pub fn refusal(&self) -> Option<String> {
        match &*self.0.borrow() {
            Word::Refusal(words) => Some(format!("TLS: {words}")),
            _ => None,
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = buffer.filled().len();
        let read = ready!(match &mut this.io {
            Io::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Io::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
        });
        if this.unproven.is_none() {
            return Poll::Ready(read);
        }
        let first = buffer.filled().get(before..).unwrap_or_default();
        Poll::Ready(this.prove(read, first))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.io {
            Io::Plain(stream) => Pin::new(stream).poll_write(context, data),
            Io::Tls(stream) => Pin::new(stream).poll_write(context, data),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.io {
            Io::Plain(stream) => Pin::new(stream).poll_flush(context),
            Io::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.io {
            Io::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Io::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        data: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.io {
            Io::Plain(stream) => Pin::new(stream).poll_write_vectored(context, data),
            Io::Tls(stream) => Pin::new(stream).poll_write_vectored(context, data),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.io {
            Io::Plain(stream) => stream.is_write_vectored(),
            Io::Tls(stream) => stream.is_write_vectored(),
        }
    }
}

impl Connected for Stream {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        self.socket().connect_info()
    }
}

impl Connection for Stream {
    fn connected(&self) -> Reached {
        let reached = self.socket().connected();
        match &self.io {
            Io::Tls(stream) if stream.get_ref().1.alpn_protocol() == Some(b"h2") => {
                reached.negotiated_h2()
            }
            _ => reached,
        }
    }
}
