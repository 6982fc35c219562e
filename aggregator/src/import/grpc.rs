//! `forwardrpc.Forward`: both of Veneur's methods.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::FutureExt;
use tokio::task::JoinError;
use tonic::{Request, Response, Status, Streaming};
use tributary_node::grpc::{GrpcSettings, SizeRefusal};
use tributary_proto::ack::{self, Unacknowledged};
use tributary_proto::raw::forward_server::{Forward, ForwardServer};
use tributary_proto::repeats::RepeatsRecognised;
use tributary_proto::scan::{self, FrameError};

use super::event::{RequestRefused, StreamBroken};
use super::intake::{CHUNK, Intake};

/// What Veneur calls the two methods in its metrics.
const UNARY: &str = "grpc-single";
const STREAM: &str = "grpc-stream";

/// What senders are told then.
const LEAVING: &str = "leaving: bring it to another owner";

/// What a leaving global is told whose metrics come too late, or too early by a moment.
const OTHER_INTERVAL: &str =
    "handed over for an interval that is not open: bring it to the owner of the one that is";

/// The service that merges what it receives into an [`Intake`].
#[derive(Debug, Clone)]
pub struct Import {
    intake: Arc<Intake>,
}

/// The import service, ready to be added to a [`tributary_node::grpc::server`].
pub fn service(
    intake: Arc<Intake>,
    settings: &GrpcSettings,
) -> RepeatsRecognised<SizeRefusal<ForwardServer<Import>>> {
    let server = ForwardServer::new(Import { intake });
    RepeatsRecognised(SizeRefusal(
        server.max_decoding_message_size(settings.max_message),
    ))
}

#[tonic::async_trait]
impl Forward for Import {
    /// Answers when every metric of the list is merged, now or by a delivery before, or skipped and counted.
    async fn send_metrics(&self, request: Request<Bytes>) -> Result<Response<Bytes>, Status> {
        let body = request.into_inner();
        let Some(mut tally) = self.intake.open(UNARY) else {
            return self.turn_away(&body);
        };
        // In a task of its own: a caller that gives up must not leave half of the list merged.
        let merging = tokio::spawn(async move {
            let mut metrics = scan::frames(&body)?;
            let mut chunk = Vec::with_capacity(CHUNK.min(metrics.len()));
            while metrics.len() > 0 {
                chunk.extend(metrics.by_ref().take(CHUNK));
                tally.merge_encoded(&mut chunk).await;
            }
            Ok(tally.of_other_intervals())
        });
        let left = merging.await.map_err(ended)?.map_err(badly_framed)?;
        match left.is_empty() {
            true => Ok(Response::new(Bytes::new())),
            false => Err(of_another_interval(&left)),
        }
    }

    /// Merges each metric as it arrives; a stream that breaks leaves what came before it merged.
    async fn send_metrics_v2(
        &self,
        request: Request<Streaming<Bytes>>,
    ) -> Result<Response<Bytes>, Status> {
        let mut stream = request.into_inner();
        let Some(mut tally) = self.intake.open(STREAM) else {
            return Err(leaving(STREAM));
        };
        let intake = Arc::clone(&self.intake);
        // In a task of its own: when the connection breaks, the handler ends at once, but what is received already is still read here.
        tokio::spawn(async move {
            let mut chunk = Vec::with_capacity(CHUNK);
            loop {
                let next = match stream.message().now_or_never() {
                    Some(next) => next,
                    None => {
                        tally.merge_encoded(&mut chunk).await;
                        // A proxy's stream stays open for days: what came is counted when nothing more is there.
                        tally.write();
                        tokio::select! {
                            biased;
                            next = stream.message() => next,
                            () = intake.closed() => return Err(leaving(STREAM)),
                        }
                    }
                };
                match next {
                    Ok(Some(metric)) => chunk.push(metric),
                    last => {
                        tally.merge_encoded(&mut chunk).await;
                        return last.map(drop);
                    }
                }
                if chunk.len() >= CHUNK {
                    tally.merge_encoded(&mut chunk).await;
                }
            }
        })
        .await
        .map_err(ended)?
        .inspect_err(|status| StreamBroken { status }.emit())?;
        Ok(Response::new(Bytes::new()))
    }
}

impl Import {
    /// Answers in the place of an intake that is closed: what was merged before is acknowledged, all else can go elsewhere.
    fn turn_away(&self, body: &Bytes) -> Result<Response<Bytes>, Status> {
        let metrics = scan::frames(body).map_err(badly_framed)?;
        let left = self.intake.unknown(metrics);
        if left.is_empty() {
            return Ok(Response::new(Bytes::new()));
        }
        let mut status = leaving(UNARY);
        ack::write_turned_away(status.metadata_mut(), &left);
        Err(status)
    }
}

/// Nothing more is taken here.
fn leaving(protocol: &'static str) -> Status {
    RequestRefused {
        protocol,
        cause: "leaving",
        detail: LEAVING,
    }
    .emit();
    Status::unavailable(LEAVING)
}

/// All but the positions in `left` is merged, and those will not be.
fn of_another_interval(left: &Unacknowledged) -> Status {
    RequestRefused {
        protocol: UNARY,
        cause: "other_interval",
        detail: OTHER_INTERVAL,
    }
    .emit();
    // Not "unavailable": nothing is wrong with this global, and others' metrics must not wait for it.
    let mut status = Status::failed_precondition(OTHER_INTERVAL);
    ack::write_turned_away(status.metadata_mut(), left);
    status
}

/// Nothing of the list was taken.
fn badly_framed(error: FrameError) -> Status {
    let detail = error.to_string();
    RequestRefused {
        protocol: UNARY,
        cause: error.cause(),
        detail: &detail,
    }
    .emit();
    Status::invalid_argument(detail)
}

/// A merging task that did not reach its end.
fn ended(error: JoinError) -> Status {
    Status::internal(format!("import ended early: {error}"))
}
