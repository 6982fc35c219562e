//! The way to a destination: gRPC, or legacy HTTP where the address is a URL.

use std::time::Duration;

use super::Tls;
use super::batch::Load;
use super::grpc::{Connection, Method};
use super::legacy::Legacy;
use super::outcome::{Answer, Failure, Outcome};

/// See the module.
#[derive(Debug)]
#[allow(
    clippy::large_enum_variant,
    reason = "one for each destination, and none is moved about"
)]
pub(super) enum Link {
    Grpc(Connection),
    Legacy(Legacy),
}

impl Link {
    /// Connects, if that takes no longer than `within`.
    pub(super) async fn connect(
        address: &str,
        within: Duration,
        tls: Option<&Tls>,
    ) -> Result<Self, Failure> {
        if address.starts_with("http://") && tls.is_some() {
            let detail = "would go without TLS, which forward_tls asks for";
            return Err(Failure::new("connect", detail));
        }
        if address.starts_with("http://") || address.starts_with("https://") {
            return Legacy::new(address, within, tls).map(Self::Legacy);
        }
        match tokio::time::timeout(within, Connection::connect(address, tls)).await {
            Ok(connection) => connection.map(Self::Grpc),
            Err(_) => Err(Failure::new(
                "connect",
                format!("no connection within {within:?}"),
            )),
        }
    }

    /// Completes when the connection is gone.
    pub(super) async fn closed(&self) {
        match self {
            Self::Grpc(connection) => connection.closed().await,
            // A connection is made for each request that finds none.
            Self::Legacy(_) => std::future::pending().await,
        }
    }

    pub(super) fn is_closed(&self) -> bool {
        match self {
            Self::Grpc(connection) => connection.is_closed(),
            Self::Legacy(_) => false,
        }
    }

    /// Whether it can be asked for an answer without sending a metric.
    pub(super) fn can_probe(&self) -> bool {
        matches!(self, Self::Grpc(_))
    }

    /// Sends metrics, by this method if it is gRPC, and waits for what becomes of them, `within` at most.
    ///
    /// The number is that of metrics which the destination's protocol has no form for; they are not sent.
    pub(super) async fn send(
        &self,
        load: &Load,
        method: Method,
        within: Duration,
    ) -> (Answer, u32) {
        let sent = async {
            match self {
                Self::Grpc(connection) => {
                    let body = match method {
                        Method::Unary => load.message(),
                        Method::Stream => load.stream_body(),
                    };
                    (connection.call(method, body).await, 0)
                }
                Self::Legacy(legacy) => {
                    let (outcome, unfit) = legacy.post(load).await;
                    (outcome.into(), unfit)
                }
            }
        };
        tokio::time::timeout(within, sent)
            .await
            .unwrap_or_else(|_| {
                let failure = Failure::new("timeout", format!("no answer within {within:?}"));
                (Outcome::Unknown(failure).into(), 0)
            })
    }
}
