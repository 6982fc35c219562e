//! The proxy's settings. The fields' documentation is the manual.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tributary_node::chassis::{Chassis, Program};
use tributary_node::config::{Duration, OneOrMany, Prefixes, Problems, Secret, Settings, Size};
use tributary_node::discovery::Endpoint;
use tributary_node::telemetry::LogFormat;
use tributary_node::telemetry::catalog::Metric;
use tributary_node::tls::{ClientTls, ServerTls};
use tributary_node::{Reload, admin, consul, discovery};

use crate::address::WeightedAddress;
use crate::ignore::{IgnoredTags, TagMatcher};
use crate::ring::Algorithm;

/// Where gRPC is taken when no listener is configured.
const DEFAULT_GRPC: &str = "127.0.0.1:8228";
/// Where HTTP is taken when no listener is configured.
const DEFAULT_HTTP: &str = "127.0.0.1:8227";

/// A proxy: it takes forwarded metrics and routes each to the global that owns its key.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Config {
    /// Where agents forward to by gRPC, `host:port`. Empty: no gRPC. If `http_address` is empty as well, the proxy listens on
    /// `127.0.0.1:8228` for gRPC and on `127.0.0.1:8227` for HTTP; a file that names either gets only what it names.
    pub grpc_address: String,
    /// TLS on `grpc_address`, for agents; with `client_ca_file`, only agents with a certificate come in.
    pub grpc_tls: ServerTls,
    /// Another address, where gRPC is taken with `grpc_tls`, while `grpc_address` stays without TLS: for the time in which a fleet moves from one to
    /// the other. Empty: `grpc_tls` is for `grpc_address`.
    pub grpc_tls_address: String,
    /// Where `POST /import` (Veneur's agents up to version 14) and the admin pages are served, `host:port`. Empty: no HTTP.
    pub http_address: String,
    /// TLS on `http_address`. Probes and scrapers then need `https`, and with `client_ca_file` a certificate.
    pub http_tls: ServerTls,
    /// A gRPC connection is asked to end when it has stood for so long, or up to a fifth longer or shorter, and its client connects anew: behind a
    /// load balancer that balances connections, agents spread over proxies that were added. Calls under way go on, and nothing is lost. `0s`:
    /// never.
    pub grpc_max_connection_age: Duration,
    /// How long calls under way have to finish on a connection that was asked to end because of its age. Then it is cut off.
    pub grpc_max_connection_age_grace: Duration,
    /// The globals, one address or a list. `host:port` is spoken to by gRPC; `http://host:port` (`https://` with `forward_tls`) gets legacy JSON on
    /// `/import`, as globals of Veneur up to version 5 want it. The text of the address places the global on the ring, so every proxy must write it alike.
    ///
    /// Instead of an address, `{address: "host:port", weight: 2}` gives a global its share of the keys against the others': 0 to 100, 1 if nothing is
    /// said. One of weight 0 owns nothing, and is sent what it still has to get. A weight that changes counts from the next multiple of
    /// `interval` on. `ring.algorithm: veneur` knows no weights.
    pub forward_address: OneOrMany<WeightedAddress>,
    /// More globals, as `forward_address`; both lists count together, in this order.
    pub forward_addresses: Vec<WeightedAddress>,
    /// What Veneur's proxies 8 to 14 call the globals that take gRPC, beside a `forward_address` for legacy JSON. Where both are given, these
    /// are the globals and `forward_address` does nothing: here one ring serves both ways in.
    pub grpc_forward_address: OneOrMany<WeightedAddress>,
    /// TLS to all globals. Their certificates must be for the host of their address, which is mostly an IP address when they are discovered, or
    /// for `server_name`.
    pub forward_tls: ClientTls,
    /// The service in Consul whose healthy instances are the globals. With it, all addresses above do nothing.
    pub consul_forward_service_name: String,
    /// What Veneur's proxies 8 to 14 call the service of globals that take gRPC. Where both are given, this is the service.
    pub consul_forward_grpc_service_name: String,
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
    /// Which address of an instance is used: the `service`'s, or where it registered none the node's; or always the `node`'s, which is what
    /// Veneur's proxies do. For a fleet that has both, with `ring.algorithm: veneur`; every proxy must have the same.
    pub consul_address_preference: consul::AddressPreference,
    /// Consul is asked at least this often. A change is normally seen at once, since the proxy waits for one.
    pub consul_refresh_interval: Duration,
    /// Another source of the globals: DNS, a file that is watched, or Kubernetes. With it, all addresses above do nothing, and there must be
    /// no service in Consul.
    pub forward_discovery: discovery::Settings,
    /// Registers the proxy itself in Consul, so that agents find it.
    pub consul_register: consul::Register,
    /// How keys are placed on the globals.
    pub ring: RingConfig,
    /// Tags that are left out of a metric's key, so that series which differ in them alone go to one global. The metric keeps them. Every
    /// proxy must have the same list.
    pub ignore_tags: Vec<TagMatcher>,
    /// The aggregators' interval. A global that is discovered takes its keys over at the next multiple of it by the wall clock, or the one after
    /// that if less than half an interval is left, so that no key is split between two globals within an interval. Must be the same as the aggregators', and on every proxy.
    pub interval: Duration,
    /// How much may wait for the globals, in memory.
    pub queue: QueueConfig,
    /// How long an agent that stamps its metrics waits until they are merged; after it, it is told which are not known to be. Must be less than
    /// the agents' `forward_timeout`.
    pub ack_timeout: Duration,
    /// A global that has been sent something and is silent for so long counts as unavailable: agents that stamp their metrics are told so at
    /// once and keep what is for it, instead of waiting. It is asked again and again until it answers.
    pub stall_after: Duration,
    /// A global that has been unavailable without a break for so long leaves the ring until it is back, and the others take over its keys. `0s`:
    /// keys leave a global only when discovery says so.
    pub failover_after: Duration,
    /// How long a connection to a global may take to stand.
    pub dial_timeout: Duration,
    /// How long a global may take to answer. What it was sent is then counted as lost, since it may have been merged or not: longer is safer.
    pub forward_timeout: Duration,
    /// The longest gRPC message, or inflated `/import` body, that is taken. Agents of Veneur 14 put a whole flush into one message.
    pub max_message_size: Size,
    /// On SIGTERM or SIGINT: how long agents' requests and queued metrics have to get through. What is left then is counted as lost.
    pub shutdown_timeout: Duration,
    /// Log details.
    pub debug: bool,
    /// Which lines are logged: `error`, `warn`, `info`, `debug`, `trace`, `off`, or directives such as `info,tributary_proxy::ring=debug`. Empty: `info`, or
    /// `debug` with `debug`. The variable `RUST_LOG` overrides it, and so does `PUT /api/log` while the program runs.
    pub log_level: String,
    /// How log lines look: `text` or `json`.
    pub log_format: LogFormat,
    /// Serve CPU profiles on `/debug/pprof/profile`.
    pub enable_profiling: bool,
    /// The statsd receiver for the proxy's own metrics, `host:port` over UDP. Empty: none. `/metrics` has them in any case.
    pub stats_address: String,
    /// What stands in front of the names of the proxy's own metrics. The default is Veneur's.
    pub stats_prefix: String,
    /// How often the proxy's own metrics are sent.
    pub stats_interval: Duration,
    /// Where errors and panics are reported to. Empty: nowhere.
    pub sentry_dsn: Secret,
}

