//! A program asks another process of itself how it is: what a container's health check runs.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, ToSocketAddrs};
use std::time::Duration;

use crate::chassis::Chassis;
use crate::tls::{self, TlsError};

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Question {
    /// `/healthcheck`: the process lives and answers.
    Alive,
    /// `/ready`: it wants work, too.
    Ready,
}

/// Why the answer is no.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unwell {
    /// The settings let nobody ask.
    #[error("http_address is {0:?}: there is nobody to ask there")]
    Nowhere(String),
    /// It does not listen, does not answer, or not in time.
    #[error("{address}: {source}")]
    Silent {
        /// Where it was asked.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// Its own certificate cannot be read here.
    #[error("http_tls.{0}")]
    Tls(#[from] TlsError),
    /// It answers, and says no.
    #[error("{address}: {said}")]
    No {
        /// Where it was asked.
        address: SocketAddr,
        /// Its reason.
        said: String,
    },
}

/// For each step: connecting, being answered.
const PATIENCE: Duration = Duration::from_secs(2);
/// Far more than a reason takes.
const LONGEST_ANSWER: u64 = 64 * 1024;

impl Question {
    fn path(self) -> &'static str {
        match self {
            Self::Alive => "/healthcheck",
            Self::Ready => "/ready",
        }
    }
}

/// Asks the process on this host that runs with these settings.
pub(crate) fn ask(chassis: &Chassis, question: Question) -> Result<(), Unwell> {
    let address = reachable(&chassis.http_address)
        .ok_or_else(|| Unwell::Nowhere(chassis.http_address.clone()))?;
    let silent = |source| Unwell::Silent { address, source };
    let stream = TcpStream::connect_timeout(&address, PATIENCE).map_err(silent)?;
    stream.set_read_timeout(Some(PATIENCE)).map_err(silent)?;
    stream.set_write_timeout(Some(PATIENCE)).map_err(silent)?;
    let answer = match tls::ask_own(&chassis.http_tls)? {
        None => exchange(stream, question.path()),
        Some(client) => exchange(rustls::StreamOwned::new(client, stream), question.path()),
    };
    let (status, body) = match answer {
        // With client_ca_file it may want another certificate than its own: it lives, and says no more.
        Err(error) if question == Question::Alive && is_turned_away(&error) => return Ok(()),
        answer => answer.map_err(silent)?,
    };
    match status.contains(" 200") {
        true => Ok(()),
        false => Err(Unwell::No {
            address,
            said: format!("{status}: {}", body.trim()),
        }),
    }
}

/// Whether the server ended the handshake, which only one that lives does.
fn is_turned_away(error: &io::Error) -> bool {
    let cause = error.get_ref().and_then(|cause| cause.downcast_ref());
    matches!(cause, Some(rustls::Error::AlertReceived(_)))
}

/// Where a process of this host is reached that listens on `address`.
fn reachable(address: &str) -> Option<SocketAddr> {
    if let Some(port) = address.strip_prefix(':') {
        let port = port.parse().ok().filter(|port| *port != 0)?;
        return Some((Ipv4Addr::LOCALHOST, port).into());
    }
    let mut address = address.to_socket_addrs().ok()?.next()?;
    if address.ip().is_unspecified() {
        address.set_ip(match address.ip() {
            IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    Some(address).filter(|address| address.port() != 0)
}

/// The status line and the body of the answer.
fn exchange(mut stream: impl Read + Write, path: &str) -> io::Result<(String, String)> {
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    )?;
    stream.flush()?;
    let mut answer = BufReader::new(stream.take(LONGEST_ANSWER));
    let mut status = String::new();
    answer.read_line(&mut status)?;
    if !status.starts_with("HTTP/1.1 ") {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "the answer is not HTTP",
        ));
    }
    let mut rest = String::new();
    // The status has been said: how the connection ends does not matter.
    let _ = answer.read_to_string(&mut rest);
    let body = rest.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    Ok((status.trim().to_owned(), body.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_listens_everywhere_is_asked_on_the_loopback() {
        for (listens, asked) in [
            ("127.0.0.1:8127", Some("127.0.0.1:8127")),
            ("0.0.0.0:8127", Some("127.0.0.1:8127")),
            (":8127", Some("127.0.0.1:8127")),
            ("[::]:8127", Some("[::1]:8127")),
            ("", None),
            ("127.0.0.1:0", None),
            (":0", None),
        ] {
            let found = reachable(listens).map(|address| address.to_string());
            assert_eq!(found.as_deref(), asked, "{listens}");
        }
    }
}
