//! gRPC's messages out of a request's body, without a copy of what lies in one piece already.
//!
//! A body comes in HTTP/2's DATA frames. A list of metrics is left in the pieces that it came in ([`list`]); of a stream each metric is told by
//! where it lies in its frame ([`Arrived`]). What is small, or lies in two frames, is copied together, so that memory held stays in
//! proportion to bytes received.
//!
//! Reference: <https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>. Compressed messages are refused, as by any server that has
//! not said that it takes them.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body_util::BodyExt;
use hyper::body::Body as _;
use tonic::body::Body;
use tonic::metadata::MetadataValue;
use tonic::{Code, Status};

/// A byte for compression and four for the length.
const PREFIX: usize = 5;

/// What is shorter is copied together with its neighbours: a piece by itself takes memory beside its bytes.
const SMALL: usize = 4 << 10;

/// Refuses a request whose messages say to be compressed.
///
/// # Errors
/// `Unimplemented`, with the only encoding there is.
pub(super) fn uncompressed(headers: &HeaderMap) -> Result<(), Status> {
    let Some(encoding) = headers.get("grpc-encoding") else {
        return Ok(());
    };
    if encoding == "identity" {
        return Ok(());
    }
    let encoding = String::from_utf8_lossy(encoding.as_bytes());
    let mut status = Status::unimplemented(format!(
        "Content is compressed with `{encoding}` which isn't supported"
    ));
    let identity = MetadataValue::from_static("identity");
    status
        .metadata_mut()
        .insert("grpc-accept-encoding", identity);
    Err(status)
}

/// Reads a message's length.
fn length(prefix: [u8; PREFIX], limit: usize) -> Result<usize, Status> {
    let [compressed, length @ ..] = prefix;
    match compressed {
        0 => {}
        1 => {
            return Err(Status::internal(
                "a message is compressed, and the request has no grpc-encoding",
            ));
        }
        flag => {
            return Err(Status::internal(format!(
                "a message has the compression flag {flag}"
            )));
        }
    }
    let length = u32::from_be_bytes(length) as usize;
    if length > limit {
        return Err(Status::resource_exhausted(format!(
            "the message has {length} bytes, and the limit is {limit} bytes"
        )));
    }
    Ok(length)
}

fn cut_off() -> Status {
    Status::internal("the body ends within a message")
}

/// What came next of a body.
enum Part {
    Data(Bytes),
    /// Whether its sender has ended it, rather than given it up.
    End(bool),
}

fn poll_part(body: &mut Body, context: &mut Context<'_>) -> Poll<Result<Part, Status>> {
    let frame = ready!(Pin::new(body).poll_frame(context));
    Poll::Ready(match frame {
        None => Ok(Part::End(true)),
        Some(Ok(frame)) => Ok(match frame.into_data() {
            Ok(data) => Part::Data(data),
            // Trailers are the last that comes.
            Err(_) => Part::End(true),
        }),
        Some(Err(status)) if status.code() == Code::Cancelled => Ok(Part::End(false)),
        Some(Err(status)) => Err(status),
    })
}

// === Lists ===

/// Reads the one message of a body, of at most `limit` bytes, in pieces.
///
/// # Errors
/// What the sender is to be told: the body breaks off, or the message is none or too long.
pub(super) async fn list(mut body: Body, limit: usize) -> Result<Vec<Bytes>, Status> {
    let mut pieces = Pieces::default();
    let mut head = BytesMut::new();
    let mut wanted = None;
    loop {
        let part = std::future::poll_fn(|context| poll_part(&mut body, context)).await?;
        let mut data = match part {
            Part::Data(data) => data,
            Part::End(_) => break,
        };
        if wanted.is_none() {
            head.extend_from_slice(&data.split_to(data.len().min(PREFIX - head.len())));
            if let Ok(prefix) = <[u8; PREFIX]>::try_from(&*head) {
                wanted = Some(length(prefix, limit)?);
            }
        }
        if let Some(wanted) = wanted {
            // There is one message; what may follow has no meaning.
            data.truncate(wanted - pieces.length);
            pieces.push(data);
        }
    }
    match wanted {
        Some(wanted) if wanted == pieces.length => Ok(pieces.into_whole()),
        None if head.is_empty() => Err(Status::internal("the request has no message")),
        _ => Err(cut_off()),
    }
}

#[derive(Debug, Default)]
struct Pieces {
    whole: Vec<Bytes>,
    small: BytesMut,
    length: usize,
}

impl Pieces {
    fn push(&mut self, piece: Bytes) {
        self.length += piece.len();
        if piece.len() < SMALL {
            self.small.extend_from_slice(&piece);
            return;
        }
        self.end_small();
        self.whole.push(piece);
    }

    fn end_small(&mut self) {
        if !self.small.is_empty() {
            self.whole.push(self.small.split().freeze());
        }
    }

    fn into_whole(mut self) -> Vec<Bytes> {
        self.end_small();
        self.whole
    }
}

// === Streams ===

