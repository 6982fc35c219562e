//! One request and its answer, bounded in time and size: to the Cloud Controller, and to UAA.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use http::{HeaderMap, Request, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tributary_node::tls::{Alpn, Connector, Dialer};

use super::config::CloudFoundryConfig;
use crate::reply::{self, LONGEST_RETRY_AFTER};

/// Asks, and follows nobody elsewhere.
#[derive(Debug)]
pub(super) struct Client {
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

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoReply {
    /// No connection, or it broke.
    #[error("cannot be reached: {0}")]
    Unreachable(String),
    /// The time is over.
    #[error("did not answer within {0:?}")]
    Timeout(Duration),
    /// Nobody knows what it is.
    #[error("answers more than {LONGEST_ANSWER} bytes")]
    TooLong,
    /// It cannot be made.
    #[error("cannot be asked: {0}")]
    Request(#[from] http::Error),
}

/// Where TLS failures are counted.
const HOP: &str = "cloudfoundry_tls";
/// 5000 applications with long labels.
const LONGEST_ANSWER: usize = 64 << 20;
const CONNECT_TIME: Duration = Duration::from_secs(10);
/// Routers close idle connections sooner or later; this is sooner than most.
const IDLE: Duration = Duration::from_secs(30);

// === impl Client ===

impl Client {
    /// Must be called within a tokio runtime.
    pub(super) fn new(config: &CloudFoundryConfig, base: &Uri) -> Result<Self, String> {
        let secure = base.scheme_str() == Some("https");
        let connector = secure.then(|| Connector::new(&config.tls, HOP, Alpn::Http1));
        let connector = connector.transpose();
        let connector = connector.map_err(|error| format!("tls.{error}"))?;
        let timeout = config.timeout.get();
        let dialer = Dialer::new(HOP, connector)
            .connect_timeout(CONNECT_TIME.min(timeout))
            .tcp_keepalive(Duration::from_secs(30));
        let http = HttpClient::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .build(dialer);
        Ok(Self { http, timeout })
    }

    /// How long one request may take.
    pub(super) fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Gets what is there.
    pub(super) async fn get(&self, uri: Uri, login: Option<HeaderValue>) -> Result<Reply, NoReply> {
        let mut request = Request::get(uri).header(ACCEPT, "application/json");
        if let Some(login) = login {
            request = request.header(AUTHORIZATION, login);
        }
        self.ask(request.body(Full::default())?).await
    }

    /// Posts a form.
    pub(super) async fn post(
        &self,
        uri: Uri,
        login: HeaderValue,
        form: String,
    ) -> Result<Reply, NoReply> {
        let request = Request::post(uri)
            .header(ACCEPT, "application/json")
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .header(AUTHORIZATION, login);
        self.ask(request.body(Full::from(form))?).await
    }

    async fn ask(&self, request: Request<Full<Bytes>>) -> Result<Reply, NoReply> {
        match tokio::time::timeout(self.timeout, self.exchange(request)).await {
            Ok(reply) => reply,
            Err(_) => Err(NoReply::Timeout(self.timeout)),
        }
    }

    async fn exchange(&self, request: Request<Full<Bytes>>) -> Result<Reply, NoReply> {
        let response = self.http.request(request).await;
        let (head, body) = response.map_err(|error| unreachable(&error))?.into_parts();
        let body = Limited::new(body, LONGEST_ANSWER).collect().await;
        let body = body.map_err(|error| {
            if error.is::<LengthLimitError>() {
                NoReply::TooLong
            } else {
                unreachable(&*error)
            }
        })?;
        Ok(Reply {
            status: head.status,
            headers: head.headers,
            body: body.to_bytes(),
        })
    }
}

// === impl Reply ===

impl Reply {
    /// What the server wants us to wait: `Retry-After` as seconds or a date, or else until `X-RateLimit-Reset`, a Unix time. Up to ten minutes.
    pub(super) fn retry_after(&self) -> Option<Duration> {
        let reset = || {
            let text = self.headers.get("x-ratelimit-reset")?.to_str().ok()?.trim();
            let at = UNIX_EPOCH.checked_add(Duration::from_secs(text.parse().ok()?))?;
            let wait = at.duration_since(SystemTime::now()).ok()?;
            Some(wait.min(LONGEST_RETRY_AFTER))
        };
        reply::retry_after(&self.headers).or_else(reset)
    }

    /// Status and the beginning of the server's words, without the `secrets` should they be among them.
    pub(super) fn said(&self, secrets: &[&str]) -> String {
        reply::said(self.status, &self.body, secrets)
    }
}

fn unreachable(error: &(dyn std::error::Error + 'static)) -> NoReply {
    NoReply::Unreachable(tributary_node::deepest_cause(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(name: &'static str, value: &str) -> Reply {
        let mut headers = HeaderMap::new();
        headers.insert(name, value.parse().unwrap());
        Reply {
            status: StatusCode::TOO_MANY_REQUESTS,
            headers,
            body: Bytes::from(" you said k3y\nand that is\u{1b}[31m wrong "),
        }
    }

    #[test]
    fn a_server_asks_for_a_wait_by_seconds_a_date_or_a_time() {
        let wait = |name, value: &str| reply(name, value).retry_after();
        assert_eq!(wait("retry-after", "7"), Some(Duration::from_secs(7)));
        assert_eq!(wait("retry-after", "999999"), Some(LONGEST_RETRY_AFTER));
        for nothing in ["soon", "-3", "Thu, 01 Jan 1970 00:00:00 GMT"] {
            assert_eq!(wait("retry-after", nothing), None, "{nothing}");
        }
        let soon = SystemTime::now() + Duration::from_secs(100);
        let date = wait("retry-after", &httpdate::fmt_http_date(soon)).unwrap();
        let unix = soon.duration_since(UNIX_EPOCH).unwrap().as_secs();
        let reset = wait("x-ratelimit-reset", &unix.to_string()).unwrap();
        for wait in [date, reset] {
            assert!((50..=100).contains(&wait.as_secs()), "{wait:?}");
        }
        assert_eq!(wait("x-ratelimit-reset", "5"), None, "long ago");
        assert_eq!(wait("x-ratelimit-reset", &u64::MAX.to_string()), None);
    }

    #[test]
    fn words_of_a_server_are_one_short_line_without_secrets() {
        assert_eq!(
            reply("x", "y").said(&["k3y", ""]),
            "answered 429: you said REDACTED and that is [31m wrong"
        );
    }
}
