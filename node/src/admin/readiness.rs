//! Whether this program wants work: named conditions that all have to hold, and no leaving under way.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::watch;

/// What `/ready` answers; clones share one state.
///
/// Without conditions it is ready at once.
#[derive(Debug, Clone)]
pub struct Readiness {
    state: Arc<watch::Sender<State>>,
}

/// The conditions and whether the program is leaving.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct State {
    draining: bool,
    /// Name to what is missing; none: the condition holds.
    conditions: BTreeMap<String, Option<String>>,
}

/// One condition, held by whoever knows whether it holds.
#[derive(Debug, Clone)]
pub struct Condition {
    name: String,
    state: Arc<watch::Sender<State>>,
}

// === impl Readiness ===

impl Readiness {
    /// Ready, until a condition is named.
    pub fn new() -> Self {
        Self {
            state: Arc::new(watch::Sender::new(State::default())),
        }
    }

    /// Names a condition that does not hold yet; `missing` says what is awaited.
    pub fn condition(&self, name: &str, missing: &str) -> Condition {
        let condition = Condition {
            name: name.to_owned(),
            state: Arc::clone(&self.state),
        };
        condition.fails(missing);
        condition
    }

    /// From now on: not ready, the program is leaving. There is no way back.
    pub fn set_draining(&self) {
        self.state.send_modify(|state| state.draining = true);
    }

    /// Whether the program is leaving.
    pub fn is_draining(&self) -> bool {
        self.state.borrow().draining
    }

    /// Ready, or why not, in words for a person.
    ///
    /// # Errors
    /// The reasons, separated by `; `.
    pub fn check(&self) -> Result<(), String> {
        self.state.borrow().check()
    }

    /// Follows the state as it changes.
    pub fn subscribe(&self) -> watch::Receiver<State> {
        self.state.subscribe()
    }
}

impl Default for Readiness {
    fn default() -> Self {
        Self::new()
    }
}

// === impl State ===

impl State {
    /// Whether the program is leaving.
    pub fn is_draining(&self) -> bool {
        self.draining
    }

    /// Ready, or why not.
    ///
    /// # Errors
    /// The reasons, separated by `; `.
    pub fn check(&self) -> Result<(), String> {
        let draining = self.draining.then(|| "draining".to_owned());
        let missing = self.conditions.iter().filter_map(|(name, missing)| {
            missing.as_ref().map(|missing| format!("{name}: {missing}"))
        });
        let reasons: Vec<String> = draining.into_iter().chain(missing).collect();
        if reasons.is_empty() {
            Ok(())
        } else {
            Err(reasons.join("; "))
        }
    }
}

// === impl Condition ===

impl Condition {
    /// It holds.
    pub fn holds(&self) {
        self.set(None);
    }

    /// It does not; `missing` says what is awaited.
    pub fn fails(&self, missing: &str) {
        self.set(Some(missing.to_owned()));
    }

    fn set(&self, missing: Option<String>) {
        self.state
            .send_if_modified(|state| match state.conditions.get(&self.name) {
                Some(before) if *before == missing => false,
                _ => {
                    state.conditions.insert(self.name.clone(), missing);
                    true
                }
            });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_conditions_have_to_hold() {
        let readiness = Readiness::new();
        assert_eq!(readiness.check(), Ok(()));
        let ring = readiness.condition("ring", "no destination yet");
        let import = readiness.condition("import", "not listening yet");
        assert_eq!(
            readiness.check(),
            Err("import: not listening yet; ring: no destination yet".to_owned())
        );
        ring.holds();
        assert_eq!(
            readiness.check(),
            Err("import: not listening yet".to_owned())
        );
        import.holds();
        assert_eq!(readiness.check(), Ok(()));
        ring.fails("all destinations lost");
        assert_eq!(
            readiness.check(),
            Err("ring: all destinations lost".to_owned())
        );
    }

    #[test]
    fn draining_wins_for_good() {
        let readiness = Readiness::new();
        let ring = readiness.condition("ring", "none");
        readiness.set_draining();
        ring.holds();
        assert_eq!(readiness.check(), Err("draining".to_owned()));
        assert!(readiness.is_draining());
    }

    #[test]
    fn who_follows_sees_each_change_once() {
        let readiness = Readiness::new();
        let mut seen = readiness.subscribe();
        let ring = readiness.condition("ring", "none");
        assert!(seen.has_changed().unwrap_or(false));
        assert!(seen.borrow_and_update().check().is_err());
        ring.fails("none");
        assert!(
            !seen.has_changed().unwrap_or(true),
            "the same again is no change"
        );
        ring.holds();
        assert_eq!(seen.borrow_and_update().check(), Ok(()));
    }
}
