//! Free ports, below the range from which the kernel takes ports for outgoing connections.

use std::collections::BTreeSet;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::sync::{Mutex, PoisonError};

/// The lowest and the highest port given out. Linux connects from 32768 upwards, so nothing else takes one of these by chance.
const RANGE: std::ops::RangeInclusive<u16> = 12_000..=31_999;

/// Those that this process has given out: one that nobody listens on yet must not be given to somebody else.
static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());

/// An address of 127.0.0.1 whose port is free for TCP and UDP now.
///
/// # Errors
/// If no port of the range is free.
pub fn free_address() -> io::Result<String> {
    free_address_at(Ipv4Addr::LOCALHOST)
}

/// An address of another host, or of another network namespace, that is taken for free if its port is free on 127.0.0.1 here.
///
/// # Errors
/// If no port of the range is free.
pub(super) fn free_address_at(host: Ipv4Addr) -> io::Result<String> {
    for _ in 0..1_000 {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, fastrand::u16(RANGE)));
        let free = TcpListener::bind(address).is_ok() && UdpSocket::bind(address).is_ok();
        // Nothing is half done where a thread panics with this lock.
        let mut given = GIVEN.lock().unwrap_or_else(PoisonError::into_inner);
        if free && given.insert(address.port()) {
            return Ok(SocketAddr::from((host, address.port())).to_string());
        }
    }
    Err(io::Error::new(
        io::ErrorKind::AddrNotAvailable,
        "no free port on 127.0.0.1",
    ))
}
