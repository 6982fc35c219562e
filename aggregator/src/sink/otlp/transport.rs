//! One request and its answer, over gRPC or HTTP, bounded in time and size.

use std::io::Write as _;
use std::time::Duration;

use bytes::Bytes;
use flate2::write::GzEncoder;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderValue, USER_AGENT};
use http::{HeaderMap, Request, Uri};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tonic::codec::CompressionEncoding;
use tonic::metadata::MetadataMap;
use tonic::transport::{Channel, Endpoint};
use tributary_node::tls::{Alpn, Connector, Dialer};
use tributary_proto::otlp::metrics_service_client::MetricsServiceClient;

use super::answer::Answer;
use super::config::{Compression, OtlpConfig, Protocol};

/// The longest answer that is read; it only says how many data points were rejected, and why.
const LONGEST_ANSWER: usize = 1 << 20;
const CONNECT_TIME: Duration = Duration::from_secs(10);
/// Servers close idle connections sooner or later; this is sooner than most.
const IDLE: Duration = Duration::from_secs(10);
/// What counters of TLS call this hop.
const HOP: &str = "otlp_tls";

/// A way to one receiver. It connects when it is used, and again when the connection broke.
#[derive(Debug)]
pub(super) struct Transport {
    uri: Uri,
    timeout: Duration,
    way: Way,
}

#[derive(Debug)]
enum Way {
    Grpc(Box<MetricsServiceClient<Channel>>),
    Http {
        client: Box<Client<Dialer, Full<Bytes>>>,
        compression: Compression,
    },
}

impl Transport {
    /// Must be called within a tokio runtime.
    pub(super) fn new(config: &OtlpConfig) -> Result<Self, String> {
        let uri = config.endpoint()?;
        let timeout = config.timeout.get();
        let secure = uri.scheme_str() == Some("https");
        let alpn = match config.protocol {
            Protocol::Grpc => Alpn::Http2,
            Protocol::Http => Alpn::Http1,
        };
        let connector = secure
            .then(|| Connector::new(&config.tls, HOP, alpn))
            .transpose();
        let dialer = Dialer::new(HOP, connector.map_err(|error| format!("tls.{error}"))?)
            .connect_timeout(CONNECT_TIME.min(timeout))
            .tcp_keepalive(Duration::from_secs(30));
        let way = match config.protocol {
            Protocol::Grpc => {
                let endpoint = Endpoint::from(uri.clone());
                let endpoint = endpoint
                    .user_agent(agent())
                    .map_err(|error| format!("url: {error}"))?;
                let client =
                    MetricsServiceClient::new(endpoint.connect_with_connector_lazy(dialer));
                let client = match config.compression {
                    Compression::Gzip => client.send_compressed(CompressionEncoding::Gzip),
                    Compression::None => client,
                };
                let client = client.accept_compressed(CompressionEncoding::Gzip);
                Way::Grpc(Box::new(client.max_decoding_message_size(LONGEST_ANSWER)))
            }
            Protocol::Http => Way::Http {
                client: Client::builder(TokioExecutor::new())
                    .pool_timer(TokioTimer::new())
                    .pool_idle_timeout(IDLE)
                    .build(dialer)
                    .into(),
                compression: config.compression,
            },
        };
        Ok(Self { uri, timeout, way })
    }

    /// Where requests go.
    pub(super) fn uri(&self) -> &Uri {
        &self.uri
    }

    /// Sends one request. A failure on the way is a reason to try again.
    pub(super) async fn send(&mut self, body: Bytes, headers: HeaderMap) -> Answer {
        let timeout = self.timeout;
        let exchange = async {
            match &mut self.way {
                Way::Grpc(client) => grpc(client, body, headers).await,
                Way::Http {
                    client,
                    compression,
                } => http(client, &self.uri, *compression, body, headers).await,
            }
        };
        let answer = tokio::time::timeout(timeout, exchange).await;
        answer.unwrap_or_else(|_| Answer::Later {
            said: format!("did not answer within {timeout:?}"),
            after: None,
        })
    }
}

fn agent() -> String {
    concat!("tributary/", env!("CARGO_PKG_VERSION")).to_owned()
}

async fn grpc(
    client: &mut MetricsServiceClient<Channel>,
    body: Bytes,
    headers: HeaderMap,
) -> Answer {
    let mut request = tonic::Request::new(body);
    *request.metadata_mut() = MetadataMap::from_headers(headers);
    match client.export(request).await {
        Ok(response) => Answer::of_success(response.get_ref()),
        Err(status)
            if status.message().is_empty() || std::error::Error::source(&status).is_some() =>
        {
            // Broken connections hide their cause beneath.
            match Answer::of_status(&status) {
                Answer::Later { after, .. } => Answer::Later {
                    said: tributary_node::deepest_cause(&status),
                    after,
                },
                answer => answer,
            }
        }
        Err(status) => Answer::of_status(&status),
    }
}

async fn http(
    client: &Client<Dialer, Full<Bytes>>,
    uri: &Uri,
    compression: Compression,
    body: Bytes,
    headers: HeaderMap,
) -> Answer {
    let unreachable = |error: &(dyn std::error::Error + 'static)| Answer::Later {
        said: format!(
            "cannot be reached: {}",
            tributary_node::deepest_cause(error)
        ),
        after: None,
    };
    let packed = match compression {
        Compression::None => Ok(body),
        Compression::Gzip => {
            // Megabytes take their time.
            let packing = tokio::task::spawn_blocking(move || gzip(&body));
            packing.await.map_err(std::io::Error::other).flatten()
        }
    };
    let body = match packed {
        Ok(body) => body,
        Err(error) => return unreachable(&error),
    };
    let mut request = Request::new(Full::new(body));
    *request.method_mut() = http::Method::POST;
    *request.uri_mut() = uri.clone();
    *request.headers_mut() = headers;
    let own = request.headers_mut();
    own.insert(
        CONTENT_TYPE,
        HeaderValue::from_static("application/x-protobuf"),
    );
    if let Ok(agent) = HeaderValue::from_str(&agent()) {
        own.entry(USER_AGENT).or_insert(agent);
    }
    if compression == Compression::Gzip {
        own.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    let response = match client.request(request).await {
        Ok(response) => response,
        Err(error) => return unreachable(&error),
    };
    let (head, body) = response.into_parts();
    match Limited::new(body, LONGEST_ANSWER).collect().await {
        Ok(body) => Answer::of_http(head.status, &head.headers, &body.to_bytes()),
        // Its status says enough.
        Err(error) if error.is::<http_body_util::LengthLimitError>() => {
            Answer::of_http(head.status, &head.headers, b"")
        }
        Err(error) => unreachable(&*error),
    }
}

fn gzip(body: &[u8]) -> std::io::Result<Bytes> {
    let mut encoder = GzEncoder::new(
        Vec::with_capacity(body.len() / 4),
        flate2::Compression::fast(),
    );
    encoder.write_all(body)?;
    Ok(encoder.finish()?.into())
}
