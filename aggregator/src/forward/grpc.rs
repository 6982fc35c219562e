//! One destination over gRPC: a connection that is made anew when it breaks, and the two methods.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};
use tonic::metadata::MetadataMap;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};
use tributary_node::tls::{Connector, Dialer};
use tributary_proto::ack::{self, Unacknowledged};
use tributary_proto::raw::forward_client::ForwardClient;
use tributary_proto::scan;

use super::HOP;
use super::address::{Address, AddressError};
use super::batch::Batch;
use super::event::{AcknowledgementUnreadable, StreamOnly};
use super::outcome::{Failure, Fate, Repeats, chain, is_unanswered_success, is_unimplemented};
use super::unix_milliseconds;

/// A connection must come about within this part of the timeout: requests that wait for it keep most of theirs for the answer.
const CONNECT_PART: u32 = 5;

/// A connection to one destination. Connecting is apart from sending, so that a failure to connect is known to have sent nothing.
#[derive(Debug)]
pub(super) struct GrpcLink {
    name: String,
    endpoint: Endpoint,
    dialer: Dialer,
    timeout: Duration,
    /// Set for good once the destination answers that it has no unary method.
    stream_only: AtomicBool,
    /// Whether the last answer that told said that repeats are recognised.
    recognises: AtomicBool,
    connection: Mutex<Connection>,
}

/// A connection, and what was heard through it. Another one may lead to another receiver.
#[derive(Debug, Clone)]
struct Line {
    channel: Channel,
    /// Counts connections: only the one that failed is forgotten.
    number: u64,
    heard: Arc<Heard>,
}

#[derive(Debug, Default)]
struct Connection {
    line: Option<Line>,
    /// The number of the last line.
    number: u64,
    /// Why and when connecting failed last: those that waited meanwhile need not try for themselves.
    failed: Option<(Instant, Failure)>,
}

impl GrpcLink {
    pub(super) fn new(
        address: &Address,
        deadline: Duration,
        tls: &Option<Connector>,
        stream_only: bool,
    ) -> Result<Self, AddressError> {
        let invalid = |error: tonic::transport::Error| AddressError::Invalid {
            address: address.name.clone(),
            reason: error.to_string(),
        };
        // No HTTP/2 pings: a Go server takes more than one in five minutes for abuse. A connection that does not answer in time is left.
        let endpoint = Endpoint::from_shared(address.base.clone())
            .map_err(invalid)?
            .connect_timeout(deadline / CONNECT_PART);
        let dialer = Dialer::new(HOP, tls.clone()).tcp_keepalive(Duration::from_secs(30));
        Ok(Self {
            name: address.name.clone(),
            endpoint,
            dialer,
            timeout: deadline,
            stream_only: AtomicBool::new(stream_only),
            recognises: AtomicBool::new(false),
            connection: Mutex::default(),
        })
    }

    /// Sends a batch by the method that the destination knows.
    pub(super) async fn deliver(&self, batch: &Batch) -> Result<(), Failure> {
        if !self.stream_only.load(Ordering::Relaxed) {
            match self.call(Method::Unary, Some(batch)).await {
                Err(Failed::NotImplemented) => {
                    if !self.stream_only.swap(true, Ordering::Relaxed) {
                        let destination = &self.name;
                        StreamOnly { destination }.emit();
                    }
                }
                Err(Failed::Otherwise(failure)) => return Err(failure),
                Ok(()) => return Ok(()),
            }
        }
        match self.call(Method::Stream, Some(batch)).await {
            Ok(()) => Ok(()),
            Err(Failed::Otherwise(failure)) => Err(failure),
            Err(Failed::NotImplemented) => Err(Failure::grpc(
                &Status::unimplemented("neither SendMetrics nor SendMetricsV2"),
                true,
            )),
        }
    }

    /// Asks whether the destination answers at all, without risking a metric: an empty list.
    pub(super) async fn probe(&self) -> Result<(), Failure> {
        match self.call(Method::Unary, None).await {
            Ok(()) | Err(Failed::NotImplemented) => Ok(()),
            Err(Failed::Otherwise(failure))
                if matches!(failure.fate, Fate::Denied | Fate::Unfit) =>
            {
                Ok(())
            }
            Err(Failed::Otherwise(failure)) => Err(failure),
        }
    }

    /// Whether the destination has said that it recognises repeats.
    pub(super) fn recognises_repeats(&self) -> bool {
        self.recognises.load(Ordering::Relaxed)
    }

    /// One call, with a batch or to ask. A batch that may have been taken before is sent only where that would be recognised.
    async fn call(&self, method: Method, batch: Option<&Batch>) -> Result<(), Failed> {
        let line = self.connect().await?;
        if batch.is_some_and(|batch| batch.uncertain) {
            if line.heard.repeats() == Repeats::Unsaid
                && let Err(Failed::Otherwise(failure)) =
                    self.exchange(&line, Method::Unary, None).await
            {
                // That it was asked in vain says nothing about the batch, which was not sent.
                return Err(Failure {
                    fate: Fate::NotTaken,
                    ..failure
                }
                .into());
            }
            if line.heard.repeats() != Repeats::Recognised {
                return Err(Failure::not_tried().into());
            }
        }
        self.exchange(&line, method, batch).await
    }

