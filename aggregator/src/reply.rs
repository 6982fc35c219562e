//! What any HTTP server's reply says, whoever asked.

use std::time::{Duration, SystemTime};

use http::header::RETRY_AFTER;
use http::{HeaderMap, StatusCode};
use tributary_node::config::REDACTED;

/// A server may not send us away for longer.
pub(crate) const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(600);

/// As much of a server's words as a log line shows, in characters.
pub(crate) const SAID: usize = 300;

/// What `Retry-After` wants us to wait: seconds or a date, up to [`LONGEST_RETRY_AFTER`].
pub(crate) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let wait = match text.parse() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => httpdate::parse_http_date(text)
            .ok()?
            .duration_since(SystemTime::now())
            .ok()?,
    };
    Some(wait.min(LONGEST_RETRY_AFTER))
}

/// Status and the beginning of the server's words, without the `secrets` should they be among them.
pub(crate) fn said(status: StatusCode, body: &[u8], secrets: &[&str]) -> String {
    let words = String::from_utf8_lossy(body);
    // A secret that is cut in two would not be found: it is taken out first, from more than is shown.
    let mut words: String = words.chars().take(16 * SAID).collect();
    for secret in secrets.iter().filter(|secret| !secret.is_empty()) {
        words = words.replace(secret, REDACTED);
    }
    let line = |c: char| if c.is_control() { ' ' } else { c };
    let words: String = words.trim().chars().take(SAID).map(line).collect();
    match words.as_str() {
        "" => format!("answered {}", status.as_u16()),
        words => format!("answered {}: {words}", status.as_u16()),
    }
}
