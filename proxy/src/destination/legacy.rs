//! Legacy HTTP: zlib-compressed JSON to `POST /import`, which is all that Veneur's globals up to version 5 take.
//!
//! This is the only place in a proxy where metrics are decoded.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode, Uri, header};
use http_body_util::Full;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use prost::Message;
use tributary_node::tls::Dialer;
use tributary_proto::json::{self, JsonMetric};
use tributary_proto::metricpb::Metric;
use tributary_proto::scan;

use super::batch::Load;
use super::outcome::{Failure, Outcome, chain};
use super::{HOP, Tls};

/// See the module. Connections are made when a request needs one, and kept.
#[derive(Debug)]
pub(super) struct Legacy {
    client: Client<Dialer, Full<Bytes>>,
    uri: Uri,
}

impl Legacy {
    /// For an address such as `http://host:port`, or `https://host:port` where there is TLS; connecting may take `within`.
    pub(super) fn new(address: &str, within: Duration, tls: Option<&Tls>) -> Result<Self, Failure> {
        let uri = format!("{}/import", address.trim_end_matches('/'));
        let uri = uri
            .parse()
            .map_err(|error| Failure::new("connect", format!("is no address: {error}")))?;
        let dialer = Dialer::new(HOP, tls.map(|tls| tls.legacy.clone())).connect_timeout(within);
        Ok(Self {
            client: Client::builder(TokioExecutor::new()).build(dialer),
            uri,
        })
    }

    /// Posts metrics. The number is that of metrics which have no legacy form, so that no destination of this kind can have them.
    pub(super) async fn post(&self, load: &Load) -> (Outcome, u32) {
        let list = load.list();
        // Digests take long enough to encode that the connections on this thread would notice.
        let (body, unfit) = match tokio::task::spawn_blocking(move || encode(&list)).await {
            Ok(encoded) => encoded,
            Err(error) => {
                return (
                    Outcome::Refused(Failure::new("encode", error.to_string())),
                    0,
                );
            }
        };
        if unfit == load.metrics() {
            return (Outcome::Delivered, unfit);
        }
        let request = Request::post(self.uri.clone())
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::CONTENT_ENCODING, "deflate")
            .header(header::USER_AGENT, "tributary-proxy")
            .body(Full::new(Bytes::from(body)));
        let request = match request {
            Ok(request) => request,
            Err(error) => {
                return (
                    Outcome::Refused(Failure::new("request", error.to_string())),
                    0,
                );
            }
        };
        let outcome = match self.client.request(request).await {
            Ok(response) => match response.status() {
                StatusCode::OK | StatusCode::ACCEPTED => Outcome::Delivered,
                status => Outcome::of_http_status(status),
            },
            Err(error) if error.is_connect() => {
                Outcome::NotSent(Failure::new("connect", chain(&error)))
            }
            Err(error) => Outcome::of_error(&error),
        };
        (outcome, unfit)
    }
}

/// The request's body, and how many metrics are not in it.
fn encode(list: &[u8]) -> (Vec<u8>, u32) {
    let mut unfit = 0;
    let elements: Vec<JsonMetric> = scan::entries(list)
        .into_iter()
        .flatten()
        .filter_map(|metric| {
            let element = Metric::decode(metric)
                .ok()
                .and_then(|metric| JsonMetric::from_metric(&metric).ok());
            unfit += u32::from(element.is_none());
            element
        })
        .collect();
    (json::deflate(&json::encode(&elements)), unfit)
}
