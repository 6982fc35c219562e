use std::sync::Arc;

use serde_json::json;

use tributary_proto::otlp::common::any_value::Value;
use tributary_proto::otlp::metrics::AggregationTemporality;

use super::*;
use crate::key::{Kind, Tags};
use crate::point::CheckText;

fn format(config: serde_json::Value) -> Format {
    Format::new(&serde_json::from_value(config).unwrap())
}

fn point(name: &str, suffix: Option<&str>, tags: &[&str], kind: PointKind, value: f64) -> Point {
    Point {
        base: name.into(),
        suffix: suffix.map(Into::into),
        tags: Tags::new(tags),
        kind,
        value,
        timestamp: Timestamp::from_seconds(1_700_000_000),
        check: None,
    }
}

fn batch(points: Vec<Point>) -> Batch {
    Batch {
        points: points.into(),
        hostname: "web1".into(),
        interval: Duration::from_secs(10),
        ..Batch::default()
    }
}

/// All requests, each with what is in it.
fn requests(format: &Format, batch: &Batch) -> Vec<(Request, ResourceMetrics)> {
    let totals = Totals::new(2, Duration::from_secs(3600));
    let (mut place, mut all) = (Place::default(), Vec::new());
    while let Some(request) = next(format, batch, place, &totals) {
        place = request.next;
        let message = ExportMetricsServiceRequest::decode(request.body.clone()).unwrap();
        let [resource] = message.resource_metrics.try_into().unwrap();
        all.push((request, resource));
    }
    all
}

fn metrics(format: &Format, batch: &Batch) -> Vec<Metric> {
    let all = requests(format, batch).into_iter();
    all.flat_map(|(_, resource)| {
        resource
            .scope_metrics
            .into_iter()
            .flat_map(|scope| scope.metrics)
    })
    .collect()
}

fn attributes_of(data: &NumberDataPoint) -> String {
    let attributes = data.attributes.iter();
    let all: Vec<_> = attributes
        .map(
            |attribute| match attribute.value.clone().and_then(|value| value.value) {
                Some(Value::StringValue(text)) => format!("{}={text}", attribute.key),
                Some(Value::ArrayValue(list)) => {
                    format!("{}={} values", attribute.key, list.values.len())
                }
                other => panic!("{other:?}"),
            },
        )
        .collect();
    all.join(" ")
}

#[test]
fn each_kind_of_point_has_its_metric() {
    let mut check = point("up", None, &[], PointKind::Status, 2.0);
    check.check = Some(Arc::new(CheckText {
        message: "down".to_owned(),
        hostname: Some("db1".to_owned()),
    }));
    let batch = batch(vec![
        point(
            "hits",
            None,
            &["a:1", "a:2", "bare", "env:prod"],
            PointKind::Counter,
            -3.0,
        ),
        point("hits", None, &["env:dev"], PointKind::Counter, 4.0),
        point("t", Some(".count"), &[], PointKind::Counter, 4.0),
        point("load", None, &[], PointKind::Gauge, 0.5),
        point("size", None, &[], PointKind::Integer, 7.0),
        check,
    ]);
    let all = requests(
        &format(json!({"resource_attributes": {"deployment.environment.name": "prod"}})),
        &batch,
    );
    let [(request, resource)] = &all[..] else {
        panic!("{all:?}")
    };
    assert_eq!(
        (request.points, request.data_points, request.skipped),
        (6, 6, 0)
    );
    let named: Vec<_> = resource
        .resource
        .iter()
        .flat_map(|resource| &resource.attributes)
        .map(|attribute| &*attribute.key)
        .collect();
    assert_eq!(
        named,
        ["deployment.environment.name", "host.name", "service.name"]
    );
    assert_eq!(
        resource.scope_metrics[0].scope.as_ref().unwrap().name,
        "tributary"
    );
    let [hits, count, load, size, up] = &resource.scope_metrics[0].metrics[..] else {
        panic!("{resource:?}")
    };
    let Some(Data::Sum(sum)) = &hits.data else {
        panic!("{hits:?}")
    };
    assert_eq!(
        (sum.is_monotonic, sum.aggregation_temporality()),
        (false, AggregationTemporality::Delta)
    );
    assert_eq!(
        attributes_of(&sum.data_points[0]),
        "a=2 values bare= env=prod"
    );
    let times = |point: &NumberDataPoint| (point.start_time_unix_nano, point.time_unix_nano);
    assert_eq!(
        times(&sum.data_points[1]),
        (1_699_999_990_000_000_000, 1_700_000_000_000_000_000)
    );
    assert_eq!(
        sum.data_points[1].value,
        Some(number_data_point::Value::AsDouble(4.0))
    );
    let Some(Data::Sum(sum)) = &count.data else {
        panic!("{count:?}")
    };
    assert_eq!((&*count.name, sum.is_monotonic), ("t.count", true));
    let gauge = |metric: &Metric| match &metric.data {
        Some(Data::Gauge(gauge)) => gauge.data_points[0].clone(),
        other => panic!("{other:?}"),
    };
    assert_eq!(
        gauge(load).value,
        Some(number_data_point::Value::AsDouble(0.5))
    );
    assert_eq!(gauge(size).value, Some(number_data_point::Value::AsInt(7)));
    assert_eq!(gauge(up).value, Some(number_data_point::Value::AsInt(2)));
    assert_eq!(attributes_of(&gauge(up)), "host.name=db1");
}

#[test]
fn monotonic_counters_do_not_go_down() {
    let batch = batch(vec![
        point("hits", None, &[], PointKind::Counter, 3.0),
        point("hits", None, &["a"], PointKind::Counter, -3.0),
    ]);
    let all = requests(&format(json!({"monotonic_counters": true})), &batch);
    assert_eq!((all[0].0.points, all[0].0.skipped), (1, 1));
    let Some(Data::Sum(sum)) = &all[0].1.scope_metrics[0].metrics[0].data else {
        panic!()
    };
    assert!(sum.is_monotonic);
}

