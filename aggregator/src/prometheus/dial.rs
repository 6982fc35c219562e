//! Connections of the HTTP client: straight, by a proxy, or to a Unix socket.

use std::future::Future;
use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderValue, Uri};
use hyper_util::client::legacy::connect::proxy::Tunnel;
use hyper_util::client::legacy::connect::{Connected, Connection, HttpConnector};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::UnixStream;
use tonic::codegen::Service;
use tributary_node::tls::{Alpn, ClientTls, Connector, Dialer, TlsError};

/// How a server is reached.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) enum Way {
    /// By its address.
    #[default]
    Straight,
    /// By an HTTP proxy.
    Proxy(Proxy),
    /// By a socket of this host, whatever the URL's host is.
    Unix(PathBuf),
}

/// An HTTP proxy.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Proxy {
    uri: Uri,
    login: Option<HeaderValue>,
}

impl std::fmt::Debug for Proxy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Debug::fmt(&self.uri, f)
    }
}

impl Proxy {
    /// `http://[user:password@]host:port`.
    pub(crate) fn new(url: &str) -> Result<Self, String> {
        // Not the URL itself: there may be a password in it.
        let uri: Uri = url.parse().map_err(|_| "is no URL".to_owned())?;
        let authority = match (uri.scheme_str(), uri.authority()) {
            (Some("http"), Some(authority)) => authority.as_str(),
            _ => return Err("is not like http://host:3128".to_owned()),
        };
        let (login, host) = match authority.rsplit_once('@') {
            Some((login, host)) => (Some(login), host),
            None => (None, authority),
        };
        let plain = |text: &str| {
            // A `+` is itself there, unlike in a form.
            let text = text.replace('+', "%2B");
            let mut pairs = form_urlencoded::parse(text.as_bytes());
            pairs
                .next()
                .map_or(String::new(), |(key, _)| key.into_owned())
        };
        let login = login.map(|login| {
            let (user, password) = login.split_once(':').unwrap_or((login, ""));
            let both = format!("{}:{}", plain(user), plain(password));
            let mut header = HeaderValue::try_from(format!("Basic {}", STANDARD.encode(both)))
                .map_err(|_| "has a login that no header can hold".to_owned())?;
            header.set_sensitive(true);
            Ok::<_, String>(header)
        });
        let uri = format!("http://{host}/");
        Ok(Self {
            uri: uri.parse().map_err(|_| "is no URL".to_owned())?,
            login: login.transpose()?,
        })
    }

    /// What a request that the proxy itself reads has to have.
    pub(crate) fn login(&self) -> Option<&HeaderValue> {
        self.login.as_ref()
    }
}

/// Connects by a [`Way`].
#[derive(Debug, Clone)]
pub(crate) struct Dial {
    way: Way,
    straight: Dialer,
    http: HttpConnector,
    tls: Option<Connector>,
}

type BoxError = Box<dyn std::error::Error + Send + Sync>;

impl Dial {
    /// `hop` is the settings' key, by which TLS failures are counted. Must be called within a tokio runtime.
    pub(crate) fn new(
        way: Way,
        tls: Option<&ClientTls>,
        hop: &'static str,
        connect_time: Duration,
    ) -> Result<Self, TlsError> {
        let tls = tls
            .map(|tls| Connector::new(tls, hop, Alpn::Http1))
            .transpose()?;
        let mut http = HttpConnector::new();
        http.set_connect_timeout(Some(connect_time));
        http.set_nodelay(true);
        Ok(Self {
            way,
            straight: Dialer::new(hop, tls.clone())
                .connect_timeout(connect_time)
                .tcp_keepalive(Duration::from_secs(30)),
            http,
            tls,
        })
    }

    async fn connect(mut self, uri: Uri) -> Result<Wire, BoxError> {
        let secure = uri.scheme_str() == Some("https");
        match self.way {
            Way::Straight => {
                let stream = self.straight.call(uri).await?;
                Ok(Wire::new(stream.into_inner()))
            }
            Way::Unix(path) => {
                let stream = UnixStream::connect(&path).await;
                Ok(Wire::new(stream.map_err(|error| {
                    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
                })?))
            }
            // A proxy is asked for what is not encrypted by a request of the usual kind.
            Way::Proxy(proxy) if !secure => {
                let stream = self.http.call(proxy.uri).await?;
                Ok(Wire {
                    proxied: true,
                    ..Wire::new(stream.into_inner())
                })
            }
            Way::Proxy(proxy) => {
                let address = uri.authority().map(ToString::to_string).unwrap_or_default();
                let mut tunnel = Tunnel::new(proxy.uri, self.http);
                if let Some(login) = proxy.login {
                    tunnel = tunnel.with_auth(login);
                }
                let stream = tunnel.call(uri).await?.into_inner();
                let tls = self.tls.ok_or("TLS is not set up")?;
                Ok(Wire::new(tls.connect(&address, stream).await?))
            }
        }
    }
}

impl Service<Uri> for Dial {
    type Response = TokioIo<Wire>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        // Each of the connectors is ready at any time.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let dial = self.clone();
        Box::pin(async move { dial.connect(uri).await.map(TokioIo::new) })
    }
}

trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// One connection.
pub(crate) struct Wire {
    stream: Box<dyn Duplex>,
    /// Requests name the whole URL.
    proxied: bool,
}

impl Wire {
    fn new(stream: impl Duplex + 'static) -> Self {
        Self {
            stream: Box::new(stream),
            proxied: false,
        }
    }
}

impl Connection for Wire {
    fn connected(&self) -> Connected {
        Connected::new().proxy(self.proxied)
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.stream).poll_write(context, data)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_is_a_url_with_or_without_a_login() {
        let proxy = Proxy::new("http://proxy:3128").unwrap();
        assert_eq!(
            (proxy.uri.to_string().as_str(), proxy.login),
            ("http://proxy:3128/", None)
        );
        let proxy = Proxy::new("http://al:p%40s+s@proxy:3128").unwrap();
        assert_eq!(
            proxy.login.clone().unwrap(),
            format!("Basic {}", STANDARD.encode("al:p@s+s"))
        );
        assert!(!format!("{proxy:?}").contains("al"));
        for bad in ["", "proxy:3128", "https://proxy", "http://", "socks5://a"] {
            assert!(Proxy::new(bad).is_err(), "{bad}");
        }
    }
}
