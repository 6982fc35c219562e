//! Where finished points go, from a flush or from a source whose points only pass through.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::RwLock;

use crate::history::History;
use crate::metrics;
use crate::point::{Batch, Point};
use crate::receipt::Receipt;
use crate::sink::{Problems, RoutingRule, SinkConfig, Sinks};
use crate::source::PointIntake;

/// The sinks, for all who have points. Clones share it.
#[derive(Clone)]
pub(super) struct Outlet(Arc<Shared>);

struct Shared {
    sinks: RwLock<Sinks>,
    /// The sinks were taken.
    closed: AtomicBool,
    hostname: Arc<str>,
    history: Option<History>,
}

impl Outlet {
    pub(super) fn new(sinks: Sinks, hostname: Arc<str>, history: Option<History>) -> Self {
        Self(Arc::new(Shared {
            sinks: RwLock::new(sinks),
            closed: AtomicBool::new(false),
            hostname,
            history,
        }))
    }

    /// Hands points to the sinks; see [`Sinks::send`]. The history keeps them whatever sinks there are.
    pub(super) fn send(&self, batch: Arc<Batch>) {
        if let Some(history) = &self.0.history {
            history.take(&batch);
        }
        let sinks = self.0.sinks.read();
        if self.0.closed.load(Ordering::Relaxed) {
            batch.lose(batch.points.len());
        }
        sinks.send(batch);
    }

    /// Looks at the sinks as they are.
    pub(super) fn look<T>(&self, at: impl FnOnce(&Sinks) -> T) -> T {
        at(&self.0.sinks.read())
    }

    /// Goes over to other sinks; see [`Sinks::replace`].
    pub(super) fn replace(
        &self,
        sinks: &[SinkConfig],
        rules: &[RoutingRule],
    ) -> Result<Sinks, Problems> {
        self.0.sinks.write().replace(sinks, rules)
    }

    /// Takes the sinks, to close them. What is sent after that goes nowhere, and its receipts say so.
    pub(super) fn take(&self) -> Sinks {
        let mut sinks = self.0.sinks.write();
        self.0.closed.store(true, Ordering::Relaxed);
        std::mem::take(&mut *sinks)
    }
}

impl PointIntake for Outlet {
    fn pass(&self, points: Vec<Point>, receipt: Receipt) {
        metrics::POINTS_PASSED.increment(points.len() as u64);
        self.send(Arc::new(Batch {
            points: points.into(),
            distributions: Vec::new(),
            events: Vec::new(),
            hostname: Arc::clone(&self.0.hostname),
            interval: Duration::ZERO,
            receipts: vec![receipt],
        }));
    }

    fn hurry(&self) {
        self.look(Sinks::hurry);
    }
}
