//! From a command line to a running program and an orderly end.
//!
//! [`run`] reads the settings, starts logging, self-metrics and the runtime, hands the program a [`Node`] and waits. On
//! SIGTERM or SIGINT it cancels [`Node::stop`]; the program finishes what it has begun and returns; the last
//! self-metrics go out; the exit code is 0. A second signal ends it at once with 1.
//!
//! The admin server and the self-metrics outlive the program's own work, so that an orchestrator can watch it leave.
//! Whatever the program does, the process is gone [`Chassis::shutdown_timeout`] after the first signal.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use axum::Router;
use serde_json::Value;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::admin::{self, Admin, Limits, ListenError, Readiness};
use crate::cli::{Args, complain, say};
use crate::config::{self, Prefixes, Problems, Secret, Size};
use crate::follow::Followed;
use crate::health;
use crate::inherited;
use crate::lifecycle::{Leaving, Signals};
use crate::supervisor;
use crate::tap::{self, Taps};
use crate::telemetry::catalog::{self, Metric};
use crate::telemetry::{self, Level, LogFormat, LogHandle, Logging, Recorder};
use crate::tls::{Acceptor, Alpn, ServerTls};

/// Anything that can go wrong with a program as a whole.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A program that stands on this chassis: its settings know everything about it.
pub trait Program: config::Settings {
    /// `tributary-proxy`
    const NAME: &'static str;
    /// `env!("CARGO_PKG_VERSION")` of the program's crate.
    const VERSION: &'static str;
    /// What it is, in one sentence, for `--help`.
    const ABOUT: &'static str;
    /// What `--help` says below the arguments.
    const AFTER_HELP: &'static str = "";
    /// Which environment variables override keys.
    const PREFIXES: Prefixes;
    /// The self-metrics of its own, beside the chassis'.
    const METRICS: &'static [&'static Metric] = &[];

    /// The part of the settings that the chassis works with. Let [`config::Settings::check`] call
    /// [`Chassis::check`], so that its problems are told with all others.
    fn chassis(&self) -> Chassis;
}

/// What the chassis needs to know.
#[derive(Debug, Clone)]
pub struct Chassis {
    /// Where the admin server listens (`http_address`); empty: nowhere.
    pub http_address: String,
    /// TLS of the admin server (`http_tls`).
    pub http_tls: ServerTls,
    /// The longest request body that it takes.
    pub http_body_limit: Size,
    /// Whether details are logged (`debug`).
    pub debug: bool,
    /// Which lines are logged (`log_level`); empty: by `debug`.
    pub log_level: String,
    /// How log lines look (`log_format`).
    pub log_format: LogFormat,
    /// Whether CPU profiles can be taken (`enable_profiling`).
    pub enable_profiling: bool,
    /// The statsd receiver of self-metrics (`stats_address`), `host:port`; empty: none.
    pub stats_address: String,
    /// What stands in front of every self-metric's name: `veneur_proxy.`
    pub stats_prefix: String,
    /// How often self-metrics are sent.
    pub stats_interval: config::Duration,
    /// Where errors go (`sentry_dsn`); empty: nowhere.
    pub sentry_dsn: Secret,
    /// How long the process may take to leave (`shutdown_timeout`): then it ends, whatever it is doing.
    pub shutdown_timeout: config::Duration,
    /// Whether the admin server's port may be another process's, too (`SO_REUSEPORT`), so that a new process can start before the old one
    /// leaves.
    pub reuse_port: bool,
}

/// What a running program is given. Clones share everything.
#[derive(Debug, Clone)]
pub struct Node {
    /// Cancelled when the program has to leave.
    pub stop: CancellationToken,
    /// What `/ready` answers.
    pub readiness: Readiness,
    /// The self-metrics.
    pub recorder: Recorder,
    /// Who looks at live metrics: to be shown what passes.
    pub taps: Taps,
    name: &'static str,
    version: &'static str,
    /// What `/config` shows.
    config: Arc<ArcSwap<Value>>,
    chassis: Chassis,
    leaving: Leaving,
    /// What SIGHUP reads again.
    args: Args,
    hang_ups: Arc<watch::Sender<u64>>,
    logs: Option<LogHandle>,
    /// Cancelled when the program has left.
    gone: CancellationToken,
    tasks: TaskTracker,
}

