//! One metric after the other.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use http::Uri;
use parking_lot::Mutex;
use serde::Serialize;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tributary_node::tls::{ClientTls, TlsError};

use super::super::upload::Work;
use super::fetch::Fetcher;
use super::reply::{Points, minutes, points};
use super::request::{Remote, Request};

/// What is to be fetched, and what became of what was.
#[derive(Debug)]
pub(crate) struct Worker {
    fetcher: Fetcher,
    state: Mutex<State>,
    arrived: Notify,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<Request>,
    /// The newest last.
    known: VecDeque<Progress>,
}

/// Where a metric is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Progress {
    pub(crate) metric: String,
    /// `pending`, `processing`, `complete` or `failed`.
    pub(crate) status: &'static str,
    /// URLs that were asked, of how many.
    pub(crate) fetched: usize,
    pub(crate) urls: usize,
    /// Points that went on.
    pub(crate) points: usize,
    /// What went wrong last, if anything has.
    pub(crate) error: Option<String>,
}

impl Progress {
    fn new(metric: &str) -> Self {
        Self {
            metric: metric.to_owned(),
            status: "pending",
            fetched: 0,
            urls: 0,
            points: 0,
            error: None,
        }
    }
}

/// More requests than these are turned away; whoever posts them does so again.
const MAX_WAITING: usize = 10_000;
/// Metrics whose progress is remembered.
const MAX_KNOWN: usize = 20_000;
const PORTION: usize = 480;
/// How often a server is asked that does not answer, and how long after each other.
const ATTEMPTS: u32 = 3;
const PAUSE: Duration = Duration::from_millis(500);

impl Worker {
    /// `tls` is for servers of `https://`. Must be called within a tokio runtime.
    pub(crate) fn new(tls: &ClientTls) -> Result<Self, TlsError> {
        Ok(Self {
            fetcher: Fetcher::new(tls)?,
            state: Mutex::default(),
            arrived: Notify::new(),
        })
    }

    /// Takes a metric in hand; false if too many wait. One that waits already gets the newer request.
    pub(crate) fn add(&self, request: Request) -> bool {
        let mut state = self.state.lock();
        let same = |waiting: &&mut Request| waiting.metric == request.metric;
        if let Some(waiting) = state.waiting.iter_mut().find(same) {
            *waiting = request;
            return true;
        }
        if state.waiting.len() >= MAX_WAITING {
            return false;
        }
        let progress = Progress {
            urls: request.urls.len(),
            ..Progress::new(&request.metric)
        };
        state.known.retain(|known| known.metric != progress.metric);
        if state.known.len() >= MAX_KNOWN {
            state.known.pop_front();
        }
        state.known.push_back(progress);
        state.waiting.push_back(request);
        drop(state);
        self.arrived.notify_one();
        true
    }

    /// Where a metric is; `None` if nothing is known of it.
    pub(crate) fn progress(&self, metric: &str) -> Option<Progress> {
        let state = self.state.lock();
        let mut known = state.known.iter();
        known.find(|known| known.metric == metric).cloned()
    }

    /// Fetches what there is and what comes, until `stop`.
    pub(crate) async fn run(
        &self,
        work: &dyn Work,
        now: impl Fn() -> i64 + Send + Sync,
        stop: &CancellationToken,
    ) {
        let all = async {
            loop {
                let next = self.state.lock().waiting.pop_front();
                match next {
                    Some(request) => self.populate(&request, work, now()).await,
                    None => self.arrived.notified().await,
                }
            }
        };
        stop.run_until_cancelled(all).await;
    }

