//! A steady load of global counters, and exactly how much of it was sent.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// The name of the counters.
const NAME: &str = "load.count";

/// Lines of a datagram.
const PACKED: usize = 20;

/// The sums of what was sent, by series number.
pub type Sent = HashMap<usize, u64>;

/// Senders on threads of their own, one for each agent.
///
/// They send over Unix datagram sockets, where a full buffer makes the sender wait: what was sent has arrived.
#[derive(Debug)]
pub struct SteadyLoad {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<io::Result<Sent>>>,
}

impl SteadyLoad {
    /// Starts to send `rate` counts a second, over all `sockets` together, to `series` series.
    pub fn start(sockets: &[PathBuf], rate: u64, series: usize) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let each = rate / sockets.len().max(1) as u64;
        let threads = sockets
            .iter()
            .map(|socket| {
                let (socket, stop) = (socket.clone(), Arc::clone(&stop));
                std::thread::spawn(move || send(&socket, each, series, &stop))
            })
            .collect();
        Self { stop, threads }
    }

    /// Stops, and says what was sent.
    ///
    /// # Errors
    /// If a sender could not send.
    pub async fn stop(self) -> io::Result<Sent> {
        self.stop.store(true, Ordering::Relaxed);
        let mut total = Sent::new();
        for thread in self.threads {
            let sent = tokio::task::spawn_blocking(move || thread.join())
                .await?
                .map_err(|_| io::Error::other("a sender panicked"))??;
            for (series, count) in sent {
                *total.entry(series).or_default() += count;
            }
        }
        Ok(total)
    }
}

fn send(path: &Path, rate: u64, series: usize, stop: &AtomicBool) -> io::Result<Sent> {
    let socket = UnixDatagram::unbound()?;
    let mut sent = Sent::new();
    let mut total = 0_u64;
    let start = Instant::now();
    let mut line = String::new();
    while !stop.load(Ordering::Relaxed) {
        let due = (start.elapsed().as_secs_f64() * rate as f64) as u64;
        if total >= due {
            std::thread::sleep(Duration::from_millis(2));
            continue;
        }
        line.clear();
        let first = total as usize % series;
        for offset in 0..PACKED {
            // Writing into a string cannot fail.
            let _ = writeln!(
                line,
                "{NAME}:1|c|#series:{},veneurglobalonly",
                (first + offset) % series
            );
        }
        deliver(&socket, path, &line)?;
        for offset in 0..PACKED {
            *sent.entry((first + offset) % series).or_default() += 1;
        }
        total += PACKED as u64;
    }
    Ok(sent)
}

/// An agent that restarts is away for a moment; a datagram that was refused was not sent.
fn deliver(socket: &UnixDatagram, path: &Path, datagram: &str) -> io::Result<()> {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        match socket.send_to(datagram.as_bytes(), path) {
            Ok(_) => return Ok(()),
            Err(error) if Instant::now() > deadline => return Err(error),
            Err(_) => std::thread::sleep(Duration::from_millis(5)),
        }
    }
}
