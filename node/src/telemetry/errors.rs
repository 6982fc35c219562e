//! Errors and panics at Sentry, for those who give a DSN.
//!
//! However many there are, a bounded number is sent; how many were not is told once a minute, and at the end.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use sentry::protocol::{Context, Event};
use sentry::types::Dsn;
use sentry::{ClientInitGuard, ClientOptions, Level};

use crate::config::Secret;
use crate::metrics::SENTRY_ERRORS;
use crate::repeats::More;

/// A DSN that Sentry cannot use. Its text is a secret and not part of the message.
#[derive(Debug, Clone, thiserror::Error)]
#[error("is no Sentry DSN, which looks like https://key@host/1 ({0})")]
pub struct DsnError(String);

// More in a minute tell nothing new and cost the service's quota; so many of one kind, so that they do not hide the others.
const MOST_A_MINUTE: u64 = 30;
const MOST_OF_ONE_KIND: u64 = 5;
const MINUTE: Duration = Duration::from_secs(60);

/// What stands as logger on the event that tells of the others.
const SUMMARY: &str = "tributary.suppressed";
/// Where sentry-tracing puts a log line's fields.
const FIELDS: &str = "Rust Tracing Fields";
/// Which of them are tags: the words for where it happened.
const TAGS: [&str; 5] = ["destination", "sink", "service", "peer", "address"];

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

/// Sends panics and error-level log lines to Sentry until it is dropped.
pub(super) struct Reporter {
    limit: Arc<Limit>,
    /// Dropped last, it waits a moment for what is still to be sent.
    _client: ClientInitGuard,
}

/// Tells Sentry now and then how many errors it was not sent.
#[derive(Debug, Clone)]
pub(super) struct Summary(Arc<Limit>);

// === impl Reporter ===

impl Reporter {
    pub(super) fn start(dsn: Dsn, name: &'static str, version: &'static str) -> Self {
        let limit = Arc::new(Limit::default());
        let judge = Arc::clone(&limit);
        let mut options = ClientOptions::new()
            .release(format!("{name}@{version}"))
            .attach_stacktrace(true)
            .shutdown_timeout(Duration::from_secs(2))
            .before_send(move |mut event| {
                if event.logger.as_deref() == Some(SUMMARY) {
                    return Some(event);
                }
                let kind = kind(&event);
                // Or each number of more of them would be an issue of its own.
                if event.message.as_ref().is_some_and(|text| *text != kind) {
                    event.fingerprint = vec![kind.clone().into()].into();
                }
                let passes = judge.passes(kind, Instant::now());
                let fate = if passes { "sent" } else { "suppressed" };
                SENTRY_ERRORS.with([fate.into()]).increment(1);
                tag(&mut event);
                passes.then_some(event)
            });
        options.dsn = Some(dsn);
        let client = sentry::init(options);
        sentry::configure_scope(|scope| {
            scope.set_tag("role", name);
            scope.set_tag("version", version);
        });
        Self {
            limit,
            _client: client,
        }
    }

    pub(super) fn summary(&self) -> Summary {
        Summary(Arc::clone(&self.limit))
    }
}

impl Drop for Reporter {
    fn drop(&mut self) {
        tell(self.limit.take_suppressed());
    }
}

// === impl Summary ===

impl Summary {
    /// To be called every second or so: tells once a minute at most.
    pub(super) fn tell(&self) {
        tell(self.0.overdue(Instant::now()));
    }
}

fn tell(suppressed: u64) {
    if suppressed > 0 {
        sentry::capture_event(Event {
            level: Level::Error,
            logger: Some(SUMMARY.to_owned()),
            message: Some(format!("{suppressed} more errors were logged and not sent")),
            // Whatever the number: one issue.
            fingerprint: vec![SUMMARY.into()].into(),
            ..Event::default()
        });
    }
}

/// What makes an event one of a kind: its text, without how many more there were of it.
fn kind(event: &Event<'_>) -> String {
    let exception = || event.exception.values.last()?.value.as_deref();
    let text = event
        .message
        .as_deref()
        .or_else(exception)
        .unwrap_or_default();
    More::cut(text).to_owned()
}

