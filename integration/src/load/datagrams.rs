//! DogStatsD over UDP.

use std::io;
use std::net::UdpSocket;

use super::pace::Pace;
use super::{Shared, Workload};

/// A datagram's text, and how many lines it has.
pub(super) type Datagram = (Box<str>, usize);

/// All series once, with `lines` of them in a datagram.
pub(super) fn datagrams(workload: &Workload, lines: usize) -> Vec<Datagram> {
    let all: Vec<usize> = (0..workload.series).collect();
    all.chunks(lines.max(1))
        .map(|chunk| {
            let text: Vec<_> = chunk.iter().map(|series| workload.line(*series)).collect();
            (text.join("\n").into(), chunk.len())
        })
        .collect()
}

pub(super) fn connect(to: &str) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind(("127.0.0.1", 0))?;
    socket.connect(to)?;
    Ok(socket)
}

pub(super) fn send(
    socket: &UdpSocket,
    datagrams: &[Datagram],
    first: usize,
    rate: Option<f64>,
    shared: &Shared,
) -> io::Result<()> {
    let mut pace = Pace::new(rate);
    for (text, lines) in datagrams
        .iter()
        .cycle()
        .skip(first * datagrams.len() / 4 % datagrams.len())
    {
        if shared.is_stopped() {
            break;
        }
        let wait = pace.next(*lines);
        if !wait.is_zero() {
            std::thread::sleep(wait);
        }
        socket.send(text.as_bytes())?;
        shared.count(*lines);
    }
    Ok(())
}
