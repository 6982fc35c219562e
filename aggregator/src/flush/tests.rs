use super::*;
use crate::sample::{Check, Sample, Value};
use crate::table::{Table, TableConfig};

/// `line` is name, kind letter, value and perhaps a magic tag.
fn table(samples: &[(&str, Kind, f64, &str)]) -> Arc<Table> {
    let table = Table::new(TableConfig::default());
    let mut writer = table.writer();
    for &(name, kind, value, tags) in samples {
        let value = match kind {
            Kind::Set => Value::Member(b"member"),
            Kind::Status => Value::Status(Check {
                status: value as u8,
                message: "m",
                hostname: Some("h"),
                timestamp: None,
            }),
            _ => Value::Number(value),
        };
        let sample = Sample {
            name: name.as_bytes(),
            kind,
            tags: (!tags.is_empty()).then_some(tags.as_bytes()),
            value,
            rate: 1.0,
        };
        writer.sample(&sample).unwrap();
    }
    table
}

fn settings(role: Role, aggregates: &[Aggregate]) -> FlushSettings {
    FlushSettings {
        role,
        percentiles: Percentiles::new(&[0.5, 0.999, 0.99]).unwrap(),
        aggregates: aggregates.iter().copied().collect(),
        distributions: false,
        timestamp: 1_700_000_000,
    }
}

fn names(emission: &Emission) -> Vec<String> {
    emission
        .points
        .iter()
        .map(|point| point.name().to_string())
        .collect()
}

const GLOBAL: &str = "veneurglobalonly";
const LOCAL: &str = "veneurlocalonly";

#[test]
fn the_points_of_a_series_come_in_veneurs_order() {
    let all = settings(Role::Global, &Aggregate::ALL);
    let emission = emit(table(&[("h", Kind::Histogram, 2.0, "")]).take(), &all);
    let suffixes = "max min sum avg count median hmean 50percentile 99_9percentile 99percentile";
    let expected: Vec<_> = suffixes
        .split(' ')
        .map(|suffix| format!("h.{suffix}"))
        .collect();
    assert_eq!(names(&emission), expected);
}

#[test]
fn each_tier_emits_and_forwards_what_the_table_of_scopes_says() {
    let min = [Aggregate::Min];
    let percentiles = [".50percentile", ".99_9percentile", ".99percentile"];
    let with_percentiles = [".min", percentiles[0], percentiles[1], percentiles[2]];
    for (kind, scope, at_agent, forwarded, at_global) in [
        (Kind::Counter, "", &[""][..], false, &[""][..]),
        (Kind::Counter, LOCAL, &[""], false, &[""]),
        (Kind::Counter, GLOBAL, &[], true, &[""]),
        (Kind::Gauge, "", &[""], false, &[""]),
        (Kind::Gauge, LOCAL, &[""], false, &[""]),
        (Kind::Gauge, GLOBAL, &[], true, &[""]),
        (Kind::Histogram, "", &[".min"], true, &with_percentiles),
        (Kind::Timer, "", &[".min"], true, &with_percentiles),
        (
            Kind::Timer,
            LOCAL,
            &with_percentiles,
            false,
            &with_percentiles,
        ),
        (Kind::Timer, GLOBAL, &[], true, &with_percentiles),
        (Kind::Set, "", &[], true, &[""]),
        (Kind::Set, GLOBAL, &[], true, &[""]),
        (Kind::Set, LOCAL, &[""], false, &[""]),
        (Kind::Status, "", &[""], false, &[""]),
    ] {
        for (role, expected, forwarded) in [
            (Role::Local, at_agent, forwarded),
            (Role::Global, at_global, false),
        ] {
            let emission = emit(
                table(&[("n", kind, 1.0, scope)]).take(),
                &settings(role, &min),
            );
            let expected: Vec<_> = expected.iter().map(|suffix| format!("n{suffix}")).collect();
            assert_eq!(names(&emission), expected, "{kind:?} {scope} {role:?}");
            assert_eq!(
                emission.forward.len(),
                usize::from(forwarded),
                "{kind:?} {scope} {role:?}"
            );
            assert_eq!(emission.counts.unique_timeseries, u64::from(!forwarded));
        }
    }
}

#[test]
fn a_global_emits_only_median_and_percentiles_of_mixed_imports() {
    let all = settings(Role::Local, &Aggregate::ALL);
    let forwarded = emit(table(&[("h", Kind::Histogram, 2.0, "")]).take(), &all).forward;
    let global = table(&[]);
    let mut writer = global.writer();
    forwarded
        .into_iter()
        .for_each(|metric| writer.import(metric).unwrap());
    let emission = emit(global.take(), &settings(Role::Global, &Aggregate::ALL));
    assert_eq!(
        names(&emission),
        [
            "h.median",
            "h.50percentile",
            "h.99_9percentile",
            "h.99percentile"
        ]
    );
    assert_eq!(emission.counts.interval.imported, 1);
}

#[test]
fn samples_that_are_all_zero_have_no_sum_and_no_average() {
    let all = settings(Role::Local, &Aggregate::ALL);
    let emission = emit(table(&[("h", Kind::Histogram, 0.0, "")]).take(), &all);
    assert_eq!(
        names(&emission),
        ["h.max", "h.min", "h.count", "h.median", "h.hmean"]
    );
}

