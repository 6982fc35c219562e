//! Text lines over UDP.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::event::{Loss, ReceiveFailed, Way};
use super::taker::{Shared, Taker};

/// The longest datagram that there is.
const LONGEST: usize = 64 * 1024;

/// How many datagrams make a batch at most.
const BATCH: usize = 64;

/// After the stop signal: a socket silent for so long holds nothing more.
const QUIET: Duration = Duration::from_millis(50);

/// After the stop signal: how long is read at most, since peers may send faster than we read.
const LONGEST_DRAIN: Duration = Duration::from_millis(800);

/// After datagrams could not be had, such as for lack of memory.
const BREATH: Duration = Duration::from_millis(50);

/// Reads one socket.
pub(super) struct Datagrams {
    pub(super) socket: UdpSocket,
    /// The longest line, in bytes.
    pub(super) longest: usize,
    pub(super) shared: Arc<Shared>,
}

impl Datagrams {
    /// Runs until `stop`, and then until the socket is empty.
    pub(super) async fn run(self, stop: CancellationToken) {
        let mut taker = Taker::new(Arc::clone(&self.shared), Way::Udp, None);
        let mut buffer = vec![0; LONGEST];
        while let Some(ready) = stop.run_until_cancelled(self.socket.readable()).await {
            let outcome = ready.and_then(|()| self.batch(&mut taker, &mut buffer));
            if let Err(error) = outcome {
                ReceiveFailed(error).emit(&self.shared.complaints);
                sleep(BREATH).await;
            }
        }
        // To ask is not enough: the runtime may not have noticed yet what has arrived.
        let until = Instant::now() + LONGEST_DRAIN;
        while let Ok(Ok(())) = timeout(QUIET, self.socket.readable()).await {
            if self.batch(&mut taker, &mut buffer).is_err() || Instant::now() >= until {
                break;
            }
        }
    }

    /// What the socket holds, up to a bound.
    fn batch(&self, taker: &mut Taker, buffer: &mut [u8]) -> io::Result<()> {
        let mut outcome = Ok(());
        for _ in 0..BATCH {
            match self.socket.try_recv(buffer) {
                Ok(count) => {
                    let datagram = buffer.get(..count).unwrap_or_default();
                    self.datagram(taker, datagram);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => {
                    outcome = Err(error);
                    break;
                }
            }
        }
        taker.end_batch();
        outcome
    }

    fn datagram(&self, taker: &mut Taker, datagram: &[u8]) {
        // Most datagrams are shorter than the longest line, and so are all of their lines.
        if datagram.len() <= self.longest {
            return taker.datagram(datagram);
        }
        for line in datagram.split(|byte| matches!(byte, b'\n' | b'\r')) {
            if line.len() > self.longest {
                taker.lose(Loss::line("too_long"), line);
            } else {
                taker.line(line);
            }
        }
    }
}
