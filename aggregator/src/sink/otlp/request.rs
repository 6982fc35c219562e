//! From a batch to requests: which data point says what of which points.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use bytes::Bytes;
use prost::Message as _;
use tributary_proto::otlp::collector::ExportMetricsServiceRequest;
use tributary_proto::otlp::common::InstrumentationScope;
use tributary_proto::otlp::metrics::exponential_histogram_data_point::Buckets;
use tributary_proto::otlp::metrics::metric::Data;
use tributary_proto::otlp::metrics::summary_data_point::ValueAtQuantile;
use tributary_proto::otlp::metrics::{
    ExponentialHistogramDataPoint, Gauge, Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics,
    Sum, SummaryDataPoint, number_data_point,
};
use tributary_proto::otlp::resource::Resource;

use super::attributes::{attribute, attributes, text};
use super::config::{Histograms, OtlpConfig, Temporality};
use super::exponential::{Exponential, Side};
use super::shape::{DataPoint, MetricKey, Shape, metric, metric_key};
use super::totals::{Series, Totals};
use crate::point::{Batch, Distribution, Point, PointKind, Timestamp};
use crate::sketch::Centroid;

/// What a metric's message and one more data point take besides names and attributes, at most; and what the frame around all takes.
const METRIC_BYTES: usize = 48;
const POINT_BYTES: usize = 16;
const FRAME_BYTES: usize = 64;

/// How points look to OTLP.
#[derive(Debug)]
pub(super) struct Format {
    pub(super) temporality: Temporality,
    pub(super) monotonic_counters: bool,
    pub(super) histograms: Histograms,
    pub(super) max_buckets: usize,
    pub(super) quantiles: Vec<f64>,
    pub(super) resource: BTreeMap<String, String>,
    pub(super) max_points: usize,
    pub(super) max_bytes: usize,
}

impl Format {
    pub(super) fn new(config: &OtlpConfig) -> Self {
        Self {
            temporality: config.temporality,
            monotonic_counters: config.monotonic_counters,
            histograms: config.histograms,
            max_buckets: config.max_buckets,
            quantiles: config.quantiles.clone(),
            resource: config.resource_attributes.clone(),
            max_points: config.max_points_per_request,
            max_bytes: config.max_request_bytes.as_usize(),
        }
    }

    /// Attributes of the resource, with the host that emits.
    fn resource(&self, hostname: &str) -> Resource {
        let mut attributes = self.resource.clone();
        let mut default = |key: &str, value: &str| {
            attributes
                .entry(key.to_owned())
                .or_insert_with(|| value.to_owned());
        };
        default("service.name", "tributary");
        default("host.name", hostname);
        attributes.retain(|_, value| !value.is_empty());
        let attributes = attributes.into_iter();
        Resource {
            attributes: attributes
                .map(|(key, value)| attribute(&key, text(&value)))
                .collect(),
            ..Resource::default()
        }
    }
}

/// Where in a batch the next request begins.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Place {
    point: usize,
    distribution: usize,
}

/// One request, and how much of the batch is in it.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) body: Bytes,
    pub(super) data_points: usize,
    /// Points of the batch that its data points stand for.
    pub(super) points: usize,
    /// Points on the way that cannot be sent: they do not fit the settings, or into a request.
    pub(super) skipped: usize,
    /// Where the next one begins.
    pub(super) next: Place,
    /// What its counters come to, once it was taken.
    pub(super) totals: HashMap<Series, (u64, f64)>,
}

