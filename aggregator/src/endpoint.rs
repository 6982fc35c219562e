//! A setting that says where requests go: `http(s)://host[:port]…`.

use http::Uri;
use tributary_node::tls::ClientTls;

/// A URL that requests can go to; `like` is an example of one, and `login` names the setting that takes the place of a user in it.
///
/// No error holds the URL itself: there may be a password in it.
pub(crate) fn parse(url: &str, tls: &ClientTls, like: &str, login: &str) -> Result<Uri, String> {
    let uri: Uri = url
        .parse()
        .map_err(|error| format!("is no URL, write it like {like}: {error}"))?;
    let Some(authority) = uri.authority() else {
        return Err(format!("has no host, write it like {like}"));
    };
    if authority.as_str().contains('@') {
        return Err(format!(
            "holds a user, which would be seen in logs; use `{login}`"
        ));
    }
    match (uri.scheme_str(), tls.enabled) {
        (Some("http"), _) if tls.is_on() => {
            Err("is http, and `tls` is set: write https".to_owned())
        }
        (Some("https"), Some(false)) => Err("is https, and `tls.enabled` is false".to_owned()),
        (Some("http" | "https"), _) => Ok(uri),
        _ => Err(format!("is neither http nor https, write it like {like}")),
    }
}

/// As [`parse`], for a URL whose path something is added to, so that it can have no query.
pub(crate) fn parse_base(
    url: &str,
    tls: &ClientTls,
    like: &str,
    login: &str,
) -> Result<Uri, String> {
    let uri = parse(url, tls, like, login)?;
    match uri.query() {
        Some(_) => Err("has a `?`, which is not kept".to_owned()),
        None => Ok(uri),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIKE: &str = "http://a/b";

    fn check(url: &str, tls: &ClientTls) -> Result<Uri, String> {
        parse(url, tls, LIKE, "basic_auth")
    }

    #[test]
    fn a_url_that_cannot_be_asked_is_told_without_what_is_secret_in_it() {
        let tls = ClientTls::default();
        assert!(check("http://a:1/b?c=d", &tls).is_ok());
        assert!(check("https://a", &tls).is_ok());
        for (bad, what) in [
            ("", "is no URL, write it like http://a/b: "),
            ("http://u:p@a b", "is no URL, write it like http://a/b: "),
            ("/b", "has no host, write it like http://a/b"),
            (
                "http://u:p@a/b",
                "holds a user, which would be seen in logs; use `basic_auth`",
            ),
            ("a", "is neither http nor https, write it like http://a/b"),
            (
                "ftp://a/b",
                "is neither http nor https, write it like http://a/b",
            ),
        ] {
            let error = check(bad, &tls).unwrap_err();
            assert!(error.starts_with(what), "{bad}: {error}");
            assert!(!error.contains("u:p"), "{error}");
        }
    }

    #[test]
    fn a_scheme_that_is_at_odds_with_the_tls_settings_is_told() {
        let tls = |enabled| ClientTls {
            enabled: Some(enabled),
            ..ClientTls::default()
        };
        let on = check("http://a", &tls(true)).unwrap_err();
        assert_eq!(on, "is http, and `tls` is set: write https");
        let off = check("https://a", &tls(false)).unwrap_err();
        assert_eq!(off, "is https, and `tls.enabled` is false");
        assert!(check("https://a", &tls(true)).is_ok());
        assert!(check("http://a", &tls(false)).is_ok());
    }

    #[test]
    fn a_base_has_no_query() {
        let check = |url| parse_base(url, &ClientTls::default(), LIKE, "basic_auth");
        assert!(check("http://a/b").is_ok());
        let error = check("http://a/b?c=d").unwrap_err();
        assert_eq!(error, "has a `?`, which is not kept");
    }
}
