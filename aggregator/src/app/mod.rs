//! The running aggregator: what starts, in which order, how its settings change, and how it leaves.
//!
//! Leaving goes with the flow: first nothing more is let in, then what came in is flushed, then it is forwarded and written. A global with a
//! `handoff_address` does not emit the half of an interval that it has: it hands it on to the new owners of its keys (the `handoff` module). All of it
//! takes `shutdown_timeout` at most.

mod doors;
mod flusher;
mod handoff;

use std::time::SystemTime;

use tokio::time::Instant;
use tributary_node::{BoxError, Node};

use crate::clock::Ticks;
use crate::config::Config;
use crate::flush::Role;
use crate::import::{self, DedupBounds, Intake};
use crate::table::{Table, TableConfig};
use doors::Doors;
use flusher::Flusher;

/// Runs an aggregator until the node is told to stop, and whatever it holds has left.
///
/// # Errors
/// When something that the settings ask for cannot be had: an address, a file.
pub async fn run(config: Config, node: Node) -> Result<(), BoxError> {
    let ready = node.readiness.condition("start", "starting");
    let table = Table::new(TableConfig {
        extend_tags: config.extend_tags.clone(),
        max_series: config.max_series,
        ..TableConfig::default()
    });
    let dedup = DedupBounds {
        bytes: config.dedup.bytes.as_usize(),
        window: config.dedup.window.get(),
    };
    let intake = Intake::into_table(&table, dedup);
    let doors = Doors::bind(&config).await?;
    let mut flusher = Flusher::start(&config, table.clone())?;
    let import = import::http::router(intake.clone(), config.import_max_size.as_usize());
    node.serve_admin(import.merge(flusher.pages())).await?;
    // Last: a second process that shares the sockets gets its share from here on, and must be sure to flush it.
    let doors = doors.open(&config, table, intake)?;
    flusher.ledger.watch(doors.kernel_drops());
    ready.holds();

    let mut reloads = node.reloads(config.clone());
    let interval = config.interval.get();
    let mut ticks = Ticks::new(interval, config.synchronize_with_interval);
    if config.role() == Role::Global && !config.grpc_address.is_empty() {
        ticks = ticks.after(interval / 2);
    }
    loop {
        tokio::select! {
            biased;
            () = node.stop.cancelled() => break,
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
        flusher.flush(SystemTime::now()).await;
    }
    flusher.finish(deadline).await;
}
