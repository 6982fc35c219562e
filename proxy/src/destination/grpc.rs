//! One gRPC connection to a destination.
//!
//! The two calls of `forwardrpc.Forward` are made directly on hyper's HTTP/2: a batch is one gRPC message already, so it goes to the socket
//! without being copied again, and an error says whether the request was sent at all, which decides whether it may be repeated.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, Response, Uri, header};
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming};
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tonic::metadata::MetadataMap;
use tributary_node::tls::{Proof, Stream};
use tributary_proto::ack::{self, Unacknowledged};

use super::outcome::{Answer, Failure, Outcome, chain};
use super::{HOP, Tls};

/// The methods of `forwardrpc.Forward`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Method {
    /// One message: a list of metrics.
    Unary,
    /// Each metric a message of its own.
    Stream,
}

/// A request's time after which a silent connection is tried with a ping, and again as long until it counts as dead.
const KEEPALIVE: Duration = Duration::from_secs(10);

/// An answer is a few bytes; one that does not end here is none of this service.
const LONGEST_ANSWER: usize = 64 << 10;

/// See the module.
#[derive(Debug)]
pub(super) struct Connection {
    sender: SendRequest<Message>,
    unary: Uri,
    stream: Uri,
    closed: CancellationToken,
    proof: Proof,
}

impl Connection {
    /// Connects to `address`, a host and a port.
    pub(super) async fn connect(address: &str, tls: Option<&Tls>) -> Result<Self, Failure> {
        let failed = |detail: String| Failure::new("connect", detail);
        let scheme = if tls.is_some() { "https" } else { "http" };
        let uri = |method: &str| {
            format!("{scheme}://{address}/forwardrpc.Forward/{method}")
                .parse::<Uri>()
                .map_err(|error| failed(format!("is no address: {error}")))
        };
        let (unary, stream) = (uri("SendMetrics")?, uri("SendMetricsV2")?);
        let socket = TcpStream::connect(address)
            .await
            .map_err(|error| failed(error.to_string()))?;
        // A batch is complete when it is written: nothing is gained by waiting for more.
        let _ = socket.set_nodelay(true);
        let io = match tls {
            None => Stream::plain_to(HOP, address, socket),
            Some(tls) => {
                let connected = tls.grpc.connect(address, socket).await;
                connected.map_err(|error| failed(error.to_string()))?
            }
        };
        let mut proof = io.proof();
        let (sender, connection) = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            // Only while a request waits: Go's servers end connections that are pinged without need.
            .keep_alive_interval(KEEPALIVE)
            .keep_alive_timeout(KEEPALIVE)
            .max_send_buf_size(1 << 20)
            .handshake(TokioIo::new(io))
            .await
            .map_err(|error| failed(chain(&error)))?;
        let closed = CancellationToken::new();
        let ended = closed.clone().drop_guard();
        tokio::spawn(async move {
            // How it ended, each request on it learns for itself.
            let _ = connection.await;
            drop(ended);
        });
        if tls.is_some() {
            // Only its first frame says that the server has accepted our certificate.
            let word = proof.wait().await;
            word.map_err(|error| failed(error.to_string()))?;
        }
        Ok(Self {
            proof,
            sender,
            unary,
            stream,
            closed,
        })
    }

    /// Completes when the connection is gone.
    pub(super) async fn closed(&self) {
        self.closed.cancelled().await;
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.is_cancelled() || self.sender.is_closed()
    }

    /// Makes one call with `body`, whole gRPC messages, and waits for the answer.
    pub(super) async fn call(&self, method: Method, body: Bytes) -> Answer {
        let mut sender = self.sender.clone();
        let uri = match method {
            Method::Unary => self.unary.clone(),
            Method::Stream => self.stream.clone(),
        };
        let mut request = Request::post(uri);
        if let Some(headers) = request.headers_mut() {
            let value = header::HeaderValue::from_static;
            headers.insert(header::CONTENT_TYPE, value("application/grpc"));
            headers.insert(header::TE, value("trailers"));
            headers.insert(header::USER_AGENT, value("tributary-proxy"));
        }
        let request = match request.body(Message(Some(body))) {
            Ok(request) => request,
            Err(error) => {
                return Outcome::Refused(Failure::new("request", error.to_string())).into();
            }
        };
        if let Err(error) = sender.ready().await {
            return Outcome::NotSent(Failure::new("connection", chain(&error))).into();
        }
        match sender.try_send_request(request).await {
            Ok(response) => answer(response).await,
            Err(mut error) => {
                if let Some(words) = self.proof.refusal() {
                    return Outcome::NotSent(Failure::new("connection", words)).into();
                }
                // hyper hands the request back if it never got as far as the socket.
                let never_sent = error.take_message().is_some();
                let outcome = Outcome::of_error(error.error());
                match outcome {
                    Outcome::Unknown(failure) if never_sent => Outcome::NotSent(failure).into(),
                    outcome => outcome.into(),
                }
            }
        }
    }
}

/// Reads the status, which follows the answer's message or stands in place of it.
async fn answer(response: Response<Incoming>) -> Answer {
    let (head, mut body) = response.into_parts();
    let dedup = recognises_repeats(&head.headers);
    if head.status != http::StatusCode::OK {
        return Outcome::of_http_status(head.status).into();
    }
    if let Some(outcome) = status(&head.headers) {
        return Answer {
            outcome,
            dedup,
            turned_away: turned_away(&head.headers),
        };
    }
    let mut length = 0;
    while let Some(frame) = body.frame().await {
        match frame {
            Err(error) => return Outcome::of_error(&error).into(),
            Ok(frame) => {
                if let Some(trailers) = frame.trailers_ref()
                    && let Some(outcome) = status(trailers)
                {
                    let dedup = dedup || recognises_repeats(trailers);
                    let turned_away = turned_away(trailers);
                    return Answer {
                        outcome,
                        dedup,
                        turned_away,
                    };
                }
                length += frame.data_ref().map_or(0, Bytes::len);
                if length > LONGEST_ANSWER {
                    break;
                }
            }
        }
    }
    let failure = Failure::new("answer", "answered without a gRPC status");
    Outcome::Unknown(failure).into()
}

fn status(headers: &HeaderMap) -> Option<Outcome> {
    let status = Status::from_header_map(headers)?;
    Some(Outcome::of_status(status.code(), status.message()))
}

/// What the answer vouches for. Without positions it does not say of what it speaks, so it counts as no word.
fn turned_away(headers: &HeaderMap) -> Option<Unacknowledged> {
    if headers
        .get(ack::TURNED_AWAY)
        .is_none_or(|value| value != "1")
    {
        return None;
    }
    let metadata = MetadataMap::from_headers(headers.clone());
    Unacknowledged::read(&metadata, u32::MAX).ok()?
}

fn recognises_repeats(headers: &HeaderMap) -> bool {
    headers.get(ack::DEDUP).is_some_and(|value| value == "1")
}

/// A request's body: one chunk, without a `content-length`, which gRPC clients do not send.
#[derive(Debug)]
struct Message(Option<Bytes>);

impl Body for Message {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.take().map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_none()
    }
}
