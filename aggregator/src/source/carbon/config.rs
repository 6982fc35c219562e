//! The settings. The documentation of the fields is the manual.

use std::collections::BTreeMap;

use async_trait::async_trait;
use regex::Regex;
use schemars::JsonSchema;
use serde::Deserialize;
use tributary_node::config::{Duration, Size};

use super::naming::Naming;
use super::{Carbon, Plan};
use crate::key::Kind;
use crate::source::listen::ListenAddress;
use crate::source::{Source, registry};

/// Takes what Graphite's carbon takes: text lines over TCP and UDP, and pickles over TCP. At least one address has to be set.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct CarbonConfig {
    /// `host:port` for text lines over TCP, `path value timestamp`; carbon's own is port 2003. No host means every interface, port 0 any free one.
    /// Default: none.
    pub line: Option<String>,

    /// `host:port` for pickles over TCP, as carbon-relay, Salt and Diamond send them; carbon's own is port 2004. Anyone who can connect may send: there is
    /// no authentication in the protocol. Nothing of a pickle is ever executed. Default: none.
    pub pickle: Option<String>,

    /// `host:port` for text lines over UDP, one or several to a datagram. Default: none.
    pub udp: Option<String>,

    /// The longest line without its end, in bytes. A longer one is counted and skipped up to the next line feed; carbon closes the connection and loses the
    /// lines behind it as well. Default: 16KiB, as carbon has it.
    pub max_line: Size,

    /// The longest pickle, in bytes, from 1 to 64MiB. A peer that announces a longer one is disconnected, as by carbon, before anything of it is read. A
    /// connection takes up to that much memory while a pickle arrives. Default: 1MiB, as carbon has it.
    pub max_frame: Size,

    /// How many connections may be open at each TCP address; one more is closed at once, and counted. Default: 1024.
    pub max_connections: usize,

    /// A connection that is silent for so long is closed. It should be longer than the interval at which clients send. `0s`: never. Default: 10m.
    pub idle_timeout: Duration,

    /// The receive buffer to ask the system for, for UDP; 0 leaves the system's own default. Default: 2MiB.
    pub read_buffer_size_bytes: Size,

    /// Whether points are aggregated like DogStatsD's samples, in place of going to the sinks as they are. They then are gauges or counters (see `rules`)
    /// of the interval in which they arrive: their timestamps are not looked at, an agent forwards what belongs upstream, and of several values of a gauge
    /// in one interval the last one counts. Default: false; each point goes to the sinks with its own timestamp, as a gauge.
    pub aggregate: bool,

    /// With `aggregate`: what a series is. The first rule whose `match` finds a place in the name decides. Default: none, and what no rule matches is a gauge.
    pub rules: Vec<Rule>,

    /// Texts in names, each with what stands in its place: `{"/": "_"}`. Applied to names and not to tags, in the order of the texts. Default: none; names
    /// stay as they are, with slashes and all.
    pub replace: BTreeMap<String, String>,

    /// Whether dots at both ends of a name are taken off and several in a row become one. Default: false.
    pub normalise: bool,

    /// What becomes of text lines whose name has a character that Graphite cannot be asked for by name: a control character or one of `*?[]{}()"',\` and the
    /// back quote. `keep` (the default, as carbon does), `replace` (by `_`) or `refuse` (and count). Pickled names are never looked at: their senders can
    /// mean any character.
    pub invalid_characters: InvalidCharacters,
}

/// What a series is, by its name.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// A regular expression that finds a place in the name (without tags).
    pub r#match: String,
    /// `counter`: values are summed up over the interval. `gauge`: the last value counts.
    pub kind: RuleKind,
}

/// What values mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RuleKind {
    /// A sum over the interval.
    Counter,
    /// The last value.
    Gauge,
}

/// What becomes of names that cannot be asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum InvalidCharacters {
    /// Nothing.
    #[default]
    Keep,
    /// Each such character becomes `_`.
    Replace,
    /// The line is not taken.
    Refuse,
}

/// A frame's places are numbered in 32 bits, and one that large is no metrics.
const LARGEST_FRAME: Size = Size::mib(64);

/// As large as anyone's line can sensibly be.
const LARGEST_LINE: Size = Size::mib(1);

impl Default for CarbonConfig {
    fn default() -> Self {
        Self {
            line: None,
            pickle: None,
            udp: None,
            max_line: Size::kib(16),
            max_frame: Size::mib(1),
            max_connections: 1024,
            idle_timeout: Duration::seconds(600),
            read_buffer_size_bytes: Size::mib(2),
            aggregate: false,
            rules: Vec::new(),
            replace: BTreeMap::new(),
            normalise: false,
            invalid_characters: InvalidCharacters::default(),
        }
    }
}

