//! What a server's answers mean.

use crate::prometheus::client::Reply;

use super::message::Version;

/// What became of the samples of a request.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// The server has them.
    Written,
    /// It has so many of them, and refuses the others.
    Partly(usize),
    /// It has none of them, and the request is not to be repeated as it is. `divide` tells that some of them may be good.
    Refused { divide: bool },
    /// It does not speak this version.
    Fallback,
    /// It says nothing about them: they may be taken later.
    Later,
}

/// Why samples are refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Cause {
    OutOfOrder,
    DuplicateTimestamp,
    OutOfBounds,
    Labels,
    Limit,
    TooLarge,
    Unauthorized,
    NotFound,
    Other,
    MaxSeries,
    Collision,
}

impl Cause {
    /// As in the label `cause`.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::OutOfOrder => "out_of_order",
            Self::DuplicateTimestamp => "duplicate_timestamp",
            Self::OutOfBounds => "out_of_bounds",
            Self::Labels => "labels",
            Self::Limit => "limit",
            Self::TooLarge => "too_large",
            Self::Unauthorized => "unauthorized",
            Self::NotFound => "not_found",
            Self::Other => "other",
            Self::MaxSeries => "max_series",
            Self::Collision => "collision",
        }
    }

    /// By the status and the words of Prometheus, Cortex and Mimir.
    pub(super) fn of(reply: &Reply) -> Self {
        match reply.status.as_u16() {
            401 | 403 => return Self::Unauthorized,
            404 => return Self::NotFound,
            413 => return Self::TooLarge,
            _ => {}
        }
        let words = String::from_utf8_lossy(&reply.body).to_ascii_lowercase();
        let causes: [(&[&str], Self); 5] = [
            (&["out of order", "out-of-order"], Self::OutOfOrder),
            (
                &["duplicate sample for timestamp", "duplicate-timestamp"],
                Self::DuplicateTimestamp,
            ),
            (
                &["out of bounds", "too old", "too far", "too-old", "too-far"],
                Self::OutOfBounds,
            ),
            (&["limit"], Self::Limit),
            (&["label"], Self::Labels),
        ];
        let mut causes = causes.iter();
        let found = causes.find(|(texts, _)| texts.iter().any(|text| words.contains(text)));
        found.map_or(Self::Other, |(_, cause)| *cause)
    }
}

/// How many samples the server says that it has written.
const WRITTEN: &str = "x-prometheus-remote-write-samples-written";

/// Reads an answer to so many samples; the text is the label `outcome`. `may_fall_back` tells that another version can be tried.
pub(super) fn read(
    reply: &Reply,
    samples: usize,
    version: Version,
    may_fall_back: bool,
) -> (Answer, &'static str) {
    let written = match version {
        Version::V1 => None,
        Version::V2 => reply.headers.get(WRITTEN),
    };
    let written = written.and_then(|value| value.to_str().ok()?.trim().parse::<usize>().ok());
    let falls_back = version == Version::V2 && may_fall_back;
    match (reply.status.as_u16(), written) {
        // A server of 1.0 finds nothing that it knows in a request of 2.0, and thanks for it.
        (200..=299, None) if falls_back => (Answer::Fallback, "fallback"),
        (415, _) if falls_back => (Answer::Fallback, "fallback"),
        (200..=299, Some(written)) if written < samples => (Answer::Partly(written), "partial"),
        (200..=299, _) => (Answer::Written, "written"),
        (429, _) => (Answer::Later, "throttled"),
        (400..=499, Some(written)) if written > 0 => {
            (Answer::Partly(written.min(samples)), "partial")
        }
        (status @ 400..=499, _) => {
            let divide = matches!(status, 400 | 413 | 422);
            (Answer::Refused { divide }, "refused")
        }
        (500.., _) => (Answer::Later, "unavailable"),
        _ => (Answer::Later, "unexpected"),
    }
}
