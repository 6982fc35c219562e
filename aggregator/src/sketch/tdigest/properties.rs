//! What holds for any samples, any order of merging, and any message.

use proptest::collection::vec;
use proptest::prelude::*;
use prost::Message;
use tributary_proto::tdigest::{Centroid, MergingDigestData};

use super::{DEFAULT_COMPRESSION, ReceivedDigest, TDigest, golden};

fn of(values: &[f64]) -> TDigest {
    let mut digest = TDigest::default();
    for &value in values {
        digest.add(value, 1.0).unwrap();
    }
    digest
}

/// What of `sorted` lies below `value`.
fn true_rank(sorted: &[f64], value: f64) -> f64 {
    sorted.partition_point(|&other| other < value) as f64 / sorted.len() as f64
}

fn shuffled<T>(mut items: Vec<T>, seed: u64) -> Vec<T> {
    fastrand::Rng::with_seed(seed).shuffle(&mut items);
    items
}

/// A hundred digests of a thousand samples each, and all samples in order.
fn fleet(distribution: &str) -> (Vec<TDigest>, Vec<f64>) {
    let shift = if distribution == "normal" { 10.0 } else { 0.0 };
    let parts = (0..100).map(|seed| {
        golden::samples(distribution, 1000, seed)
            .into_iter()
            .map(|value| value + shift)
            .collect::<Vec<_>>()
    });
    let parts: Vec<Vec<f64>> = parts.collect();
    let mut all = parts.concat();
    all.sort_unstable_by(f64::total_cmp);
    (parts.iter().map(|part| of(part)).collect(), all)
}

const PERCENTILES: [f64; 6] = [0.5, 0.75, 0.9, 0.95, 0.99, 0.999];

#[test]
fn a_hundred_digests_merged_in_any_order_tell_percentiles_within_one_percent() {
    for distribution in ["uniform", "exponential", "normal"] {
        let (parts, all) = fleet(distribution);
        let mut first: Option<Vec<f64>> = None;
        for seed in 0..20 {
            let mut merged = TDigest::default();
            for part in shuffled(parts.iter().collect(), seed) {
                merged.merge(part).unwrap();
            }
            assert_eq!(merged.count(), 100_000.0);
            assert_eq!((merged.min(), merged.max()), (all[0], all[all.len() - 1]));
            let told: Vec<f64> = PERCENTILES.iter().map(|&q| merged.quantile(q)).collect();
            for (&q, &told) in PERCENTILES.iter().zip(&told).take(5) {
                let truth = all[(q * all.len() as f64) as usize];
                assert!(
                    (told / truth - 1.0).abs() < 0.01,
                    "{distribution}, order {seed}: {q} is {told}, not {truth}"
                );
            }
            let first = first.get_or_insert_with(|| told.clone());
            for ((&q, told), first) in PERCENTILES.iter().zip(told).zip(first) {
                let apart = (true_rank(&all, told) - true_rank(&all, *first)).abs();
                // A quarter of what one step of the scale spans there.
                let resolution =
                    std::f64::consts::PI / DEFAULT_COMPRESSION * (q * (1.0 - q)).sqrt();
                assert!(
                    apart < resolution / 4.0,
                    "{distribution}, order {seed}: {q} moves by {apart}"
                );
            }
        }
    }
}

#[test]
fn sorted_streams_do_not_skew_a_merge() {
    // Each part is far above the one before: the case in which adding in ascending order costs most.
    let parts: Vec<Vec<f64>> = (0..100)
        .map(|k| (0..1000).map(|i| f64::from(k * 1000 + i)).collect())
        .collect();
    let digests: Vec<TDigest> = parts.iter().map(|part| of(part)).collect();
    for order in [
        digests.iter().collect::<Vec<_>>(),
        digests.iter().rev().collect(),
    ] {
        let mut merged = TDigest::default();
        for part in order {
            merged.merge(part).unwrap();
        }
        for q in PERCENTILES {
            let rank = merged.quantile(q) / 100_000.0;
            assert!((rank - q).abs() < 0.01, "{q}: {rank}");
        }
    }
}

fn values() -> impl Strategy<Value = Vec<f64>> {
    prop_oneof![
        vec(-1e3..1e3_f64, 0..300),
        vec((0..5_u8).prop_map(f64::from), 0..300),
        vec(
            prop::num::f64::NORMAL | prop::num::f64::ZERO | prop::num::f64::SUBNORMAL,
            0..300
        ),
    ]
}

fn odd() -> impl Strategy<Value = f64> {
    prop_oneof![4 => -1e3..1e3_f64, 1 => prop::num::f64::ANY, 1 => Just(0.0)]
}

fn message() -> impl Strategy<Value = MergingDigestData> {
    let centroid = (odd(), prop_oneof![9 => 1e-3..1e3_f64, 1 => odd()]);
    let scalars = (
        prop_oneof![Just(100.0), odd()],
        prop_oneof![Just(-2e3), odd()],
        prop_oneof![Just(2e3), odd()],
        odd(),
    );
    (vec(centroid, 0..200), scalars).prop_map(
        |(centroids, (compression, min, max, reciprocal_sum))| MergingDigestData {
            main_centroids: centroids
                .into_iter()
                .map(|(mean, weight)| Centroid {
                    mean,
                    weight,
                    samples: Vec::new(),
                })
                .collect(),
            compression,
            min,
            max,
            reciprocal_sum,
        },
    )
}

