//! Reading the settings again while the program runs: SIGHUP.
//!
//! [`Node::reloads`] gives a program its settings as they change. What always holds:
//! - a file with anything wrong in it changes nothing: every problem is logged and the program goes on with what it has;
//! - what the program cannot change while it runs keeps its value, and each such key is logged as needing a restart;
//! - `/config` and the chassis's own settings (`debug`, `shutdown_timeout`) follow only what the program took over.

use serde_json::Value;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::chassis::{Node, Program};
use crate::config::{Loaded, Problems};
use crate::supervisor;

/// A program whose settings can change while it runs.
pub trait Reload: Program + Clone + PartialEq + Send + 'static {
    /// Takes over from `new` each key that a running program can change, and only those. `debug` and `shutdown_timeout` are among them:
    /// the chassis applies them.
    fn take_over(&mut self, new: &Self);
}

/// The settings in force, and how they change.
#[derive(Debug)]
pub struct Reloads<P> {
    current: P,
    node: Node,
    hang_ups: watch::Receiver<u64>,
    /// A file being read: kept here so that [`Reloads::next`] may be given up and called again.
    reading: Option<JoinHandle<Result<Loaded<P>, Problems>>>,
}

/// Settings to be applied. Tell with [`Reloads::applied`] or [`Reloads::refused`] what became of them.
#[derive(Debug, Clone, PartialEq)]
pub struct Change<P> {
    /// In force until now.
    pub old: P,
    /// In force from now on: the file's, where a running program can change, and the old ones elsewhere.
    pub new: P,
}

/// What became of one SIGHUP.
struct Reloaded<'a> {
    outcome: Outcome<'a>,
}

enum Outcome<'a> {
    /// These keys have changed.
    Applied(&'a [String]),
    /// Nothing that a running program can change is different.
    Unchanged,
    /// The file is not right.
    Refused(&'a Problems),
    /// The settings are right, and cannot be had.
    Failed(&'a dyn std::fmt::Display),
}

// === impl Node ===

impl Node {
    /// Follows SIGHUP from here on; `settings` are those in force.
    pub fn reloads<P: Reload>(&self, settings: P) -> Reloads<P> {
        Reloads {
            current: settings,
            node: self.clone(),
            hang_ups: self.hang_ups(),
            reading: None,
        }
    }
}

// === impl Reloads ===

impl<P: Reload> Reloads<P> {
    /// Waits for settings that are right and different. May be given up and called again.
    pub async fn next(&mut self) -> Change<P> {
        loop {
            let read = self.read().await;
            if let Some(change) = self.judge(read) {
                return change;
            }
        }
    }

    /// The program works with `change` from now on.
    pub fn applied(&mut self, change: Change<P>) {
        let keys = differing(&change.old, &change.new);
        self.node.apply(&change.new);
        self.current = change.new;
        let outcome = Outcome::Applied(&keys);
        Reloaded { outcome }.emit();
    }

    /// The program could not change, and goes on as before.
    pub fn refused(&self, why: &dyn std::fmt::Display) {
        let outcome = Outcome::Failed(why);
        Reloaded { outcome }.emit();
    }

    async fn read(&mut self) -> Result<Loaded<P>, Problems> {
        let reading = match &mut self.reading {
            Some(reading) => reading,
            None => {
                if self.hang_ups.changed().await.is_err() {
                    // Nobody is left who could ask.
                    std::future::pending::<()>().await;
                }
                let args = self.node.args();
                self.reading
                    .insert(tokio::task::spawn_blocking(move || args.load::<P>()))
            }
        };
        let read = reading.await;
        self.reading = None;
        read.unwrap_or_else(|error| Err(Problems::one("settings", "", &error.to_string())))
    }

    fn judge(&self, read: Result<Loaded<P>, Problems>) -> Option<Change<P>> {
        let judged = read.and_then(|loaded| {
            for warning in &loaded.warnings {
                tracing::warn!("{warning}");
            }
            let mut new = self.current.clone();
            new.take_over(&loaded.settings);
            let restart = differing(&new, &loaded.settings);
            for key in &restart {
                tracing::warn!(key, "changed in the settings, and needs a restart");
            }
            let mut problems = Problems::new("with the keys that need a restart as they were");
            new.check(&mut problems);
            if problems.is_empty() {
                Ok(new)
            } else {
                Err(problems)
            }
        });
        let outcome = match &judged {
            Ok(new) if *new == self.current => Outcome::Unchanged,
            Ok(_) => {
                return judged.ok().map(|new| Change {
                    old: self.current.clone(),
                    new,
                });
            }
            Err(problems) => Outcome::Refused(problems),
        };
        Reloaded { outcome }.emit();
        None
    }
}

/// The keys at the top whose values differ. Values are not told: they may be secret.
fn differing<P: Program>(one: &P, other: &P) -> Vec<String> {
    let shown = |settings: &P| serde_json::to_value(settings).unwrap_or_default();
    let (Value::Object(one_keys), Value::Object(other_keys)) = (shown(one), shown(other)) else {
        return Vec::new();
    };
    let mut keys: Vec<String> = other_keys
        .iter()
        .filter(|(key, value)| one_keys.get(*key) != Some(*value))
        .map(|(key, _)| key.clone())
        .collect();
    // A secret looks the same whatever it is.
    if one.chassis().sentry_dsn != other.chassis().sentry_dsn
        && !keys.iter().any(|key| key == "sentry_dsn")
    {
        keys.push("sentry_dsn".to_owned());
    }
    keys
}

// === impl Reloaded ===

impl Reloaded<'_> {
    fn emit(&self) {
        let (outcome, told) = match self.outcome {
            Outcome::Applied(keys) => {
                tracing::info!(?keys, "settings read again and applied");
                ("applied", "settings read again and applied")
            }
            Outcome::Unchanged => {
                tracing::info!("settings read again, nothing to change");
                ("unchanged", "settings read again, nothing to change")
            }
            Outcome::Refused(problems) => {
                for problem in problems.iter() {
                    tracing::error!("{problem}");
                }
                tracing::error!(
                    problems = problems.len(),
                    "settings refused, going on as before"
                );
                (
                    "refused",
                    "settings refused, going on as before: see the log",
                )
            }
            Outcome::Failed(why) => {
                tracing::error!(%why, "settings cannot be applied, going on as before");
                (
                    "failed",
                    "settings cannot be applied, going on as before: see the log",
                )
            }
        };
        supervisor::reloaded(told);
        crate::metrics::RELOADS.with([outcome.into()]).increment(1);
    }
}
