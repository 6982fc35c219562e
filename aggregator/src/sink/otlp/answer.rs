//! What a receiver has said to a request, by OTLP's rules:
//! <https://opentelemetry.io/docs/specs/otlp/#failures> and <https://opentelemetry.io/docs/specs/otlp/#failures-1>.

use std::time::Duration;

use http::{HeaderMap, StatusCode};
use prost::Message as _;
use tonic::{Code, Status};
use tributary_proto::otlp::collector::ExportMetricsServiceResponse;

use crate::reply::{LONGEST_RETRY_AFTER, SAID, retry_after};

/// What became of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    /// Taken, but for some data points that are lost.
    Taken {
        rejected: usize,
        /// The server's words, also where it rejected nothing.
        said: String,
    },
    /// Nothing was taken, and it may be later.
    Later {
        said: String,
        /// How long the server wants us to wait.
        after: Option<Duration>,
    },
    /// Nothing was taken, and it never will be.
    Refused { said: String },
}

impl Answer {
    /// As counters name it.
    pub(super) fn outcome(&self) -> &'static str {
        match self {
            Self::Taken { rejected: 0, .. } => "taken",
            Self::Taken { .. } => "partly",
            Self::Later { .. } => "later",
            Self::Refused { .. } => "refused",
        }
    }

    /// From the message that a success comes with. One that cannot be read is a success all the same.
    pub(super) fn of_success(body: &[u8]) -> Self {
        let response = ExportMetricsServiceResponse::decode(body).unwrap_or_default();
        let partial = response.partial_success.unwrap_or_default();
        Self::Taken {
            rejected: usize::try_from(partial.rejected_data_points).unwrap_or(0),
            said: line(&partial.error_message),
        }
    }

    /// From gRPC's status of a failure.
    pub(super) fn of_status(status: &Status) -> Self {
        let said = line(&format!("{:?}: {}", status.code(), status.message()));
        let after = retry_delay(status.details());
        // A status that the server has not sent: the connection broke.
        let ours = std::error::Error::source(status).is_some();
        let later = match status.code() {
            Code::Cancelled
            | Code::DeadlineExceeded
            | Code::Aborted
            | Code::OutOfRange
            | Code::Unavailable
            | Code::DataLoss => true,
            // Without a time it is a quota that will not come back, or a message that is too large.
            Code::ResourceExhausted => after.is_some(),
            _ => ours,
        };
        match later {
            true => Self::Later { said, after },
            false => Self::Refused { said },
        }
    }

    /// From an answer over HTTP.
    pub(super) fn of_http(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Self {
        if status.is_success() {
            return Self::of_success(body);
        }
        let words = match RpcStatus::decode(body) {
            Ok(status) if !status.message.is_empty() => status.message,
            _ => String::from_utf8_lossy(body).into_owned(),
        };
        let said = line(&format!("{}: {words}", status.as_u16()));
        match status.as_u16() {
            429 | 502 | 503 | 504 => Self::Later {
                said,
                after: retry_after(headers),
            },
            _ => Self::Refused { said },
        }
    }
}

/// One short line.
fn line(text: &str) -> String {
    let plain = |c: char| if c.is_control() { ' ' } else { c };
    text.trim().chars().take(SAID).map(plain).collect()
}

/// `google.rpc.Status`, as failures carry it: <https://github.com/googleapis/googleapis/blob/master/google/rpc/status.proto>.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct RpcStatus {
    #[prost(int32, tag = "1")]
    pub(super) code: i32,
    #[prost(string, tag = "2")]
    pub(super) message: String,
    #[prost(message, repeated, tag = "3")]
    pub(super) details: Vec<Any>,
}

/// `google.protobuf.Any`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Any {
    #[prost(string, tag = "1")]
    pub(super) type_url: String,
    #[prost(bytes = "vec", tag = "2")]
    pub(super) value: Vec<u8>,
}

/// `google.rpc.RetryInfo`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct RetryInfo {
    #[prost(message, optional, tag = "1")]
    pub(super) retry_delay: Option<Delay>,
}

/// `google.protobuf.Duration`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Delay {
    #[prost(int64, tag = "1")]
    pub(super) seconds: i64,
    #[prost(int32, tag = "2")]
    pub(super) nanos: i32,
}

