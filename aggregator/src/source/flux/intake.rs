//! From good metrics to points that are with the sinks.

use std::sync::atomic::Ordering;

use super::event::PointsMet;
use super::item::Item;
use super::tallies::Tallies;
use crate::key::Tags;
use crate::point::{Point, PointKind, Timestamp};
use crate::receipt::Receipt;
use crate::source::Outlets;

/// Takes what requests bring.
pub(super) struct Intake {
    outlets: Outlets,
    tallies: Tallies,
}

impl Intake {
    pub(super) fn new(outlets: Outlets) -> Self {
        Self {
            outlets,
            tallies: Tallies::default(),
        }
    }

    pub(super) fn tallies(&self) -> &Tallies {
        &self.tallies
    }

    /// Hands items over. When it returns, the points are with the outlet.
    pub(super) fn take(&self, items: Vec<Item>, _now: i64) {
        let points: Vec<_> = items.iter().map(point).collect();
        PointsMet {
            fate: "passed",
            count: points.len(),
        }
        .emit();
        self.tallies
            .added
            .fetch_add(points.len() as u64, Ordering::Relaxed);
        self.outlets.points.pass(points, Receipt::default());
    }
}

fn point(item: &Item) -> Point {
    Point {
        base: item.name.as_str().into(),
        suffix: None,
        tags: Tags::default(),
        kind: PointKind::Gauge,
        value: item.value,
        timestamp: Timestamp::from_seconds(item.seconds),
        check: None,
    }
}
