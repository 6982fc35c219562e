//! Logs: to standard error, as text for people or JSON for machines.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tracing_subscriber::filter::{EnvFilter, LevelFilter};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, reload};

/// How a log line looks.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema, clap::ValueEnum,
)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// A line of text.
    #[default]
    Text,
    /// A JSON object a line.
    Json,
}

/// What is logged.
#[derive(Debug, Clone, Copy, Default)]
pub struct Logging {
    /// How a line looks.
    pub format: LogFormat,
    /// Whether details are logged as well; the variable `RUST_LOG` overrides it.
    pub debug: bool,
}

/// Changes what a running program logs.
#[derive(Debug, Clone)]
pub struct LogHandle {
    filter: reload::Handle<EnvFilter, Registry>,
    format: LogFormat,
}

// === impl Logging ===

impl Logging {
    /// Logs from here on; a process that logs already keeps what it has, and there is no handle to it.
    pub(super) fn start(self, sentry: bool) -> Option<LogHandle> {
        let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
        let lines = match self.format {
            LogFormat::Text => lines
                .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
                .boxed(),
            LogFormat::Json => lines.json().flatten_event(true).boxed(),
        };
        // Without filters of their own these layers capture every level, even what sending an event logs.
        let errors =
            sentry.then(|| sentry_tracing::ErrorLayer::new().with_filter(LevelFilter::ERROR));
        let crumbs =
            sentry.then(|| sentry_tracing::BreadcrumbLayer::new().with_filter(LevelFilter::INFO));
        let (filter, wrong) = self.filter();
        let (filter, handle) = reload::Layer::new(filter);
        let subscriber = tracing_subscriber::registry()
            .with(lines.with_filter(filter))
            .with(errors)
            .with(crumbs);
        let started = subscriber.try_init();
        if let Err(error) = &started {
            tracing::debug!(%error, "logging was started before");
        }
        if let Some(error) = wrong {
            tracing::warn!(%error, "RUST_LOG is ignored");
        }
        started.is_ok().then_some(LogHandle {
            filter: handle,
            format: self.format,
        })
    }

    /// Which lines are written: what `RUST_LOG` says, where it is set; with what is wrong with it.
    fn filter(self) -> (EnvFilter, Option<String>) {
        let usual = if self.debug {
            // Our details, not those of every HTTP/2 frame.
            "debug,h2=info,hyper=info,hyper_util=info,tower=info,tonic=info"
        } else {
            "info"
        };
        let wanted = std::env::var("RUST_LOG").unwrap_or_default();
        if wanted.trim().is_empty() {
            return (EnvFilter::new(usual), None);
        }
        match EnvFilter::try_new(&wanted) {
            Ok(filter) => (filter, None),
            Err(error) => (EnvFilter::new(usual), Some(error.to_string())),
        }
    }
}

// === impl LogHandle ===

impl LogHandle {
    /// Whether details are logged from now on; where `RUST_LOG` is set, that still decides.
    pub fn set_debug(&self, debug: bool) {
        let logging = Logging {
            format: self.format,
            debug,
        };
        let (filter, _) = logging.filter();
        if let Err(error) = self.filter.reload(filter) {
            tracing::warn!(%error, "what is logged cannot be changed");
        }
    }
}
