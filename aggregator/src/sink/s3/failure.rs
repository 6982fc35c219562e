//! Why an object was not stored.

use std::fmt;
use std::time::Duration;

/// What went wrong, in the server's words, and what it means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Failure {
    cause: Cause,
    said: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cause {
    Credentials,
    Unauthorized,
    Clock,
    NoBucket,
    Region,
    Throttled,
    Unavailable,
    TooLarge,
    Timeout,
    Unreachable,
    Encoding,
    Unexpected,
}

/// In errors of asking for credentials: a file, the instance's and the container's services, the token service.
const CREDENTIALS: [&str; 4] = [
    super::secrets::UNREADABLE,
    "//169.254.",
    "/latest/api/token",
    "//sts.",
];

/// As much of a server's words as a log line shows.
const SAID: usize = 300;

impl Failure {
    /// What the library says, which has the server's answer in it.
    pub(super) fn of(error: &object_store::Error) -> Self {
        let text = error.to_string();
        let code = between(&text, "<Code>", "</Code>");
        let cause = match code {
            Some("RequestTimeTooSkewed" | "RequestExpired") => Cause::Clock,
            Some("NoSuchBucket") => Cause::NoBucket,
            Some(
                "AuthorizationHeaderMalformed"
                | "PermanentRedirect"
                | "TemporaryRedirect"
                | "IllegalLocationConstraintException",
            ) => Cause::Region,
            Some("SlowDown" | "Throttling" | "TooManyRequests" | "RequestLimitExceeded") => {
                Cause::Throttled
            }
            Some("EntityTooLarge" | "EntityTooSmall") => Cause::TooLarge,
            _ => Self::without_code(error, &text),
        };
        let said = match (code, between(&text, "<Message>", "</Message>")) {
            (Some(code), Some(message)) => format!("{code}: {message}"),
            (Some(code), None) => code.to_owned(),
            _ if cause == Cause::Unreachable => tributary_node::deepest_cause(error),
            _ => text,
        };
        let line = |c: char| if c.is_control() { ' ' } else { c };
        Self {
            cause,
            said: said.chars().take(SAID).map(line).collect(),
        }
    }

    fn without_code(error: &object_store::Error, text: &str) -> Cause {
        use object_store::Error;
        match error {
            _ if CREDENTIALS.iter().any(|place| text.contains(place)) => Cause::Credentials,
            Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => Cause::Unauthorized,
            Error::NotFound { .. } => Cause::NoBucket,
            _ if text.contains("redirect without LOCATION") => Cause::Region,
            _ if text.contains("status code: 429") => Cause::Throttled,
            _ if text.contains("status code: 5") => Cause::Unavailable,
            _ if text.contains("status code: 4") => Cause::Unauthorized,
            _ if text.contains("HTTP error") => Cause::Unreachable,
            _ => Cause::Unexpected,
        }
    }

    pub(super) fn timeout(after: Duration) -> Self {
        Self {
            cause: Cause::Timeout,
            said: format!("no answer within {after:?}"),
        }
    }

    pub(super) fn encoding(error: &dyn fmt::Display) -> Self {
        Self {
            cause: Cause::Encoding,
            said: error.to_string(),
        }
    }

    /// The label `outcome`.
    pub(super) fn outcome(&self) -> &'static str {
        match self.cause {
            Cause::Credentials => "credentials",
            Cause::Unauthorized => "unauthorized",
            Cause::Clock => "clock",
            Cause::NoBucket => "no_bucket",
            Cause::Region => "region",
            Cause::Throttled => "throttled",
            Cause::Unavailable => "unavailable",
            Cause::TooLarge => "too_large",
            Cause::Timeout => "timeout",
            Cause::Unreachable => "unreachable",
            Cause::Encoding => "encoding",
            Cause::Unexpected => "unexpected",
        }
    }

    /// Whether waiting is of no use.
    pub(super) fn needs_a_human(&self) -> bool {
        matches!(
            self.cause,
            Cause::Credentials
                | Cause::Unauthorized
                | Cause::Clock
                | Cause::NoBucket
                | Cause::Region
                | Cause::TooLarge
        )
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.cause {
            Cause::Credentials => "no credentials",
            Cause::Unauthorized => {
                "refused, check access_key_id, secret_access_key and what they may do"
            }
            Cause::Clock => "refused, the clock of this host is wrong",
            Cause::NoBucket => "there is no such bucket, check bucket, region and endpoint",
            Cause::Region => "the bucket is elsewhere, check region and endpoint",
            Cause::Throttled => "too many requests",
            Cause::Unavailable => "the server cannot answer",
            Cause::TooLarge => "the object is too large, lower max_object_bytes",
            Cause::Timeout => "timeout",
            Cause::Unreachable => "cannot be reached",
            Cause::Encoding => "cannot be encoded",
            Cause::Unexpected => "failed",
        };
        write!(f, "{what}: {}", self.said)
    }
}

fn between<'a>(text: &'a str, start: &str, end: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(start)?;
    rest.split_once(end).map(|(inner, _)| inner)
}
