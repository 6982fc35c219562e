//! What has to be kept and is not yet: written together by whoever comes first, tried again where it failed.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, LazyLock};

use async_trait::async_trait;
use parking_lot::Mutex;
use tributary_node::repeats::Repeats;

use super::item::Item;
use super::marks::Moved;
use super::memory::Memory;
use crate::metrics;

static REPEATS: LazyLock<Repeats<&'static str>> = LazyLock::new(Repeats::default);

/// What changed since it was kept last. At most so much as there are marks, names and points on their way.
#[derive(Debug, Default)]
pub(super) struct Changes {
    /// By metric: Unix time in seconds, and the value.
    pub(super) marks: HashMap<Arc<str>, (i64, f64)>,
    /// Metrics whose marks are forgotten.
    pub(super) forgotten: HashSet<Arc<str>>,
    /// Namespaces, and names that count toward their quotas.
    pub(super) names: Vec<(Arc<str>, String)>,
    /// The items of requests that no sink has yet.
    pub(super) queued: BTreeMap<u64, Arc<[Item]>>,
    /// Requests whose items every sink has.
    pub(super) done: Vec<u64>,
}

impl Changes {
    fn is_empty(&self) -> bool {
        self.marks.is_empty()
            && self.forgotten.is_empty()
            && self.names.is_empty()
            && self.queued.is_empty()
            && self.done.is_empty()
    }

    /// Marks have moved.
    pub(super) fn move_marks(&mut self, moved: Vec<Moved>) {
        for (name, seconds, value) in moved {
            self.forgotten.remove(&name);
            let mark = self.marks.entry(name).or_insert((seconds, value));
            if seconds > mark.0 {
                *mark = (seconds, value);
            }
        }
    }

    /// Marks are forgotten.
    pub(super) fn forget(&mut self, names: Vec<Arc<str>>) {
        for name in names {
            self.marks.remove(&name);
            self.forgotten.insert(name);
        }
    }

    /// Puts back what could not be written; what has changed since goes before it.
    fn put_back(&mut self, mut older: Self) {
        older.marks.retain(|name, _| !self.forgotten.contains(name));
        older
            .forgotten
            .retain(|name| !self.marks.contains_key(name));
        for (name, mark) in older.marks {
            let (seconds, value) = mark;
            self.move_marks(vec![(name, seconds, value)]);
        }
        self.forgotten.extend(older.forgotten);
        self.names.extend(older.names);
        self.queued.extend(older.queued);
        self.done.extend(older.done);
    }
}

/// Where changes are kept.
#[async_trait]
pub(super) trait Keep: Send + Sync {
    /// The `cause` tag when it fails.
    const CAUSE: &'static str;

    /// Keeps all of it or nothing.
    async fn keep(&self, changes: &Arc<Changes>) -> Result<(), String>;
}

/// Changes on their way to where they are kept.
pub(super) struct Outbox<K> {
    keeper: K,
    changes: Mutex<Changes>,
    /// Held by whoever writes.
    turn: tokio::sync::Mutex<()>,
}

impl<K: Keep> Outbox<K> {
    pub(super) fn new(keeper: K) -> Self {
        Self {
            keeper,
            changes: Mutex::default(),
            turn: tokio::sync::Mutex::default(),
        }
    }

    pub(super) fn keeper(&self) -> &K {
        &self.keeper
    }

    /// Notes changes.
    pub(super) fn note(&self, change: impl FnOnce(&mut Changes)) {
        change(&mut self.changes.lock());
    }

    /// Returns when everything noted before is kept. What could not be is tried again with the next call.
    ///
    /// # Errors
    /// When it could not be kept, in words that have been logged.
    pub(super) async fn send(&self) -> Result<(), String> {
        let _turn = self.turn.lock().await;
        let changes = std::mem::take(&mut *self.changes.lock());
        if changes.is_empty() {
            // Somebody else's turn has taken them along.
            return Ok(());
        }
        let changes = Arc::new(changes);
        let kept = self.keeper.keep(&changes).await;
        if let Err(error) = &kept {
            metrics::FLUX_KEEP_ERRORS
                .with([K::CAUSE.into()])
                .increment(1);
            if let Some(more) = REPEATS.tell(&K::CAUSE) {
                tracing::error!(error, "cannot keep what Flux has to remember{more}");
            }
            match Arc::try_unwrap(changes) {
                Ok(changes) => self.changes.lock().put_back(changes),
                Err(_) => tracing::error!("changes that Flux has to remember are lost"),
            }
        }
        kept
    }
}

#[async_trait]
impl Keep for Memory {
    const CAUSE: &'static str = "state_dir";

    async fn keep(&self, changes: &Arc<Changes>) -> Result<(), String> {
        let (memory, changes) = (self.clone(), Arc::clone(changes));
        let writing = tokio::task::spawn_blocking(move || {
            let written = memory.write(&changes);
            // Before it is told, so that the caller is the only one who has them.
            drop(changes);
            written.map_err(|error| error.to_string())
        });
        writing.await.map_err(|error| error.to_string())?
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    #[derive(Default)]
    struct Disk {
        full: AtomicBool,
        marks: Mutex<Vec<(String, i64)>>,
        names: Mutex<usize>,
    }

    #[async_trait]
    impl Keep for Disk {
        const CAUSE: &'static str = "test";

        async fn keep(&self, changes: &Arc<Changes>) -> Result<(), String> {
            if self.full.load(Ordering::Relaxed) {
                return Err("full".to_owned());
            }
            let marks = changes.marks.iter();
            let marks = marks.map(|(name, (seconds, _))| (name.to_string(), *seconds));
            self.marks.lock().extend(marks);
            *self.names.lock() += changes.names.len();
            Ok(())
        }
    }

    #[tokio::test]
    async fn what_could_not_be_written_is_written_later_with_what_came_since() {
        let outbox = Outbox::new(Disk::default());
        outbox.keeper().full.store(true, Ordering::Relaxed);
        let moved = |seconds| {
            move |changes: &mut Changes| {
                changes.move_marks(vec![("a".into(), seconds, 0.0)]);
            }
        };
        outbox.note(moved(5));
        outbox.note(|changes| changes.names.push(("ns".into(), "x".to_owned())));
        assert!(outbox.send().await.is_err());
        outbox.note(moved(7));
        outbox.note(moved(6));
        outbox.keeper().full.store(false, Ordering::Relaxed);
        outbox.send().await.unwrap();
        outbox.send().await.unwrap();
        assert_eq!(*outbox.keeper().marks.lock(), [("a".to_owned(), 7)]);
        assert_eq!(*outbox.keeper().names.lock(), 1);
    }
}
