//! One body to Datadog: compressed, with the key, and its answer.

use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use http::{HeaderName, HeaderValue};
use tributary_node::config::Secret;

use super::answer::{self, Answer};
use super::body::Route;
use super::config::{DatadogConfig, Encoding};
use super::happened::Events;
use crate::backoff::Backoff;
use crate::secret_file;
use crate::sink::http::Client;

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const KEY: HeaderName = HeaderName::from_static("dd-api-key");

/// Posts to the paths of one address.
pub(super) struct Post {
    series: Client,
    checks: Client,
    events: Client,
    key: Secret,
    key_file: Option<PathBuf>,
    encoding: Encoding,
    backoff: Backoff,
    max_backoff: Duration,
}

/// Why a batch has to wait.
#[derive(Debug)]
pub(super) struct Pause {
    pub(super) reason: String,
    pub(super) after: Duration,
}

/// A body as it is sent.
#[derive(Debug)]
pub(super) struct Packed {
    body: Bytes,
    encoding: Option<&'static str>,
}

impl Packed {
    pub(super) fn len(&self) -> usize {
        self.body.len()
    }
}

impl Post {
    pub(super) fn new(config: &DatadogConfig) -> Result<Self, String> {
        let timeout = config.timeout.get();
        let uri = config.uri(Route::Series.path())?;
        let series = Client::new(uri, &config.tls, "datadog_tls", timeout)
            .map_err(|error| format!("tls.{error}"))?;
        Ok(Self {
            checks: series.at(config.uri(Route::Checks.path())?),
            events: series.at(config.uri(Route::Events.path())?),
            series,
            key: config.api_key.clone(),
            key_file: config.api_key_file.clone(),
            encoding: config.compression,
            backoff: Backoff::new(config.backoff.get(), config.max_backoff.get()),
            max_backoff: config.max_backoff.get(),
        })
    }

    /// Where series go.
    pub(super) fn place(&self) -> String {
        self.series.uri().to_string()
    }

    /// Takes the key from its file, where it is in one.
    pub(super) async fn read_key(&mut self) -> Result<(), Pause> {
        let Some(path) = &self.key_file else {
            return Ok(());
        };
        match secret_file::read(path).await {
            Ok(key) => {
                self.key = key;
                Ok(())
            }
            Err(error) => Err(Pause {
                reason: format!("api_key_file: {}: {error}", path.display()),
                after: self.backoff.next(None),
            }),
        }
    }

    /// A body as it is sent.
    pub(super) async fn pack(&self, route: Route, body: Vec<u8>) -> Result<Packed, Pause> {
        let encoding = match route {
            Route::Series => self.encoding,
            Route::Checks | Route::Events => Encoding::None,
        };
        let name = match encoding {
            Encoding::Gzip => Some("gzip"),
            Encoding::Deflate => Some("deflate"),
            Encoding::None => None,
        };
        // Compressing megabytes takes a while: not on a thread that serves a network.
        let packed = tokio::task::spawn_blocking(move || compressed(encoding, body)).await;
        match packed.map_err(io::Error::other).flatten() {
            Ok(body) => Ok(Packed {
                body: body.into(),
                encoding: name,
            }),
            Err(error) => Err(Pause {
                reason: format!("cannot compress: {error}"),
                after: self.max_backoff,
            }),
        }
    }

    /// Sends a body. Nothing is known about it after a pause.
    pub(super) async fn send(
        &mut self,
        route: Route,
        packed: &Packed,
        events: &Events,
    ) -> Result<(Answer, String), Pause> {
        let reply = self.exchange(route, packed).await;
        self.judge(route, reply, events)
    }

    /// Sends several at once. What is told of each stands in their order.
    pub(super) async fn send_all(
        &mut self,
        route: Route,
        packed: &[Packed],
        events: &Events,
    ) -> Vec<Result<(Answer, String), Pause>> {
        let replies = packed.iter().map(|packed| self.exchange(route, packed));
        let replies = futures_util::future::join_all(replies).await;
        replies
            .into_iter()
            .map(|reply| self.judge(route, reply, events))
            .collect()
    }

    async fn exchange(
        &self,
        route: Route,
        packed: &Packed,
    ) -> Result<crate::sink::http::Reply, crate::sink::http::NoReply> {
        let key = HeaderValue::from_str(self.key.expose()).map_err(http::Error::from)?;
        let mut key = key;
        key.set_sensitive(true);
        let encoding = packed.encoding.map(HeaderValue::from_static);
        let headers = [
            (CONTENT_TYPE, Some(JSON)),
            (KEY, Some(key)),
            (CONTENT_ENCODING, encoding),
        ];
        let client = match route {
            Route::Series => &self.series,
            Route::Checks => &self.checks,
            Route::Events => &self.events,
        };
        client.post(packed.body.clone(), headers).await
    }

    fn judge(
        &mut self,
        route: Route,
        reply: Result<crate::sink::http::Reply, crate::sink::http::NoReply>,
        events: &Events,
    ) -> Result<(Answer, String), Pause> {
        let place = self.series.uri();
        let reply = match reply {
            Ok(reply) => reply,
            Err(error) => {
                events.request(route, answer::outcome(&error));
                let reason = format!("{place}: {error}");
                let after = self.backoff.next(None);
                return Err(Pause { reason, after });
            }
        };
        let (answer, outcome) = answer::read(&reply);
        events.request(route, outcome);
        let said = reply.said(&[self.key.expose()]);
        match answer {
            Answer::BadKey => {
                events.bad_key(&said);
                Err(Pause {
                    reason: format!("{place}: the API key is refused: {said}"),
                    after: self.max_backoff,
                })
            }
            Answer::Later => Err(Pause {
                reason: format!("{place}: {said}"),
                after: self.backoff.next(answer::asked(&reply)),
            }),
            answer => {
                self.backoff.reset();
                if let Answer::Taken(errors) = &answer
                    && !errors.is_empty()
                {
                    events.complained(route, errors);
                }
                Ok((answer, said))
            }
        }
    }
}

fn compressed(encoding: Encoding, body: Vec<u8>) -> io::Result<Vec<u8>> {
    match encoding {
        Encoding::Gzip => {
            let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
            encoder.write_all(&body)?;
            encoder.finish()
        }
        Encoding::Deflate => {
            let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
            encoder.write_all(&body)?;
            encoder.finish()
        }
        Encoding::None => Ok(body),
    }
}
