//! Forwarded metrics from the network, merged at a global; and the same ones merged by a tier in between that forwards what it merged.

#![no_main]

use std::collections::BTreeMap;

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use tributary_aggregator::flush::{Emission, Role};
use tributary_aggregator::point::PointKind;
use tributary_fuzz::{ROUNDING, Tier, body, suffix};
use tributary_proto::scan::frames;

fuzz_target!(|data: &[u8]| {
    let data = Bytes::copy_from_slice(data);
    let Ok(metrics) = frames(&data) else { return };
    let metrics: Vec<Bytes> = metrics.collect();

    let direct = merge(Role::Global, &metrics);
    let between = merge(Role::Local, &metrics);
    assert_eq!(
        direct.counts.interval, between.counts.interval,
        "what a tier takes does not depend on its role"
    );
    assert_eq!(
        between.forward.len() as u64,
        between.counts.interval.series,
        "all that was forwarded to a tier can be forwarded on"
    );

    let forwarded = body(&between);
    let forwarded: Vec<Bytes> = frames(&forwarded).expect("a tier frames right").collect();
    let above = merge(Role::Global, &forwarded);
    assert_eq!(
        above.counts.interval.imports_refused, 0,
        "a tier takes what another one forwards"
    );
    compare(&direct, &above);
});

/// One interval of a tier that gets these metrics.
fn merge(role: Role, metrics: &[Bytes]) -> Emission {
    let mut tier = Tier::new(role);
    let (mut taken, mut refused) = (0, 0);
    for metric in metrics {
        match tier.writer.import_bytes(metric) {
            Ok(()) => taken += 1,
            Err(error) => {
                assert!(!error.cause().is_empty() && !error.to_string().is_empty());
                refused += 1;
            }
        }
    }
    let emission = tier.flush();
    let counts = emission.counts.interval;
    assert_eq!((counts.imported, counts.imports_refused), (taken, refused));
    assert!(counts.series <= taken, "a refused metric leaves no series");
    emission
}

/// What identifies a point, but for two series that differ in scope alone.
type Identity<'a> = (&'a str, String, &'a str, &'static str);

/// Each point that a detour leads to, with what it may differ by.
fn compare(direct: &Emission, above: &Emission) {
    let direct = by_identity(direct);
    let above = by_identity(above);
    assert!(direct.keys().eq(above.keys()));
    for ((identity, values), others) in direct.iter().zip(above.values()) {
        assert_eq!(values.len(), others.len(), "{identity:?}");
        let slack = match identity.2 {
            // Of a set, a counter, a gauge; and what is carried beside the centroids.
            "" | ".min" | ".max" | ".0percentile" => 0.0,
            ".count" => ROUNDING,
            // Depends on how often the centroids were folded.
            _ => continue,
        };
        for (value, other) in values.iter().zip(others) {
            assert!(
                (value - other).abs() <= value.abs() * slack,
                "{identity:?}: {value} directly, {other} by way of another tier"
            );
        }
    }
}

fn by_identity(emission: &Emission) -> BTreeMap<Identity<'_>, Vec<f64>> {
    let mut points: BTreeMap<Identity<'_>, Vec<f64>> = BTreeMap::new();
    for point in &emission.points {
        // Of extreme values these are not finite, or just so, depending on the last rounding.
        if [".sum", ".avg", ".hmean"].contains(&suffix(point)) {
            continue;
        }
        let kind = match point.kind {
            PointKind::Counter => "counter",
            PointKind::Gauge => "gauge",
            PointKind::Integer | PointKind::Status => panic!("is not forwarded: {point:?}"),
        };
        let tags = point.tags.to_string();
        let identity = (&*point.base, tags, suffix(point), kind);
        points.entry(identity).or_default().push(point.value);
    }
    for values in points.values_mut() {
        values.sort_by(f64::total_cmp);
    }
    points
}
