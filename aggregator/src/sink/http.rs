//! One request of a sink and its answer, bounded in time and size.

use std::time::Duration;

use bytes::Bytes;
use http::header::HeaderValue;
use http::{HeaderMap, HeaderName, Request, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tributary_node::tls::{Alpn, ClientTls, Connector, Dialer, TlsError};

use crate::reply;

/// Posts to one place.
#[derive(Debug)]
pub(super) struct Client {
    uri: Uri,
    http: HttpClient<Dialer, Full<Bytes>>,
    timeout: Duration,
}

/// An answer, read whole.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

/// Why there is no answer. Whether the request was read is not known.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoReply {
    /// No connection, or it broke.
    #[error("cannot be reached: {0}")]
    Unreachable(String),
    /// The time is over.
    #[error("did not answer within {0:?}")]
    Timeout(Duration),
    /// A header cannot be made, which is the fault of settings or of who named its value.
    #[error("cannot be asked: {0}")]
    Request(#[from] http::Error),
}

/// Every point of the largest request named as wrong, and Keystone's catalogue of a large installation.
const LONGEST_ANSWER: usize = 8 * 1024 * 1024;
const CONNECT_TIME: Duration = Duration::from_secs(10);
/// Servers close idle connections sooner or later; this is sooner than most.
const IDLE: Duration = Duration::from_secs(10);

/// A name as a segment of a path.
pub(super) fn encoded(name: &str) -> String {
    let mut text = String::with_capacity(name.len());
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~' | b':') {
            text.push(char::from(byte));
        } else {
            text.push_str(&format!("%{byte:02X}"));
        }
    }
    text
}

// === impl Client ===

impl Client {
    /// `hop` is the key of the TLS settings, by which failures are counted. Must be called within a tokio runtime.
    pub(super) fn new(
        uri: Uri,
        tls: &ClientTls,
        hop: &'static str,
        timeout: Duration,
    ) -> Result<Self, TlsError> {
        let secure = uri.scheme_str() == Some("https");
        let http = pooled(secure.then_some(tls), hop, timeout)?;
        Ok(Self { uri, http, timeout })
    }

    /// The same connections, to another path of the same server.
    pub(super) fn at(&self, uri: Uri) -> Self {
        Self {
            uri,
            http: self.http.clone(),
            timeout: self.timeout,
        }
    }

    /// Where it posts to.
    pub(super) fn uri(&self) -> &Uri {
        &self.uri
    }

    /// Posts a body, and reads the answer up to a length. Of a longer one the body is left out: its status says enough.
    pub(super) async fn post<const N: usize>(
        &self,
        body: Bytes,
        headers: [(HeaderName, Option<HeaderValue>); N],
    ) -> Result<Reply, NoReply> {
        within(self.timeout, self.exchange(body, headers)).await
    }

    /// Gets another page of the same server, in a time of its own.
    pub(super) async fn get(&self, uri: Uri, time: Duration) -> Result<Reply, NoReply> {
        let request = Request::get(uri).body(Full::default())?;
        within(time, self.ask(request)).await
    }

    async fn exchange<const N: usize>(
        &self,
        body: Bytes,
        headers: [(HeaderName, Option<HeaderValue>); N],
    ) -> Result<Reply, NoReply> {
        let mut request = Request::post(self.uri.clone());
        for (name, value) in headers {
            if let Some(value) = value {
                request = request.header(name, value);
            }
        }
        self.ask(request.body(Full::new(body))?).await
    }

    async fn ask(&self, request: Request<Full<Bytes>>) -> Result<Reply, NoReply> {
        let response = self
            .http
            .request(request)
            .await
            .map_err(|error| unreachable(&error))?;
        let (head, body) = response.into_parts();
        let body = match Limited::new(body, LONGEST_ANSWER).collect().await {
            Ok(body) => body.to_bytes(),
            Err(error) if error.is::<http_body_util::LengthLimitError>() => Bytes::new(),
            Err(error) => return Err(unreachable(&*error)),
        };
        Ok(Reply {
            status: head.status,
            headers: head.headers,
            body,
        })
    }
}

// === impl Reply ===

impl Reply {
    /// What the server wants us to wait: seconds or a date, up to [`LONGEST_RETRY_AFTER`].
    pub(super) fn retry_after(&self) -> Option<Duration> {
        reply::retry_after(&self.headers)
    }

    /// Status and the beginning of the server's words, without the `secrets` should they be among them.
    pub(super) fn said(&self, secrets: &[&str]) -> String {
        reply::said(self.status, &self.body, secrets)
    }
}

/// Connections that are kept for the next request; those by TLS only with its settings. Must be called within a tokio runtime.
pub(super) fn pooled<B>(
    tls: Option<&ClientTls>,
    hop: &'static str,
    timeout: Duration,
) -> Result<HttpClient<Dialer, B>, TlsError>
where
    B: http_body_util::BodyExt + Send,
    B::Data: Send,
{
    let connector = tls.map(|tls| Connector::new(tls, hop, Alpn::Http1));
    let dialer = Dialer::new(hop, connector.transpose()?)
        .connect_timeout(CONNECT_TIME.min(timeout))
        .tcp_keepalive(Duration::from_secs(30));
    Ok(HttpClient::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(IDLE)
        .build(dialer))
}

async fn within(
    time: Duration,
    exchange: impl Future<Output = Result<Reply, NoReply>>,
) -> Result<Reply, NoReply> {
    match tokio::time::timeout(time, exchange).await {
        Ok(reply) => reply,
        Err(_) => Err(NoReply::Timeout(time)),
    }
}

fn unreachable(error: &(dyn std::error::Error + 'static)) -> NoReply {
    NoReply::Unreachable(tributary_node::deepest_cause(error))
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use http::header::RETRY_AFTER;

    use super::*;
    use crate::reply::{LONGEST_RETRY_AFTER, SAID};

    fn reply(retry_after: &str, body: &'static str) -> Reply {
        let mut headers = HeaderMap::new();
        headers.insert(RETRY_AFTER, retry_after.parse().unwrap());
        Reply {
            status: StatusCode::TOO_MANY_REQUESTS,
            headers,
            body: Bytes::from(body),
        }
    }

    #[test]
    fn retry_after_is_seconds_or_a_date_and_bounded() {
        let wait = |text: &str| reply(text, "").retry_after();
        assert_eq!(wait("7"), Some(Duration::from_secs(7)));
        assert_eq!(wait("999999"), Some(LONGEST_RETRY_AFTER));
        assert_eq!(wait("soon"), None);
        assert_eq!(wait("-3"), None);
        assert_eq!(wait("Thu, 01 Jan 1970 00:00:00 GMT"), None, "long ago");
        let date = httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(100));
        let date = wait(&date).unwrap();
        assert!((50..=100).contains(&date.as_secs()), "{date:?}");
    }

    #[test]
    fn words_of_a_server_are_one_short_line_without_secrets() {
        let body = " you said k3y\nand that is\u{1b}[31m wrong ";
        assert_eq!(
            reply("1", body).said(&["k3y", ""]),
            "answered 429: you said REDACTED and that is [31m wrong"
        );
        assert_eq!(reply("1", "").said(&[]), "answered 429");
        let long = Reply {
            body: Bytes::from(vec![b'x'; 100_000]),
            ..reply("1", "")
        };
        assert_eq!(long.said(&[]).len(), "answered 429: ".len() + SAID);
    }
}
