//! What a destination's address may be.

/// Why a text is no destination's address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// It is neither form.
    #[error("{0:?} is no address, use host:port, or http(s)://host:port for legacy JSON")]
    Form(String),
    /// TLS is asked for, and not set up.
    #[error("{0:?} needs forward_tls: {{enabled: true}}")]
    NoTls(String),
    /// TLS is set up, and not asked for.
    #[error("{0:?} would go without TLS, which forward_tls asks for: write https://")]
    NotSecured(String),
}

/// Checks a configured address: `host:port`, `http://host:port`, or `http://host` for port 80; `https://` in place of `http://` where destinations
/// are spoken to by TLS.
///
/// # Errors
/// See [`AddressError`].
pub fn check(address: &str, tls: bool) -> Result<(), AddressError> {
    let secured = address.strip_prefix("https://");
    let plain = address.strip_prefix("http://");
    if secured.is_some() && !tls {
        return Err(AddressError::NoTls(address.to_owned()));
    }
    if plain.is_some() && tls {
        return Err(AddressError::NotSecured(address.to_owned()));
    }
    let url = secured.or(plain);
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
            assert_eq!(check(good, false), Ok(()), "{good}");
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
            let wrong = Err(AddressError::Form(bad.to_owned()));
            assert_eq!(check(bad, false), wrong, "{bad}");
        }
    }

    #[test]
    fn an_address_and_the_settings_agree_about_tls() {
        assert_eq!(check("https://g:1", true), Ok(()));
        assert_eq!(check("https://g", true), Ok(()));
        assert_eq!(check("g:1", true), Ok(()));
        let told = |address, tls| check(address, tls).unwrap_err().to_string();
        assert_eq!(
            told("https://g:1", false),
            "\"https://g:1\" needs forward_tls: {enabled: true}"
        );
        assert!(told("http://g:1", true).contains("would go without TLS"));
    }
}
