//! Sockets that this process was started with: socket activation, as in `sd_listen_fds(3)`.
//!
//! Whoever starts it (systemd, or another supervisor) holds the sockets over its restarts: what comes meanwhile waits in them. Nothing has to be
//! said in the settings: an address that is listened on is looked up here first, and bound only if it is not among them. `LISTEN_FDNAMES` is
//! not looked at, since the addresses say all.
//!
//! A socket is given out once. It is shared with whoever holds it: it may be closed here, but must not be shut down or connected.

use listenfd::ListenFd;
use parking_lot::Mutex;
use socket2::{SockAddr, Socket, Type};

/// Those that nobody has asked for yet.
static SOCKETS: Mutex<Vec<Socket>> = Mutex::new(Vec::new());

/// Takes the sockets over that the environment tells of, and clears those variables; gives the places of what is no socket that could be used. To
/// be called once, before there is any other thread.
pub(crate) fn adopt() -> Vec<usize> {
    let mut handed = ListenFd::from_env();
    let mut sockets = SOCKETS.lock();
    let mut unusable = Vec::new();
    for place in 0..handed.len() {
        match any(&mut handed, place) {
            Some(socket) => sockets.push(socket),
            None => unusable.push(place),
        }
    }
    unusable
}

/// Of whichever type it is.
fn any(handed: &mut ListenFd, place: usize) -> Option<Socket> {
    if let Ok(Some(socket)) = handed.take_udp_socket(place) {
        return Some(socket.into());
    }
    if let Ok(Some(socket)) = handed.take_tcp_listener(place) {
        return Some(socket.into());
    }
    if let Ok(Some(socket)) = handed.take_unix_datagram(place) {
        return Some(socket.into());
    }
    let socket = handed.take_unix_listener(place).ok()??;
    Some(socket.into())
}

/// The sockets of this type whose address is the wanted one. Whether they block is the caller's to set.
pub fn take(kind: Type, is_wanted: impl Fn(&SockAddr) -> bool) -> Vec<Socket> {
    let mut sockets = SOCKETS.lock();
    sockets
        .extract_if(.., |socket| {
            let of_kind = socket.r#type().is_ok_and(|its| its == kind);
            of_kind && socket.local_addr().is_ok_and(|address| is_wanted(&address))
        })
        .collect()
}

/// Tells of sockets that nobody has asked for: what is sent to them waits in vain.
pub(crate) fn warn_of_unused() {
    for socket in SOCKETS.lock().iter() {
        tracing::warn!(
            address = %shown(socket),
            "a socket was handed over at the start that no setting names: nobody reads it"
        );
    }
}

fn shown(socket: &Socket) -> String {
    let Ok(address) = socket.local_addr() else {
        return String::new();
    };
    let kind = match socket.r#type() {
        Ok(Type::STREAM) => "stream",
        _ => "datagram",
    };
    let place = match (address.as_socket(), address.as_pathname()) {
        (Some(inet), _) => inet.to_string(),
        (_, Some(path)) => path.display().to_string(),
        _ => "a Unix socket".to_owned(),
    };
    format!("{kind} {place}")
}

#[cfg(test)]
mod tests {
    use std::net::{SocketAddr, TcpListener, UdpSocket};

    use super::*;

    #[test]
    fn a_socket_is_found_by_type_and_address_and_given_out_once() {
        let udp = UdpSocket::bind("127.0.0.1:0").expect("a port");
        let tcp = TcpListener::bind("127.0.0.1:0").expect("a port");
        let at = |socket: SocketAddr| move |address: &SockAddr| address.as_socket() == Some(socket);
        let (udp_at, tcp_at) = (udp.local_addr().unwrap(), tcp.local_addr().unwrap());
        SOCKETS.lock().extend([Socket::from(udp), tcp.into()]);
        assert_eq!(take(Type::STREAM, at(udp_at)).len(), 0);
        assert_eq!(take(Type::DGRAM, at(udp_at)).len(), 1);
        assert_eq!(take(Type::DGRAM, at(udp_at)).len(), 0);
        assert_eq!(take(Type::STREAM, at(tcp_at)).len(), 1);
    }
}
