//! Unary gRPC: each connection has one request under way.

use std::io;

use bytes::Bytes;
use tonic::transport::{Channel, Endpoint};
use tributary_proto::raw::forward_client::ForwardClient;
use tributary_proto::scan;

use super::pace::Pace;
use super::{Shared, Workload};

/// An encoded `MetricList`, and how many metrics it has.
pub(super) type Body = (Bytes, usize);

/// All series once, in lists of `batch`.
pub(super) fn bodies(workload: &Workload, batch: usize) -> Vec<Body> {
    let all: Vec<usize> = (0..workload.series).collect();
    all.chunks(batch.max(1))
        .map(|chunk| {
            let mut body = Vec::new();
            for series in chunk {
                scan::frame_into(&mut body, &workload.encoded(*series));
            }
            (body.into(), chunk.len())
        })
        .collect()
}

pub(super) async fn connect(to: &str) -> io::Result<ForwardClient<Channel>> {
    let endpoint = Endpoint::from_shared(format!("http://{to}")).map_err(io::Error::other)?;
    let endpoint = endpoint
        .initial_stream_window_size(1 << 20)
        .initial_connection_window_size(4 << 20)
        .tcp_nodelay(true);
    let channel = endpoint.connect().await.map_err(io::Error::other)?;
    Ok(ForwardClient::new(channel).max_encoding_message_size(usize::MAX))
}

pub(super) async fn send(
    mut client: ForwardClient<Channel>,
    bodies: &[Body],
    first: usize,
    rate: Option<f64>,
    shared: &Shared,
) -> io::Result<()> {
    let mut pace = Pace::new(rate);
    // Each connection begins elsewhere, so that they are not at the same series all the time.
    for (body, metrics) in bodies
        .iter()
        .cycle()
        .skip(first * bodies.len() / 4 % bodies.len())
    {
        if shared.is_stopped() {
            break;
        }
        let wait = pace.next(*metrics);
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
        client
            .send_metrics(body.clone())
            .await
            .map_err(io::Error::other)?;
        shared.count(*metrics);
    }
    Ok(())
}
