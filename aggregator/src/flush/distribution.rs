//! Aggregates and percentiles of a histogram or timer.

use std::ops::Range;

use super::aggregate::Aggregate;
use super::{Flush, Role};
use crate::key::{Key, Scope};
use crate::point::{self, PointKind};
use crate::table::{Distribution, OwnSamples};

/// What of a distribution a tier's sinks see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum View {
    /// Nothing: it is forwarded and emitted above.
    Nothing,
    /// Aggregates of what this tier sampled itself; the percentiles are emitted above.
    Own,
    /// Aggregates of what this tier sampled itself, percentiles of everything merged.
    OwnAndPercentiles,
    /// Aggregates and percentiles of everything merged.
    Merged,
}

impl View {
    pub(super) fn of(role: Role, scope: Scope) -> Self {
        match (role, scope) {
            (Role::Local, Scope::Global) => Self::Nothing,
            (Role::Local, Scope::Mixed) => Self::Own,
            (_, Scope::Local) | (Role::Global, Scope::Mixed) => Self::OwnAndPercentiles,
            (Role::Global, Scope::Global) => Self::Merged,
        }
    }
}

impl Flush<'_> {
    pub(super) fn distribution(&mut self, key: &Key, distribution: &mut Distribution, view: View) {
        // Imports of empty digests are refused, so this is a matter of not depending on it: an empty digest's quantiles are NaN.
        if view == View::Nothing || distribution.digest.is_empty() {
            return;
        }
        for aggregate in self.settings.aggregates.iter() {
            let value = match (aggregate, view) {
                (Aggregate::Median, _) => Some(distribution.digest.quantile(0.5)),
                (_, View::Merged) => Some(of_merged(aggregate, distribution)),
                _ => of_own(aggregate, &distribution.own),
            };
            if let Some(value) = value {
                self.point(key, Some(aggregate.suffix()), aggregate.point_kind(), value);
            }
        }
        if view != View::Own {
            for percentile in self.settings.percentiles.iter() {
                let value = distribution.digest.quantile(percentile.share);
                self.point(key, Some(&percentile.suffix), PointKind::Gauge, value);
            }
        }
    }
}

/// The distribution behind a series' points.
///
/// An agent's digest is of its own samples unless state was imported into it as well. The two cannot be told apart then, and what was
/// imported is emitted by the tier above: such a series has its points alone.
pub(super) fn whole(
    key: &Key,
    distribution: &mut Distribution,
    view: View,
    points: Range<usize>,
) -> Option<point::Distribution> {
    let (digest, own) = (&mut distribution.digest, &distribution.own);
    // The same weights, added up in another order.
    let is_own = || (digest.count() - own.weight).abs() <= own.weight * 1e-9;
    if view == View::Nothing || view == View::Own && !is_own() {
        return None;
    }
    let sum = match view {
        View::Own => own.sum,
        _ => digest.sum(),
    };
    // Values near the largest float: no format has room for their sum.
    let finite = sum.is_finite() && digest.count() > 0.0;
    finite.then(|| point::Distribution {
        points,
        kind: key.kind(),
        count: digest.count(),
        sum,
        min: digest.min(),
        max: digest.max(),
        centroids: digest.centroids().into(),
    })
}

/// Of everything merged; never asked of an empty digest.
fn of_merged(aggregate: Aggregate, distribution: &mut Distribution) -> f64 {
    let digest = &mut distribution.digest;
    match aggregate {
        Aggregate::Max => digest.max(),
        Aggregate::Min => digest.min(),
        Aggregate::Sum => digest.sum(),
        Aggregate::Avg => digest.sum() / digest.count(),
        Aggregate::Count => digest.count(),
        Aggregate::Median => digest.quantile(0.5),
        Aggregate::Hmean => digest.count() / digest.reciprocal_sum(),
    }
}

/// Of this tier's samples, where there were any. As with Veneur a sum of 0 stands for no samples, so values that add up to 0 have no sum and no
/// average.
fn of_own(aggregate: Aggregate, own: &OwnSamples) -> Option<f64> {
    let sampled = own.weight != 0.0;
    let (emitted, value) = match aggregate {
        Aggregate::Max => (own.max.is_finite(), own.max),
        Aggregate::Min => (own.min.is_finite(), own.min),
        Aggregate::Sum => (own.sum != 0.0, own.sum),
        Aggregate::Avg => (sampled && own.sum != 0.0, own.sum / own.weight),
        Aggregate::Count => (sampled, own.weight),
        Aggregate::Hmean => (
            sampled && own.reciprocal_sum != 0.0,
            own.weight / own.reciprocal_sum,
        ),
        // Taken from the digest, which only the caller has.
        Aggregate::Median => (false, f64::NAN),
    };
    emitted.then_some(value)
}
