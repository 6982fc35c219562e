//! Sending lines to a DogStatsD listener.

use std::io::{self, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs, UdpSocket};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr as UnixAddress, UnixDatagram, UnixStream};
use std::time::Duration;

use nix::errno::Errno;
use tributary_aggregator::source::ListenAddress;
use tributary_aggregator::source::listen::{Family, Inet, UnixName};

/// Reads an address; one without a scheme is UDP's.
///
/// # Errors
/// In words.
pub(super) fn address(text: &str) -> Result<ListenAddress, String> {
    let parsed = text.parse::<ListenAddress>();
    let parsed = match parsed.is_err() && !text.contains("//") {
        true => format!("udp://{text}").parse(),
        false => parsed,
    };
    parsed.map_err(|error| format!("--hostport: {error}"))
}

/// Sends each line: as a datagram of its own, or with a line break behind it.
///
/// # Errors
/// Where it cannot be sent; for UDP also if this host tells that nobody listens.
pub(super) fn send(address: &ListenAddress, lines: &[String], within: Duration) -> io::Result<()> {
    match address {
        ListenAddress::Udp(inet) => first(inet, |address| {
            let any: SocketAddr = match address {
                SocketAddr::V4(_) => (std::net::Ipv4Addr::UNSPECIFIED, 0).into(),
                SocketAddr::V6(_) => (std::net::Ipv6Addr::UNSPECIFIED, 0).into(),
            };
            let socket = UdpSocket::bind(any)?;
            socket.connect(address)?;
            for line in lines {
                socket.send(line.as_bytes())?;
            }
            // On the same host a refusal is known by now.
            socket.take_error()?.map_or(Ok(()), Err)
        }),
        ListenAddress::Tcp(inet) => first(inet, |address| {
            let stream = TcpStream::connect_timeout(&address, within)?;
            stream.set_write_timeout(Some(within))?;
            write(stream, lines)
        }),
        ListenAddress::UnixDatagram(name) => datagrams(name, lines, within),
        ListenAddress::UnixStream(name) => match UnixStream::connect_addr(&unix(name)?) {
            // Other programs write unix:// for datagrams, too.
            Err(error) if error.raw_os_error() == Some(Errno::EPROTOTYPE as i32) => {
                datagrams(name, lines, within)
            }
            stream => {
                let stream = stream?;
                stream.set_write_timeout(Some(within))?;
                write(stream, lines)
            }
        },
    }
}

fn datagrams(name: &UnixName, lines: &[String], within: Duration) -> io::Result<()> {
    let socket = UnixDatagram::unbound()?;
    socket.connect_addr(&unix(name)?)?;
    socket.set_write_timeout(Some(within))?;
    for line in lines {
        socket.send(line.as_bytes())?;
    }
    Ok(())
}

fn write(mut stream: impl Write, lines: &[String]) -> io::Result<()> {
    let mut text = lines.join("\n");
    text.push('\n');
    stream.write_all(text.as_bytes())
}

/// The first address of a host that works.
fn first(inet: &Inet, send: impl Fn(SocketAddr) -> io::Result<()>) -> io::Result<()> {
    let host = match (inet.host.as_str(), inet.family) {
        ("", Family::V6) => "::1",
        ("", _) => "127.0.0.1",
        (host, _) => host,
    };
    let mut failure = io::Error::new(io::ErrorKind::NotFound, "the name has no such address");
    for address in (host, inet.port).to_socket_addrs()? {
        let fits = match inet.family {
            Family::Any => true,
            Family::V4 => address.is_ipv4(),
            Family::V6 => address.is_ipv6(),
        };
        if fits {
            match send(address) {
                Ok(()) => return Ok(()),
                Err(error) => failure = error,
            }
        }
    }
    Err(failure)
}

fn unix(name: &UnixName) -> io::Result<UnixAddress> {
    match name {
        UnixName::Path(path) => UnixAddress::from_pathname(path),
        UnixName::Abstract(name) => UnixAddress::from_abstract_name(name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_without_a_scheme_is_udps() {
        assert!(matches!(address("localhost:1"), Ok(ListenAddress::Udp(_))));
        assert!(matches!(address("[::1]:1"), Ok(ListenAddress::Udp(_))));
        assert!(matches!(address("tcp://h:1"), Ok(ListenAddress::Tcp(_))));
        assert!(matches!(
            address("unixgram:@name"),
            Ok(ListenAddress::UnixDatagram(_))
        ));
        assert!(
            address("http://h:1")
                .unwrap_err()
                .contains("unknown scheme")
        );
        assert!(address("h").unwrap_err().starts_with("--hostport: "));
    }
}
