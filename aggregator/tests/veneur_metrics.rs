//! What the real Veneur's tiers emit and forward, against ours, end to end: packets → parser → an agent's table → its points and what it
//! forwards → a global's table → its points.

#![allow(
    clippy::unwrap_used,
    reason = "a fixture that does not read is a failed test"
)]

use std::collections::HashMap;
use std::sync::Arc;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use prost::Message;
use serde::Deserialize;
use tributary_aggregator::flush::{Aggregate, Emission, FlushSettings, Percentiles, Role, emit};
use tributary_aggregator::point::{Point, PointKind};
use tributary_aggregator::sketch::HyperLogLog;
use tributary_aggregator::source::dogstatsd::{Item, parse};
use tributary_aggregator::table::{Table, TableConfig};
use tributary_proto::metricpb::metric::Value;
use tributary_proto::metricpb::{Metric, Scope, Type};

/// Where ours differs from the recording on purpose: a point's name, what Veneur emits, what is right.
///
/// Veneur cuts the fraction off each scaled sample; ours keeps it (and takes the rate in double precision, so that 1 at 0.1 is 10 and not 9.9999998).
const COUNTERS: [(&str, f64, f64); 5] = [
    ("c.r0001", 999.0, 1000.0),
    ("c.r007", 14.0, 1.0 / 0.07),
    ("c.r01", 9.0, 10.0),
    ("c.r02", 14.0, 15.0),
    ("c.r03", 3.0, 1.0 / 0.3),
];

/// Likewise for names: of the two points that Veneur calls by the first name, the one of 0.999 is called by the second.
const PERCENTILES: (&str, &str) = (".99percentile", ".99_9percentile");

#[derive(Deserialize)]
struct Fixture {
    aggregates: Vec<Aggregate>,
    percentiles: Vec<f64>,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    case: String,
    packets: Packets,
    extend_tags: Option<Vec<String>>,
    local_flush: Vec<Emitted>,
    forwarded: Vec<Forwarded>,
    global_flush_after_import: Vec<Emitted>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Packets {
    List(Vec<String>),
    Generated {
        format: String,
        i_from: u32,
        i_below: u32,
    },
}

/// A point, as the recording and the comparison have it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
struct Emitted {
    name: String,
    tags: Vec<String>,
    r#type: String,
    value: f64,
}

#[derive(Deserialize)]
struct Forwarded {
    name: String,
    tags: Vec<String>,
    r#type: String,
    scope: String,
    pb_b64: String,
}

impl Packets {
    fn lines(&self) -> Vec<String> {
        match self {
            Self::List(lines) => lines.clone(),
            Self::Generated {
                format,
                i_from,
                i_below,
            } => {
                let line = |number: u32| format.replace("<i>", &number.to_string());
                (*i_from..*i_below).map(line).collect()
            }
        }
    }
}

impl From<&Point> for Emitted {
    fn from(point: &Point) -> Self {
        let r#type = match point.kind {
            PointKind::Counter => "CounterMetric",
            PointKind::Gauge | PointKind::Integer => "GaugeMetric",
            PointKind::Status => "StatusMetric",
        };
        Self {
            name: point.name().to_string(),
            tags: point.tags.iter().map(str::to_owned).collect(),
            r#type: r#type.to_owned(),
            value: point.value,
        }
    }
}

fn fixture() -> Fixture {
    serde_json::from_str(include_str!("fixtures/veneur/metrics.json")).unwrap()
}

fn sorted(mut points: Vec<Emitted>) -> Vec<Emitted> {
    let order = |point: &Emitted| (point.name.clone(), point.tags.clone());
    points.sort_by(|a, b| order(a).cmp(&order(b)).then(a.value.total_cmp(&b.value)));
    points
}

/// What was recorded, with the deliberate differences applied.
fn expected(recorded: &[Emitted]) -> Vec<Emitted> {
    let mut points = sorted(recorded.to_vec());
    let mut seen: HashMap<(String, Vec<String>), usize> = HashMap::new();
    for point in &mut points {
        if let Some((_, theirs, ours)) = COUNTERS.iter().find(|(name, ..)| *name == point.name) {
            assert_eq!(point.value, *theirs, "{}", point.name);
            point.value = *ours;
        }
        if let Some(base) = point.name.strip_suffix(PERCENTILES.0) {
            // Sorted by value, each pair of one series has the 99th percentile first.
            let count = seen
                .entry((base.to_owned(), point.tags.clone()))
                .or_default();
            *count += 1;
            if count.is_multiple_of(2) {
                point.name = format!("{base}{}", PERCENTILES.1);
            }
        }
    }
    sorted(points)
}