/// The ring.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct RingConfig {
    /// `hashring`: even, the default. `veneur`: the placement of Veneur's proxies bit for bit, for a fleet that has both. Every proxy must
    /// have the same; changing it moves nearly all keys.
    pub algorithm: Algorithm,
}

/// Bounds on memory.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct QueueConfig {
    /// What may wait for one global. Over it, the oldest metrics go, counted as lost; those of agents that stamp stay with the agents. At least
    /// 64 KiB.
    pub per_destination: Size,
    /// What may wait for all globals together. Over it, the oldest metrics of the global with the longest queue go; requests of agents that
    /// stamp are refused.
    pub total: Size,
}

impl Default for QueueConfig {
    fn default() -> Self {
        Self {
            per_destination: Size::mib(64),
            total: Size::mib(256),
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            grpc_address: String::new(),
            grpc_tls: ServerTls::default(),
            grpc_tls_address: String::new(),
            http_address: String::new(),
            http_tls: ServerTls::default(),
            grpc_max_connection_age: Duration::seconds(300),
            grpc_max_connection_age_grace: Duration::seconds(30),
            forward_address: OneOrMany::default(),
            forward_addresses: Vec::new(),
            grpc_forward_address: OneOrMany::default(),
            forward_tls: ClientTls::default(),
            consul_forward_service_name: String::new(),
            consul_forward_grpc_service_name: String::new(),
            consul_address: String::new(),
            consul_tls: ClientTls::default(),
            consul_token: Secret::default(),
            consul_token_file: String::new(),
            consul_datacenter: String::new(),
            consul_tag: OneOrMany::default(),
            consul_stale: false,
            consul_address_preference: consul::AddressPreference::default(),
            consul_refresh_interval: Duration::seconds(30),
            forward_discovery: discovery::Settings::default(),
            consul_register: consul::Register::default(),
            ring: RingConfig::default(),
            ignore_tags: Vec::new(),
            interval: Duration::seconds(10),
            queue: QueueConfig::default(),
            ack_timeout: Duration::seconds(8),
            stall_after: Duration::seconds(1),
            failover_after: Duration::ZERO,
            dial_timeout: Duration::seconds(5),
            forward_timeout: Duration::seconds(30),
            max_message_size: Size::mib(64),
            shutdown_timeout: Duration::seconds(30),
            debug: false,
            log_level: String::new(),
            log_format: LogFormat::Text,
            enable_profiling: false,
            stats_address: String::new(),
            stats_prefix: "veneur_proxy.".to_owned(),
            stats_interval: Duration::seconds(10),
            sentry_dsn: Secret::default(),
        }
    }
}