impl CarbonConfig {
    /// All of it but the addresses, compiled.
    pub(super) fn plan(&self, name: &str) -> Result<Plan, String> {
        Ok(Plan {
            name: name.to_owned(),
            max_line: self.max_line.as_usize(),
            max_frame: self.max_frame.as_usize(),
            max_connections: self.max_connections,
            idle: Some(self.idle_timeout.get()).filter(|idle| !idle.is_zero()),
            aggregate: self.aggregate,
            rules: compile(&self.rules).map_err(|found| found.join("; "))?,
            naming: Naming::new(self),
        })
    }

    fn addresses(&self) -> [(&'static str, &'static str, &Option<String>); 3] {
        [
            ("line", "tcp", &self.line),
            ("pickle", "tcp", &self.pickle),
            ("udp", "udp", &self.udp),
        ]
    }
}

/// The address under that scheme.
pub(super) fn listen_address(scheme: &str, address: &str) -> Result<ListenAddress, String> {
    format!("{scheme}://{address}")
        .parse()
        .map_err(|_| format!("`{address}` is not `host:port`, as in 127.0.0.1:2003"))
}

#[async_trait]
impl registry::Build for CarbonConfig {
    const EXAMPLE: &'static str = "\
- kind: carbon
  config:
    line: 0.0.0.0:2003
    pickle: 0.0.0.0:2004
";
    const GUIDE: &'static str = "carbon.md";

    fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let addresses = self.addresses();
        if addresses.iter().all(|(_, _, address)| address.is_none()) {
            problems.push("line: at least one of line, pickle and udp has to be set".to_owned());
        }
        for (key, scheme, address) in addresses {
            let problem = address
                .as_deref()
                .and_then(|address| listen_address(scheme, address).err());
            problems.extend(problem.map(|problem| format!("{key}: {problem}")));
        }
        for (key, size, largest) in [
            ("max_line", self.max_line, LARGEST_LINE),
            ("max_frame", self.max_frame, LARGEST_FRAME),
        ] {
            if size == Size::default() || size > largest {
                problems.push(format!("{key}: {size} is not from 1 to {largest}"));
            }
        }
        if self.max_connections == 0 {
            problems.push("max_connections: has to be at least 1".to_owned());
        }
        if !self.rules.is_empty() && !self.aggregate {
            problems.push("rules: have no meaning without `aggregate: true`".to_owned());
        }
        if self.replace.contains_key("") {
            problems.push("replace: an empty text stands everywhere".to_owned());
        }
        if let Err(found) = compile(&self.rules) {
            problems.extend(found);
        }
        problems
    }

    async fn open(self, name: &str) -> Result<Box<dyn Source>, String> {
        let plan = self.plan(name)?;
        Ok(Box::new(Carbon::open(&self, plan)?))
    }
}

/// All expressions, or what is wrong with each bad one.
fn compile(rules: &[Rule]) -> Result<Vec<(Regex, Kind)>, Vec<String>> {
    let mut compiled = Vec::with_capacity(rules.len());
    let mut problems = Vec::new();
    for (index, rule) in rules.iter().enumerate() {
        let kind = match rule.kind {
            RuleKind::Counter => Kind::Counter,
            RuleKind::Gauge => Kind::Gauge,
        };
        match Regex::new(&rule.r#match) {
            Ok(regex) => compiled.push((regex, kind)),
            Err(error) => {
                // The crate draws the place over several lines; the last says what is wrong.
                let text = error.to_string();
                let last = text.lines().last().unwrap_or_default();
                let cause = last.trim().trim_start_matches("error: ");
                problems.push(format!(
                    "rules[{index}].match: `{}` is no regular expression: {cause}",
                    rule.r#match
                ));
            }
        }
    }
    if problems.is_empty() {
        Ok(compiled)
    } else {
        Err(problems)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::source::registry::find;

    #[test]
    fn every_problem_is_told_with_its_key() {
        let check = |config| find("carbon").unwrap().check(&config);
        assert_eq!(check(json!({"line": "127.0.0.1:2003"})), [""; 0]);
        assert_eq!(check(json!({"udp": ":0", "idle_timeout": "0s"})), [""; 0]);
        assert_eq!(
            check(json!({})),
            ["line: at least one of line, pickle and udp has to be set"]
        );
        assert_eq!(
            check(json!({
                "pickle": "2004", "max_frame": "65MiB", "max_line": 0, "max_connections": 0, "replace": {"": "_"},
                "rules": [{"match": "(", "kind": "counter"}],
            })),
            [
                "pickle: `2004` is not `host:port`, as in 127.0.0.1:2003",
                "max_line: 0 is not from 1 to 1MiB",
                "max_frame: 65MiB is not from 1 to 64MiB",
                "max_connections: has to be at least 1",
                "rules: have no meaning without `aggregate: true`",
                "replace: an empty text stands everywhere",
                "rules[0].match: `(` is no regular expression: unclosed group",
            ]
        );
    }
}
