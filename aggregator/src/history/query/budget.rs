//! What one question may cost.

use std::time::{Duration, Instant};

/// Series that one question may read or make.
const SERIES: usize = 20_000;

/// Values that one question may read or make, 8 bytes each.
const VALUES: usize = 2_000_000;

/// How long one question may be worked on.
const TIME: Duration = Duration::from_secs(10);

/// What is left of what one question may cost.
#[derive(Debug)]
pub(in super::super) struct Budget {
    series: usize,
    values: usize,
    until: Instant,
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(in super::super) enum QueryError {
    /// The question is not one.
    #[error("{0}")]
    Bad(String),
    /// It needs more than a question may take.
    #[error("{0}")]
    TooLarge(String),
    /// It took too long.
    #[error("the question takes too long: ask for fewer series")]
    TooLong,
    /// Too many questions are worked on.
    #[error("too many questions at once: ask again")]
    Busy,
}

impl QueryError {
    pub(in super::super) fn bad(what: impl Into<String>) -> Self {
        Self::Bad(what.into())
    }
}

impl Budget {
    pub(in super::super) fn new() -> Self {
        Self {
            series: SERIES,
            values: VALUES,
            until: Instant::now() + TIME,
        }
    }

    #[cfg(test)]
    pub(in super::super) fn of(series: usize, values: usize) -> Self {
        Self {
            series,
            values,
            ..Self::new()
        }
    }

    /// So many values more.
    pub(in super::super) fn values(&mut self, count: usize) -> Result<(), QueryError> {
        self.values = self.values.checked_sub(count).ok_or_else(|| {
            QueryError::TooLarge(format!("the question needs more than {VALUES} values: ask for fewer series or a shorter time"))
        })?;
        self.time()
    }

    /// One series more, with a name of so many bytes.
    pub(in super::super) fn series(&mut self, name: usize) -> Result<(), QueryError> {
        self.series = self.series.checked_sub(1).ok_or_else(|| {
            QueryError::TooLarge(format!(
                "the question needs more than {SERIES} series: use a narrower pattern"
            ))
        })?;
        self.values(name / 8)
    }

    /// Whether there is time left.
    pub(in super::super) fn time(&self) -> Result<(), QueryError> {
        if Instant::now() < self.until {
            Ok(())
        } else {
            Err(QueryError::TooLong)
        }
    }
}
