//! `tributary-proxy owner`: where metrics go, answered without starting anything.

use std::io::{self, BufRead, BufWriter, Write};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use tributary_node::config::{self, Environment, Problems};
use tributary_node::discovery::Endpoint;
use tributary_node::{BoxError, Program};
use tributary_proto::metricpb::Type;

use crate::config::Config;
use crate::discovery;
use crate::ignore::IgnoredTags;
use crate::ring::Ring;

/// How long discovery may take to name the destinations.
const PATIENCE: Duration = Duration::from_secs(10);

/// Answers standard input on standard output. 1 if the settings or any line are wrong.
pub(crate) fn main(file: Option<&Path>, as_given: bool) -> ExitCode {
    let answered = load(file).and_then(|owners| {
        let output = BufWriter::new(io::stdout().lock());
        Ok(owners.answer(io::stdin().lock(), output, io::stderr().lock(), as_given)?)
    });
    match answered {
        Ok(0) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            // Nobody is left to tell when even that fails.
            let _ = writeln!(io::stderr(), "{error}");
            ExitCode::FAILURE
        }
    }
}

fn load(file: Option<&Path>) -> Result<Owners, BoxError> {
    let environment = Environment::of_process(Config::PREFIXES);
    let config = config::load::<Config>(file, &environment)?.settings;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let endpoints = runtime.block_on(async {
        let mut discovery = discovery::from_config(&config)?;
        match tokio::time::timeout(PATIENCE, discovery.next()).await {
            Ok(endpoints) => endpoints,
            Err(_) => Err(format!(
                "Consul has named no healthy instance of {:?} within {PATIENCE:?}",
                discovery.service()
            )
            .into()),
        }
    })?;
    Owners::new(&config, endpoints)
}

/// A ring and what belongs into its keys.
#[derive(Debug)]
struct Owners {
    ring: Ring,
    ignored: IgnoredTags,
}

/// Why a line names no metric.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum LineError {
    /// It is not text.
    #[error("is not utf-8")]
    Utf8,
    /// Its parts are missing.
    #[error("is not name|type|tag,tag")]
    Form,
    /// Nothing stands before the first pipe.
    #[error("has no name")]
    Name,
    /// The type is none that has an owner.
    #[error("has unknown type {0:?}")]
    Type(String),
}

impl Owners {
    fn new(config: &Config, endpoints: Vec<Endpoint>) -> Result<Self, BoxError> {
        if endpoints.is_empty() {
            return Err("no destination is known".into());
        }
        let mut problems = Problems::new("settings");
        let ignored = IgnoredTags::compile(&config.ignore_tags, &mut problems);
        if !problems.is_empty() {
            return Err(problems.into());
        }
        let algorithm = config.ring.algorithm;
        Ok(Self {
            ring: Ring::build(algorithm, algorithm.members(endpoints))?,
            ignored,
        })
    }

    /// Writes the owner of each line, or an empty line and a complaint. Returns how many complaints there were.
    fn answer(
        &self,
        mut lines: impl BufRead,
        mut output: impl Write,
        mut complaints: impl Write,
        as_given: bool,
    ) -> io::Result<u64> {
        let mut wrong = 0;
        let mut line = Vec::new();
        for number in 1_u64.. {
            line.clear();
            if lines.read_until(b'\n', &mut line)? == 0 {
                break;
            }
            let text = line.strip_suffix(b"\n").unwrap_or(&line);
            let text = text.strip_suffix(b"\r").unwrap_or(text);
            match self.key(text, as_given) {
                Ok(key) => {
                    let owner = self.ring.owner_of(&key);
                    writeln!(output, "{}", owner.map_or("", |owner| &owner.address))?;
                }
                Err(error) => {
                    wrong += 1;
                    writeln!(output)?;
                    writeln!(complaints, "line {number} {error}")?;
                }
            }
        }
        output.flush()?;
        Ok(wrong)
    }

    fn key(&self, line: &[u8], as_given: bool) -> Result<Vec<u8>, LineError> {
        key_of(line, &self.ignored, as_given)
    }
}

/// The routing key of the metric that a `name|type|tag,tag` line names: as [`tributary_proto::scan::Scanned::routing_key`] makes it of a
/// message. Tags are sorted first unless they are to be taken `as_given`.
///
/// # Errors
/// See [`LineError`].
pub fn key_of(line: &[u8], ignored: &IgnoredTags, as_given: bool) -> Result<Vec<u8>, LineError> {
    let line = std::str::from_utf8(line).map_err(|_| LineError::Utf8)?;
    let (name, rest) = line.split_once('|').ok_or(LineError::Form)?;
    let (kind, tags) = rest.split_once('|').unwrap_or((rest, ""));
    if name.is_empty() {
        return Err(LineError::Name);
    }
    let kind = kind_of(kind).ok_or_else(|| LineError::Type(kind.to_owned()))?;
    let mut tags: Vec<&str> = match tags {
        "" => Vec::new(),
        tags => tags.split(',').collect(),
    };
    if !as_given {
        tags.sort_unstable();
    }
    Ok(routing_key(name, kind, tags, ignored))
}