/// Moves where it happened from a log line's fields to the tags, which Sentry searches by.
fn tag(event: &mut Event<'_>) {
    let Some(Context::Other(fields)) = event.contexts.get(FIELDS) else {
        return;
    };
    for name in TAGS {
        if let Some(value) = fields.get(name) {
            let text = value
                .as_str()
                .map_or_else(|| value.to_string(), str::to_owned);
            event.tags.insert(name.to_owned(), text);
        }
    }
}

/// So many a minute and no more, of each kind and of all together.
#[derive(Debug, Default)]
struct Limit {
    minute: Mutex<Minute>,
}

#[derive(Debug, Default)]
struct Minute {
    began: Option<Instant>,
    passed: u64,
    /// At most as many kinds as events pass.
    kinds: HashMap<String, u64>,
    /// Not told yet.
    suppressed: u64,
}

// === impl Limit ===

impl Limit {
    fn passes(&self, kind: String, now: Instant) -> bool {
        let mut minute = self.minute.lock();
        if minute.is_over(now) {
            let suppressed = minute.suppressed;
            *minute = Minute {
                began: Some(now),
                suppressed,
                ..Minute::default()
            };
        }
        let of_kind = minute.kinds.get(&kind).copied().unwrap_or_default();
        let passes = minute.passed < MOST_A_MINUTE && of_kind < MOST_OF_ONE_KIND;
        match passes {
            true => {
                minute.passed += 1;
                minute.kinds.insert(kind, of_kind + 1);
            }
            false => minute.suppressed += 1,
        }
        passes
    }

    /// How many were suppressed in a minute that is over; 0 while it is not.
    fn overdue(&self, now: Instant) -> u64 {
        let mut minute = self.minute.lock();
        match minute.is_over(now) {
            true => std::mem::take(&mut minute.suppressed),
            false => 0,
        }
    }

    fn take_suppressed(&self) -> u64 {
        std::mem::take(&mut self.minute.lock().suppressed)
    }
}

impl Minute {
    fn is_over(&self, now: Instant) -> bool {
        self.began
            .is_none_or(|began| now.duration_since(began) >= MINUTE)
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
    fn events_are_limited_by_the_minute_and_no_kind_hides_the_others() {
        let (limit, start) = (Limit::default(), Instant::now());
        let passed = |kind: &str, at| {
            (0..1000)
                .filter(|_| limit.passes(kind.to_owned(), at))
                .count() as u64
        };
        assert_eq!(passed("a", start), MOST_OF_ONE_KIND);
        assert_eq!(passed("b", start), MOST_OF_ONE_KIND);
        let others: u64 = (0..100)
            .map(|other| passed(&other.to_string(), start))
            .sum();
        assert_eq!(others, MOST_A_MINUTE - 2 * MOST_OF_ONE_KIND);
        assert_eq!(limit.overdue(start), 0, "the minute is not over");
        assert_eq!(
            limit.minute.lock().kinds.len() as u64,
            2 + others / MOST_OF_ONE_KIND
        );
        let later = start + MINUTE;
        assert_eq!(limit.overdue(later), 102_000 - MOST_A_MINUTE);
        assert_eq!(limit.overdue(later), 0, "told once");
        assert_eq!(passed("a", later), MOST_OF_ONE_KIND);
        assert_eq!(limit.take_suppressed(), 1000 - MOST_OF_ONE_KIND);
    }

    #[test]
    fn how_many_more_there_were_makes_no_kind_of_its_own() {
        let event = |text: String| Event {
            message: Some(text),
            ..Event::default()
        };
        assert_eq!(
            kind(&event(format!("metrics lost{}", More(1234)))),
            "metrics lost"
        );
        assert_eq!(
            kind(&event("this … and that".to_owned())),
            "this … and that"
        );
    }

    #[test]
    fn where_it_happened_is_a_tag() {
        let fields = [("destination", "global-1:8128"), ("error", "refused")];
        let fields = fields.map(|(key, value)| (key.to_owned(), value.into()));
        let mut event = Event::default();
        let context = Context::Other(fields.into_iter().collect());
        event.contexts.insert(FIELDS.to_owned(), context);
        tag(&mut event);
        let tags: Vec<_> = event.tags.iter().collect();
        assert_eq!(
            tags,
            [(&"destination".to_owned(), &"global-1:8128".to_owned())]
        );
    }
}