/// Puts together the request that begins at a place; `None` when nothing is left. What is skipped on the way makes a request without data points.
pub(super) fn next(
    format: &Format,
    batch: &Batch,
    from: Place,
    totals: &Totals,
) -> Option<Request> {
    let mut filling = Filling {
        format,
        batch,
        totals,
        pending: HashMap::new(),
        metrics: Vec::new(),
        places: HashMap::new(),
        bytes: FRAME_BYTES,
    };
    let resource = format.resource(&batch.hostname);
    filling.bytes += resource.encoded_len() + env!("CARGO_PKG_VERSION").len();
    let empty = filling.bytes;
    let (mut place, mut data_points, mut points, mut skipped) = (from, 0, 0, 0);
    while let Some(point) = batch.points.get(place.point) {
        let mut next = place;
        let distribution = batch.distributions.get(place.distribution);
        let distribution = distribution.filter(|found| {
            format.histograms != Histograms::Points && found.points.start == place.point
        });
        next.point = match distribution {
            Some(distribution) => {
                next.distribution += 1;
                distribution.points.end
            }
            None => place.point + 1,
        };
        // Every further one is behind this point.
        let taken = next.point - place.point;
        let data = match distribution {
            Some(distribution) => Some(filling.distribution(point, distribution)),
            None => filling.point(point),
        };
        let Some((shape, data, series)) = data else {
            (skipped, place) = (skipped + taken, next);
            continue;
        };
        let length = filling.length(point, shape, &data);
        if filling.bytes + length > format.max_bytes || data_points >= format.max_points {
            if filling.bytes > empty {
                break;
            }
            // It would not even fit alone.
            (skipped, place) = (skipped + taken, next);
            continue;
        }
        filling.bytes += length;
        filling.push(point, shape, data);
        filling.pending.extend(series);
        (points, data_points, place) = (points + taken, data_points + 1, next);
    }
    if place == from {
        return None;
    }
    let Filling {
        metrics, pending, ..
    } = filling;
    let scope = ScopeMetrics {
        scope: Some(InstrumentationScope {
            name: "tributary".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            ..InstrumentationScope::default()
        }),
        metrics,
        ..ScopeMetrics::default()
    };
    let message = ExportMetricsServiceRequest {
        resource_metrics: vec![ResourceMetrics {
            resource: Some(resource),
            scope_metrics: vec![scope],
            ..ResourceMetrics::default()
        }],
    };
    Some(Request {
        body: message.encode_to_vec().into(),
        data_points,
        points,
        skipped,
        next: place,
        totals: pending,
    })
}

/// A data point, its shape, and what its counter then comes to.
type Made = (Shape, DataPoint, Option<(Series, (u64, f64))>);

/// A request that is being filled.
struct Filling<'a> {
    format: &'a Format,
    batch: &'a Batch,
    totals: &'a Totals,
    pending: HashMap<Series, (u64, f64)>,
    metrics: Vec<Metric>,
    /// Where each metric is.
    places: HashMap<MetricKey, usize>,
    bytes: usize,
}

