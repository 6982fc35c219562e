//! Reading datagrams: many for each system call.
//!
//! A reader is a thread of its own with a socket of its own. It sleeps in the system call that also brings the datagrams, and looks for the
//! stop signal at most [`PATIENCE`] later. Where UDP is dense it sleeps a little before that call ([`super::pause`]).

use std::io::IoSliceMut;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, MultiHeaders, SockaddrStorage, recvmmsg};
use socket2::Socket;
use tokio_util::sync::CancellationToken;

use super::drops::{self, DropWatch};
use super::events::{Loss, Protocol, ReceiveFailed};
use super::pause::Pauses;
use super::reader::LineReader;
use crate::source::Intake;

/// How many datagrams one system call may bring. More of them save no system time, but their samples are handed on in bulk.
const BATCH: usize = 128;

/// How long a quiet socket keeps a reader from noticing the stop signal.
const PATIENCE: Duration = Duration::from_millis(50);

/// How long a reader goes on with what is left in its socket when peers keep on sending.
const LONGEST_DRAIN: Duration = Duration::from_secs(1);

/// Reads one datagram socket.
pub(super) struct DatagramReader<I> {
    socket: Socket,
    /// The longest datagram taken, in bytes.
    longest: usize,
    lines: LineReader<I>,
    /// None for a Unix socket.
    drops: Option<Arc<DropWatch>>,
    /// Another socket may be bound to the same address, and is to get what comes once this reader stops.
    shared: bool,
}

impl<I: Intake> DatagramReader<I> {
    /// The socket is a blocking one.
    pub(super) fn new(
        socket: Socket,
        longest: usize,
        lines: LineReader<I>,
        drops: Option<Arc<DropWatch>>,
        shared: bool,
    ) -> std::io::Result<Self> {
        socket.set_read_timeout(Some(PATIENCE))?;
        Ok(Self {
            socket,
            longest,
            lines,
            drops,
            shared,
        })
    }

    /// Reads until `stop`, and then what the socket still holds. A shared socket gets nothing new from then on: the others do.
    pub(super) fn run(mut self, stop: &CancellationToken) {
        self.read(stop, LONGEST_DRAIN);
        if let Some(drops) = self.drops.take() {
            drops::look(&[drops]);
            // That took a moment, in which more may have come.
            self.read(stop, PATIENCE);
        }
    }

    fn read(&mut self, stop: &CancellationToken, longest_drain: Duration) {
        // One byte more than allowed shows that a datagram is longer.
        let mut buffers = vec![0_u8; (self.longest + 1) * BATCH];
        let mut headers = MultiHeaders::<SockaddrStorage>::preallocate(BATCH, None);
        let mut drain_until = None;
        let mut pauses = self.pauses();
        let mut emptied = Instant::now();
        loop {
            if drain_until.is_none() && stop.is_cancelled() {
                drain_until = Some(Instant::now() + longest_drain);
                if self.shared {
                    self.let_go();
                }
            }
            // What the kernel was about to deliver when a shared socket was let go comes a moment later.
            let at_once = drain_until.is_some() && !self.shared;
            let received = self.receive(&mut headers, &mut buffers, at_once, &mut pauses);
            self.lines.end_batch();
            match (received, drain_until) {
                (Ok(BATCH), None) | (Err(Errno::EINTR), _) => {}
                (Ok(_) | Err(Errno::EAGAIN), None) => {
                    let now = Instant::now();
                    if let Some(pause) = pauses.next(now.duration_since(emptied)) {
                        std::thread::sleep(pause);
                    }
                    emptied = now;
                }
                (Ok(_), Some(end)) if Instant::now() < end => {}
                (Ok(_) | Err(Errno::EAGAIN), Some(_)) => return,
                (Err(error), _) => {
                    let protocol = self.lines.protocol();
                    ReceiveFailed { protocol, error }.emit(self.lines.complaints());
                    if drain_until.is_some() {
                        return;
                    }
                    // Such as a lack of memory: trying again at once would only add to it.
                    std::thread::sleep(PATIENCE);
                }
            }
        }
    }

    /// Makes the kernel pass this socket over from now on. As long as a socket is bound the kernel gives it its share, and what came between
    /// the last read and the close would be lost. But a connected socket is given its peer's datagrams only, and here that is itself.
    pub(super) fn let_go(&self) {
        let connected = self
            .socket
            .local_addr()
            .and_then(|itself| self.socket.connect(&itself));
        if let Err(error) = connected {
            tracing::warn!(%error, "a shared socket cannot be let go: what comes just before it closes is lost");
        }
    }

    /// A Unix socket has none: its queue is short, and while it is full senders wait.
    fn pauses(&self) -> Pauses {
        let room = match self.lines.protocol() {
            Protocol::Udp => self.socket.recv_buffer_size().unwrap_or(0),
            Protocol::Unix | Protocol::Tcp => 0,
        };
        Pauses::new(room)
    }

    /// One system call and how many datagrams it brought. Waits for a first one unless `at_once`.
    fn receive(
        &mut self,
        headers: &mut MultiHeaders<SockaddrStorage>,
        buffers: &mut [u8],
        at_once: bool,
        pauses: &mut Pauses,
    ) -> Result<usize, Errno> {
        let flags = if at_once {
            MsgFlags::MSG_DONTWAIT
        } else {
            MsgFlags::MSG_WAITFORONE
        };
        let mut each = buffers.chunks_exact_mut(self.longest + 1);
        let mut slices: [[IoSliceMut<'_>; 1]; BATCH] =
            std::array::from_fn(|_| [IoSliceMut::new(each.next().unwrap_or_default())]);
        let received = recvmmsg(
            self.socket.as_raw_fd(),
            headers,
            slices.iter_mut(),
            flags,
            None,
        )?;
        let mut lengths = [0; BATCH];
        let mut count = 0;
        for (length, datagram) in lengths.iter_mut().zip(received) {
            *length = datagram.bytes;
            pauses.note(datagram.bytes);
            count += 1;
        }
        let datagrams = buffers
            .chunks_exact(self.longest + 1)
            .zip(lengths)
            .take(count)
            .map(|(buffer, length)| buffer.get(..length).unwrap_or(buffer));
        let longest = self.longest;
        self.lines
            .packets(datagrams.clone().filter(|bytes| bytes.len() <= longest));
        for bytes in datagrams.filter(|bytes| bytes.len() > longest) {
            self.lines.lose(Loss::TOO_LONG, bytes);
        }
        Ok(count)
    }
}
