//! `forwardrpc.Forward`: both of Veneur's methods, on undecoded bytes.
//!
//! To a sender that stamps its metrics an answer to the unary method means that they are merged, or says which of them are not known to be
//! (see [`tributary_proto::ack`]), and whether those are known not to be. To others, and for streams, it means that the metrics are queued for their destinations.
//!
//! A list that is not framed right is refused whole; a metric that cannot be routed costs only itself, and counts as acknowledged, since
//! repeating it is of no use. While no destination is known everything is refused as `Unavailable`, so that a sender that can keep its metrics
//! does.

use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use http::{HeaderMap, Request, Response};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::Service;
use tonic::metadata::MetadataMap;
use tonic::server::NamedService;
use tributary_node::grpc::GrpcSettings;
use tributary_proto::ack::{self, Unacknowledged};
use tributary_proto::raw::forward_server::SERVICE_NAME;
use tributary_proto::repeats::RepeatsRecognised;
use tributary_proto::scan;

use super::Activity;
use super::body::{self, Arrived};
use crate::event::{Protocol, RequestAcknowledged, RequestRefused, RequestServed};
use crate::ledger::Ledger;
use crate::receipt::Settled;
use crate::route::{NoDestination, Refused, Router, Taken, Waiting};

/// Metrics of a stream that are routed in one go, if so many have arrived.
const STRETCH: usize = 1024;

/// Once the proxy is leaving, a stream ends after this long without a metric. Streams of an agent end with its flush; one of another proxy
/// never does.
const SILENCE: Duration = Duration::from_millis(500);

/// The service, ready to be added to a [`tributary_node::grpc::server`]. Senders of stamped metrics are answered within `ack_timeout`. `stop`
/// ends idle streams.
pub(crate) fn service(
    router: Arc<Router>,
    settings: &GrpcSettings,
    ack_timeout: watch::Receiver<Duration>,
    activity: Arc<Activity>,
    stop: CancellationToken,
) -> RepeatsRecognised<Ingest> {
    RepeatsRecognised(Ingest {
        router,
        max_message: settings.max_message,
        ack_timeout,
        activity,
        stop,
    })
}

/// See the module.
#[derive(Debug, Clone)]
pub struct Ingest {
    router: Arc<Router>,
    max_message: usize,
    ack_timeout: watch::Receiver<Duration>,
    activity: Arc<Activity>,
    stop: CancellationToken,
}

impl NamedService for Ingest {
    const NAME: &'static str = SERVICE_NAME;
}

/// Both methods by hand, since the bytes of a request are looked at where they are instead of in a copy.
impl Service<Request<Body>> for Ingest {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let ingest = self.clone();
        Box::pin(async move {
            let (head, body) = request.into_parts();
            let answer = match body::uncompressed(&head.headers) {
                Err(status) => Err(status),
                Ok(()) => match head.uri.path() {
                    "/forwardrpc.Forward/SendMetrics" => {
                        ingest.send_metrics(head.headers, body).await
                    }
                    "/forwardrpc.Forward/SendMetricsV2" => ingest.send_metrics_v2(body).await,
                    path => Err(Status::unimplemented(format!("there is no method {path}"))),
                },
            };
            Ok(match answer {
                Ok(()) => body::fine(),
                Err(status) => status.into_http(),
            })
        })
    }
}

impl Ingest {
    async fn send_metrics(&self, headers: HeaderMap, body: Body) -> Result<(), Status> {
        let pieces = body::list(body, self.max_message).await?;
        let start = Instant::now();
        let _lasting = self.activity.begin();
        let protocol = Protocol::Unary;
        let flushed_at = ack::read_flushed_at(&MetadataMap::from_headers(headers));
        let list = scan::Pieces::new(pieces).map_err(|error| {
            let detail = error.to_string();
            refuse(protocol, "framing", &detail);
            Status::invalid_argument(detail)
        })?;
        let ack_timeout = *self.ack_timeout.borrow();
        let count = u32::try_from(list.len()).unwrap_or(u32::MAX);
        let taken = self
            .router
            .take(list.entries(), list.bytes(), flushed_at, ack_timeout);
        // Nobody holds on to the request while it waits.
        drop(list);
        let answer = match taken {
            Ok(Taken::Queued) => Ok(()),
            Ok(Taken::Waiting(waiting)) => acknowledge(self.router.ledger(), waiting).await,
            Err(Refused::NoDestination(error)) => {
                Err(turned_away(unavailable(protocol, error), count))
            }
            Err(full @ Refused::Full) => {
                let detail = full.to_string();
                refuse(protocol, "total_full", &detail);
                Err(turned_away(Status::resource_exhausted(detail), count))
            }
        };
        let took = start.elapsed();
        RequestServed { protocol, took }.emit();
        answer
    }

