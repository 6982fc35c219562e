//! From a request's metrics to samples.
//!
//! | metric | becomes |
//! |---|---|
//! | sum, delta | a counter |
//! | sum, cumulative and monotonic | a counter, by what is new since the last value |
//! | sum, cumulative and not monotonic | a gauge |
//! | gauge | a gauge |
//! | histogram, exponential histogram | a histogram, or with the unit `ms` a timer, by what is [in the buckets](super::buckets) |
//! | summary | gauges with the tag `quantile`, and the counters `NAME.count` and `NAME.sum` |
//!
//! Names stay as they are, and units do nothing else. Attributes become tags `key:value`.

use std::collections::BTreeMap;
use std::time::Instant;

use tributary_proto::otlp::collector::ExportMetricsServiceRequest;
use tributary_proto::otlp::common::KeyValue;
use tributary_proto::otlp::common::any_value::Value as Any;
use tributary_proto::otlp::metrics::exponential_histogram_data_point::Buckets;
use tributary_proto::otlp::metrics::metric::Data;
use tributary_proto::otlp::metrics::{
    AggregationTemporality, DataPointFlags, ExponentialHistogramDataPoint, HistogramDataPoint,
    Metric, NumberDataPoint, SummaryDataPoint, number_data_point,
};
use xxhash_rust::xxh3::Xxh3;

use super::attributes::{hash_attributes, hash_text, push_attribute, push_tag};
use super::buckets::{Bucket, Known, samples};
use super::streams::{Exponential, Span, Step, Streams, Total};
use crate::key::Kind;
use crate::sample::{Sample, Value};
use crate::source::Intake;

/// Finer and coarser ones no protocol knows.
const SCALES: std::ops::RangeInclusive<i32> = -11..=30;

/// What became of a request's data points.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Outcome {
    /// By what they were.
    pub(super) taken: BTreeMap<&'static str, u64>,
    /// That bring nothing, by why.
    pub(super) skipped: BTreeMap<&'static str, u64>,
    /// By what is wrong with them.
    pub(super) refused: BTreeMap<&'static str, u64>,
}

/// Takes all data points that can be taken.
pub(super) fn take(
    request: &ExportMetricsServiceRequest,
    resource_attributes: &[String],
    streams: &Streams,
    intake: &mut dyn Intake,
) -> Outcome {
    let mut outcome = Outcome::default();
    for of_resource in &request.resource_metrics {
        let attributes = of_resource
            .resource
            .as_ref()
            .map_or(&[][..], |resource| &resource.attributes);
        let mut identity = Xxh3::new();
        hash_attributes(&mut identity, attributes);
        let of_resource_tags: Vec<&KeyValue> = attributes
            .iter()
            .filter(|attribute| resource_attributes.contains(&attribute.key))
            .collect();
        for of_scope in &of_resource.scope_metrics {
            let mut identity = identity.clone();
            if let Some(scope) = &of_scope.scope {
                hash_text(&mut identity, &scope.name);
                hash_text(&mut identity, &scope.version);
                hash_attributes(&mut identity, &scope.attributes);
            }
            for metric in &of_scope.metrics {
                let mut identity = identity.clone();
                hash_text(&mut identity, &metric.name);
                let mut taking = Taking {
                    metric,
                    resource: &of_resource_tags,
                    identity: &identity,
                    streams,
                    intake,
                    outcome: &mut outcome,
                    tags: String::new(),
                };
                taking.metric();
            }
        }
    }
    intake.end_batch();
    outcome
}

/// One metric at hand.
struct Taking<'a> {
    metric: &'a Metric,
    /// Attributes of the resource that become tags.
    resource: &'a [&'a KeyValue],
    /// Of resource, scope and metric.
    identity: &'a Xxh3,
    streams: &'a Streams,
    intake: &'a mut dyn Intake,
    outcome: &'a mut Outcome,
    /// Of the data point at hand, joined by commas.
    tags: String,
}

