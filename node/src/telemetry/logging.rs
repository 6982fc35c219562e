//! Logs: to standard error, as text for people or JSON for machines.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, reload};

use super::level::{Level, LevelError, LogHandle};

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

/// What is logged, as the settings have it.
#[derive(Debug, Clone, Default)]
pub struct Logging {
    /// How a line looks.
    pub format: LogFormat,
    /// Whether details are logged as well, where `level` is empty.
    pub debug: bool,
    /// Which lines are logged: see [`super::level`]. The variable `RUST_LOG` overrides it.
    pub level: String,
}

// === impl Logging ===

impl Logging {
    /// Logs from here on; a process that logs already keeps what it has, and there is no handle to it.
    pub(super) fn start(&self, sentry: bool) -> Option<LogHandle> {
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
        let (level, wrong) = self.usual();
        let (filter, handle) = reload::Layer::new(level.filter());
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
        started.is_ok().then(|| LogHandle::new(handle, level))
    }

    /// Which lines are logged unless somebody asks for others: what `RUST_LOG` says, where it is set; with what is wrong with it.
    pub(crate) fn usual(&self) -> (Level, Option<LevelError>) {
        let set = match (self.level.trim(), self.debug) {
            ("", true) => Level::debug(),
            ("", false) => Level::default(),
            // Wrong ones were told when the settings were checked.
            (level, _) => level.parse().unwrap_or_default(),
        };
        let wanted = std::env::var("RUST_LOG").unwrap_or_default();
        if wanted.trim().is_empty() {
            return (set, None);
        }
        match wanted.parse() {
            Ok(level) => (level, None),
            Err(error) => (set, Some(error)),
        }
    }
}
