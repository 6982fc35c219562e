use std::collections::BTreeMap;
use std::time::Duration;

use tributary_proto::otlp::common::{AnyValue, ArrayValue};
use tributary_proto::otlp::metrics::{
    ExponentialHistogram, Gauge, Histogram, ResourceMetrics, ScopeMetrics, Sum, Summary,
    summary_data_point::ValueAtQuantile,
};
use tributary_proto::otlp::resource::Resource;

use super::*;
use crate::sample::Event;
use crate::source::Refused;

/// Samples by kind, name and tags: the values with how many each stands for.
#[derive(Default)]
struct Kept(BTreeMap<String, Vec<(f64, f64)>>);

impl Intake for Kept {
    fn sample(&mut self, sample: &Sample<'_>) -> Result<(), Refused> {
        let Value::Number(value) = sample.value else {
            panic!("{sample:?}");
        };
        if sample.name.is_empty() {
            return Err(Refused {
                cause: "empty_name",
            });
        }
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let tags = sample.tags.map(text).unwrap_or_default();
        let series = format!("{} {} {tags}", sample.kind.as_str(), text(sample.name));
        self.0
            .entry(series)
            .or_default()
            .push((value, 1.0 / sample.rate));
        Ok(())
    }

    fn event(&mut self, _: Event) {}
}

impl Kept {
    fn one(&self, series: &str) -> f64 {
        match self.0.get(series).map(Vec::as_slice) {
            Some([(value, 1.0)]) => *value,
            other => panic!("{series}: {other:?} of {:?}", self.0.keys()),
        }
    }

    fn count(&self, series: &str) -> f64 {
        self.0[series].iter().map(|(_, weight)| weight).sum()
    }
}

/// A source that began at 1000.
fn streams() -> Streams {
    Streams::new(100, Duration::from_secs(3600), 1000)
}

fn any(value: Any) -> AnyValue {
    AnyValue { value: Some(value) }
}

fn attribute(key: &str, value: Any) -> KeyValue {
    KeyValue {
        key: key.to_owned(),
        value: Some(any(value)),
        ..KeyValue::default()
    }
}

fn text(key: &str, value: &str) -> KeyValue {
    attribute(key, Any::StringValue(value.to_owned()))
}

fn request(service: &str, metrics: Vec<Metric>) -> ExportMetricsServiceRequest {
    let scope = ScopeMetrics {
        metrics,
        ..ScopeMetrics::default()
    };
    let resource = Resource {
        attributes: vec![text("service.name", service), text("host.name", "h")],
        ..Resource::default()
    };
    ExportMetricsServiceRequest {
        resource_metrics: vec![ResourceMetrics {
            resource: Some(resource),
            scope_metrics: vec![scope],
            ..ResourceMetrics::default()
        }],
    }
}

fn metric(name: &str, unit: &str, data: Data) -> Metric {
    Metric {
        name: name.to_owned(),
        unit: unit.to_owned(),
        data: Some(data),
        ..Metric::default()
    }
}

fn number(value: f64, time: u64) -> NumberDataPoint {
    NumberDataPoint {
        start_time_unix_nano: 1500,
        time_unix_nano: time,
        value: Some(number_data_point::Value::AsDouble(value)),
        ..NumberDataPoint::default()
    }
}

fn sum(
    name: &str,
    point: NumberDataPoint,
    temporality: AggregationTemporality,
    monotonic: bool,
) -> Metric {
    let sum = Sum {
        data_points: vec![point],
        aggregation_temporality: temporality as i32,
        is_monotonic: monotonic,
    };
    metric(name, "1", Data::Sum(sum))
}

fn gauge(name: &str, point: NumberDataPoint) -> Metric {
    metric(
        name,
        "",
        Data::Gauge(Gauge {
            data_points: vec![point],
        }),
    )
}

fn take_all(streams: &Streams, requests: &[ExportMetricsServiceRequest]) -> (Kept, Outcome) {
    let mut kept = Kept::default();
    let names = ["service.name".to_owned()];
    let mut last = Outcome::default();
    for request in requests {
        last = take(request, &names, streams, &mut kept);
    }
    (kept, last)
}

