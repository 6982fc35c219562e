//! What can be set. The fields' documentation is the manual.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tributary_node::config::{Duration, Size};

use super::Statsd;
use super::line::Lines;
use super::target::Place;
use crate::graphite::naming::{Naming, NamingConfig, TagStyle};
use crate::sink::{Sink, registry};

/// Repeats points as statsd lines.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct StatsdConfig {
    /// Where lines go: `udp://host:port`, `tcp://host:port`, `unixgram:///path` or `unix:///path`. A name is looked up for each new socket, and for UDP once a
    /// minute as well. Veneur's `repeater_address` is the same key: `host:port` with `network_type`. Default: `udp://127.0.0.1:8125`.
    #[serde(alias = "repeater_address")]
    pub address: String,

    /// For an `address` without `udp://` or `tcp://` in front: `udp` (the default) or `tcp`, as Veneur has it.
    pub network_type: Option<Network>,

    /// What becomes of tags. `dogstatsd` (the default) writes `|#tag,tag`, which Datadog's agent, statsd_exporter, telegraf and Veneur read. The others are for plain
    /// statsd, which has no tags: `graphite` makes the name `name;key=value;…`, `flatten` one name by `template`, and `drop` leaves them out, so that series
    /// that differ in tags only become one: counters add up there, of gauges one wins.
    pub tags: Tags,

    /// For `flatten`: the name, with `{name}`, `{KEY}` for the value of the tag with that key (`none` where there is no such tag), and `{tags}` for
    /// all other tags as `key.value`, joined by dots. Dots in values become `_`. Default: `{name}.{tags}`.
    pub template: String,

    /// Stands in front of each name, with a dot between. Default: empty.
    pub prefix: String,

    /// What becomes of service checks: `check` writes `_sc` lines, which are Datadog's; `gauge` writes the state, 0 to 3, as Veneur's repeater does, and loses the
    /// message; `skip` leaves them out. statsd_exporter takes no checks. Default: `check` with `tags: dogstatsd`, and `gauge` with the others.
    pub checks: Option<Checks>,

    /// Whether events are written, as `_e` lines: Datadog's agent and we take those, statsd_exporter and plain statsd do not. Default: true with `tags: dogstatsd`,
    /// and false with the others.
    pub events: Option<bool>,

    /// Whether each line has its time, as `|T1700000000`: Datadog's agent 7.40 and later takes such points as they are, other servers do not know it. Without,
    /// the server's own time counts. Needs `tags: dogstatsd`. Default: false.
    pub timestamps: bool,

    /// How long a packet may be. Default: 1432 bytes for UDP, which is the least that all networks carry in one piece; 8KiB for Unix datagrams, as Datadog's
    /// clients do; 64KiB for streams.
    pub max_packet_bytes: Option<Size>,

    /// At most so many packets in a second, so that a flush does not overrun the server's buffer; 0 is no limit. Default: 10,000, which is about 14 MB/s over UDP.
    pub packets_per_second: u32,

    /// For `unix://`: `lines` (the default), or `length_prefix`, which stands before each packet as a little-endian 32-bit number: Datadog's agent wants that on
    /// its stream socket.
    pub framing: Framing,

    /// How long points are gathered before they are sent. `0s` (the default) sends each flush, and what a source hands over, at once.
    pub interval: Duration,

    /// How long connecting, and one packet, may take. Default: 5s.
    pub timeout: Duration,

    /// The wait before what failed is sent again; it doubles with each failure up to `max_backoff`, and each wait is somewhere between half of that and all of
    /// it. Default: 500ms.
    pub backoff: Duration,

    /// The longest of those waits. Default: 30s.
    pub max_backoff: Duration,
}

/// What carries packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Network {
    /// Datagrams.
    Udp,
    /// A stream.
    Tcp,
}

/// What becomes of tags.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Tags {
    /// `|#key:value,…`.
    #[default]
    Dogstatsd,
    /// `name;key=value`.
    Graphite,
    /// One name by a template.
    Flatten,
    /// None.
    Drop,
}

/// What becomes of service checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Checks {
    /// `_sc|…`.
    Check,
    /// The state.
    Gauge,
    /// Nothing.
    Skip,
}

/// How packets stand on a Unix stream.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Framing {
    /// Each line ends with LF.
    #[default]
    Lines,
    /// Each packet has its length in front.
    LengthPrefix,
}

impl Default for StatsdConfig {
    fn default() -> Self {
        Self {
            address: "udp://127.0.0.1:8125".to_owned(),
            network_type: None,
            tags: Tags::default(),
            template: String::new(),
            prefix: String::new(),
            checks: None,
            events: None,
            timestamps: false,
            max_packet_bytes: None,
            packets_per_second: 10_000,
            framing: Framing::default(),
            interval: Duration::seconds(0),
            timeout: Duration::seconds(5),
            backoff: Duration::millis(500),
            max_backoff: Duration::seconds(30),
        }
    }
}

/// Room for a line that is worth the name.
const LEAST: u64 = 128;
/// The longest datagram there is.
const DATAGRAM: u64 = 65_507;