    async fn populate(&self, request: &Request, work: &dyn Work, now: i64) {
        self.note(request, |progress| {
            // A request for the same metric may have come since, or been under way when this one came.
            *progress = Progress {
                status: "processing",
                urls: request.urls.len(),
                ..Progress::new(&request.metric)
            };
        });
        let result = self.fetch_and_send(request, work, now).await;
        self.note(request, |progress| match &result {
            Ok(points) => {
                progress.points = *points;
                // Some of the servers may not have answered; what there was is sent.
                let all = progress.error.is_none() || *points > 0;
                progress.status = if all { "complete" } else { "failed" };
            }
            Err(error) => {
                progress.status = "failed";
                progress.error = Some(error.clone());
            }
        });
        let metric = &request.metric;
        match result {
            Ok(points) => tracing::debug!(metric, points, "populated"),
            Err(error) => tracing::warn!(metric, error, "a metric could not be populated"),
        }
    }

    async fn fetch_and_send(
        &self,
        request: &Request,
        work: &dyn Work,
        now: i64,
    ) -> Result<usize, String> {
        let last = work.last(&request.metric).await?;
        let mut all = Points::new();
        for url in &request.urls {
            let url = match request.remote {
                Remote::Prometheus => cut_range(url, last, now),
                Remote::Graphite => url.clone(),
            };
            let body = self.fetch(&url, request).await;
            let found = body.and_then(|body| points(request.remote, &body));
            self.note(request, |progress| progress.fetched += 1);
            match found {
                Ok(points) => all.extend(points),
                // Another one may have the rest. What this one has is lost, for the newest time is known afterwards.
                Err(error) => self.note(request, |progress| progress.error = Some(error)),
            }
        }
        let new = minutes(all, last, now);
        for portion in new.chunks(PORTION) {
            work.store(&request.metric, portion).await?;
        }
        Ok(new.len())
    }

    /// Asks a server again that may be back soon.
    async fn fetch(&self, url: &Uri, request: &Request) -> Result<Bytes, String> {
        let mut attempt = 1;
        loop {
            match self.fetcher.get(url, &request.login).await {
                Ok(body) => return Ok(body),
                Err(failed) if failed.again && attempt < ATTEMPTS => {
                    tokio::time::sleep(PAUSE * attempt).await;
                    attempt += 1;
                }
                Err(failed) => return Err(failed.why),
            }
        }
    }

    fn note(&self, request: &Request, change: impl FnOnce(&mut Progress)) {
        let mut state = self.state.lock();
        let mut known = state.known.iter_mut().rev();
        if let Some(progress) = known.find(|known| known.metric == request.metric) {
            change(progress);
        }
    }
}

/// Asks for no more than what is missing: the range in brackets of a Prometheus query is cut to the minutes since `last`, and two more.
fn cut_range(url: &Uri, last: Option<i64>, now: i64) -> Uri {
    let cut = || {
        let minutes = (now - last?).div_euclid(60) + 2;
        if !(2..600).contains(&minutes) {
            return None;
        }
        let text = url.to_string();
        let (before, rest) = text
            .rsplit_once("%5B")
            .map(|(before, rest)| (format!("{before}%5B"), rest))
            .or_else(|| text.rsplit_once('[').map(|(b, r)| (format!("{b}["), r)))?;
        let end = rest.find(']').or_else(|| rest.find("%5D"))?;
        let (range, after) = rest.split_at_checked(end)?;
        let is_range = range.bytes().all(|byte| byte.is_ascii_alphanumeric());
        is_range.then(|| format!("{before}{minutes}m{after}").parse().ok())?
    };
    cut().unwrap_or_else(|| url.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_cut_to_what_is_missing() {
        let cut = |url: &str, last| cut_range(&url.parse().unwrap(), last, 10_000).to_string();
        let url = "http://h/api/v1/query?query=up[15d]";
        assert_eq!(cut(url, Some(9_700)), "http://h/api/v1/query?query=up[7m]");
        assert_eq!(cut(url, None), url);
        assert_eq!(cut(url, Some(-90_000)), url, "too long ago");
        let encoded = "http://h/q?query=up%5B15d%5D&x=1";
        assert_eq!(cut(encoded, Some(9_990)), "http://h/q?query=up%5B2m%5D&x=1");
        assert_eq!(
            cut("http://h/q?query=up", Some(9_990)),
            "http://h/q?query=up"
        );
    }
}
