//! The import server: the gRPC service, and that of its health, on one listener, with or without TLS.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tributary_node::admin::Readiness;
use tributary_node::grpc::{self, GrpcSettings};
use tributary_node::tls::Incoming;
use tributary_proto::raw::forward_server::SERVICE_NAME;

use super::grpc::service;
use super::intake::Intake;

/// Serves imports until `stop`, and tells whether the program is ready; after that no connection is accepted, and calls under way may take until `grace` is over.
///
/// A proxy's stream has no end of its own, so that only `grace` bounds it.
pub async fn serve(
    incoming: impl Into<Incoming>,
    intake: Arc<Intake>,
    settings: GrpcSettings,
    readiness: Readiness,
    stop: CancellationToken,
    grace: Duration,
) {
    let routes = Routes::new(service(intake, &settings))
        .add_service(grpc::health(&readiness, &[SERVICE_NAME]));
    let serving = grpc::serve(&settings, routes, incoming.into(), stop.clone());
    let over = async {
        stop.cancelled().await;
        tokio::time::sleep(grace).await;
    };
    tokio::select! {
        () = serving => {}
        () = over => {}
    }
}