impl StatsdConfig {
    /// Where lines go.
    pub(super) fn place(&self) -> Result<Place, String> {
        let wrong = |what: &str| {
            Err(format!(
                "address: `{}` {what}, write it like udp://127.0.0.1:8125 or unixgram:///path",
                self.address
            ))
        };
        let (scheme, rest) = match self.address.split_once("://") {
            Some(_) if self.network_type.is_some() => {
                return Err("network_type: is for an `address` without udp:// or tcp://".to_owned());
            }
            Some(both) => both,
            None => match self.network_type {
                Some(Network::Tcp) => ("tcp", self.address.as_str()),
                _ => ("udp", self.address.as_str()),
            },
        };
        let path = || match rest.strip_prefix('/') {
            Some(_) => Ok(PathBuf::from(rest)),
            None => Err(()),
        };
        let host = || {
            let (host, port) = rest.rsplit_once(':').ok_or(())?;
            let port: u16 = port.parse().map_err(drop)?;
            let v6 = host.contains(':') && !(host.starts_with('[') && host.ends_with(']'));
            match host.is_empty() || v6 || port == 0 || host.contains(['/', '@', ' ']) {
                true => Err(()),
                false => Ok(rest.to_owned()),
            }
        };
        let place = match scheme {
            "udp" => host().map(Place::Udp),
            "tcp" => host().map(Place::Tcp),
            "unixgram" => path().map(Place::UnixDatagram),
            "unix" => path().map(Place::UnixStream),
            _ => return wrong("is neither udp, tcp, unixgram nor unix"),
        };
        match place {
            Ok(place) => Ok(place),
            Err(()) => wrong(match scheme {
                "udp" | "tcp" => "has no host and port",
                _ => "has no absolute path",
            }),
        }
    }

    pub(super) fn max_packet(&self, place: &Place) -> usize {
        let usual = match place {
            Place::Udp(_) => 1432,
            Place::UnixDatagram(_) => 8192,
            Place::Tcp(_) | Place::UnixStream(_) => 65_536,
        };
        self.max_packet_bytes.map_or(usual, Size::as_usize)
    }

    pub(super) fn lines(&self, stream: bool, most: usize) -> Result<Lines, String> {
        let style = match self.tags {
            Tags::Dogstatsd => None,
            Tags::Graphite => Some(TagStyle::Graphite),
            Tags::Flatten => Some(TagStyle::Flatten),
            Tags::Drop => Some(TagStyle::Drop),
        };
        let naming = Naming::new(&NamingConfig {
            prefix: self.prefix.clone(),
            tags: style.unwrap_or(TagStyle::Drop),
            template: self.template.clone(),
        })?;
        let dog = style.is_none();
        let usual = if dog { Checks::Check } else { Checks::Gauge };
        Ok(Lines {
            naming: style.map(|_| naming),
            prefix: match self.prefix.trim_end_matches('.') {
                "" => String::new(),
                prefix => format!("{prefix}."),
            },
            checks: self.checks.unwrap_or(usual),
            events: self.events.unwrap_or(dog),
            timestamps: self.timestamps,
            ended: stream,
            most,
            line: String::new(),
        })
    }
}

impl registry::Build for StatsdConfig {
    const EXAMPLE: &'static str = "\
- kind: statsd
  config:
    address: udp://127.0.0.1:8125
";
    const GUIDE: &'static str = "statsd-repeater.md";

    fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let dog = self.tags == Tags::Dogstatsd;
        problems.extend(self.lines(false, 0).err());
        if !dog && self.checks == Some(Checks::Check) {
            problems.push("checks: `check` needs `tags: dogstatsd`".to_owned());
        }
        if !dog && self.events == Some(true) {
            problems.push("events: needs `tags: dogstatsd`".to_owned());
        }
        if !dog && self.timestamps {
            problems.push("timestamps: needs `tags: dogstatsd`".to_owned());
        }
        match self.place() {
            Ok(place) => {
                let most = if place.is_stream() { 1 << 20 } else { DATAGRAM };
                let given = self.max_packet_bytes.map_or(LEAST, Size::get);
                if !(LEAST..=most).contains(&given) {
                    problems.push(format!(
                        "max_packet_bytes: {given} is not between {LEAST} and {most}"
                    ));
                }
                let unix = matches!(place, Place::UnixStream(_));
                if self.framing == Framing::LengthPrefix && !unix {
                    problems.push("framing: `length_prefix` is for unix://".to_owned());
                }
            }
            Err(problem) => problems.push(problem),
        }
        for (key, value) in [("timeout", self.timeout), ("backoff", self.backoff)] {
            if value.is_zero() {
                problems.push(format!("{key}: is zero"));
            }
        }
        if self.max_backoff < self.backoff {
            problems.push("max_backoff: is shorter than `backoff`".to_owned());
        }
        problems
    }

    fn build(self, name: &str) -> Result<Box<dyn Sink>, String> {
        Ok(Box::new(Statsd::new(&self, name)?))
    }
}
