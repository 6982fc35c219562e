//! Reading connections: text lines or pickles over TCP.
//!
//! A bad line, item or pickle costs its connection nothing but itself. Connections are bounded in number and in how long they may stay silent.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::event::{Closed, Loss, NotTaken, Opened, Way};
use super::frames::{FrameBuffer, TooLong};
use super::taker::{Shared, Taker};
use crate::source::listen::{Framing, Piece, StreamBuffer};

/// After the stop signal: a connection silent for so long has nothing more in its socket.
const QUIET: Duration = Duration::from_millis(50);

/// How long reading goes on after the stop signal when peers keep on sending.
const LONGEST_DRAIN: Duration = Duration::from_millis(800);

/// After a connection could not be taken, most likely for lack of file descriptors.
const BREATH: Duration = Duration::from_millis(100);

/// What bounds the connections of one listener.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// How many may be open; one more is closed at once.
    pub(super) connections: usize,
    /// How long one may be silent, if not for ever.
    pub(super) idle: Option<Duration>,
    /// The longest line or pickle, in bytes.
    pub(super) longest: usize,
}

/// Serves every connection of one listening socket.
pub(super) struct Listener {
    pub(super) listener: TcpListener,
    pub(super) way: Way,
    pub(super) bounds: Bounds,
    pub(super) shared: Arc<Shared>,
}

impl Listener {
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
                    Ok((socket, peer)) => self.take((socket, peer), &room, &mut connections, &stop),
                    Err(error) => {
                        self.not_taken("accept_failed", &error);
                        sleep(BREATH).await;
                    }
                },
            }
        }
        // Peers that the system has connected and we have not seen yet.
        let end = Instant::now() + LONGEST_DRAIN;
        while let Ok(Ok((socket, peer))) = timeout(QUIET, self.listener.accept()).await {
            self.take((socket, peer), &room, &mut connections, &stop);
            if Instant::now() >= end {
                break;
            }
        }
        drop(self);
        while connections.join_next().await.is_some() {}
    }

    fn take(
        &self,
        (socket, peer): (TcpStream, SocketAddr),
        room: &Arc<Semaphore>,
        connections: &mut JoinSet<()>,
        stop: &CancellationToken,
    ) {
        let Ok(place) = Arc::clone(room).try_acquire_owned() else {
            let detail = format_args!("{peer}, while {} are open", self.bounds.connections);
            self.not_taken("too_many_connections", &detail);
            return;
        };
        Opened(self.way).emit();
        let connection = Connection {
            socket,
            peer,
            way: self.way,
            buffer: match self.way {
                Way::Pickle => Buffer::Frames(FrameBuffer::new(self.bounds.longest)),
                Way::Line | Way::Udp => {
                    Buffer::Lines(StreamBuffer::bounded(Framing::Lines, self.bounds.longest))
                }
            },
            taker: Taker::new(Arc::clone(&self.shared), self.way, Some(peer)),
            place,
        };
        connections.spawn(connection.serve(self.bounds.idle, stop.clone()));
    }

    fn not_taken(&self, reason: &'static str, detail: &dyn std::fmt::Display) {
        NotTaken {
            way: self.way,
            reason,
            detail,
        }
        .emit(&self.shared.complaints);
    }
}

/// Bytes that are not cut yet.
enum Buffer {
    Lines(StreamBuffer),
    Frames(FrameBuffer),
}

/// Why reading a connection ends.
enum End {
    /// The peer closed it.
    Closed,
    /// It broke.
    Broken,
    /// It was silent for too long.
    Idle,
    /// Where the next pickle begins is not known.
    TooLong(TooLong),
    /// We stop.
    Stopped,
}

impl End {
    fn reason(&self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Broken => "broken",
            Self::Idle => "idle",
            Self::TooLong(_) => "bad_length",
            Self::Stopped => "stopped",
        }
    }
}

struct Connection {
    socket: TcpStream,
    peer: SocketAddr,
    way: Way,
    buffer: Buffer,
    taker: Taker,
    /// Among as many as may be open.
    place: OwnedSemaphorePermit,
}

impl Connection {
    async fn serve(mut self, idle: Option<Duration>, stop: CancellationToken) {
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
            mut taker,
            place,
            ..
        } = self;
        match (buffer, &end) {
            (_, End::TooLong(error)) => {
                taker.lose(Loss::frame("too_long"), error.to_string().as_bytes());
            }
            (Buffer::Frames(buffer), _) => {
                if !buffer.rest().is_empty() {
                    taker.lose(Loss::frame("cut_short"), buffer.rest());
                }
            }
            // A last line needs no end where its peer meant to stop there: Salt's first returner sent none.
            (Buffer::Lines(buffer), end) => {
                buffer.finish(matches!(end, End::Closed), |piece| take(&mut taker, &piece));
            }
        }
        taker.end_batch();
        // Whoever sees that it is closed may connect.
        drop(place);
        Closed {
            way: self.way,
            peer: self.peer,
            reason: end.reason(),
            lost: taker.lost(),
        }
        .emit();
    }

    /// One read and what it brings; `silence` is what it means when nothing comes for `patience`. May be dropped while it waits.
    async fn read(&mut self, patience: Option<Duration>, silence: End) -> Result<(), End> {
        let space = match &mut self.buffer {
            Buffer::Lines(buffer) => buffer.space(),
            Buffer::Frames(buffer) => buffer.space(),
        };
        let read = self.socket.read(space);
        let outcome = match patience {
            Some(patience) => timeout(patience, read).await.map_err(|_| silence)?,
            None => read.await,
        };
        let count = match outcome {
            Err(_) => return Err(End::Broken),
            Ok(0) => return Err(End::Closed),
            Ok(count) => count,
        };
        let Self { buffer, taker, .. } = self;
        let outcome = match buffer {
            Buffer::Lines(buffer) => {
                // Only lengths can be wrong, and lines have none.
                let _ = buffer.advance(count, |piece| take(taker, &piece));
                Ok(())
            }
            Buffer::Frames(buffer) => buffer.advance(count, |frame| taker.frame(frame)),
        };
        taker.end_batch();
        outcome.map_err(End::TooLong)
    }

    /// What the socket still holds.
    async fn drain(&mut self) -> End {
        let until = Instant::now() + LONGEST_DRAIN;
        while Instant::now() < until {
            if let Err(end) = self.read(Some(QUIET), End::Stopped).await {
                return end;
            }
        }
        End::Stopped
    }
}

fn take(taker: &mut Taker, piece: &Piece<'_>) {
    match piece {
        Piece::Line(line) | Piece::Packet(line) => taker.line(line),
        Piece::TooLong(start) => taker.lose(Loss::line("too_long"), start),
        Piece::CutShort(rest) => taker.lose(Loss::line("cut_short"), rest),
    }
}
