//! What a leaving global does with its open interval: the new owners of its keys get it, through the proxies.
//!
//! It flushes as an agent does. What other hosts' metrics were merged into (global counters and gauges, sets, the digests of histograms and
//! timers) is forwarded; what belongs to this host alone (its own checks, counters, gauges, local histograms, and the aggregates of its own
//! samples of mixed ones) goes to its sinks. So every series is emitted once, and whole.
//!
//! Each metric has a stamp, so that what is delivered twice is merged once; and none says when it was flushed, because a proxy would then look for
//! the owner at that time, which is the one that leaves. It goes to whoever emits what is merged at that moment. The new owners may still be
//! unknown to the proxies: what they send back here is refused as unavailable, and delivery is tried again until another has it.
//!
//! Each metric says which interval it is meant for. A new owner that has emitted that one meanwhile does not take it, and it goes to whoever owns
//! it in the next: so no series has a point of two globals for one interval, only because one of them left as the other flushed. When nobody has
//! taken it for a whole interval (clocks that differ, or intervals), any interval will do.
//!
//! A gauge that is handed over is older than any that its new owner has, and gives way to it.
//!
//! What nobody took goes to the sinks after all: a part of a value, but certainly not counted twice. Metrics that were sent and never answered for
//! may have been taken: those are counted as lost and not emitted.

use std::time::Duration;

use tokio::time::Instant;
use tributary_node::tls::Connector;

use super::flusher::Flusher;
use crate::config::Config;
use crate::flush::Role;
use crate::forward::{ForwardConfig, Forwarder, Protocol, Retention, Unclaimed};
use crate::table::{Table, TableConfig};

/// The sinks' time at the end, at most.
const SINKS: Duration = Duration::from_secs(5);

/// Whether and how a hand-off went.
#[derive(Debug)]
struct HandedOff {
    /// Merged by other owners.
    taken: u64,
    /// Taken by nobody, and emitted here.
    emitted: u64,
    /// Of unknown fate.
    lost: u64,
    took: Duration,
}

impl Flusher {
    /// Whether there is somebody to hand the open interval to.
    pub(super) fn hands_off(&self) -> bool {
        let somebody = self.handoff.is_some() || !self.config.handoff_address.is_empty();
        self.config.role() == Role::Global && somebody
    }
}

/// Hands the open interval to its new owners. The time that the sinks need is kept free.
pub(super) async fn hand_off(flusher: &mut Flusher, deadline: Instant) {
    let began = Instant::now();
    let until = deadline - (deadline.saturating_duration_since(began) / 4).min(SINKS);
    let config = forward_config(&flusher.config, &flusher.tls);
    let forwarder = match flusher.handoff.take() {
        None => Forwarder::start(config),
        Some(discovery) => Forwarder::discover(config, discovery),
    };
    let forwarder = match forwarder {
        Ok(forwarder) => forwarder,
        Err(error) => {
            tracing::error!(%error, "handoff_address cannot be used: what there is goes to the sinks");
            return flusher.flush(flusher.last_time()).await;
        }
    };
    let metrics = flusher.flush_as(Role::Local, flusher.last_time()).await;
    let total = metrics.len() as u64;
    let aligned = flusher.config.synchronize_with_interval;
    let interval = aligned.then(|| flusher.config.interval.get());
    forwarder.send_to_current_owners(metrics, interval);
    let left = forwarder.reclaim(until).await;
    HandedOff {
        taken: total.saturating_sub(left.metrics() + left.lost()),
        emitted: emit_here(flusher, &left).await,
        lost: left.lost(),
        took: began.elapsed(),
    }
    .emit();
}

fn forward_config(config: &Config, tls: &Option<Connector>) -> ForwardConfig {
    ForwardConfig {
        addresses: config.handoff_address.0.clone(),
        tls: tls.clone(),
        protocol: Protocol::Unary,
        timeout: config.forward_timeout.get(),
        retention: Retention {
            // The deadline is the bound; and all of it was in memory before.
            time: Duration::MAX,
            bytes: usize::MAX,
        },
        ..ForwardConfig::default()
    }
}

/// Merges what nobody took into a table of its own, and emits that as a global does. Tells how many metrics that was.
async fn emit_here(flusher: &Flusher, left: &Unclaimed) -> u64 {
    if left.metrics() == 0 {
        return 0;
    }
    let table = Table::new(TableConfig {
        // It had room before.
        max_series: 0,
        ..TableConfig::default()
    });
    let mut writer = table.writer();
    let mut merged = 0;
    for metric in left.iter() {
        match writer.import_bytes(&metric) {
            Ok(()) => merged += 1,
            Err(error) => tracing::error!(%error, "a metric of our own cannot be read"),
        }
        tokio::task::coop::consume_budget().await;
    }
    drop(writer);
    let nothing = flusher
        .emit(table.take(), Role::Global, flusher.last_time())
        .await;
    debug_assert!(nothing.is_empty(), "a global forwards nothing");
    merged
}

impl HandedOff {
    fn emit(&self) {
        for (outcome, count) in [
            ("taken", self.taken),
            ("emitted", self.emitted),
            ("lost", self.lost),
        ] {
            crate::metrics::HANDED_OFF
                .with([outcome.into()])
                .increment(count);
        }
        let Self {
            taken,
            emitted,
            lost,
            took,
        } = self;
        if *emitted == 0 && *lost == 0 {
            tracing::info!(taken, ?took, "the open interval is with its new owners");
        } else {
            tracing::error!(
                taken,
                emitted,
                lost,
                ?took,
                "not all of the open interval could be handed off: what nobody took is emitted here"
            );
        }
    }
}
