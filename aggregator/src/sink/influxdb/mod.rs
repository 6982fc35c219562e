//! Sink `influxdb`: points and events to InfluxDB, version 1 or 2, as line protocol.
//!
//! Points are gathered for `flush_interval`, or until there are `flush_points`, and posted as bodies of lines, one after the other: no more than one is in memory.
//!
//! On failure:
//! - No connection, a broken one, and 5xx: sent again up to `retries` times after `backoff`; if that does not help, retriable. A request without an answer in `timeout`, 429,
//!   and an answer with `Retry-After`: retriable at once, after that time. A batch that comes again goes on where it was left. A write whose answer was lost is made twice, and
//!   InfluxDB stores it once: the same series and time.
//! - 401, 403, 404 (no such database or bucket): retriable after `max_backoff`, told as an error in the log. Nothing is lost while the queue has room.
//! - 400 and 422 with "partial write": the other lines are stored, so it is not repeated. What InfluxDB dropped is lost: the lines that it shows, or as many as it says.
//! - 400 and 422 otherwise, and 413: the body is divided until the bad lines are alone, up to a bound; what is refused even then is lost.
//! - A batch that the queue, or the end of the program, drops between two tries counts as dropped whole, though part of it may be stored.
//!
//! One request takes up to `timeout`, and one write up to `timeout` for each body and the waits between `retries`. Skipped are points without a name, and events where there is no
//! measurement for them.

mod answer;
mod config;
mod happened;
pub mod line;
mod work;

use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::header::{AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, HeaderValue, USER_AGENT};
use tokio_util::task::AbortOnDropHandle;
use tributary_node::config::Secret;

use self::answer::Answer;
use self::happened::Events;
use self::line::LineWriter;
use self::work::{Body, View, Work};
use super::http::{Client, NoReply, Reply};
use super::unfinished::Unfinished;
use super::{Amount, Gather, Sink, SinkError};
use crate::backoff::Backoff;
use crate::point::Batch;
use crate::secret_file;

pub use config::{Consistency, InfluxConfig};

const GZIP: HeaderValue = HeaderValue::from_static("gzip");
const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");

/// So much is compressed before other tasks get their turn.
const CHUNK: usize = 128 * 1024;

/// Writes to one database or bucket.
struct Influx {
    config: InfluxConfig,
    user_agent: HeaderValue,
    client: Arc<Client>,
    writer: LineWriter,
    /// Its memory is kept.
    body: Body,
    backoff: Backoff,
    events: Events,
    /// A batch that is to come again.
    unfinished: Unfinished<Work>,
    _ping: Option<AbortOnDropHandle<()>>,
}

/// Why a batch has to wait.
struct Pause {
    reason: String,
    after: Duration,
}

/// What goes with a request to say who makes it.
struct Login {
    header: HeaderValue,
    secret: Secret,
}

impl Influx {
    fn new(config: InfluxConfig, name: &str) -> Result<Self, String> {
        let client = Client::new(
            config.write_uri()?,
            &config.tls,
            "influxdb_tls",
            config.timeout.get(),
        )
        .map_err(|error| format!("tls.{error}"))?;
        let client = Arc::new(client);
        let user_agent = HeaderValue::from_str(&config.user_agent)
            .map_err(|error| format!("user_agent: {error}"))?;
        let ping = (!config.ping_timeout.is_zero())
            .then(|| ping(&config, Arc::clone(&client), name.to_owned()))
            .transpose()?;
        Ok(Self {
            user_agent,
            client,
            writer: LineWriter::new(config.format()),
            body: Body::default(),
            backoff: Backoff::new(config.backoff.get(), config.max_backoff.get()),
            events: Events::new(name),
            unfinished: Unfinished::default(),
            _ping: ping,
            config,
        })
    }

    /// What is left of a batch that comes again, or all of another.
    async fn take_up(&mut self, batch: &Batch) -> Work {
        if let Some(work) = self.unfinished.take(batch).await {
            return work;
        }
        Work::new(
            &view(&self.config, &self.events, batch),
            self.config.body_limit.as_usize(),
        )
    }

    /// Sends what is still to be sent.
    async fn send(&mut self, batch: &Batch, work: &mut Work) -> Result<(), Pause> {
        let login = self.login().await?;
        loop {
            let view = view(&self.config, &self.events, batch);
            if !work.fill(&view, &mut self.writer, &mut self.body) {
                return Ok(());
            }
            let packed = self.packed().await;
            let answered = self.ask(packed, login.as_ref()).await;
            let view = self::view(&self.config, &self.events, batch);
            let (answer, said) = match answered {
                Ok(answered) => answered,
                Err(pause) => {
                    work.put_back(&self.body);
                    return Err(pause);
                }
            };
            match answer {
                Answer::Stored => {}
                Answer::Partial(words) => work.partial(&view, &self.body, &words),
                Answer::Refused(words) => work.refused(&view, &self.body, &words),
                Answer::TooLarge => work.too_large(&view, &self.body, &said),
                // These are pauses.
                Answer::Denied | Answer::Later => {}
            }
        }
    }