#[test]
fn cumulative_counters_grow_and_keep_their_start() {
    let format = format(json!({"temporality": "cumulative"}));
    let mut totals = Totals::new(1, Duration::from_secs(3600));
    let mut said = Vec::new();
    for value in [3.0, 4.0] {
        let mut batch = batch(vec![
            point("hits", None, &[], PointKind::Counter, value),
            point("hits", None, &[], PointKind::Counter, 1.0),
            point("beyond", None, &[], PointKind::Counter, 1.0),
        ]);
        batch.points[0].timestamp = Timestamp::from_seconds(1_700_000_000 + said.len() as i64 * 10);
        let request = next(&format, &batch, Place::default(), &totals).unwrap();
        // A repeat says the same.
        let repeat = next(&format, &batch, Place::default(), &totals).unwrap();
        assert_eq!(request.body, repeat.body);
        assert_eq!(
            (request.points, request.skipped),
            (2, 1),
            "beyond the bound"
        );
        totals.commit(request.totals, std::time::Instant::now());
        let message = ExportMetricsServiceRequest::decode(request.body).unwrap();
        let Some(Data::Sum(sum)) = &message.resource_metrics[0].scope_metrics[0].metrics[0].data
        else {
            panic!()
        };
        said.push(
            sum.data_points
                .iter()
                .map(|point| (point.start_time_unix_nano / 1_000_000_000, point.value))
                .collect::<Vec<_>>(),
        );
    }
    let double = |value| Some(number_data_point::Value::AsDouble(value));
    let start = 1_699_999_990;
    assert_eq!(
        said,
        [
            [(start, double(3.0)), (start, double(4.0))],
            [(start, double(8.0)), (start, double(9.0))]
        ]
    );
}

/// A timer's points and distribution behind another point.
fn timed() -> Batch {
    let mut digest = crate::sketch::TDigest::default();
    for value in [10.0, 20.0, 40.0] {
        digest.add(value, 1.0).unwrap();
    }
    let mut batch = batch(vec![
        point("hits", None, &[], PointKind::Counter, 1.0),
        point("t", Some(".max"), &["a:b"], PointKind::Gauge, 40.0),
        point("t", Some(".count"), &["a:b"], PointKind::Counter, 3.0),
        point("load", None, &[], PointKind::Gauge, 1.0),
    ]);
    batch.distributions.push(Distribution {
        points: 1..3,
        kind: Kind::Timer,
        count: 3.0,
        sum: 70.0,
        min: 10.0,
        max: 40.0,
        centroids: digest.centroids().into(),
    });
    batch
}

#[test]
fn a_distribution_stands_for_its_points() {
    let batch = timed();
    let all = requests(&format(json!({})), &batch);
    assert_eq!((all[0].0.points, all[0].0.data_points), (4, 3));
    let found = metrics(&format(json!({})), &batch);
    let [_, timer, _] = &found[..] else {
        panic!("{found:?}")
    };
    assert_eq!((&*timer.name, &*timer.unit), ("t", "ms"));
    let Some(Data::ExponentialHistogram(histogram)) = &timer.data else {
        panic!("{timer:?}")
    };
    let data = &histogram.data_points[0];
    assert_eq!(
        (data.count, data.sum, data.min, data.max),
        (3, Some(70.0), Some(10.0), Some(40.0))
    );
    assert_eq!(
        data.positive
            .as_ref()
            .unwrap()
            .bucket_counts
            .iter()
            .sum::<u64>(),
        3
    );
    assert!(data.negative.is_none());
    let found = metrics(
        &format(json!({"histograms": "summary", "quantiles": [0, 0.5, 1]})),
        &batch,
    );
    let Some(Data::Summary(summary)) = &found[1].data else {
        panic!("{found:?}")
    };
    let values: Vec<_> = summary.data_points[0]
        .quantile_values
        .iter()
        .map(|value| value.value)
        .collect();
    assert_eq!(values, [10.0, 22.5, 40.0], "as the digest has them");
    let found = metrics(&format(json!({"histograms": "points"})), &batch);
    let names: Vec<_> = found.iter().map(|metric| &*metric.name).collect();
    assert_eq!(names, ["hits", "t.max", "t.count", "load"]);
}

#[test]
fn requests_are_no_longer_than_allowed_and_together_have_it_all() {
    let points: Vec<_> = (0..500)
        .map(|n| {
            point(
                &format!("metric.{n}"),
                None,
                &[&format!("tag:{n}")],
                PointKind::Gauge,
                f64::from(n),
            )
        })
        .collect();
    let mut batch = batch(points);
    batch
        .points
        .push(point(&"x".repeat(5000), None, &[], PointKind::Gauge, 1.0));
    batch
        .points
        .push(point("last", None, &[], PointKind::Gauge, 1.0));
    for (config, most) in [
        (json!({"max_request_bytes": 2048}), 501),
        (
            json!({"max_points_per_request": 7, "max_request_bytes": 4096}),
            7,
        ),
    ] {
        let format = format(config);
        let all = requests(&format, &batch);
        assert!(all.len() > 10);
        for (request, _) in &all {
            assert!(
                request.body.len() <= format.max_bytes,
                "{}",
                request.body.len()
            );
            assert!(request.data_points <= most);
        }
        let sum = |part: fn(&Request) -> usize| {
            all.iter().map(|(request, _)| part(request)).sum::<usize>()
        };
        assert_eq!(
            (
                sum(|request| request.points),
                sum(|request| request.skipped)
            ),
            (501, 1)
        );
    }
}
