//! How every gRPC server of ours is set up.
//!
//! Two things are decided here, once, for all of them:
//!
//! **Many small frames.** A Go gRPC client sends each streamed message in a DATA frame of its own, thousands of them in one go. The h2 crate
//! charges a connection `256 - n` bytes for each frame of `n` bytes that the program has not taken yet, and closes it with GOAWAY
//! `too_many_data_frames` once the charge exceeds half of the connection's window. What may lie there untaken is bounded by flow control: at
//! most [`MAX_STREAMS`] streams with [`STREAM_WINDOW`] bytes each. So the stream windows are what limits a peer here, and the connection's
//! window is as large as HTTP/2 allows for the sake of the charge alone: it never admits more bytes than the streams' windows do. What that
//! guarantees is [`SMALLEST_FRAME`]: a peer whose frames are at least that long is never cut off, whatever the program is busy with.
//! (Empty frames that do not end a stream are another matter: h2 allows 100 in a connection's life, and no gRPC client sends them.)
//!
//! **Messages that are too large** are refused as `ResourceExhausted`, which gRPC clients expect, instead of tonic's `OutOfRange`:
//! [`SizeRefusal`].
//!
//! [`serve`] ends connections that have reached their age, and [`health`] is what load balancers and gRPC clients ask.

mod health;
mod serve;

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{HeaderValue, Request, Response};
use tokio::net::TcpListener;
use tonic::Code;
use tonic::codegen::Service;
use tonic::server::NamedService;
use tonic::transport::Server;

use crate::tls::Incoming;

pub use health::health;
pub use serve::serve;

/// What a peer may send on one stream ahead of the program, in bytes.
pub const STREAM_WINDOW: u32 = 512 << 10;

/// Streams that a peer may have open on one connection. A client with more to send waits, or opens another connection.
pub const MAX_STREAMS: u32 = 64;

/// The connection's window, in bytes: HTTP/2's limit less the 65,535 that every connection starts with, for peers whose sums would overflow.
pub const CONNECTION_WINDOW: u32 = (1 << 31) - (1 << 16);

/// The shortest DATA frame, in bytes, of which a peer may send any number at any time.
///
/// A gRPC message takes at least five bytes, and the shortest metric that means something nine more.
pub const SMALLEST_FRAME: u32 = smallest_frame();

/// h2's rule: a frame shorter than this is charged the difference while it waits.
const CHARGED_BELOW: u64 = 256;

/// The largest frame a peer may send, in bytes.
const MAX_FRAME: u32 = 1 << 20;

/// Solves `window / n * (256 - n) <= budget` for the smallest whole `n`.
const fn smallest_frame() -> u32 {
    let window = STREAM_WINDOW as u64 * MAX_STREAMS as u64;
    let budget = CONNECTION_WINDOW as u64 / 2;
    let mut frame = 1;
    while window.div_ceil(frame) * (CHARGED_BELOW - frame) > budget {
        frame += 1;
    }
    frame as u32
}

/// What differs between one server and another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GrpcSettings {
    /// The longest message taken, in bytes; a longer one is refused with `ResourceExhausted`. 64 MiB: Veneur's agents put a whole flush into one.
    pub max_message: usize,
    /// A connection that is silent for so long is pinged, and closed when it does not answer within 20 seconds.
    pub keepalive: Duration,
    /// A connection is asked to close after this time, or up to a fifth earlier or later, so that clients behind a load balancer spread anew.
    /// Zero: never.
    pub max_connection_age: Duration,
    /// How long calls under way may take from then on. What is left then is cut off.
    pub max_connection_age_grace: Duration,
    /// Whether HTTP/1.1 is spoken as well, for routes that are not gRPC's.
    pub http1: bool,
}

impl Default for GrpcSettings {
    fn default() -> Self {
        Self {
            max_message: 64 << 20,
            keepalive: Duration::from_secs(60),
            max_connection_age: Duration::ZERO,
            max_connection_age_grace: Duration::from_secs(30),
            http1: false,
        }
    }
}

/// A server to add services to; give it [`Incoming`] connections. It knows nothing of their age: [`serve`] does.
///
/// The limit on a message is the service's own setting: `ForwardServer::max_decoding_message_size`.
pub fn server(settings: &GrpcSettings) -> Server {
    Server::builder()
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_concurrent_streams(MAX_STREAMS)
        .max_frame_size(MAX_FRAME)
        .http2_keepalive_interval(Some(settings.keepalive))
        .accept_http1(settings.http1)
}

/// The connections of a listener, without TLS and without Nagle's delay.
pub fn incoming(listener: TcpListener) -> Incoming {
    Incoming::new(listener, None)
}

/// A gRPC service whose refusal of a message that is too large has the code `ResourceExhausted`.
///
/// The service itself must not answer `OutOfRange`: that is how the refusal is told.
#[derive(Debug, Clone)]
pub struct SizeRefusal<S>(pub S);

impl<S: NamedService> NamedService for SizeRefusal<S> {
    const NAME: &'static str = S::NAME;
}

impl<S, In, Out> Service<Request<In>> for SizeRefusal<S>
where
    S: Service<Request<In>, Response = Response<Out>>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: Request<In>) -> Self::Future {
        let answer = self.0.call(request);
        Box::pin(async move {
            let mut answer = answer.await?;
            if let Some(status) = answer.headers_mut().get_mut("grpc-status")
                && Code::from_bytes(status.as_bytes()) == Code::OutOfRange
            {
                *status = HeaderValue::from(Code::ResourceExhausted as i32);
            }
            Ok(answer)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_with_the_shortest_metric_is_always_safe() {
        // "a", counter, value 1, scope Global: nine bytes, and gRPC's prefix of five.
        const { assert!(SMALLEST_FRAME <= 5 + 9) };
        let frame = u64::from(SMALLEST_FRAME);
        let untaken = u64::from(STREAM_WINDOW) * u64::from(MAX_STREAMS);
        assert!(untaken / frame * (256 - frame) <= u64::from(CONNECTION_WINDOW) / 2);
    }

    #[test]
    fn a_prefix_and_a_metric_in_frames_of_their_own_are_safe_too() {
        // Some clients send gRPC's prefix by itself: a pair is charged for both.
        let pair = 5 + 11;
        let charge = (256 - 5) + (256 - 11);
        let untaken = u64::from(STREAM_WINDOW) * u64::from(MAX_STREAMS);
        assert!(untaken / pair * charge <= u64::from(CONNECTION_WINDOW) / 2);
    }
}
