//! Errors and panics at Sentry, for those who give a DSN.

use std::time::{Duration, Instant};

use parking_lot::Mutex;
use sentry::types::Dsn;
use sentry::{ClientInitGuard, ClientOptions};

use crate::config::Secret;
use crate::metrics::SENTRY_ERRORS;

/// A DSN that Sentry cannot use. Its text is a secret and not part of the message.
#[derive(Debug, Clone, thiserror::Error)]
#[error("is no Sentry DSN, which looks like https://key@host/1 ({0})")]
pub struct DsnError(String);

// More in a minute tell nothing new and cost the service's quota.
const MOST_A_MINUTE: u64 = 30;

/// The DSN, where one is given.
///
/// # Errors
/// When it is malformed.
pub fn check_dsn(dsn: &Secret) -> Result<Option<Dsn>, DsnError> {
    let text = dsn.expose().trim();
    if text.is_empty() {
        return Ok(None);
    }
    text.parse()
        .map(Some)
        .map_err(|error: sentry::types::ParseDsnError| DsnError(error.to_string()))
}

/// Sends panics and error-level log lines to Sentry until the guard is dropped.
pub(super) fn start(dsn: Dsn, name: &'static str, version: &'static str) -> ClientInitGuard {
    let limit = Limit::default();
    let mut options = ClientOptions::new()
        .release(format!("{name}@{version}"))
        .attach_stacktrace(true)
        .shutdown_timeout(Duration::from_secs(2))
        .before_send(move |event| {
            let passes = limit.passes(Instant::now());
            let fate = if passes { "sent" } else { "suppressed" };
            SENTRY_ERRORS.with([fate.into()]).increment(1);
            passes.then_some(event)
        });
    options.dsn = Some(dsn);
    let guard = sentry::init(options);
    sentry::configure_scope(|scope| {
        scope.set_tag("role", name);
        scope.set_tag("version", version);
    });
    guard
}

/// So many a minute and no more.
#[derive(Debug, Default)]
struct Limit {
    minute: Mutex<Option<(Instant, u64)>>,
}

// === impl Limit ===

impl Limit {
    fn passes(&self, now: Instant) -> bool {
        let mut minute = self.minute.lock();
        let over =
            minute.is_none_or(|(began, _)| now.duration_since(began) >= Duration::from_secs(60));
        if over {
            *minute = None;
        }
        let (_, count) = minute.get_or_insert((now, 0));
        *count += 1;
        *count <= MOST_A_MINUTE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_dsn_is_off_and_a_malformed_one_is_an_error_without_its_text() {
        assert!(matches!(check_dsn(&Secret::default()), Ok(None)));
        assert!(matches!(check_dsn(&Secret::new("  ")), Ok(None)));
        assert!(matches!(
            check_dsn(&Secret::new("https://key@sentry.example/1")),
            Ok(Some(_))
        ));
        for bad in [
            "hunter2",
            "https://sentry.example/1",
            "https://hunter2@/1",
            "hunter2://key@host/1",
        ] {
            let error = check_dsn(&Secret::new(bad)).expect_err(bad).to_string();
            assert!(!error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn events_are_limited_by_the_minute() {
        let limit = Limit::default();
        let start = Instant::now();
        let passed = (0..1000).filter(|_| limit.passes(start)).count();
        assert_eq!(passed as u64, MOST_A_MINUTE);
        assert!(limit.passes(start + Duration::from_secs(61)));
    }
}