/// The messages of a stream that have arrived and are not dealt with.
#[derive(Debug)]
pub(super) struct Arrived {
    limit: usize,
    frames: Vec<Bytes>,
    spans: Vec<Span>,
    /// A message with its prefix that goes on in the next frame.
    unfinished: BytesMut,
}

/// Where a message lies.
#[derive(Debug, Clone, Copy)]
struct Span {
    frame: u32,
    start: u32,
    end: u32,
}

impl Arrived {
    /// For messages of at most `limit` bytes.
    pub(super) fn new(limit: usize) -> Self {
        Self {
            limit,
            frames: Vec::new(),
            spans: Vec::new(),
            unfinished: BytesMut::new(),
        }
    }

    /// Reads until `most` messages are there or more, or nothing more is at hand and some are. Returns whether the body has ended.
    ///
    /// # Errors
    /// As [`list`]; what had arrived before is there.
    pub(super) fn poll_read(
        &mut self,
        body: &mut Body,
        most: usize,
        context: &mut Context<'_>,
    ) -> Poll<Result<bool, Status>> {
        while self.spans.len() < most {
            match poll_part(body, context) {
                Poll::Ready(Ok(Part::Data(data))) => self.take(data)?,
                Poll::Ready(Ok(Part::End(ended))) => {
                    let whole = !ended || self.unfinished.is_empty();
                    return Poll::Ready(whole.then_some(true).ok_or_else(cut_off));
                }
                Poll::Ready(Err(status)) => return Poll::Ready(Err(status)),
                Poll::Pending if self.spans.is_empty() => return Poll::Pending,
                Poll::Pending => break,
            }
        }
        Poll::Ready(Ok(false))
    }

    /// The messages, in their order.
    pub(super) fn messages(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        self.spans.iter().map(|span| {
            let frame = self.frames.get(span.frame as usize);
            let message = frame.and_then(|frame| frame.get(span.start as usize..span.end as usize));
            message.unwrap_or_default()
        })
    }

    /// They are dealt with.
    pub(super) fn clear(&mut self) {
        self.frames.clear();
        self.spans.clear();
    }

    fn take(&mut self, frame: Bytes) -> Result<(), Status> {
        let mut rest = &frame[..];
        if !self.unfinished.is_empty() {
            rest = self.finish(rest)?;
        }
        let spans = self.spans.len();
        let number = self.frames.len() as u32;
        // What was wrong is found after what came before it.
        let result = loop {
            let Some((prefix, after)) = rest.split_first_chunk() else {
                break Ok(());
            };
            let length = match length(*prefix, self.limit) {
                Ok(length) => length,
                Err(status) => break Err(status),
            };
            let Some((_, left)) = after.split_at_checked(length) else {
                break Ok(());
            };
            // No frame of HTTP/2 is longer than 16 MiB.
            let start = (frame.len() - after.len()) as u32;
            let end = start + length as u32;
            self.spans.push(Span {
                frame: number,
                start,
                end,
            });
            rest = left;
        };
        if result.is_ok() {
            self.unfinished.extend_from_slice(rest);
        }
        if self.spans.len() > spans {
            self.frames.push(frame);
        }
        result
    }

    /// Goes on with the unfinished message; what is not its own is left.
    fn finish<'f>(&mut self, mut rest: &'f [u8]) -> Result<&'f [u8], Status> {
        let missing = PREFIX.saturating_sub(self.unfinished.len());
        self.unfinished.extend_from_slice(first(&mut rest, missing));
        let Some((prefix, begun)) = self.unfinished.split_first_chunk() else {
            return Ok(rest);
        };
        let length = length(*prefix, self.limit)?;
        let missing = length - begun.len();
        self.unfinished.extend_from_slice(first(&mut rest, missing));
        let end = PREFIX + length;
        if self.unfinished.len() == end {
            self.spans.push(Span {
                frame: self.frames.len() as u32,
                start: PREFIX as u32,
                // Its length was told with 32 bits, and is below a limit that leaves room for the prefix.
                end: end as u32,
            });
            self.frames.push(self.unfinished.split().freeze());
        }
        Ok(rest)
    }
}

/// Takes up to this many bytes off.
fn first<'f>(rest: &mut &'f [u8], bytes: usize) -> &'f [u8] {
    let (taken, left) = rest.split_at(bytes.min(rest.len()));
    *rest = left;
    taken
}

/// The answer to either method: an empty message, and that all is well.
pub(super) fn fine() -> http::Response<Body> {
    let mut trailers = HeaderMap::with_capacity(1);
    trailers.insert(Status::GRPC_STATUS, (Code::Ok as i32).into());
    let message = http_body_util::Full::new(Bytes::from_static(&[0; PREFIX]));
    let body = message.with_trailers(std::future::ready(Some(Ok(trailers))));
    let mut answer = http::Response::new(Body::new(body));
    let kind = tonic::metadata::GRPC_CONTENT_TYPE;
    answer
        .headers_mut()
        .insert(http::header::CONTENT_TYPE, kind);
    answer
}

#[cfg(test)]
mod tests;