#[test]
fn sums_are_counters_or_gauges_by_temporality_and_direction() {
    use AggregationTemporality::{Cumulative, Delta};
    let at = |value, time| {
        let metrics = vec![
            sum("delta", number(value, time), Delta, true),
            sum("signed", number(-value, time), Delta, false),
            sum("total", number(value, time), Cumulative, true),
            sum("level", number(value, time), Cumulative, false),
            gauge("gauge", number(value, time)),
        ];
        request("shop", metrics)
    };
    let streams = streams();
    let (kept, outcome) = take_all(&streams, &[at(5.0, 2000)]);
    let one = |kept: &Kept, series: &str| kept.one(&format!("{series} service.name:shop"));
    assert_eq!(one(&kept, "counter delta"), 5.0);
    assert_eq!(one(&kept, "counter signed"), -5.0);
    assert_eq!(one(&kept, "counter total"), 5.0, "begun after the source");
    assert_eq!(one(&kept, "gauge level"), 5.0);
    assert_eq!(one(&kept, "gauge gauge"), 5.0);
    assert_eq!(outcome.taken, BTreeMap::from([("gauge", 1), ("sum", 4)]));
    let (kept, _) = take_all(&streams, &[at(7.0, 3000)]);
    assert_eq!(one(&kept, "counter total"), 2.0);
    let (_, outcome) = take_all(&streams, &[at(7.0, 3000)]);
    assert_eq!(outcome.skipped, BTreeMap::from([("late", 1)]));
}

#[test]
fn instances_whose_tags_are_the_same_are_counted_apart_and_added_up() {
    let of = |instance: &str, value, time| {
        let mut request = request(
            "shop",
            vec![sum(
                "total",
                number(value, time),
                AggregationTemporality::Cumulative,
                true,
            )],
        );
        let resource = request.resource_metrics[0].resource.as_mut().unwrap();
        // In another order at times.
        resource.attributes.insert(
            usize::from(time > 2000),
            text("service.instance.id", instance),
        );
        request
    };
    let all = [
        of("a", 10.0, 2000),
        of("b", 100.0, 2000),
        of("a", 11.0, 3000),
        of("b", 105.0, 3000),
    ];
    let (kept, _) = take_all(&streams(), &all);
    let values: Vec<f64> = kept.0["counter total service.name:shop"]
        .iter()
        .map(|(value, _)| *value)
        .collect();
    assert_eq!(values, [10.0, 100.0, 1.0, 5.0]);
}

#[test]
fn attributes_become_tags_and_those_of_the_data_point_come_first() {
    let mut point = number(1.0, 2000);
    point.attributes = vec![
        text("a:b", "x,y:z"),
        text("bare", ""),
        attribute("flag", Any::BoolValue(true)),
        attribute("code", Any::IntValue(200)),
        attribute("ratio", Any::DoubleValue(0.5)),
        attribute(
            "list",
            Any::ArrayValue(ArrayValue {
                values: vec![any(Any::StringValue("p".into())), any(Any::IntValue(2))],
            }),
        ),
        attribute("bytes", Any::BytesValue(vec![1].into())),
        text("service.name", "own"),
    ];
    let (kept, _) = take_all(&streams(), &[request("shop", vec![gauge("g", point)])]);
    let series: Vec<_> = kept.0.keys().collect();
    assert_eq!(
        series,
        ["gauge g a_b:x_y:z,bare,flag:true,code:200,ratio:0.5,list:p,list:2,service.name:own"]
    );
}

