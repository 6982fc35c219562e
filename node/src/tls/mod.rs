//! TLS on a hop: a server's [`Acceptor`], a client's [`Connector`], and their settings.
//!
//! What always holds:
//! - a peer is verified in full on every connection, sessions are never resumed; nothing switches that off;
//! - certificates, keys and CAs are read again when they change. Connections that stand are not touched, the next one uses the new files, and files
//!   that are not right leave the old ones in force, with a log line and a count;
//! - a handshake that fails is counted by cause and told in plain words, by whichever side we are;
//! - a handshake is bounded in time, and as many at once as [`Incoming`] lets in.
//!
//! ```no_run
//! # async fn example(settings: tributary_node::tls::ClientTls) -> Result<(), Box<dyn std::error::Error>> {
//! use tributary_node::tls::{Alpn, Connector, Dialer};
//!
//! // For a client of our own: a connected socket becomes a verified stream.
//! let connector = Connector::new(&settings, "consul_tls", Alpn::Http1)?;
//! let socket = tokio::net::TcpStream::connect("consul.example:8501").await?;
//! let stream = connector.connect("consul.example:8501", socket).await?;
//! // For hyper-util's client: `https://` by TLS, `http://` without.
//! let dialer = Dialer::new("consul_tls", Some(connector));
//! # let _ = (stream, dialer);
//! # Ok(())
//! # }
//! ```

mod accept;
mod certificate;
mod connect;
mod dial;
mod event;
mod failure;
mod incoming;
mod live;
mod material;
mod own;
mod pem;
mod settings;
mod stream;
#[cfg(test)]
mod tests;
mod verify;

pub use accept::Acceptor;
pub use connect::Connector;
pub use dial::{DialError, Dialer};
pub use incoming::Incoming;
pub(crate) use own::ask_own;
pub use pem::{Pem, PemGiven};
pub use settings::{ClientTls, ServerTls};
pub use stream::{HandshakeError, Proof, Stream};

/// Why TLS settings cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {what}")]
pub struct TlsError {
    /// The setting: `cert_file`.
    pub field: &'static str,
    /// What is wrong with it, or with the file that it names.
    pub what: String,
}

/// Which protocols are spoken inside, as client and server agree by ALPN.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Alpn {
    /// HTTP/2 alone: gRPC.
    Http2,
    /// HTTP/1.1 alone.
    Http1,
    /// Both, HTTP/2 preferred.
    Http,
    /// Nothing is said: lines of text.
    None,
}

impl Alpn {
    fn protocols(self) -> Vec<Vec<u8>> {
        let (h2, http1) = (b"h2".to_vec(), b"http/1.1".to_vec());
        match self {
            Self::Http2 => vec![h2],
            Self::Http1 => vec![http1],
            Self::Http => vec![h2, http1],
            Self::None => Vec::new(),
        }
    }
}
