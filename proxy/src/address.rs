//! What a destination's address may be.

/// Why a text is no destination's address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// It is neither form.
    #[error("{0:?} is no address, use host:port, or http://host:port for legacy JSON")]
    Form(String),
    /// TLS is asked for.
    #[error("{0:?} asks for TLS, which destinations are not spoken to with")]
    Tls(String),
}

/// Checks a configured address: `host:port`, `http://host:port`, or `http://host` for port 80.
///
/// # Errors
/// See [`AddressError`].
pub fn check(address: &str) -> Result<(), AddressError> {
    if address.starts_with("https://") {
        return Err(AddressError::Tls(address.to_owned()));
    }
    let url = address.strip_prefix("http://");
    let authority = match url {
        Some(rest) => rest.strip_suffix('/').unwrap_or(rest),
        None => address,
    };
    let parsed = authority.parse::<http::uri::Authority>();
    let right = parsed.is_ok_and(|parsed| {
        !authority.contains('@')
            && !parsed.host().is_empty()
            && match parsed.port() {
                Some(_) => parsed.port_u16().is_some_and(|port| port != 0),
                None => url.is_some() && !authority.ends_with(':'),
            }
    });
    if right {
        Ok(())
    } else {
        Err(AddressError::Form(address.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_a_host_and_a_port_with_or_without_http() {
        for good in [
            "10.0.0.1:8128",
            "global-1.example:80",
            "[::1]:8128",
            "http://10.0.0.1:8127",
            "http://g:1/",
            "http://veneur.example.com",
        ] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        for bad in [
            "",
            "host",
            "host:",
            ":8128",
            "host:0",
            "host:99999",
            "http://host:",
            "http://h:1/import",
            "a b:1",
            "u@h:1",
            "tcp://h:1",
        ] {
            assert_eq!(check(bad), Err(AddressError::Form(bad.to_owned())), "{bad}");
        }
        assert!(matches!(check("https://g:1"), Err(AddressError::Tls(_))));
    }
}
