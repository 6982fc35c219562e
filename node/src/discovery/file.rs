//! Endpoints from a file that is watched: a YAML or JSON list of `host:port`, or of `{address, weight}`.
//!
//! It is read every second, and its content decides: that sees a file that is written over, one that is moved into its place, and a
//! Kubernetes ConfigMap, whose files change by a link two folders above being switched, on every file system alike. A file that cannot be
//! read or is wrong leaves the last good list as it is.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_saphyr::Spanned;
use tokio::io::AsyncReadExt;

use super::background::{self, Answers, Background};
use super::{Endpoint, Settings};

const LOOK_EVERY: Duration = Duration::from_secs(1);
/// A file that stays wrong is told again so often.
const REMIND_EVERY: Duration = Duration::from_secs(30);
/// Far more than as many endpoints as a ring can hold.
const LONGEST: u64 = 8 * 1024 * 1024;

pub(super) fn check(settings: &Settings, wrong: &mut dyn FnMut(&str, &dyn fmt::Display)) {
    if settings.path.is_empty() {
        wrong("path", &"must name the file");
    }
}

/// Starts to watch the file.
pub(super) fn start(settings: &Settings) -> Background {
    let path = PathBuf::from(&settings.path);
    background::start(&settings.path, |answers| watch(path, answers))
}

async fn watch(path: PathBuf, mut answers: Answers) {
    let mut seen = None;
    let mut reminded = Instant::now();
    loop {
        let since = Instant::now();
        let content = read(&path).await;
        let unchanged = seen.as_ref() == Some(&content);
        match content.as_deref().map_err(Clone::clone).and_then(parse) {
            Ok(_) if unchanged => {}
            Ok(endpoints) => answers.tell(endpoints, since).await,
            Err(_) if unchanged && reminded.elapsed() < REMIND_EVERY => {}
            Err(error) => {
                reminded = since;
                answers.fail(told(&path, &error)).await;
            }
        }
        seen = Some(content);
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// What is wrong with a file, and where in it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Wrong {
    line: Option<u64>,
    what: String,
}

fn told(path: &Path, Wrong { line, what }: &Wrong) -> String {
    match line {
        Some(line) => format!("{}:{line}: {what}", path.display()),
        None => format!("{}: {what}", path.display()),
    }
}

async fn read(path: &Path) -> Result<String, Wrong> {
    let read = async {
        let file = tokio::fs::File::open(path).await?;
        let mut text = String::new();
        file.take(LONGEST + 1).read_to_string(&mut text).await?;
        match text.len() as u64 > LONGEST {
            true => Err(io::Error::other(format!("has more than {LONGEST} bytes"))),
            false => Ok(text),
        }
    };
    read.await.map_err(|error| Wrong {
        line: None,
        what: format!("cannot be read: {error}"),
    })
}

/// An element of the list, as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    address: String,
    #[serde(default = "one")]
    weight: i64,
}

fn one() -> i64 {
    1
}

/// Either form of an element.
struct Element(Written);

impl<'de> Deserialize<'de> for Element {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = Element;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("host:port, or an address and a weight")
            }
            fn visit_str<E>(self, address: &str) -> Result<Element, E> {
                Ok(Element(Written {
                    address: address.to_owned(),
                    weight: one(),
                }))
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Element, A::Error> {
                Written::deserialize(MapAccessDeserializer::new(map)).map(Element)
            }
        }
        deserializer.deserialize_any(Either)
    }
}

fn parse(text: &str) -> Result<Vec<Endpoint>, Wrong> {
    let options = serde_saphyr::options! {
        duplicate_keys: serde_saphyr::options::DuplicateKeyPolicy::Error,
        with_snippet: false,
    };
    let list: Option<Vec<Spanned<Element>>> = serde_saphyr::from_str_with_options(text, options)
        .map_err(|error| Wrong {
            line: error.location().map(|place| place.line()),
            what: crate::config::yaml_error_text(&error),
        })?;
    let mut endpoints: Vec<Endpoint> = Vec::new();
    for element in list.unwrap_or_default() {
        let line = Some(element.referenced.line());
        let Element(Written { address, weight }) = element.value;
        let wrong = |what: String| Err(Wrong { line, what });
        if !is_address(&address) {
            return wrong(format!(
                "{address:?} is no address, write it like 10.0.0.1:8128"
            ));
        }
        let Ok(weight) = u16::try_from(weight) else {
            return wrong(format!("weight {weight} is not within 0 and {}", u16::MAX));
        };
        if endpoints.iter().any(|known| known.address == address) {
            return wrong(format!("{address} stands here for the second time"));
        }
        endpoints.push(Endpoint { address, weight });
    }
    if endpoints.iter().all(|endpoint| endpoint.weight == 0) {
        let what = match endpoints.is_empty() {
            true => "names nobody",
            false => "gives nobody any weight",
        };
        return Err(Wrong {
            line: None,
            what: what.to_owned(),
        });
    }
    Ok(endpoints)
}

