//! The aggregator's settings. The documentation of each field is the manual: `docs/configuration.md` is generated from it.

mod check;
#[cfg(test)]
mod tests;

use std::num::NonZeroUsize;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tributary_node::config::{Duration, OneOrMany, Prefixes, Secret, Settings, Size};
use tributary_node::telemetry::LogFormat;
use tributary_node::telemetry::catalog::Metric;
use tributary_node::tls::{ClientTls, ServerTls};
use tributary_node::{Chassis, Program, Reload, consul, discovery};

use crate::flush::{Aggregate, Role};
#[cfg(feature = "kafka")]
use crate::forward::ForwardKafka;
use crate::forward::Protocol;
pub use crate::history::HistoryConfig;
use crate::sink::{RoutingRule, SinkConfig};
use crate::source::SourceConfig;

/// Everything that can be set. An aggregator with a `forward_address`, or a service in Consul to forward to, is an agent, one without is a global.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where DogStatsD is taken: `udp://`, `udp4://`, `udp6://`, `tcp://`, `tcp4://` or `tcp6://` with `host:port`, `unixgram:///path` or
    /// `unixgram://@name` for datagrams, `unix:///path` for streams. Default: `udp://127.0.0.1:8126` for an agent, and for an aggregator that
    /// listens nowhere else; none for a global that has a `grpc_address` or an `http_address`. A socket of one of these addresses that the process
    /// was started with (systemd's socket activation) is used instead of a new one, and likewise for `grpc_address` and `http_address`.
    pub statsd_listen_addresses: Option<Vec<String>>,

    /// TLS on the TCP addresses among them; with `client_ca_file`, only clients with a certificate come in. UDP and Unix sockets have none.
    pub statsd_tls: ServerTls,

    /// Reader threads for each UDP address, each with a socket of its own (`SO_REUSEPORT`). More than 1 helps once one thread is busy.
    pub num_readers: NonZeroUsize,

    /// Lets another process of the same user listen on the same UDP, TCP and HTTP addresses, if it has this set, too: to update an agent without
    /// losing a datagram, start the new one, wait until it is ready, then stop the old one with SIGTERM. Until then the kernel spreads senders
    /// over both. What comes to a UDP address while the old one leaves goes to the new one. Unix sockets and `grpc_address` cannot be shared.
    pub reuse_port: bool,

    /// The receive buffer to ask the system for, for each datagram socket. Bigger ones ride out longer bursts; the system's limit is
    /// `net.core.rmem_max`. 0 leaves the system's own default. Where UDP is dense (some thousand datagrams a second), a reader that has emptied its
    /// socket waits for up to a millisecond before it reads on, because being woken for each datagram would cost more CPU than reading it; a small
    /// buffer makes that shorter, so that most of it stays empty. An inherited socket is
    /// only ever enlarged: a unit's `ReceiveBuffer=` may go beyond that limit.
    pub read_buffer_size_bytes: Size,

    /// Datagrams longer than this are dropped whole and counted. DogStatsD clients on Unix sockets send up to 8192 bytes; Veneur's default of 4096 drops those.
    pub metric_max_length: Size,

    /// `host:port` of the admin server (`/healthcheck`, `/ready`, `/version`, `/config`, `/metrics`), which also takes `POST /import`, the
    /// legacy JSON. Empty: none.
    pub http_address: String,

    /// TLS on `http_address`. Probes and scrapers then need `https`, and with `client_ca_file` a certificate.
    pub http_tls: ServerTls,

    /// `host:port` where forwarded metrics are imported by gRPC, from agents or proxies. Empty: none.
    pub grpc_address: String,

    /// TLS on `grpc_address`; with `client_ca_file`, only agents or proxies with a certificate come in.
    pub grpc_tls: ServerTls,
    /// A gRPC connection is asked to end when it has stood for so long, or up to a fifth longer or shorter, and its client connects anew: behind a
    /// load balancer that balances connections, clients spread over globals that were added. `0s`: never. Proxies keep a connection to each
    /// global and need none of it; those of Veneur lose what they are sending when their stream is cut off.
    pub grpc_max_connection_age: Duration,

    /// How long calls under way have to finish on a connection that was asked to end because of its age. Then it is cut off.
    pub grpc_max_connection_age_grace: Duration,

    /// The longest message of an import, compressed or not. A longer one is refused.
    pub import_max_size: Size,

    /// How long, and in how much memory, a global remembers which metrics it has merged, so that what an agent sends again is not counted twice.
    pub dedup: Dedup,

    /// Where to forward to: one proxy's (or global's) `host:port`, or a list over which the load is spread. It makes the aggregator an agent:
    /// global counters, and the sketches of histograms, timers and sets, go there instead of to the sinks. Empty: a global.
    pub forward_address: OneOrMany<String>,

    /// Where the proxies to forward to are found, instead of naming them in `forward_address`: DNS, a file that is watched, or Kubernetes. It makes
    /// the aggregator an agent, too; there must be no `consul_forward_service_name` beside it.
    pub forward_discovery: discovery::Settings,

    /// The service in Consul whose healthy instances are the proxies to forward to, such as `veneur-proxy`. It makes the aggregator an agent, too;
    /// `forward_address` does nothing beside it. While none is known, metrics wait within `forward_retention`; one that is gone gets no more.
    pub consul_forward_service_name: String,

    /// A topic of Kafka to forward to, in place of proxies: aggregators with a source `kafka` bring what it holds to the proxies. It makes the aggregator an
    /// agent, too; there must be no other place to forward to beside it. See `docs/kafka.md`. Default: none.
    #[cfg(feature = "kafka")]
    pub forward_kafka: Option<ForwardKafka>,

    /// Consul's HTTP API, `host:port` or an `http://` or `https://` URL. Empty: what `CONSUL_HTTP_ADDR` says, or `127.0.0.1:8500`.
    pub consul_address: String,

    /// TLS to Consul, for an `https://` address, or one without a scheme. Without an `https://` address, it is spoken as soon as one of these keys is
    /// set, or `CONSUL_HTTP_SSL` is `true`; what is empty here, `CONSUL_CACERT`, `CONSUL_CLIENT_CERT`, `CONSUL_CLIENT_KEY` and
    /// `CONSUL_TLS_SERVER_NAME` may say.
    pub consul_tls: ClientTls,

    /// Consul's ACL token. It must allow `service:read` for the service and `node:read` for its nodes, and `service:write` to register. Empty: what
    /// `consul_token_file`, `CONSUL_HTTP_TOKEN` or the file named by `CONSUL_HTTP_TOKEN_FILE` says, or none.
    pub consul_token: Secret,

    /// A file with the token, in place of `consul_token`. It is read for each request to Consul, so that a new token counts at once.
    pub consul_token_file: String,

    /// The datacenter whose instances are asked for. Empty: the one of Consul's agent.
    pub consul_datacenter: String,

    /// Only instances with this tag count; of several tags, those that have them all.
    pub consul_tag: OneOrMany<String>,

    /// Lets any of Consul's servers answer, not its leader alone: it spares the leader, and works while there is none. What a server says that
    /// has not heard from a leader for 10 seconds changes nothing; then the leader is asked.
    pub consul_stale: bool,

    /// Which address of an instance is used: the `service`'s, or where it registered none the node's; or always the `node`'s.
    pub consul_address_preference: consul::AddressPreference,

    /// Consul is asked at least this often. A change is normally seen at once, since the agent waits for one.
    pub consul_refresh_interval: Duration,

    /// Registers the aggregator itself in Consul, so that proxies find a global.
    pub consul_register: consul::Register,

    /// TLS to all of `forward_address` and of `handoff_address`, written as `host:port` or `https://host:port`. Their certificates must be for
    /// that host, or for `server_name`.
    pub forward_tls: ClientTls,

    /// How metrics travel to `forward_address`: `unary` batches, a `stream` for each flush, or legacy `json` (then `forward_address` is the
    /// HTTP address of the receiver).
    pub forward_protocol: Protocol,

    /// An attempt to forward a batch that has no answer by then has failed.
    pub forward_timeout: Duration,

    /// For how long, and in how many bytes, metrics are kept and tried again while nobody takes them. What is older, or over it (oldest
    /// first), is dropped and counted.
    pub forward_retention: Retention,

    /// How often points are made of what came in.
    pub interval: Duration,

    /// Whether flushes happen on multiples of the interval (every ten seconds: at :00, :10, :20 …), so that all hosts speak of the same
    /// time. A global with a `grpc_address` flushes half an interval later, at :05, :15, :25 …, with the time of the multiple before: what all
    /// agents flushed at :10 is in one of its intervals, and has the same timestamp. Switch it off to spread the load of a fleet's flushes over
    /// the interval. Veneur's default is false.
    pub synchronize_with_interval: bool,

    /// Which percentiles of histograms and timers are emitted, each from 0 to 1. 0.99 makes `NAME.99percentile`. Veneur's default is none.
    pub percentiles: Vec<f64>,

    /// Which aggregates of histograms and timers are emitted: any of `min`, `max`, `sum`, `avg`, `count`, `median`, `hmean`.
    pub aggregates: Vec<Aggregate>,

    /// The host that points say they come from. Default: this host's name.
    pub hostname: Option<String>,

    /// Keeps the host empty where `hostname` is, instead of filling it in.
    pub omit_empty_hostname: bool,

    /// Tags that each sample gets, as `key:value` or a bare word. One takes the place of a sample's own tags with the same key.
    pub extend_tags: Vec<String>,

    /// How many series (a name, a type and tags) one interval may hold; what protects memory when a tag takes more and more values. Over it,
    /// samples and imports of new series are merged into one series for each name, type and scope, with the only tag `overflow:true`: totals
    /// stay right, their tags are lost. The log tells the names with the most series, `table.folded_total` how much was folded. Overflow series
    /// come on top, at most a tenth of this and 10000; what finds no room even there goes to `tributary.overflow`. Plan for 0.8 kB of memory
    /// a series if they are all new in each interval (1.3 kB for histograms and timers), and for what sinks hold. 0: no cap.
    pub max_series: usize,

    /// Counts how many different series ended here in each interval (`flush.unique_timeseries_total`).
    pub count_unique_timeseries: bool,

    /// Where more comes in than DogStatsD and imports: each has a `kind`, a `name` and the kind's own settings in `config`.
    pub sources: Vec<SourceConfig>,

    /// Where points go. `debug` prints them.
    pub metric_sinks: Vec<SinkConfig>,

    /// Which points go to which sinks. Without rules every sink gets everything.
    pub metric_sink_routing: Vec<RoutingRule>,

    /// Keeps the last hours of what this aggregator emits in memory, and answers Graphite's queries over it at `http_address`: `/render`,
    /// `/metrics/find` and the page `/cubism`; see `docs/history.md`. `history: {}` keeps 2 hours in at most 256 MiB. Default: none.
    pub history: Option<HistoryConfig>,

    /// Where a leaving global forwards what it has of the open interval, so that the new owner of each key merges it: one proxy's `host:port`, or
    /// a list. What nobody took by the end of `shutdown_timeout` goes to the sinks. Empty: all of it does. An agent takes no notice of it.
    pub handoff_address: OneOrMany<String>,

    /// The service in Consul whose healthy instances are the proxies to hand off to, in place of `handoff_address`.
    pub consul_handoff_service_name: String,

    /// How long a stopping aggregator may take to flush, to forward or hand off, and to let its sinks write. At its end the process ends,
    /// whatever it is doing.
    pub shutdown_timeout: Duration,

    /// Logs details.
    pub debug: bool,

    /// Which lines are logged: `error`, `warn`, `info`, `debug`, `trace`, `off`, or directives such as `info,tributary_aggregator::forward=debug`. Empty: `info`, or
    /// `debug` with `debug`. The variable `RUST_LOG` overrides it, and so does `PUT /api/log` while the program runs.
    pub log_level: String,

    /// How log lines look: `text` or `json`.
    pub log_format: LogFormat,

    /// Answers `/debug/pprof/profile` and `/debug/pprof/flamegraph` on `http_address` with CPU profiles.
    pub enable_profiling: bool,

    /// `host:port` of a statsd server that gets this program's own metrics. Empty: none; they are on `/metrics` all the same.
    pub stats_address: String,

    /// What stands in front of the names of this program's own metrics.
    pub stats_prefix: String,

    /// How often self-metrics are sent.
    pub stats_interval: Duration,

    /// Where errors and panics are reported: a Sentry DSN. Empty: nowhere.
    pub sentry_dsn: Secret,
}