impl Config {
    /// Where gRPC is taken; empty: nowhere.
    pub fn grpc_listen(&self) -> &str {
        if self.names_no_listener() {
            return DEFAULT_GRPC;
        }
        &self.grpc_address
    }

    /// Where HTTP is taken; empty: nowhere.
    pub fn http_listen(&self) -> &str {
        if self.names_no_listener() {
            return DEFAULT_HTTP;
        }
        &self.http_address
    }

    /// Where gRPC is taken, and whether by TLS.
    pub fn grpc_listeners(&self) -> Vec<(&str, bool)> {
        let beside = !self.grpc_tls_address.is_empty();
        let both = [
            (self.grpc_listen(), self.grpc_tls.is_on() && !beside),
            (self.grpc_tls_address.as_str(), true),
        ];
        let mut listeners = Vec::from(both);
        listeners.retain(|(address, _)| !address.is_empty());
        listeners
    }

    fn names_no_listener(&self) -> bool {
        self.grpc_address.is_empty()
            && self.grpc_tls_address.is_empty()
            && self.http_address.is_empty()
    }

    /// The globals' configured addresses, each with its key.
    fn addresses(&self) -> impl Iterator<Item = (String, &WeightedAddress)> {
        let (key, one) = if self.grpc_forward_address.is_empty() {
            ("forward_address", &self.forward_address)
        } else {
            ("grpc_forward_address", &self.grpc_forward_address)
        };
        let one = one.iter().enumerate();
        let one = one.map(move |(i, address)| (format!("{key}[{i}]"), address));
        let more = self.forward_addresses.iter().enumerate();
        let more = more.map(|(i, address)| (format!("forward_addresses[{i}]"), address));
        one.chain(more)
    }

    /// The service in Consul; empty: the addresses are configured.
    pub fn consul_service(&self) -> &str {
        if self.consul_forward_grpc_service_name.is_empty() {
            &self.consul_forward_service_name
        } else {
            &self.consul_forward_grpc_service_name
        }
    }

