//! One request to Consul and its answer.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{ACCEPT, HeaderValue};
use http::uri::Scheme;
use http::{HeaderMap, Method, Request, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::rt::{TokioExecutor, TokioTimer};

use super::Settings;
use super::health::{Instances, OddWeight, instances};
use super::settings::Token;
use crate::cause::deepest_cause;
use crate::config::Secret;
use crate::discovery::Endpoint;
use crate::tls::{Alpn, Connector, Dialer, TlsError};

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
    /// A server answered that has heard nothing of the leader for so long, or (`None`) knows of none: its list may be old.
    #[error("answered from a server that has lost the leader, so that its list may be old")]
    Old(Option<Duration>),
    /// The file that has the token cannot be read.
    #[error("cannot be asked: the token's file {file}: {error}")]
    Token {
        /// Its path.
        file: String,
        /// Why.
        error: std::io::Error,
    },
    /// The service's name or the token cannot be put into a request.
    #[error("cannot be asked: {0}")]
    Request(#[from] http::Error),
}

/// What is asked about a service's instances.
#[derive(Debug, Clone, Copy)]
pub(super) struct Question<'a> {
    pub service: &'a str,
    /// 0: it is answered at once; otherwise when something changed since, or `wait` is over.
    pub index: u64,
    pub wait: Duration,
    /// Any server may answer, not the leader alone.
    pub stale: bool,
}

/// An answer as it should look.
#[derive(Debug)]
pub(super) struct Answer {
    /// None where nobody is healthy, the service is unknown, or the token does not allow to see it.
    pub endpoints: Vec<Endpoint>,
    /// Instances whose metadata have a weight that is none.
    pub odd_weights: Vec<OddWeight>,
    /// Where the next question may wait from; 0 when Consul gave none.
    pub index: u64,
    /// When Consul began to answer, as opposed to waiting for a change.
    pub began: Instant,
    /// How long ago the server that answered heard from the leader; `None` if it knows of none.
    pub last_contact: Option<Duration>,
}

#[derive(Debug, Clone)]
pub(super) struct Client {
    settings: Settings,
    http: HttpClient<Dialer, Full<Bytes>>,
}

/// What came back with status 200.
struct Reply {
    headers: HeaderMap,
    body: Bytes,
    began: Instant,
}

// Ten thousand instances with much metadata.
const LONGEST_ANSWER: usize = 32 * 1024 * 1024;
const CONNECT_TIME: Duration = Duration::from_secs(5);
// Followers hear from the leader several times a second, and elect another one if they do not.
const LONGEST_SILENCE: Duration = Duration::from_secs(10);

// === impl Answer ===

impl Answer {
    /// Whether it is from a server that has lost the leader, so that it may be old.
    pub(super) fn is_old(&self) -> bool {
        self.last_contact
            .is_none_or(|silence| silence > LONGEST_SILENCE)
    }
}

// === impl Client ===

impl Client {
    /// Must be called within a tokio runtime.
    pub(super) fn new(settings: Settings) -> Result<Self, TlsError> {
        let tls = settings.tls.as_ref();
        let connector = tls.map(|tls| Connector::new(tls, "consul_tls", Alpn::Http1));
        let dialer = Dialer::new("consul_tls", connector.transpose()?)
            .connect_timeout(CONNECT_TIME)
            .tcp_keepalive(Duration::from_secs(30));
        let http = HttpClient::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(Duration::from_secs(30))
            .build(dialer);
        Ok(Self { settings, http })
    }

    /// The healthy instances of a service.
    pub(super) async fn health(&self, question: Question<'_>) -> Result<Answer, ConsulError> {
        let Question { index, wait, .. } = question;
        // Consul adds up to a sixteenth to the wait, so that not all that wait ask again at the same moment.
        let allowed = self.settings.patience
            + if index > 0 {
                wait + wait / 16
            } else {
                Duration::ZERO
            };
        let path = self.health_path(question);
        let reply = self.send(Method::GET, &path, Bytes::new(), allowed).await?;
        let Instances {
            endpoints,
            odd_weights,
        } = instances(&reply.body, self.settings.prefer)?;
        let knows_leader = text_of(&reply.headers, "x-consul-knownleader") != Some("false");
        let silence = number_in(&reply.headers, "x-consul-lastcontact").unwrap_or(0);
        Ok(Answer {
            endpoints,
            odd_weights,
            index: number_in(&reply.headers, "x-consul-index").unwrap_or(0),
            began: reply.began,
            last_contact: knows_leader.then(|| Duration::from_millis(silence)),
        })
    }

