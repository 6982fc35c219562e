//! Reading connections: TCP and Unix streams.
//!
//! A bad line costs its connection nothing: other lines of the same peer are as good as before. Connections are bounded in number and in how
//! long they may stay silent.

use std::future::{Future, ready};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tributary_node::tls::{self, Acceptor};

use super::events::{
    Complaints, ConnectionClosed, ConnectionNotTaken, ConnectionOpened, Loss, Protocol,
};
use super::framing::{BadLength, Framing, Piece, StreamBuffer};
use super::reader::LineReader;
use crate::source::Intake;

/// What bounds the connections of one listener.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// How many may be open; one more is closed at once.
    pub(super) connections: usize,
    /// How long one may be silent.
    pub(super) idle: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            connections: 1024,
            idle: Duration::from_secs(600),
        }
    }
}

/// After the stop signal: a connection silent for so long has nothing more in its socket.
const QUIET: Duration = Duration::from_millis(50);

/// How long reading goes on after the stop signal when peers keep on sending.
const LONGEST_DRAIN: Duration = Duration::from_secs(1);

/// After a connection could not be taken, most likely for lack of file descriptors.
const BREATH: Duration = Duration::from_millis(100);

/// A listening socket.
pub(super) trait Accept: Send + Sync + 'static {
    /// What is accepted.
    type Socket: Send + 'static;
    /// What is read.
    type Stream: AsyncRead + Unpin + Send + 'static;

    const PROTOCOL: Protocol;
    const FRAMING: Framing;

    fn accept(&self) -> impl Future<Output = io::Result<Self::Socket>> + Send;

    /// Makes a stream of what was accepted, if the peer may send; what keeps it from that has been told by then. Takes its time: each connection
    /// is given a task of its own for it.
    fn open(
        &self,
        socket: Self::Socket,
    ) -> impl Future<Output = Option<Self::Stream>> + Send + use<Self>;
}

/// TCP with TLS.
pub(super) struct Secured {
    pub(super) listener: TcpListener,
    pub(super) acceptor: Acceptor,
}

impl Accept for TcpListener {
    type Socket = TcpStream;
    type Stream = TcpStream;

    const PROTOCOL: Protocol = Protocol::Tcp;
    const FRAMING: Framing = Framing::Lines;

    async fn accept(&self) -> io::Result<TcpStream> {
        Ok(TcpListener::accept(self).await?.0)
    }

    fn open(&self, socket: TcpStream) -> impl Future<Output = Option<TcpStream>> + use<> {
        ready(Some(socket))
    }
}

impl Accept for Secured {
    type Socket = TcpStream;
    type Stream = tls::Stream;

    const PROTOCOL: Protocol = Protocol::Tcp;
    const FRAMING: Framing = Framing::Lines;

    async fn accept(&self) -> io::Result<TcpStream> {
        Ok(self.listener.accept().await?.0)
    }

    fn open(&self, socket: TcpStream) -> impl Future<Output = Option<tls::Stream>> + use<> {
        let acceptor = self.acceptor.clone();
        async move { acceptor.accept(socket).await.ok() }
    }
}

impl Accept for UnixListener {
    type Socket = UnixStream;
    type Stream = UnixStream;

    const PROTOCOL: Protocol = Protocol::Unix;
    const FRAMING: Framing = Framing::Either;

    async fn accept(&self) -> io::Result<UnixStream> {
        Ok(UnixListener::accept(self).await?.0)
    }

    fn open(&self, socket: UnixStream) -> impl Future<Output = Option<UnixStream>> + use<> {
        ready(Some(socket))
    }
}

/// Serves every connection of one listening socket.
pub(super) struct StreamListener<L, F> {
    pub(super) listener: L,
    /// Makes an intake for each connection.
    pub(super) intakes: F,
    pub(super) bounds: Bounds,
    pub(super) bad_lines: Arc<Complaints>,
    pub(super) bad_connections: Arc<Complaints>,
}

