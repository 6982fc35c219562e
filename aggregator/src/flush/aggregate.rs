//! Which aggregates of a histogram or timer are emitted.

use std::sync::{Arc, LazyLock};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::point::PointKind;

/// One number that sums a histogram or timer up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[repr(u8)]
pub enum Aggregate {
    /// The largest value.
    Max,
    /// The smallest value.
    Min,
    /// Of all values, scaled by sample rate.
    Sum,
    /// The arithmetic mean.
    Avg,
    /// How many values, scaled by sample rate; the only one that is a counter.
    Count,
    /// The value in the middle.
    Median,
    /// The harmonic mean.
    Hmean,
}

impl Aggregate {
    /// All, in the order of their points.
    pub const ALL: [Self; 7] = [
        Self::Max,
        Self::Min,
        Self::Sum,
        Self::Avg,
        Self::Count,
        Self::Median,
        Self::Hmean,
    ];

    /// What it adds to a name, with its dot.
    pub(super) fn suffix(self) -> &'static Arc<str> {
        static SUFFIXES: LazyLock<[Arc<str>; 7]> = LazyLock::new(|| {
            [
                ".max", ".min", ".sum", ".avg", ".count", ".median", ".hmean",
            ]
            .map(Arc::from)
        });
        &SUFFIXES[self as usize]
    }

    /// How its points are read.
    pub(super) fn point_kind(self) -> PointKind {
        match self {
            Self::Count => PointKind::Counter,
            _ => PointKind::Gauge,
        }
    }
}

/// A choice of aggregates. The default is Veneur's: min, max and count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Aggregates(u8);

impl Aggregates {
    /// Whether `aggregate` is chosen.
    pub fn contains(self, aggregate: Aggregate) -> bool {
        self.0 & (1 << aggregate as u8) != 0
    }

    /// The chosen ones, in the order of their points.
    pub fn iter(self) -> impl Iterator<Item = Aggregate> {
        Aggregate::ALL
            .into_iter()
            .filter(move |aggregate| self.contains(*aggregate))
    }
}

impl Default for Aggregates {
    fn default() -> Self {
        [Aggregate::Min, Aggregate::Max, Aggregate::Count]
            .into_iter()
            .collect()
    }
}

impl FromIterator<Aggregate> for Aggregates {
    fn from_iter<I: IntoIterator<Item = Aggregate>>(aggregates: I) -> Self {
        let bits = aggregates
            .into_iter()
            .fold(0, |bits, aggregate| bits | 1 << aggregate as u8);
        Self(bits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aggregates_come_in_the_order_of_their_points_whatever_the_order_of_choice() {
        let chosen: Aggregates = [Aggregate::Hmean, Aggregate::Count, Aggregate::Max]
            .into_iter()
            .collect();
        assert_eq!(
            chosen.iter().collect::<Vec<_>>(),
            [Aggregate::Max, Aggregate::Count, Aggregate::Hmean]
        );
        assert!(!chosen.contains(Aggregate::Min));
    }

    #[test]
    fn each_suffix_is_the_name_in_the_configuration() {
        for aggregate in Aggregate::ALL {
            let name = serde_json::to_value(aggregate).unwrap();
            assert_eq!(
                aggregate.suffix().as_ref(),
                format!(".{}", name.as_str().unwrap())
            );
        }
    }

    #[test]
    fn the_default_is_min_max_and_count() {
        let chosen: Vec<_> = Aggregates::default().iter().collect();
        assert_eq!(chosen, [Aggregate::Max, Aggregate::Min, Aggregate::Count]);
    }
}