    fn health_path(&self, question: Question<'_>) -> String {
        let Question {
            service,
            index,
            wait,
            stale,
        } = question;
        let mut path = format!("/v1/health/service/{}?passing=1", encoded(service));
        if !self.settings.datacenter.is_empty() {
            path.push_str(&format!("&dc={}", encoded(&self.settings.datacenter)));
        }
        for tag in &self.settings.tags {
            path.push_str(&format!("&tag={}", encoded(tag)));
        }
        if stale {
            path.push_str("&stale");
        }
        if index > 0 {
            path.push_str(&format!("&index={index}&wait={}ms", wait.as_millis()));
        }
        path
    }

    /// Tells Consul's agent something, within `allowed`.
    pub(super) async fn put(
        &self,
        path: &str,
        body: &serde_json::Value,
        allowed: Duration,
    ) -> Result<(), ConsulError> {
        let body = match body {
            serde_json::Value::Null => Bytes::new(),
            body => Bytes::from(body.to_string()),
        };
        self.send(Method::PUT, path, body, allowed).await.map(drop)
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
        allowed: Duration,
    ) -> Result<Reply, ConsulError> {
        match tokio::time::timeout(allowed, self.exchange(method, path, body)).await {
            Ok(reply) => reply,
            Err(_) => Err(ConsulError::Hanging(allowed)),
        }
    }

    async fn exchange(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<Reply, ConsulError> {
        let scheme = match self.settings.tls {
            Some(_) => Scheme::HTTPS,
            None => Scheme::HTTP,
        };
        let uri = Uri::builder()
            .scheme(scheme)
            .authority(self.settings.authority.clone())
            .path_and_query(format!("{}{path}", self.settings.prefix))
            .build()?;
        let mut request = Request::builder()
            .method(method)
            .uri(uri)
            .header(ACCEPT, "application/json");
        let token = self.token().await?;
        if !token.is_empty() {
            let mut token = HeaderValue::from_str(token.expose()).map_err(http::Error::from)?;
            token.set_sensitive(true);
            request = request.header("x-consul-token", token);
        }
        let response = self
            .http
            .request(request.body(Full::new(body))?)
            .await
            .map_err(|error| unreachable(&error))?;
        let began = Instant::now();
        let (head, body) = response.into_parts();
        let body = Limited::new(body, LONGEST_ANSWER).collect().await;
        let body = body.map_err(|error| {
            if error.is::<http_body_util::LengthLimitError>() {
                ConsulError::TooLong(LONGEST_ANSWER)
            } else {
                unreachable(&*error)
            }
        })?;
        let body = body.to_bytes();
        let status = head.status.as_u16();
        if status != 200 {
            let said: String = String::from_utf8_lossy(&body)
                .trim()
                .chars()
                .take(200)
                .collect();
            return Err(ConsulError::Status { status, said });
        }
        Ok(Reply {
            headers: head.headers,
            body,
            began,
        })
    }

    async fn token(&self) -> Result<Secret, ConsulError> {
        match &self.settings.token {
            Token::Given(token) => Ok(token.clone()),
            Token::File(file) => match tokio::fs::read_to_string(file).await {
                Ok(text) => Ok(Secret::new(text.trim())),
                Err(error) => Err(ConsulError::Token {
                    file: file.display().to_string(),
                    error,
                }),
            },
        }
    }
}

fn text_of<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok().map(str::trim)
}

fn number_in(headers: &HeaderMap, name: &str) -> Option<u64> {
    text_of(headers, name)?.parse().ok()
}

fn unreachable(error: &(dyn std::error::Error + 'static)) -> ConsulError {
    ConsulError::Unreachable(deepest_cause(error))
}

/// A name as a segment of a path, or a value in a query.
pub(super) fn encoded(name: &str) -> String {
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