#[test]
fn what_is_no_finite_number_is_counted_and_not_emitted() {
    let all = settings(Role::Global, &Aggregate::ALL);
    let samples = [
        ("h", Kind::Histogram, f64::MAX, ""),
        ("h", Kind::Histogram, f64::MAX, ""),
    ];
    let emission = emit(table(&samples).take(), &all);
    assert!(emission.points.iter().all(|point| point.value.is_finite()));
    assert!(!names(&emission).contains(&"h.sum".to_owned()));
    assert!(emission.counts.points_not_finite > 0);
}

#[test]
fn forwarded_counters_are_rounded_once_and_points_are_exact() {
    let halves = |tags| {
        [
            ("c", Kind::Counter, 1.25, tags),
            ("c", Kind::Counter, 1.25, tags),
        ]
    };
    let local = emit(table(&halves("")).take(), &settings(Role::Local, &[]));
    assert_eq!(local.points[0].value, 2.5);
    let forwarded = emit(table(&halves(GLOBAL)).take(), &settings(Role::Local, &[])).forward;
    assert_eq!(forwarded[0].value, Some(state::counter(3)));
}

#[test]
fn points_carry_time_tags_and_a_shared_suffix() {
    let samples = [
        ("a", Kind::Timer, 1.0, "z:1,b:2"),
        ("b", Kind::Timer, 1.0, ""),
        ("sc", Kind::Status, 2.0, ""),
    ];
    let emission = emit(
        table(&samples).take(),
        &settings(Role::Local, &[Aggregate::Max]),
    );
    assert!(
        emission
            .points
            .iter()
            .all(|point| point.timestamp.seconds() == 1_700_000_000)
    );
    let point = |base: &str| {
        emission
            .points
            .iter()
            .find(|point| &*point.base == base)
            .unwrap()
    };
    assert_eq!(point("a").tags.to_string(), "b:2,z:1");
    let suffix = |base| point(base).suffix.as_ref().unwrap();
    assert!(Arc::ptr_eq(suffix("a"), suffix("b")));
    let check = point("sc").check.as_ref().unwrap();
    assert_eq!(
        (check.message.as_str(), check.hostname.as_deref()),
        ("m", Some("h"))
    );
}

#[test]
fn a_checks_own_time_wins() {
    let table = table(&[]);
    let check = Check {
        status: 0,
        message: "",
        hostname: None,
        timestamp: Some(1_136_239_445),
    };
    let sample = Sample {
        name: b"sc",
        kind: Kind::Status,
        tags: None,
        value: Value::Status(check),
        rate: 1.0,
    };
    table.writer().sample(&sample).unwrap();
    let emission = emit(table.take(), &settings(Role::Global, &[]));
    assert_eq!(emission.points[0].timestamp.seconds(), 1_136_239_445);
}

#[test]
fn whole_distributions_are_emitted_by_the_tier_that_emits_their_points() {
    let samples = [
        ("mixed", Kind::Timer, 2.0, ""),
        ("mixed", Kind::Timer, 4.0, ""),
        ("local", Kind::Histogram, 5.0, LOCAL),
        ("global", Kind::Histogram, 6.0, GLOBAL),
        ("hits", Kind::Counter, 1.0, ""),
    ];
    for (role, expected) in [
        (Role::Local, &["local", "mixed"][..]),
        (Role::Global, &["global", "local", "mixed"][..]),
    ] {
        let asked = FlushSettings {
            distributions: true,
            ..settings(role, &[Aggregate::Max, Aggregate::Count])
        };
        let emission = emit(table(&samples).take(), &asked);
        let named = |distribution: &point::Distribution| {
            let points = &emission.points[distribution.points.clone()];
            let base = &points[0].base;
            assert!(points.iter().all(|point| point.base == *base));
            base.to_string()
        };
        let mut names: Vec<_> = emission.distributions.iter().map(named).collect();
        names.sort_unstable();
        assert_eq!(names, expected, "{role:?}");
        let mut found = emission.distributions.iter();
        let mixed = found.find(|found| found.kind == Kind::Timer);
        let mixed = mixed.unwrap();
        assert_eq!((mixed.count, mixed.sum), (2.0, 6.0));
        assert_eq!((mixed.min, mixed.max), (2.0, 4.0));
        let means: Vec<_> = mixed.centroids.iter().map(|c| c.mean()).collect();
        assert_eq!(means, [2.0, 4.0]);
        let all_points = emission.points.len();
        let plain = emit(
            table(&samples).take(),
            &settings(role, &[Aggregate::Max, Aggregate::Count]),
        );
        assert!(plain.distributions.is_empty());
        assert_eq!(plain.points.len(), all_points);
    }
}

#[test]
fn an_agents_distribution_that_others_are_part_of_is_left_to_the_tier_above() {
    let table = table(&[
        ("mixed", Kind::Histogram, 2.0, ""),
        ("own", Kind::Histogram, 2.0, ""),
    ]);
    let mut imported = crate::sketch::TDigest::default();
    imported.add(9.0, 1.0).unwrap();
    let key = Key::new("mixed", Kind::Histogram, Default::default(), Scope::Mixed);
    table
        .writer()
        .import(state::metric(&key, state::digest(&mut imported)))
        .unwrap();
    let asked = FlushSettings {
        distributions: true,
        ..settings(Role::Local, &[Aggregate::Max])
    };
    let emission = emit(table.take(), &asked);
    assert_eq!(emission.distributions.len(), 1);
    let points = emission.distributions[0].points.clone();
    assert_eq!(&*emission.points[points][0].base, "own");
}
