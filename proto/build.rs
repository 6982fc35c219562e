//! Compiles the `.proto` files with a compiler written in Rust: building needs no `protoc`.

use std::error::Error;

use tonic_build::manual::{Builder, Method, Service};

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=proto");
    let files = protox::compile(
        [
            "tdigest/tdigest.proto",
            "metricpb/metric.proto",
            "forwardrpc/forward.proto",
        ],
        ["proto"],
    )?;
    // Messages only: the service below carries undecoded bytes.
    tonic_prost_build::configure()
        .build_client(false)
        .build_server(false)
        .bytes(".")
        .compile_fds(files)?;
    Builder::new().compile(&[forward_service()]);
    Ok(())
}

/// `forwardrpc.Forward` with requests and responses as the bytes that they are on the wire.
fn forward_service() -> Service {
    let method = |name: &str, route: &str| {
        Method::builder()
            .name(name)
            .route_name(route)
            .input_type("bytes::Bytes")
            .output_type("bytes::Bytes")
            .codec_path("crate::raw::RawCodec")
    };
    Service::builder()
        .name("Forward")
        .package("forwardrpc")
        .comment("The forwarding service on undecoded messages: requests are wire bytes, the answer is empty.")
        .method(method("send_metrics", "SendMetrics").build())
        .method(
            method("send_metrics_v2", "SendMetricsV2")
                .client_streaming()
                .build(),
        )
        .build()
}
