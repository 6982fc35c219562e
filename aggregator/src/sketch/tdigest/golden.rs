//! The digests that the real Veneur made of the same samples, compared bit for bit.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use prost::Message;
use serde_json::Value;
use tributary_proto::tdigest::MergingDigestData;

use super::TDigest;

pub(super) fn recorded() -> Value {
    serde_json::from_str(include_str!("../../../tests/fixtures/veneur/tdigest.json")).unwrap()
}

/// Numbers of the recording; those that JSON lacks are strings there.
fn number(value: &Value) -> f64 {
    value
        .as_f64()
        .unwrap_or_else(|| value.as_str().unwrap().parse().unwrap())
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(number).collect()
}

/// The recording's pseudo-random sequence.
struct Lcg(u64);

impl Lcg {
    fn next(&mut self) -> f64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// The samples of a distribution, as the recording describes its generators.
pub(super) fn samples(distribution: &str, n: usize, seed: u64) -> Vec<f64> {
    let mut lcg = Lcg(seed);
    let micro = |value: f64| (value * 1e6).floor() / 1e6;
    (0..n)
        .map(|i| match distribution {
            "uniform" => lcg.next(),
            "exponential" => micro(-(1.0 - lcg.next()).ln()),
            "normal" => {
                let u1 = 1.0 - lcg.next();
                let u2 = lcg.next();
                micro((-2.0 * u1.ln()).sqrt() * (2.0 * std::f64::consts::PI * u2).cos())
            }
            "sequential" => (i + 1) as f64,
            "descending" => (n - i) as f64,
            "constant" => 7.0,
            "twopoint" => [1000.0, 1.0][usize::from(i % 10 != 0)],
            other => panic!("no generator for {other}"),
        })
        .collect()
}

fn fingerprint(values: &[f64]) -> String {
    let hash = values
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
        });
    format!("{hash:016x}")
}

fn data(case: &Value) -> MergingDigestData {
    MergingDigestData::decode(
        STANDARD
            .decode(case["data_b64"].as_str().unwrap())
            .unwrap()
            .as_slice(),
    )
    .unwrap()
}

fn bits(values: impl IntoIterator<Item = f64>) -> Vec<u64> {
    values.into_iter().map(f64::to_bits).collect()
}

/// Compares everything that the recording knows but min, max, quantiles and cdf.
fn assert_same_body(digest: &mut TDigest, case: &Value, name: &str) {
    let (ours, theirs) = (digest.to_proto(), data(case));
    assert_eq!(
        ours.main_centroids, theirs.main_centroids,
        "{name}: centroids"
    );
    assert_eq!(
        digest.centroids.len() as u64,
        case["centroids"].as_u64().unwrap(),
        "{name}"
    );
    assert_eq!(ours.compression, theirs.compression, "{name}");
    let hmean = digest.count() / digest.reciprocal_sum();
    let seen = [digest.count(), digest.sum(), digest.reciprocal_sum(), hmean];
    let told = ["count", "sum", "reciprocal_sum", "hmean"].map(|field| number(&case[field]));
    assert_eq!(bits(seen), bits(told), "{name}: {seen:?} {told:?}");
}

fn assert_same_answers(digest: &mut TDigest, case: &Value, points: &[f64], name: &str) {
    let told = numbers(&case["quantiles"]);
    assert_eq!(points.len(), told.len());
    for (&q, told) in points.iter().zip(told) {
        assert_eq!(
            digest.quantile(q).to_bits(),
            told.to_bits(),
            "{name}: quantile {q}"
        );
    }
    for pair in case["cdf"].as_array().unwrap() {
        let (x, told) = (number(&pair[0]), number(&pair[1]));
        assert_eq!(digest.cdf(x).to_bits(), told.to_bits(), "{name}: cdf {x}");
    }
}

