//! One destination over legacy HTTP: `POST <address>/import`, as Veneur's first agents do it.

use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use http::{Request, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use prost::Message;
use tokio::time::timeout;
use tributary_node::tls::{Alpn, Connector, Dialer, HandshakeError};
use tributary_proto::json::{self, JsonMetric};
use tributary_proto::metricpb::Metric;
use tributary_proto::scan;

use super::HOP;
use super::address::{Address, AddressError};
use super::batch::Batch;
use super::outcome::{Failure, Fate, Repeats};

/// As much of an answer as is read, in bytes.
const ANSWER: usize = 4 << 10;

/// An HTTP client for one destination.
#[derive(Debug)]
pub(super) struct JsonLink {
    uri: Uri,
    client: Client<Dialer, Full<Bytes>>,
    timeout: Duration,
}

impl JsonLink {
    pub(super) fn new(
        address: &Address,
        deadline: Duration,
        tls: &Option<Connector>,
    ) -> Result<Self, AddressError> {
        let uri = format!("{}/import", address.base).parse().map_err(
            |error: http::uri::InvalidUri| AddressError::Invalid {
                address: address.name.clone(),
                reason: error.to_string(),
            },
        )?;
        let tls = tls.as_ref().map(|tls| tls.speaking(Alpn::Http1));
        let dialer = Dialer::new(HOP, tls).connect_timeout(deadline / 5);
        let client = Client::builder(TokioExecutor::new()).build(dialer);
        Ok(Self {
            uri,
            client,
            timeout: deadline,
        })
    }

    /// Sends a batch. Scope and stamps have no place in this form.
    pub(super) async fn deliver(&self, batch: &Batch) -> Result<(), Failure> {
        let body = batch.body.clone();
        // Deflating takes its time at one go.
        let body = tokio::task::spawn_blocking(move || encode(&body))
            .await
            .map_err(Failure::encode)??;
        batch.sent.store(true, Ordering::Relaxed);
        self.post(body)
            .await
            .map_err(|failure| failure.with(Repeats::NotRecognised))
    }

    /// Asks whether it answers, without risking a metric: an empty list, which it refuses.
    pub(super) async fn probe(&self) -> Result<(), Failure> {
        match self.post(json::deflate(b"[]").into()).await {
            Err(failure) if failure.fate != Fate::Denied => Err(failure),
            _ => Ok(()),
        }
    }

    async fn post(&self, body: Bytes) -> Result<(), Failure> {
        let request = Request::post(self.uri.clone())
            .header(CONTENT_TYPE, "application/json")
            .header(CONTENT_ENCODING, "deflate")
            .body(Full::new(body))
            .map_err(Failure::encode)?;
        let exchange = async {
            let answer = self.client.request(request).await.map_err(|error| {
                // What was written before a handshake failed was read by nobody.
                if error.is_connect() || HandshakeError::is_in(&error) {
                    Failure::connect(super::outcome::chain(&error))
                } else {
                    Failure::broken(super::outcome::chain(&error))
                }
            })?;
            let status = answer.status();
            // Read to its end, so that the connection can be used again. A success is one even if its text breaks off.
            let text = Limited::new(answer.into_body(), ANSWER).collect().await;
            if status.is_success() {
                return Ok(());
            }
            let text = text.map(|text| text.to_bytes()).unwrap_or_default();
            Err(Failure::http(
                status.as_u16(),
                &String::from_utf8_lossy(&text),
            ))
        };
        timeout(self.timeout, exchange)
            .await
            .unwrap_or_else(|_| Err(Failure::deadline()))
    }
}

/// From a `MetricList` to deflated JSON.
fn encode(body: &Bytes) -> Result<Bytes, Failure> {
    let elements = scan::frames(body)
        .map_err(Failure::encode)?
        .map(|metric| {
            let metric = Metric::decode(metric).map_err(Failure::encode)?;
            JsonMetric::from_metric(&metric).map_err(Failure::encode)
        })
        .collect::<Result<Vec<_>, _>>()?;
    Ok(json::deflate(&json::encode(&elements)).into())
}
