//! Source `openmetrics`: scrapes pages in Prometheus' text format or in OpenMetrics.
//!
//! Each target has a task of its own, which fetches its page once an interval. Gauges are taken as they are; of counters, and of the buckets, sums and counts of
//! histograms and summaries, what they grew by since the scrape before. The first page of a target is what the next is compared with, and a counter that is
//! lower than before began anew. What always holds: a page is bounded in bytes and samples, and what of it is not taken is counted by cause.
//!
//! Names and tags are those of Veneur's source: `family.bucket` with the tag `le`, `family.sum`, `family.count`, and quantiles as gauges with the tag `quantile`.

mod config;
mod counters;
mod happened;
mod page;
mod parse;
#[cfg(test)]
mod tests;
mod translate;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::header::{ACCEPT, ACCEPT_ENCODING, USER_AGENT};
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use self::config::Mode;
use self::counters::Counters;
use self::happened::Events;
use self::page::{BadPage, Reader, Taker, Yield};
use self::translate::Rules;
use super::{Outlets, Source};
use crate::metrics;
use crate::point::Timestamp;
use crate::prometheus::client::{Client, ClientParts, NoReply};
use crate::prometheus::dial::Way;
use crate::prometheus::login::Login;
use crate::receipt::Receipt;

pub use config::OpenMetricsConfig;

/// The older format first: client libraries call some counters otherwise in OpenMetrics, and Veneur knows the older one only.
const FORMATS: &str =
    "text/plain;version=0.0.4,application/openmetrics-text;version=1.0.0;q=0.5,*/*;q=0.1";
const AGENT: &str = concat!("tributary/", env!("CARGO_PKG_VERSION"));

/// All targets, of which none was scraped yet.
struct OpenMetrics {
    targets: Vec<Target>,
    mode: Mode,
    interval: Duration,
    up_metric: String,
    max_body: usize,
    max_series: usize,
    events: Arc<Events>,
}

/// One target.
struct Target {
    client: Client,
    rules: Arc<Rules>,
}

/// Why a scrape failed.
#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error("it {0}")]
    NoReply(#[from] NoReply),
    #[error("it {0}")]
    Status(String),
    #[error(transparent)]
    Page(#[from] BadPage),
    #[error("reading it ended early")]
    Reading,
}

impl Failed {
    /// As in the label `outcome`.
    fn outcome(&self) -> &'static str {
        match self {
            Self::NoReply(error) => error.cause(),
            Self::Status(_) => "status",
            Self::Page(bad) => bad.outcome(),
            Self::Reading => "invalid",
        }
    }
}

impl OpenMetrics {
    fn open(config: &OpenMetricsConfig, name: &str) -> Result<Self, String> {
        let uris = config.targets().map_err(|problems| problems.join("; "))?;
        let instance = config.instance_tag.clone();
        let several = uris.len() > 1;
        let instance = instance.unwrap_or_else(|| if several { "instance" } else { "" }.to_owned());
        let max_body = config.max_body.as_usize();
        let targets = uris.into_iter().map(|uri| {
            let rules = rules(config, &instance, &uri)?;
            let client = Client::new(ClientParts {
                uri,
                way: match config.socket.as_os_str().is_empty() {
                    true => Way::Straight,
                    false => Way::Unix(config.socket.clone()),
                },
                tls: &config.tls,
                hop: "openmetrics_tls",
                login: Login::new(config.basic_auth.as_ref(), config.authorization.as_ref()),
                timeout: config.timeout().get(),
                longest: max_body,
            });
            Ok(Target {
                client: client.map_err(|error| format!("tls.{error}"))?,
                rules: Arc::new(rules),
            })
        });
        Ok(Self {
            targets: targets.collect::<Result<_, String>>()?,
            mode: config.mode,
            interval: config.scrape_interval.get(),
            up_metric: config.up_metric.clone(),
            max_body,
            max_series: config.max_series,
            events: Arc::new(Events::new(name)),
        })
    }
}

