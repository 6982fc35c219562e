//! Sink `remote_write`: points by Prometheus' remote write, 2.0 or 1.0.
//!
//! A batch is sent as requests of up to `batch_write_size` samples, in order of time. Counters go out as totals that this sink adds up (or, if so configured,
//! as each interval's number); a batch is added to them once, however often it is sent, and also if the queue drops it later.
//!
//! On failure:
//! - No answer, 429, 5xx: retriable, after `backoff` with jitter or what `Retry-After` asks for, for as long as the queue has room. Requests of the batch that
//!   were stored are not sent again. One whose answer was lost may have been stored, and is sent again, which servers take for what it is: the same sample.
//! - 400, 413 and 422: the request is sent again in halves until the bad samples are alone, up to a bound, unless the server counts what it has stored.
//!   What is refused even then is lost.
//! - Any other 4xx: as the protocol wants it, the request is not repeated, and its samples are lost.
//! - 415, or an answer that does not count samples, to a request of 2.0: it is sent again as 1.0, and so is all that follows.
//!
//! One write takes up to `remote_timeout` for each request. Events are skipped.

mod answer;
mod config;
mod happened;
mod message;
#[cfg(test)]
mod tests;
mod totals;
mod work;

use std::time::Duration;

use async_trait::async_trait;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, USER_AGENT};
use http::{HeaderMap, HeaderName, HeaderValue, Method};

use self::answer::{Answer, Cause};
use self::config::Protocol;
use self::happened::Events;
use self::message::Version;
use self::totals::Totals;
use self::work::{Maker, Work};
use super::unfinished::Unfinished;
use super::{Amount, Gather, Sink, SinkError};
use crate::backoff::Backoff;
use crate::point::Batch;
use crate::prometheus::client::{Client, ClientParts};
use crate::prometheus::login::Login;
use crate::prometheus::naming::Naming;

pub use config::RemoteWriteConfig;

const VERSION: HeaderName = HeaderName::from_static("x-prometheus-remote-write-version");
const AGENT: &str = concat!("tributary/", env!("CARGO_PKG_VERSION"));
/// As much of an answer as is read.
const LONGEST_ANSWER: usize = 1 << 20;

/// Writes to one server.
struct RemoteWrite {
    client: Client,
    version: Version,
    may_fall_back: bool,
    headers: Vec<(HeaderName, HeaderValue)>,
    samples: usize,
    gather: Gather,
    maker: Maker,
    backoff: Backoff,
    events: Events,
    /// A batch that is to come again.
    unfinished: Unfinished<Work>,
}

/// Why a batch has to wait.
struct Pause {
    reason: String,
    after: Duration,
}

impl RemoteWrite {
    fn new(config: &RemoteWriteConfig, name: &str) -> Result<Self, String> {
        let client = Client::new(ClientParts {
            uri: config.uri()?,
            way: config.way()?,
            tls: &config.tls,
            hop: "remote_write_tls",
            login: Login::new(config.basic_auth.as_ref(), config.authorization.as_ref()),
            timeout: config.remote_timeout.get(),
            longest: LONGEST_ANSWER,
        });
        let labels = config.external_labels.clone();
        Ok(Self {
            client: client.map_err(|error| format!("tls.{error}"))?,
            version: match config.protocol {
                Protocol::V1 => Version::V1,
                Protocol::Auto | Protocol::V2 => Version::V2,
            },
            may_fall_back: config.protocol == Protocol::Auto,
            headers: config
                .own_headers()
                .map_err(|problems| problems.join("; "))?,
            samples: config.batch_write_size,
            gather: Gather {
                amount: config.batch_write_size,
                time: config.interval.get(),
            },
            maker: Maker {
                naming: Naming {
                    prefix: config.prefix.clone(),
                    style: config.naming,
                    plain_counters: !config.convert_counters_to_monotonic,
                    hostname_label: config.hostname_label.clone(),
                    fixed: labels.into_iter().collect(),
                },
                monotonic: config.convert_counters_to_monotonic,
                totals: Totals::new(config.max_series, config.expire_after.get()),
            },
            backoff: Backoff::new(config.backoff.get(), config.max_backoff.get()),
            events: Events::new(name),
            unfinished: Unfinished::default(),
        })
    }

    /// What is left of a batch that comes again, or all of another.
    async fn take_up(&mut self, batch: &Batch) -> Work {
        if let Some(work) = self.unfinished.take(batch).await {
            return work;
        }
        let work = Work::new(batch, &mut self.maker, &self.events).await;
        self.events.totals(self.maker.totals.len());
        work
    }

    fn headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.extend(self.headers.iter().cloned());
        let fixed = [
            (CONTENT_TYPE, self.version.content_type()),
            (CONTENT_ENCODING, "snappy"),
            (VERSION, self.version.number()),
        ];
        for (name, value) in fixed {
            headers.insert(name, HeaderValue::from_static(value));
        }
        headers
            .entry(USER_AGENT)
            .or_insert(HeaderValue::from_static(AGENT));
        headers
    }

    async fn send(&mut self, batch: &Batch, work: &mut Work) -> Result<(), Pause> {
        while let Some(part) = work.next(self.samples) {
            let body = match work.encode(&part, self.version, batch, &self.maker) {
                Ok(body) => body,
                // More than 4 GiB.
                Err(error) => {
                    let said = error.to_string();
                    work.refused(part, true, Cause::TooLarge, batch, &said, &self.events);
                    continue;
                }
            };
            let asked = self.client.ask(Method::POST, self.headers(), body.into());
            let reply = match asked.await {
                Ok(reply) => reply,
                Err(error) => {
                    self.events.request(error.cause());
                    work.put_back(part);
                    return Err(self.pause(&error.to_string(), None));
                }
            };
            let (answer, outcome) =
                answer::read(&reply, part.len(), self.version, self.may_fall_back);
            self.events.request(outcome);
            let said = reply.said();
            if answer != Answer::Later {
                self.backoff.reset();
            }
            match answer {
                Answer::Written => work.stored(&part),
                Answer::Partly(stored) => {
                    let cause = Cause::of(&reply);
                    work.stored_some(&part, stored, cause, batch, &said, &self.events);
                }
                Answer::Refused { divide } => {
                    let cause = Cause::of(&reply);
                    work.refused(part, divide, cause, batch, &said, &self.events);
                }
                Answer::Fallback => {
                    self.events.fell_back(&said);
                    self.version = Version::V1;
                    work.put_back(part);
                }
                Answer::Later => {
                    work.put_back(part);
                    return Err(self.pause(&said, reply.retry_after()));
                }
            }
        }
        Ok(())
    }

    fn pause(&mut self, what: &str, asked: Option<Duration>) -> Pause {
        Pause {
            reason: format!("{}: {what}", self.client.uri()),
            after: self.backoff.next(asked),
        }
    }
}

#[async_trait]
impl Sink for RemoteWrite {
    fn gather(&self) -> Gather {
        self.gather
    }

    async fn write(&mut self, batch: &Batch) -> Result<Amount, SinkError> {
        let mut work = self.take_up(batch).await;
        if let Err(Pause { reason, after }) = self.send(batch, &mut work).await {
            self.unfinished.keep(batch, work).await;
            return Err(SinkError::Retriable {
                reason,
                after: Some(after),
            });
        }
        if work.lost == 0 {
            return Ok(Amount::points(work.written));
        }
        let (place, lost) = (self.client.uri(), Amount::points(work.lost));
        Err(SinkError::refused(place, lost, batch, &work.reason))
    }
}