/// The `RetryInfo` among a status's details.
fn retry_delay(details: &[u8]) -> Option<Duration> {
    let status = RpcStatus::decode(details).ok()?;
    let info = status
        .details
        .iter()
        .find(|detail| detail.type_url.ends_with("google.rpc.RetryInfo"))?;
    let delay = RetryInfo::decode(&*info.value)
        .ok()?
        .retry_delay
        .unwrap_or_default();
    let seconds = u64::try_from(delay.seconds).ok()?;
    let wait = Duration::new(seconds, u32::try_from(delay.nanos).ok()?.min(999_999_999));
    Some(wait.min(LONGEST_RETRY_AFTER))
}

#[cfg(test)]
mod tests {
    use http::header::RETRY_AFTER;
    use tributary_proto::otlp::collector::ExportMetricsPartialSuccess;

    use super::*;

    fn status(code: Code, delay: Option<Delay>) -> Status {
        let details = delay.map(|delay| {
            let info = RetryInfo {
                retry_delay: Some(delay),
            };
            let detail = Any {
                type_url: "type.googleapis.com/google.rpc.RetryInfo".to_owned(),
                value: info.encode_to_vec(),
            };
            let status = RpcStatus {
                code: code as i32,
                message: String::new(),
                details: vec![detail],
            };
            status.encode_to_vec()
        });
        Status::with_details(code, "no\nroom", details.unwrap_or_default().into())
    }

    #[test]
    fn the_codes_of_the_protocol_are_tried_again_and_no_others() {
        for code in (1..=16).map(Code::from_i32) {
            let expected = [1, 4, 10, 11, 14, 15].contains(&(code as i32));
            let answer = Answer::of_status(&status(code, None));
            assert_eq!(matches!(answer, Answer::Later { .. }), expected, "{code:?}");
        }
        let delay = Delay {
            seconds: 3,
            nanos: 500_000_000,
        };
        let answer = Answer::of_status(&status(Code::ResourceExhausted, Some(delay)));
        let Answer::Later { said, after } = answer else {
            panic!("{answer:?}")
        };
        assert_eq!(after, Some(Duration::from_millis(3500)));
        assert_eq!(said, "ResourceExhausted: no room");
        for code in 400..600 {
            let code = StatusCode::from_u16(code).unwrap();
            let answer = Answer::of_http(code, &HeaderMap::new(), b"no");
            let expected = [429, 502, 503, 504].contains(&code.as_u16());
            assert_eq!(matches!(answer, Answer::Later { .. }), expected, "{code}");
        }
    }

    #[test]
    fn a_server_is_waited_for_as_long_as_it_asks_within_bounds() {
        let after = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, text.parse().unwrap());
            match Answer::of_http(StatusCode::SERVICE_UNAVAILABLE, &headers, b"") {
                Answer::Later { after, .. } => after,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(after("7"), Some(Duration::from_secs(7)));
        assert_eq!(after("1000000"), Some(LONGEST_RETRY_AFTER));
        assert_eq!(after("soon"), None);
    }

    #[test]
    fn words_are_read_from_either_form_of_a_failure() {
        let of = |body: &[u8]| Answer::of_http(StatusCode::BAD_REQUEST, &HeaderMap::new(), body);
        let status = RpcStatus {
            code: 3,
            message: "bad name".to_owned(),
            details: Vec::new(),
        };
        assert_eq!(
            of(&status.encode_to_vec()),
            Answer::Refused {
                said: "400: bad name".to_owned()
            }
        );
        assert_eq!(
            of(b"plain words"),
            Answer::Refused {
                said: "400: plain words".to_owned()
            }
        );
    }

    #[test]
    fn a_success_can_be_partial() {
        let partial = ExportMetricsPartialSuccess {
            rejected_data_points: 2,
            error_message: "two are old".to_owned(),
        };
        let body = ExportMetricsServiceResponse {
            partial_success: Some(partial),
        }
        .encode_to_vec();
        let answer = Answer::of_success(&body);
        assert_eq!(
            answer,
            Answer::Taken {
                rejected: 2,
                said: "two are old".to_owned()
            }
        );
        assert_eq!(Answer::of_success(b"").outcome(), "taken");
        assert_eq!(Answer::of_success(b"<html>").outcome(), "taken");
    }
}
