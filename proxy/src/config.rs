//! The proxy's settings. The fields' documentation is the manual.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tributary_node::chassis::{Chassis, Program};
use tributary_node::config::{Duration, OneOrMany, Prefixes, Problems, Secret, Settings, Size};
use tributary_node::telemetry::LogFormat;
use tributary_node::{Reload, admin, consul, discovery};

use crate::address;
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
    /// Where `POST /import` (Veneur's agents up to version 14) and the admin pages are served, `host:port`. Empty: no HTTP.
    pub http_address: String,
    /// The globals, one address or a list. `host:port` is spoken to by gRPC; `http://host:port` gets legacy JSON on `/import`, as globals
    /// of Veneur up to version 5 want it. The text of the address places the global on the ring, so every proxy must write it alike.
    pub forward_address: OneOrMany<String>,
    /// More globals, as `forward_address`; both lists count together, in this order.
    pub forward_addresses: Vec<String>,
    /// What Veneur's proxies 8 to 14 call the globals that take gRPC, beside a `forward_address` for legacy JSON. Where both are given, these
    /// are the globals and `forward_address` does nothing: here one ring serves both ways in.
    pub grpc_forward_address: OneOrMany<String>,
    /// The service in Consul whose healthy instances are the globals. With it, all addresses above do nothing.
    pub consul_forward_service_name: String,
    /// What Veneur's proxies 8 to 14 call the service of globals that take gRPC. Where both are given, this is the service.
    pub consul_forward_grpc_service_name: String,
    /// Consul's HTTP API, `host:port` or an `http://` URL. Empty: what `CONSUL_HTTP_ADDR` says, or `127.0.0.1:8500`.
    pub consul_address: String,
    /// Consul's ACL token. Empty: what `CONSUL_HTTP_TOKEN` says, or none.
    pub consul_token: Secret,
    /// Consul is asked at least this often. A change is normally seen at once, since the proxy waits for one.
    pub consul_refresh_interval: Duration,
    /// Another source of the globals: DNS, a file that is watched, or Kubernetes. With it, all addresses above do nothing, and there must be
    /// no service in Consul.
    pub forward_discovery: discovery::Settings,
    /// How keys are placed on the globals.
    pub ring: RingConfig,
    /// Tags that are left out of a metric's key, so that series which differ in them alone go to one global. The metric keeps them. Every
    /// proxy must have the same list.
    pub ignore_tags: Vec<TagMatcher>,
    /// The aggregators' interval. A global that is discovered takes its keys over at the next multiple of it by the wall clock, so that no key
    /// is split between two globals within an interval. Must be the same as the aggregators', and on every proxy.
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
            http_address: String::new(),
            forward_address: OneOrMany::default(),
            forward_addresses: Vec::new(),
            grpc_forward_address: OneOrMany::default(),
            consul_forward_service_name: String::new(),
            consul_forward_grpc_service_name: String::new(),
            consul_address: String::new(),
            consul_token: Secret::default(),
            consul_refresh_interval: Duration::seconds(30),
            forward_discovery: discovery::Settings::default(),
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

    fn names_no_listener(&self) -> bool {
        self.grpc_address.is_empty() && self.http_address.is_empty()
    }

    /// The globals' configured addresses, each with its key.
    fn addresses(&self) -> impl Iterator<Item = (String, &str)> {
        let (key, one) = if self.grpc_forward_address.is_empty() {
            ("forward_address", &self.forward_address)
        } else {
            ("grpc_forward_address", &self.grpc_forward_address)
        };
        let one = one.iter().enumerate();
        let one = one.map(move |(i, address)| (format!("{key}[{i}]"), address.as_str()));
        let more = self.forward_addresses.iter().enumerate();
        let more = more.map(|(i, address)| (format!("forward_addresses[{i}]"), address.as_str()));
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
    ///
    /// # Errors
    /// When its address makes no sense.
    pub fn consul(&self) -> Result<consul::Settings, consul::AddressError> {
        consul::Settings::new(
            &self.consul_address,
            &self.consul_token,
            self.consul_refresh_interval.get(),
        )
    }

    /// The globals' configured addresses, in order.
    pub fn static_addresses(&self) -> Vec<String> {
        self.addresses()
            .map(|(_, address)| address.to_owned())
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
        if !self.consul_service().is_empty()
            && let Err(error) = self.consul()
        {
            problems.add("consul_address", error);
        }
        self.forward_discovery.check("forward_discovery", problems);
        if self.forward_discovery.is_given() && !self.consul_service().is_empty() {
            problems.add(
                "forward_discovery.kind",
                "excludes consul_forward_service_name: give one or the other",
            );
        }
        for (key, given) in self.addresses() {
            if let Err(error) = address::check(given) {
                problems.add(key, error);
            }
        }
        IgnoredTags::compile(&self.ignore_tags, problems);
        for (key, duration) in [
            ("consul_refresh_interval", self.consul_refresh_interval),
            ("interval", self.interval),
            ("ack_timeout", self.ack_timeout),
            ("stall_after", self.stall_after),
            ("dial_timeout", self.dial_timeout),
            ("forward_timeout", self.forward_timeout),
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
        ]
    }

    fn ignored() -> &'static [(&'static str, &'static str)] {
        const CLIENT: &str = "one connection is kept to each destination";
        const TRACES: &str = "traces are not proxied";
        const SERVER: &str = "the gRPC server's timing is fixed";
        &[
            ("http.enable_config", "/config is always there"),
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
            ("grpc_server.max_connection_age", SERVER),
            ("grpc_server.max_connection_age_grace", SERVER),
            ("grpc_server.ping_timeout", SERVER),
            ("grpc_server.keepalive_timeout", SERVER),
        ]
    }
}

impl Program for Config {
    const NAME: &'static str = "tributary-proxy";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const ABOUT: &'static str = "Routes forwarded metrics to the global aggregators that own them";
    const PREFIXES: Prefixes = Prefixes {
        ours: "TRIBUTARY_",
        veneur: &["VENEUR_PROXY_", "VENEUR_"],
    };

    fn chassis(&self) -> Chassis {
        Chassis {
            http_address: self.http_listen().to_owned(),
            http_body_limit: self.max_message_size,
            debug: self.debug,
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
            config.static_addresses(),
            ["127.0.0.1:8328", "127.0.0.1:8428"]
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
             grpc_server: {ping_timeout: 20s, keepalive_timeout: 1h}\n\
             http: {enable_config: true, enable_profiling: true}\n\
             ignore_tags: [{kind: exact, value: a, unset: true}]\n\
             statsd: {address: 127.0.0.1:8125, aggregation_interval: 5s, messages_per_payload: 9}\n",
        );
        assert_eq!(last.consul_forward_service_name, "veneur-global");
        assert_eq!(last.consul_refresh_interval, Duration::seconds(10));
        assert_eq!(last.stats_address, "127.0.0.1:8125");
        assert!(last.enable_profiling);
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
            "forward_address[0]: \"https://a:1\" asks for TLS",
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
