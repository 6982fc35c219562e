//! The listener: who may scrape, and what they get.

use std::convert::Infallible;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener as StdListener};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{
    ACCEPT, ACCEPT_ENCODING, ALLOW, AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, HeaderName,
    HeaderValue, VARY, WWW_AUTHENTICATE,
};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use parking_lot::Mutex;
use subtle::ConstantTimeEq as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tributary_node::admin::Patient;
use tributary_node::config::Secret;
use tributary_node::tls::{Acceptor, Stream};

use super::happened::Events;
use super::page::{Form, Format, Page, takes_gzip};
use crate::metrics;

/// How long the header of a request may take, the time before its first byte included: a connection is kept that long between scrapes.
const HEADER_TIME: Duration = Duration::from_secs(150);
/// How long a connection may be silent.
const SILENCE: Duration = Duration::from_secs(160);
/// One request's header.
const HEADER_BYTES: usize = 32 * 1024;
/// Pages that are written at a time: each takes memory in proportion to the series.
const RENDERED_AT_ONCE: usize = 2;
/// How long scrapes under way may take once we stop.
const GRACE: Duration = Duration::from_secs(5);
/// After a connection could not be accepted, most likely for lack of file descriptors.
const BREATH: Duration = Duration::from_millis(100);

/// What scrapes have to bring.
#[derive(Debug, Clone)]
pub(super) enum Guard {
    Nobody,
    Basic { user: String, password: Secret },
    Bearer(Secret),
}

/// Answers scrapes; one for all connections.
pub(super) struct Door {
    pub(super) sink: Arc<str>,
    pub(super) path: String,
    pub(super) guard: Guard,
    pub(super) created: bool,
    pub(super) page: ArcSwap<Page>,
    pub(super) renders: Semaphore,
}

/// Listeners of this process by sink and address: one that takes the place of another on the same address goes on with its socket, so that no scrape is
/// turned away between them.
static HELD: Mutex<Vec<(String, String, Weak<StdListener>)>> = Mutex::new(Vec::new());

/// Listens on `host:port`, or `:port`.
pub(super) fn listen(sink: &str, address: &str) -> std::io::Result<Arc<StdListener>> {
    let mut held = HELD.lock();
    held.retain(|(_, _, listener)| listener.strong_count() > 0);
    let mine = held
        .iter()
        .find(|(name, at, _)| name == sink && at == address && !address.ends_with(":0"));
    let before = mine.and_then(|(_, _, listener)| listener.upgrade());
    let listener = match before {
        Some(listener) => listener,
        None => Arc::new(bind(address)?),
    };
    let weak = Arc::downgrade(&listener);
    held.push((sink.to_owned(), address.to_owned(), weak));
    Ok(listener)
}

fn bind(address: &str) -> std::io::Result<StdListener> {
    let port = address.strip_prefix(':');
    let listener = match port.and_then(|port| port.parse().ok()) {
        Some(port) => {
            let six = SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
            let four = SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
            // The first takes both; a host without IPv6 has the second only.
            StdListener::bind([six, four].as_slice())?
        }
        None => StdListener::bind(address)?,
    };
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Serves until `stop`. Scrapes under way then have a little time left.
pub(super) async fn serve(
    listener: TcpListener,
    tls: Option<Acceptor>,
    door: Arc<Door>,
    connections: usize,
    stop: CancellationToken,
) {
    let places = Arc::new(Semaphore::new(connections));
    loop {
        let accepted = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            accepted = async {
                let place = Arc::clone(&places).acquire_owned().await;
                (place, listener.accept().await)
            } => accepted,
        };
        match accepted {
            (Ok(place), Ok((stream, peer))) => {
                let (door, tls, stop) = (Arc::clone(&door), tls.clone(), stop.clone());
                tokio::spawn(async move {
                    let _place = place;
                    if let Err(error) = connection(stream, tls, door, &stop).await {
                        tracing::debug!(%peer, %error, "a connection for a scrape ended");
                    }
                });
            }
            (_, Err(error)) => {
                metrics::CONNECTIONS_REFUSED
                    .with(["prometheus".into(), "accept_failed".into()])
                    .increment(1);
                tracing::warn!(%error, "cannot accept connections for scrapes");
                tokio::time::sleep(BREATH).await;
            }
            // The semaphore is never closed.
            (Err(_), _) => return,
        }
    }
}

type BoxError = Box<dyn std::error::Error + Send + Sync>;

