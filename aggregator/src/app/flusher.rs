//! From the table to sinks and upstream, once an interval.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use axum::Router;
use tokio::time::Instant;
use tributary_node::BoxError;
use tributary_proto::metricpb::Metric;

use crate::config::Config;
use crate::flush::{FlushSettings, Percentiles, Role, emit};
use crate::forward::{ForwardConfig, Forwarder, Retention};
use crate::ledger::{Entry, Ledger};
use crate::metrics;
use crate::point::Batch;
use crate::sink::Sinks;
use crate::table::{Interval, Table};

/// Turns what the table holds into points and forwarded metrics, and hands them on.
pub(super) struct Flusher {
    table: Arc<Table>,
    sinks: Arc<Sinks>,
    /// Sinks that the settings no longer have: they write what waits, each until its time is over.
    retired: Vec<(Sinks, Instant)>,
    forwarder: Option<Arc<Forwarder>>,
    pub(super) ledger: Ledger,
    settings: FlushSettings,
    hostname: Arc<str>,
    pub(super) config: Config,
}

impl Flusher {
    pub(super) fn start(config: &Config, table: Arc<Table>) -> Result<Self, BoxError> {
        let sinks = Sinks::start(&config.metric_sinks, &config.metric_sink_routing)?;
        let forwarder = match config.forward_address.is_empty() {
            true => None,
            false => Some(Arc::new(Forwarder::start(forward_config(config))?)),
        };
        Ok(Self {
            table,
            sinks: Arc::new(sinks),
            retired: Vec::new(),
            forwarder,
            ledger: Ledger::new(config.role()),
            settings: flush_settings(config)?,
            hostname: hostname(config)?.into(),
            config: config.clone(),
        })
    }

    /// `/api/ledger`, for the admin server.
    pub(super) fn ledger_page(&self) -> Router {
        let forwarder = self.forwarder.clone();
        self.ledger
            .router(Arc::new(move || Some(forwarder.as_ref()?.ledger())))
    }

    /// Goes over to other settings, from the next flush on. On an error nothing has changed.
    pub(super) fn reconfigure(&mut self, config: &Config) -> Result<(), BoxError> {
        if config.role() != self.config.role() {
            return Err(
                "forward_address: an agent becomes a global, or a global an agent, by a restart only".into(),
            );
        }
        let settings = flush_settings(config)?;
        let sinks = Arc::get_mut(&mut self.sinks).ok_or("a flush is still under way")?;
        let changes = |config: &Config| {
            (
                config.metric_sinks.clone(),
                config.metric_sink_routing.clone(),
            )
        };
        if changes(config) != changes(&self.config) {
            let removed = sinks.replace(&config.metric_sinks, &config.metric_sink_routing)?;
            let until = Instant::now() + config.shutdown_timeout.get();
            self.retired.push((removed, until));
        }
        if let Some(forwarder) = &self.forwarder {
            // The addresses were checked with the settings, so this does not fail after the sinks were replaced.
            forwarder.reconfigure(&forward_config(config))?;
        }
        self.settings = settings;
        self.config = config.clone();
        Ok(())
    }

    /// The flush of the interval that ended at `at`.
    pub(super) async fn flush(&mut self, at: SystemTime) {
        let forward = self.flush_as(self.settings.role, at).await;
        if let Some(forwarder) = &self.forwarder {
            forwarder.send_flush(at, forward);
        }
        self.close_retired().await;
    }

    /// Takes what the table holds, sends this host's part to the sinks and gives what goes to another.
    pub(super) async fn flush_as(&self, role: Role, at: SystemTime) -> Vec<Metric> {
        let began = std::time::Instant::now();
        let forward = self.emit(self.table.take(), role, at).await;
        metrics::FLUSH_DURATION.record(began.elapsed().as_nanos() as f64);
        metrics::FLUSH_TIMESTAMP.set(unix_seconds(SystemTime::now()) as f64 * 1e9);
        forward
    }

