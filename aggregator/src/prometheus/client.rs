//! One request and its answer, bounded in time and size.

use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, PROXY_AUTHORIZATION};
use http::{HeaderMap, Request, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tributary_node::config::Secret;
use tributary_node::tls::{ClientTls, TlsError};

use super::dial::{Dial, Way};
use super::login::Login;
use crate::reply;

/// Asks one server.
#[derive(Debug)]
pub(crate) struct Client {
    uri: Uri,
    way: Way,
    http: HttpClient<Dial, Full<Bytes>>,
    login: Option<Login>,
    timeout: Duration,
    /// Of an answer's body, in bytes.
    longest: usize,
}

/// An answer, read whole.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    /// What was sent to log in, should the server repeat it.
    secret: Secret,
}

/// Why there is no answer. Whether the request was read is not known.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoReply {
    /// No connection, or it broke.
    #[error("cannot be reached: {0}")]
    Unreachable(String),
    /// The time is over.
    #[error("did not answer within {0:?}")]
    Timeout(Duration),
    /// More than is read.
    #[error("answered with more than {0} bytes")]
    TooLarge(usize),
    /// There is nothing to log in with.
    #[error("cannot be asked: {0}")]
    Login(String),
    /// A header cannot be made.
    #[error("cannot be asked: {0}")]
    Request(#[from] http::Error),
}

/// What a client is made of.
#[derive(Debug)]
pub(crate) struct ClientParts<'a> {
    pub(crate) uri: Uri,
    pub(crate) way: Way,
    pub(crate) tls: &'a ClientTls,
    /// The key of the TLS settings, by which failures are counted.
    pub(crate) hop: &'static str,
    pub(crate) login: Option<Login>,
    pub(crate) timeout: Duration,
    pub(crate) longest: usize,
}

const CONNECT_TIME: Duration = Duration::from_secs(10);
/// Servers close idle connections sooner or later; this is sooner than most.
const IDLE: Duration = Duration::from_secs(20);

impl Client {
    /// Must be called within a tokio runtime.
    pub(crate) fn new(parts: ClientParts<'_>) -> Result<Self, TlsError> {
        let secure = parts.uri.scheme_str() == Some("https");
        let tls = secure.then_some(parts.tls);
        let connect_time = CONNECT_TIME.min(parts.timeout);
        let dial = Dial::new(parts.way.clone(), tls, parts.hop, connect_time)?;
        let http = HttpClient::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .build(dial);
        Ok(Self {
            uri: parts.uri,
            way: parts.way,
            http,
            login: parts.login,
            timeout: parts.timeout,
            longest: parts.longest,
        })
    }

    /// Whom it asks.
    pub(crate) fn uri(&self) -> &Uri {
        &self.uri
    }

    /// Asks, and reads the answer.
    pub(crate) async fn ask(
        &self,
        method: http::Method,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<Reply, NoReply> {
        match tokio::time::timeout(self.timeout, self.exchange(method, headers, body)).await {
            Ok(reply) => reply,
            Err(_) => Err(NoReply::Timeout(self.timeout)),
        }
    }

    async fn exchange(
        &self,
        method: http::Method,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<Reply, NoReply> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = method;
        *request.uri_mut() = self.uri.clone();
        *request.headers_mut() = headers;
        let mut secret = Secret::default();
        if let Some(login) = &self.login {
            let credentials = login.credentials().await.map_err(NoReply::Login)?;
            let headers = request.headers_mut();
            headers.insert(AUTHORIZATION, credentials.header);
            secret = credentials.secret;
        }
        if let Way::Proxy(proxy) = &self.way
            && self.uri.scheme_str() == Some("http")
            && let Some(login) = proxy.login()
        {
            let headers = request.headers_mut();
            headers.insert(PROXY_AUTHORIZATION, login.clone());
        }
        let response = self.http.request(request).await;
        let response = response.map_err(|error| unreachable(&error))?;
        let (head, body) = response.into_parts();
        let body = match Limited::new(body, self.longest).collect().await {
            Ok(body) => body.to_bytes(),
            Err(error) if error.is::<http_body_util::LengthLimitError>() => {
                return Err(NoReply::TooLarge(self.longest));
            }
            Err(error) => return Err(unreachable(&*error)),
        };
        Ok(Reply {
            status: head.status,
            headers: head.headers,
            body,
            secret,
        })
    }
}

impl NoReply {
    /// As in a counter's tag.
    pub(crate) fn cause(&self) -> &'static str {
        match self {
            Self::Unreachable(_) => "unreachable",
            Self::Timeout(_) => "timeout",
            Self::TooLarge(_) => "too_large",
            Self::Login(_) => "login",
            Self::Request(_) => "invalid",
        }
    }
}

impl Reply {
    /// What the server wants us to wait: seconds or a date, up to 10 minutes.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        reply::retry_after(&self.headers)
    }

    /// Status and the beginning of the server's words, without the secret should it be among them.
    pub(crate) fn said(&self) -> String {
        reply::said(self.status, &self.body, &[self.secret.expose()])
    }
}

fn unreachable(error: &(dyn std::error::Error + 'static)) -> NoReply {
    NoReply::Unreachable(tributary_node::deepest_cause(error))
}

#[cfg(test)]
mod tests {
    use http::header::RETRY_AFTER;

    use super::*;
    use crate::reply::LONGEST_RETRY_AFTER;

    fn reply(retry_after: &str, body: &'static str) -> Reply {
        let mut headers = HeaderMap::new();
        headers.insert(RETRY_AFTER, retry_after.parse().unwrap());
        Reply {
            status: StatusCode::TOO_MANY_REQUESTS,
            headers,
            body: Bytes::from(body),
            secret: Secret::new("k3y"),
        }
    }

    #[test]
    fn retry_after_is_seconds_or_a_date_and_bounded() {
        let wait = |text: &str| reply(text, "").retry_after();
        assert_eq!(wait("7"), Some(Duration::from_secs(7)));
        assert_eq!(wait("999999"), Some(LONGEST_RETRY_AFTER));
        assert_eq!(wait("soon"), None);
        assert_eq!(wait("Thu, 01 Jan 1970 00:00:00 GMT"), None, "long ago");
    }

    #[test]
    fn words_of_a_server_are_one_short_line_without_secrets() {
        let body = " you said k3y\nand that is wrong ";
        let expected = "answered 429: you said REDACTED and that is wrong";
        assert_eq!(reply("1", body).said(), expected);
        assert_eq!(reply("1", "").said(), "answered 429");
    }
}
