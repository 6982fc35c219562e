//! Where a destination is, in carbon's notation.

use std::fmt;

/// `host:port` or `host:port:instance`; an IPv6 address stands in brackets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Address {
    /// A name or an address, without brackets.
    pub(super) host: String,
    /// Where it listens; no part of the ring.
    pub(super) port: u16,
    /// Tells several daemons of one host apart.
    pub(super) instance: Option<String>,
}

impl Address {
    /// Reads carbon's notation. The error says what is wrong.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let wrong = || format!("`{text}` is not of the form host:port or host:port:instance");
        let (host, rest) = match text.strip_prefix('[') {
            Some(rest) => rest.split_once("]:").ok_or_else(wrong)?,
            None => text.split_once(':').ok_or_else(wrong)?,
        };
        let (port, instance) = match rest.split_once(':') {
            Some((port, instance)) => (port, Some(instance)),
            None => (rest, None),
        };
        let port = port
            .parse()
            .ok()
            .filter(|port| *port > 0)
            .ok_or_else(|| format!("`{port}` in `{text}` is no port"))?;
        // These stand in the ring's keys as Python prints them, and it would escape anything else.
        let plain = |part: &str| {
            let fine = |b: u8| b.is_ascii_graphic() && !matches!(b, b'\'' | b'"' | b'\\');
            !part.is_empty() && part.bytes().all(fine)
        };
        if !plain(host) {
            return Err(wrong());
        }
        if let Some(instance) = instance
            && !plain(instance)
        {
            return Err(format!("`{instance}` in `{text}` is no instance"));
        }
        Ok(Self {
            host: host.to_owned(),
            port,
            instance: instance.map(str::to_owned),
        })
    }

    /// What is connected to, as a certificate is checked against it.
    pub(super) fn authority(&self) -> String {
        match self.host.contains(':') {
            true => format!("[{}]:{}", self.host, self.port),
            false => format!("{}:{}", self.host, self.port),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.authority())?;
        match &self.instance {
            Some(instance) => write!(f, ":{instance}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn carbons_notation_is_read_and_written() {
        for (text, host, port, instance) in [
            ("127.0.0.1:2004:a", "127.0.0.1", 2004, Some("a")),
            ("carbon.example:2003", "carbon.example", 2003, None),
            ("[::1]:2004", "::1", 2004, None),
            ("[fe80::1%eth0]:2004:b", "fe80::1%eth0", 2004, Some("b")),
        ] {
            let address = Address::parse(text).unwrap();
            assert_eq!(
                (
                    address.host.as_str(),
                    address.port,
                    address.instance.as_deref()
                ),
                (host, port, instance)
            );
            assert_eq!(address.to_string(), text);
        }
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in [
            "",
            "host",
            ":2004",
            "host:",
            "host:x",
            "host:0",
            "host:70000",
            "[::1]",
            "::1:2004",
            "host:1:",
            "host:1:it's",
            "a b:1",
        ] {
            assert!(Address::parse(text).is_err(), "{text}");
        }
    }
}
