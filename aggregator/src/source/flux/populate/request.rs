//! What is to be fetched, and from whom.

use std::fmt;

use http::Uri;
use serde_json::{Map, Value};
use tributary_node::config::Secret;

/// What a server speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Remote {
    Graphite,
    Prometheus,
}

/// One metric to fetch.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    /// Whose key it is posted with.
    pub(crate) key: Secret,
    pub(crate) remote: Remote,
    /// The metric's name here.
    pub(crate) metric: String,
    /// From the oldest to the newest.
    pub(crate) urls: Vec<Uri>,
    pub(crate) login: Login,
}

/// How the server is spoken to.
#[derive(Debug, Clone)]
pub(crate) enum Login {
    None,
    /// `Authorization: Bearer`.
    Token(Secret),
    /// `Authorization: Basic`.
    Password(String, Secret),
}

/// Why nothing is fetched.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refused {
    #[error("not a JSON object")]
    NotJson,
    #[error("no {0}")]
    Missing(&'static str),
    #[error("fetch_resolution_urls is no list of URLs")]
    NoUrls,
    #[error("{0} is not among populate_hosts")]
    Host(String),
}

/// The hosts that may be asked: `host`, or `host:port` for that port alone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Hosts(Vec<(String, Option<u16>)>);

/// A metric has a handful of resolutions.
const MAX_URLS: usize = 32;

impl Hosts {
    /// Takes what the configuration has; the error names the one that is none.
    pub(crate) fn new(hosts: &[String]) -> Result<Self, String> {
        let parse = |host: &String| {
            let wrong = || format!("`{host}` is no host or host:port");
            let uri: Uri = format!("http://{host}/").parse().map_err(|_| wrong())?;
            let authority = uri.authority().ok_or_else(wrong)?;
            if authority.as_str() != host || host.contains('@') {
                return Err(wrong());
            }
            Ok((authority.host().to_ascii_lowercase(), authority.port_u16()))
        };
        hosts.iter().map(parse).collect::<Result<_, _>>().map(Self)
    }

    /// Whether none may be asked.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn allows(&self, url: &Uri) -> bool {
        let port = url.port_u16().or(match url.scheme_str() {
            Some("http") => Some(80),
            Some("https") => Some(443),
            _ => None,
        });
        let (Some(host), Some(port), Some(authority)) = (url.host(), port, url.authority()) else {
            return false;
        };
        // What stands before an `@` is no host, and has confused others.
        !authority.as_str().contains('@')
            && self.0.iter().any(|(allowed, on)| {
                allowed.eq_ignore_ascii_case(host) && on.is_none_or(|on| on == port)
            })
    }
}

impl fmt::Display for Hosts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (host, _)) in self.0.iter().enumerate() {
            let comma = if index > 0 { ", " } else { "" };
            write!(f, "{comma}{host}")?;
        }
        Ok(())
    }
}

impl Request {
    /// Judges a POST's body.
    pub(crate) fn parse(body: &[u8], hosts: &Hosts) -> Result<Self, Refused> {
        let object: Map<String, Value> =
            serde_json::from_slice(body).map_err(|_| Refused::NotJson)?;
        let text = |name: &str| text(&object, name);
        let needed = |name: &'static str| text(name).ok_or(Refused::Missing(name));
        let remote = match needed("remote_host_type")?.as_str() {
            "graphite" => Remote::Graphite,
            "prometheus" => Remote::Prometheus,
            _ => return Err(Refused::Missing("remote_host_type: graphite or prometheus")),
        };
        let urls = urls(object.get("fetch_resolution_urls")).ok_or(Refused::NoUrls)?;
        for url in &urls {
            if !hosts.allows(url) {
                return Err(Refused::Host(url.host().unwrap_or_default().to_owned()));
            }
        }
        let login = match (text("token"), text("user")) {
            (Some(token), _) => Login::Token(Secret::new(token)),
            (None, Some(user)) => {
                let password = text("password").unwrap_or_default();
                Login::Password(user, Secret::new(password))
            }
            (None, None) => Login::None,
        };
        Ok(Self {
            key: Secret::new(needed("key")?),
            remote,
            metric: needed("metric")?,
            urls,
            login,
        })
    }
}

/// A value that is there: Vista writes `None` for those that are not.
fn text(object: &Map<String, Value>, name: &str) -> Option<String> {
    let text = object.get(name)?.as_str()?.trim();
    (!["", "None", "null"].contains(&text)).then(|| text.to_owned())
}

