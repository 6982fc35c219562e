//! `forwardrpc.Forward`: both of Veneur's methods, on undecoded bytes.
//!
//! To a sender that stamps its metrics an answer to the unary method means that they are merged, or says which of them are not known to be
//! (see [`tributary_proto::ack`]), and whether those are known not to be. To others, and for streams, it means that the metrics are queued for their destinations.
//!
//! A list that is not framed right is refused whole; a metric that cannot be routed costs only itself, and counts as acknowledged, since
//! repeating it is of no use. While no destination is known everything is refused as `Unavailable`, so that a sender that can keep its metrics
//! does.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::FutureExt;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};
use tributary_node::grpc::{GrpcSettings, SizeRefusal};
use tributary_proto::ack::{self, Unacknowledged};
use tributary_proto::raw::forward_server::{Forward, ForwardServer};
use tributary_proto::repeats::RepeatsRecognised;
use tributary_proto::scan;

use super::Activity;
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
) -> RepeatsRecognised<SizeRefusal<ForwardServer<Ingest>>> {
    let ingest = Ingest {
        router,
        ack_timeout,
        activity,
        stop,
    };
    let server = ForwardServer::new(ingest);
    RepeatsRecognised(SizeRefusal(
        server.max_decoding_message_size(settings.max_message),
    ))
}

/// See the module.
#[derive(Debug, Clone)]
pub struct Ingest {
    router: Arc<Router>,
    ack_timeout: watch::Receiver<Duration>,
    activity: Arc<Activity>,
    stop: CancellationToken,
}

#[tonic::async_trait]
impl Forward for Ingest {
    async fn send_metrics(&self, request: Request<Bytes>) -> Result<Response<Bytes>, Status> {
        let start = Instant::now();
        let _lasting = self.activity.begin();
        let protocol = Protocol::Unary;
        let flushed_at = ack::read_flushed_at(request.metadata());
        // Nobody holds on to the request while it waits.
        let list = request.into_inner();
        let metrics = scan::entries(&list).map_err(|error| {
            let detail = error.to_string();
            refuse(protocol, "framing", &detail);
            Status::invalid_argument(detail)
        })?;
        let ack_timeout = *self.ack_timeout.borrow();
        let count = u32::try_from(metrics.len()).unwrap_or(u32::MAX);
        let taken = self
            .router
            .take(metrics, list.len(), flushed_at, ack_timeout);
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
        answer.map(|()| Response::new(Bytes::new()))
    }

    async fn send_metrics_v2(
        &self,
        request: Request<Streaming<Bytes>>,
    ) -> Result<Response<Bytes>, Status> {
        let start = Instant::now();
        let _lasting = self.activity.begin();
        // In a task of its own: when the connection breaks, the handler ends at once, but what is received already is still read here.
        let reading = tokio::spawn(read(
            request.into_inner(),
            self.router.clone(),
            self.stop.clone(),
        ));
        reading
            .await
            .map_err(|error| Status::internal(error.to_string()))??;
        let (protocol, took) = (Protocol::Stream, start.elapsed());
        RequestServed { protocol, took }.emit();
        Ok(Response::new(Bytes::new()))
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
    mut stream: Streaming<Bytes>,
    router: Arc<Router>,
    stop: CancellationToken,
) -> Result<(), Status> {
    let protocol = Protocol::Stream;
    let mut ready: Vec<Bytes> = Vec::with_capacity(STRETCH);
    loop {
        let mut message = next(&mut stream, &stop).await;
        let ended = loop {
            match message {
                Ok(Some(metric)) => ready.push(metric),
                Ok(None) => break Some(Ok(())),
                Err(status) => break Some(Err(status)),
            }
            if ready.len() >= STRETCH {
                break None;
            }
            match stream.message().now_or_never() {
                Some(arrived) => message = arrived,
                None => break None,
            }
        };
        if !ready.is_empty() {
            let metrics = ready.iter().map(|metric| &metric[..]);
            router
                .route(protocol, metrics)
                .map_err(|error| unavailable(protocol, error))?;
            ready.clear();
        }
        if let Some(ended) = ended {
            return ended.inspect_err(|status| refuse(protocol, "stream", status.message()));
        }
    }
}

/// The next message; none once the proxy is leaving and the sender is silent.
fn next(
    stream: &mut Streaming<Bytes>,
    stop: &CancellationToken,
) -> impl Future<Output = Result<Option<Bytes>, Status>> {
    let silence = async {
        stop.cancelled().await;
        tokio::time::sleep(SILENCE).await;
    };
    async {
        tokio::select! {
            biased;
            message = stream.message() => message,
            () = silence => Ok(None),
        }
    }
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
