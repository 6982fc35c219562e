//! The addresses that `statsd_listen_addresses` lists.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::str::FromStr;

/// One place to listen.
///
/// Written as `udp://host:port`, `tcp://host:port` (`udp4`, `udp6`, `tcp4` and `tcp6` keep to one family; no host means every interface),
/// `unixgram:///path`, `unix:///path`, or with `@name` in place of the path for Linux' abstract names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListenAddress {
    /// Datagrams over UDP.
    Udp(Inet),
    /// Lines over TCP.
    Tcp(Inet),
    /// Datagrams over a Unix socket.
    UnixDatagram(UnixName),
    /// Lines or length-prefixed packets over a Unix stream socket.
    UnixStream(UnixName),
}

/// Host and port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inet {
    /// Which addresses of the host count.
    pub family: Family,
    /// A name, an address, or nothing for every interface.
    pub host: String,
    /// 0 lets the system choose.
    pub port: u16,
}

/// Which version of IP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// Whatever the host has; IPv4 first.
    Any,
    /// IPv4.
    V4,
    /// IPv6, and no IPv4 through it.
    V6,
}

/// What a Unix socket is called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UnixName {
    /// A file.
    Path(PathBuf),
    /// A name of Linux' abstract namespace, without the `@` it is written with.
    Abstract(String),
}

/// A listen address that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// No scheme in front.
    #[error(
        "listen address {0:?} has no scheme: write udp://, tcp://, unixgram:// or unix:// in front"
    )]
    NoScheme(String),
    /// A scheme of something else.
    #[error(
        "listen address {0:?} has an unknown scheme: known are udp, udp4, udp6, tcp, tcp4, tcp6, unixgram and unix"
    )]
    UnknownScheme(String),
    /// Not `host:port`.
    #[error("listen address {0:?} needs a host and a port from 0 to 65535, as in 127.0.0.1:8126")]
    NoHostAndPort(String),
    /// Neither `/path` nor `@name`.
    #[error("listen address {0:?} needs an absolute path or @name after the scheme")]
    NoUnixName(String),
}

impl FromStr for ListenAddress {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let (scheme, rest) = text
            .split_once(':')
            .ok_or_else(|| AddressError::NoScheme(text.to_owned()))?;
        let after_slashes = rest.strip_prefix("//");
        let inet = |family| inet(after_slashes, family, text);
        // Veneur's users write `unixgram:@name` without slashes too.
        let unix = || unix_name(after_slashes.unwrap_or(rest), text);
        match scheme {
            "udp" => Ok(Self::Udp(inet(Family::Any)?)),
            "udp4" => Ok(Self::Udp(inet(Family::V4)?)),
            "udp6" => Ok(Self::Udp(inet(Family::V6)?)),
            "tcp" => Ok(Self::Tcp(inet(Family::Any)?)),
            "tcp4" => Ok(Self::Tcp(inet(Family::V4)?)),
            "tcp6" => Ok(Self::Tcp(inet(Family::V6)?)),
            "unixgram" => Ok(Self::UnixDatagram(unix()?)),
            "unix" => Ok(Self::UnixStream(unix()?)),
            _ if after_slashes.is_none() => Err(AddressError::NoScheme(text.to_owned())),
            _ => Err(AddressError::UnknownScheme(text.to_owned())),
        }
    }
}

fn inet(rest: Option<&str>, family: Family, text: &str) -> Result<Inet, AddressError> {
    let wrong = || AddressError::NoHostAndPort(text.to_owned());
    let (host, port) = rest
        .and_then(|rest| rest.rsplit_once(':'))
        .ok_or_else(wrong)?;
    let bracketed = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    let is_wrong = match bracketed {
        Some(host) => host.parse::<Ipv6Addr>().is_err(),
        None => host.contains([':', '/', '@', '[', ']', ' ']),
    };
    // `parse` would take a sign.
    if is_wrong || !port.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(wrong());
    }
    Ok(Inet {
        family,
        host: bracketed.unwrap_or(host).to_owned(),
        port: port.parse().map_err(|_| wrong())?,
    })
}

fn unix_name(name: &str, text: &str) -> Result<UnixName, AddressError> {
    match name.strip_prefix('@') {
        Some(name) if !name.is_empty() => Ok(UnixName::Abstract(name.to_owned())),
        None if name.starts_with('/') && !name.ends_with('/') => {
            Ok(UnixName::Path(PathBuf::from(name)))
        }
        _ => Err(AddressError::NoUnixName(text.to_owned())),
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Udp(inet) => write!(f, "udp{inet}"),
            Self::Tcp(inet) => write!(f, "tcp{inet}"),
            Self::UnixDatagram(name) => write!(f, "unixgram://{name}"),
            Self::UnixStream(name) => write!(f, "unix://{name}"),
        }
    }
}

