//! The task of a destination: connects again and again, and lets a session empty the queue in between.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::sync::mpsc::UnboundedSender;

use super::Destination;
use super::backoff::Backoff;
use super::batch::Batch;
use super::link::Link;
use super::outcome::Failure;
use super::session::Session;
use crate::event::{ConnectFailed, Connected, Disconnected};

/// A connection that stood this long was a good one, whether or not there was anything to send.
const STOOD: Duration = Duration::from_secs(10);

/// Runs until the destination has left or is drained, or told to end at once.
pub(super) async fn run(destination: Arc<Destination>, orphans: UnboundedSender<Batch>) {
    tokio::select! {
        () = destination.abort.cancelled() => {}
        () = deliver(&destination, &orphans) => {}
    }
    destination.connected.store(false, Ordering::Relaxed);
    // Nothing is left unless it was told to end at once.
    let left = destination.queue.abandon();
    destination.lose("shutdown", left.plain);
    destination.give_back("shutdown", left.stamped);
}

/// Connects again and again, and empties the queue in between.
async fn deliver(destination: &Destination, orphans: &UnboundedSender<Batch>) {
    let mut backoff = Backoff::new();
    while !is_finished(destination) {
        let link = tokio::select! {
            link = connect(destination) => link,
            () = finished(destination) => return,
        };
        match link {
            Ok(link) => {
                let connected = Connected {
                    destination: &destination.address,
                };
                connected.emit();
                destination.connected.store(true, Ordering::Relaxed);
                if !link.can_probe() {
                    destination.resume();
                }
                let since = Instant::now();
                let mut session = Session::new(destination, orphans);
                session.run(&link).await;
                destination.connected.store(false, Ordering::Relaxed);
                let disconnected = Disconnected {
                    destination: &destination.address,
                };
                disconnected.emit();
                if session.has_delivered() || since.elapsed() > STOOD {
                    backoff.reset();
                    continue;
                }
                if backoff.attempts() > 0 {
                    destination.suspend("connection");
                }
                pause(destination, backoff.next()).await;
            }
            Err(failure) => {
                let before = backoff.attempts();
                let next_in = backoff.next();
                let failed = ConnectFailed {
                    destination: &destination.address,
                    detail: &failure.detail,
                    before,
                    next_in,
                };
                failed.emit();
                destination.suspend("connect");
                pause(destination, next_in).await;
            }
        }
    }
}

/// Connects. Senders are not made to wait for it if that takes long.
async fn connect(destination: &Destination) -> Result<Link, Failure> {
    let settings = destination.settings.load_full();
    let connecting = Link::connect(
        &destination.address,
        settings.dial_timeout,
        settings.tls.as_ref(),
    );
    tokio::pin!(connecting);
    tokio::select! {
        link = &mut connecting => return link,
        () = tokio::time::sleep(settings.stall_after) => destination.suspend("connect"),
    }
    connecting.await
}

/// Waits, but not longer than there is something to wait for.
async fn pause(destination: &Destination, time: Duration) {
    let _ = tokio::time::timeout(time, finished(destination)).await;
}

/// Completes when nothing more is to be done for the queue: it has been retired, or drained and empty, or is leaving and has lost its
/// connection with nothing that would be worth another one.
async fn finished(destination: &Destination) {
    while !is_finished(destination) {
        destination.queue.changed().await;
    }
}

fn is_finished(destination: &Destination) -> bool {
    destination.queue.retire_if_idle();
    destination.queue.is_finished()
}
