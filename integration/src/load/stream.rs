//! `SendMetricsV2` as Go's gRPC sends it: every metric in a DATA frame of its own, as many under way as flow control allows.
//!
//! The frames are written by hand: an HTTP/2 library would merge or delay them.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use super::pace::Pace;
use super::{Shared, Workload};

/// Frames that are written together.
const TOGETHER: usize = 200;
/// No answer takes longer.
const PATIENCE: Duration = Duration::from_secs(60);

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;
const INITIAL_WINDOW_SIZE: u16 = 4;

/// Ready DATA frames of stream 1.
#[derive(Debug)]
pub(super) struct Piece {
    frames: Box<[u8]>,
    metrics: usize,
    /// What flow control counts.
    payload: i64,
}

/// All series once.
pub(super) fn pieces(workload: &Workload) -> Vec<Piece> {
    let all: Vec<usize> = (0..workload.series).collect();
    all.chunks(TOGETHER)
        .map(|chunk| {
            let (mut frames, mut payload) = (Vec::new(), 0);
            for series in chunk {
                let metric = workload.encoded(*series);
                let mut message = vec![0];
                message.extend_from_slice(&(metric.len() as u32).to_be_bytes());
                message.extend_from_slice(&metric);
                frame(&mut frames, DATA, 0, 1, &message);
                payload += message.len() as i64;
            }
            Piece {
                frames: frames.into(),
                metrics: chunk.len(),
                payload,
            }
        })
        .collect()
}

/// One connection with one stream. It keeps to flow control and to nothing else.
#[derive(Debug)]
pub(super) struct Peer {
    socket: TcpStream,
    connection_window: i64,
    stream_window: i64,
    initial_window: i64,
    answered: bool,
}

pub(super) fn connect(to: &str) -> io::Result<Peer> {
    let socket = TcpStream::connect(to)?;
    socket.set_nodelay(true)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.set_write_timeout(Some(PATIENCE))?;
    let mut peer = Peer {
        socket,
        connection_window: 65_535,
        stream_window: 65_535,
        initial_window: 65_535,
        answered: false,
    };
    let mut out = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    frame(&mut out, SETTINGS, 0, 0, &[]);
    let mut block = Vec::new();
    for (name, value) in [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", "/forwardrpc.Forward/SendMetricsV2"),
        (":authority", "localhost"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    ] {
        // HPACK's plainest form: a literal that is not indexed.
        block.push(0);
        for text in [name, value] {
            block.push(text.len() as u8);
            block.extend_from_slice(text.as_bytes());
        }
    }
    frame(&mut out, HEADERS, END_HEADERS, 1, &block);
    peer.socket.write_all(&out)?;
    Ok(peer)
}

impl Peer {
    pub(super) fn send(
        mut self,
        pieces: &[Piece],
        first: usize,
        rate: Option<f64>,
        shared: &Shared,
    ) -> io::Result<()> {
        let mut pace = Pace::new(rate);
        for piece in pieces
            .iter()
            .cycle()
            .skip(first * pieces.len() / 4 % pieces.len())
        {
            if shared.is_stopped() {
                break;
            }
            std::thread::sleep(pace.next(piece.metrics));
            while self.stream_window.min(self.connection_window) < piece.payload {
                self.receive()?;
            }
            self.stream_window -= piece.payload;
            self.connection_window -= piece.payload;
            self.socket.write_all(&piece.frames)?;
            shared.count(piece.metrics);
        }
        let mut out = Vec::new();
        frame(&mut out, DATA, END_STREAM, 1, &[]);
        self.socket.write_all(&out)?;
        while !self.answered {
            self.receive()?;
        }
        Ok(())
    }

    /// Reads one frame and acts on it.
    fn receive(&mut self) -> io::Result<()> {
        let mut head = [0; 9];
        self.socket.read_exact(&mut head)?;
        let [l0, l1, l2, kind, flags, s0, s1, s2, s3] = head;
        let mut payload = vec![0; u32::from_be_bytes([0, l0, l1, l2]) as usize];
        self.socket.read_exact(&mut payload)?;
        match kind {
            SETTINGS if flags & ACK == 0 => {
                for setting in payload.chunks_exact(6) {
                    if let [k0, k1, v0, v1, v2, v3] = *setting
                        && u16::from_be_bytes([k0, k1]) == INITIAL_WINDOW_SIZE
                    {
                        let value = i64::from(u32::from_be_bytes([v0, v1, v2, v3]));
                        self.stream_window += value - self.initial_window;
                        self.initial_window = value;
                    }
                }
                self.write(SETTINGS, ACK, &[])?;
            }
            WINDOW_UPDATE => {
                let more = match *payload {
                    [a, b, c, d] => i64::from(u32::from_be_bytes([a, b, c, d])),
                    _ => 0,
                };
                match u32::from_be_bytes([s0, s1, s2, s3]) {
                    0 => self.connection_window += more,
                    _ => self.stream_window += more,
                }
            }
            PING if flags & ACK == 0 => self.write(PING, ACK, &payload)?,
            HEADERS if flags & END_STREAM != 0 => self.answered = true,
            RST_STREAM => return Err(io::Error::other("the stream was reset")),
            GOAWAY => {
                let why = String::from_utf8_lossy(payload.get(8..).unwrap_or_default());
                return Err(io::Error::other(format!("GOAWAY {why}")));
            }
            _ => {}
        }
        Ok(())
    }

    fn write(&mut self, kind: u8, flags: u8, payload: &[u8]) -> io::Result<()> {
        let mut out = Vec::new();
        frame(&mut out, kind, flags, 0, payload);
        self.socket.write_all(&out)
    }
}

fn frame(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    let length = (payload.len() as u32).to_be_bytes();
    out.extend_from_slice(&length[1..]);
    out.extend_from_slice(&[kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
    out.extend_from_slice(payload);
}
