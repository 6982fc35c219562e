//! Legacy JSON: each connection has one request under way.

use std::io;

use bytes::Bytes;
use serde_json::json;

use super::pace::Pace;
use super::{Shared, Workload};
use crate::tier::post;

/// A body of `/import`, and how many metrics it has.
pub(super) type Body = (Bytes, usize);

/// All series once, as counters (what every version of the legacy format can say), in lists of `batch`.
pub(super) fn bodies(workload: &Workload, batch: usize) -> io::Result<Vec<Body>> {
    let all: Vec<usize> = (0..workload.series).collect();
    all.chunks(batch.max(1))
        .map(|chunk| {
            let metrics: Vec<_> = chunk
                .iter()
                .map(|series| counter(workload, *series))
                .collect();
            Ok((serde_json::to_vec(&metrics)?.into(), chunk.len()))
        })
        .collect()
}

fn counter(workload: &Workload, series: usize) -> serde_json::Value {
    use base64::Engine as _;
    let tags = workload.tags(series);
    // A counter's value: eight bytes, little end first.
    let value = base64::engine::general_purpose::STANDARD.encode(1_i64.to_le_bytes());
    json!({
        "name": workload.name(series),
        "type": "counter",
        "tagstring": tags.join(","),
        "tags": tags,
        "value": value,
    })
}

pub(super) async fn send(
    to: &str,
    bodies: &[Body],
    first: usize,
    rate: Option<f64>,
    shared: &Shared,
) -> io::Result<()> {
    let mut pace = Pace::new(rate);
    for (body, metrics) in bodies
        .iter()
        .cycle()
        .skip(first * bodies.len() / 4 % bodies.len())
    {
        if shared.is_stopped() {
            break;
        }
        tokio::time::sleep(pace.next(*metrics)).await;
        let headers = [("content-type", "application/json")];
        let answer = post(to, "/import", &headers, body.clone()).await?;
        if !answer.status.is_success() {
            let text = answer.text();
            return Err(io::Error::other(format!(
                "/import: {} {text}",
                answer.status
            )));
        }
        shared.count(*metrics);
    }
    Ok(())
}