    /// Whether the globals are those of the configured addresses.
    pub fn is_static(&self) -> bool {
        self.consul_service().is_empty() && !self.forward_discovery.is_given()
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

    /// The configured globals, in order.
    pub fn static_endpoints(&self) -> Vec<Endpoint> {
        self.addresses()
            .map(|(_, given)| given.endpoint())
            .collect()
    }
}

impl Settings for Config {
    fn check(&self, problems: &mut Problems) {
        self.chassis().check(problems);
        if !self.grpc_address.is_empty()
            && let Err(error) = admin::check_address(&self.grpc_address)
        {
            problems.add("grpc_address", error);
        }
        self.grpc_tls.check("grpc_tls", problems);
        if !self.grpc_tls_address.is_empty() {
            if let Err(error) = admin::check_address(&self.grpc_tls_address) {
                problems.add("grpc_tls_address", error);
            }
            if !self.grpc_tls.is_on() {
                problems.add(
                    "grpc_tls_address",
                    "needs a certificate: grpc_tls.cert_file",
                );
            }
        }
        self.forward_tls.check("forward_tls", problems);
        if !self.consul_service().is_empty() || self.consul_register.is_wanted() {
            self.consul().check(problems);
        }
        self.forward_discovery.check("forward_discovery", problems);
        if self.forward_discovery.is_given() && !self.consul_service().is_empty() {
            problems.add(
                "forward_discovery.kind",
                "excludes consul_forward_service_name: give one or the other",
            );
        }
        let listener = self.grpc_listeners().first().copied();
        let listens = listener.map_or("", |(address, _)| address);
        self.consul_register.check(listens, problems);
        for (key, given) in self.addresses() {
            if let Err(error) = given.check(self.forward_tls.is_on()) {
                problems.add(key, error);
            } else if given.weight != 1 && self.ring.algorithm == Algorithm::Veneur {
                problems.add(key, "ring.algorithm veneur knows no weights");
            }
        }
        let mut weights = self.addresses().map(|(_, given)| given.weight).peekable();
        if weights.peek().is_some() && weights.all(|weight| weight == 0) {
            problems.add(
                "forward_addresses",
                "at least one global must have a weight above 0",
            );
        }
        IgnoredTags::compile(&self.ignore_tags, problems);
        for (key, duration) in [
            ("interval", self.interval),
            ("ack_timeout", self.ack_timeout),
            ("stall_after", self.stall_after),
            ("dial_timeout", self.dial_timeout),
            ("forward_timeout", self.forward_timeout),
            (
                "grpc_max_connection_age_grace",
                self.grpc_max_connection_age_grace,
            ),
        ] {
            if duration.is_zero() {
                problems.add(key, "must be more than 0s");
            }
        }
        if self.queue.per_destination < Size::kib(64) {
            problems.add("queue.per_destination", "must be at least 64KiB");
        }
        if self.queue.total < self.queue.per_destination {
            problems.add("queue.total", "must be at least queue.per_destination");
        }
        if self.max_message_size < Size::kib(64) {
            problems.add("max_message_size", "must be at least 64KiB");
        }
    }

    fn aliases() -> &'static [(&'static str, &'static str)] {
        &[
            ("forward_service", "consul_forward_service_name"),
            ("discovery_interval", "consul_refresh_interval"),
            ("statsd.address", "stats_address"),
            ("statsd.aggregation_interval", "stats_interval"),
            ("http.enable_profiling", "enable_profiling"),
            ("tls.cert_file", "grpc_tls.cert_file"),
            ("tls.key_file", "grpc_tls.key_file"),
            ("tls.ca_file", "grpc_tls.client_ca_file"),
            ("grpc_server.max_connection_age", "grpc_max_connection_age"),
            (
                "grpc_server.max_connection_age_grace",
                "grpc_max_connection_age_grace",
            ),
        ]
    }

