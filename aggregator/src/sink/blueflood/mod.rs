//! Sink `blueflood`: points to Blueflood's ingest API, with a token of Keystone's where one is wanted. It takes the place of blueflood-carbon-forwarder.
//!
//! A batch is sent as `POST {url}/v2.0/{tenant}/ingest`, one body after the other, none longer than `body_limit`. A counter's value is the interval's total.
//!
//! On failure:
//! - No answer, 429, 5xx, and whatever else says nothing about the points: retriable, after `backoff` with jitter or what `Retry-After` asks for, for as long as
//!   the queue has room. Bodies of the batch that were stored are remembered, and not sent again. A request whose answer was lost may have been stored,
//!   and is sent again: its points then arrive twice, which Blueflood stores once (the same name and time are the same cell).
//! - 401 and 403: with `keystone`, one new login and the same body at once; if that is refused as well, or there is no login, as above.
//! - 207 and 400 that name points: those that break a rule are lost at once, those that could not be stored are sent again up to `retries` times. The
//!   others are stored (207), or sent again at once without them (400).
//! - 207 and 400 that name none, and 413: the body is divided until the bad points are alone, up to a bound; what is refused even then is lost.
//! - A batch that the queue, or the end of the program, drops between two tries counts as dropped whole, though part of it may be stored.
//!
//! One write takes up to twice `timeout` for each body, and as much for each login. Events are skipped.

mod answer;
mod body;
mod config;
mod happened;
mod keystone;
mod session;
mod work;

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::HeaderName;
use http::header::{CONTENT_TYPE, HeaderValue};

use self::answer::Answer;
use self::body::Format;
use self::happened::Events;
use self::keystone::{LoginError, Token};
use self::session::Session;
use self::work::{View, Work};
use super::http::{Client, Reply};
use super::unfinished::Unfinished;
use super::{Amount, Gather, Sink, SinkError};
use crate::backoff::Backoff;
use crate::point::{Batch, Timestamp};

pub use config::BluefloodConfig;

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const TOKEN: HeaderName = HeaderName::from_static("x-auth-token");
const TENANT: HeaderName = HeaderName::from_static("x-tenant-id");

/// What a point takes in a body, roughly: when so many were gathered, a body is full.
const USUAL_POINT: usize = 100;

/// Sends points to one tenant of one Blueflood.
struct Blueflood {
    format: Format,
    overwrite_time: bool,
    body_limit: usize,
    gather: Gather,
    retries: u32,
    tenant: String,
    client: Client,
    session: Option<Session>,
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

/// An answer to a body, and the token that it went with.
struct Answered {
    reply: Reply,
    token: Option<Token>,
}

impl Blueflood {
    fn new(config: &BluefloodConfig, name: &str) -> Result<Self, String> {
        let timeout = config.timeout.get();
        let client = Client::new(config.ingest()?, &config.tls, "blueflood_tls", timeout)
            .map_err(|error| format!("tls.{error}"))?;
        let session = match &config.keystone {
            Some(keystone) => {
                let uri = keystone.endpoint()?;
                let client = Client::new(uri, &keystone.tls, "keystone_tls", timeout)
                    .map_err(|error| format!("keystone.tls.{error}"))?;
                Some(Session::new(keystone.clone(), client))
            }
            None => None,
        };
        let body_limit = config.body_limit.as_usize();
        Ok(Self {
            format: Format {
                naming: config.naming()?,
                ttl: config.ttl.get().as_secs(),
            },
            overwrite_time: config.overwrite_collection_timestamp,
            body_limit,
            gather: Gather {
                amount: (body_limit / USUAL_POINT).max(1),
                time: config.interval.get(),
            },
            retries: config.retries,
            tenant: config.tenant.clone(),
            client,
            session,
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
        let now = self.overwrite_time.then(|| Timestamp::now().millis());
        Work::new(self.body_limit, now)
    }

    /// Sends what is to be sent now.
    async fn send(&mut self, batch: &Batch, work: &mut Work) -> Result<(), Pause> {
        loop {
            let view = self.view(batch);
            let Some((body, part)) = work.fill(view) else {
                break;
            };
            let length = body.len();
            let Answered { reply, token } = match self.ask(body.into()).await {
                Ok(answered) => answered,
                Err(pause) => {
                    work.put_back(part);
                    return Err(pause);
                }
            };
            let (answer, outcome) = answer::read(&reply);
            self.events.request(outcome);
            if !matches!(answer, Answer::Later) {
                self.backoff.reset();
            }
            let secret = token.as_ref().and_then(|token| token.id.to_str().ok());
            let said = reply.said(&[secret.unwrap_or_default()]);
            let view = self.view(batch);
            match answer {
                Answer::Stored => work.stored(&part),
                Answer::Refused { rest_stored, named } => {
                    work.refused(view, part, rest_stored, &named, &said);
                }
                Answer::TooLarge => work.too_large(view, part, length, &said),
                Answer::Later => {
                    work.put_back(part);
                    return Err(self.pause(said, reply.retry_after()));
                }
            }
        }
        match work.send_again() {
            Some((points, tries)) => Err(Pause {
                reason: format!(
                    "{}: {points} points were refused and are sent again: {}",
                    self.client.uri(),
                    work.reason
                ),
                after: self.backoff.after(tries.saturating_sub(1)),
            }),
            None => Ok(()),
        }
    }

    fn view<'a>(&'a self, batch: &'a Batch) -> View<'a> {
        View {
            batch,
            format: &self.format,
            events: &self.events,
            retries: self.retries,
        }
    }

    /// Posts a body; when the token is refused, once more with a new one.
    async fn ask(&mut self, body: Bytes) -> Result<Answered, Pause> {
        let token = match &mut self.session {
            Some(session) => Some(session.token(&self.events).await),
            None => None,
        };
        let token = token.transpose().map_err(|error| self.no_login(&error))?;
        let mut answered = self.post(body.clone(), token).await?;
        if let (401 | 403, Some(session)) = (answered.reply.status.as_u16(), &mut self.session) {
            self.events.request("unauthorized");
            let token = session.renew(&self.events).await;
            let token = token.map_err(|error| self.no_login(&error))?;
            answered = self.post(body, Some(token)).await?;
        }
        Ok(answered)
    }

    async fn post(&mut self, body: Bytes, token: Option<Token>) -> Result<Answered, Pause> {
        // The tenant of the token, which need not be the one in the path.
        let tenant = token.as_ref().and_then(|token| {
            let own = || self.tenant.parse().ok();
            token.tenant.clone().or_else(own)
        });
        let id = token.as_ref().map(|token| token.id.clone());
        match self
            .client
            .post(
                body,
                [(CONTENT_TYPE, Some(JSON)), (TOKEN, id), (TENANT, tenant)],
            )
            .await
        {
            Ok(reply) => Ok(Answered { reply, token }),
            Err(error) => {
                self.events.request(answer::outcome(&error));
                Err(self.pause(error.to_string(), None))
            }
        }
    }

    fn no_login(&mut self, error: &LoginError) -> Pause {
        Pause {
            reason: format!("no token for {}: {error}", self.client.uri()),
            after: self.backoff.next(error.retry_after()),
        }
    }

    fn pause(&mut self, what: String, asked: Option<Duration>) -> Pause {
        Pause {
            reason: format!("{}: {what}", self.client.uri()),
            after: self.backoff.next(asked),
        }
    }
}

#[async_trait]
impl Sink for Blueflood {
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