/// Why a data point is no sample.
enum No {
    /// It brings nothing.
    Skipped(&'static str),
    /// It cannot be taken.
    Refused(&'static str),
}

impl From<crate::source::Refused> for No {
    fn from(refused: crate::source::Refused) -> Self {
        Self::Refused(refused.cause)
    }
}

impl Taking<'_> {
    fn metric(&mut self) {
        let metric = self.metric;
        match &metric.data {
            None => self.settle("empty", Err(No::Refused("no_data"))),
            Some(Data::Gauge(gauge)) => {
                for point in &gauge.data_points {
                    let taken =
                        self.number(point, |taking, value| taking.sample(Kind::Gauge, value));
                    self.settle("gauge", taken);
                }
            }
            Some(Data::Sum(sum)) => {
                let temporality = sum.aggregation_temporality();
                for point in &sum.data_points {
                    let taken = self.number(point, |taking, value| {
                        taking.sum(point, value, temporality, sum.is_monotonic)
                    });
                    self.settle("sum", taken);
                }
            }
            Some(Data::Histogram(histogram)) => {
                let temporality = histogram.aggregation_temporality();
                for point in &histogram.data_points {
                    let taken = self.histogram(point, temporality);
                    self.settle("histogram", taken);
                }
            }
            Some(Data::ExponentialHistogram(histogram)) => {
                let temporality = histogram.aggregation_temporality();
                for point in &histogram.data_points {
                    let taken = self.exponential(point, temporality);
                    self.settle("exponential_histogram", taken);
                }
            }
            Some(Data::Summary(summary)) => {
                for point in &summary.data_points {
                    let taken = self.summary(point);
                    self.settle("summary", taken);
                }
            }
        }
    }

    fn settle(&mut self, sort: &'static str, taken: Result<(), No>) {
        let count = match taken {
            Ok(()) => self.outcome.taken.entry(sort),
            Err(No::Skipped(cause)) => self.outcome.skipped.entry(cause),
            Err(No::Refused(cause)) => self.outcome.refused.entry(cause),
        };
        *count.or_default() += 1;
    }

    fn number(
        &mut self,
        point: &NumberDataPoint,
        take: impl FnOnce(&mut Self, f64) -> Result<(), No>,
    ) -> Result<(), No> {
        recorded(point.flags)?;
        self.set_tags(&point.attributes);
        match point.value {
            Some(number_data_point::Value::AsDouble(value)) => take(self, finite(value)?),
            Some(number_data_point::Value::AsInt(value)) => take(self, value as f64),
            None => Err(No::Refused("no_value")),
        }
    }

    fn sum(
        &mut self,
        point: &NumberDataPoint,
        value: f64,
        temporality: AggregationTemporality,
        monotonic: bool,
    ) -> Result<(), No> {
        match (temporality, monotonic) {
            (AggregationTemporality::Delta, _) => self.sample(Kind::Counter, value),
            (AggregationTemporality::Cumulative, false) => self.sample(Kind::Gauge, value),
            (AggregationTemporality::Cumulative, true) => {
                let span = Span {
                    start: point.start_time_unix_nano,
                    time: point.time_unix_nano,
                };
                match self.step("", &point.attributes, span, Total::Number(value))? {
                    Total::Number(new) => self.sample(Kind::Counter, new),
                    _ => Ok(()),
                }
            }
            (AggregationTemporality::Unspecified, _) => Err(No::Refused("temporality")),
        }
    }

    fn histogram(
        &mut self,
        point: &HistogramDataPoint,
        temporality: AggregationTemporality,
    ) -> Result<(), No> {
        recorded(point.flags)?;
        self.set_tags(&point.attributes);
        let (bounds, mut counts) = (&point.explicit_bounds, point.bucket_counts.clone());
        if counts.is_empty() && bounds.is_empty() {
            counts = vec![point.count];
        }
        let ascending = bounds.iter().zip(bounds.iter().skip(1)).all(|(a, b)| a < b);
        let finite_bounds = bounds.iter().all(|bound| bound.is_finite());
        if counts.len() != bounds.len() + 1
            || !ascending
            || !finite_bounds
            || total(&counts) != Some(point.count)
        {
            return Err(No::Refused("buckets"));
        }
        let sum = point.sum.map(finite).transpose()?;
        let mut known = Known {
            sum,
            min: point.min,
            max: point.max,
        };
        let counts = match temporality {
            AggregationTemporality::Delta => counts,
            AggregationTemporality::Cumulative => {
                let span = Span {
                    start: point.start_time_unix_nano,
                    time: point.time_unix_nano,
                };
                let now = Total::Explicit {
                    bounds: bounds.clone(),
                    counts,
                    sum,
                };
                match self.step("", &point.attributes, span, now)? {
                    Total::Explicit { counts, sum, .. } => {
                        known = Known {
                            sum,
                            ..Known::default()
                        };
                        counts
                    }
                    _ => return Ok(()),
                }
            }
            AggregationTemporality::Unspecified => return Err(No::Refused("temporality")),
        };
        let lower = std::iter::once(f64::NEG_INFINITY).chain(bounds.iter().copied());
        let upper = bounds.iter().copied().chain(std::iter::once(f64::INFINITY));
        let mut buckets: Vec<_> = lower
            .zip(upper)
            .zip(counts)
            .map(|((lower, upper), count)| Bucket {
                lower,
                upper,
                count,
            })
            .collect();
        if let [only] = buckets.as_mut_slice()
            && only.count > 0
            && (known.min, known.max) == (None, None)
        {
            // Nothing is known but the average.
            let average = known.sum.ok_or(No::Refused("buckets"))? / only.count as f64;
            (only.lower, only.upper) = (average, average);
        }
        self.buckets(&buckets, known)
    }

    fn exponential(
        &mut self,
        point: &ExponentialHistogramDataPoint,
        temporality: AggregationTemporality,
    ) -> Result<(), No> {
        recorded(point.flags)?;
        self.set_tags(&point.attributes);
        let side = |buckets: &Option<Buckets>| -> Vec<(i64, u64)> {
            let Some(buckets) = buckets else {
                return Vec::new();
            };
            let counts = (i64::from(buckets.offset)..).zip(&buckets.bucket_counts);
            counts
                .filter(|(_, count)| **count > 0)
                .map(|(index, count)| (index, *count))
                .collect()
        };
        let sum = point.sum.map(finite).transpose()?;
        let mut found = Exponential {
            scale: point.scale,
            zero: point.zero_count,
            positive: side(&point.positive),
            negative: side(&point.negative),
            sum,
        };
        let counts = found
            .positive
            .iter()
            .chain(&found.negative)
            .map(|(_, count)| count);
        let all = counts
            .chain([&found.zero])
            .try_fold(0_u64, |all, count| all.checked_add(*count));
        if !SCALES.contains(&point.scale) || all != Some(point.count) {
            return Err(No::Refused("buckets"));
        }
        let mut known = Known {
            sum,
            min: point.min,
            max: point.max,
        };
        match temporality {
            AggregationTemporality::Delta => {}
            AggregationTemporality::Cumulative => {
                let span = Span {
                    start: point.start_time_unix_nano,
                    time: point.time_unix_nano,
                };
                match self.step("", &point.attributes, span, Total::Exponential(found))? {
                    Total::Exponential(new) => found = new,
                    _ => return Ok(()),
                }
                known = Known {
                    sum: found.sum,
                    ..Known::default()
                };
            }
            AggregationTemporality::Unspecified => return Err(No::Refused("temporality")),
        }
        let bound = |index: i64| (index as f64 * f64::from(-found.scale).exp2()).exp2();
        let ends = |index: i64| (bound(index), bound(index.saturating_add(1)).min(f64::MAX));
        if found
            .positive
            .iter()
            .chain(&found.negative)
            .any(|(index, _)| !bound(*index).is_finite())
        {
            return Err(No::Refused("buckets"));
        }
        let below = found.negative.iter().rev().map(|(index, count)| {
            let (lower, upper) = ends(*index);
            Bucket {
                lower: -upper,
                upper: -lower,
                count: *count,
            }
        });
        let zero = Bucket {
            lower: 0.0,
            upper: 0.0,
            count: found.zero,
        };
        let above = found.positive.iter().map(|(index, count)| {
            let (lower, upper) = ends(*index);
            Bucket {
                lower,
                upper,
                count: *count,
            }
        });
        let buckets: Vec<_> = below.chain([zero]).chain(above).collect();
        self.buckets(&buckets, known)
    }

    fn summary(&mut self, point: &SummaryDataPoint) -> Result<(), No> {
        recorded(point.flags)?;
        for value in &point.quantile_values {
            finite(value.value)?;
        }
        let sum = finite(point.sum)?;
        self.set_tags(&point.attributes);
        let span = Span {
            start: point.start_time_unix_nano,
            time: point.time_unix_nano,
        };
        for (suffix, value) in [(".count", point.count as f64), (".sum", sum)] {
            match self.step(suffix, &point.attributes, span, Total::Number(value)) {
                Ok(Total::Number(new)) => self.named(suffix, Kind::Counter, new, 1.0)?,
                // The quantiles are of use all the same.
                Ok(_) | Err(No::Skipped("first")) => {}
                Err(no) => return Err(no),
            }
        }
        let own = self.tags.len();
        for value in &point.quantile_values {
            push_tag(&mut self.tags, "quantile", &value.quantile.to_string());
            self.sample(Kind::Gauge, value.value)?;
            self.tags.truncate(own);
        }
        Ok(())
    }

    fn buckets(&mut self, buckets: &[Bucket], known: Known) -> Result<(), No> {
        let finite = |value: Option<f64>| value.filter(|value| value.is_finite());
        let known = Known {
            min: finite(known.min),
            max: finite(known.max),
            ..known
        };
        let kind = match self.metric.unit.as_str() {
            "ms" => Kind::Timer,
            _ => Kind::Histogram,
        };
        let mut taken = Ok(());
        samples(buckets, known, |value, weight| {
            if taken.is_ok() {
                taken = self.named("", kind, value, 1.0 / weight as f64);
            }
        });
        taken
    }

    fn sample(&mut self, kind: Kind, value: f64) -> Result<(), No> {
        self.named("", kind, value, 1.0)
    }

    fn named(&mut self, suffix: &str, kind: Kind, value: f64, rate: f64) -> Result<(), No> {
        let name = match suffix {
            "" => std::borrow::Cow::Borrowed(self.metric.name.as_bytes()),
            suffix => std::borrow::Cow::Owned(format!("{}{suffix}", self.metric.name).into_bytes()),
        };
        self.intake.sample(&Sample {
            name: &name,
            kind,
            tags: (!self.tags.is_empty()).then_some(self.tags.as_bytes()),
            value: Value::Number(value),
            rate,
        })?;
        Ok(())
    }

    /// What is new in a cumulative value.
    fn step(
        &mut self,
        suffix: &str,
        attributes: &[KeyValue],
        span: Span,
        value: Total,
    ) -> Result<Total, No> {
        let mut identity = self.identity.clone();
        hash_text(&mut identity, suffix);
        hash_attributes(&mut identity, attributes);
        match self
            .streams
            .step(identity.digest128(), span, value, Instant::now())
        {
            Step::New(new) => Ok(new),
            Step::First => Err(No::Skipped("first")),
            Step::Late => Err(No::Skipped("late")),
            Step::Full => Err(No::Refused("max_series")),
        }
    }

    /// Tags of the data point at hand: its attributes, and those of the resource that it does not have itself.
    fn set_tags(&mut self, attributes: &[KeyValue]) {
        self.tags.clear();
        let own = |key: &str| attributes.iter().any(|attribute| attribute.key == key);
        let resource = self
            .resource
            .iter()
            .copied()
            .filter(|attribute| !own(&attribute.key));
        for attribute in resource.chain(attributes) {
            let value = attribute
                .value
                .as_ref()
                .and_then(|value| value.value.as_ref());
            match value {
                Some(Any::ArrayValue(list)) => {
                    for value in &list.values {
                        push_attribute(&mut self.tags, &attribute.key, value.value.as_ref());
                    }
                }
                value => push_attribute(&mut self.tags, &attribute.key, value),
            }
        }
    }
}

/// A data point may say that there is no value.
fn recorded(flags: u32) -> Result<(), No> {
    match flags & DataPointFlags::NoRecordedValueMask as u32 {
        0 => Ok(()),
        _ => Err(No::Skipped("no_recorded_value")),
    }
}

fn finite(value: f64) -> Result<f64, No> {
    match value.is_finite() {
        true => Ok(value),
        false => Err(No::Refused("not_finite")),
    }
}

fn total(counts: &[u64]) -> Option<u64> {
    counts
        .iter()
        .try_fold(0_u64, |all, count| all.checked_add(*count))
}

#[cfg(test)]
mod tests;
