//! The variables of cf-metrics-refinery: their names, what they hold, and reading them with all problems at once.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use tributary_node::config::Duration;

use crate::options::nearest;

/// In front of all of them.
const PREFIX: &str = "CFMR_";

/// What a variable holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    Secret,
    /// `http` or `https`.
    Url,
    /// Go's notation: `60000ms`, `1m30s`.
    Duration,
    /// Go's words: `1`, `t`, `true`, `0`, `f`, `false`, in the cases that Go knows.
    Boolean,
    /// A whole number above zero.
    Number,
    /// Separated by commas.
    List,
}

/// One variable.
#[derive(Debug, Clone, Copy)]
pub(super) struct Variable {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) default: &'static str,
    required: Required,
    about: &'static str,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Required {
    No,
    Yes,
    /// Unless there is another login.
    Login,
}

macro_rules! variables {
    ($($name:literal $kind:ident $required:ident $default:literal $about:literal;)*) => {
        &[$(Variable { name: $name, kind: Kind::$kind, required: Required::$required, default: $default, about: $about }),*]
    };
}

/// Every one, in the order of the help.
pub(super) const VARIABLES: &[Variable] = variables! {
    "CFMR_CF_API" Url Yes "" "Cloud Controller";
    "CFMR_CF_TOKEN" Secret No "" "a bearer token, in place of any login";
    "CFMR_CF_CLIENTID" Text No "" "UAA client, in place of a user";
    "CFMR_CF_CLIENTSECRET" Secret No "" "its secret";
    "CFMR_CF_USER" Text Login "" "user, where there is neither token nor client";
    "CFMR_CF_PASSWORD" Secret Login "" "its password";
    "CFMR_CF_TIMEOUT" Duration No "1m" "of one request";
    "CFMR_CF_SKIPSSLVALIDATION" Boolean No "false" "refused when true: set CFMR_CF_CA";
    "CFMR_CF_CA" Text No "" "new: CA of the Cloud Controller's and UAA's certificates, a PEM file or PEM text";
    "CFMR_CF_RESULTSPERPAGE" Number No "50" "apps asked for at a time";
    "CFMR_INFLUXDB_ADDR" Url Yes "" "InfluxDB";
    "CFMR_INFLUXDB_DATABASE" Text Yes "" "database";
    "CFMR_INFLUXDB_USERNAME" Text No "" "user; none: no authentication";
    "CFMR_INFLUXDB_PASSWORD" Secret No "" "its password";
    "CFMR_INFLUXDB_RETENTIONPOLICY" Text No "" "retention policy; none: the database's default";
    "CFMR_INFLUXDB_SKIPSSLVALIDATION" Boolean No "false" "refused when true: set CFMR_INFLUXDB_CA";
    "CFMR_INFLUXDB_CA" Text No "" "new: CA of InfluxDB's certificate, a PEM file or PEM text";
    "CFMR_INFLUXDB_TIMEOUT" Duration No "1m" "of one write";
    "CFMR_INFLUXDB_INFLUXPINGTIMEOUT" Duration No "5s" "of the ping at the start";
    "CFMR_BATCHER_FLUSHINTERVAL" Duration No "3s" "how long points are gathered";
    "CFMR_BATCHER_FLUSHMESSAGES" Number No "5000" "how many points are written at once";
    "CFMR_KAFKA_BROKERS" List Yes "" "new: brokers, host:port,host:port";
    "CFMR_KAFKA_ZOOKEEPERS" List No "" "not used any more: set CFMR_KAFKA_BROKERS";
    "CFMR_KAFKA_TOPICS" List Yes "" "topics";
    "CFMR_KAFKA_CONSUMERGROUP" Text Yes "" "consumer group";
    "CFMR_KAFKA_PROCESSINGTIMEOUT" Duration No "1m" "how long what is in hand may take at the end";
    "CFMR_KAFKA_OFFSETNEWEST" Boolean No "false" "a new group starts at the newest message, not the oldest";
    "CFMR_SERVER_PORT" Number No "8080" "HTTP; without it PORT counts";
    "CFMR_METADATAREFRESH" Duration No "10m" "how often all apps are read anew";
    "CFMR_METADATAEXPIRE" Duration No "3m" "an app that sends nothing is forgotten after it";
    "CFMR_METADATAEXPIRECHECK" Duration No "1m" "how often that is looked at";
    "CFMR_NEGATIVECACHEEXPIRE" Duration No "20m" "an app that does not exist is not asked for so long";
    "CFMR_NEGATIVECACHEEXPIRECHECK" Duration No "3m" "how often that is looked at";
};