impl Filling<'_> {
    /// The data point for one point; `None` where it cannot be sent as it is.
    fn point(&self, point: &Point) -> Option<Made> {
        let mut attributes = attributes(&point.tags);
        let host = point
            .check
            .as_ref()
            .and_then(|check| check.hostname.as_deref());
        if let Some(host) = host.filter(|host| !host.is_empty()) {
            attributes.retain(|attribute| attribute.key != "host.name");
            attributes.push(attribute("host.name", text(host)));
        }
        let mut data = NumberDataPoint {
            attributes,
            time_unix_nano: nanos(point.timestamp),
            value: Some(match point.kind {
                PointKind::Integer | PointKind::Status => {
                    number_data_point::Value::AsInt(point.value as i64)
                }
                PointKind::Counter | PointKind::Gauge => {
                    number_data_point::Value::AsDouble(point.value)
                }
            }),
            ..NumberDataPoint::default()
        };
        if point.kind != PointKind::Counter {
            return Some((Shape::Gauge, DataPoint::Number(data), None));
        }
        // Only a count of samples is a counter with a suffix.
        let monotonic = point.suffix.is_some() || self.format.monotonic_counters;
        if monotonic && point.value < 0.0 {
            return None;
        }
        let shape = Shape::Sum { monotonic };
        data.start_time_unix_nano = self.start(point.timestamp);
        if self.format.temporality == Temporality::Delta {
            return Some((shape, DataPoint::Number(data), None));
        }
        let series = Series::of(point);
        let pending = self.pending.get(&series).copied();
        let known = pending.or_else(|| self.totals.get(&series));
        // Roughly: those of the request at hand may be among the known ones.
        if known.is_none() && self.totals.len() + self.pending.len() >= self.totals.most {
            return None;
        }
        let (start, before) = known.unwrap_or((data.start_time_unix_nano, 0.0));
        let total = before + point.value;
        data.start_time_unix_nano = start;
        data.value = Some(number_data_point::Value::AsDouble(total));
        Some((
            shape,
            DataPoint::Number(data),
            Some((series, (start, total))),
        ))
    }

    /// The data point for a distribution, whose first point is `point`.
    fn distribution(&self, point: &Point, distribution: &Distribution) -> Made {
        let attributes = attributes(&point.tags);
        let (start, time) = (self.start(point.timestamp), nanos(point.timestamp));
        if self.format.histograms == Histograms::Summary {
            let quantiles = self.format.quantiles.iter();
            let values = quantiles.map(|quantile| ValueAtQuantile {
                quantile: *quantile,
                value: quantile_of(distribution, *quantile),
            });
            let data = SummaryDataPoint {
                attributes,
                start_time_unix_nano: start,
                time_unix_nano: time,
                count: whole(distribution.count),
                sum: distribution.sum,
                quantile_values: values.collect(),
                ..SummaryDataPoint::default()
            };
            return (
                Shape::Summary(distribution.kind),
                DataPoint::Summary(data),
                None,
            );
        }
        let found = Exponential::of(distribution, self.format.max_buckets);
        let side = |side: Side| {
            (!side.counts.is_empty()).then_some(Buckets {
                offset: side.offset,
                bucket_counts: side.counts,
            })
        };
        let data = ExponentialHistogramDataPoint {
            attributes,
            start_time_unix_nano: start,
            time_unix_nano: time,
            count: whole(distribution.count),
            sum: Some(distribution.sum),
            scale: found.scale,
            zero_count: found.zero,
            positive: side(found.positive),
            negative: side(found.negative),
            min: Some(distribution.min),
            max: Some(distribution.max),
            ..ExponentialHistogramDataPoint::default()
        };
        (
            Shape::Histogram(distribution.kind),
            DataPoint::Histogram(data),
            None,
        )
    }

    /// When the interval of a point began; 0, which is unknown, for points that pass through.
    fn start(&self, end: Timestamp) -> u64 {
        if self.batch.interval == Duration::ZERO {
            return 0;
        }
        let interval = u64::try_from(self.batch.interval.as_nanos()).unwrap_or(u64::MAX);
        nanos(end).saturating_sub(interval)
    }

    /// How much longer a request gets by a data point, at most.
    fn length(&self, point: &Point, shape: Shape, data: &DataPoint) -> usize {
        let data = match data {
            DataPoint::Number(data) => data.encoded_len(),
            DataPoint::Histogram(data) => data.encoded_len(),
            DataPoint::Summary(data) => data.encoded_len(),
        };
        let known = self.places.contains_key(&metric_key(point, shape));
        data + POINT_BYTES
            + if known {
                0
            } else {
                METRIC_BYTES + point.name_len()
            }
    }

    fn push(&mut self, point: &Point, shape: Shape, data: DataPoint) {
        let place = match self.places.entry(metric_key(point, shape)) {
            Entry::Occupied(known) => *known.get(),
            Entry::Vacant(new) => {
                self.metrics
                    .push(metric(point, shape, self.format.temporality));
                *new.insert(self.metrics.len() - 1)
            }
        };
        let metric = self
            .metrics
            .get_mut(place)
            .and_then(|metric| metric.data.as_mut());
        match (metric, data) {
            (Some(Data::Gauge(Gauge { data_points })), DataPoint::Number(data))
            | (Some(Data::Sum(Sum { data_points, .. })), DataPoint::Number(data)) => {
                data_points.push(data)
            }
            (Some(Data::ExponentialHistogram(found)), DataPoint::Histogram(data)) => {
                found.data_points.push(data)
            }
            (Some(Data::Summary(found)), DataPoint::Summary(data)) => found.data_points.push(data),
            _ => debug_assert!(false, "a metric's shape is that of its data points"),
        }
    }
}

/// Times before 1970 have no place in OTLP and become its beginning.
fn nanos(time: Timestamp) -> u64 {
    u64::try_from(time.nanos()).unwrap_or(0)
}

fn whole(count: f64) -> u64 {
    (count.round() as u64).max(1)
}

/// The value below which a share of the samples lies, as the digest has it.
fn quantile_of(distribution: &Distribution, share: f64) -> f64 {
    let total: f64 = distribution.centroids.iter().map(Centroid::weight).sum();
    let (target, mut below, mut lower) = (share * total, 0.0, distribution.min);
    for (centroid, upper) in Centroid::spans(&distribution.centroids, distribution.max) {
        if target <= below + centroid.weight() {
            let share = ((target - below) / centroid.weight()).min(1.0);
            return lower * (1.0 - share) + upper * share;
        }
        below += centroid.weight();
        lower = upper;
    }
    distribution.max
}

#[cfg(test)]
mod tests;
