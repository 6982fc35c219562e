//! Builders for the members of a tier.

use std::io;
use std::net::UdpSocket;
use std::path::PathBuf;
use std::process::ExitStatus;

use serde_json::{Map, Value, json};

use super::{Emitted, Place, Program, Tier, free_address, read_points, wait_for};

/// What an aggregator is started with.
#[derive(Debug)]
#[must_use]
pub struct AggregatorBuilder {
    name: String,
    call: Vec<String>,
    config: Map<String, Value>,
    paths: Paths,
    place: Place,
    statsd: bool,
    socket: PathBuf,
}

/// What a proxy is started with.
#[derive(Debug)]
#[must_use]
pub struct ProxyBuilder {
    name: String,
    call: Vec<String>,
    config: Map<String, Value>,
    paths: Paths,
    place: Place,
    destinations: Vec<String>,
}

#[derive(Debug)]
struct Paths {
    config: PathBuf,
    log: PathBuf,
    points: PathBuf,
}

/// A running agent or global.
#[derive(Debug)]
pub struct Aggregator {
    /// `host:port` of DogStatsD over UDP; empty if it does not listen.
    pub statsd: String,
    /// Path of DogStatsD over Unix datagrams, where it listens.
    pub socket: PathBuf,
    /// `host:port` of the admin server and of `/import`.
    pub http: String,
    /// `host:port` of the import by gRPC.
    pub grpc: String,
    /// Where its file sink writes.
    pub points: PathBuf,
    /// The process.
    pub program: Program,
}

/// A running proxy.
#[derive(Debug)]
pub struct Proxy {
    /// `host:port` of the admin server and of `/import`.
    pub http: String,
    /// `host:port` of the gRPC server.
    pub grpc: String,
    /// The process.
    pub program: Program,
}

// === impl AggregatorBuilder ===

impl AggregatorBuilder {
    pub(super) fn new(tier: &Tier, name: &str) -> Self {
        let mut config = Map::new();
        let interval = format!("{}ms", tier.interval.as_millis());
        config.insert("interval".into(), json!(interval));
        config.insert("synchronize_with_interval".into(), json!(true));
        config.insert("hostname".into(), json!(name));
        config.insert("percentiles".into(), json!([0.5, 0.75, 0.99]));
        Self {
            name: name.to_owned(),
            call: tier.binaries.aggregator.clone(),
            config,
            paths: Paths::of(tier, name),
            place: Place::here(),
            statsd: false,
            socket: tier.path(name, "sock"),
        }
    }

    pub(super) fn listening_for_statsd(mut self) -> Self {
        self.statsd = true;
        self
    }

    /// Makes it an agent that forwards to `host:port`; called again, to several.
    pub fn forward_to(mut self, address: &str) -> Self {
        let list = self
            .config
            .entry("forward_address")
            .or_insert_with(|| json!([]));
        if let Some(list) = list.as_array_mut() {
            list.push(json!(address));
        }
        self
    }

    /// Sets any key of the configuration.
    pub fn with(mut self, key: &str, value: Value) -> Self {
        self.config.insert(key.to_owned(), value);
        self
    }

    /// Starts it there, with its servers on that host's address. DogStatsD stays on the loopback.
    pub fn at(mut self, place: &Place) -> Self {
        self.place = place.clone();
        self
    }

    /// Starts the process and waits until it is ready.
    pub async fn start(mut self) -> io::Result<Aggregator> {
        let (http, grpc) = (self.place.address()?, self.place.address()?);
        let statsd = if self.statsd {
            free_address()?
        } else {
            String::new()
        };
        self.default("http_address", || json!(http));
        self.default("grpc_address", || json!(grpc));
        let listen = if self.statsd {
            vec![
                format!("udp://{statsd}"),
                format!("unixgram://{}", self.socket.display()),
            ]
        } else {
            vec![]
        };
        self.default("statsd_listen_addresses", || json!(listen));
        let points = self.paths.points.clone();
        let file = json!([{"kind": "localfile", "name": "file", "config": {"path": points}}]);
        self.default("metric_sinks", || file);
        let call = self.place.call(&self.call);
        let mut program = self.paths.start(&self.name, &call, &self.config)?;
        until_up(&mut program, &self.config, &http, "/ready").await?;
        Ok(Aggregator {
            statsd,
            socket: self.socket,
            http,
            grpc,
            points,
            program,
        })
    }

    fn default(&mut self, key: &str, value: impl FnOnce() -> Value) {
        self.config.entry(key).or_insert_with(value);
    }
}

// === impl ProxyBuilder ===

