//! Brings one destination its points: a task that keeps a connection, and writes what waits in the [`Lane`].

use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tributary_node::tls::{Connector, Stream};

use super::address::Address;
use super::chunk::Chunk;
use super::happened::{Connected, Failed, SpoolDamaged, SpoolFailed, SpoolOpened, Unreachable};
use super::lane::Lane;
use super::protocol::Protocol;
use super::spool::{Oldest, Spool};
use crate::backoff::Backoff;

/// The hop by which failed handshakes are counted.
pub(super) const HOP: &str = "graphite_tls";

/// A silent connection is tried by TCP after so long.
const KEEPALIVE: Duration = Duration::from_secs(30);
/// How often a spool is tried that another still has, or a disk that does not work.
const SPOOL_RETRY: Duration = Duration::from_millis(500);
/// A peer is given so long to take the end of a connection.
const GOODBYE: Duration = Duration::from_secs(1);

/// What all destinations of a sink have in common.
#[derive(Debug, Clone)]
pub(super) struct Manner {
    pub(super) protocol: Protocol,
    pub(super) max_frame_points: usize,
    pub(super) tls: Option<Connector>,
    /// For a connection.
    pub(super) connect_timeout: Duration,
    /// A connection that takes nothing for so long is given up.
    pub(super) stall_timeout: Duration,
    /// The first and the longest pause between attempts.
    pub(super) pause: (Duration, Duration),
    /// What was written so shortly before a connection ended is written again.
    pub(super) resend: Duration,
    /// And so many points at most.
    pub(super) resend_points: usize,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Courier {
    pub(super) lane: Arc<Lane>,
    pub(super) address: Address,
    pub(super) manner: Manner,
    /// Written on this connection, oldest first.
    recent: VecDeque<(Instant, Arc<Chunk>)>,
    recent_points: usize,
    spool_next: bool,
}

/// What is to be sent.
enum Job {
    Memory(Arc<Chunk>),
    Disk(Arc<Spool>, Oldest),
}

impl Courier {
    pub(super) fn new(lane: Arc<Lane>, address: Address, manner: Manner) -> Self {
        Self {
            lane,
            address,
            manner,
            recent: VecDeque::new(),
            recent_points: 0,
            spool_next: false,
        }
    }

    /// Works until it is stopped. What waits in memory then is left there.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        let (first, longest) = self.manner.pause;
        let mut backoff = Backoff::new(first, longest);
        while !stop.is_cancelled() {
            let connecting = stop.run_until_cancelled(self.connect());
            let why = match connecting.await {
                None => return,
                Some(Err(why)) => why,
                Some(Ok(stream)) => {
                    let named = &self.lane.named;
                    Connected { named }.emit();
                    self.lane.set_up();
                    let began = Instant::now();
                    let Err(why) = self.serve(stream, &stop).await else {
                        return;
                    };
                    // One that takes connections only to close them is not asked without end.
                    if began.elapsed() > longest {
                        backoff.reset();
                    }
                    why
                }
            };
            let named = &self.lane.named;
            Failed { named, why: &why }.emit();
            self.lane.set_down(&why);
            self.send_recent_again();
            stop.run_until_cancelled(tokio::time::sleep(backoff.next(None)))
                .await;
        }
    }

    /// The name is resolved each time.
    async fn connect(&self) -> Result<Stream, Unreachable> {
        let within = self.manner.connect_timeout;
        let socket = timeout(within, self.dial()).await;
        let socket = socket.map_err(|_| Unreachable::ConnectTimeout(within))??;
        let authority = self.address.authority();
        match &self.manner.tls {
            Some(tls) => {
                let stream = tls.connect(&authority, socket).await;
                stream.map_err(Unreachable::Tls)
            }
            None => Ok(Stream::plain_to(HOP, &authority, socket)),
        }
    }

    async fn dial(&self) -> Result<TcpStream, Unreachable> {
        let Address { host, port, .. } = &self.address;
        let found = tokio::net::lookup_host((host.as_str(), *port)).await;
        let addresses: Vec<_> = found
            .map_err(|error| Unreachable::Name {
                host: host.clone(),
                error,
            })?
            .collect();
        let socket = TcpStream::connect(&*addresses).await;
        let socket = socket.map_err(Unreachable::Connect)?;
        let keepalive = TcpKeepalive::new()
            .with_time(KEEPALIVE)
            .with_interval(KEEPALIVE);
        // Both only make things better.
        let _ = socket.set_nodelay(true);
        let _ = SockRef::from(&socket).set_tcp_keepalive(&keepalive);
        Ok(socket)
    }

    /// Writes what waits until the connection ends, or all is over.
    async fn serve(&mut self, stream: Stream, stop: &CancellationToken) -> Result<(), Unreachable> {
        let (mut reader, mut writer) = tokio::io::split(stream);
        let mut bytes = Vec::new();
        loop {
            let job = tokio::select! {
                // Carbon closes without a word: that is looked for first, so that nothing is written to a peer known to be gone.
                biased;
                why = closed(&mut reader) => return Err(why),
                () = stop.cancelled() => {
                    // The peer may be gone as well as not.
                    let _ = timeout(GOODBYE, writer.shutdown()).await;
                    return Ok(());
                }
                job = self.next() => job,
            };
            let chunk = match &job {
                Job::Memory(chunk) => chunk,
                Job::Disk(_, oldest) => &oldest.chunk,
            };
            bytes.clear();
            let manner = &self.manner;
            manner
                .protocol
                .write(chunk, manner.max_frame_points, &mut bytes);
            tokio::select! {
                biased;
                why = closed(&mut reader) => return Err(why),
                done = write(&mut writer, &bytes, manner.stall_timeout) => done?,
            }
            self.done(job);
        }
    }