/// How much is kept for forwarding, and how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Retention {
    /// From the flush on. Longer bridges longer outages of all proxies.
    pub time: Duration,
    /// Encoded metrics in memory.
    pub bytes: Size,
}

/// How much is remembered of what was merged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Dedup {
    /// Over it the flushes that nobody spoke of for longest are forgotten; a metric of theirs that still comes is refused and counted
    /// (`stamp_forgotten`). A flush takes about 150 bytes and one for each 8 metrics: the default is enough for 2500 agents with 1000 metrics each.
    pub bytes: Size,
    /// From the last metric of a flush on. It must be longer than the agents' `forward_retention.time` and `forward_timeout` together.
    pub window: Duration,
}

impl Default for Dedup {
    fn default() -> Self {
        Self {
            bytes: Size::mib(64),
            window: Duration::seconds(15 * 60),
        }
    }
}

impl Default for Retention {
    fn default() -> Self {
        Self {
            time: Duration::seconds(300),
            bytes: Size::mib(64),
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            statsd_listen_addresses: None,
            statsd_tls: ServerTls::default(),
            num_readers: NonZeroUsize::MIN,
            reuse_port: false,
            read_buffer_size_bytes: Size::mib(2),
            metric_max_length: Size::bytes(8192),
            http_address: String::new(),
            http_tls: ServerTls::default(),
            grpc_address: String::new(),
            grpc_tls: ServerTls::default(),
            grpc_max_connection_age: Duration::ZERO,
            grpc_max_connection_age_grace: Duration::seconds(30),
            import_max_size: Size::mib(64),
            dedup: Dedup::default(),
            forward_address: OneOrMany::default(),
            forward_discovery: discovery::Settings::default(),
            consul_forward_service_name: String::new(),
            #[cfg(feature = "kafka")]
            forward_kafka: None,
            consul_address: String::new(),
            consul_tls: ClientTls::default(),
            consul_token: Secret::default(),
            consul_token_file: String::new(),
            consul_datacenter: String::new(),
            consul_tag: OneOrMany::default(),
            consul_stale: false,
            consul_address_preference: consul::AddressPreference::default(),
            consul_refresh_interval: Duration::seconds(30),
            consul_register: consul::Register::default(),
            forward_tls: ClientTls::default(),
            forward_protocol: Protocol::default(),
            forward_timeout: Duration::seconds(10),
            forward_retention: Retention::default(),
            interval: Duration::seconds(10),
            synchronize_with_interval: true,
            percentiles: vec![0.5, 0.75, 0.99],
            aggregates: vec![Aggregate::Min, Aggregate::Max, Aggregate::Count],
            hostname: None,
            omit_empty_hostname: false,
            extend_tags: Vec::new(),
            max_series: 1_000_000,
            count_unique_timeseries: false,
            sources: Vec::new(),
            metric_sinks: vec![SinkConfig::new("debug")],
            metric_sink_routing: Vec::new(),
            history: None,
            handoff_address: OneOrMany::default(),
            consul_handoff_service_name: String::new(),
            shutdown_timeout: Duration::seconds(30),
            debug: false,
            log_level: String::new(),
            log_format: LogFormat::default(),
            enable_profiling: false,
            stats_address: String::new(),
            stats_prefix: "veneur.".to_owned(),
            stats_interval: Duration::seconds(10),
            sentry_dsn: Secret::default(),
        }
    }
}