    async fn send_metrics_v2(&self, body: Body) -> Result<(), Status> {
        let start = Instant::now();
        let _lasting = self.activity.begin();
        // In a task of its own: when the connection breaks, the handler ends at once, but what is received already is still read here.
        let reading = tokio::spawn(read(
            body,
            self.max_message,
            self.router.clone(),
            self.stop.clone(),
        ));
        reading
            .await
            .map_err(|error| Status::internal(error.to_string()))??;
        let (protocol, took) = (Protocol::Stream, start.elapsed());
        RequestServed { protocol, took }.emit();
        Ok(())
    }
}

/// Waits until it is known what became of a request's metrics.
async fn acknowledge(ledger: &Ledger, waiting: Waiting) -> Result<(), Status> {
    let Waiting {
        receipt,
        metrics,
        held,
    } = waiting;
    // The sender may go away meanwhile.
    let gone = Gone { ledger, metrics };
    let Settled { left, turned_away } = receipt.wait().await;
    drop((gone, held));
    let unacknowledged = u64::from(left.positions());
    let acknowledged = metrics.saturating_sub(unacknowledged);
    ledger.intake(|intake| {
        intake.acknowledged += acknowledged;
        intake.unacknowledged += unacknowledged;
    });
    RequestAcknowledged {
        acknowledged,
        unacknowledged,
    }
    .emit();
    if left.is_empty() {
        return Ok(());
    }
    Err(not_merged(&left, turned_away, metrics))
}

/// Takes a request off the books of those that wait, however it ends.
struct Gone<'a> {
    ledger: &'a Ledger,
    metrics: u64,
}

impl Drop for Gone<'_> {
    fn drop(&mut self) {
        self.ledger.intake(|intake| intake.waiting -= self.metrics);
    }
}

/// Nothing of a request was taken.
fn turned_away(mut status: Status, metrics: u32) -> Status {
    ack::write_turned_away(status.metadata_mut(), &Unacknowledged::all(metrics));
    status
}

fn not_merged(left: &Unacknowledged, turned_away: bool, metrics: u64) -> Status {
    let mut status = Status::unavailable(format!(
        "{} of {metrics} metrics are not known to be merged",
        left.positions()
    ));
    match turned_away {
        true => ack::write_turned_away(status.metadata_mut(), left),
        false => left.write(status.metadata_mut()),
    }
    status
}

/// Routes a stream's metrics as they arrive, as many at a time as there are.
async fn read(
    mut body: Body,
    max_message: usize,
    router: Arc<Router>,
    stop: CancellationToken,
) -> Result<(), Status> {
    let protocol = Protocol::Stream;
    let mut arrived = Arrived::new(max_message);
    loop {
        let read = next(&mut arrived, &mut body, &stop).await;
        if arrived.messages().len() > 0 {
            router
                .route(protocol, arrived.messages())
                .map_err(|error| unavailable(protocol, error))?;
            arrived.clear();
        }
        let ended = read.inspect_err(|status| refuse(protocol, "stream", status.message()))?;
        if ended {
            return Ok(());
        }
    }
}

/// Waits for messages. Returns whether there will be no more: the body has ended, or the proxy is leaving and the sender is silent.
async fn next(
    arrived: &mut Arrived,
    body: &mut Body,
    stop: &CancellationToken,
) -> Result<bool, Status> {
    let mut silence = pin!(async {
        stop.cancelled().await;
        tokio::time::sleep(SILENCE).await;
    });
    poll_fn(|context| match arrived.poll_read(body, STRETCH, context) {
        Poll::Pending => silence.as_mut().poll(context).map(|()| Ok(true)),
        read => read,
    })
    .await
}

fn unavailable(protocol: Protocol, error: NoDestination) -> Status {
    let detail = error.to_string();
    refuse(protocol, "no_destination", &detail);
    Status::unavailable(detail)
}

fn refuse(protocol: Protocol, cause: &'static str, detail: &str) {
    RequestRefused {
        protocol,
        cause,
        detail,
    }
    .emit();
}
