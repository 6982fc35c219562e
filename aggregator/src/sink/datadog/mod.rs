//! Sink `datadog`: points, service checks and events to Datadog's HTTP API.
//!
//! Points go as `POST /api/v2/series` in JSON, compressed; service checks as lists to `POST /api/v1/check_run`, events one by one to `POST /api/v1/events`. All
//! three are the documented interface (<https://docs.datadoghq.com/api/latest/>). JSON and not the protobuf that Datadog's agent sends, because it is the one
//! that is documented and that proxies in between can read; compressed, the two are of about the same length.
//!
//! On failure:
//! - No answer, 408, 429, 5xx and whatever else says nothing about the points: retriable, after `backoff` with jitter, or what `Retry-After` or
//!   `X-RateLimit-Reset` asks for, for as long as the queue has room. Bodies of the batch that were taken are remembered, and not sent again. A body whose answer
//!   was lost may have been taken, and is sent again: Datadog keeps one point for each series and second, so that counts once; a service check or an event
//!   may be there twice.
//! - 401 and 403: the same, after `max_backoff`. An `api_key_file` is read again for each write.
//! - 413: the body is divided, and those that follow are shorter. 400 and 422: the body is divided until the bad points are alone, up to a bound; they are lost.
//! - 202 with errors in its body: taken; the errors are counted and told.
//! - A batch that the queue, or the end of the program, drops between two tries counts as dropped whole, though part of it may be stored.
//!
//! One write takes up to `timeout` for each body. Nothing is skipped but what `metric_name_prefix_drops` names.

mod answer;
mod body;
mod config;
mod happened;
mod post;
mod work;

#[cfg(test)]
mod tests;

use async_trait::async_trait;

use self::body::Format;
use self::happened::Events;
use self::post::{Pause, Post};
use self::work::Work;
use super::unfinished::Unfinished;
use super::{Amount, Gather, Sink, SinkError};
use crate::point::Batch;

pub use config::DatadogConfig;

/// Sends to one account of Datadog.
struct Datadog {
    format: Format,
    gather: Gather,
    post: Post,
    events: Events,
    /// A batch that is to come again.
    unfinished: Unfinished<Work>,
}

impl Datadog {
    fn new(config: &DatadogConfig, name: &str) -> Result<Self, String> {
        Ok(Self {
            format: config.format(),
            gather: Gather {
                amount: config.flush_max_per_body,
                time: config.interval.get(),
            },
            post: Post::new(config)?,
            events: Events::new(name),
            unfinished: Unfinished::default(),
        })
    }

    async fn send(&mut self, batch: &Batch, work: &mut Work) -> Result<(), Pause> {
        self.post.read_key().await?;
        let (format, events) = (&self.format, &self.events);
        work.send_points(batch, format, &mut self.post, events)
            .await?;
        work.send_events(batch, format, &mut self.post, events)
            .await
    }
}

#[async_trait]
impl Sink for Datadog {
    fn gather(&self) -> Gather {
        self.gather
    }

    async fn write(&mut self, batch: &Batch) -> Result<Amount, SinkError> {
        let kept = self.unfinished.take(batch).await;
        let mut work = kept.unwrap_or_else(|| Work::new(&self.format));
        if let Err(Pause { reason, after }) = self.send(batch, &mut work).await {
            self.unfinished.keep(batch, work).await;
            let after = Some(after);
            return Err(SinkError::Retriable { reason, after });
        }
        if work.lost.total() == 0 {
            return Ok(work.written);
        }
        let place = self.post.place();
        Err(SinkError::refused(place, work.lost, batch, &work.reason))
    }
}
