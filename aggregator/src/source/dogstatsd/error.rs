//! Why a line was refused.

/// A line that is not DogStatsD.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// In a metric.
    #[error("metric: {0}")]
    Metric(MetricError),
    /// In an event.
    #[error("event: {0}")]
    Event(EventError),
    /// In a service check.
    #[error("service check: {0}")]
    Check(CheckError),
}

impl ParseError {
    /// What the line was meant to be, as the `packet_type` tag of `packet.error_total` names it.
    pub fn packet_type(self) -> &'static str {
        match self {
            Self::Metric(_) => "metric",
            Self::Event(_) => "event",
            Self::Check(_) => "service_check",
        }
    }

    /// The `reason` tag of `packet.error_total`: one word of a small fixed set.
    pub fn cause(self) -> &'static str {
        match self {
            Self::Metric(error) => error.cause(),
            Self::Event(error) => error.cause(),
            Self::Check(error) => error.cause(),
        }
    }
}

/// What is wrong with a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MetricError {
    /// No `|` at all.
    #[error("no pipe before a type")]
    NoPipe,
    /// No `:` before the first `|`.
    #[error("no colon between name and value")]
    NoColon,
    /// Nothing before the first `:`.
    #[error("the name is empty")]
    EmptyName,
    /// Nothing between the first two pipes.
    #[error("the type is empty")]
    EmptyType,
    /// Not one of c, g, h, d, ms and s.
    #[error("unknown type")]
    UnknownType,
    /// Nothing after or between two later pipes.
    #[error("a section between pipes is empty")]
    EmptySection,
    /// Not a finite decimal or hexadecimal number.
    #[error("a value is not a finite number")]
    BadValue,
    /// Not a number above 0 and at most 1.
    #[error("the sample rate is not a number above 0 and at most 1")]
    BadRate,
    /// More than one `@` section.
    #[error("two sample rates")]
    RateTwice,
    /// More than one `#` section.
    #[error("two tag sections")]
    TagsTwice,
    /// `T` without a positive whole number of seconds.
    #[error("the timestamp is not a positive number of seconds")]
    BadTimestamp,
}

impl MetricError {
    fn cause(self) -> &'static str {
        match self {
            Self::NoPipe => "no_pipe",
            Self::NoColon => "no_colon",
            Self::EmptyName => "empty_name",
            Self::EmptyType => "empty_type",
            Self::UnknownType => "unknown_type",
            Self::EmptySection => "empty_section",
            Self::BadValue => "bad_value",
            Self::BadRate => "bad_rate",
            Self::RateTwice => "rate_twice",
            Self::TagsTwice => "tags_twice",
            Self::BadTimestamp => "bad_timestamp",
        }
    }
}

/// What is wrong with an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EventError {
    /// Not `_e{…}:`.
    #[error("no _e{{}} around the lengths")]
    NoWrapper,
    /// One number where there should be two.
    #[error("no comma between the lengths")]
    NoComma,
    /// Zero, negative, or no number.
    #[error("a length is not a positive number")]
    BadLength,
    /// Title or text do not end where the lengths say.
    #[error("title or text is not as long as declared")]
    LengthMismatch,
    /// Nothing after or between two later pipes.
    #[error("a section between pipes is empty")]
    EmptySection,
    /// The same section again.
    #[error("two sections of one kind")]
    SectionTwice,
    /// Not a section that events have.
    #[error("unknown section")]
    UnknownSection,
    /// `d:` without a whole number of seconds.
    #[error("the date is not a number of seconds")]
    BadDate,
    /// Neither normal nor low.
    #[error("the priority is neither normal nor low")]
    BadPriority,
    /// Not error, warning, info or success.
    #[error("the alert type is none of error, warning, info and success")]
    BadAlertType,
    /// Sinks take text, and this is none.
    #[error("not UTF-8")]
    NotUtf8,
}

impl EventError {
    fn cause(self) -> &'static str {
        match self {
            Self::NoWrapper => "no_wrapper",
            Self::NoComma => "no_comma",
            Self::BadLength => "bad_length",
            Self::LengthMismatch => "length_mismatch",
            Self::EmptySection => "empty_section",
            Self::SectionTwice => "section_twice",
            Self::UnknownSection => "unknown_section",
            Self::BadDate => "bad_date",
            Self::BadPriority => "bad_priority",
            Self::BadAlertType => "bad_alert_type",
            Self::NotUtf8 => "not_utf8",
        }
    }
}

/// What is wrong with a service check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CheckError {
    /// `_sc` goes on without a `|`.
    #[error("no pipe after _sc")]
    NoPrefix,
    /// Nothing after `_sc`.
    #[error("no name")]
    NoName,
    /// The name has no letters.
    #[error("the name is empty")]
    EmptyName,
    /// Not 0, 1, 2 or 3.
    #[error("the status is none of 0, 1, 2 and 3")]
    BadStatus,
    /// Nothing after or between two later pipes.
    #[error("a section between pipes is empty")]
    EmptySection,
    /// The same section again.
    #[error("two sections of one kind")]
    SectionTwice,
    /// Not a section that service checks have.
    #[error("unknown section")]
    UnknownSection,
    /// `d:` without a whole number of seconds.
    #[error("the date is not a number of seconds")]
    BadDate,
    /// Date, host or tags after `m:`.
    #[error("the message is not the last section")]
    MessageNotLast,
    /// Message or host are no text.
    #[error("not UTF-8")]
    NotUtf8,
}

impl CheckError {
    fn cause(self) -> &'static str {
        match self {
            Self::NoPrefix => "no_prefix",
            Self::NoName => "no_name",
            Self::EmptyName => "empty_name",
            Self::BadStatus => "bad_status",
            Self::EmptySection => "empty_section",
            Self::SectionTwice => "section_twice",
            Self::UnknownSection => "unknown_section",
            Self::BadDate => "bad_date",
            Self::MessageNotLast => "message_not_last",
            Self::NotUtf8 => "not_utf8",
        }
    }
}
