//! An HTTP server behind TLS that is content with everything.

use std::io;
use std::sync::Arc;
use std::sync::Mutex;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpListener;
use tributary_node::tls::{Acceptor, Alpn, ServerTls};

/// What it was asked: paths, and bodies as they came.
type Asked = Arc<Mutex<Vec<(String, Bytes)>>>;

/// What one or the other client looks for in an answer.
const HEADERS: [(&str, &str); 3] = [
    ("content-type", "text/plain; version=0.0.4"),
    ("etag", "\"1\""),
    ("x-prometheus-remote-write-samples-written", "1"),
];

/// A page for who scrapes, and thanks for who sends.
pub(crate) struct Receiver {
    /// As `https://127.0.0.1:port`.
    pub(crate) url: String,
    asked: Asked,
}

impl Receiver {
    /// Serves with these settings of a server's TLS.
    pub(crate) async fn start(tls: Value) -> io::Result<Self> {
        let tls: ServerTls = serde_json::from_value(tls)?;
        let acceptor = Acceptor::new(&tls, "receiver", Alpn::Http1).map_err(io::Error::other)?;
        let acceptor = acceptor.ok_or_else(|| io::Error::other("no TLS"))?;
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("https://{}", listener.local_addr()?);
        let asked = Asked::default();
        let kept = Arc::clone(&asked);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(acceptor.clone(), stream, Arc::clone(&kept)));
            }
        });
        Ok(Self { url, asked })
    }

    /// How many requests to a path that begins so had this in their bodies.
    pub(crate) fn count(&self, path: &str, text: &str) -> usize {
        let Ok(asked) = self.asked.lock() else {
            return 0;
        };
        let has = |body: &[u8]| body.windows(text.len()).any(|part| part == text.as_bytes());
        asked
            .iter()
            .filter(|(to, body)| to.starts_with(path) && has(body))
            .count()
    }

    /// How many requests came at all.
    pub(crate) fn total(&self) -> usize {
        self.asked.lock().map_or(0, |asked| asked.len())
    }
}

async fn serve(acceptor: Acceptor, stream: tokio::net::TcpStream, kept: Asked) -> io::Result<()> {
    let stream = acceptor.accept(stream).await?;
    let service = service_fn(move |request: Request<Incoming>| {
        let kept = Arc::clone(&kept);
        async move {
            let (head, body) = request.into_parts();
            let body = body.collect().await?.to_bytes();
            let path = head.uri.path().to_owned();
            let mut answer = Response::new(Full::<Bytes>::default());
            if path == "/metrics" {
                *answer.body_mut() = "# TYPE seen gauge\nseen 7\n".into();
            }
            if path == "/api/v2/series" {
                *answer.status_mut() = StatusCode::ACCEPTED;
            }
            for (name, value) in HEADERS {
                let name = HeaderName::from_static(name);
                let headers = answer.headers_mut();
                headers.insert(name, HeaderValue::from_static(value));
            }
            if let Ok(mut kept) = kept.lock() {
                kept.push((path, body));
            }
            Ok::<_, hyper::Error>(answer)
        }
    });
    hyper::server::conn::http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .await
        .map_err(io::Error::other)
}
