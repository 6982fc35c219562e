//! Sink `graphite`: points to carbon's daemons, by pickle or lines, spread over destinations as carbon-relay does it.
//!
//! Each destination has a task with a connection of its own (the `courier`) and a bounded queue (the `lane`), so that one that is away costs its
//! own points only.
//!
//! # When a point counts as written
//! Carbon answers nothing, so a point counts as written once the system has taken its bytes for a connection that the peer had not closed by then; or,
//! with a spool, once it is on the disk (`fdatasync`). A write waits until all its points are that far at each of their destinations. Then:
//! - **A destination takes nothing for `timeout`** (or is not done after six times that): the write goes on without it, and the destination is
//!   *behind*. With a spool its points go to the disk, and count as written there. Without, they stay in its queue in memory, oldest dropped and
//!   counted above `queue_points`; whoever waits for the fate of the batch (a source that acknowledges) waits until those points are written or lost,
//!   while the runner counts the batch as taken. No write waits for a destination that is behind, until that has caught up.
//! - **No destination takes anything, and there is no spool**: the whole batch is taken back and stays with the runner (a retriable error, a second
//!   later), whose queue bridges the outage as for any sink, also across a change of settings.
//!
//! # What can arrive twice
//! In Graphite a point is its path and timestamp; one that comes again overwrites itself. So nothing here avoids repeats at the price of a loss: a frame that
//! was being written when its connection died is written again from its start, as is what was written within `resend` before; a batch that was taken back
//! may have been written in part; and after a restart a spool sends its oldest segment again.
//!
//! # Order
//! Each destination gets its points in order, but for those that are sent again, and those of a spool: they go in turn with new ones.
//!
//! Skipped are events, and points whose path is empty or longer than 16,000 bytes (carbon closes a connection at a longer line).

mod address;
mod chunk;
mod config;
mod courier;
mod happened;
mod lane;
mod pickle;
mod protocol;
#[cfg(test)]
mod receiver;
mod ring;
mod spool;
#[cfg(test)]
mod tests;

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tributary_node::tls::{Alpn, Connector};

use self::chunk::{Chunk, Entry, LONGEST_PATH};
use self::courier::{Courier, HOP, Manner, open_spool};
use self::happened::Named;
use self::lane::{Lane, Patience};
use self::ring::Router;
use super::{Amount, Gather, Sink, SinkError};
use crate::graphite::naming::Naming;
use crate::point::Batch;
use crate::receipt::Receipt;

pub use config::GraphiteConfig;
pub use protocol::Protocol;
pub use ring::RouterKind;

/// How many points are formatted before other tasks get their turn.
const STRETCH: usize = 1024;
/// A write waits so many times `timeout` for a destination that is slow and not away.
const WHOLE: u32 = 6;
/// When a batch that nobody took is tried again.
const AGAIN: Duration = Duration::from_secs(1);
/// Small batches are put together: these make good frames, and nobody looks at a graph sooner.
const GATHER: Gather = Gather {
    amount: 5_000,
    time: Duration::from_millis(100),
};

/// The running sink.
#[derive(Debug)]
struct Graphite {
    naming: Naming,
    router: Router,
    lanes: Vec<Arc<Lane>>,
    max_frame_points: usize,
    timeout: Duration,
    spools: bool,
    /// Ends the couriers.
    stop: CancellationToken,
    couriers: Vec<AbortOnDropHandle<()>>,
    _openers: Vec<AbortOnDropHandle<()>>,
    /// Kept from write to write, so that formatting does not allocate.
    path: String,
}

/// One destination's part of a batch.
#[derive(Debug, Default)]
struct Share {
    /// Not with the lane yet.
    open: Chunk,
    /// From where on the lane's items are this batch's.
    mark: u64,
}

impl Graphite {
    fn start(config: GraphiteConfig, name: &str) -> Result<Self, String> {
        let naming = config.naming()?;
        let (addresses, problems) = config.addresses();
        if let Some(problem) = problems.into_iter().next() {
            return Err(problem);
        }
        let tls = match config.tls.is_on() {
            true => Some(
                Connector::new(&config.tls, HOP, Alpn::None)
                    .map_err(|error| format!("tls.{error}"))?,
            ),
            false => None,
        };
        let spools = !config.spool_dir.as_os_str().is_empty();
        if spools {
            let path = &config.spool_dir;
            fs::create_dir_all(path)
                .map_err(|error| format!("spool_dir: cannot make `{}`: {error}", path.display()))?;
        }
        let manner = Manner {
            protocol: config.protocol,
            max_frame_points: config.max_frame_points,
            tls,
            connect_timeout: config.timeout.get(),
            stall_timeout: config.stall_timeout.get(),
            pause: (config.reconnect_min.get(), config.reconnect_max.get()),
            resend: config.resend.get(),
            resend_points: config.queue_points,
        };
        let stop = CancellationToken::new();
        let (mut lanes, mut couriers, mut openers) = (Vec::new(), Vec::new(), Vec::new());
        for address in &addresses {
            let destination = address.to_string();
            let named = Named::new(name.into(), destination.as_str().into());
            let lane = Arc::new(Lane::new(named, config.queue_points));
            if spools {
                let path = config::spool_path(&config.spool_dir, name, &destination);
                let opening = open_spool(Arc::clone(&lane), path, config.spool_max_bytes.get());
                openers.push(AbortOnDropHandle::new(tokio::spawn(opening)));
            }
            let courier = Courier::new(Arc::clone(&lane), address.clone(), manner.clone());
            let courier = tokio::spawn(courier.run(stop.clone()));
            couriers.push(AbortOnDropHandle::new(courier));
            lanes.push(lane);
        }
        if spools {
            tell_of_strangers(&config.spool_dir, name, &addresses);
        }
        Ok(Self {
            naming,
            router: Router::new(
                config.router,
                &addresses,
                config.replication,
                config.diverse_replicas,
            ),
            lanes,
            max_frame_points: config.max_frame_points,
            timeout: config.timeout.get(),
            spools,
            stop,
            couriers,
            _openers: openers,
            path: String::new(),
        })
    }