    /// Sends an interval's points to the sinks, and gives what goes to another.
    pub(super) async fn emit(&self, interval: Interval, role: Role, at: SystemTime) -> Vec<Metric> {
        let settings = FlushSettings {
            role,
            timestamp: unix_seconds(at),
            ..self.settings.clone()
        };
        let sinks = Arc::clone(&self.sinks);
        let mut batch = Batch {
            hostname: Arc::clone(&self.hostname),
            interval: self.config.interval.get(),
            ..Batch::default()
        };
        let count_series = self.config.count_unique_timeseries;
        let ledger = self.ledger.clone();
        // Millions of series take seconds: not on a thread that serves connections.
        let emitted = tokio::task::spawn_blocking(move || {
            let emission = emit(interval, &settings);
            emission.counts.emit(count_series);
            metrics::OTHER_SAMPLES_FLUSHED.increment(emission.events.len() as u64);
            ledger.enter(Entry {
                timestamp: settings.timestamp,
                forwarded: emission.forward.len() as u64,
                points: emission.points.len() as u64,
                events: emission.events.len() as u64,
                ..Entry::of(&emission.counts)
            });
            batch.points = emission.points;
            batch.events = emission.events;
            sinks.send(Arc::new(batch));
            emission.forward
        });
        emitted.await.unwrap_or_else(|error| {
            tracing::error!(%error, "a flush ended early");
            Vec::new()
        })
    }

    /// Waits until everything is forwarded and written, or the deadline has come; tells what is lost.
    pub(super) async fn finish(self, deadline: Instant) {
        let Self {
            sinks,
            retired,
            forwarder,
            ..
        } = self;
        let forwarded = async {
            let Some(forwarder) = &forwarder else { return };
            let left = forwarder.drain(deadline).await;
            if !left.is_empty() {
                tracing::error!(metrics = left.metrics, "not forwarded before the end: lost");
            }
        };
        let written = async {
            match Arc::into_inner(sinks) {
                Some(sinks) => close(sinks, deadline).await,
                None => tracing::error!("a flush was still under way at the end"),
            }
        };
        let retired = async {
            for (sinks, _) in retired {
                close(sinks, deadline).await;
            }
        };
        // Side by side: what is slow must not take the others' time.
        tokio::join!(forwarded, written, retired);
    }

    /// Does away with retired sinks that have written everything, or had their time.
    async fn close_retired(&mut self) {
        let now = Instant::now();
        for (sinks, until) in std::mem::take(&mut self.retired) {
            if sinks.have_ended() || until <= now {
                close(sinks, now).await;
            } else {
                self.retired.push((sinks, until));
            }
        }
    }
}

/// Lets sinks write what waits, and tells what they could not.
async fn close(sinks: Sinks, deadline: Instant) {
    for left in sinks.close(deadline).await {
        tracing::error!(
            sink = %left.sink,
            points = left.amount.points,
            events = left.amount.events,
            "not written before the end: lost"
        );
    }
}

fn flush_settings(config: &Config) -> Result<FlushSettings, BoxError> {
    Ok(FlushSettings {
        role: config.role(),
        percentiles: Percentiles::new(&config.percentiles)?,
        aggregates: config.aggregates.iter().copied().collect(),
        timestamp: 0,
    })
}

fn forward_config(config: &Config) -> ForwardConfig {
    ForwardConfig {
        addresses: config.forward_address.0.clone(),
        protocol: config.forward_protocol,
        timeout: config.forward_timeout.get(),
        retention: Retention {
            time: config.forward_retention.time.get(),
            bytes: config.forward_retention.bytes.as_usize(),
        },
        ..ForwardConfig::default()
    }
}

fn hostname(config: &Config) -> Result<String, BoxError> {
    match &config.hostname {
        Some(name) if !name.is_empty() || config.omit_empty_hostname => Ok(name.clone()),
        None if config.omit_empty_hostname => Ok(String::new()),
        _ => Ok(nix::unistd::gethostname()?.to_string_lossy().into_owned()),
    }
}

fn unix_seconds(at: SystemTime) -> i64 {
    let since = at.duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
    })
}