#[test]
fn what_is_wrong_is_refused_by_cause_and_the_rest_is_taken() {
    let histogram = |counts: &[u64], bounds: &[f64], count| HistogramDataPoint {
        bucket_counts: counts.to_vec(),
        explicit_bounds: bounds.to_vec(),
        count,
        ..HistogramDataPoint::default()
    };
    let wrong = [
        histogram(&[1, 2], &[1.0], 4),
        histogram(&[1, 2], &[1.0, 2.0], 3),
        histogram(&[1, 1, 1], &[2.0, 1.0], 3),
        histogram(&[u64::MAX, 2], &[1.0], 1),
        histogram(&[], &[], 3),
    ];
    let delta = AggregationTemporality::Delta;
    let exponential = ExponentialHistogramDataPoint {
        count: 1,
        scale: 99,
        zero_count: 1,
        ..Default::default()
    };
    let metrics = vec![
        gauge("nan", number(f64::NAN, 1)),
        gauge("", number(1.0, 1)),
        gauge("none", NumberDataPoint::default()),
        gauge(
            "silent",
            NumberDataPoint {
                flags: 1,
                ..number(0.0, 1)
            },
        ),
        sum(
            "untold",
            number(1.0, 1),
            AggregationTemporality::Unspecified,
            true,
        ),
        metric(
            "h",
            "s",
            Data::Histogram(Histogram {
                data_points: wrong.into(),
                aggregation_temporality: delta as i32,
            }),
        ),
        metric(
            "e",
            "s",
            Data::ExponentialHistogram(ExponentialHistogram {
                data_points: vec![exponential],
                aggregation_temporality: delta as i32,
            }),
        ),
        Metric::default(),
        gauge("good", number(1.0, 1)),
    ];
    let (kept, outcome) = take_all(&streams(), &[request("shop", metrics)]);
    assert_eq!(kept.one("gauge good service.name:shop"), 1.0);
    assert_eq!(kept.0.len(), 1);
    let refused = [
        ("buckets", 6),
        ("empty_name", 1),
        ("no_data", 1),
        ("no_value", 1),
        ("not_finite", 1),
        ("temporality", 1),
    ];
    assert_eq!(outcome.refused, BTreeMap::from(refused));
    assert_eq!(outcome.skipped, BTreeMap::from([("no_recorded_value", 1)]));
    assert_eq!(outcome.taken, BTreeMap::from([("gauge", 1)]));
}

#[test]
fn histograms_of_milliseconds_are_timers_and_others_histograms() {
    let point = HistogramDataPoint {
        bucket_counts: vec![0, 3, 1],
        explicit_bounds: vec![10.0, 20.0],
        count: 4,
        sum: Some(70.0),
        min: Some(12.0),
        max: Some(25.0),
        ..HistogramDataPoint::default()
    };
    let of = |unit: &str| {
        let data = Histogram {
            data_points: vec![point.clone()],
            aggregation_temporality: AggregationTemporality::Delta as i32,
        };
        metric("latency", unit, Data::Histogram(data))
    };
    let (kept, _) = take_all(&streams(), &[request("shop", vec![of("ms"), of("s")])]);
    for kind in ["timer", "histogram"] {
        let series = format!("{kind} latency service.name:shop");
        assert_eq!(kept.count(&series), 4.0);
        let values = &kept.0[&series];
        let sum: f64 = values.iter().map(|(value, weight)| value * weight).sum();
        assert!((sum - 70.0).abs() < 1e-9, "{values:?}");
        assert!(
            values.iter().any(|(value, _)| *value == 12.0)
                && values.iter().any(|(value, _)| *value == 25.0)
        );
    }
}