    async fn exchange(
        &self,
        line: &Line,
        method: Method,
        batch: Option<&Batch>,
    ) -> Result<(), Failed> {
        if let Some(batch) = batch {
            batch.sent.store(true, Ordering::Relaxed);
        }
        let answer = timeout(self.timeout, method.call(line.channel.clone(), batch)).await;
        let failure = match answer {
            Ok(Ok(metadata)) => {
                line.heard.note(true, &metadata);
                self.recognises.store(
                    line.heard.repeats() == Repeats::Recognised,
                    Ordering::Relaxed,
                );
                return Ok(());
            }
            Ok(Err(status)) if is_unimplemented(&status) => return Err(Failed::NotImplemented),
            Ok(Err(status)) => {
                let of_transport = std::error::Error::source(&status).is_some();
                let mut failure = Failure::grpc(&status, method == Method::Stream);
                if !of_transport {
                    // The destination's own answer: the connection is sound.
                    line.heard.note(false, status.metadata());
                    if line.heard.repeats() == Repeats::Recognised {
                        self.recognises.store(true, Ordering::Relaxed);
                        let metrics = batch.map_or(0, |batch| batch.metrics);
                        failure.left = self.unacknowledged(status.metadata(), metrics);
                        if failure.fate == Fate::TurnedAway
                            && ack::read_turned_away(status.metadata())
                        {
                            failure.fate = Fate::Spared;
                        }
                    }
                    return Err(failure.with(line.heard.repeats()).into());
                }
                failure
            }
            Err(_) => Failure::deadline(),
        };
        self.forget(line.number).await;
        Err(failure.with(line.heard.repeats()).into())
    }

    /// What an answer says about the request's metrics.
    fn unacknowledged(&self, metadata: &MetadataMap, metrics: u32) -> Option<Unacknowledged> {
        Unacknowledged::read(metadata, metrics).unwrap_or_else(|error| {
            AcknowledgementUnreadable {
                destination: &self.name,
                error,
            }
            .emit();
            None
        })
    }

    /// The connection; makes one if there is none.
    async fn connect(&self) -> Result<Line, Failure> {
        let since = Instant::now();
        let mut connection = self.connection.lock().await;
        if let Some(line) = &connection.line {
            return Ok(line.clone());
        }
        if let Some((when, failure)) = &connection.failed
            && *when >= since
        {
            return Err(failure.clone());
        }
        match self.open().await {
            Ok(channel) => {
                connection.number += 1;
                let line = Line {
                    channel,
                    number: connection.number,
                    heard: Arc::default(),
                };
                connection.line = Some(line.clone());
                Ok(line)
            }
            Err(failure) => {
                connection.failed = Some((Instant::now(), failure.clone()));
                Err(failure)
            }
        }
    }

    /// A new connection. By TLS it stands once the destination has said a first word: until then it may still refuse our certificate, and nobody
    /// must have sent metrics in vain.
    async fn open(&self) -> Result<Channel, Failure> {
        let dialer = self.dialer.with_proof();
        let channel = self
            .endpoint
            .connect_with_connector(dialer.clone())
            .await
            .map_err(|error| Failure::connect(chain(&error)))?;
        if dialer.is_secure()
            && let Some(mut proof) = dialer.proof()
        {
            match timeout(self.timeout / CONNECT_PART, proof.wait()).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => return Err(Failure::connect(error)),
                Err(_) => return Err(Failure::connect("the destination says nothing by TLS")),
            }
        }
        Ok(channel)
    }

    /// Leaves a connection that failed. Calls under way on it go on until their own end.
    async fn forget(&self, number: u64) {
        let mut connection = self.connection.lock().await;
        if connection.number == number {
            connection.line = None;
        }
    }
}

/// What a receiver has said about repeats. Whoever says that it recognises them does so for good; that it does not shows only where it
/// takes something and does not say so, because others may answer in its place when it fails.
#[derive(Debug, Default)]
struct Heard(AtomicU8);

impl Heard {
    const NO: u8 = 1;
    const YES: u8 = 2;

    fn note(&self, ok: bool, metadata: &MetadataMap) {
        if ack::read_dedup(metadata) {
            self.0.store(Self::YES, Ordering::Relaxed);
        } else if ok {
            self.0.fetch_max(Self::NO, Ordering::Relaxed);
        }
    }

    fn repeats(&self) -> Repeats {
        match self.0.load(Ordering::Relaxed) {
            Self::YES => Repeats::Recognised,
            Self::NO => Repeats::NotRecognised,
            _ => Repeats::Unsaid,
        }
    }
}

/// How a call failed.
#[derive(Debug)]
enum Failed {
    /// The destination does not know the method, and has taken nothing.
    NotImplemented,
    Otherwise(Failure),
}

impl From<Failure> for Failed {
    fn from(failure: Failure) -> Self {
        Self::Otherwise(failure)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Method {
    /// The whole list as one message.
    Unary,
    /// One stream, each metric a message.
    Stream,
}

impl Method {
    /// Gives the answer's metadata.
    async fn call(self, channel: Channel, batch: Option<&Batch>) -> Result<MetadataMap, Status> {
        let mut client = ForwardClient::new(channel);
        let body = batch.map(|batch| batch.body.clone()).unwrap_or_default();
        let answer = match self {
            Self::Unary => client.send_metrics(of_flush(batch, body)).await?,
            Self::Stream => {
                let metrics: Vec<Bytes> = scan::frames(&body)
                    .map_err(|error| Status::invalid_argument(error.to_string()))?
                    .collect();
                let stream = of_flush(batch, tokio_stream::iter(metrics));
                match client.send_metrics_v2(stream).await {
                    Err(status) if is_unanswered_success(&status) => return Ok(MetadataMap::new()),
                    answer => answer?,
                }
            }
        };
        Ok(answer.into_parts().0)
    }
}

/// A request that says when the batch's flush took place, where that matters.
fn of_flush<T>(batch: Option<&Batch>, message: T) -> Request<T> {
    let mut request = Request::new(message);
    if let Some(batch) = batch
        && let Some(moment) = batch.owners.moment(unix_milliseconds(SystemTime::now()))
    {
        ack::write_flushed_at(request.metadata_mut(), moment);
    }
    request
}