/// The key that a ring places: as [`tributary_proto::scan::Scanned::routing_key`] makes it of a message with these tags in this order.
pub(crate) fn routing_key(
    name: &str,
    kind: Type,
    mut tags: Vec<&str>,
    ignored: &IgnoredTags,
) -> Vec<u8> {
    tags.retain(|tag| !ignored.contains(tag));
    [name, kind.lower_name(), &tags.join(",")]
        .concat()
        .into_bytes()
}

/// A type by its name or by DogStatsD's letters for it.
pub(crate) fn kind_of(name: &str) -> Option<Type> {
    Type::from_lower_name(name).or(match name {
        "c" => Some(Type::Counter),
        "g" => Some(Type::Gauge),
        "h" | "d" => Some(Type::Histogram),
        "s" => Some(Type::Set),
        "ms" => Some(Type::Timer),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ignore::{MatchKind, TagMatcher};
    use crate::ring::Algorithm;

    fn owners(config: &Config) -> Owners {
        let endpoints = (1..=5).map(|i| Endpoint::new(format!("10.0.0.{i}:8128")));
        Owners::new(config, endpoints.collect()).unwrap()
    }

    fn veneur() -> Config {
        let mut config = Config::default();
        config.ring.algorithm = Algorithm::Veneur;
        config
    }

    /// Owners, complaints, and their number.
    fn ask(owners: &Owners, input: &str, as_given: bool) -> (Vec<String>, String, u64) {
        let (mut output, mut complaints) = (Vec::new(), Vec::new());
        let wrong = owners
            .answer(input.as_bytes(), &mut output, &mut complaints, as_given)
            .unwrap();
        let output = String::from_utf8(output).unwrap();
        let output = output.lines().map(str::to_owned).collect();
        (output, String::from_utf8(complaints).unwrap(), wrong)
    }

    #[test]
    fn it_names_the_owners_that_the_original_recorded() {
        let golden: serde_json::Value =
            serde_json::from_str(include_str!("../tests/fixtures/veneur/ring.json")).unwrap();
        let examples = golden["examples_5_nodes"]["examples"].as_array().unwrap();
        let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
        let input: String = examples
            .iter()
            .map(|example| {
                let [name, kind, tags] = ["name", "type", "tags"].map(|key| text(&example[key]));
                format!("{name}|{kind}|{tags}\n")
            })
            .collect();
        let expected: Vec<String> = examples
            .iter()
            .map(|example| text(&example["destination"]))
            .collect();
        assert_eq!(expected.len(), 20);
        let (answers, complaints, wrong) = ask(&owners(&veneur()), &input, true);
        assert_eq!((answers, complaints.as_str(), wrong), (expected, "", 0));
    }

    #[test]
    fn tags_are_sorted_as_agents_do_unless_the_order_is_to_be_kept() {
        let owners = owners(&veneur());
        let key = |as_given| owners.key(b"foo|ms|b:2,a:1", as_given).unwrap();
        assert_eq!(key(false), b"footimera:1,b:2");
        assert_eq!(key(true), b"footimerb:2,a:1");
    }

    #[test]
    fn ignored_tags_are_not_part_of_the_key() {
        let mut config = veneur();
        config.ignore_tags = vec![TagMatcher {
            kind: MatchKind::Prefix,
            value: "host:".to_owned(),
            unset: false,
        }];
        let key = owners(&config).key(b"foo|c|host:a,env:prod", false);
        assert_eq!(key.unwrap(), b"foocounterenv:prod");
    }

    #[test]
    fn a_line_that_is_none_leaves_an_empty_line_and_a_message_in_its_place() {
        let (answers, complaints, wrong) = ask(
            &owners(&veneur()),
            "a|counter|\nnonsense\n|c|\nb|x|\nb|c\r\n\nd|gauge",
            false,
        );
        assert_eq!(
            answers,
            [
                "10.0.0.5:8128",
                "",
                "",
                "",
                "10.0.0.5:8128",
                "",
                &answers[6]
            ]
        );
        assert!(answers[6].starts_with("10.0.0."));
        assert_eq!(wrong, 4);
        assert_eq!(
            complaints,
            "line 2 is not name|type|tag,tag\nline 3 has no name\nline 4 has unknown type \"x\"\n\
             line 6 is not name|type|tag,tag\n"
        );
    }
}
