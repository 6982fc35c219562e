//! What can be set. The fields' documentation is the manual.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::Deserialize;
use tributary_node::config::{Duration, Problems, Size};
use tributary_node::tls::ClientTls;

use super::address::Address;
use super::protocol::Protocol;
use super::ring::RouterKind;
use super::{Graphite, spool};
use crate::graphite::naming::{Naming, NamingConfig, TagStyle};
use crate::sink::{Sink, registry};

/// Sends points to carbon-cache, carbon-relay, or what else takes carbon's protocols.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct GraphiteConfig {
    /// `pickle` (the default): frames as carbon-relay writes them, for carbon's port 2004. `line`: a line `path value timestamp` for each point, for
    /// port 2003; values have as few digits as give them back exactly, timestamps are cut to whole seconds.
    pub protocol: Protocol,

    /// Where points go, as in carbon-relay's `DESTINATIONS`: `host:port` or `host:port:instance`, an IPv6 address in brackets, `[::1]:2004:a`. A
    /// name is looked up for each new connection. Required.
    pub destinations: Vec<String>,

    /// Which destination a path goes to. `carbon_ch` (the default) and `fnv1a_ch` are carbon-relay's consistent hashing with that
    /// `ROUTER_HASH_TYPE`: host and instance of each destination make the ring, the port does not, so that a series goes where carbon-relay sent it
    /// (carbon-c-relay's `fnv1a_ch` is another one). `all`: every point to each destination. A path's tags are always sorted before it is hashed, as
    /// carbon-relay does with `TAG_RELAY_NORMALIZED = True`.
    pub router: RouterKind,

    /// How many destinations get each point (carbon-relay's `REPLICATION_FACTOR`). Not for `all`. Default: 1.
    pub replication: usize,

    /// Whether the replicas of a point go to different hosts (carbon-relay's `DIVERSE_REPLICAS`). Default: true.
    pub diverse_replicas: bool,

    /// How many points go into one frame of pickle, at most; less where paths are long, for carbon takes no frame above 1 MiB. Default: 500, as
    /// carbon-relay has it; Skyline's Flux sends 480.
    pub max_frame_points: usize,

    /// Stands in front of each path, with a dot between. Default: empty.
    pub prefix: String,

    /// What becomes of tags: `graphite` (the default) writes `name;key=value;…`, sorted, which Graphite 1.1 and later takes as tags; `flatten` makes
    /// one path of name and tags by `template`; `drop` leaves them out, so that series that differ in tags only become one.
    pub tags: TagStyle,

    /// For `flatten`: the path, with `{name}`, `{KEY}` for the value of the tag with that key (`none` where there is no such tag), and `{tags}` for
    /// all other tags as `key.value`, joined by dots. Dots in values become `_`. Default: `{name}.{tags}`.
    pub template: String,

    /// TLS to all destinations, for those behind stunnel, a load balancer or another relay: carbon itself speaks none.
    pub tls: ClientTls,

    /// How long one attempt to connect may take, and for how long a write waits for a destination that takes nothing (six times as long for one that
    /// takes something from time to time) before it goes on without it. Default: 5s.
    pub timeout: Duration,

    /// A connection that takes nothing for so long is given up and made anew. carbon-relay stops reading while its own destinations are slow, so it
    /// should not be short. Default: 1m.
    pub stall_timeout: Duration,

    /// The pause before a destination that went away is connected again. It doubles with each failure, and a random half of it is left out. Default: 100ms.
    pub reconnect_min: Duration,

    /// The longest pause between two attempts to connect. Default: 5s.
    pub reconnect_max: Duration,

    /// Carbon answers nothing: what was written just before it closed a connection, or died, it may not have read. So what was written within this
    /// time before a connection ends is written again to the next one. A point that carbon has twice counts once. `0s` switches it off, for
    /// carbon-aggregator, which would add it twice. Default: 1s.
    pub resend: Duration,

    /// How many points may wait in memory for each destination that does not keep up. Over it they go to the disk where there is a `spool_dir`;
    /// without, the oldest are dropped and counted as `queue_full`. Takes about 100 bytes a point. Default: 100,000.
    pub queue_points: usize,

    /// Where points of destinations that are away are kept on disk: a directory, in which this sink makes one for each destination. What is there is
    /// sent when the destination is back, also after a restart. Empty (the default): in memory alone.
    pub spool_dir: PathBuf,

    /// How much disk the points of each destination may take, at least 8MiB. Over it the oldest eighth is dropped and counted as `spool_full`.
    /// Default: 1GiB.
    pub spool_max_bytes: Size,
}

impl Default for GraphiteConfig {
    fn default() -> Self {
        Self {
            protocol: Protocol::default(),
            destinations: Vec::new(),
            router: RouterKind::default(),
            replication: 1,
            diverse_replicas: true,
            max_frame_points: 500,
            prefix: String::new(),
            tags: TagStyle::default(),
            template: String::new(),
            tls: ClientTls::default(),
            timeout: Duration::seconds(5),
            stall_timeout: Duration::seconds(60),
            reconnect_min: Duration::millis(100),
            reconnect_max: Duration::seconds(5),
            resend: Duration::seconds(1),
            queue_points: 100_000,
            spool_dir: PathBuf::new(),
            spool_max_bytes: Size::bytes(1 << 30),
        }
    }
}

