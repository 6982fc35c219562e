//! Opening the sockets, all of them before the first is read.

use std::io;
use std::net::SocketAddr;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr as UnixAddr, UnixDatagram, UnixListener};

use socket2::{Domain, Socket, Type};
use tributary_node::inherited;

use super::StatsdConfig;
use super::address::{Family, Inet, ListenAddress, UnixName};
use super::unix_path::SocketFile;

/// An open listen address.
pub(in crate::source) struct Bound {
    /// As configured, with the address and port that it got.
    pub(in crate::source) address: ListenAddress,
    pub(in crate::source) sockets: Sockets,
    /// Removes the path at the end.
    pub(super) file: Option<SocketFile>,
    /// Whether it was open before this process, and stays so.
    pub(super) inherited: bool,
}

/// What is read.
pub(in crate::source) enum Sockets {
    /// Blocking sockets, one for each reader.
    Datagrams(Vec<Socket>),
    /// Non-blocking.
    Tcp(std::net::TcpListener),
    /// Non-blocking.
    Unix(UnixListener),
}

/// How many connections may wait to be taken.
const BACKLOG: i32 = 1024;

impl Bound {
    pub(in crate::source) fn open(
        address: &ListenAddress,
        config: &StatsdConfig,
    ) -> io::Result<Self> {
        if let Some(inherited) = Self::inherit(address, config)? {
            return Ok(inherited);
        }
        match address {
            ListenAddress::Udp(inet) => {
                let (inet, sockets) = open_first(inet, |at| udp(at, inet.family, config))?;
                Ok(Self {
                    address: ListenAddress::Udp(inet),
                    sockets: Sockets::Datagrams(sockets),
                    file: None,
                    inherited: false,
                })
            }
            ListenAddress::Tcp(inet) => {
                let (inet, listener) = open_first(inet, |at| tcp(at, inet.family, config))?;
                Ok(Self {
                    address: ListenAddress::Tcp(inet),
                    sockets: Sockets::Tcp(listener),
                    file: None,
                    inherited: false,
                })
            }
            ListenAddress::UnixDatagram(name) => {
                let (file, socket) = open_unix(name, UnixDatagram::bind_addr)?;
                let socket = Socket::from(socket);
                size_buffer(&socket, config, address)?;
                Ok(Self {
                    address: address.clone(),
                    sockets: Sockets::Datagrams(vec![socket]),
                    file,
                    inherited: false,
                })
            }
            ListenAddress::UnixStream(name) => {
                let (file, listener) = open_unix(name, UnixListener::bind_addr)?;
                listener.set_nonblocking(true)?;
                Ok(Self {
                    address: address.clone(),
                    sockets: Sockets::Unix(listener),
                    file,
                    inherited: false,
                })
            }
        }
    }
}

impl Bound {
    /// The sockets of this address that the process was started with, if there are any.
    fn inherit(address: &ListenAddress, config: &StatsdConfig) -> io::Result<Option<Self>> {
        let kind = match address {
            ListenAddress::Udp(_) | ListenAddress::UnixDatagram(_) => Type::DGRAM,
            ListenAddress::Tcp(_) | ListenAddress::UnixStream(_) => Type::STREAM,
        };
        let mut sockets = match address {
            ListenAddress::Udp(inet) | ListenAddress::Tcp(inet) => {
                let candidates = inet.candidates()?;
                inherited::take(kind, |its| {
                    its.as_socket().is_some_and(|its| candidates.contains(&its))
                })
            }
            ListenAddress::UnixDatagram(name) | ListenAddress::UnixStream(name) => {
                inherited::take(kind, |its| match name {
                    UnixName::Path(path) => its.as_pathname() == Some(path),
                    UnixName::Abstract(name) => {
                        its.as_abstract_namespace() == Some(name.as_bytes())
                    }
                })
            }
        };
        if sockets.is_empty() {
            return Ok(None);
        }
        tracing::info!(%address, "the socket was there before this process, and stays when it leaves");
        let sockets = match address {
            ListenAddress::Udp(_) | ListenAddress::UnixDatagram(_) => {
                for socket in &sockets {
                    socket.set_nonblocking(false)?;
                    // Whoever opened it may go beyond what this process is allowed.
                    if could_be_larger(socket, config)? {
                        size_buffer(socket, config, address)?;
                    }
                }
                let readers = match address {
                    ListenAddress::Udp(_) => config.num_readers,
                    _ => 1,
                };
                // Readers that are more share one.
                let more = sockets
                    .iter()
                    .cycle()
                    .take(readers.saturating_sub(sockets.len()))
                    .map(Socket::try_clone)
                    .collect::<io::Result<Vec<_>>>()?;
                sockets.extend(more);
                Sockets::Datagrams(sockets)
            }
            ListenAddress::Tcp(_) | ListenAddress::UnixStream(_) => {
                // Several of one address there are with SO_REUSEPORT alone, which is no use for streams: the first is taken.
                let Some(socket) = sockets.into_iter().next() else {
                    return Ok(None);
                };
                socket.set_nonblocking(true)?;
                match address {
                    ListenAddress::Tcp(_) => Sockets::Tcp(socket.into()),
                    _ => Sockets::Unix(socket.into()),
                }
            }
        };
        Ok(Some(Self {
            address: address.clone(),
            sockets,
            file: None,
            inherited: true,
        }))
    }
}

