//! OTLP/HTTP: `POST /v1/metrics` with protobuf in its body, <https://opentelemetry.io/docs/specs/otlp/#otlphttp>.

use std::io::Read as _;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use bytes::{Buf as _, Bytes};
use flate2::read::MultiGzDecoder;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use prost::Message as _;

use super::door::{Door, Refusal};

const PROTOBUF: HeaderValue = HeaderValue::from_static("application/x-protobuf");
/// How long a body may take to come.
const BODY_TIME: Duration = Duration::from_secs(30);
/// What a client is told to wait when there are too many.
const RETRY: HeaderValue = HeaderValue::from_static("1");

/// `google.rpc.Status`: what failures carry.
#[derive(Clone, PartialEq, prost::Message)]
struct RpcStatus {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
}

/// A request that was refused before its message was read.
struct Unread {
    status: StatusCode,
    outcome: &'static str,
    why: String,
}

/// The route.
pub(super) fn router(door: Arc<Door>) -> Router {
    Router::new()
        .route("/v1/metrics", post(metrics))
        .with_state(door)
}

async fn metrics(State(door): State<Arc<Door>>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let body = match read(&head.headers, body, door.max_message).await {
        Ok(body) => body,
        Err(Unread {
            status,
            outcome,
            why,
        }) => {
            door.events.refused("http", outcome, &why);
            return failure(status, tonic::Code::InvalidArgument, why);
        }
    };
    match door.take("http", body).await {
        Ok(response) => ([(CONTENT_TYPE, PROTOBUF)], response.encode_to_vec()).into_response(),
        Err(refusal) => {
            let (status, code) = match refusal {
                Refusal::Malformed(_) => (StatusCode::BAD_REQUEST, tonic::Code::InvalidArgument),
                Refusal::Busy => (StatusCode::SERVICE_UNAVAILABLE, tonic::Code::Unavailable),
                Refusal::Broken => (StatusCode::INTERNAL_SERVER_ERROR, tonic::Code::Internal),
            };
            failure(status, code, refusal.to_string())
        }
    }
}

fn failure(status: StatusCode, code: tonic::Code, message: String) -> Response {
    let body = RpcStatus {
        code: code as i32,
        message,
    }
    .encode_to_vec();
    let mut response = (status, [(CONTENT_TYPE, PROTOBUF)], body).into_response();
    if status == StatusCode::SERVICE_UNAVAILABLE {
        response.headers_mut().insert(RETRY_AFTER, RETRY);
    }
    response
}

/// Reads a body whole, in time, and unpacks it.
async fn read(headers: &HeaderMap, body: Body, limit: usize) -> Result<Bytes, Unread> {
    let refuse = |status, outcome, why: String| Unread {
        status,
        outcome,
        why,
    };
    let text = |name: HeaderName| -> String {
        let value = headers.get(name).map(|value| {
            String::from_utf8_lossy(value.as_bytes())
                .trim()
                .to_ascii_lowercase()
        });
        value.unwrap_or_default()
    };
    let content_type = text(CONTENT_TYPE);
    if content_type.split(';').next().map(str::trim_end) != Some("application/x-protobuf") {
        let why =
            format!("content type {content_type:?} is not taken, only application/x-protobuf");
        return Err(refuse(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "content_type",
            why,
        ));
    }
    let encoding = text(CONTENT_ENCODING);
    let gzip = match encoding.as_str() {
        "" | "identity" => false,
        "gzip" => true,
        _ => {
            let why = format!("content encoding {encoding:?} is not taken, only gzip");
            return Err(refuse(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "content_encoding",
                why,
            ));
        }
    };
    let too_large = || {
        refuse(
            StatusCode::PAYLOAD_TOO_LARGE,
            "too_large",
            format!("the message is longer than {limit} bytes"),
        )
    };
    let reading = tokio::time::timeout(BODY_TIME, to_bytes(body, limit)).await;
    let body = reading
        .map_err(|_| {
            refuse(
                StatusCode::REQUEST_TIMEOUT,
                "slow",
                "the body took too long".to_owned(),
            )
        })?
        .map_err(|error| {
            let cause = std::error::Error::source(&error);
            match cause.is_some_and(|cause| cause.is::<http_body_util::LengthLimitError>()) {
                true => too_large(),
                false => refuse(
                    StatusCode::BAD_REQUEST,
                    "cut_off",
                    format!("the body did not come whole: {error}"),
                ),
            }
        })?;
    if !gzip {
        return Ok(body);
    }
    let unpacking = tokio::task::spawn_blocking(move || {
        let mut unpacked = Vec::new();
        let mut decoder = MultiGzDecoder::new(body.reader()).take(limit as u64 + 1);
        decoder.read_to_end(&mut unpacked).map(|_| unpacked)
    });
    let unpacked = unpacking.await.map_err(std::io::Error::other).flatten();
    match unpacked {
        Ok(unpacked) if unpacked.len() > limit => Err(too_large()),
        Ok(unpacked) => Ok(unpacked.into()),
        Err(error) => Err(refuse(
            StatusCode::BAD_REQUEST,
            "malformed",
            format!("the body is no gzip: {error}"),
        )),
    }
}
