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
use tributary_node::tls::{Alpn, ClientTls, Connector, Dialer, TlsError};

use super::request::Login;

/// Where TLS failures are counted.
const HOP: &str = "populate_tls";

const CONNECT_TIME: Duration = Duration::from_secs(5);
const ANSWER_TIME: Duration = Duration::from_secs(10);
/// Three months of a metric, a point a second, are about as much.
const LONGEST: usize = 256 << 20;

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

    /// The body of an answer 200. The error is for people, and holds nothing of the login.
    pub(super) async fn get(&self, url: &Uri, login: &Login) -> Result<Bytes, String> {
        let host = url.authority().map_or("", |authority| authority.as_str());
        let answer = tokio::time::timeout(ANSWER_TIME, self.exchange(url, login)).await;
        let answer =
            answer.unwrap_or_else(|_| Err(format!("no answer within {} s", ANSWER_TIME.as_secs())));
        answer.map_err(|error| format!("{host}: {error}"))
    }

    async fn exchange(&self, url: &Uri, login: &Login) -> Result<Bytes, String> {
        let mut request = Request::get(url.clone());
        if let Some(value) = authorization(login)? {
            request = request.header(AUTHORIZATION, value);
        }
        let request = request
            .body(Full::default())
            .map_err(|error| error.to_string())?;
        let answer = self.http.request(request).await.map_err(|e| cause(&e))?;
        if answer.status() != StatusCode::OK {
            return Err(format!("answered {}", answer.status()));
        }
        let body = Limited::new(answer.into_body(), LONGEST).collect().await;
        body.map(|body| body.to_bytes()).map_err(|e| cause(&*e))
    }
}

fn authorization(login: &Login) -> Result<Option<HeaderValue>, String> {
    let text = match login {
        Login::None => return Ok(None),
        Login::Token(token) => format!("Bearer {}", token.expose()),
        Login::Password(user, password) => {
            let both = format!("{user}:{}", password.expose());
            format!("Basic {}", STANDARD.encode(both))
        }
    };
    let mut value =
        HeaderValue::try_from(text).map_err(|_| "the token cannot be sent".to_owned())?;
    value.set_sensitive(true);
    Ok(Some(value))
}

/// The deepest cause says what happened.
fn cause(error: &(dyn std::error::Error + 'static)) -> String {
    let mut deepest = error;
    while let Some(cause) = deepest.source() {
        deepest = cause;
    }
    deepest.to_string()
}