/// The variables as they were given, without those that are empty.
#[derive(Debug)]
pub(super) struct Given(BTreeMap<String, String>);

/// The values of all variables, each good or at its default.
#[derive(Debug)]
pub(super) struct Values(BTreeMap<&'static str, String>);

impl Kind {
    fn as_str(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Secret => "secret",
            Self::Url => "URL",
            Self::Duration => "duration",
            Self::Boolean => "true/false",
            Self::Number => "number",
            Self::List => "list",
        }
    }

    /// What is wrong with a value of this kind.
    fn problem(self, text: &str) -> Option<String> {
        match self {
            Self::Text | Self::Secret => None,
            Self::Url => {
                let good = ["http://", "https://"]
                    .iter()
                    .any(|scheme| text.starts_with(scheme));
                // Not the value: there may be a password in it.
                (!good).then(|| "is neither an http nor an https URL".to_owned())
            }
            Self::Duration => duration(text).err(),
            Self::Boolean => boolean(text)
                .is_none()
                .then(|| format!("{text:?} is neither true nor false (1, t, true, 0, f, false)")),
            Self::Number => {
                let good = text.parse::<u32>().is_ok_and(|number| number > 0);
                (!good).then(|| format!("{text:?} is no whole number above 0"))
            }
            Self::List => list(text)
                .is_empty()
                .then(|| format!("{text:?} names none")),
        }
    }
}

impl Given {
    /// Of all variables of a process those that matter.
    pub(super) fn new(variables: impl IntoIterator<Item = (String, String)>) -> Self {
        let set = |(_, value): &(String, String)| !value.is_empty();
        Self(variables.into_iter().filter(set).collect())
    }

    /// A variable that was given.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// All values, or all that is wrong with them.
    pub(super) fn read(&self) -> Result<Values, Vec<String>> {
        let mut problems = Vec::new();
        for name in self.0.keys().filter(|name| name.starts_with(PREFIX)) {
            if VARIABLES.iter().any(|known| known.name == name) {
                continue;
            }
            let near = nearest(name, VARIABLES.iter().map(|known| known.name));
            let hint = near.map_or_else(String::new, |near| format!(", did you mean {near}?"));
            problems.push(format!("{name}: there is no such variable{hint}"));
        }
        let mut values = BTreeMap::new();
        let has_login = ["CFMR_CF_TOKEN", "CFMR_CF_CLIENTID"]
            .iter()
            .any(|name| self.get(name).is_some());
        for variable in VARIABLES {
            let Variable {
                name,
                kind,
                default,
                required,
                ..
            } = *variable;
            let Some(text) = self.get(name) else {
                let missing = match required {
                    Required::No => false,
                    Required::Yes => true,
                    Required::Login => !has_login,
                };
                if missing {
                    problems.push(self.missing(name));
                }
                values.insert(name, default.to_owned());
                continue;
            };
            problems.extend(kind.problem(text).map(|what| format!("{name}: {what}")));
            values.insert(name, text.to_owned());
        }
        self.together(&mut problems);
        match problems.is_empty() {
            true => Ok(Values(values)),
            false => Err(problems),
        }
    }

    fn missing(&self, name: &str) -> String {
        match name {
            "CFMR_KAFKA_BROKERS" if self.get("CFMR_KAFKA_ZOOKEEPERS").is_some() => {
                "CFMR_KAFKA_ZOOKEEPERS: ZooKeeper is not asked any more, neither for brokers nor for offsets: set CFMR_KAFKA_BROKERS to the brokers \
                 themselves, as host:9092,host:9092"
                    .to_owned()
            }
            "CFMR_CF_USER" | "CFMR_CF_PASSWORD" => {
                format!("{name}: is required, unless there is CFMR_CF_TOKEN, or CFMR_CF_CLIENTID with CFMR_CF_CLIENTSECRET")
            }
            _ => format!("{name}: is required"),
        }
    }

