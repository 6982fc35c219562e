//! Asking a server, within bounds of time and length.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{AUTHORIZATION, HeaderValue};
use http::{Request, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use tributary_node::deepest_cause;
use tributary_node::tls::{Alpn, ClientTls, Connector, Dialer, TlsError};

use super::request::Login;

/// Where TLS failures are counted.
const HOP: &str = "populate_tls";

const CONNECT_TIME: Duration = Duration::from_secs(5);
const ANSWER_TIME: Duration = Duration::from_secs(10);
/// Three months of a metric, a point a second, are about as much.
const LONGEST: usize = 256 << 20;

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Failed {
    /// For people; it holds nothing of the login.
    pub(super) why: String,
    /// Whether it may be another time.
    pub(super) again: bool,
}

impl Failed {
    fn away(why: impl Into<String>) -> Self {
        let why = why.into();
        Self { why, again: true }
    }

    fn wrong(why: impl Into<String>) -> Self {
        let why = why.into();
        Self { why, again: false }
    }
}

/// Asks servers, and follows nobody elsewhere.
#[derive(Debug, Clone)]
pub(super) struct Fetcher {
    http: Client<Dialer, Full<Bytes>>,
}

impl Fetcher {
    /// Must be called within a tokio runtime.
    pub(super) fn new(tls: &ClientTls) -> Result<Self, TlsError> {
        let tls = Connector::new(tls, HOP, Alpn::Http1)?;
        let dialer = Dialer::new(HOP, Some(tls)).connect_timeout(CONNECT_TIME);
        let http = Client::builder(TokioExecutor::new()).build(dialer);
        Ok(Self { http })
    }

    /// The body of an answer 200.
    pub(super) async fn get(&self, url: &Uri, login: &Login) -> Result<Bytes, Failed> {
        let host = url.authority().map_or("", |authority| authority.as_str());
        let answer = tokio::time::timeout(ANSWER_TIME, self.exchange(url, login)).await;
        let late = || Failed::away(format!("no answer within {} s", ANSWER_TIME.as_secs()));
        let answer = answer.unwrap_or_else(|_| Err(late()));
        answer.map_err(|failed| Failed {
            why: format!("{host}: {}", failed.why),
            ..failed
        })
    }

    async fn exchange(&self, url: &Uri, login: &Login) -> Result<Bytes, Failed> {
        let mut request = Request::get(url.clone());
        if let Some(value) = authorization(login)? {
            request = request.header(AUTHORIZATION, value);
        }
        let request = request
            .body(Full::default())
            .map_err(|error| Failed::wrong(error.to_string()))?;
        let answer = self.http.request(request).await;
        let answer = answer.map_err(|error| Failed::away(deepest_cause(&error)))?;
        let status = answer.status();
        if status != StatusCode::OK {
            return Err(Failed {
                why: format!("answered {status}"),
                again: status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS,
            });
        }
        let body = Limited::new(answer.into_body(), LONGEST).collect().await;
        let body = body.map_err(|error| Failed::away(deepest_cause(&*error)))?;
        Ok(body.to_bytes())
    }
}

fn authorization(login: &Login) -> Result<Option<HeaderValue>, Failed> {
    let text = match login {
        Login::None => return Ok(None),
        Login::Token(token) => format!("Bearer {}", token.expose()),
        Login::Password(user, password) => {
            let both = format!("{user}:{}", password.expose());
            format!("Basic {}", STANDARD.encode(both))
        }
    };
    let mut value =
        HeaderValue::try_from(text).map_err(|_| Failed::wrong("the token cannot be sent"))?;
    value.set_sensitive(true);
    Ok(Some(value))
}