/// Tries the addresses of a host until one can be opened.
fn open_first<T>(
    inet: &Inet,
    open: impl Fn(SocketAddr) -> io::Result<(SocketAddr, T)>,
) -> io::Result<(Inet, T)> {
    let mut failure = io::Error::new(
        io::ErrorKind::AddrNotAvailable,
        "the host has no address of this family",
    );
    for candidate in inet.candidates()? {
        match open(candidate) {
            Ok((address, opened)) => return Ok((inet.bound(address), opened)),
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

/// One socket for each reader; the kernel spreads senders over them.
fn udp(
    address: SocketAddr,
    family: Family,
    config: &StatsdConfig,
) -> io::Result<(SocketAddr, Vec<Socket>)> {
    let mut bound = address;
    let mut sockets = Vec::new();
    for _ in 0..config.num_readers {
        let socket = inet_socket(bound, family, Type::DGRAM)?;
        // Not for a lone reader: a second process on the port should fail then, not take half of the datagrams.
        if config.num_readers > 1 || config.reuse_port {
            socket.set_reuse_port(true)?;
        }
        socket.bind(&bound.into())?;
        bound = local_address(&socket)?;
        let shown = ListenAddress::Udp(Inet {
            family,
            host: bound.ip().to_string(),
            port: bound.port(),
        });
        size_buffer(&socket, config, &shown)?;
        sockets.push(socket);
    }
    Ok((bound, sockets))
}

fn tcp(
    address: SocketAddr,
    family: Family,
    config: &StatsdConfig,
) -> io::Result<(SocketAddr, std::net::TcpListener)> {
    let socket = inet_socket(address, family, Type::STREAM)?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(config.reuse_port)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok((local_address(&socket)?, socket.into()))
}

fn inet_socket(address: SocketAddr, family: Family, kind: Type) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), kind, None)?;
    if address.is_ipv6() {
        socket.set_only_v6(family == Family::V6)?;
    }
    Ok(socket)
}

fn local_address(socket: &Socket) -> io::Result<SocketAddr> {
    let address = socket.local_addr()?.as_socket();
    address.ok_or_else(|| io::Error::other("a socket of IP without an address of IP"))
}

fn open_unix<T>(
    name: &UnixName,
    bind: impl FnOnce(&UnixAddr) -> io::Result<T>,
) -> io::Result<(Option<SocketFile>, T)> {
    match name {
        UnixName::Path(path) => {
            let file = SocketFile::claim(path)?;
            let socket = bind(&UnixAddr::from_pathname(path)?)?;
            file.open_to_all()?;
            Ok((Some(file), socket))
        }
        UnixName::Abstract(name) => Ok((None, bind(&UnixAddr::from_abstract_name(name)?)?)),
    }
}

/// Whether asking for the receive buffer would give a larger one than it has.
fn could_be_larger(socket: &Socket, config: &StatsdConfig) -> io::Result<bool> {
    let fresh = Socket::new(socket.domain()?, Type::DGRAM, None)?;
    if config.read_buffer_size_bytes != 0 {
        fresh.set_recv_buffer_size(config.read_buffer_size_bytes)?;
    }
    Ok(fresh.recv_buffer_size()? > socket.recv_buffer_size()?)
}

/// Asks for the receive buffer, and says so when the system's limit gives less.
fn size_buffer(socket: &Socket, config: &StatsdConfig, address: &ListenAddress) -> io::Result<()> {
    let asked = config.read_buffer_size_bytes;
    if asked == 0 {
        return Ok(());
    }
    socket.set_recv_buffer_size(asked)?;
    // Linux reports twice what it grants, for its own book-keeping.
    let granted = socket.recv_buffer_size()? / 2;
    if granted < asked {
        tracing::warn!(
            %address, asked, granted,
            "the receive buffer is smaller than read_buffer_size_bytes: raise net.core.rmem_max"
        );
    }
    Ok(())
}