/// Where an aggregator takes DogStatsD when nothing is said.
const DEFAULT_STATSD: &str = "udp://127.0.0.1:8126";

impl Config {
    /// What this aggregator is.
    pub fn role(&self) -> Role {
        if self.forwards_to_proxies() || self.forwards_to_a_topic() {
            Role::Local
        } else {
            Role::Global
        }
    }

    /// Whether proxies to forward to are named, or found.
    pub fn forwards_to_proxies(&self) -> bool {
        !self.forward_address.is_empty() || self.discovers_proxies()
    }

    /// Whether a topic of Kafka takes what is forwarded.
    pub fn forwards_to_a_topic(&self) -> bool {
        #[cfg(feature = "kafka")]
        return self.forward_kafka.is_some();
        #[cfg(not(feature = "kafka"))]
        return false;
    }

    /// Whether those to forward to are found, and not named.
    pub fn discovers_proxies(&self) -> bool {
        self.forward_discovery.is_given() || !self.consul_forward_service_name.is_empty()
    }

    /// How Consul is asked.
    pub fn consul(&self) -> consul::Options {
        consul::Options {
            address: self.consul_address.clone(),
            token: self.consul_token.clone(),
            token_file: self.consul_token_file.clone(),
            datacenter: self.consul_datacenter.clone(),
            tags: self.consul_tag.0.clone(),
            stale: self.consul_stale,
            prefer: self.consul_address_preference,
            refresh_interval: self.consul_refresh_interval.get(),
            tls: self.consul_tls.clone(),
        }
    }

