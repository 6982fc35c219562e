//! Addresses to listen on, as people write them.

use std::io;
use std::net::SocketAddr;

use tokio::net::{TcpListener, TcpSocket};

use crate::tls::TlsError;

/// How many connections may wait to be accepted.
const BACKLOG: u32 = 1024;

/// Why nothing can be listened on.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Not `host:port`.
    #[error("{0:?} is not an address, write it like 127.0.0.1:8127")]
    Address(String),
    /// The name has no address, the port is taken, or the address is not this host's.
    #[error("cannot listen on {address}: {source}")]
    Bind {
        /// As it was written.
        address: String,
        /// What the system says.
        source: io::Error,
    },
    /// The certificate cannot be used.
    #[error("http_tls.{0}")]
    Tls(#[from] TlsError),
}

/// Listens on `address`: `127.0.0.1:8127`, `[::1]:8127`, `localhost:0`, or `:8127` for all of this host's addresses.
///
/// # Errors
/// See [`ListenError`].
pub async fn bind(address: &str) -> Result<TcpListener, ListenError> {
    bind_to(address, false).await
}

/// Listens as [`bind`] does, where another process of the same user may listen at the same time if it asks for that, too.
///
/// # Errors
/// See [`ListenError`].
pub async fn bind_shared(address: &str) -> Result<TcpListener, ListenError> {
    bind_to(address, true).await
}

async fn bind_to(address: &str, reuse_port: bool) -> Result<TcpListener, ListenError> {
    check_address(address)?;
    let failed = |source| ListenError::Bind {
        address: address.to_owned(),
        source,
    };
    if let Some(port) = address
        .strip_prefix(':')
        .and_then(|port| port.parse::<u16>().ok())
    {
        let both = SocketAddr::from((std::net::Ipv6Addr::UNSPECIFIED, port));
        return match listen(both, reuse_port) {
            // A host without IPv6.
            Err(error) if error.kind() != io::ErrorKind::AddrInUse => {
                let v4 = SocketAddr::from((std::net::Ipv4Addr::UNSPECIFIED, port));
                listen(v4, reuse_port).map_err(failed)
            }
            result => result.map_err(failed),
        };
    }
    let mut failure = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for candidate in tokio::net::lookup_host(address).await.map_err(failed)? {
        match listen(candidate, reuse_port) {
            Ok(listener) => return Ok(listener),
            Err(error) => failure = error,
        }
    }
    Err(failed(failure))
}

fn listen(address: SocketAddr, reuse_port: bool) -> io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    socket.set_reuseaddr(true)?;
    socket.set_reuseport(reuse_port)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Whether `address` has the form `host:port`; names are not looked up.
///
/// # Errors
/// [`ListenError::Address`].
pub fn check_address(address: &str) -> Result<(), ListenError> {
    let malformed = || ListenError::Address(address.to_owned());
    if address.parse::<SocketAddr>().is_ok() {
        return Ok(());
    }
    let (host, port) = address.rsplit_once(':').ok_or_else(malformed)?;
    let named = host
        .chars()
        .all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_'));
    match port.parse::<u16>() {
        Ok(_) if named => Ok(()),
        _ => Err(malformed()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_form_of_an_address_is_checked() {
        for good in [
            "127.0.0.1:8127",
            "[::1]:8127",
            "localhost:0",
            ":8127",
            "a-b.example:1",
        ] {
            assert!(check_address(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "127.0.0.1",
            "localhost:http",
            "a:99999",
            "http://a:1",
            "::1:80000",
            "a b:1",
        ] {
            assert!(check_address(bad).is_err(), "{bad}");
        }
    }

    #[tokio::test]
    async fn a_shared_port_can_be_taken_twice() {
        let first = bind_shared("127.0.0.1:0").await.expect("a free port");
        let address = first.local_addr().expect("bound").to_string();
        assert!(bind(&address).await.is_err());
        assert!(bind_shared(&address).await.is_ok());
    }

    #[tokio::test]
    async fn a_taken_port_is_named_in_the_error() {
        let first = bind("127.0.0.1:0").await.expect("a free port");
        let address = first.local_addr().expect("bound").to_string();
        let error = bind(&address).await.expect_err("taken").to_string();
        assert!(error.contains(&address), "{error}");
    }
}