    fn patience(&self) -> Patience {
        Patience {
            since: Instant::now(),
            step: self.timeout,
            whole: self.timeout * WHOLE,
        }
    }

    /// Gives each destination its share; returns how many points can be carried.
    async fn spread(&mut self, batch: &Batch, shares: &mut [Share], patience: Patience) -> usize {
        let mut path = std::mem::take(&mut self.path);
        let mut carried = 0;
        for points in batch.points.chunks(STRETCH) {
            for point in points {
                path.clear();
                self.naming.push_path(point, &mut path);
                if path.is_empty() || path.len() > LONGEST_PATH {
                    continue;
                }
                carried += 1;
                for &index in self.router.route(&path) {
                    let (Some(share), Some(lane)) = (shares.get_mut(index), self.lanes.get(index))
                    else {
                        continue;
                    };
                    if !share.open.has_room(&path, self.max_frame_points) {
                        self.hand_over(lane, share, &batch.receipts, patience).await;
                    }
                    share.open.push(Entry {
                        path: &path,
                        timestamp: point.timestamp.seconds_f64(),
                        value: point.value,
                    });
                }
            }
            tokio::task::yield_now().await;
        }
        self.path = path;
        for (lane, share) in self.lanes.iter().zip(shares) {
            if !share.open.is_empty() {
                self.hand_over(lane, share, &batch.receipts, patience).await;
            }
        }
        carried
    }

    /// Gives a destination a frame's worth, as soon as there is room for it.
    async fn hand_over(
        &self,
        lane: &Arc<Lane>,
        share: &mut Share,
        receipts: &[Receipt],
        patience: Patience,
    ) {
        lane.push(std::mem::take(&mut share.open), receipts.to_vec());
        if lane.has_room() {
            return;
        }
        if !lane.is_behind() && !lane.room(patience).await {
            lane.fall_behind();
        }
        // Without a spool that can wait: what is dropped cannot be taken back.
        if lane.is_behind() && self.spools {
            lane.relieve().await;
        }
    }

    /// Takes the batch back if no destination takes anything, and none took anything of this; whether that is so.
    fn take_back(&self, shares: &[Share]) -> bool {
        let given = || self.lanes.iter().zip(shares);
        let none = self.lanes.iter().all(|lane| !lane.takes())
            && given().all(|(lane, share)| lane.has_all(share.mark));
        if none {
            // One that connects just now may write some of it after all; those come again.
            given().for_each(|(lane, share)| lane.take_back(share.mark));
        }
        none
    }

    fn reason(&self) -> String {
        let mut errors = self.lanes.iter().filter_map(|lane| lane.last_error());
        let error = errors.next_back().unwrap_or_else(|| "no answer".to_owned());
        match self.lanes.len() {
            1 => format!("the destination takes nothing: {error}"),
            count => format!("none of the {count} destinations takes anything: {error}"),
        }
    }
}

#[async_trait]
impl Sink for Graphite {
    fn gather(&self) -> Gather {
        GATHER
    }

    async fn write(&mut self, batch: &Batch) -> Result<Amount, SinkError> {
        let patience = self.patience();
        let mut shares: Vec<Share> = self
            .lanes
            .iter()
            .map(|lane| Share {
                mark: lane.mark(),
                ..Share::default()
            })
            .collect();
        let carried = self.spread(batch, &mut shares, patience).await;
        for (lane, share) in self.lanes.iter().zip(&shares) {
            if !lane.is_behind() && !lane.written(share.mark, patience).await {
                lane.fall_behind();
            }
        }
        if carried > 0 && !self.spools && self.take_back(&shares) {
            return Err(SinkError::Retriable {
                reason: self.reason(),
                after: Some(AGAIN),
            });
        }
        for lane in self.lanes.iter().filter(|lane| lane.is_behind()) {
            lane.relieve().await;
        }
        Ok(Amount::points(carried))
    }

    /// Waits for destinations that are there to take what waits in memory, and brings the rest to the spool.
    async fn close(&mut self) {
        let patience = self.patience();
        for lane in &self.lanes {
            lane.drained(patience).await;
            if self.spools {
                lane.relieve().await;
            }
        }
        self.stop.cancel();
        for courier in self.couriers.drain(..) {
            // It says goodbye to its peer, in bounded time.
            let _ = courier.await;
        }
    }
}

/// What still waits in memory is lost.
impl Drop for Graphite {
    fn drop(&mut self) {
        self.couriers.clear();
        for lane in &self.lanes {
            lane.abandon();
        }
    }
}

/// Points in directories of destinations that are configured no more are sent nowhere: somebody should know.
fn tell_of_strangers(directory: &Path, sink: &str, addresses: &[address::Address]) {
    let known: Vec<_> = addresses
        .iter()
        .map(|address| config::spool_path(directory, sink, &address.to_string()))
        .collect();
    let Some(entries) = known
        .first()
        .and_then(|path| fs::read_dir(path.parent()?).ok())
    else {
        return;
    };
    for path in entries.flatten().map(|entry| entry.path()) {
        let holds = |path: &Path| {
            let mut files = fs::read_dir(path).into_iter().flatten().flatten();
            files.any(|file| file.path().extension().is_some_and(|end| end == "seg"))
        };
        if !known.contains(&path) && holds(&path) {
            tracing::warn!(sink, path = %path.display(), "a spool of a destination that is not configured any more: its points stay where they are");
        }
    }
}