    fn ignored() -> &'static [(&'static str, &'static str)] {
        const CLIENT: &str = "one connection is kept to each destination";
        const TRACES: &str = "traces are not proxied";
        const SERVER: &str = "the gRPC server's timing is fixed";
        &[
            ("http.enable_config", "/config is always there"),
            (
                "tls.server_name",
                "a server does not look at its own name; for globals see forward_tls",
            ),
            ("send_buffer_size", "queues are bounded in bytes: see queue"),
            ("statsd.channel_buffer_size", "self-metrics are added up"),
            ("statsd.messages_per_payload", "self-metrics are added up"),
            ("runtime_metrics_interval", "see stats_interval"),
            ("idle_connection_timeout", CLIENT),
            ("max_idle_conns", CLIENT),
            ("max_idle_conns_per_host", CLIENT),
            ("consul_trace_service_name", TRACES),
            ("trace_address", TRACES),
            ("trace_api_address", TRACES),
            ("ssf_destination_address", TRACES),
            ("tracing_client_capacity", TRACES),
            ("tracing_client_flush_interval", TRACES),
            ("tracing_client_metrics_interval", TRACES),
            ("grpc_server.connection_timeout", SERVER),
            ("grpc_server.max_connection_idle", SERVER),
            ("grpc_server.ping_timeout", SERVER),
            ("grpc_server.keepalive_timeout", SERVER),
        ]
    }
}

impl Program for Config {
    const NAME: &'static str = "tributary-proxy";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const ABOUT: &'static str = "Routes forwarded metrics to the global aggregators that own them";
    const METRICS: &'static [&'static Metric] = crate::metrics::METRICS;
    const PREFIXES: Prefixes = Prefixes {
        ours: "TRIBUTARY_",
        veneur: &["VENEUR_PROXY_", "VENEUR_"],
    };

    fn chassis(&self) -> Chassis {
        Chassis {
            http_address: self.http_listen().to_owned(),
            http_tls: self.http_tls.clone(),
            http_body_limit: self.max_message_size,
            debug: self.debug,
            log_level: self.log_level.clone(),
            log_format: self.log_format,
            enable_profiling: self.enable_profiling,
            stats_address: self.stats_address.clone(),
            stats_prefix: self.stats_prefix.clone(),
            stats_interval: self.stats_interval,
            sentry_dsn: self.sentry_dsn.clone(),
            shutdown_timeout: self.shutdown_timeout,
            ..Chassis::default()
        }
    }
}

impl Reload for Config {
    fn take_over(&mut self, new: &Self) {
        self.forward_address.clone_from(&new.forward_address);
        self.forward_addresses.clone_from(&new.forward_addresses);
        self.grpc_forward_address
            .clone_from(&new.grpc_forward_address);
        self.ignore_tags.clone_from(&new.ignore_tags);
        self.queue.clone_from(&new.queue);
        self.ack_timeout = new.ack_timeout;
        self.stall_after = new.stall_after;
        self.failover_after = new.failover_after;
        self.dial_timeout = new.dial_timeout;
        self.forward_timeout = new.forward_timeout;
        self.shutdown_timeout = new.shutdown_timeout;
        self.debug = new.debug;
        self.log_level.clone_from(&new.log_level);
    }
}

#[cfg(test)]
mod tests {
    use tributary_node::config::{Environment, parse};

    use super::*;

    fn problems(text: &str) -> String {
        parse::<Config>("proxy.yaml", text, &Environment::default())
            .unwrap_err()
            .to_string()
    }

    fn config(text: &str) -> Config {
        parse("proxy.yaml", text, &Environment::default())
            .unwrap()
            .settings
    }

    #[test]
    fn the_documented_file_is_understood() {
        let config = config(
            "http_address: 127.0.0.1:8227\n\
             grpc_address: 127.0.0.1:8228\n\
             forward_addresses: [127.0.0.1:8328, 127.0.0.1:8428]\n\
             consul_forward_service_name: veneur-global\n\
             consul_refresh_interval: 30s\n\
             ring: {algorithm: veneur}\n\
             ignore_tags: [{kind: prefix, value: \"host:\"}]\n\
             queue: {per_destination: 64MiB, total: 256MiB}\n\
             interval: 10s\nack_timeout: 8s\nstall_after: 1s\nfailover_after: 0s\n\
             shutdown_timeout: 30s\n",
        );
        assert!(config.failover_after.is_zero());
        assert_eq!(config.grpc_listen(), "127.0.0.1:8228");
        assert_eq!(
            config.static_endpoints(),
            ["127.0.0.1:8328", "127.0.0.1:8428"].map(Endpoint::new)
        );
        assert_eq!(config.ring.algorithm, Algorithm::Veneur);
    }