    /// Whether Consul is used for anything.
    fn uses_consul(&self) -> bool {
        !self.consul_forward_service_name.is_empty()
            || !self.consul_handoff_service_name.is_empty()
            || self.consul_register.is_wanted()
    }

    /// Where DogStatsD is taken, with the default filled in.
    pub fn statsd_addresses(&self) -> Vec<String> {
        let listens_elsewhere = !self.grpc_address.is_empty()
            || !self.http_address.is_empty()
            || !self.sources.is_empty();
        match &self.statsd_listen_addresses {
            Some(addresses) => addresses.clone(),
            None if self.role() == Role::Global && listens_elsewhere => Vec::new(),
            None => vec![DEFAULT_STATSD.to_owned()],
        }
    }
}

impl Settings for Config {
    fn check(&self, problems: &mut tributary_node::config::Problems) {
        check::check(self, problems);
    }

    fn aliases() -> &'static [(&'static str, &'static str)] {
        &[
            // Veneur's: PEM text for its TCP listeners,
            ("tls_certificate", "statsd_tls.cert_file"),
            ("tls_key", "statsd_tls.key_file"),
            ("tls_authority_certificate", "statsd_tls.client_ca_file"),
            // and files for forwarding.
            ("tls.ca_file", "forward_tls.ca_file"),
            ("tls.cert_file", "forward_tls.cert_file"),
            ("tls.key_file", "forward_tls.key_file"),
            ("tls.server_name", "forward_tls.server_name"),
        ]
    }

    fn ignored() -> &'static [(&'static str, &'static str)] {
        const SPANS: &str = "there are no trace spans here";
        const GO: &str = "it tunes Go's runtime";
        &[
            ("block_profile_rate", GO),
            ("mutex_profile_fraction", GO),
            ("num_span_workers", SPANS),
            ("span_channel_capacity", SPANS),
            ("trace_max_length_bytes", SPANS),
            ("indicator_span_timer_name", SPANS),
            ("objective_span_timer_name", SPANS),
            (
                "flush_watchdog_missed_flushes",
                "no sink and no destination can hold up a flush",
            ),
            ("http_quit", "SIGTERM ends it, with a last flush"),
            (
                "features",
                "what Veneur's features switch on is always on here",
            ),
            (
                "flush_on_shutdown",
                "an aggregator always flushes before it ends",
            ),
            (
                "http.config",
                "/config is always there, with secrets redacted",
            ),
            (
                "num_workers",
                "samples are spread over the table's shards by themselves",
            ),
        ]
    }
}