/// The URLs of a JSON list, or of a text with a list as Python writes it, quoted once more or not.
fn urls(given: Option<&Value>) -> Option<Vec<Uri>> {
    let texts = match given? {
        Value::Array(urls) => urls
            .iter()
            .map(|url| url.as_str().map(str::to_owned))
            .collect::<Option<Vec<_>>>()?,
        Value::String(text) => python_list(text)?,
        _ => return None,
    };
    if texts.is_empty() || texts.len() > MAX_URLS {
        return None;
    }
    let url = |text: &String| {
        // Targets stand in URLs as people type them.
        let clean: String = text
            .chars()
            .flat_map(|c| match c {
                ' ' => "%20".chars().collect::<Vec<_>>(),
                '"' => "%22".chars().collect(),
                '{' => "%7B".chars().collect(),
                '}' => "%7D".chars().collect(),
                '<' => "%3C".chars().collect(),
                '>' => "%3E".chars().collect(),
                other => vec![other],
            })
            .collect();
        clean.parse::<Uri>().ok()
    };
    texts.iter().map(url).collect()
}

/// A list, or tuple, of quoted texts.
fn python_list(text: &str) -> Option<Vec<String>> {
    let text = text.trim();
    let inner = |open: char, close: char| {
        let inner = text.strip_prefix(open)?.strip_suffix(close)?;
        Some(inner)
    };
    if let Some(list) = inner('[', ']').or_else(|| inner('(', ')')) {
        return quoted_texts(list);
    }
    // Quoted once more.
    let mut whole = quoted_texts(text)?;
    match (whole.pop(), whole.is_empty()) {
        (Some(list), true) if list.trim_start().starts_with(['[', '(']) => {
            let list = list.trim();
            quoted_texts(list.get(1..list.len().checked_sub(1)?)?)
        }
        _ => None,
    }
}

/// Texts in single or double quotes, with commas between and perhaps after.
fn quoted_texts(text: &str) -> Option<Vec<String>> {
    let mut texts = Vec::new();
    let mut chars = text.chars();
    loop {
        let quote = match chars.by_ref().find(|c| !c.is_whitespace()) {
            None => return Some(texts),
            Some(quote @ ('\'' | '"')) => quote,
            Some(_) => return None,
        };
        let mut item = String::new();
        loop {
            match chars.next()? {
                '\\' => item.push(chars.next()?),
                c if c == quote => break,
                c => item.push(c),
            }
        }
        texts.push(item);
        match chars.by_ref().find(|c| !c.is_whitespace()) {
            None => return Some(texts),
            Some(',') => {}
            Some(_) => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn hosts() -> Hosts {
        Hosts::new(&["graphite.example".to_owned(), "127.0.0.1:9090".to_owned()]).unwrap()
    }

    fn parse(urls: Value) -> Result<Vec<String>, Refused> {
        let body = json!({
            "remote_host_type": "graphite", "remote_target": "a", "metric": "a.b", "key": "k", "token": "None",
            "user": null, "password": "None", "fetch_resolution_urls": urls,
        });
        let request = Request::parse(body.to_string().as_bytes(), &hosts())?;
        Ok(request.urls.iter().map(Uri::to_string).collect())
    }

    #[test]
    fn urls_come_as_a_list_of_either_language() {
        let expected = [
            "http://graphite.example/render/?target=a(%22b%22)",
            "http://graphite.example/2",
        ];
        for urls in [
            json!([
                "http://graphite.example/render/?target=a(\"b\")",
                "http://graphite.example/2"
            ]),
            json!(
                "['http://graphite.example/render/?target=a(\"b\")', 'http://graphite.example/2']"
            ),
            json!(
                "('http://graphite.example/render/?target=a(\"b\")', \"http://graphite.example/2\",)"
            ),
            json!(
                "\"['http://graphite.example/render/?target=a(%22b%22)', 'http://graphite.example/2']\""
            ),
        ] {
            assert_eq!(parse(urls.clone()).unwrap(), expected, "{urls}");
        }
        for urls in [
            json!(null),
            json!("None"),
            json!("()"),
            json!([]),
            json!("['a"),
            json!("x"),
            json!("__import__('os')"),
            json!([5]),
            json!(""),
        ] {
            assert_eq!(parse(urls.clone()), Err(Refused::NoUrls), "{urls}");
        }
    }

    #[test]
    fn only_named_hosts_are_asked() {
        for url in [
            "http://169.254.169.254/latest/meta-data",
            "http://127.0.0.1/",
            "http://127.0.0.1:9091/",
            "http://graphite.example@evil.example/",
            "http://evil.example#graphite.example",
            "http://graphite.example.evil.example/",
            "http://graphite.example:80@10.0.0.1/",
            "file:///etc/passwd",
            "gopher://graphite.example/",
            "/render",
        ] {
            let refused = parse(json!([url]));
            assert!(
                matches!(refused, Err(Refused::Host(_) | Refused::NoUrls)),
                "{url}: {refused:?}"
            );
        }
        for url in [
            "https://GRAPHITE.example:8443/",
            "http://127.0.0.1:9090/api",
        ] {
            parse(json!([url])).unwrap();
        }
        for host in ["a/b", "", "http://a", "u@h"] {
            Hosts::new(&[host.to_owned()]).unwrap_err();
        }
    }
}