    #[cfg(feature = "kubernetes")]
    #[test]
    fn the_examples_of_discovery_are_understood() {
        let page = include_str!("../../docs/discovery.md");
        let mut kinds = Vec::new();
        for block in page.split("```yaml\n").skip(1) {
            let block = block.split("```").next().unwrap();
            let indented = block.len() - block.trim_start_matches(' ').len();
            let lines = block
                .lines()
                .map(|line| line.get(indented..).unwrap_or_default());
            let config = config(&lines.collect::<Vec<_>>().join("\n"));
            assert!(!config.is_static());
            kinds.push(config.forward_discovery.kind);
        }
        use discovery::Kind::{Dns, File, Kubernetes};
        assert_eq!(kinds, [Dns, Dns, File, Kubernetes, Kubernetes]);
    }

    #[test]
    fn there_is_one_source_of_globals() {
        let told =
            problems("consul_forward_service_name: g\nforward_discovery: {kind: file, path: /g}\n");
        assert!(
            told.contains("forward_discovery.kind: excludes consul_forward_service_name"),
            "{told}"
        );
        let told = problems("forward_discovery: {kind: dns, nam: g}\n");
        assert!(
            told.contains("forward_discovery.nam: unknown key"),
            "{told}"
        );
        let told = problems("forward_discovery: {kind: udp}\n");
        assert!(told.contains("forward_discovery.kind: "), "{told}");
    }

    #[test]
    fn without_a_listener_it_listens_on_the_usual_ports_and_with_one_on_that_alone() {
        let usual = Config::default();
        assert_eq!(
            (usual.grpc_listen(), usual.http_listen()),
            ("127.0.0.1:8228", "127.0.0.1:8227")
        );
        let grpc = config("grpc_address: 10.0.0.1:1");
        assert_eq!((grpc.grpc_listen(), grpc.http_listen()), ("10.0.0.1:1", ""));
        let http = config("http_address: 10.0.0.1:1");
        assert_eq!((http.grpc_listen(), http.http_listen()), ("", "10.0.0.1:1"));
    }

    #[test]
    fn the_files_of_the_veneur_generations_are_accepted() {
        let first = config(
            "debug: true\nenable_profiling: true\nhttp_address: 127.0.0.1:18127\n\
             consul_refresh_interval: 30s\nstats_address: 127.0.0.1:8125\n\
             forward_address: http://veneur.example.com:80\n\
             trace_address: 127.0.0.1:1\nconsul_trace_service_name: x\n\
             consul_forward_service_name: forwardServiceName\nsentry_dsn: ''\n",
        );
        assert_eq!(first.consul_forward_service_name, "forwardServiceName");
        let last = config(
            "discovery_interval: 10s\nforward_service: veneur-global\ngrpc_address: 127.0.0.1:8128\n\
             dial_timeout: 5s\nsend_buffer_size: 1024\nshutdown_timeout: 5s\n\
             grpc_server: {ping_timeout: 20s, keepalive_timeout: 1h, max_connection_age: 1h, \
             max_connection_age_grace: 5s}\n\
             http: {enable_config: true, enable_profiling: true}\n\
             ignore_tags: [{kind: exact, value: a, unset: true}]\n\
             statsd: {address: 127.0.0.1:8125, aggregation_interval: 5s, messages_per_payload: 9}\n",
        );
        assert_eq!(last.consul_forward_service_name, "veneur-global");
        assert_eq!(last.consul_refresh_interval, Duration::seconds(10));
        assert_eq!(last.stats_address, "127.0.0.1:8125");
        assert!(last.enable_profiling);
        assert_eq!(last.grpc_max_connection_age, Duration::seconds(3600));
        assert_eq!(last.grpc_max_connection_age_grace, Duration::seconds(5));
    }

    #[test]
    fn weights_stand_beside_plain_addresses_in_every_list() {
        let config = config(
            "forward_address: {address: 'a:1', weight: 3}\n\
             forward_addresses: ['b:1', {address: 'c:1', weight: 0}]\n",
        );
        let weight = |address: &str, weight| Endpoint {
            weight,
            ..Endpoint::new(address)
        };
        assert_eq!(
            config.static_endpoints(),
            [weight("a:1", 3), weight("b:1", 1), weight("c:1", 0)]
        );
    }

