//! What became of a batch that was handed to a connection.
//!
//! The distinction that matters is between what was certainly not taken, which may go again, and what may have been merged although no
//! answer came: repeating that would count it twice, unless the destination recognises it.

use std::error::Error;

use tonic::Code;
use tributary_node::tls::HandshakeError;
use tributary_proto::ack::Unacknowledged;

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The destination has it.
    Delivered,
    /// The destination does not know the method: it took nothing.
    NotImplemented,
    /// Nothing of it reached the destination, and this connection is of no more use.
    NotSent(Failure),
    /// The destination said that it cannot take it now.
    Busy(Failure),
    /// The destination answered that it failed or does not want it.
    Refused(Failure),
    /// No answer came: it may have been merged or not.
    Unknown(Failure),
}

impl Outcome {
    /// Whether the destination has said anything.
    pub(super) fn is_answer(&self) -> bool {
        match self {
            Self::Delivered | Self::NotImplemented | Self::Busy(_) | Self::Refused(_) => true,
            Self::NotSent(_) | Self::Unknown(_) => false,
        }
    }
}

/// An outcome, and what was said beside it.
#[derive(Debug)]
pub(super) struct Answer {
    pub outcome: Outcome,
    /// Whether the answer said that repeats are recognised.
    pub dedup: bool,
    /// What it did not merge and never will, if the answer vouches for that; all else is merged.
    pub turned_away: Option<Unacknowledged>,
}

impl From<Outcome> for Answer {
    fn from(outcome: Outcome) -> Self {
        Self {
            outcome,
            dedup: false,
            turned_away: None,
        }
    }
}

/// Why a batch was not delivered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Failure {
    /// The cause that it is counted by.
    pub cause: &'static str,
    /// The whole story, for the log.
    pub detail: String,
}

impl Failure {
    pub(super) fn new(cause: &'static str, detail: impl Into<String>) -> Self {
        Self {
            cause,
            detail: detail.into(),
        }
    }
}

impl Outcome {
    /// What a gRPC status means.
    pub(super) fn of_status(code: Code, message: &str) -> Self {
        let failure = || Failure::new(code_name(code), format!("{code:?}: {message}"));
        match code {
            Code::Ok => Self::Delivered,
            Code::Unimplemented => Self::NotImplemented,
            // The last Veneur's global, asked by the unary method.
            Code::Unknown if message.contains("not implemented") => Self::NotImplemented,
            Code::Unavailable => Self::Busy(failure()),
            _ => Self::Refused(failure()),
        }
    }

    /// What an HTTP status says where an answer of the protocol was expected: some gateway's words.
    pub(super) fn of_http_status(status: http::StatusCode) -> Self {
        let failure = Failure::new("http_status", format!("answered with HTTP status {status}"));
        match status {
            http::StatusCode::TOO_MANY_REQUESTS | http::StatusCode::SERVICE_UNAVAILABLE => {
                Self::Busy(failure)
            }
            _ => Self::Refused(failure),
        }
    }

    /// What an error of a request says that was handed to a connection.
    pub(super) fn of_error(error: &(dyn Error + 'static)) -> Self {
        let detail = chain(error);
        if certainly_not_taken(error) || HandshakeError::is_in(error) {
            Self::NotSent(Failure::new("connection", detail))
        } else {
            Self::Unknown(Failure::new("connection", detail))
        }
    }
}

/// Whether HTTP/2 itself says that the other side did not look at the request: it refused the stream, or it closes the connection in good
/// order and the stream came after the last that it will answer.
fn certainly_not_taken(error: &(dyn Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(h2) = error.downcast_ref::<h2::Error>() {
            let reason = h2.reason();
            return h2.is_remote()
                && (h2.is_reset() && reason == Some(h2::Reason::REFUSED_STREAM)
                    || h2.is_go_away() && reason == Some(h2::Reason::NO_ERROR));
        }
        next = error.source();
    }
    false
}

/// An error with its causes, outermost first.
pub(super) fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        let cause = error.to_string();
        if !text.ends_with(&cause) {
            text = format!("{text}: {cause}");
        }
        next = error.source();
    }
    text
}

fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "ok",
        Code::Cancelled => "cancelled",
        Code::Unknown => "unknown",
        Code::InvalidArgument => "invalid_argument",
        Code::DeadlineExceeded => "deadline_exceeded",
        Code::NotFound => "not_found",
        Code::AlreadyExists => "already_exists",
        Code::PermissionDenied => "permission_denied",
        Code::ResourceExhausted => "resource_exhausted",
        Code::FailedPrecondition => "failed_precondition",
        Code::Aborted => "aborted",
        Code::OutOfRange => "out_of_range",
        Code::Unimplemented => "unimplemented",
        Code::Internal => "internal",
        Code::Unavailable => "unavailable",
        Code::DataLoss => "data_loss",
        Code::Unauthenticated => "unauthenticated",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_destination_that_does_not_know_the_method_is_told_from_one_that_fails() {
        let of = Outcome::of_status;
        assert_eq!(of(Code::Ok, ""), Outcome::Delivered);
        assert_eq!(of(Code::Unimplemented, "x"), Outcome::NotImplemented);
        assert_eq!(
            of(Code::Unknown, "not implemented"),
            Outcome::NotImplemented
        );
        assert!(
            matches!(of(Code::Unknown, "oh"), Outcome::Refused(failure) if failure.cause == "unknown")
        );
        assert!(matches!(of(Code::Unavailable, ""), Outcome::Busy(_)));
        assert!(matches!(of(Code::ResourceExhausted, "too large"),
            Outcome::Refused(failure) if failure.detail == "ResourceExhausted: too large"));
    }

    #[test]
    fn only_a_refusal_by_the_protocol_counts_as_not_taken() {
        let refused = h2::Error::from(h2::Reason::REFUSED_STREAM);
        // Made here and not by the other side.
        assert!(matches!(Outcome::of_error(&refused), Outcome::Unknown(_)));
        let broken = std::io::Error::other("broken pipe");
        assert!(matches!(Outcome::of_error(&broken), Outcome::Unknown(_)));
    }
}
