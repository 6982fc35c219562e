//! Sink `prometheus`: a page that a Prometheus scrapes.
//!
//! The page holds the last value of each series: gauges as they are, counters added up to totals since this sink began, and the percentiles, sum and count of
//! a histogram or timer as one summary. A scrape sees whole flushes only, and neither waits for a write nor holds one up.
//!
//! On failure: nothing is retried, for there is nobody to send to. Points of more series than `max_series`, and those of a series that would be
//! written like another one, are lost. Gauges that are older than the value that is shown, or than `expire_after`, are skipped, and so are events. A restart
//! begins all totals at zero, which Prometheus takes for what it is.

mod config;
mod happened;
mod page;
mod server;
mod store;
#[cfg(test)]
mod tests;

use std::net::TcpListener as StdListener;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};
use tributary_node::tls::{Acceptor, Alpn};

use self::happened::{Events, Refused};
use self::server::{Door, Guard};
use self::store::{Expiry, Limits, Refusal, Store};
use super::{Amount, Gather, Sink, SinkError};
use crate::point::{Batch, Timestamp};
use crate::prometheus::login::read_secret;
use crate::prometheus::naming::Naming;

pub use config::PrometheusConfig;

/// How many points are taken before other tasks get their turn.
const CHUNK: usize = 1024;

/// Points that pass through are put on the page together: each time, what changed is copied.
const GATHER: Gather = Gather {
    amount: 10_000,
    time: Duration::from_millis(250),
};

/// A page and its listener.
struct PrometheusSink {
    store: Store,
    door: Arc<Door>,
    events: Events,
    address: std::net::SocketAddr,
    /// For one that takes this one's place.
    _listener: Arc<StdListener>,
    _stop: DropGuard,
}

impl PrometheusSink {
    fn open(config: &PrometheusConfig, name: &str) -> Result<Self, String> {
        let tls = Acceptor::new(&config.tls, "prometheus", Alpn::Http1)
            .map_err(|error| format!("tls.{error}"))?;
        let guard = guard(config)?;
        let failed = |error| format!("listen: cannot listen on {}: {error}", config.listen);
        let listener = server::listen(name, &config.listen).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let own = listener.try_clone().map_err(failed)?;
        let own = TcpListener::from_std(own).map_err(failed)?;
        let door = server::door(name, &config.path, guard, config.created_timestamps);
        let door = Arc::new(door);
        let stop = CancellationToken::new();
        let connections = config.max_connections;
        let serving = server::serve(own, tls, Arc::clone(&door), connections, stop.clone());
        tokio::spawn(serving);
        tracing::info!(sink = name, %address, path = config.path, "a Prometheus can scrape");
        let naming = Naming {
            prefix: config.prefix.clone(),
            hostname_label: config.hostname_label.clone(),
            ..Naming::default()
        };
        let unless_zero = |time: Duration| (!time.is_zero()).then_some(time);
        let limits = Limits {
            series: config.max_series,
            expiry: Expiry {
                gauges: unless_zero(config.expire_after.get()),
                counters: unless_zero(config.expire_counters_after.get()),
            },
        };
        Ok(Self {
            store: Store::new(naming, limits),
            door,
            events: Events::new(name),
            address,
            _listener: listener,
            _stop: stop.drop_guard(),
        })
    }
}

fn guard(config: &PrometheusConfig) -> Result<Guard, String> {
    if let Some(basic) = &config.basic_auth {
        let password = read_secret(&basic.password, &basic.password_file);
        return Ok(Guard::Basic {
            user: basic.username.clone(),
            password: password.map_err(|error| format!("basic_auth.password_file: {error}"))?,
        });
    }
    let token = read_secret(&config.bearer_token, &config.bearer_token_file);
    let token = token.map_err(|error| format!("bearer_token_file: {error}"))?;
    Ok(match token.is_empty() {
        true => Guard::Nobody,
        false => Guard::Bearer(token),
    })
}

#[async_trait]
impl Sink for PrometheusSink {
    fn gather(&self) -> Gather {
        GATHER
    }

    async fn write(&mut self, batch: &Batch) -> Result<Amount, SinkError> {
        let (now, time) = (Instant::now(), Timestamp::now());
        let mut refused = Refused::default();
        for points in batch.points.chunks(CHUNK) {
            for point in points {
                if let Err(refusal) = self.store.take(point, batch, now, time) {
                    refused.add(refusal, point.name());
                }
            }
            tokio::task::yield_now().await;
        }
        self.store.sweep(now);
        self.door.page.store(Arc::new(self.store.page()));
        self.events.written(&refused, self.store.len());
        let lost = refused.of(Refusal::MaxSeries) + refused.of(Refusal::Collision);
        if lost > 0 {
            return Err(SinkError::Fatal {
                reason: format!(
                    "{}: {lost} of {} points are of too many series, or of such as are written like others",
                    self.address,
                    batch.points.len(),
                ),
                lost: Amount::points(lost),
            });
        }
        Ok(Amount::points(
            batch.points.len() - refused.of(Refusal::Late),
        ))
    }
}