/// The invariants that the module promises.
fn assert_sound(digest: &mut TDigest) {
    let count = digest.count();
    digest.compress();
    assert_eq!(digest.head, digest.centroids.len());
    assert!(
        digest
            .centroids
            .iter()
            .all(|c| c.mean.is_finite() && c.weight > 0.0 && c.weight.is_finite())
    );
    let told: f64 = digest.centroids.iter().map(|c| c.weight).sum();
    assert!(
        (told / count - 1.0).abs() < 1e-9 || count == told,
        "{told} {count}"
    );
    if digest.is_empty() {
        assert_eq!(
            (digest.min(), digest.max(), count),
            (f64::INFINITY, f64::NEG_INFINITY, 0.0)
        );
        assert!(digest.quantile(0.5).is_nan() && digest.cdf(0.0).is_nan());
    } else {
        assert!(digest.min() <= digest.max());
        for q in [-1.0, 0.0, 0.25, 0.5, 0.99, 1.0, 2.0] {
            let value = digest.quantile(q);
            assert!(value.is_finite(), "{q}: {value}");
            assert!((0.0..=1.0).contains(&digest.cdf(value)), "{q}: {value}");
        }
        assert!(digest.quantile(f64::NAN).is_nan() && digest.cdf(f64::NAN).is_nan());
    }
}

proptest! {
    #[test]
    fn a_digest_of_any_values_is_sound(values in values()) {
        assert_sound(&mut of(&values));
    }

    #[test]
    fn merging_keeps_count_extremes_and_reciprocal_sum(a in values(), b in values()) {
        let (a_digest, b_digest) = (of(&a), of(&b));
        let mut merged = a_digest.clone();
        merged.merge(&b_digest).unwrap();
        assert_sound(&mut merged);
        let all = [a, b].concat();
        prop_assert_eq!(merged.count(), all.len() as f64);
        prop_assert_eq!(merged.min(), all.iter().copied().fold(f64::INFINITY, f64::min));
        prop_assert_eq!(merged.max(), all.iter().copied().fold(f64::NEG_INFINITY, f64::max));
        let reciprocals = a_digest.reciprocal_sum() + b_digest.reciprocal_sum();
        prop_assert!(merged.reciprocal_sum() == reciprocals || reciprocals.is_nan());
    }

    #[test]
    fn both_ways_to_merge_agree_within_the_error(a in vec(0.0..1.0_f64, 1..2000), b in vec(0.0..1.0_f64, 1..2000), seed in any::<u64>()) {
        let mut other = of(&b);
        other.compress();
        let (mut ours, mut veneurs) = (of(&a), of(&a));
        ours.merge(&other).unwrap();
        veneurs.merge_in_order(&other, &shuffled((0..other.centroids.len()).collect(), seed)).unwrap();
        let mut all = [a, b].concat();
        all.sort_unstable_by(f64::total_cmp);
        for q in PERCENTILES {
            let apart = (true_rank(&all, ours.quantile(q)) - true_rank(&all, veneurs.quantile(q))).abs();
            // One step of the scale on either side, and one sample.
            prop_assert!(apart < 0.02 + 2.0 / all.len() as f64, "{}: {}", q, apart);
        }
    }

    #[test]
    fn merging_a_message_is_reading_it_and_merging_that(values in values(), mut message in message()) {
        message.main_centroids.sort_by(|a, b| a.mean.total_cmp(&b.mean));
        let mut through = of(&values);
        let mut direct = through.clone();
        let read = TDigest::from_proto(&message).and_then(|read| through.merge(&read));
        prop_assert_eq!(direct.merge_proto(&message).map_err(|error| error.cause()), read.map_err(|error| error.cause()));
        prop_assert_eq!(direct.count().to_bits(), through.count().to_bits());
        assert_sound(&mut direct);
        prop_assert_eq!(format!("{:?}", direct.to_proto()), format!("{:?}", through.to_proto()));
    }

    #[test]
    fn merging_encoded_bytes_is_merging_the_message(values in values(), message in message()) {
        let mut decoded = of(&values);
        let mut encoded = decoded.clone();
        let mut received = ReceivedDigest::default();
        let bytes = message.encode_to_vec();
        prop_assert!(received.read(&bytes));
        // -0 is not written, and so reads as 0.
        let message = MergingDigestData::decode(&*bytes).unwrap();
        let refused = decoded.merge_proto(&message).map_err(|error| error.cause());
        prop_assert_eq!(encoded.merge_received(&received).map_err(|error| error.cause()), refused);
        prop_assert_eq!(format!("{:?}", encoded.to_proto()), format!("{:?}", decoded.to_proto()));
    }

    #[test]
    fn any_message_is_refused_or_makes_a_sound_digest(message in message()) {
        if let Ok(mut digest) = TDigest::from_proto(&message) {
            assert_sound(&mut digest);
            digest.add(1.0, 1.0).unwrap();
            assert_sound(&mut digest);
            let written = digest.to_proto();
            prop_assert!(TDigest::from_proto(&written).is_ok());
            prop_assert!(digest.compression() > 0.0 && (message.compression != 0.0 || digest.compression() == DEFAULT_COMPRESSION));
        }
    }

    #[test]
    fn an_order_that_is_no_permutation_is_refused(order in vec(0..6_usize, 0..7)) {
        let mut other = of(&[1.0, 2.0, 3.0, 4.0, 5.0]);
        other.compress();
        let mut digest = TDigest::default();
        let mut sorted = order.clone();
        sorted.sort_unstable();
        prop_assert_eq!(digest.merge_in_order(&other, &order).is_ok(), sorted == [0, 1, 2, 3, 4]);
    }
}
