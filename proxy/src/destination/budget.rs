//! How much a proxy may hold in memory, over all destinations.
//!
//! What always holds: [`Budget::used`] is what the queues hold, and what is known of requests that wait; what is set apart is given back.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::buffers::Buffers;

/// Bytes that a proxy holds: all queues together, and what is known of requests that wait.
#[derive(Debug)]
pub struct Budget {
    limit: AtomicUsize,
    used: AtomicUsize,
    /// Of requests that are being queued at this moment.
    reserved: AtomicUsize,
    buffers: Buffers,
}

/// Bytes of a [`Budget`] that are given back when this is dropped.
#[derive(Debug)]
pub(crate) struct Held {
    budget: Arc<Budget>,
    bytes: usize,
    reserved: bool,
}

impl Budget {
    /// A budget of this many bytes.
    pub fn new(limit: usize) -> Self {
        Self {
            limit: AtomicUsize::new(limit),
            used: AtomicUsize::new(0),
            reserved: AtomicUsize::new(0),
            buffers: Buffers::default(),
        }
    }

    /// What all queues share beside the budget.
    pub(super) fn buffers(&self) -> &Buffers {
        &self.buffers
    }

    /// It is this many bytes from now on. What is held beyond it stays until there is more to hold.
    pub(crate) fn set_limit(&self, limit: usize) {
        self.limit.store(limit, Ordering::Relaxed);
    }

    fn limit(&self) -> usize {
        self.limit.load(Ordering::Relaxed)
    }

    /// Whether the queues hold more than they may.
    pub fn is_exceeded(&self) -> bool {
        self.used() > self.limit()
    }

    /// Bytes held now.
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    pub(super) fn add(&self, bytes: usize) {
        self.used.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn sub(&self, bytes: usize) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Sets bytes apart for a request that is about to be queued; `None` if there is no room for it.
    pub(crate) fn reserve(self: &Arc<Self>, bytes: usize) -> Option<Held> {
        let held = Held {
            budget: self.clone(),
            bytes,
            reserved: true,
        };
        let before = self.reserved.fetch_add(bytes, Ordering::Relaxed);
        let wanted = self.used().saturating_add(before).saturating_add(bytes);
        // Dropped, it gives back what it took.
        (wanted <= self.limit()).then_some(held)
    }

    /// Counts bytes until what is given back is dropped.
    pub(crate) fn hold(self: &Arc<Self>, bytes: usize) -> Held {
        self.add(bytes);
        Held {
            budget: self.clone(),
            bytes,
            reserved: false,
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let of = match self.reserved {
            true => &self.budget.reserved,
            false => &self.budget.used,
        };
        of.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_sets_apart_no_more_than_it_has() {
        let budget = Arc::new(Budget::new(100));
        let held = budget.hold(30);
        let reserved = budget.reserve(60).unwrap();
        assert!(budget.reserve(11).is_none());
        drop(reserved);
        let whole = budget.reserve(70);
        assert!(whole.is_some());
        assert!(!budget.is_exceeded());
        budget.set_limit(29);
        assert!(budget.is_exceeded());
        drop((whole, held));
        assert_eq!(
            (budget.used(), budget.reserved.load(Ordering::Relaxed)),
            (0, 0)
        );
    }
}
