//! Where to forward to, as configuration writes it.

use http::Uri;
use thiserror::Error;

/// A destination's address: `host:port`, or `http://host:port` as Veneur's older agents want it, `https://` with TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Address {
    /// As it was configured: what logs and counters show.
    pub name: String,
    /// With scheme, without a slash at the end.
    pub base: String,
}

/// Why an address cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum AddressError {
    /// There is none.
    #[error("no forward address")]
    None,
    /// TLS is asked for, and not set up.
    #[error("forward address {0:?}: needs forward_tls: {{enabled: true}}")]
    NoTls(String),
    /// TLS is set up, and not asked for.
    #[error(
        "forward address {0:?}: would go without TLS, which forward_tls asks for: write https://"
    )]
    NotSecured(String),
    /// Neither `host:port` nor a URL.
    #[error("forward address {address:?}: {reason}")]
    Invalid {
        /// As it was configured.
        address: String,
        /// What is wrong with it.
        reason: String,
    },
}

impl Address {
    /// Reads an address. Without a scheme it must name a port; with one, it must agree with whether there is TLS.
    pub(super) fn parse(text: &str, tls: bool) -> Result<Self, AddressError> {
        let invalid = |reason: &str| AddressError::Invalid {
            address: text.to_owned(),
            reason: reason.to_owned(),
        };
        let (plain, secured) = (text.strip_prefix("http://"), text.strip_prefix("https://"));
        if secured.is_some() && !tls {
            return Err(AddressError::NoTls(text.to_owned()));
        }
        if plain.is_some() && tls {
            return Err(AddressError::NotSecured(text.to_owned()));
        }
        let bare = plain.or(secured);
        let scheme = if tls { "https" } else { "http" };
        let base = format!("{scheme}://{}", bare.unwrap_or(text).trim_end_matches('/'));
        let uri: Uri = base
            .parse()
            .map_err(|error: http::uri::InvalidUri| invalid(&error.to_string()))?;
        if uri.host().is_none_or(str::is_empty) {
            return Err(invalid("no host"));
        }
        if bare.is_none() && uri.port().is_none() {
            return Err(invalid("no port"));
        }
        Ok(Self {
            name: text.to_owned(),
            base,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base(text: &str) -> Result<String, String> {
        Address::parse(text, false)
            .map(|address| address.base)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn a_scheme_may_be_there_or_not() {
        assert_eq!(base("proxy:8128").unwrap(), "http://proxy:8128");
        assert_eq!(base("http://proxy:8128/").unwrap(), "http://proxy:8128");
        assert_eq!(base("http://proxy").unwrap(), "http://proxy");
        assert_eq!(base("[::1]:8128").unwrap(), "http://[::1]:8128");
        assert_eq!(base("http://lb:80/way").unwrap(), "http://lb:80/way");
    }

    #[test]
    fn what_cannot_be_reached_is_refused_with_its_reason() {
        assert_eq!(
            base("proxy").unwrap_err(),
            "forward address \"proxy\": no port"
        );
        assert!(base(":8128").is_err());
        assert!(base("a b:1").is_err());
        assert!(base("").is_err());
    }

    #[test]
    fn an_address_and_the_settings_agree_about_tls() {
        let base = |text| Address::parse(text, true).map(|address| address.base);
        assert_eq!(base("proxy:1").unwrap(), "https://proxy:1");
        assert_eq!(base("https://proxy").unwrap(), "https://proxy");
        assert_eq!(
            base("http://proxy:1"),
            Err(AddressError::NotSecured("http://proxy:1".to_owned()))
        );
        assert_eq!(
            Address::parse("https://proxy:1", false),
            Err(AddressError::NoTls("https://proxy:1".to_owned()))
        );
    }
}
