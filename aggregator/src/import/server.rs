//! The import server: the gRPC service on one listener, with or without TLS.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tributary_node::grpc::{self, GrpcSettings};
use tributary_node::tls::Incoming;

use super::grpc::service;
use super::intake::Intake;

/// Serves imports until `stop`; after that no connection is accepted, and calls under way may take until `grace` is over.
///
/// A proxy's stream has no end of its own, so that only `grace` bounds it.
pub async fn serve(
    incoming: impl Into<Incoming>,
    intake: Arc<Intake>,
    settings: GrpcSettings,
    stop: CancellationToken,
    grace: Duration,
) -> Result<(), tonic::transport::Error> {
    let serving = grpc::server(&settings)
        .add_service(service(intake, &settings))
        .serve_with_incoming_shutdown(incoming.into(), stop.clone().cancelled_owned());
    let over = async {
        stop.cancelled().await;
        tokio::time::sleep(grace).await;
    };
    tokio::select! {
        ended = serving => ended,
        () = over => Ok(()),
    }
}
