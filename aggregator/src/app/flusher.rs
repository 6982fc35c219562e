//! From the table to sinks and upstream, once an interval.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::Router;
use tokio::time::Instant;
use tributary_node::BoxError;
use tributary_node::discovery::Discovery;
use tributary_node::tls::{Alpn, Connector};
use tributary_proto::metricpb::Metric;

use super::discovery;
use super::outlet::Outlet;
use crate::config::Config;
use crate::flush::{FlushSettings, Percentiles, Role, emit};
use crate::forward::{self, ForwardConfig, Forwarder, Retention};
use crate::history::History;
use crate::import::{Intake, OpenInterval};
use crate::ledger::{Entry, Forwarding, Ledger};
use crate::metrics;
use crate::overview::{About, Overview};
use crate::point::Batch;
use crate::sink::Sinks;
use crate::source::Relay;
use crate::table::{Interval, Table};

/// Turns what the table holds into points and forwarded metrics, and hands them on.
pub(super) struct Flusher {
    table: Arc<Table>,
    outlet: Outlet,
    history: Option<History>,
    /// Sinks that the settings no longer have: they write what waits, each until its time is over.
    retired: Vec<(Sinks, Instant)>,
    forwarder: Option<Arc<Forwarder>>,
    /// Of a global that is aligned to the clock: who is told which interval is open, and the length of one.
    intake: Option<(Arc<Intake>, Duration)>,
    /// Names the proxies that a leaving global hands off to, if they are discovered. It follows them from the start: Consul may be away then.
    pub(super) handoff: Option<Box<dyn Discovery>>,
    /// For forwarding and for handing off.
    pub(super) tls: Option<Connector>,
    pub(super) ledger: Ledger,
    overview: Overview,
    settings: FlushSettings,
    hostname: Arc<str>,
    pub(super) config: Config,
    /// The time of the flush before.
    before: SystemTime,
}

impl Flusher {
    pub(super) fn start(config: &Config, table: Arc<Table>) -> Result<Self, BoxError> {
        let sinks = Sinks::start(&config.metric_sinks, &config.metric_sink_routing)?;
        let settings = &config.forward_tls;
        let tls = settings
            .is_on()
            .then(|| Connector::new(settings, forward::HOP, Alpn::Http2))
            .transpose()
            .map_err(|error| format!("forward_tls.{error}"))?;
        let settings = forward_config(config, &tls);
        let forwarder = match (config.role(), discovery::forward(config)?) {
            (Role::Global, _) => None,
            (Role::Local, None) => Some(Forwarder::start(settings)?),
            (Role::Local, Some(found)) => Some(Forwarder::discover(settings, found)?),
        };
        let forwarder = forwarder.map(Arc::new);
        let hostname: Arc<str> = hostname(config)?.into();
        let ledger = Ledger::new(config.role());
        let about = About {
            role: config.role(),
            hostname: Arc::clone(&hostname),
            interval: config.interval.get().as_secs_f64(),
            grpc_address: config.grpc_address.clone(),
            max_series: config.max_series,
        };
        let history = config.history.as_ref().map(|history| {
            History::new(history, config.interval.get()).map_err(|error| format!("history.{error}"))
        });
        let history = history.transpose()?;
        let forwarding = forwarding(&forwarder);
        let overview = Overview::new(about, Arc::clone(&table), ledger.clone(), forwarding);
        overview.show_sinks(&sinks);
        Ok(Self {
            table,
            outlet: Outlet::new(sinks, Arc::clone(&hostname), history.clone()),
            history,
            retired: Vec::new(),
            forwarder,
            intake: None,
            handoff: discovery::handoff(config)?,
            tls,
            ledger,
            overview,
            settings: flush_settings(config)?,
            hostname,
            config: config.clone(),
            before: UNIX_EPOCH,
        })
    }

    /// Tells the intake from now on which interval is open: the one whose points will have the time `first`, and then each that follows.
    pub(super) async fn watch_interval(&mut self, intake: &Arc<Intake>, first: SystemTime) {
        let length = self.config.interval.get();
        intake.begin(open_interval(first, length), || ()).await;
        self.intake = Some((Arc::clone(intake), length));
    }

    /// Where sources put what others have forwarded.
    pub(super) fn relay(&self) -> Option<Arc<dyn Relay>> {
        self.forwarder.clone().map(|forwarder| forwarder as _)
    }

    /// Where sources put points that only pass through.
    pub(super) fn outlet(&self) -> Outlet {
        self.outlet.clone()
    }

    /// The page, and `/api/…`, for the admin server.
    pub(super) fn pages(&self) -> Router {
        let ledger = self.ledger.router(forwarding(&self.forwarder));
        let history = self.history.as_ref();
        let history = history.map_or_else(History::off, History::router);
        ledger.merge(self.overview.router()).merge(history)
    }

    /// Goes over to other settings, from the next flush on. On an error nothing has changed.
    pub(super) fn reconfigure(&mut self, config: &Config) -> Result<(), BoxError> {
        if config.role() != self.config.role() {
            return Err(
                "forward_address: an agent becomes a global, or a global an agent, by a restart only".into(),
            );
        }
        let settings = flush_settings(config)?;
        let changes = |config: &Config| {
            (
                config.metric_sinks.clone(),
                config.metric_sink_routing.clone(),
            )
        };
        if changes(config) != changes(&self.config) {
            let (sinks, rules) = (&config.metric_sinks, &config.metric_sink_routing);
            let removed = self.outlet.replace(sinks, rules)?;
            self.outlet.look(|sinks| self.overview.show_sinks(sinks));
            let until = Instant::now() + config.shutdown_timeout.get();
            self.retired.push((removed, until));
        }
        if let Some(forwarder) = &self.forwarder {
            // The addresses were checked with the settings, so this does not fail after the sinks were replaced.
            forwarder.reconfigure(&forward_config(config, &self.tls))?;
        }
        self.settings = settings;
        self.config = config.clone();
        Ok(())
    }

