//! OpenTelemetry's protocol (OTLP) for metrics: its messages, and the gRPC service on undecoded bytes.
//!
//! Generated from the published `.proto` files, release v1.11.0 of <https://github.com/open-telemetry/opentelemetry-proto>, as they are. The crate
//! `opentelemetry-proto` has the same types, but with those of metrics come OpenTelemetry's API and SDK, of which nothing is used here.

pub use generated::opentelemetry::proto::collector::metrics::v1 as collector;
pub use generated::opentelemetry::proto::common::v1 as common;
pub use generated::opentelemetry::proto::metrics::v1 as metrics;
pub use generated::opentelemetry::proto::resource::v1 as resource;
pub use service::{metrics_service_client, metrics_service_server};

/// One level for each of the package's: the messages name each other by them.
#[allow(
    missing_docs,
    unreachable_pub,
    rustdoc::all,
    clippy::all,
    reason = "generated code"
)]
mod generated {
    pub mod opentelemetry {
        pub mod proto {
            pub mod common {
                pub mod v1 {
                    include!(concat!(
                        env!("OUT_DIR"),
                        "/opentelemetry.proto.common.v1.rs"
                    ));
                }
            }
            pub mod resource {
                pub mod v1 {
                    include!(concat!(
                        env!("OUT_DIR"),
                        "/opentelemetry.proto.resource.v1.rs"
                    ));
                }
            }
            pub mod metrics {
                pub mod v1 {
                    include!(concat!(
                        env!("OUT_DIR"),
                        "/opentelemetry.proto.metrics.v1.rs"
                    ));
                }
            }
            pub mod collector {
                pub mod metrics {
                    pub mod v1 {
                        include!(concat!(
                            env!("OUT_DIR"),
                            "/opentelemetry.proto.collector.metrics.v1.rs"
                        ));
                    }
                }
            }
        }
    }
}

#[allow(
    clippy::default_constructed_unit_structs,
    missing_docs,
    unreachable_pub,
    reason = "generated code"
)]
mod service {
    include!(concat!(
        env!("OUT_DIR"),
        "/opentelemetry.proto.collector.metrics.v1.MetricsService.rs"
    ));
}
