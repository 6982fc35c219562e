//! The running aggregator: what starts, in which order, how its settings change, and how it leaves.
//!
//! Leaving goes with the flow: first the aggregator takes itself out of Consul and goes on until proxies have let go of it, then nothing more is let in, then what came in is flushed, then it is forwarded and written. A global that
//! knows of proxies does not emit the half of an interval that it has: it hands it on to the new owners of its keys (the `handoff` module). All of it
//! takes `shutdown_timeout` at most.

mod discovery;
mod doors;
mod flusher;
mod handoff;
mod outlet;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use tokio::time::{Instant, timeout_at};
use tributary_node::consul::Registration;
use tributary_node::{BoxError, Node};

use crate::clock::Ticks;
use crate::config::Config;
use crate::flush::Role;
use crate::import::{self, DedupBounds, Intake};
use crate::source::Outlets;
use crate::table::{Table, TableConfig};
use doors::Doors;
use flusher::Flusher;

/// Proxies have let go of a global that has taken itself out of Consul when it was sent nothing for so long.
const LET_GO: Duration = Duration::from_secs(1);

/// Runs an aggregator until the node is told to stop, and whatever it holds has left.
///
/// # Errors
/// When something that the settings ask for cannot be had: an address, a file.
pub fn run(config: Config, node: Node) -> impl Future<Output = Result<(), BoxError>> {
    run_with(config, node, Router::new())
}

/// Runs an aggregator whose admin server has further `pages`; see [`run`].
///
/// # Errors
/// As there.
pub async fn run_with(config: Config, node: Node, pages: Router) -> Result<(), BoxError> {
    let ready = node.readiness.condition("start", "starting");
    let table = Table::new(TableConfig {
        extend_tags: config.extend_tags.clone(),
        max_series: config.max_series,
        taps: node.taps.clone(),
        ..TableConfig::default()
    });
    let dedup = DedupBounds {
        bytes: config.dedup.bytes.as_usize(),
        window: config.dedup.window.get(),
    };
    let intake = Intake::into_table(&table, dedup);
    let doors = Doors::bind(&config).await?;
    let grpc_address = doors.grpc_address();
    let mut flusher = Flusher::start(&config, table.clone())?;
    let import = import::http::router(intake.clone(), config.import_max_size.as_usize());
    node.serve_admin(import.merge(flusher.pages()).merge(pages))
        .await?;
    let samples = Arc::clone(&table);
    let outlets = Outlets {
        points: Arc::new(flusher.outlet()),
        samples: Arc::new(move || Box::new(samples.writer())),
        forward: flusher.relay(),
    };
    // Last: a second process that shares the sockets gets its share from here on, and must be sure to flush it.
    let doors = doors.open(
        &config,
        table,
        &outlets,
        Arc::clone(&intake),
        &node.readiness,
    )?;
    flusher.ledger.watch(doors.kernel_drops());
    node.started();
    ready.holds();
    let registration = Registration::start(
        &config.consul(),
        &config.consul_register,
        &config.grpc_address,
        grpc_address,
        &node.readiness,
        node.stop.clone(),
    )?;

    let mut reloads = node.reloads(config.clone());
    let interval = config.interval.get();
    let mut ticks = Ticks::new(interval, config.synchronize_with_interval);
    if config.role() == Role::Global && !config.grpc_address.is_empty() {
        ticks = ticks.after(interval / 2);
        if config.synchronize_with_interval {
            flusher.watch_interval(&intake, ticks.upcoming()).await;
        }
    }
    let mut let_go = std::pin::pin!(let_go(&node, registration, &intake));
    loop {
        tokio::select! {
            biased;
            () = &mut let_go => break,
            change = reloads.next() => match flusher.reconfigure(&change.new) {
                Ok(()) => reloads.applied(change),
                Err(error) => reloads.refused(&error),
            },
            at = ticks.next() => flusher.flush(at).await,
        }
    }
    node.readiness.set_draining();
    leave(doors, flusher, node.done_by()).await;
    Ok(())
}

/// Waits until the node has to leave, and then until nobody sends to it any more because Consul names it, a quarter of its time at most.
async fn let_go(node: &Node, registration: Option<Registration>, intake: &Intake) {
    node.stop.cancelled().await;
    let Some(registration) = registration else {
        return;
    };
    let now = Instant::now();
    let until = now + node.done_by().saturating_duration_since(now) / 4;
    let quiet = async {
        if registration.ended().await {
            intake.quiet(LET_GO).await;
        }
    };
    if timeout_at(until, quiet).await.is_err() {
        // Who still sends is turned away, and sends it elsewhere.
        tracing::debug!("metrics still come after leaving Consul");
    }
}

/// Closes the doors, flushes or hands off what came in, and waits for what forwards and writes, all until the deadline.
async fn leave(mut doors: Doors, mut flusher: Flusher, deadline: Instant) {
    if flusher.hands_off() {
        // The gRPC server stays, and turns proxies away in words that they understand: an owner that is gone without a word looks like one
        // that has merged what it was sent last.
        doors.stop_taking(deadline).await;
        handoff::hand_off(&mut flusher, deadline).await;
        doors.close(deadline).await;
    } else {
        doors.close(deadline).await;
        flusher.flush(flusher.last_time()).await;
    }
    flusher.finish(deadline).await;
}