    #[test]
    fn weights_that_make_no_ring_are_refused() {
        for (text, told) in [
            (
                "forward_addresses: [{address: 'a:1', weight: 101}]",
                "forward_addresses[0]: weight 101 is out of bounds",
            ),
            (
                "grpc_forward_address: {address: 'a:1', weight: 0}",
                "at least one global must have a weight above 0",
            ),
            (
                "ring: {algorithm: veneur}\nforward_addresses: ['b:1', {address: 'a:1', weight: 2}]",
                "forward_addresses[1]: ring.algorithm veneur knows no weights",
            ),
            (
                "forward_addresses: [{adress: 'a:1', weight: 2}]",
                "forward_addresses[0].adress: unknown key",
            ),
        ] {
            let problems = problems(text);
            assert!(problems.contains(told), "{told} is not in:\n{problems}");
        }
    }

    #[test]
    fn without_settings_nothing_listens_beyond_this_host() {
        let config = Config::default();
        let listeners = config.grpc_listeners();
        let all = listeners.iter().map(|(address, _)| *address);
        let all: Vec<_> = all.chain([config.http_listen()]).collect();
        assert_eq!(all.len(), 2);
        for address in all {
            let at: std::net::SocketAddr = address.parse().unwrap();
            assert!(at.ip().is_loopback(), "{address}");
        }
    }

    #[test]
    fn tls_is_for_the_one_address_or_for_another_beside_it() {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let file = |name: &str, text: String| {
            let path = directory.path().join(name);
            std::fs::write(&path, text).unwrap();
            path.to_string_lossy().into_owned()
        };
        let certificate = file("cert.pem", made.cert.pem());
        let key = file("key.pem", made.signing_key.serialize_pem());
        let ours = format!("grpc_tls: {{cert_file: {certificate}, key_file: {key}}}\n");
        let one = config(&format!("{ours}grpc_address: 127.0.0.1:1\n"));
        assert_eq!(one.grpc_listeners(), [("127.0.0.1:1", true)]);
        let both = config(&format!(
            "{ours}grpc_address: 127.0.0.1:1\ngrpc_tls_address: 127.0.0.1:2\n"
        ));
        assert_eq!(
            both.grpc_listeners(),
            [("127.0.0.1:1", false), ("127.0.0.1:2", true)]
        );
        let veneurs = config(&format!(
            "grpc_tls_address: 127.0.0.1:2\n\
             tls: {{ca_file: {certificate}, cert_file: {certificate}, key_file: {key}, server_name: x}}\n"
        ));
        assert_eq!(veneurs.grpc_listeners(), [("127.0.0.1:2", true)]);
        assert!(!veneurs.grpc_tls.client_ca_file.is_empty());
        let told = problems(
            "grpc_tls_address: 127.0.0.1:2\nforward_tls: {enabled: true}\nforward_address: http://g:1\n",
        );
        assert!(
            told.contains("grpc_tls_address: needs a certificate"),
            "{told}"
        );
        assert!(
            told.contains("forward_address[0]: \"http://g:1\" would go without TLS"),
            "{told}"
        );
    }

    #[test]
    fn every_problem_is_told_with_its_key() {
        let told = problems(
            "forward_addresses: [a:1, nowhere]\nforward_address: https://a:1\n\
             grpc_address: nothing\nring: {algorithm: md5}\n\
             ignore_tags: [{kind: glob, value: x}]\nqueue: {per_destination: 1KiB, total: 1KiB}\n\
             forward_timeout: 0s\ninterval: 0s\nack_timeout: 0s\nforward_adress: x\n",
        );
        for part in [
            "forward_addresses[1]: \"nowhere\" is no address",
            "forward_address[0]: \"https://a:1\" needs forward_tls: {enabled: true}",
            "grpc_address: ",
            "ring.algorithm",
            "ignore_tags[0].kind",
            "queue.per_destination: must be at least 64KiB",
            "forward_timeout: must be more than 0s",
            "interval: must be more than 0s",
            "ack_timeout: must be more than 0s",
            "forward_address",
        ] {
            assert!(told.contains(part), "{part} is not in:\n{told}");
        }
    }
}
