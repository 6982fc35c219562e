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
            "opentelemetry/proto/collector/metrics/v1/metrics_service.proto",
        ],
        ["proto"],
    )?;
    // Messages only: the services below carry undecoded bytes.
    tonic_prost_build::configure()
        .build_client(false)
        .build_server(false)
        .bytes(".")
        // Written for other readers than rustdoc's.
        .disable_comments([".opentelemetry"])
        .compile_fds(files)?;
    Builder::new().compile(&[forward_service(), metrics_service()]);
    Ok(())
}

/// OTLP's `MetricsService`, likewise: a sender knows the length of what it sends, and a receiver says itself what is wrong with a message.
fn metrics_service() -> Service {
    let method = Method::builder()
        .name("export")
        .route_name("Export")
        .input_type("bytes::Bytes")
        .output_type("bytes::Bytes")
        .codec_path("crate::raw::RawCodec");
    Service::builder()
        .name("MetricsService")
        .package("opentelemetry.proto.collector.metrics.v1")
        .comment("OTLP's service for metrics on undecoded messages.")
        .method(method.build())
        .build()
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
