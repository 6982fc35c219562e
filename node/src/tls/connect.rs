//! The client's side of a handshake.

use std::io;
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::accept::HANDSHAKE;
use super::failure::{Cause, Failure, Side};
use super::live::Live;
use super::material::Client;
use super::stream::{Stream, Unproven};
use super::{Alpn, ClientTls, TlsError};

/// Makes verified streams of connected sockets. Clones share the CAs and the certificate, which follow their files.
#[derive(Debug, Clone)]
pub struct Connector {
    live: Arc<Live<ClientConfig>>,
    server_name: Option<ServerName<'static>>,
    hop: &'static str,
    alpn: Alpn,
}

impl Connector {
    /// Reads the files, whether or not the settings say `enabled`. `hop` is the settings' key, by which failures are counted. Must be called within
    /// a tokio runtime.
    ///
    /// # Errors
    /// What [`ClientTls::check`] tells.
    pub fn new(settings: &ClientTls, hop: &'static str, alpn: Alpn) -> Result<Self, TlsError> {
        Ok(Self {
            live: Live::start(Client::new(settings), hop)?,
            server_name: settings.server_name()?,
            hop,
            alpn,
        })
    }

    /// The same, for another protocol inside.
    pub fn speaking(&self, alpn: Alpn) -> Self {
        Self {
            alpn,
            ..self.clone()
        }
    }

    /// Waits until the server is verified, for 10 seconds at most. `address` is what was connected to, `host:port` or a host alone: the certificate
    /// must be valid for that host, unless the settings name another.
    ///
    /// A server that refuses *our* certificate may say so only afterwards: then the first read fails.
    ///
    /// # Errors
    /// Why it is not. It has been counted and told already.
    pub async fn connect(&self, address: &str, stream: TcpStream) -> io::Result<Stream> {
        let unproven = Unproven::new(self.hop, address);
        let name = match &self.server_name {
            Some(name) => name.clone(),
            None => match ServerName::try_from(host(address).to_owned()) {
                Ok(name) => name,
                Err(_) => {
                    let words = format!("{address:?} has no host that a certificate could be for");
                    return Err(unproven.failed(Failure::new(Cause::WrongName, words)));
                }
            },
        };
        let connector = TlsConnector::from(self.live.config());
        let connector = connector.with_alpn(self.alpn.protocols());
        match timeout(HANDSHAKE, connector.connect(name, stream)).await {
            Ok(Ok(stream)) => Ok(Stream::of_tls(stream.into()).until_proven(unproven)),
            Ok(Err(error)) => Err(unproven.failed(Failure::of(&error, Side::Client, None))),
            Err(_) => Err(unproven.failed(Failure::timeout(Side::Client, HANDSHAKE))),
        }
    }
}

/// The host of `host:port`, `[::1]:port`, or of either without a port.
fn host(address: &str) -> &str {
    if let Some((host, _)) = address
        .strip_prefix('[')
        .and_then(|rest| rest.split_once(']'))
    {
        return host;
    }
    match address.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') && port.parse::<u16>().is_ok() => host,
        _ => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_of_an_address_is_what_stands_before_its_port() {
        for (address, expected) in [
            ("proxy.example:8128", "proxy.example"),
            ("proxy.example", "proxy.example"),
            ("10.0.0.1:80", "10.0.0.1"),
            ("[::1]:80", "::1"),
            ("[::1]", "::1"),
            ("::1", "::1"),
        ] {
            assert_eq!(host(address), expected);
        }
    }
}