    /// Posts a body, a few times if need be.
    async fn ask(&mut self, body: Bytes, login: Option<&Login>) -> Result<(Answer, String), Pause> {
        let mut left = self.config.retries;
        loop {
            let encoding = self.config.gzip.then_some(GZIP);
            let posted = self.client.post(
                body.clone(),
                [
                    (CONTENT_TYPE, Some(TEXT)),
                    (CONTENT_ENCODING, encoding),
                    (USER_AGENT, Some(self.user_agent.clone())),
                    (AUTHORIZATION, login.map(|login| login.header.clone())),
                ],
            );
            let (said, asked) = match posted.await {
                Ok(reply) => {
                    let (answer, outcome) = answer::read(&reply);
                    self.events.request(outcome);
                    let secret = login.map_or("", |login| login.secret.expose());
                    let said = reply.said(&[secret]);
                    match answer {
                        Answer::Denied => {
                            self.events.denied(&said);
                            return Err(self.pause(&said, self.backoff.after(u32::MAX)));
                        }
                        Answer::Later => {
                            let asked = reply.retry_after();
                            let in_a_moment = reply.status.is_server_error() && asked.is_none();
                            (
                                said,
                                if in_a_moment {
                                    None
                                } else {
                                    Some(asked.unwrap_or_default())
                                },
                            )
                        }
                        answer => {
                            self.backoff.reset();
                            return Ok((answer, said));
                        }
                    }
                }
                Err(error) => {
                    self.events.request(answer::outcome(&error));
                    let in_a_moment = matches!(error, NoReply::Unreachable(_));
                    (error.to_string(), (!in_a_moment).then_some(Duration::ZERO))
                }
            };
            let wait = self.backoff.next(asked);
            if left == 0 || asked.is_some() {
                return Err(self.pause(&said, wait));
            }
            left -= 1;
            tokio::time::sleep(wait).await;
        }
    }

    /// The body as it is sent.
    async fn packed(&self) -> Bytes {
        let text = &self.body.text;
        if !self.config.gzip {
            return Bytes::copy_from_slice(text);
        }
        let mut gzip = GzEncoder::new(Vec::with_capacity(text.len() / 4), Compression::fast());
        for chunk in text.chunks(CHUNK) {
            // Writing into memory cannot fail.
            let _ = gzip.write_all(chunk);
            tokio::task::yield_now().await;
        }
        gzip.finish().unwrap_or_default().into()
    }

    async fn login(&mut self) -> Result<Option<Login>, Pause> {
        let InfluxConfig {
            version,
            user,
            password,
            password_file,
            token,
            token_file,
            ..
        } = &self.config;
        let (secret, file) = match version {
            1 if user.is_empty() => return Ok(None),
            1 => (password, password_file),
            _ => (token, token_file),
        };
        let secret = match file {
            Some(file) => match secret_file::read(file).await {
                Ok(secret) => secret,
                Err(error) => {
                    let what = format!("{}: {error}", file.display());
                    self.events.request("no_secret");
                    return Err(self.pause(&what, self.backoff.after(u32::MAX)));
                }
            },
            None => secret.clone(),
        };
        if *version != 1 && secret.is_empty() {
            return Ok(None);
        }
        let text = match version {
            1 => format!(
                "Basic {}",
                BASE64_STANDARD.encode(format!("{user}:{}", secret.expose()))
            ),
            _ => format!("Token {}", secret.expose()),
        };
        match HeaderValue::from_str(&text) {
            Ok(mut header) => {
                header.set_sensitive(true);
                Ok(Some(Login { header, secret }))
            }
            Err(error) => {
                self.events.request("no_secret");
                Err(self.pause(&format!("the token: {error}"), self.backoff.after(u32::MAX)))
            }
        }
    }

    fn pause(&self, what: &str, after: Duration) -> Pause {
        Pause {
            reason: format!("{}: {what}", self.client.uri()),
            after,
        }
    }
}

/// Asks whether InfluxDB is there, for the log.
fn ping(
    config: &InfluxConfig,
    client: Arc<Client>,
    name: String,
) -> Result<AbortOnDropHandle<()>, String> {
    let uri = config.ping_uri()?;
    let time = config.ping_timeout.get();
    Ok(AbortOnDropHandle::new(tokio::spawn(async move {
        match client.get(uri, time).await {
            Ok(Reply {
                status, headers, ..
            }) if status.is_success() => {
                let version = headers.get("x-influxdb-version");
                let version = version.and_then(|version| version.to_str().ok());
                Events::ping(&name, Ok(version.unwrap_or("unknown")));
            }
            Ok(reply) => Events::ping(&name, Err(&reply.said(&[]))),
            Err(error) => Events::ping(&name, Err(&error.to_string())),
        }
    })))
}

fn view<'a>(config: &InfluxConfig, events: &'a Events, batch: &'a Batch) -> View<'a> {
    View {
        batch,
        events,
        most: config.flush_points,
        takes_events: !config.events.is_empty(),
    }
}

#[async_trait]
impl Sink for Influx {
    fn gather(&self) -> Gather {
        Gather {
            amount: self.config.flush_points,
            time: self.config.flush_interval.get(),
        }
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
        if work.lost.total() == 0 {
            return Ok(Amount::of(batch) - work.skipped);
        }
        let place = self.client.uri();
        Err(SinkError::refused(place, work.lost, batch, &work.reason))
    }
}