    /// The time of the last flush, which comes between two others: now, but not within the second of the one before. A store keeps one value for a
    /// series and a second, and the rest of an interval would take the place of a whole one.
    pub(super) fn last_time(&self) -> SystemTime {
        last_time(SystemTime::now(), self.before)
    }

    /// The flush of the interval that ended at `at`.
    pub(super) async fn flush(&mut self, at: SystemTime) {
        self.before = at;
        let interval = match &self.intake {
            None => self.table.take(),
            Some((intake, length)) => {
                let next = open_interval(at + *length, *length);
                intake.begin(next, || self.table.take()).await
            }
        };
        let forward = self.flush_interval(interval, self.settings.role, at).await;
        if let Some(forwarder) = &self.forwarder {
            forwarder.send_flush(at, forward);
        }
        self.close_retired().await;
    }

    /// Takes what the table holds, sends this host's part to the sinks and gives what goes to another.
    pub(super) async fn flush_as(&self, role: Role, at: SystemTime) -> Vec<Metric> {
        self.flush_interval(self.table.take(), role, at).await
    }

    async fn flush_interval(&self, interval: Interval, role: Role, at: SystemTime) -> Vec<Metric> {
        let began = std::time::Instant::now();
        let forward = self.emit(interval, role, at).await;
        metrics::FLUSH_DURATION.record(began.elapsed().as_nanos() as f64);
        metrics::FLUSH_TIMESTAMP.set(unix_seconds(SystemTime::now()) as f64 * 1e9);
        forward
    }

    /// Sends an interval's points to the sinks, and gives what goes to another.
    pub(super) async fn emit(&self, interval: Interval, role: Role, at: SystemTime) -> Vec<Metric> {
        let settings = FlushSettings {
            role,
            timestamp: unix_seconds(at),
            distributions: self.outlet.look(Sinks::want_distributions),
            ..self.settings.clone()
        };
        let outlet = self.outlet.clone();
        let mut batch = Batch {
            hostname: Arc::clone(&self.hostname),
            interval: self.config.interval.get(),
            ..Batch::default()
        };
        let count_series = self.config.count_unique_timeseries;
        let (ledger, overview) = (self.ledger.clone(), self.overview.clone());
        // Millions of series take seconds: not on a thread that serves connections.
        let emitted = tokio::task::spawn_blocking(move || {
            let began = std::time::Instant::now();
            overview.look(&interval, settings.timestamp);
            let emission = emit(interval, &settings);
            emission.counts.emit(count_series);
            metrics::OTHER_SAMPLES_FLUSHED.increment(emission.events.len() as u64);
            let entry = Entry {
                timestamp: settings.timestamp,
                forwarded: emission.forward.len() as u64,
                points: emission.points.len() as u64,
                events: emission.events.len() as u64,
                ..Entry::of(&emission.counts)
            };
            batch.points = emission.points.into();
            batch.distributions = emission.distributions;
            batch.events = emission.events;
            let batch = Arc::new(batch);
            outlet.look(|sinks| {
                overview.keep(&batch, &emission.busiest, sinks, settings.timestamp);
            });
            ledger.enter(Entry {
                took_us: u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX),
                ..entry
            });
            outlet.send(batch);
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
            outlet,
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
        let written = close(outlet.take(), deadline);
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

/// Forwarding's own accounts.
fn forwarding(forwarder: &Option<Arc<Forwarder>>) -> Forwarding {
    let forwarder = forwarder.clone();
    Arc::new(move || Some(forwarder.as_ref()?.ledger()))
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
        distributions: false,
        timestamp: 0,
    })
}

fn forward_config(config: &Config, tls: &Option<Connector>) -> ForwardConfig {
    ForwardConfig {
        addresses: config.forward_address.0.clone(),
        #[cfg(feature = "kafka")]
        topic: config.forward_kafka.clone(),
        tls: tls.clone(),
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

fn open_interval(time: SystemTime, length: Duration) -> Option<OpenInterval> {
    let milliseconds = |time: Duration| u64::try_from(time.as_millis()).ok();
    Some(OpenInterval {
        time: milliseconds(time.duration_since(UNIX_EPOCH).ok()?)?,
        length: milliseconds(length)?,
    })
}

fn last_time(now: SystemTime, before: SystemTime) -> SystemTime {
    if unix_seconds(now) > unix_seconds(before) {
        now
    } else {
        before + Duration::from_secs(1)
    }
}

fn unix_seconds(at: SystemTime) -> i64 {
    let since = at.duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_flush_has_a_second_of_its_own() {
        let at = |millis| UNIX_EPOCH + Duration::from_millis(millis);
        assert_eq!(last_time(at(10_999), at(10_000)), at(11_000));
        assert_eq!(last_time(at(11_000), at(10_000)), at(11_000));
        assert_eq!(last_time(at(5_000), UNIX_EPOCH), at(5_000), "the first");
        assert_eq!(
            last_time(at(9_000), at(10_500)),
            at(11_500),
            "the clock was set back"
        );
    }
}