fn rules(config: &OpenMetricsConfig, instance: &str, uri: &Uri) -> Result<Rules, String> {
    let mut added: Vec<_> = config.add_tags.clone().into_iter().collect();
    if !instance.is_empty() && !config.add_tags.contains_key(instance) {
        let default = if uri.scheme_str() == Some("https") {
            443
        } else {
            80
        };
        let host = uri.host().unwrap_or_default();
        let port = uri.port_u16().unwrap_or(default);
        added.push((instance.to_owned(), format!("{host}:{port}")));
    }
    Ok(Rules {
        allow: OpenMetricsConfig::regex("allowlist", &config.allowlist)?,
        deny: OpenMetricsConfig::regex("denylist", &config.denylist)?,
        ignored_labels: OpenMetricsConfig::regex("ignored_labels", &config.ignored_labels)?,
        bucket_tag: config.histogram_bucket_tag.clone(),
        quantile_tag: config.summary_quantile_tag.clone(),
        prefix: config.prefix.clone(),
        renamed: config.rename_labels.clone().into_iter().collect(),
        added,
    })
}

#[async_trait]
impl Source for OpenMetrics {
    async fn run(self: Box<Self>, outlets: Outlets, stop: CancellationToken) {
        let mut tasks = JoinSet::new();
        for target in self.targets {
            let taker = match self.mode {
                Mode::Samples => Taker::Samples((outlets.samples)()),
                Mode::Points => Taker::Points(Vec::new()),
            };
            let scraper = Scraper {
                url: target.client.uri().to_string(),
                client: target.client,
                up_metric: self.up_metric.clone(),
                outlets: outlets.clone(),
                events: Arc::clone(&self.events),
                up: false,
            };
            let reader = Reader {
                rules: target.rules,
                counters: Counters::default(),
                taker,
                max_body: self.max_body,
                max_series: self.max_series,
            };
            tasks.spawn(scraper.run(reader, self.interval, stop.clone()));
        }
        while let Some(ended) = tasks.join_next().await {
            if let Err(error) = ended {
                tracing::error!(%error, "a target is not scraped any more");
            }
        }
    }
}

/// One target at work.
struct Scraper {
    url: String,
    client: Client,
    up_metric: String,
    outlets: Outlets,
    events: Arc<Events>,
    up: bool,
}

impl Scraper {
    async fn run(mut self, mut reader: Reader, every: Duration, stop: CancellationToken) {
        // Not all targets, and not all agents of a fleet, at the same time.
        let first = every.mul_f64(fastrand::f64());
        let waited = stop.run_until_cancelled(tokio::time::sleep(first)).await;
        if waited.is_none() {
            return;
        }
        let mut ticks = interval(every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        while stop.run_until_cancelled(ticks.tick()).await.is_some() {
            let Some(page) = stop.run_until_cancelled(self.fetch()).await else {
                return;
            };
            // Large pages take long: not on a thread that serves connections. What was fetched is taken, also at the end.
            let at = Timestamp::now();
            let up_metric = self.up_metric.clone();
            let reading = tokio::task::spawn_blocking(move || {
                let taken = page.and_then(|(headers, body)| Ok(reader.read(&headers, body, at)?));
                if !up_metric.is_empty() {
                    let up = if taken.is_ok() { 1.0 } else { 0.0 };
                    reader.say(&up_metric, up, at);
                }
                if let Taker::Samples(intake) = &mut reader.taker {
                    intake.end_batch();
                }
                (reader, taken)
            });
            let Ok((back, taken)) = reading.await else {
                self.tell(Err(Failed::Reading));
                return;
            };
            reader = back;
            if let Taker::Points(points) = &mut reader.taker
                && !points.is_empty()
            {
                let points = std::mem::take(points);
                metrics::POINTS_PASSED.increment(points.len() as u64);
                self.outlets.points.pass(points, Receipt::default());
            }
            self.tell(taken);
        }
    }

    async fn fetch(&self) -> Result<(HeaderMap, Bytes), Failed> {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            (ACCEPT, FORMATS),
            (ACCEPT_ENCODING, "gzip"),
            (USER_AGENT, AGENT),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        let asked = self.client.ask(Method::GET, headers, Bytes::new());
        let reply = asked.await?;
        match reply.status {
            StatusCode::OK => Ok((reply.headers, reply.body)),
            _ => Err(Failed::Status(reply.said())),
        }
    }

    fn tell(&mut self, taken: Result<Yield, Failed>) {
        match &taken {
            Ok(page) => self.events.taken(&self.url, page),
            Err(error) => self.events.failed(&self.url, error.outcome(), error),
        }
        if self.up != taken.is_ok() {
            self.up = taken.is_ok();
            self.events.changed(self.up);
        }
    }
}