impl GraphiteConfig {
    pub(super) fn naming(&self) -> Result<Naming, String> {
        Naming::new(&NamingConfig {
            prefix: self.prefix.clone(),
            tags: self.tags,
            template: self.template.clone(),
        })
    }

    /// The addresses, and what is wrong with those that are none or that carbon's ring cannot tell apart.
    pub(super) fn addresses(&self) -> (Vec<Address>, Vec<String>) {
        let (mut addresses, mut problems) = (Vec::new(), Vec::new());
        let mut known = BTreeSet::new();
        for (index, text) in self.destinations.iter().enumerate() {
            let address = match Address::parse(text) {
                Ok(address) => address,
                Err(problem) => {
                    problems.push(format!("destinations[{index}]: {problem}"));
                    continue;
                }
            };
            let port = (self.router == RouterKind::All).then_some(address.port);
            if !known.insert((address.host.clone(), port, address.instance.clone())) {
                problems.push(match self.router {
                    RouterKind::All => format!("destinations[{index}]: `{text}` is there twice"),
                    _ => format!(
                        "destinations[{index}]: another one has the host and instance of `{text}`, give each an instance of its own"
                    ),
                });
            }
            addresses.push(address);
        }
        (addresses, problems)
    }

    fn check_replication(&self, addresses: &[Address], problems: &mut Vec<String>) {
        let replication = self.replication;
        if self.router == RouterKind::All {
            if replication != 1 {
                problems.push("replication: has no meaning with `router: all`".to_owned());
            }
            return;
        }
        let hosts: BTreeSet<_> = addresses.iter().map(|address| &address.host).collect();
        let (most, what) = match self.diverse_replicas {
            true => (hosts.len(), "hosts (see diverse_replicas)"),
            false => (addresses.len(), "destinations"),
        };
        if replication == 0 {
            problems.push("replication: has to be 1 at least".to_owned());
        } else if replication > most {
            problems.push(format!(
                "replication: {replication} is more than the {most} {what}"
            ));
        }
    }
}

impl registry::Build for GraphiteConfig {
    const EXAMPLE: &'static str = "\
- kind: graphite
  config:
    destinations: [\"carbon-1.example.com:2004:a\", \"carbon-2.example.com:2004:b\"]
    router: carbon_ch
    replication: 2
    spool_dir: /var/lib/tributary/spool
";
    const GUIDE: &'static str = "graphite.md";

    fn problems(&self) -> Vec<String> {
        let (addresses, mut problems) = self.addresses();
        if self.destinations.is_empty() {
            problems.push("destinations: there is none".to_owned());
        } else if problems.is_empty() {
            self.check_replication(&addresses, &mut problems);
        }
        problems.extend(self.naming().err());
        let mut tls = Problems::new("");
        self.tls.check("tls", &mut tls);
        problems.extend(
            tls.iter()
                .map(|problem| format!("{}: {}", problem.key, problem.what)),
        );
        for (key, value) in [
            ("max_frame_points", self.max_frame_points),
            ("queue_points", self.queue_points),
        ] {
            if value == 0 {
                problems.push(format!("{key}: has to be 1 at least"));
            }
        }
        for (key, value) in [
            ("timeout", self.timeout),
            ("stall_timeout", self.stall_timeout),
            ("reconnect_min", self.reconnect_min),
            ("reconnect_max", self.reconnect_max),
        ] {
            if value.is_zero() {
                problems.push(format!("{key}: is zero"));
            }
        }
        if self.reconnect_max < self.reconnect_min {
            problems.push("reconnect_max: is shorter than reconnect_min".to_owned());
        }
        if self.spool_max_bytes < Size::bytes(spool::SMALLEST) {
            problems.push("spool_max_bytes: has to be 8MiB at least".to_owned());
        }
        if self.spool_dir.exists() && !self.spool_dir.is_dir() {
            let path = self.spool_dir.display();
            problems.push(format!("spool_dir: `{path}` is no directory"));
        }
        problems
    }

    fn build(self, name: &str) -> Result<Box<dyn Sink>, String> {
        Ok(Box::new(Graphite::start(self, name)?))
    }
}

/// The directory of one destination of one sink. Names that differ have directories that differ.
pub(super) fn spool_path(directory: &Path, sink: &str, destination: &str) -> PathBuf {
    let plain = |text: &str| -> String {
        let fine = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.';
        let short = text.chars().take(80);
        let short = short.map(|c| if fine(c) { c } else { '_' });
        format!(
            "{}-{:08x}",
            short.collect::<String>(),
            crc32fast::hash(text.as_bytes())
        )
    };
    directory.join(plain(sink)).join(plain(destination))
}