impl<L, F, I> StreamListener<L, F>
where
    L: Accept,
    F: Fn() -> I + Send + Sync + 'static,
    I: Intake,
{
    /// Runs until `stop`, and then until what peers have sent by then is read.
    pub(super) async fn run(self, stop: CancellationToken) {
        let room = Arc::new(Semaphore::new(self.bounds.connections));
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                Some(_) = connections.join_next() => {}
                accepted = self.listener.accept() => match accepted {
                    Ok(socket) => self.take(socket, &room, &mut connections, &stop),
                    Err(error) => {
                        self.not_taken("accept_failed", &error);
                        sleep(BREATH).await;
                    }
                },
            }
        }
        // Peers that the system has connected and we have not seen yet.
        let end = Instant::now() + LONGEST_DRAIN;
        while let Ok(Ok(socket)) = timeout(QUIET, self.listener.accept()).await {
            self.take(socket, &room, &mut connections, &stop);
            if Instant::now() >= end {
                break;
            }
        }
        drop(self);
        while connections.join_next().await.is_some() {}
    }

    fn take(
        &self,
        socket: L::Socket,
        room: &Arc<Semaphore>,
        connections: &mut JoinSet<()>,
        stop: &CancellationToken,
    ) {
        let Ok(place) = Arc::clone(room).try_acquire_owned() else {
            let detail = format_args!("{} are open", self.bounds.connections);
            self.not_taken("too_many_connections", &detail);
            return;
        };
        let opening = self.listener.open(socket);
        let lines = LineReader::new((self.intakes)(), L::PROTOCOL, Arc::clone(&self.bad_lines));
        let (idle, stop) = (self.bounds.idle, stop.clone());
        connections.spawn(async move {
            let Some(Some(stream)) = finish_in_time(opening, &stop).await else {
                return;
            };
            ConnectionOpened(L::PROTOCOL).emit();
            let connection = Connection {
                stream,
                buffer: StreamBuffer::new(L::FRAMING),
                lines,
                place,
            };
            connection.serve(idle, stop).await;
        });
    }

    fn not_taken(&self, reason: &'static str, detail: &dyn std::fmt::Display) {
        ConnectionNotTaken {
            protocol: L::PROTOCOL,
            reason,
            detail,
        }
        .emit(&self.bad_connections);
    }
}

/// Lets it finish, but not for long once we stop.
async fn finish_in_time<T>(what: impl Future<Output = T>, stop: &CancellationToken) -> Option<T> {
    let overdue = async {
        stop.cancelled().await;
        sleep(LONGEST_DRAIN).await;
    };
    tokio::select! {
        biased;
        done = what => Some(done),
        () = overdue => None,
    }
}

/// Why reading a connection ends.
enum End {
    /// The peer closed it.
    Closed,
    /// It broke.
    Broken,
    /// It was silent for too long.
    Idle,
    /// Its framing is lost.
    BadLength(BadLength),
    /// We stop.
    Stopped,
}

impl End {
    fn reason(&self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Broken => "broken",
            Self::Idle => "idle",
            Self::BadLength(_) => "bad_length",
            Self::Stopped => "stopped",
        }
    }
}

struct Connection<S, I> {
    stream: S,
    buffer: StreamBuffer,
    lines: LineReader<I>,
    /// Among as many as may be open.
    place: OwnedSemaphorePermit,
}

impl<S: AsyncRead + Unpin, I: Intake> Connection<S, I> {
    async fn serve(mut self, idle: Duration, stop: CancellationToken) {
        let end = loop {
            let outcome = tokio::select! {
                biased;
                () = stop.cancelled() => Err(self.drain().await),
                outcome = self.read(idle, End::Idle) => outcome,
            };
            if let Err(end) = outcome {
                break end;
            }
        };
        let Self {
            buffer,
            mut lines,
            place,
            ..
        } = self;
        if let End::BadLength(error) = &end {
            lines.lose(Loss::TOO_LONG, error.to_string().as_bytes());
        } else {
            let clean = matches!(end, End::Closed);
            buffer.finish(clean, |piece| take(&mut lines, &piece));
        }
        lines.end_batch();
        // Whoever sees that it is closed may connect.
        drop(place);
        ConnectionClosed {
            protocol: lines.protocol(),
            reason: end.reason(),
        }
        .emit();
    }

    /// One read and what it brings; `silence` is what it means when nothing comes for `patience`. May be dropped while it waits.
    async fn read(&mut self, patience: Duration, silence: End) -> Result<(), End> {
        let count = match timeout(patience, self.stream.read(self.buffer.space())).await {
            Err(_) => return Err(silence),
            Ok(Err(_)) => return Err(End::Broken),
            Ok(Ok(0)) => return Err(End::Closed),
            Ok(Ok(count)) => count,
        };
        let Self { buffer, lines, .. } = self;
        let outcome = buffer.advance(count, |piece| take(lines, &piece));
        lines.end_batch();
        outcome.map_err(End::BadLength)
    }

    /// What the socket still holds.
    async fn drain(&mut self) -> End {
        let until = Instant::now() + LONGEST_DRAIN;
        while Instant::now() < until {
            if let Err(end) = self.read(QUIET, End::Stopped).await {
                return end;
            }
        }
        End::Stopped
    }
}

fn take<I: Intake>(lines: &mut LineReader<I>, piece: &Piece<'_>) {
    match piece {
        Piece::Line(line) => lines.line(line),
        Piece::Packet(packet) => lines.packet(packet),
        Piece::TooLong(start) => lines.lose(Loss::TOO_LONG, start),
        Piece::CutShort(rest) => lines.lose(Loss::CUT_SHORT, rest),
    }
}