impl ProxyBuilder {
    pub(super) fn new(tier: &Tier, name: &str) -> Self {
        Self {
            name: name.to_owned(),
            call: tier.binaries.proxy.clone(),
            config: Map::new(),
            paths: Paths::of(tier, name),
            place: Place::here(),
            destinations: Vec::new(),
        }
    }

    /// Adds a static destination.
    pub fn destination(mut self, address: &str) -> Self {
        self.destinations.push(address.to_owned());
        self
    }

    /// Sets any key of the configuration.
    pub fn with(mut self, key: &str, value: Value) -> Self {
        self.config.insert(key.to_owned(), value);
        self
    }

    /// Starts it there, with its servers on that host's address.
    pub fn at(mut self, place: &Place) -> Self {
        self.place = place.clone();
        self
    }

    /// Starts the process and waits until it has a destination.
    pub async fn start(self) -> io::Result<Proxy> {
        self.start_until("/ready").await
    }

    /// Starts the process and waits only until it is alive.
    pub async fn start_unready(self) -> io::Result<Proxy> {
        self.start_until("/healthcheck").await
    }

    async fn start_until(mut self, path: &str) -> io::Result<Proxy> {
        let (http, grpc) = (self.place.address()?, self.place.address()?);
        self.config.insert("http_address".into(), json!(http));
        self.config.insert("grpc_address".into(), json!(grpc));
        if !self.destinations.is_empty() {
            self.config
                .insert("forward_addresses".into(), json!(self.destinations));
        }
        let call = self.place.call(&self.call);
        let mut program = self.paths.start(&self.name, &call, &self.config)?;
        until_up(&mut program, &self.config, &http, path).await?;
        Ok(Proxy {
            http,
            grpc,
            program,
        })
    }
}

/// Waits until `GET path` answers; behind TLS, until there is somebody to ask.
async fn until_up(
    program: &mut Program,
    config: &Map<String, Value>,
    http: &str,
    path: &str,
) -> io::Result<()> {
    match config.contains_key("http_tls") {
        true => program.until_listening(http).await,
        false => program.until_ok(http, path).await,
    }
}

// === impl Paths ===

impl Paths {
    fn of(tier: &Tier, name: &str) -> Self {
        Self {
            config: tier.path(name, "yaml"),
            log: tier.path(name, "log"),
            points: tier.path(name, "jsonl"),
        }
    }

    fn start(
        &self,
        name: &str,
        call: &[String],
        config: &Map<String, Value>,
    ) -> io::Result<Program> {
        std::fs::write(&self.config, serde_json::to_vec_pretty(config)?)?;
        Program::start(name, call, &self.config, self.log.clone())
    }
}

// === impl Aggregator ===

impl Aggregator {
    /// Sends one datagram to its UDP listener.
    pub fn send(&self, datagram: &str) -> io::Result<()> {
        let socket = UdpSocket::bind("127.0.0.1:0")?;
        socket.send_to(datagram.as_bytes(), &self.statsd)?;
        Ok(())
    }

    /// Everything that its file sink wrote so far.
    pub fn emitted(&self) -> io::Result<Vec<Emitted>> {
        read_points(&self.points)
    }

    /// Waits for the first point that fits.
    pub async fn wait_for_point(
        &self,
        what: &str,
        fits: impl Fn(&Emitted) -> bool,
    ) -> io::Result<Emitted> {
        wait_for(what, async || {
            self.emitted().ok()?.into_iter().find(|point| fits(point))
        })
        .await
        .map_err(|error| {
            let emitted = self.emitted().unwrap_or_default();
            io::Error::new(
                error.kind(),
                format!(
                    "{error}; emitted: {emitted:#?}\nlog:\n{}",
                    self.program.log()
                ),
            )
        })
    }

    /// Stops it with SIGTERM.
    pub async fn stop(&mut self) -> io::Result<ExitStatus> {
        self.program.stop().await
    }

    /// Starts it again on the same addresses after it has ended, and waits until it is ready.
    pub async fn start_again(&mut self) -> io::Result<()> {
        self.program.start_again()?;
        self.program.until_ok(&self.http, "/ready").await
    }
}

impl Proxy {
    /// Starts it again on the same addresses after it has ended, and waits until it has a destination.
    pub async fn start_again(&mut self) -> io::Result<()> {
        self.program.start_again()?;
        self.program.until_ok(&self.http, "/ready").await
    }

    /// Stops it with SIGTERM.
    pub async fn stop(&mut self) -> io::Result<ExitStatus> {
        self.program.stop().await
    }
}