/// The bytes of a set depend on the order of its members; folded in, they do not.
fn canonical(mut metric: Metric) -> Metric {
    if let Some(Value::Set(set)) = &mut metric.value {
        let mut sketch = HyperLogLog::from_bytes(&set.hyper_log_log).unwrap();
        sketch.estimate();
        set.hyper_log_log = sketch.to_bytes().into();
    }
    metric
}

fn in_order(mut metrics: Vec<Metric>) -> Vec<Metric> {
    metrics.sort_by(|a, b| {
        (&a.name, &a.tags, a.r#type, a.scope).cmp(&(&b.name, &b.tags, b.r#type, b.scope))
    });
    metrics
}

fn recorded_metrics(case: &Case) -> Vec<Metric> {
    let decode = |forwarded: &Forwarded| {
        let bytes = BASE64_STANDARD.decode(&forwarded.pb_b64).unwrap();
        let metric = Metric::decode(bytes.as_slice()).unwrap();
        assert_eq!(
            (&metric.name, &metric.tags),
            (&forwarded.name, &forwarded.tags)
        );
        assert_eq!(
            metric.r#type(),
            Type::from_str_name(&forwarded.r#type).unwrap()
        );
        assert_eq!(
            metric.scope(),
            Scope::from_str_name(&forwarded.scope).unwrap()
        );
        metric
    };
    in_order(case.forwarded.iter().map(decode).map(canonical).collect())
}

fn settings(fixture: &Fixture, role: Role) -> FlushSettings {
    FlushSettings {
        role,
        percentiles: Percentiles::new(&fixture.percentiles).unwrap(),
        aggregates: fixture.aggregates.iter().copied().collect(),
        distributions: false,
        timestamp: 1_700_000_000,
    }
}

/// An agent's flush of a case's packets.
fn flush_at_agent(fixture: &Fixture, case: &Case) -> Emission {
    let table = Table::new(TableConfig {
        extend_tags: case.extend_tags.clone().unwrap_or_default(),
        ..TableConfig::default()
    });
    let mut writer = table.writer();
    for line in case.packets.lines() {
        let take = |item: Item<'_>| match item {
            Item::Sample(sample) => writer.sample(&sample).unwrap(),
            Item::Event(event) => writer.event(*event),
        };
        parse(line.as_bytes(), take).unwrap();
    }
    emit(table.take(), &settings(fixture, Role::Local))
}

/// A global's flush after `import`.
fn flush_at_global(fixture: &Fixture, import: impl FnOnce(&Arc<Table>)) -> Emission {
    let table = Table::new(TableConfig::default());
    import(&table);
    emit(table.take(), &settings(fixture, Role::Global))
}

fn points(emission: &Emission) -> Vec<Emitted> {
    sorted(emission.points.iter().map(Emitted::from).collect())
}

#[test]
fn both_tiers_emit_and_forward_what_the_real_veneur_does() {
    let fixture = fixture();
    assert_eq!(fixture.cases.len(), 20);
    for case in &fixture.cases {
        let name = &case.case;
        let agent = flush_at_agent(&fixture, case);
        assert_eq!(
            points(&agent),
            expected(&case.local_flush),
            "{name}: at the agent"
        );
        let forwarded = agent.forward.clone().into_iter().map(canonical).collect();
        assert_eq!(
            in_order(forwarded),
            recorded_metrics(case),
            "{name}: forwarded"
        );
        let global = flush_at_global(&fixture, |table| {
            let mut writer = table.writer();
            agent
                .forward
                .into_iter()
                .for_each(|metric| writer.import(metric).unwrap());
        });
        let at_global = expected(&case.global_flush_after_import);
        assert_eq!(points(&global), at_global, "{name}: at the global");
        assert!(global.forward.is_empty(), "{name}");
    }
}

#[test]
fn a_global_takes_the_bytes_that_a_real_agent_sends() {
    let fixture = fixture();
    for case in &fixture.cases {
        let global = flush_at_global(&fixture, |table| {
            let mut writer = table.writer();
            for forwarded in &case.forwarded {
                let bytes = BASE64_STANDARD.decode(&forwarded.pb_b64).unwrap();
                writer.import_bytes(&bytes).unwrap();
            }
        });
        assert_eq!(
            points(&global),
            expected(&case.global_flush_after_import),
            "{}",
            case.case
        );
    }
}

#[test]
fn each_deliberate_difference_is_one() {
    let fixture = fixture();
    let recorded: Vec<&Emitted> = fixture
        .cases
        .iter()
        .flat_map(|case| &case.local_flush)
        .collect();
    for (name, theirs, ours) in COUNTERS {
        assert!(
            recorded
                .iter()
                .any(|point| point.name == name && point.value == theirs)
        );
        assert_ne!(theirs, ours);
    }
    assert!(
        recorded
            .iter()
            .any(|point| point.name.ends_with(PERCENTILES.0))
    );
    assert!(
        !recorded
            .iter()
            .any(|point| point.name.ends_with(PERCENTILES.1))
    );
}