impl Program for Config {
    const NAME: &'static str = "tributary-aggregator";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const ABOUT: &'static str = "Takes metrics in and aggregates them: an agent beside applications, or a global that merges the whole fleet";
    const AFTER_HELP: &'static str = "Presets:\n  --preset cf-metrics-refinery  Runs in its place, with its environment; `--preset cf-metrics-refinery -h` tells more";
    const METRICS: &'static [&'static Metric] = crate::metrics::METRICS;
    const PREFIXES: Prefixes = Prefixes {
        ours: "TRIBUTARY_",
        veneur: &["VENEUR_"],
    };

    fn chassis(&self) -> Chassis {
        Chassis {
            http_address: self.http_address.clone(),
            http_tls: self.http_tls.clone(),
            http_body_limit: self.import_max_size,
            debug: self.debug,
            log_level: self.log_level.clone(),
            log_format: self.log_format,
            enable_profiling: self.enable_profiling,
            stats_address: self.stats_address.clone(),
            stats_prefix: self.stats_prefix.clone(),
            stats_interval: self.stats_interval,
            sentry_dsn: self.sentry_dsn.clone(),
            shutdown_timeout: self.shutdown_timeout,
            reuse_port: self.reuse_port,
        }
    }
}

impl Reload for Config {
    fn take_over(&mut self, new: &Self) {
        self.forward_address.clone_from(&new.forward_address);
        self.forward_protocol = new.forward_protocol;
        self.forward_timeout = new.forward_timeout;
        self.forward_retention = new.forward_retention;
        self.handoff_address.clone_from(&new.handoff_address);
        self.percentiles.clone_from(&new.percentiles);
        self.aggregates.clone_from(&new.aggregates);
        self.count_unique_timeseries = new.count_unique_timeseries;
        self.metric_sinks.clone_from(&new.metric_sinks);
        self.metric_sink_routing
            .clone_from(&new.metric_sink_routing);
        self.shutdown_timeout = new.shutdown_timeout;
        self.debug = new.debug;
        self.log_level.clone_from(&new.log_level);
    }
}