async fn connection(
    stream: TcpStream,
    tls: Option<Acceptor>,
    door: Arc<Door>,
    stop: &CancellationToken,
) -> Result<(), BoxError> {
    // Pages are awaited; a failure costs some delay only.
    let _ = stream.set_nodelay(true);
    let stream = match tls {
        None => Stream::plain(stream),
        // A failure has been counted and told.
        Some(tls) => tls.accept(stream).await?,
    };
    let service = service_fn(move |request: Request<hyper::body::Incoming>| {
        let door = Arc::clone(&door);
        async move { Ok::<_, Infallible>(door.answer(&request).await) }
    });
    let stream = TokioIo::new(Patient::new(stream, SILENCE));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIME)
        .max_buf_size(HEADER_BYTES)
        .serve_connection(stream, service);
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        ended = &mut connection => return Ok(ended?),
        () = stop.cancelled() => connection.as_mut().graceful_shutdown(),
    }
    Ok(tokio::time::timeout(GRACE, connection).await??)
}

impl Guard {
    fn lets_in(&self, headers: &HeaderMap) -> bool {
        let expected = match self {
            Self::Nobody => return true,
            Self::Basic { user, password } => {
                let both = format!("{user}:{}", password.expose());
                format!("basic {}", STANDARD.encode(both))
            }
            Self::Bearer(token) => format!("bearer {}", token.expose()),
        };
        let Some(given) = headers.get(AUTHORIZATION).map(HeaderValue::as_bytes) else {
            return false;
        };
        // The scheme's letters may be large or small; the rest may not.
        let scheme = expected.find(' ').unwrap_or_default();
        let (Some(given_scheme), Some(given)) = (given.get(..scheme), given.get(scheme..)) else {
            return false;
        };
        let (expected_scheme, expected) = expected.split_at(scheme);
        given_scheme.eq_ignore_ascii_case(expected_scheme.as_bytes())
            && bool::from(given.ct_eq(expected.as_bytes()))
    }

    fn challenge(&self) -> &'static str {
        match self {
            Self::Bearer(_) => "Bearer",
            _ => "Basic realm=\"metrics\", charset=\"UTF-8\"",
        }
    }
}

impl Door {
    pub(super) async fn answer<B>(&self, request: &Request<B>) -> Response<Full<Bytes>> {
        let (response, outcome) = self.judge(request).await;
        Events::scraped(&self.sink, outcome);
        response
    }

    async fn judge<B>(&self, request: &Request<B>) -> (Response<Full<Bytes>>, &'static str) {
        if request.uri().path() != self.path {
            let words = format!("the metrics are at {}\n", self.path);
            return (words_of(StatusCode::NOT_FOUND, words), "not_found");
        }
        if !self.guard.lets_in(request.headers()) {
            let words = "a login is needed\n".to_owned();
            let response = words_of(StatusCode::UNAUTHORIZED, words);
            let challenge = HeaderValue::from_static(self.guard.challenge());
            let response = with(response, WWW_AUTHENTICATE, challenge);
            return (response, "unauthorized");
        }
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            let words = "only GET is answered here\n".to_owned();
            let response = words_of(StatusCode::METHOD_NOT_ALLOWED, words);
            let allowed = HeaderValue::from_static("GET, HEAD");
            return (with(response, ALLOW, allowed), "method");
        }
        let text = |name| {
            let values = request.headers().get_all(name).iter();
            let texts: Vec<_> = values.filter_map(|value| value.to_str().ok()).collect();
            texts.join(",")
        };
        let form = Form {
            format: Format::wanted(&text(ACCEPT)),
            gzip: takes_gzip(&text(ACCEPT_ENCODING)),
            created: self.created,
        };
        let Ok(_turn) = self.renders.acquire().await else {
            return (failed(), "failed");
        };
        let page = self.page.load_full();
        let rendering = tokio::task::spawn_blocking(move || page.render(form, Instant::now()));
        let Ok(Ok(body)) = rendering.await else {
            return (failed(), "failed");
        };
        let response = Response::new(Full::new(body.into()));
        let kind = HeaderValue::from_static(form.format.content_type());
        let response = with(response, CONTENT_TYPE, kind);
        let vary = HeaderValue::from_static("Accept, Accept-Encoding");
        let response = with(response, VARY, vary);
        let response = match form.gzip {
            true => with(response, CONTENT_ENCODING, HeaderValue::from_static("gzip")),
            false => response,
        };
        (response, "answered")
    }
}

fn failed() -> Response<Full<Bytes>> {
    let words = "the page could not be written\n".to_owned();
    words_of(StatusCode::INTERNAL_SERVER_ERROR, words)
}

fn words_of(status: StatusCode, words: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(words.into()));
    *response.status_mut() = status;
    response
}

fn with(
    mut response: Response<Full<Bytes>>,
    name: HeaderName,
    value: HeaderValue,
) -> Response<Full<Bytes>> {
    response.headers_mut().insert(name, value);
    response
}

/// The door of a sink, with nothing to show as yet.
pub(super) fn door(sink: &str, path: &str, guard: Guard, created: bool) -> Door {
    Door {
        sink: sink.into(),
        path: path.to_owned(),
        guard,
        created,
        page: ArcSwap::from_pointee(Page::empty()),
        renders: Semaphore::new(RENDERED_AT_ONCE),
    }
}