// After the program has ended, what carries its last words has this long, within the time to leave.
const LAST_WORDS: Duration = Duration::from_secs(6);

// === impl Chassis ===

impl Default for Chassis {
    fn default() -> Self {
        Self {
            http_address: String::new(),
            http_tls: ServerTls::default(),
            http_body_limit: Size::mib(32),
            debug: false,
            log_level: String::new(),
            log_format: LogFormat::Text,
            enable_profiling: false,
            stats_address: String::new(),
            stats_prefix: String::new(),
            stats_interval: config::Duration::seconds(10),
            sentry_dsn: Secret::default(),
            shutdown_timeout: config::Duration::seconds(30),
            reuse_port: false,
        }
    }
}

impl Chassis {
    /// Adds what is wrong with these settings, under the keys named at the fields.
    pub fn check(&self, problems: &mut Problems) {
        for (key, address) in [
            ("http_address", &self.http_address),
            ("stats_address", &self.stats_address),
        ] {
            if let Some(error) = (!address.is_empty())
                .then(|| admin::check_address(address).err())
                .flatten()
            {
                problems.add(key, error);
            }
        }
        self.http_tls.check("http_tls", problems);
        if self.stats_interval.is_zero() {
            problems.add("stats_interval", "0s is too short, use for instance 10s");
        }
        if !self.log_level.trim().is_empty()
            && let Err(error) = self.log_level.parse::<Level>()
        {
            problems.add("log_level", error);
        }
        if let Err(error) = telemetry::check_dsn(&self.sentry_dsn) {
            problems.add("sentry_dsn", error);
        }
    }

    fn logging(&self) -> Logging {
        Logging {
            format: self.log_format,
            debug: self.debug,
            level: self.log_level.clone(),
        }
    }

    fn telemetry(&self, args: &Args) -> telemetry::Settings {
        telemetry::Settings {
            logging: Logging {
                format: args.log_format.unwrap_or(self.log_format),
                ..self.logging()
            },
            sentry_dsn: self.sentry_dsn.clone(),
            stats_address: self.stats_address.clone(),
            stats_interval: self.stats_interval.get().max(Duration::from_millis(100)),
        }
    }
}

// === impl Node ===

impl Node {
    /// A node for `program` with these settings; [`run`] makes one, and so may a test.
    pub fn new<P: Program>(settings: &P, recorder: Recorder) -> Self {
        let chassis = settings.chassis();
        let gone = CancellationToken::new();
        Self {
            taps: Taps::new(gone.clone()),
            stop: CancellationToken::new(),
            readiness: Readiness::new(),
            recorder,
            name: P::NAME,
            version: P::VERSION,
            config: Arc::new(ArcSwap::from_pointee(config::redacted(settings))),
            leaving: Leaving::new(chassis.shutdown_timeout.get()),
            chassis,
            args: Args::default(),
            hang_ups: Arc::default(),
            logs: None,
            gone,
            tasks: TaskTracker::new(),
        }
    }