/// `host:port`, or the same behind `http://` for legacy JSON.
fn is_address(text: &str) -> bool {
    let authority = text.strip_prefix("http://").unwrap_or(text);
    let Ok(parsed) = authority.parse::<http::uri::Authority>() else {
        return false;
    };
    !authority.contains('@')
        && !parsed.host().is_empty()
        && parsed.port_u16().is_some_and(|port| port != 0)
}

#[cfg(test)]
mod tests {
    use super::super::Discovery;
    use super::*;

    fn endpoint(address: &str, weight: u16) -> Endpoint {
        Endpoint {
            address: address.to_owned(),
            weight,
        }
    }

    #[test]
    fn both_forms_are_understood_in_yaml_and_in_json() {
        let expected = [endpoint("g1:8128", 1), endpoint("[::1]:8128", 3)];
        for text in [
            "# the globals\n- g1:8128\n- {address: '[::1]:8128', weight: 3}\n",
            "- address: g1:8128\n- address: '[::1]:8128'\n  weight: 3\n",
            r#"["g1:8128", {"address": "[::1]:8128", "weight": 3}]"#,
        ] {
            assert_eq!(parse(text).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        for (text, line, told) in [
            ("- g1:8128\n- g2\n", Some(2), "\"g2\" is no address"),
            ("- g1:8128\n\n- https://g2:1\n", Some(3), "is no address"),
            ("- g1:1\n- g1:1\n", Some(2), "second time"),
            (
                "- {address: 'g1:1', wieght: 2}\n",
                Some(1),
                "unknown field `wieght`",
            ),
            ("- {weight: 2}\n", Some(1), "missing field `address`"),
            ("- g1:1\n- 17\n", Some(2), "host:port"),
            (
                "- {address: 'g:1', weight: 70000}\n",
                Some(1),
                "weight 70000",
            ),
            ("- {address: 'g:1', weight: -1}\n", Some(1), "weight -1"),
            ("globals: [g1:1]\n", Some(1), "expected"),
            ("- g1:1\n- 'g2\n", None, ""),
            ("", None, "names nobody"),
            ("[]", None, "names nobody"),
            ("- {address: 'g:1', weight: 0}", None, "any weight"),
        ] {
            let wrong = parse(text).unwrap_err();
            assert!(wrong.what.contains(told), "{text}: {wrong:?}");
            assert!(line.is_none() || wrong.line == line, "{text}: {wrong:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_file_that_is_moved_into_place_is_seen_and_a_broken_one_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("globals.yaml");
        let put = |text: &str| {
            let other = folder.path().join("new");
            std::fs::write(&other, text).unwrap();
            std::fs::rename(&other, &path).unwrap();
        };
        let settings = Settings {
            path: path.to_string_lossy().into_owned(),
            ..Settings::default()
        };
        let mut file = start(&settings);
        let error = file.next().await.unwrap_err().to_string();
        assert!(error.contains("globals.yaml: cannot be read"), "{error}");

        put("- g2:1\n- g1:1\n");
        let both = [endpoint("g1:1", 1), endpoint("g2:1", 1)];
        assert_eq!(file.next().await.unwrap(), both);
        put("- g2:1\n- g1:1\n- g3\n");
        let error = file.next().await.unwrap_err().to_string();
        assert!(error.contains("globals.yaml:3: \"g3\""), "{error}");
        let again = file.next().await.unwrap_err().to_string();
        assert_eq!(again, error, "a file that stays wrong is told again");
        put("- g1:1\n- g2:1\n- g3:1\n");
        assert_eq!(file.next().await.unwrap().len(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn a_config_map_that_is_switched_is_seen() {
        let folder = tempfile::tempdir().unwrap();
        let version = |name: &str, text: &str| {
            let version = folder.path().join(name);
            std::fs::create_dir(&version).unwrap();
            std::fs::write(version.join("globals.yaml"), text).unwrap();
            let link = folder.path().join("..new");
            std::os::unix::fs::symlink(name, &link).unwrap();
            std::fs::rename(&link, folder.path().join("..data")).unwrap();
        };
        version("..1", "[g1:1]");
        let path = folder.path().join("globals.yaml");
        std::os::unix::fs::symlink("..data/globals.yaml", &path).unwrap();
        let mut file = start(&Settings {
            path: path.to_string_lossy().into_owned(),
            ..Settings::default()
        });
        assert_eq!(file.next().await.unwrap(), [endpoint("g1:1", 1)]);
        version("..2", "[{address: g2:1, weight: 2}]");
        assert_eq!(file.next().await.unwrap(), [endpoint("g2:1", 2)]);
    }
}
