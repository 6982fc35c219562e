//! What data points of one metric have in common: they are gathered in one message.

use std::sync::Arc;

use tributary_proto::otlp::metrics::metric::Data;
use tributary_proto::otlp::metrics::{
    AggregationTemporality, ExponentialHistogram, ExponentialHistogramDataPoint, Gauge, Metric,
    NumberDataPoint, Sum, Summary, SummaryDataPoint,
};

use super::config::Temporality;
use crate::key::Kind;
use crate::point::Point;

/// What data points of one metric have in common besides its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Shape {
    Gauge,
    Sum { monotonic: bool },
    Histogram(Kind),
    Summary(Kind),
}

/// One data point.
pub(super) enum DataPoint {
    Number(NumberDataPoint),
    Histogram(ExponentialHistogramDataPoint),
    Summary(SummaryDataPoint),
}

/// What tells the metrics of one request apart: name, suffix and shape.
pub(super) type MetricKey = (Arc<str>, Option<Arc<str>>, Shape);

/// A distribution's metric has no suffix, whatever its first point's is.
pub(super) fn metric_key(point: &Point, shape: Shape) -> MetricKey {
    let suffix = match shape {
        Shape::Gauge | Shape::Sum { .. } => point.suffix.clone(),
        Shape::Histogram(_) | Shape::Summary(_) => None,
    };
    (Arc::clone(&point.base), suffix, shape)
}

/// A metric without data points.
pub(super) fn metric(point: &Point, shape: Shape, temporality: Temporality) -> Metric {
    let delta = AggregationTemporality::Delta as i32;
    let (name, kind, data) = match shape {
        Shape::Gauge => (
            point.name().to_string(),
            None,
            Data::Gauge(Gauge::default()),
        ),
        Shape::Sum { monotonic } => {
            let sum = Sum {
                aggregation_temporality: match temporality {
                    Temporality::Delta => delta,
                    Temporality::Cumulative => AggregationTemporality::Cumulative as i32,
                },
                is_monotonic: monotonic,
                ..Sum::default()
            };
            (point.name().to_string(), None, Data::Sum(sum))
        }
        Shape::Histogram(kind) => {
            let histogram = ExponentialHistogram {
                aggregation_temporality: delta,
                ..ExponentialHistogram::default()
            };
            (
                point.base.to_string(),
                Some(kind),
                Data::ExponentialHistogram(histogram),
            )
        }
        Shape::Summary(kind) => (
            point.base.to_string(),
            Some(kind),
            Data::Summary(Summary::default()),
        ),
    };
    Metric {
        name,
        unit: if kind == Some(Kind::Timer) {
            "ms".to_owned()
        } else {
            String::new()
        },
        data: Some(data),
        ..Metric::default()
    }
}