#[test]
fn cumulative_histograms_bring_what_is_new_in_each_bucket() {
    let explicit = |counts: [u64; 2], sum, time| {
        let point = HistogramDataPoint {
            bucket_counts: counts.to_vec(),
            explicit_bounds: vec![10.0],
            count: counts.iter().sum(),
            sum: Some(sum),
            max: Some(1e9),
            start_time_unix_nano: 1500,
            time_unix_nano: time,
            ..HistogramDataPoint::default()
        };
        let data = Histogram {
            data_points: vec![point],
            aggregation_temporality: AggregationTemporality::Cumulative as i32,
        };
        metric("h", "s", Data::Histogram(data))
    };
    let exponential = |scale, offset, counts: &[u64], time| {
        let buckets = Buckets {
            offset,
            bucket_counts: counts.to_vec(),
        };
        let point = ExponentialHistogramDataPoint {
            scale,
            positive: Some(buckets),
            count: counts.iter().sum(),
            start_time_unix_nano: 1500,
            time_unix_nano: time,
            ..ExponentialHistogramDataPoint::default()
        };
        let data = ExponentialHistogram {
            data_points: vec![point],
            aggregation_temporality: AggregationTemporality::Cumulative as i32,
        };
        metric("e", "s", Data::ExponentialHistogram(data))
    };
    let streams = streams();
    let first = request(
        "shop",
        vec![
            explicit([2, 0], 10.0, 2000),
            exponential(1, 2, &[3, 1], 2000),
        ],
    );
    let (kept, _) = take_all(&streams, &[first]);
    let (h, e) = (
        "histogram h service.name:shop",
        "histogram e service.name:shop",
    );
    assert_eq!((kept.count(h), kept.count(e)), (2.0, 4.0));
    // At half the scale, and with values from 4 to 8 besides.
    let second = request(
        "shop",
        vec![
            explicit([4, 1], 45.0, 3000),
            exponential(0, 1, &[4, 2], 3000),
        ],
    );
    let (kept, _) = take_all(&streams, &[second]);
    assert_eq!((kept.count(h), kept.count(e)), (3.0, 2.0));
    assert!(
        kept.0[e]
            .iter()
            .all(|(value, _)| (4.0..=8.0).contains(value)),
        "{:?}",
        kept.0[e]
    );
    assert!(
        kept.0[h].iter().any(|(value, _)| *value == 10.0),
        "the largest of all time is not of this interval: {:?}",
        kept.0[h]
    );
}

#[test]
fn exponential_histograms_have_both_signs_and_zero() {
    let point = ExponentialHistogramDataPoint {
        scale: 0,
        zero_count: 2,
        positive: Some(Buckets {
            offset: 3,
            bucket_counts: vec![1],
        }),
        negative: Some(Buckets {
            offset: 0,
            bucket_counts: vec![1],
        }),
        count: 4,
        sum: Some(12.0 - 1.5),
        min: Some(-1.5),
        max: Some(12.0),
        ..ExponentialHistogramDataPoint::default()
    };
    let data = ExponentialHistogram {
        data_points: vec![point],
        aggregation_temporality: AggregationTemporality::Delta as i32,
    };
    let (kept, _) = take_all(
        &streams(),
        &[request(
            "shop",
            vec![metric("e", "", Data::ExponentialHistogram(data))],
        )],
    );
    let mut values = kept.0["histogram e service.name:shop"].clone();
    values.sort_by(|a, b| a.0.total_cmp(&b.0));
    assert_eq!(values, [(-1.5, 1.0), (0.0, 2.0), (12.0, 1.0)]);
}

#[test]
fn a_summary_becomes_gauges_by_quantile_and_two_counters() {
    let at = |count, sum, time| {
        let point = SummaryDataPoint {
            count,
            sum,
            start_time_unix_nano: 1500,
            time_unix_nano: time,
            attributes: vec![text("a", "b")],
            quantile_values: vec![ValueAtQuantile {
                quantile: 0.99,
                value: 8.0,
            }],
            ..SummaryDataPoint::default()
        };
        request(
            "shop",
            vec![metric(
                "s",
                "",
                Data::Summary(Summary {
                    data_points: vec![point],
                }),
            )],
        )
    };
    let (kept, _) = take_all(&streams(), &[at(3, 6.0, 2000), at(5, 10.0, 3000)]);
    let values = |series: &str| {
        kept.0[series]
            .iter()
            .map(|(value, _)| *value)
            .collect::<Vec<_>>()
    };
    assert_eq!(values("counter s.count service.name:shop,a:b"), [3.0, 2.0]);
    assert_eq!(values("counter s.sum service.name:shop,a:b"), [6.0, 4.0]);
    assert_eq!(
        values("gauge s service.name:shop,a:b,quantile:0.99"),
        [8.0, 8.0]
    );
}
