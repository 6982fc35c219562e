//! The server's end: a socket that is made anew when it does not work any more.

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpStream, UdpSocket, UnixDatagram, UnixStream};
use tokio::time::{Instant, timeout};

use super::config::Framing;

/// Where lines go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    /// `host:port`.
    Udp(String),
    /// `host:port`.
    Tcp(String),
    UnixDatagram(PathBuf),
    UnixStream(PathBuf),
}

/// Why a packet was not sent.
#[derive(Debug, thiserror::Error)]
pub(super) enum SendError {
    /// A name without an address.
    #[error("the name has no address: {0}")]
    Name(io::Error),
    /// No connection.
    #[error("cannot connect: {0}")]
    Connect(io::Error),
    /// The time is over.
    #[error("nothing was taken within {0:?}")]
    Timeout(Duration),
    /// It was connected.
    #[error("cannot send: {0}")]
    Send(io::Error),
}

/// Sends packets to one place.
#[derive(Debug)]
pub(super) struct Target {
    place: Place,
    timeout: Duration,
    framing: Framing,
    socket: Option<Socket>,
    since: Instant,
}

#[derive(Debug)]
enum Socket {
    Udp(UdpSocket),
    Tcp(TcpStream),
    UnixDatagram(UnixDatagram),
    UnixStream(UnixStream),
}

/// A name may get another address: UDP would never know.
const LOOK_AGAIN: Duration = Duration::from_secs(60);

impl Place {
    pub(super) fn is_stream(&self) -> bool {
        matches!(self, Self::Tcp(_) | Self::UnixStream(_))
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Place::Udp(host) => write!(f, "udp://{host}"),
            Place::Tcp(host) => write!(f, "tcp://{host}"),
            Place::UnixDatagram(path) => write!(f, "unixgram://{}", path.display()),
            Place::UnixStream(path) => write!(f, "unix://{}", path.display()),
        }
    }
}

impl SendError {
    /// The label `cause`.
    pub(super) fn cause(&self) -> &'static str {
        match self {
            Self::Name(_) => "name",
            Self::Timeout(_) => "timeout",
            Self::Connect(error) | Self::Send(error)
                if error.kind() == io::ErrorKind::ConnectionRefused =>
            {
                "refused"
            }
            Self::Connect(_) => "connect",
            Self::Send(_) => "broken",
        }
    }
}

impl Target {
    pub(super) fn new(place: Place, timeout: Duration, framing: Framing) -> Self {
        Self {
            place,
            timeout,
            framing,
            socket: None,
            since: Instant::now(),
        }
    }

    /// Sends a packet. After an error the socket is made anew with the next one.
    pub(super) async fn send(&mut self, packet: &[u8]) -> Result<(), SendError> {
        let mut socket = match self.socket.take().filter(|socket| self.is_good(socket)) {
            Some(socket) => socket,
            None => {
                let connecting = timeout(self.timeout, connect(&self.place)).await;
                self.since = Instant::now();
                connecting.map_err(|_| SendError::Timeout(self.timeout))??
            }
        };
        let sent = timeout(self.timeout, socket.send(packet, self.framing)).await;
        sent.map_err(|_| SendError::Timeout(self.timeout))?
            .map_err(SendError::Send)?;
        self.socket = Some(socket);
        Ok(())
    }

    /// Whether a socket can still be used, as far as one can see from here.
    fn is_good(&self, socket: &Socket) -> bool {
        // Servers write nothing: what can be read is the end, or does not matter.
        let open = |read: io::Result<usize>| match read {
            Ok(0) => false,
            Ok(_) => true,
            Err(error) => error.kind() == io::ErrorKind::WouldBlock,
        };
        let mut nothing = [0; 64];
        match socket {
            Socket::Udp(_) => self.since.elapsed() < LOOK_AGAIN,
            Socket::UnixDatagram(_) => true,
            Socket::Tcp(stream) => open(stream.try_read(&mut nothing)),
            Socket::UnixStream(stream) => open(stream.try_read(&mut nothing)),
        }
    }
}

impl Socket {
    async fn send(&mut self, packet: &[u8], framing: Framing) -> io::Result<()> {
        match self {
            Self::Udp(socket) => socket.send(packet).await.map(drop),
            Self::UnixDatagram(socket) => socket.send(packet).await.map(drop),
            Self::Tcp(stream) => stream.write_all(packet).await,
            Self::UnixStream(stream) => {
                if framing == Framing::LengthPrefix {
                    let length = u32::try_from(packet.len()).map_err(io::Error::other)?;
                    stream.write_all(&length.to_le_bytes()).await?;
                }
                stream.write_all(packet).await
            }
        }
    }
}

async fn connect(place: &Place) -> Result<Socket, SendError> {
    match place {
        Place::Udp(host) => udp(host).await.map(Socket::Udp),
        Place::Tcp(host) => {
            // Each address of a name is tried.
            let mut addresses = lookup(host).await?;
            addresses.dedup();
            let stream = TcpStream::connect(addresses.as_slice()).await;
            let stream = stream.map_err(SendError::Connect)?;
            Ok(Socket::Tcp(stream))
        }
        Place::UnixDatagram(path) => {
            let connected = UnixDatagram::unbound().and_then(|socket| {
                socket.connect(path)?;
                Ok(socket)
            });
            connected
                .map(Socket::UnixDatagram)
                .map_err(SendError::Connect)
        }
        Place::UnixStream(path) => {
            let stream = UnixStream::connect(path).await;
            stream.map(Socket::UnixStream).map_err(SendError::Connect)
        }
    }
}

async fn lookup(host: &str) -> Result<Vec<SocketAddr>, SendError> {
    let found = tokio::net::lookup_host(host).await;
    Ok(found.map_err(SendError::Name)?.collect())
}

async fn udp(host: &str) -> Result<UdpSocket, SendError> {
    let addresses = lookup(host).await?;
    // UDP cannot tell which of several addresses works: IPv4 first, as listeners do.
    let v4 = addresses.iter().find(|address| address.is_ipv4());
    let Some(address) = v4.or(addresses.first()) else {
        return Err(SendError::Name(io::ErrorKind::NotFound.into()));
    };
    let any: SocketAddr = match address {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(any).await.map_err(SendError::Connect)?;
    let connected = socket.connect(address).await;
    connected.map_err(SendError::Connect)?;
    Ok(socket)
}
