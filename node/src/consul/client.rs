//! One question to Consul and its answer.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{ACCEPT, HeaderValue};
use http::{Request, Response, Uri};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};

use super::Settings;
use super::health::endpoints;
use crate::discovery::Endpoint;

/// Why there is no list of instances.
#[derive(Debug, thiserror::Error)]
pub enum ConsulError {
    /// No connection, or it broke.
    #[error("cannot be reached: {0}")]
    Unreachable(String),
    /// Nothing came for longer than the question allowed.
    #[error("did not answer within {}s", .0.as_secs())]
    Hanging(Duration),
    /// Anything but 200.
    #[error("answered {status}: {said}")]
    Status {
        /// The HTTP status.
        status: u16,
        /// The beginning of its words.
        said: String,
    },
    /// More than any real answer.
    #[error("answered with more than {0} bytes")]
    TooLong(usize),
    /// Not what the health endpoint answers.
    #[error("answered with something else than a list of instances: {0}")]
    Garbage(#[from] serde_json::Error),
    /// A list without an instance that can be spoken to: nobody is healthy, the service is unknown, or the token does
    /// not allow to see it.
    #[error("names no healthy instance, or does not let this token see any")]
    Empty,
    /// The service's name or the token cannot be put into a request.
    #[error("cannot be asked: {0}")]
    Request(#[from] http::Error),
}

/// An answer as it should look.
#[derive(Debug)]
pub(super) struct Answer {
    /// None where nobody is healthy, the service is unknown, or the token does not allow to see it.
    pub endpoints: Vec<Endpoint>,
    /// Where the next question may wait from; 0 when Consul gave none.
    pub index: u64,
    /// When Consul began to answer, as opposed to waiting for a change.
    pub began: Instant,
}

#[derive(Debug, Clone)]
pub(super) struct Client {
    settings: Settings,
    http: HttpClient<HttpConnector, Empty<Bytes>>,
}

// Ten thousand instances with much metadata.
const LONGEST_ANSWER: usize = 32 * 1024 * 1024;
const CONNECT_TIME: Duration = Duration::from_secs(5);

// === impl Client ===

impl Client {
    pub(super) fn new(settings: Settings) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(CONNECT_TIME));
        connector.set_keepalive(Some(Duration::from_secs(30)));
        connector.set_nodelay(true);
        let http = HttpClient::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(Duration::from_secs(30))
            .build(connector);
        Self { settings, http }
    }

    /// The healthy instances of `service`: at once with `index` 0, otherwise when something changed since `index` or
    /// `wait` is over.
    pub(super) async fn health(
        &self,
        service: &str,
        index: u64,
        wait: Duration,
    ) -> Result<Answer, ConsulError> {
        // Consul adds up to a sixteenth to the wait, so that not all that wait ask again at the same moment.
        let allowed = self.settings.patience
            + if index > 0 {
                wait + wait / 16
            } else {
                Duration::ZERO
            };
        match tokio::time::timeout(allowed, self.ask(service, index, wait)).await {
            Ok(answer) => answer,
            Err(_) => Err(ConsulError::Hanging(allowed)),
        }
    }

    async fn ask(&self, service: &str, index: u64, wait: Duration) -> Result<Answer, ConsulError> {
        let mut path = format!(
            "{}/v1/health/service/{}?passing=1",
            self.settings.prefix,
            encoded(service)
        );
        if index > 0 {
            path.push_str(&format!("&index={index}&wait={}ms", wait.as_millis()));
        }
        let uri = Uri::builder()
            .scheme("http")
            .authority(self.settings.authority.clone())
            .path_and_query(path)
            .build()?;
        let mut request = Request::get(uri).header(ACCEPT, "application/json");
        if !self.settings.token.is_empty() {
            let mut token =
                HeaderValue::from_str(self.settings.token.expose()).map_err(http::Error::from)?;
            token.set_sensitive(true);
            request = request.header("x-consul-token", token);
        }
        let response = self
            .http
            .request(request.body(Empty::new())?)
            .await
            .map_err(|error| unreachable(&error))?;
        let began = Instant::now();
        let status = response.status().as_u16();
        let new_index = index_of(&response);
        let body = Limited::new(response.into_body(), LONGEST_ANSWER)
            .collect()
            .await;
        let body = body.map_err(|error| {
            if error.is::<http_body_util::LengthLimitError>() {
                ConsulError::TooLong(LONGEST_ANSWER)
            } else {
                unreachable(&*error)
            }
        })?;
        let body = body.to_bytes();
        if status != 200 {
            let said: String = String::from_utf8_lossy(&body)
                .trim()
                .chars()
                .take(200)
                .collect();
            return Err(ConsulError::Status { status, said });
        }
        let endpoints = endpoints(&body)?;
        Ok(Answer {
            endpoints,
            index: new_index,
            began,
        })
    }
}

fn index_of(response: &Response<Incoming>) -> u64 {
    let index = response
        .headers()
        .get("x-consul-index")
        .and_then(|value| value.to_str().ok());
    index
        .and_then(|value| value.trim().parse().ok())
        .unwrap_or(0)
}

/// The deepest cause says what happened; what stands above it says "client error".
fn unreachable(error: &(dyn std::error::Error + 'static)) -> ConsulError {
    let mut deepest = error;
    while let Some(cause) = deepest.source() {
        deepest = cause;
    }
    ConsulError::Unreachable(deepest.to_string())
}

/// A service's name as a segment of a path.
fn encoded(name: &str) -> String {
    let mut text = String::with_capacity(name.len());
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~') {
            text.push(char::from(byte));
        } else {
            text.push_str(&format!("%{byte:02X}"));
        }
    }
    text
}