impl fmt::Display for Inet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let family = match self.family {
            Family::Any => "",
            Family::V4 => "4",
            Family::V6 => "6",
        };
        if self.host.contains(':') {
            write!(f, "{family}://[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{family}://{}:{}", self.host, self.port)
        }
    }
}

impl fmt::Display for UnixName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => write!(f, "{}", path.display()),
            Self::Abstract(name) => write!(f, "@{name}"),
        }
    }
}

impl ListenAddress {
    /// Address and port, where it is one of IP and the host is an address: always so once it is bound.
    pub fn socket_addr(&self) -> Option<SocketAddr> {
        match self {
            Self::Udp(inet) | Self::Tcp(inet) => {
                let host: IpAddr = inet.host.parse().ok()?;
                Some(SocketAddr::new(host, inet.port))
            }
            Self::UnixDatagram(_) | Self::UnixStream(_) => None,
        }
    }
}

impl Inet {
    /// The addresses to try to bind, best first. Looks names up.
    pub(super) fn candidates(&self) -> std::io::Result<Vec<SocketAddr>> {
        let found: Vec<SocketAddr> = if self.host.is_empty() {
            let every: [IpAddr; 2] = [Ipv6Addr::UNSPECIFIED.into(), Ipv4Addr::UNSPECIFIED.into()];
            every
                .into_iter()
                .map(|host| SocketAddr::new(host, self.port))
                .collect()
        } else {
            let mut found: Vec<SocketAddr> =
                (self.host.as_str(), self.port).to_socket_addrs()?.collect();
            // Names such as localhost have both, and senders mostly mean IPv4.
            found.sort_by_key(SocketAddr::is_ipv6);
            found
        };
        Ok(found
            .into_iter()
            .filter(|address| match self.family {
                Family::Any => true,
                Family::V4 => address.is_ipv4(),
                Family::V6 => address.is_ipv6(),
            })
            .collect())
    }

    /// This, as bound at `address`.
    pub(super) fn bound(&self, address: SocketAddr) -> Self {
        Self {
            family: self.family,
            host: address.ip().to_string(),
            port: address.port(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_is_read_and_written_back() {
        for text in [
            "udp://127.0.0.1:8126",
            "udp4://localhost:0",
            "udp6://[::1]:65535",
            "tcp://:8126",
            "tcp4://0.0.0.0:1",
            "tcp6://[::]:8126",
            "unixgram:///run/statsd.sock",
            "unixgram://@statsd",
            "unix:///run/statsd.sock",
            "unix://@statsd",
        ] {
            let address: ListenAddress = text.parse().unwrap();
            assert_eq!(address.to_string(), text);
        }
    }

    #[test]
    fn a_unix_name_needs_no_slashes_after_the_scheme() {
        let address: ListenAddress = "unixgram:@statsd".parse().unwrap();
        assert_eq!(address.to_string(), "unixgram://@statsd");
        let address: ListenAddress = "unix:/run/statsd.sock".parse().unwrap();
        assert_eq!(address.to_string(), "unix:///run/statsd.sock");
    }

    #[test]
    fn a_wrong_address_says_what_is_missing() {
        use AddressError::*;
        type Wrong = (&'static str, fn(String) -> AddressError);
        let wrong: [Wrong; 19] = [
            ("", NoScheme),
            ("8126", NoScheme),
            ("127.0.0.1:8126", NoScheme),
            ("localhost:8126", NoScheme),
            ("http://127.0.0.1:80", UnknownScheme),
            ("unixpacket:///x", UnknownScheme),
            ("UDP://127.0.0.1:80", UnknownScheme),
            ("udp://127.0.0.1", NoHostAndPort),
            ("udp://127.0.0.1:", NoHostAndPort),
            ("udp://127.0.0.1:65536", NoHostAndPort),
            ("udp://127.0.0.1:+80", NoHostAndPort),
            ("udp://127.0.0.1:80/path", NoHostAndPort),
            ("udp://::1:80", NoHostAndPort),
            ("udp://[::1:80", NoHostAndPort),
            ("udp:127.0.0.1:80", NoHostAndPort),
            ("unixgram://run/x", NoUnixName),
            ("unixgram://@", NoUnixName),
            ("unix://", NoUnixName),
            ("unix:///run/", NoUnixName),
        ];
        for (text, expected) in wrong {
            assert_eq!(
                text.parse::<ListenAddress>(),
                Err(expected(text.to_owned()))
            );
        }
    }

    #[test]
    fn a_family_keeps_the_other_one_out() {
        let candidates = |text: &str| match text.parse().unwrap() {
            ListenAddress::Udp(inet) => inet.candidates().unwrap(),
            other => panic!("{other}"),
        };
        assert_eq!(candidates("udp://:1").len(), 2);
        assert_eq!(candidates("udp4://:1"), ["0.0.0.0:1".parse().unwrap()]);
        assert_eq!(candidates("udp6://:1"), ["[::]:1".parse().unwrap()]);
        assert!(candidates("udp6://127.0.0.1:1").is_empty());
    }
}
