//! For tests: a stand-in for carbon's receiving end, and a reader of the pickles that carbon-relay writes.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::net::{TcpListener, TcpSocket};
use tokio_util::task::AbortOnDropHandle;
use tributary_node::tls::Acceptor;

use super::Protocol;

/// A point as it came in.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Received {
    pub(super) path: String,
    pub(super) timestamp: f64,
    pub(super) value: f64,
}

/// What the receiver does with connections.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) enum Mood {
    /// Reads everything.
    #[default]
    Reads,
    /// Accepts, and reads nothing.
    Deaf,
    /// Closes each connection once it has read so many bytes.
    Closes(usize),
}

/// A listening receiver; dropped, it closes everything.
#[derive(Debug)]
pub(super) struct Receiver {
    pub(super) address: SocketAddr,
    shared: Arc<Shared>,
    _task: AbortOnDropHandle<()>,
}

#[derive(Debug, Default)]
struct Shared {
    points: Mutex<Vec<Received>>,
    frames: Mutex<Vec<usize>>,
    connections: Mutex<usize>,
    mood: Mutex<Mood>,
}

impl Receiver {
    pub(super) fn start(protocol: Protocol) -> Self {
        Self::start_at("127.0.0.1:0".parse().unwrap(), protocol, None)
    }

    pub(super) fn start_at(address: SocketAddr, protocol: Protocol, tls: Option<Acceptor>) -> Self {
        let listener = listen(address).unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::<Shared>::default();
        let task = tokio::spawn(accept(listener, protocol, tls, Arc::clone(&shared)));
        Self {
            address,
            shared,
            _task: AbortOnDropHandle::new(task),
        }
    }

    /// From the next connection on.
    pub(super) fn set_mood(&self, mood: Mood) {
        *self.shared.mood.lock() = mood;
    }

    /// All that came in so far, in order.
    pub(super) fn points(&self) -> Vec<Received> {
        self.shared.points.lock().clone()
    }

    pub(super) fn paths(&self) -> Vec<String> {
        let points = self.shared.points.lock();
        points.iter().map(|point| point.path.clone()).collect()
    }

    /// How many points each frame had.
    pub(super) fn frames(&self) -> Vec<usize> {
        self.shared.frames.lock().clone()
    }

    pub(super) fn connections(&self) -> usize {
        *self.shared.connections.lock()
    }

    /// Waits for so many points.
    pub(super) async fn wait_for(&self, points: usize) -> Vec<Received> {
        wait(&format!("{points} points"), || {
            self.shared.points.lock().len() >= points
        })
        .await;
        self.points()
    }
}

/// Waits until something holds.
pub(super) async fn wait(what: &str, condition: impl Fn() -> bool) {
    let until = tokio::time::Instant::now() + Duration::from_secs(60);
    while !condition() {
        assert!(tokio::time::Instant::now() < until, "waited for {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Also where connections of an earlier listener linger.
fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(16)
}

async fn accept(
    listener: TcpListener,
    protocol: Protocol,
    tls: Option<Acceptor>,
    shared: Arc<Shared>,
) {
    let mut tasks = Vec::new();
    loop {
        let (socket, _) = listener.accept().await.unwrap();
        let (shared, tls) = (Arc::clone(&shared), tls.clone());
        let mood = *shared.mood.lock();
        *shared.connections.lock() += 1;
        tasks.push(AbortOnDropHandle::new(tokio::spawn(async move {
            if mood == Mood::Deaf {
                std::future::pending::<()>().await;
            }
            let limit = match mood {
                Mood::Closes(bytes) => bytes as u64,
                _ => u64::MAX,
            };
            // Whatever ends a connection, the sink is to cope with it.
            let _ = match tls {
                Some(tls) => match tls.accept(socket).await {
                    Ok(stream) => read(stream.take(limit), protocol, &shared).await,
                    Err(_) => Ok(()),
                },
                None => read(socket.take(limit), protocol, &shared).await,
            };
        })));
    }
}

async fn read(
    mut stream: impl AsyncRead + Unpin,
    protocol: Protocol,
    shared: &Shared,
) -> io::Result<()> {
    let mut bytes = Vec::new();
    loop {
        if stream.read_buf(&mut bytes).await? == 0 {
            return Ok(());
        }
        while let Some((points, rest)) = first(&bytes, protocol) {
            shared.frames.lock().push(points.len());
            shared.points.lock().extend(points);
            bytes.drain(..bytes.len() - rest);
        }
    }
}

/// The first whole frame, and how many bytes come after it.
fn first(bytes: &[u8], protocol: Protocol) -> Option<(Vec<Received>, usize)> {
    match protocol {
        Protocol::Line => {
            let end = bytes.iter().position(|byte| *byte == b'\n')?;
            let line = std::str::from_utf8(&bytes[..end]).unwrap();
            let [path, value, timestamp] = line.split(' ').collect::<Vec<_>>()[..] else {
                panic!("{line:?} is no line");
            };
            let point = Received {
                path: path.to_owned(),
                timestamp: timestamp.parse::<i64>().unwrap() as f64,
                value: value.parse().unwrap(),
            };
            Some((vec![point], bytes.len() - end - 1))
        }
        Protocol::Pickle => {
            let (length, rest) = bytes.split_first_chunk()?;
            let length = u32::from_be_bytes(*length) as usize;
            assert!(length <= 1 << 20, "carbon takes no frame of {length}");
            let frame = rest.get(..length)?;
            Some((decode_pickle(frame).unwrap(), rest.len() - length))
        }
    }
}

/// Reads a pickle of the one shape that carbon-relay writes, opcode by opcode; `None` for any other.
pub(super) fn decode_pickle(frame: &[u8]) -> Option<Vec<Received>> {
    let mut rest = frame.strip_prefix(b"\x80\x02]")?;
    let mut memo = 0;
    put(&mut rest, &mut memo)?;
    let mut points = Vec::new();
    loop {
        let (operation, after) = rest.split_first()?;
        rest = match operation {
            b'(' => after,
            b'X' => {
                points.push(point(&mut rest, &mut memo)?);
                rest
            }
            // APPEND comes after one point, APPENDS after the points since a mark.
            b'a' if points.len() == 1 => after,
            b'e' => after,
            b'.' if after.is_empty() => return Some(points),
            _ => return None,
        };
    }
}

fn point(rest: &mut &[u8], memo: &mut u32) -> Option<Received> {
    let (length, after) = rest.strip_prefix(b"X")?.split_first_chunk()?;
    let (path, after) = after.split_at_checked(u32::from_le_bytes(*length) as usize)?;
    *rest = after;
    put(rest, memo)?;
    let mut number = || {
        let (number, after) = rest.strip_prefix(b"G")?.split_first_chunk()?;
        *rest = after;
        Some(f64::from_be_bytes(*number))
    };
    let (timestamp, value) = (number()?, number()?);
    for _ in 0..2 {
        *rest = rest.strip_prefix(&[0x86])?;
        put(rest, memo)?;
    }
    Some(Received {
        path: String::from_utf8(path.to_vec()).ok()?,
        timestamp,
        value,
    })
}

fn put(rest: &mut &[u8], memo: &mut u32) -> Option<()> {
    let index = match rest.split_first()? {
        (b'q', after) => {
            let (index, after) = after.split_first()?;
            *rest = after;
            u32::from(*index)
        }
        (b'r', after) => {
            let (index, after) = after.split_first_chunk()?;
            *rest = after;
            u32::from_le_bytes(*index)
        }
        _ => return None,
    };
    let expected = *memo;
    *memo += 1;
    (index == expected).then_some(())
}
