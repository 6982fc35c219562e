//! Which log lines are written, and how that is changed while the program runs.
//!
//! A level is `error`, `warn`, `info`, `debug`, `trace` or `off`, or a list of directives such as `info,tributary_proxy::ring=debug`, in the language
//! of `tracing_subscriber::EnvFilter`. `debug` and `trace` alone are about this program, not about each frame of its HTTP/2 connections:
//! name those (`trace,h2=trace`) to see them.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use serde::Serialize;
use tracing_subscriber::filter::{EnvFilter, LevelFilter};
use tracing_subscriber::{Registry, reload};

/// The longest list of directives, in bytes.
const LONGEST: usize = 4096;
/// What `debug` and `trace` alone leave out.
const FRAMES: &str = "h2=info,hyper=info,hyper_util=info,tower=info,tonic=info";

/// A level that can be used. The default is `info`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Level(String);

/// Not a level.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LevelError {
    /// A word that is none of the levels.
    #[error(
        "{0:?} is no level: use error, warn, info, debug, trace, off, or directives like info,tributary_proxy=debug"
    )]
    Word(String),
    /// A directive that cannot be read.
    #[error("{level:?} cannot be read: {reason}")]
    Directive {
        /// As it was given.
        level: String,
        /// What is wrong.
        reason: String,
    },
    /// Too long.
    #[error("a level is longer than {LONGEST} bytes")]
    Long,
}

/// Changes what a running program logs. Clones change the same.
#[derive(Debug, Clone)]
pub struct LogHandle {
    filter: reload::Handle<EnvFilter, Registry>,
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    usual: Level,
    override_: Option<Override>,
    /// Counts overrides, so that the end of one does not end a later one.
    overrides: u64,
}

#[derive(Debug)]
struct Override {
    level: Level,
    until: Option<SystemTime>,
}

/// What is logged now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LogStatus {
    /// Which lines are written.
    pub level: String,
    /// What the settings, or `RUST_LOG`, say.
    pub usual: String,
    /// Whether `level` was asked for while the program runs.
    pub overridden: bool,
    /// When the usual level is back, in milliseconds since the Unix epoch; `None`: when it is asked for.
    pub until: Option<u64>,
}

// === impl Level ===

impl Default for Level {
    fn default() -> Self {
        Self("info".to_owned())
    }
}

impl Level {
    /// Details of this program.
    pub fn debug() -> Self {
        Self("debug".to_owned())
    }

    pub(super) fn filter(&self) -> EnvFilter {
        EnvFilter::new(directives(&self.0))
    }
}

fn directives(level: &str) -> String {
    match level {
        "debug" | "trace" => format!("{level},{FRAMES}"),
        other => other.to_owned(),
    }
}

impl FromStr for Level {
    type Err = LevelError;

