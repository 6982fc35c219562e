//! Why a payload is no event that could be stored, now or later.

/// What is wrong with a payload. It will be wrong again, however often it is read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Poison {
    /// Bytes that are not JSON, or of which the end is missing.
    #[error("is not JSON: {0}")]
    NotJson(String),
    /// JSON with another shape.
    #[error("is no envelope: {0}")]
    NotEnvelope(String),
    /// A kind, a method or a stream by a name that there is not.
    #[error("{field}: there is no {name:?}")]
    UnknownName {
        /// The field of the envelope.
        field: &'static str,
        /// What stands in it.
        name: String,
    },
    /// What `eventType` says is in the envelope is not.
    #[error("has no {0}, which is what its eventType says")]
    NoBody(&'static str),
    /// Nobody knows when it was.
    #[error("has no {0}")]
    NoTimestamp(&'static str),
    /// A log's text.
    #[error("message is not base64")]
    NotBase64,
    /// A container's quota, of which a percentage is wanted.
    #[error("{0} is absent or 0, and nothing is a share of that")]
    NoQuota(&'static str),
    /// A number that a point cannot hold exactly.
    #[error("{0} is out of range")]
    OutOfRange(&'static str),
}

/// As much of serde's words as is kept: they may quote the payload.
const LONGEST: usize = 200;

impl Poison {
    /// As in the label of a self-metric.
    pub fn cause(&self) -> &'static str {
        match self {
            Self::NotJson(_) => "not_json",
            Self::NotEnvelope(_) => "not_envelope",
            Self::UnknownName { .. } => "unknown_name",
            Self::NoBody(_) => "no_body",
            Self::NoTimestamp(_) => "no_timestamp",
            Self::NotBase64 => "not_base64",
            Self::NoQuota(_) => "no_quota",
            Self::OutOfRange(_) => "out_of_range",
        }
    }

    pub(super) fn name(field: &'static str, name: &str) -> Self {
        let name = shortened(name);
        Self::UnknownName { field, name }
    }
}

impl From<serde_json::Error> for Poison {
    fn from(error: serde_json::Error) -> Self {
        let words = shortened(&error.to_string());
        if error.is_data() {
            Self::NotEnvelope(words)
        } else {
            Self::NotJson(words)
        }
    }
}

fn shortened(text: &str) -> String {
    text.chars().take(LONGEST).collect()
}