    /// What to send next: from memory and disk in turn, so that what is new does not wait for all that is old.
    async fn next(&mut self) -> Job {
        let lane = Arc::clone(&self.lane);
        loop {
            let news = lane.news.notified();
            let memory = lane.front();
            let spool = lane.spool().filter(|spool| spool.points() > 0);
            if let Some(spool) = spool
                && (memory.is_none() || self.spool_next)
                && let Some(oldest) = self.read(spool).await
            {
                return Job::Disk(Arc::clone(spool), oldest);
            }
            match memory {
                Some(chunk) => return Job::Memory(chunk),
                None => news.await,
            }
        }
    }

    async fn read(&self, spool: &Arc<Spool>) -> Option<Oldest> {
        let reading = Arc::clone(spool);
        let read = tokio::task::spawn_blocking(move || reading.oldest()).await;
        let named = &self.lane.named;
        match read.map_err(io::Error::other).flatten() {
            Ok((oldest, damaged)) => {
                let bytes = damaged;
                SpoolDamaged { named, bytes }.emit();
                oldest
            }
            Err(error) => {
                SpoolFailed { named, error }.emit();
                tokio::time::sleep(SPOOL_RETRY).await;
                None
            }
        }
    }

    /// The job's bytes are with the system.
    fn done(&mut self, job: Job) {
        let chunk = match job {
            Job::Memory(chunk) => {
                self.lane.sent(&chunk);
                self.spool_next = true;
                chunk
            }
            Job::Disk(spool, oldest) => {
                spool.sent(&oldest);
                self.lane.named.spooled.set(spool.bytes() as f64);
                self.spool_next = false;
                Arc::new(oldest.chunk)
            }
        };
        self.lane.named.wrote(chunk.len());
        if self.manner.resend.is_zero() {
            return;
        }
        let now = Instant::now();
        self.recent_points += chunk.len();
        self.recent.push_back((now, chunk));
        while let Some((written, oldest)) = self.recent.front()
            && (now.duration_since(*written) > self.manner.resend
                || self.recent_points > self.manner.resend_points)
        {
            self.recent_points -= oldest.len();
            self.recent.pop_front();
        }
    }

    /// A peer that goes says nothing about what it has read. What was written long ago it has.
    fn send_recent_again(&mut self) {
        let now = Instant::now();
        let resend = self.manner.resend;
        let recent = std::mem::take(&mut self.recent);
        let recent = recent
            .into_iter()
            .filter(|(written, _)| now.duration_since(*written) <= resend)
            .map(|(_, chunk)| chunk);
        let recent: Vec<_> = recent.collect();
        self.lane
            .named
            .writes_again(recent.iter().map(|chunk| chunk.len()).sum());
        self.recent_points = 0;
        self.lane.put_back(recent.into_iter());
    }
}

/// Opens a lane's spool, once whoever has it lets go of it.
pub(super) async fn open_spool(lane: Arc<Lane>, path: PathBuf, limit: u64) {
    loop {
        let opened = {
            let path = path.clone();
            tokio::task::spawn_blocking(move || Spool::open(&path, limit)).await
        };
        let named = &lane.named;
        match opened.map_err(io::Error::other).flatten() {
            Ok((spool, found)) => {
                let path = &path;
                SpoolOpened { named, path, found }.emit();
                lane.set_spool(spool);
                return;
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => SpoolFailed { named, error }.emit(),
        }
        tokio::time::sleep(SPOOL_RETRY).await;
    }
}

/// Waits until the peer has closed the connection. Whatever else it may say is of no interest.
async fn closed(reader: &mut (impl AsyncRead + Unpin)) -> Unreachable {
    let mut said = [0; 256];
    loop {
        match reader.read(&mut said).await {
            Ok(0) => return Unreachable::Closed,
            Ok(_) => {}
            Err(error) => return Unreachable::Broken(error),
        }
    }
}

/// Writes it all, as long as the peer takes something from time to time.
async fn write(
    writer: &mut (impl AsyncWrite + Unpin),
    mut bytes: &[u8],
    stall: Duration,
) -> Result<(), Unreachable> {
    while !bytes.is_empty() {
        let written = timeout(stall, writer.write(bytes)).await;
        let written = written.map_err(|_| Unreachable::Stalled(stall))?;
        match written.map_err(Unreachable::Broken)? {
            0 => return Err(Unreachable::Closed),
            count => bytes = bytes.get(count..).unwrap_or_default(),
        }
    }
    let flushed = timeout(stall, writer.flush()).await;
    let flushed = flushed.map_err(|_| Unreachable::Stalled(stall))?;
    flushed.map_err(Unreachable::Broken)
}