    fn from_str(text: &str) -> Result<Self, LevelError> {
        let text = text.trim();
        if text.len() > LONGEST {
            return Err(LevelError::Long);
        }
        // A bare word that is no level would be taken for the name of a target with all its lines, and a misspelt `debgu` hide all others.
        for part in text.split(',').filter(|part| !part.contains('=')) {
            // The empty text counts as a level elsewhere.
            if part.trim().is_empty() || part.parse::<LevelFilter>().is_err() {
                return Err(LevelError::Word(part.to_owned()));
            }
        }
        let level = text.to_ascii_lowercase();
        let level = match level.parse::<LevelFilter>() {
            Ok(_) => level,
            Err(_) => text.to_owned(),
        };
        match EnvFilter::try_new(directives(&level)) {
            Ok(_) => Ok(Self(level)),
            Err(error) => Err(LevelError::Directive {
                level,
                reason: error.to_string(),
            }),
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

// === impl LogHandle ===

impl LogHandle {
    pub(super) fn new(filter: reload::Handle<EnvFilter, Registry>, usual: Level) -> Self {
        Self {
            filter,
            state: Arc::new(Mutex::new(State {
                usual,
                override_: None,
                overrides: 0,
            })),
        }
    }

    /// What is logged.
    pub fn status(&self) -> LogStatus {
        let state = self.state.lock();
        let until = state.override_.as_ref().and_then(|now| now.until);
        LogStatus {
            level: state.now().to_string(),
            usual: state.usual.to_string(),
            overridden: state.override_.is_some(),
            until: until
                .and_then(|until| until.duration_since(UNIX_EPOCH).ok())
                .map(|since| since.as_millis() as u64),
        }
    }

    /// The settings say something else from now on. An override goes on.
    pub(crate) fn set_usual(&self, usual: Level) {
        self.change(|state| state.usual = usual);
    }

    /// Logs this, whatever the settings say: for a time, after which a task of the runtime ends it, or until [`Self::end_override`].
    pub(crate) fn override_with(&self, level: Level, lasts: Option<Duration>) {
        tracing::warn!(%level, ?lasts, "what is logged is changed on request");
        let number = self.change(|state| {
            state.overrides += 1;
            state.override_ = Some(Override {
                level,
                until: lasts.and_then(|lasts| SystemTime::now().checked_add(lasts)),
            });
            state.overrides
        });
        if let Some(lasts) = lasts {
            let handle = self.clone();
            tokio::spawn(async move {
                tokio::time::sleep(lasts).await;
                if handle.state.lock().overrides == number {
                    handle.end_override();
                }
            });
        }
    }

    /// Logs what the settings say.
    pub(crate) fn end_override(&self) {
        let ended = self.change(|state| {
            state.overrides += 1;
            state.override_.take().is_some()
        });
        if ended {
            tracing::warn!("what is logged is as the settings say again");
        }
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.state.lock();
        let result = change(&mut state);
        // Under the lock: the last change is the one that stays.
        let reloaded = self.filter.reload(state.now().filter());
        drop(state);
        if let Err(error) = reloaded {
            tracing::warn!(%error, "what is logged cannot be changed");
        }
        result
    }
}

impl State {
    fn now(&self) -> &Level {
        self.override_
            .as_ref()
            .map_or(&self.usual, |now| &now.level)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_and_directives_are_read_and_misspelt_ones_told() {
        for (good, shown) in [
            ("debug", "debug"),
            (" WARN\n", "warn"),
            ("off", "off"),
            (
                "info,tributary_proxy::ring=debug",
                "info,tributary_proxy::ring=debug",
            ),
            ("warn,a[span{x=1}]=trace", "warn,a[span{x=1}]=trace"),
        ] {
            assert_eq!(
                good.parse::<Level>().map(|level| level.to_string()),
                Ok(shown.to_owned())
            );
        }
        for bad in [
            "debgu",
            "",
            "info,,warn",
            "info,tributary_proxy",
            "a=debgu",
            "info debug",
        ] {
            assert!(bad.parse::<Level>().is_err(), "{bad}");
        }
        assert_eq!("x".repeat(5000).parse::<Level>(), Err(LevelError::Long));
    }

    #[tokio::test(start_paused = true)]
    async fn an_override_lasts_as_long_as_it_was_asked_for_and_the_last_one_counts() {
        let (layer, filter) = reload::Layer::<EnvFilter, Registry>::new(Level::default().filter());
        let handle = LogHandle::new(filter, Level::default());
        let level = || handle.status().level;
        handle.override_with(Level::debug(), Some(Duration::from_secs(60)));
        let status = handle.status();
        assert!(status.overridden && status.until.is_some(), "{status:?}");
        assert_eq!(
            (status.level.as_str(), status.usual.as_str()),
            ("debug", "info")
        );
        tokio::time::sleep(Duration::from_secs(30)).await;
        handle.override_with("trace".parse().unwrap(), Some(Duration::from_secs(60)));
        handle.set_usual("warn".parse().unwrap());
        tokio::time::sleep(Duration::from_secs(45)).await;
        assert_eq!(level(), "trace", "the first one's end is not the second's");
        tokio::time::sleep(Duration::from_secs(30)).await;
        assert_eq!(level(), "warn");
        handle.override_with(Level::debug(), None);
        assert_eq!(handle.status().until, None);
        handle.end_override();
        assert_eq!(level(), "warn");
        drop(layer);
    }
}
