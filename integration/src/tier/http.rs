//! Just enough HTTP to ask a program's admin endpoint.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// How long one request may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// An HTTP answer, read whole.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status code.
    pub status: StatusCode,
    /// The body.
    pub body: Bytes,
}

impl Answer {
    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// GET of a path at `host:port`.
pub async fn get(address: &str, path: &str) -> io::Result<Answer> {
    exchange(address, Request::get(path), Bytes::new()).await
}

/// POST of a body, with headers, to a path at `host:port`.
pub async fn post(
    address: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: Bytes,
) -> io::Result<Answer> {
    exchange(address, with(Request::post(path), headers), body).await
}

/// PUT of a body, with headers, to a path at `host:port`.
pub async fn put(
    address: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: Bytes,
) -> io::Result<Answer> {
    exchange(address, with(Request::put(path), headers), body).await
}

fn with(request: http::request::Builder, headers: &[(&str, &str)]) -> http::request::Builder {
    headers.iter().fold(request, |request, (name, value)| {
        request.header(*name, *value)
    })
}

async fn exchange(
    address: &str,
    request: http::request::Builder,
    body: Bytes,
) -> io::Result<Answer> {
    let request = request
        .header(http::header::HOST, address)
        .body(Full::new(body))
        .map_err(io::Error::other)?;
    let exchange = async {
        let stream = TcpStream::connect(address).await?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(io::Error::other)?;
        tokio::spawn(connection);
        let response = sender
            .send_request(request)
            .await
            .map_err(io::Error::other)?;
        let status = response.status();
        let body = response
            .into_body()
            .collect()
            .await
            .map_err(io::Error::other)?
            .to_bytes();
        Ok(Answer { status, body })
    };
    tokio::time::timeout(TIMEOUT, exchange)
        .await
        .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, format!("{address} did not answer")))?
}