    /// Starts the admin server with the program's own routes; where it listens, or `None` where it is not wanted.
    /// It serves until the program's future has ended.
    ///
    /// # Errors
    /// When `http_address` cannot be listened on, or `http_tls` cannot be used.
    pub async fn serve_admin(&self, extra: Router) -> Result<Option<SocketAddr>, ListenError> {
        if self.chassis.http_address.is_empty() {
            return Ok(None);
        }
        let tls = Acceptor::new(&self.chassis.http_tls, "http_tls", Alpn::Http)?;
        let listener = match self.chassis.reuse_port {
            true => admin::bind_shared(&self.chassis.http_address).await?,
            false => admin::bind(&self.chassis.http_address).await?,
        };
        let address = listener.local_addr().map_err(|source| ListenError::Bind {
            address: self.chassis.http_address.clone(),
            source,
        })?;
        let admin = Admin {
            name: self.name,
            version: self.version,
            config: Arc::clone(&self.config),
            readiness: self.readiness.clone(),
            recorder: self.recorder.clone(),
            profiling: self.chassis.enable_profiling,
            limits: Limits {
                body: self.chassis.http_body_limit,
                ..Limits::default()
            },
            tls,
        };
        tracing::info!(%address, tls = self.chassis.http_tls.is_on(), "admin server listens");
        let extra = extra
            .merge(tap::routes(self.taps.clone()))
            .merge(admin::log::routes(self.logs.clone()));
        self.tasks
            .spawn(admin.serve(listener, extra, self.gone.clone()));
        Ok(Some(address))
    }

    /// Everything listens: to be called once, by the program. Tells whoever started this process, and of sockets that were handed over and that
    /// nobody has asked for: what is sent to them waits in vain.
    pub fn started(&self) {
        inherited::warn_of_unused();
        supervisor::started();
        self.tasks.spawn(supervisor::keep_alive(self.gone.clone()));
    }

    /// From the moment it has to leave, `/ready` says so.
    fn drain_on_stop(&self) {
        let (stop, gone, readiness) =
            (self.stop.clone(), self.gone.clone(), self.readiness.clone());
        self.tasks.spawn(async move {
            if gone.run_until_cancelled(stop.cancelled()).await.is_some() {
                readiness.set_draining();
            }
        });
    }

    /// By when the program's own work has to be done once it has to leave: within `shutdown_timeout`, less a moment for last words.
    pub fn done_by(&self) -> Instant {
        self.leaving.done_by()
    }

    /// Counts the SIGHUPs that came.
    pub(crate) fn hang_ups(&self) -> watch::Receiver<u64> {
        self.hang_ups.subscribe()
    }

    /// What the settings were read from.
    pub(crate) fn args(&self) -> Args {
        self.args.clone()
    }

    /// The settings in force are these: what the chassis itself can change follows.
    pub(crate) fn apply<P: Program>(&self, settings: &P) {
        let chassis = settings.chassis();
        self.config.store(Arc::new(config::redacted(settings)));
        self.leaving.set_bound(chassis.shutdown_timeout.get());
        if let Some(logs) = &self.logs {
            logs.set_usual(chassis.logging().usual().0);
        }
    }

    /// Ends the admin server and sends the last self-metrics; [`run`] does it after the program's future.
    pub async fn finish(&self) {
        self.gone.cancel();
        self.tasks.close();
        let longest = match self.stop.is_cancelled() {
            true => self.leaving.gone_by().min(Instant::now() + LAST_WORDS),
            false => Instant::now() + LAST_WORDS,
        };
        if tokio::time::timeout_at(longest, self.tasks.wait())
            .await
            .is_err()
        {
            tracing::warn!("left without waiting for the admin server");
        }
    }
}

