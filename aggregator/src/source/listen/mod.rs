//! The places where DogStatsD comes in: UDP, TCP, and both kinds of Unix socket.
//!
//! Datagram sockets are read by threads of their own, several to a UDP address if wanted; connections are tasks of the runtime. Each of them
//! has its own [`Intake`]. What always holds: whatever a peer sends, neither its own other lines nor another peer suffer; memory per peer is
//! bounded; and what had arrived when the stop signal came is read before [`Listeners::join`] returns.

mod address;
mod bind;
mod datagram;
mod drops;
mod events;
mod framing;
mod pause;
mod reader;
mod stream;
mod unix_path;

#[cfg(test)]
pub(super) mod tests;

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;

use tokio::runtime::Handle;
use tokio::task::JoinSet;
use tokio_util::sync::{CancellationToken, DropGuard};
use tributary_node::tls::Acceptor;

pub use address::{AddressError, Family, Inet, ListenAddress, UnixName};
pub use drops::KernelDrops;

pub(super) use bind::{Bound, Sockets};
pub(super) use events::{Complaints, shown};
pub(super) use framing::{Framing, Piece, StreamBuffer};

use self::datagram::DatagramReader;
use self::drops::DropWatch;
use self::events::Protocol;
use self::reader::LineReader;
use self::stream::{Accept, Bounds, Secured, StreamListener};
use self::unix_path::SocketFile;
use super::Intake;

/// Where and how to listen for DogStatsD.
#[derive(Debug, Clone)]
pub struct StatsdConfig {
    /// The addresses; none is fine.
    pub listen: Vec<ListenAddress>,
    /// Threads, each with its own socket, for each UDP address. At least 1, the default. More help once one thread is busy.
    pub num_readers: usize,
    /// The receive buffer to ask the system for, for each datagram socket, in bytes; 0 leaves the system's own default. Default 2 MiB. Bigger
    /// buffers ride out longer bursts; the system's limit is `net.core.rmem_max`. Readers of dense UDP pause for up to a millisecond at a time, and
    /// for less where the buffer is small.
    pub read_buffer_size_bytes: usize,
    /// Whether another process may listen on the same UDP and TCP addresses at the same time. What comes to a UDP address while this one stops
    /// goes to the other; default false.
    pub reuse_port: bool,
    /// Datagrams longer than this many bytes are dropped whole and counted. At least 1; default 4096. DogStatsD clients on Unix sockets send
    /// up to 8192. Streams have a bound of their own: 64 KiB a line or packet.
    pub metric_max_length: usize,
    /// With it, TLS is spoken on every TCP address.
    pub tls: Option<Acceptor>,
}

impl Default for StatsdConfig {
    fn default() -> Self {
        Self {
            listen: Vec::new(),
            num_readers: 1,
            read_buffer_size_bytes: 2 * 1024 * 1024,
            reuse_port: false,
            metric_max_length: 4096,
            tls: None,
        }
    }
}

/// Why listening cannot start.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// `num_readers` is 0: nobody would read.
    #[error("num_readers must be at least 1")]
    NoReaders,
    /// `metric_max_length` is 0: nothing would be taken.
    #[error("metric_max_length must be at least 1")]
    NoLength,
    /// The address cannot be opened.
    #[error("cannot listen on {address}: {source}")]
    Open {
        /// As configured.
        address: ListenAddress,
        /// What the system says.
        source: io::Error,
    },
    /// A reader cannot be started on an open socket.
    #[error("cannot read from {address}: {source}")]
    Read {
        /// As bound.
        address: ListenAddress,
        /// What the system says.
        source: io::Error,
    },
    /// Called outside of a Tokio runtime, which connections need.
    #[error("listening needs a tokio runtime")]
    NoRuntime,
}

/// Running listeners. Dropping them stops them without waiting for what their sockets hold.
#[derive(Debug)]
pub struct Listeners {
    addresses: Vec<ListenAddress>,
    threads: Vec<JoinHandle<()>>,
    tasks: JoinSet<()>,
    /// Paths of datagram sockets, removed when their readers are done.
    files: Vec<SocketFile>,
    complaints: [Arc<Complaints>; 2],
    drops: KernelDrops,
    _stop: DropGuard,
}

/// Opens every address, then starts to read; on an error nothing is left open. `intakes` makes one intake for each reader and connection.
///
/// Cancel `stop` to end it, and await [`Listeners::join`].
///
/// # Errors
/// [`ListenError`] names the setting or the address.
pub fn start<F, I>(
    config: &StatsdConfig,
    intakes: F,
    stop: CancellationToken,
) -> Result<Listeners, ListenError>
where
    F: Fn() -> I + Clone + Send + Sync + 'static,
    I: Intake,
{
    if config.num_readers == 0 {
        return Err(ListenError::NoReaders);
    }
    if config.metric_max_length == 0 {
        return Err(ListenError::NoLength);
    }
    if Handle::try_current().is_err() {
        return Err(ListenError::NoRuntime);
    }
    let opened = config
        .listen
        .iter()
        .map(|address| {
            Bound::open(address, config).map_err(|source| ListenError::Open {
                address: address.clone(),
                source,
            })
        })
        .collect::<Result<Vec<Bound>, ListenError>>()?;

    let bad_lines = Arc::new(Complaints::about("DogStatsD that could not be taken"));
    let bad_connections = Arc::new(Complaints::about("a listener could not do its work"));
    // Ours alone, so that failing half-way ends what runs by then.
    let stop = stop.child_token();
    let mut starter = Starter {
        intakes,
        longest: config.metric_max_length,
        shared: config.reuse_port,
        tls: config.tls.clone(),
        stop: stop.clone(),
        watches: Vec::new(),
        listeners: Listeners {
            addresses: Vec::new(),
            threads: Vec::new(),
            tasks: JoinSet::new(),
            files: Vec::new(),
            complaints: [Arc::clone(&bad_lines), Arc::clone(&bad_connections)],
            drops: KernelDrops::default(),
            _stop: stop.drop_guard(),
        },
        bad_lines,
        bad_connections,
    };
    for bound in opened {
        let address = bound.address.clone();
        starter
            .start(bound)
            .map_err(|source| ListenError::Read { address, source })?;
    }
    Ok(starter.finish())
}