    /// What is wrong with values beside others.
    fn together(&self, problems: &mut Vec<String>) {
        let mut wrong = |problem: &str| problems.push(problem.to_owned());
        if self
            .get("CFMR_CF_TOKEN")
            .is_some_and(|token| token.to_ascii_lowercase().starts_with("bearer"))
        {
            wrong("CFMR_CF_TOKEN: begins with \"bearer\": give the token alone");
        }
        let client =
            ["CFMR_CF_CLIENTID", "CFMR_CF_CLIENTSECRET"].map(|name| self.get(name).is_some());
        match client {
            [true, false] => wrong("CFMR_CF_CLIENTSECRET: is required with CFMR_CF_CLIENTID"),
            [false, true] => wrong("CFMR_CF_CLIENTID: is required with CFMR_CF_CLIENTSECRET"),
            _ => {}
        }
        if self.get("CFMR_INFLUXDB_PASSWORD").is_some()
            && self.get("CFMR_INFLUXDB_USERNAME").is_none()
        {
            wrong("CFMR_INFLUXDB_USERNAME: is required with CFMR_INFLUXDB_PASSWORD");
        }
        for (name, whose, ca) in [
            (
                "CFMR_CF_SKIPSSLVALIDATION",
                "the Cloud Controller's",
                "CFMR_CF_CA",
            ),
            (
                "CFMR_INFLUXDB_SKIPSSLVALIDATION",
                "InfluxDB's",
                "CFMR_INFLUXDB_CA",
            ),
        ] {
            if self.get(name).and_then(boolean) == Some(true) {
                wrong(&format!(
                    "{name}: {whose} certificate is always verified: set {ca} to the CA that signed it (a PEM file, or the PEM text itself)"
                ));
            }
        }
        for name in ["CFMR_SERVER_PORT", "PORT"] {
            if let Some(text) = self.get(name)
                && !text.parse::<u16>().is_ok_and(|port| port > 0)
                && (name == "PORT" || Kind::Number.problem(text).is_none())
            {
                problems.push(format!("{name}: {text:?} is no port"));
            }
        }
    }
}

impl Values {
    /// A variable's text, or its default.
    pub(super) fn text(&self, name: &str) -> &str {
        self.0.get(name).map_or("", String::as_str)
    }

    pub(super) fn list(&self, name: &str) -> Vec<&str> {
        list(self.text(name))
    }

    pub(super) fn boolean(&self, name: &str) -> bool {
        boolean(self.text(name)).unwrap_or_default()
    }

    pub(super) fn number(&self, name: &str) -> u32 {
        self.text(name).parse().unwrap_or_default()
    }

    /// As our settings write it.
    pub(super) fn duration(&self, name: &str) -> String {
        duration(self.text(name)).unwrap_or_default().to_string()
    }
}

fn list(text: &str) -> Vec<&str> {
    text.split(',')
        .map(str::trim)
        .filter(|part| !part.is_empty())
        .collect()
}

/// As Go's `strconv.ParseBool` does.
fn boolean(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Some(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Some(false),
        _ => None,
    }
}

/// As Go's `time.ParseDuration` does, but for what is negative.
fn duration(text: &str) -> Result<Duration, String> {
    let text = text.strip_prefix('+').unwrap_or(text);
    match text {
        "0" => Ok(Duration::ZERO),
        _ => text
            .parse()
            .map_err(|error: tributary_node::config::DurationError| error.to_string()),
    }
}

/// The table of all variables.
pub(super) fn table() -> String {
    let row = |text: &mut String, cells: [&str; 5]| {
        let [name, kind, default, required, about] = cells;
        // Writing into a string cannot fail.
        let _ = writeln!(
            text,
            "{name:<33} {kind:<10} {default:<8} {required:<9} {about}"
        );
    };
    let mut text = String::new();
    row(
        &mut text,
        ["NAME", "KIND", "DEFAULT", "REQUIRED", "WHAT IT IS"],
    );
    for Variable {
        name,
        kind,
        default,
        required,
        about,
    } in VARIABLES
    {
        let required = match required {
            Required::No => "",
            Required::Yes => "yes",
            Required::Login => "see CF_*",
        };
        row(&mut text, [name, kind.as_str(), default, required, about]);
    }
    text
}