/// Runs a program from its arguments to its exit code: 0 after an orderly stop or a successful `--check`, 1 when
/// settings are wrong, the program fails, or a second signal came.
///
/// `start` gets the settings and the node; its future ends when the program has.
pub fn run<P, F, Fut>(args: &Args, start: F) -> ExitCode
where
    P: Program,
    F: FnOnce(P, Node) -> Fut,
    Fut: Future<Output = Result<(), BoxError>>,
{
    let followed = args.file.clone().filter(|_| args.watch);
    let followed = followed.map(Followed::now);
    let loaded = match args.load::<P>() {
        Ok(loaded) => loaded,
        Err(problems) => {
            complain(&problems.to_string());
            return ExitCode::FAILURE;
        }
    };
    if args.check {
        loaded
            .warnings
            .iter()
            .for_each(|warning| complain(&format!("warning: {warning}")));
        say("ok");
        return ExitCode::SUCCESS;
    }
    if let Some(question) = args.healthcheck {
        return match health::ask(&loaded.settings.chassis(), question) {
            Ok(()) => {
                say("ok");
                ExitCode::SUCCESS
            }
            Err(error) => {
                complain(&error.to_string());
                ExitCode::FAILURE
            }
        };
    }
    let telemetry = loaded.settings.chassis().telemetry(args);
    let unusable = inherited::adopt();
    // Dropped last: it carries what failed on the way out.
    let guard = match telemetry::start(&telemetry, P::NAME, P::VERSION) {
        Ok(guard) => guard,
        Err(error) => {
            complain(&format!("sentry_dsn: {error}"));
            return ExitCode::FAILURE;
        }
    };
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    for place in unusable {
        tracing::error!(
            place,
            "a file descriptor that was handed over is no socket of UDP, TCP or Unix: not used"
        );
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name(P::NAME)
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(%error, "no runtime");
            return ExitCode::FAILURE;
        }
    };
    let code = runtime.block_on(async {
        let hang_ups = Arc::new(watch::Sender::new(0));
        let signals = match Signals::take(Arc::clone(&hang_ups)) {
            Ok(signals) => signals,
            Err(error) => {
                tracing::error!(%error, "signals cannot be taken over");
                return ExitCode::FAILURE;
            }
        };
        let recorder = Recorder::new(&loaded.settings.chassis().stats_prefix);
        if let Err(error) = recorder.install() {
            tracing::warn!(%error, "no self-metrics");
        }
        catalog::describe(crate::metrics::METRICS);
        catalog::describe(P::METRICS);
        let node = Node {
            args: args.clone(),
            hang_ups: Arc::clone(&hang_ups),
            logs: guard.logs(),
            ..Node::new(&loaded.settings, recorder)
        };
        node.drain_on_stop();
        if let Some(followed) = followed {
            let stop = node.stop.clone();
            let telling = async move {
                stop.run_until_cancelled_owned(followed.tell(hang_ups))
                    .await
            };
            node.tasks.spawn(telling);
        }
        telemetry::carry(
            &guard,
            &node.recorder,
            &telemetry,
            P::VERSION,
            &node.tasks,
            &node.gone,
        );
        let whole = async {
            let code = outcome(P::NAME, P::VERSION, start(loaded.settings, node.clone())).await;
            node.finish().await;
            code
        };
        let overdue = async {
            node.stop.cancelled().await;
            tokio::time::sleep_until(node.leaving.gone_by()).await;
            tracing::error!("shutdown_timeout is over: ending with work left undone");
            ExitCode::SUCCESS
        };
        tokio::select! {
            code = whole => code,
            code = overdue => code,
            () = signals.watch(node.stop.clone(), node.leaving.clone()) => ExitCode::FAILURE,
        }
    });
    // What still blocks a thread must not hold the process.
    runtime.shutdown_background();
    code
}

async fn outcome(
    name: &'static str,
    version: &'static str,
    program: impl Future<Output = Result<(), BoxError>>,
) -> ExitCode {
    tracing::info!(version, "{name} starts");
    match program.await {
        Ok(()) => {
            tracing::info!("{name} ended");
            ExitCode::SUCCESS
        }
        Err(error) => {
            tracing::error!(error = %Chain(&*error), "{name} cannot go on");
            ExitCode::FAILURE
        }
    }
}

/// An error with its causes.
struct Chain<'a>(&'a (dyn std::error::Error + 'static));

impl std::fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut told = self.0.to_string();
        f.write_str(&told)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            let text = error.to_string();
            // Many errors repeat their cause in their own words.
            if !told.contains(&text) {
                write!(f, ": {text}")?;
            }
            told = text;
            cause = error.source();
        }
        Ok(())
    }
}
