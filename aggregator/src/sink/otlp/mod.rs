//! Sink `otlp`: points to whatever takes OpenTelemetry's protocol, over gRPC or HTTP; histograms and timers as exponential histograms.
//!
//! A batch is sent in as many requests as its size wants, one after the other. What becomes of each kind of point is in `docs/otlp.md`.
//!
//! On failure:
//! - No answer in time, a connection that fails, gRPC's `CANCELLED`, `DEADLINE_EXCEEDED`, `ABORTED`, `OUT_OF_RANGE`, `UNAVAILABLE` and `DATA_LOSS`,
//!   `RESOURCE_EXHAUSTED` with a time to wait, and HTTP's 429, 502, 503 and 504: retriable, after `backoff` with jitter, or after what the server asks for
//!   (`RetryInfo`, `Retry-After`) where that is longer, for as long as the queue has room. Requests of the batch that were taken are
//!   not sent again. One whose answer was lost may have been taken, and is sent again: receivers of deltas may then count it twice.
//! - Everything else: the request's points are lost, with the server's words in the log, and the rest of the batch goes on.
//! - A partial success: so many points of the request as the server has rejected data points are lost, and never sent again. A distribution is one data
//!   point for several points, so a rejected one may count for fewer than it stands for.
//! - A batch that the queue, or the end of the program, drops between two tries counts as dropped whole, though part of it may have arrived.
//!
//! One write takes up to `timeout` for each request. Skipped are events; with `monotonic_counters` totals below zero; with `temporality: cumulative` series
//! beyond `max_series`; and points too long for any request.

mod answer;
mod attributes;
mod config;
mod exponential;
mod happened;
mod request;
mod shape;
mod totals;
mod transport;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Instant;

use async_trait::async_trait;
use http::{HeaderMap, HeaderValue};

use self::answer::Answer;
use self::config::header_name;
use self::happened::Events;
use self::request::{Format, Place};
use self::totals::Totals;
use self::transport::Transport;
use super::unfinished::Unfinished;
use super::{Amount, Sink, SinkError};
use crate::backoff::Backoff;
use crate::point::Batch;
use crate::secret_file;

pub use config::{Compression, Histograms, OtlpConfig, Protocol, Temporality};

/// Sends points to one receiver.
struct Otlp {
    format: Format,
    headers: HeaderMap,
    header_files: BTreeMap<String, PathBuf>,
    transport: Transport,
    backoff: Backoff,
    totals: Totals,
    events: Events,
    /// A batch that is to come again.
    unfinished: Unfinished<Progress>,
}

/// What became of the part of a batch that was sent.
#[derive(Debug, Clone, Default)]
struct Progress {
    next: Place,
    written: usize,
    lost: usize,
    /// The last words with which points were refused.
    said: String,
}

impl Otlp {
    fn new(config: OtlpConfig, name: &str) -> Result<Self, String> {
        Ok(Self {
            format: Format::new(&config),
            headers: config.plain_headers()?,
            transport: Transport::new(&config)?,
            backoff: Backoff::new(config.backoff.get(), config.max_backoff.get()),
            totals: Totals::new(config.max_series, config.series_expiry.get()),
            events: Events::new(name),
            header_files: config.header_files,
            unfinished: Unfinished::default(),
        })
    }

    /// All headers, with the secret ones as their files have them now.
    async fn headers(&self) -> Result<HeaderMap, String> {
        let mut headers = self.headers.clone();
        for (name, file) in &self.header_files {
            let wrong = |what: &str| format!("header_files.{name}: {}: {what}", file.display());
            let secret = secret_file::read(file).await;
            let secret = secret.map_err(|error| wrong(&error.to_string()))?;
            let mut value = HeaderValue::from_str(secret.expose())
                .map_err(|_| wrong("has characters that no header can have"))?;
            value.set_sensitive(true);
            headers.insert(header_name("header_files", name)?, value);
        }
        Ok(headers)
    }

    /// Sends what is left of a batch. The error is why to stop, and when to go on.
    async fn send(&mut self, batch: &Batch, progress: &mut Progress) -> Result<(), SinkError> {
        let headers = self
            .headers()
            .await
            .map_err(|reason| SinkError::Retriable {
                reason,
                after: Some(self.backoff.next(None)),
            })?;
        // Buckets and bytes of thousands of points take their time; other tasks get their turn at each request's answer.
        while let Some(request) = request::next(&self.format, batch, progress.next, &self.totals) {
            self.events.skipped(request.skipped);
            if request.data_points == 0 {
                progress.next = request.next;
                continue;
            }
            let answer = self.transport.send(request.body, headers.clone()).await;
            self.events.answered(&answer, request.data_points);
            let lost = match answer {
                Answer::Taken { rejected, said } => {
                    if rejected > 0 {
                        progress.said = said;
                    }
                    // All data points are all points; of fewer nobody says which.
                    match rejected >= request.data_points {
                        true => request.points,
                        false => rejected,
                    }
                }
                Answer::Refused { said } => {
                    progress.said = said;
                    request.points
                }
                Answer::Later { said, after } => {
                    return Err(SinkError::Retriable {
                        reason: format!("{}: {said}", self.transport.uri()),
                        after: Some(self.backoff.next(after)),
                    });
                }
            };
            self.backoff.reset();
            // Also of what was refused: the next total has it in it.
            self.totals.commit(request.totals, Instant::now());
            progress.next = request.next;
            progress.lost += lost;
            progress.written += request.points - lost;
        }
        Ok(())
    }
}

#[async_trait]
impl Sink for Otlp {
    fn wants_distributions(&self) -> bool {
        self.format.histograms != Histograms::Points
    }

    async fn write(&mut self, batch: &Batch) -> Result<Amount, SinkError> {
        let mut progress = self.unfinished.take(batch).await.unwrap_or_default();
        if let Err(error) = self.send(batch, &mut progress).await {
            if progress.next != Place::default() {
                self.unfinished.keep(batch, progress).await;
            }
            return Err(error);
        }
        if progress.lost == 0 {
            return Ok(Amount::points(progress.written));
        }
        let (place, lost) = (self.transport.uri(), Amount::points(progress.lost));
        Err(SinkError::refused(place, lost, batch, &progress.said))
    }
}

#[cfg(test)]
mod tests;