/// What starting takes, in one place.
struct Starter<F> {
    intakes: F,
    longest: usize,
    shared: bool,
    tls: Option<Acceptor>,
    stop: CancellationToken,
    watches: Vec<Arc<DropWatch>>,
    bad_lines: Arc<Complaints>,
    bad_connections: Arc<Complaints>,
    listeners: Listeners,
}

impl<F, I> Starter<F>
where
    F: Fn() -> I + Clone + Send + Sync + 'static,
    I: Intake,
{
    fn start(&mut self, bound: Bound) -> io::Result<()> {
        let Bound {
            address,
            sockets,
            file,
            inherited,
        } = bound;
        tracing::info!(%address, "listening for DogStatsD");
        match sockets {
            Sockets::Datagrams(sockets) => {
                let protocol = match address {
                    ListenAddress::Udp(_) => Protocol::Udp,
                    _ => Protocol::Unix,
                };
                for socket in sockets {
                    self.start_reader(socket, protocol, inherited)?;
                }
                self.listeners.files.extend(file);
            }
            Sockets::Tcp(listener) => {
                let listener = tokio::net::TcpListener::from_std(listener)?;
                match self.tls.clone() {
                    None => self.start_listener(listener, None),
                    Some(acceptor) => self.start_listener(Secured { listener, acceptor }, None),
                }
            }
            Sockets::Unix(listener) => {
                let listener = tokio::net::UnixListener::from_std(listener)?;
                self.start_listener(listener, file);
            }
        }
        self.listeners.addresses.push(address);
        Ok(())
    }

    fn start_reader(
        &mut self,
        socket: socket2::Socket,
        protocol: Protocol,
        inherited: bool,
    ) -> io::Result<()> {
        let complaints = Arc::clone(&self.bad_lines);
        let lines = LineReader::new((self.intakes)(), protocol, complaints);
        let drops = match protocol {
            Protocol::Udp => {
                let total = self.listeners.kernel_drops();
                let watch = DropWatch::new(&socket, protocol, total)?;
                let known = self
                    .watches
                    .iter()
                    .find(|known| known.is_of_one_with(&watch));
                Some(match known {
                    // Several readers of one socket.
                    Some(known) => Arc::clone(known),
                    None => {
                        if inherited {
                            drops::pass_over(&watch);
                        }
                        self.watches.push(Arc::clone(&watch));
                        watch
                    }
                })
            }
            Protocol::Unix | Protocol::Tcp => None,
        };
        // An inherited one holds what is not read for whoever comes next.
        let shared = self.shared && protocol == Protocol::Udp && !inherited;
        let reader = DatagramReader::new(socket, self.longest, lines, drops, shared)?;
        let stop = self.stop.clone();
        let number = self.listeners.threads.len();
        let thread = std::thread::Builder::new()
            .name(format!("statsd-{number}"))
            .spawn(move || reader.run(&stop))?;
        self.listeners.threads.push(thread);
        Ok(())
    }

    fn start_listener<L: Accept>(&mut self, listener: L, file: Option<SocketFile>) {
        let listener = StreamListener {
            listener,
            intakes: self.intakes.clone(),
            bounds: Bounds::default(),
            bad_lines: Arc::clone(&self.bad_lines),
            bad_connections: Arc::clone(&self.bad_connections),
        };
        let stop = self.stop.clone();
        self.listeners.tasks.spawn(async move {
            listener.run(stop).await;
            drop(file);
        });
    }

    fn finish(mut self) -> Listeners {
        let complaints = self.listeners.complaints.clone();
        let stop = self.stop.clone();
        self.listeners.tasks.spawn(async move {
            let summing_up = async {
                loop {
                    tokio::time::sleep(Complaints::WINDOW).await;
                    complaints
                        .iter()
                        .for_each(|complaint| complaint.sum_up(false));
                }
            };
            let _ = stop.run_until_cancelled(summing_up).await;
        });
        if !self.watches.is_empty() {
            let watching = drops::watch(self.watches);
            let stop = self.stop;
            self.listeners.tasks.spawn(async move {
                let _ = stop.run_until_cancelled(watching).await;
            });
        }
        self.listeners
    }
}

impl Listeners {
    /// The addresses in the order of the configuration, with the ports that the system chose.
    pub fn addresses(&self) -> &[ListenAddress] {
        &self.addresses
    }

    /// The count of datagrams that the kernel dropped, to keep: it outlives the listeners.
    pub fn kernel_drops(&self) -> KernelDrops {
        self.drops.clone()
    }

    /// Waits until every reader has ended, after the stop signal: all that had arrived by then is with the intakes, and they are dropped.
    ///
    /// Takes well under a second, and two at most when peers keep on sending.
    pub async fn join(mut self) {
        while let Some(ended) = self.tasks.join_next().await {
            if let Err(error) = ended {
                tracing::error!(%error, "a DogStatsD listener failed");
            }
        }
        for thread in self.threads {
            let joined = tokio::task::spawn_blocking(|| thread.join().is_ok()).await;
            if !joined.unwrap_or(false) {
                tracing::error!("a DogStatsD reader failed");
            }
        }
        for complaint in &self.complaints {
            complaint.sum_up(true);
        }
    }
}