#[test]
fn the_same_samples_give_the_same_bits() {
    let recorded = recorded();
    let points = numbers(&recorded["quantile_points"]);
    for case in recorded["cases"].as_array().unwrap() {
        let name = case["name"].as_str().unwrap();
        let n = case["n"].as_u64().unwrap() as usize;
        let values = samples(
            case["dist"].as_str().unwrap(),
            n,
            case["seed"].as_u64().unwrap_or(0),
        );
        assert_eq!(
            fingerprint(&values),
            case["input_fnv1a64"].as_str().unwrap(),
            "{name}: generator"
        );
        let weights = case["weights_cycle"]
            .as_array()
            .map_or(vec![1.0], |_| numbers(&case["weights_cycle"]));
        let mut digest = TDigest::new(number(&case["compression"]));
        for (&value, &weight) in values.iter().zip(weights.iter().cycle()) {
            digest.add(value, weight).unwrap();
        }
        assert_same_body(&mut digest, case, name);
        assert_eq!(
            bits([digest.min(), digest.max()]),
            bits([number(&case["min"]), number(&case["max"])]),
            "{name}"
        );
        assert_same_answers(&mut digest, case, &points, name);
        assert_eq!(
            STANDARD.encode(digest.to_proto().encode_to_vec()),
            case["data_b64"].as_str().unwrap(),
            "{name}"
        );
    }
}

#[test]
fn a_forwarded_digest_gives_the_same_answers_and_goes_on_with_the_same_bytes() {
    let recorded = recorded();
    let points = numbers(&recorded["quantile_points"]);
    for case in recorded["cases"].as_array().unwrap() {
        let name = case["name"].as_str().unwrap();
        let mut digest = TDigest::from_proto(&data(case)).unwrap();
        assert_same_answers(&mut digest, case, &points, name);
        assert_eq!(
            STANDARD.encode(digest.to_proto().encode_to_vec()),
            case["data_b64"].as_str().unwrap(),
            "{name}"
        );
    }
}

#[test]
fn merges_give_the_same_centroids_and_inner_quantiles_but_the_true_extremes() {
    let recorded = recorded();
    let points = numbers(&recorded["quantile_points"]);
    for case in recorded["merges"].as_array().unwrap() {
        let name = case["name"].as_str().unwrap();
        let n_each = case["n_each"].as_u64().unwrap() as usize;
        let mut merged = TDigest::default();
        let mut all = Vec::new();
        for (k, order) in case["permutations"].as_array().unwrap().iter().enumerate() {
            let values = samples(case["dist"].as_str().unwrap(), n_each, 1000 + k as u64);
            let mut part = TDigest::default();
            for &value in &values {
                part.add(value, 1.0).unwrap();
            }
            part.compress();
            let order: Vec<usize> = order
                .as_array()
                .unwrap()
                .iter()
                .map(|place| place.as_u64().unwrap() as usize)
                .collect();
            merged.merge_in_order(&part, &order).unwrap();
            all.extend(values);
        }
        assert_same_body(&mut merged, case, name);

        let (true_min, true_max) = (
            all.iter().copied().fold(f64::INFINITY, f64::min),
            all.iter().copied().fold(f64::NEG_INFINITY, f64::max),
        );
        assert_eq!((merged.min(), merged.max()), (true_min, true_max), "{name}");
        assert!(
            merged.min() <= number(&case["min"]) && merged.max() >= number(&case["max"]),
            "{name}"
        );

        // Min and max enter the answers for the outermost centroids only, and there only move the outer end.
        let total = merged.count();
        let (first, last) = (
            merged.centroids[0].weight / total,
            1.0 - merged.centroids[merged.centroids.len() - 1].weight / total,
        );
        for (&q, told) in points.iter().zip(numbers(&case["quantiles"])) {
            let ours = merged.quantile(q);
            if q > first && q <= last {
                assert_eq!(ours.to_bits(), told.to_bits(), "{name}: quantile {q}");
            } else if q <= first {
                assert!(true_min <= ours && ours <= told, "{name}: quantile {q}");
            } else {
                assert!(told <= ours && ours <= true_max, "{name}: quantile {q}");
            }
        }
    }
}

#[test]
fn the_true_extremes_survive_where_veneur_loses_them() {
    let mut merged = TDigest::default();
    for k in 0..10 {
        let mut part = TDigest::default();
        for value in samples("normal", 10_000, 1000 + k) {
            part.add(value, 1.0).unwrap();
        }
        merged.merge_proto(&part.to_proto()).unwrap();
    }
    // The real Veneur says -4.292713 for these samples: the lowest mean.
    assert_eq!(merged.min(), -4.617459);
    assert_eq!(merged.quantile(0.0), -4.617459);
}
