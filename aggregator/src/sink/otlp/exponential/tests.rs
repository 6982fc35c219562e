use proptest::prelude::*;

use super::*;
use crate::key::Kind;
use crate::sketch::TDigest;

const BUCKETS: usize = 160;

fn digest(values: &[f64]) -> TDigest {
    let mut digest = TDigest::default();
    values
        .iter()
        .for_each(|value| digest.add(*value, 1.0).unwrap());
    digest
}

fn distribution(digest: &mut TDigest) -> Distribution {
    Distribution {
        points: 0..1,
        kind: Kind::Histogram,
        count: digest.count(),
        sum: digest.sum(),
        min: digest.min(),
        max: digest.max(),
        centroids: digest.centroids().into(),
    }
}

fn base(scale: i32) -> f64 {
    f64::from(-scale).exp2().exp2()
}

impl Exponential {
    fn total(&self) -> u64 {
        let side = |side: &Side| side.counts.iter().sum::<u64>();
        self.zero + side(&self.positive) + side(&self.negative)
    }

    /// The value of that rank, as the middle of its bucket by ratio.
    fn quantile(&self, q: f64) -> f64 {
        let wanted = (q * self.total() as f64).ceil().max(1.0) as u64;
        let middle = |bucket: i32| bound(bucket, self.scale) * base(self.scale).sqrt();
        let side = |side: &Side, sign: f64| -> Vec<(f64, u64)> {
            let buckets = (side.offset..).zip(side.counts.clone());
            buckets
                .map(|(bucket, count)| (sign * middle(bucket), count))
                .collect()
        };
        let mut all = side(&self.negative, -1.0);
        all.reverse();
        all.push((0.0, self.zero));
        all.extend(side(&self.positive, 1.0));
        let mut below = 0;
        for (value, count) in all {
            below += count;
            if below >= wanted {
                return value;
            }
        }
        f64::NAN
    }
}

#[test]
fn bounds_belong_to_the_bucket_below_at_every_scale() {
    for scale in SCALES {
        for value in [
            1e-310, 1e-300, 0.001, 0.7, 1.0, 1.5, 2.0, 4.0, 1000.0, 65536.0, 1e300,
        ] {
            let bucket = index(value, scale);
            let (lower, upper) = (bound(bucket, scale), bound(bucket + 1, scale));
            let slack = 1e-9;
            assert!(
                lower <= value * (1.0 + slack),
                "{value} at {scale}: above {lower}"
            );
            assert!(
                value <= upper * (1.0 + slack),
                "{value} at {scale}: up to {upper}"
            );
        }
        assert_eq!(
            index(1.0, scale),
            -1,
            "1 is a bound at every scale: {scale}"
        );
    }
    assert_eq!(
        [1.0, 1.5, 2.0, 3.0, 4.0].map(|value| index(value, 0)),
        [-1, 0, 0, 1, 1]
    );
    assert_eq!(
        [1.0, 4.0, 4.1, 16.0].map(|value| index(value, -1)),
        [-1, 0, 1, 1]
    );
}

#[test]
fn few_samples_are_each_in_their_own_bucket() {
    let found = Exponential::of(
        &distribution(&mut digest(&[1.0, 1000.0, 0.0, -8.0])),
        BUCKETS,
    );
    assert_eq!((found.total(), found.zero), (4, 1));
    let one = |value: f64| index(value, found.scale);
    assert_eq!(found.positive.offset, one(1.0));
    let last = found.positive.offset + found.positive.counts.len() as i32 - 1;
    assert_eq!(last, one(1000.0));
    assert_eq!(found.positive.counts.iter().sum::<u64>(), 2);
    assert_eq!(
        (found.negative.offset, &*found.negative.counts),
        (one(8.0), &[1][..])
    );
}

#[test]
fn a_single_value_takes_one_bucket_however_often_it_came() {
    let mut digest = TDigest::default();
    digest.add(12.5, 7.0).unwrap();
    let found = Exponential::of(&distribution(&mut digest), BUCKETS);
    assert_eq!((found.scale, &*found.positive.counts), (20, &[7][..]));
    assert!((found.quantile(0.5) - 12.5).abs() < 1e-4);
    let mut zeros = TDigest::default();
    zeros.add(0.0, 3.0).unwrap();
    let found = Exponential::of(&distribution(&mut zeros), BUCKETS);
    assert_eq!((found.zero, found.total()), (3, 3));
}

#[test]
fn any_range_fits_into_the_buckets() {
    let ends = [f64::MAX, f64::MIN_POSITIVE / 1e10, -f64::MAX, -1e-300];
    let found = Exponential::of(&distribution(&mut digest(&ends)), LEAST_BUCKETS);
    assert!(found.positive.counts.len() <= LEAST_BUCKETS, "{found:?}");
    assert!(found.negative.counts.len() <= LEAST_BUCKETS, "{found:?}");
    assert_eq!(found.total(), 4);
}

/// Samples by a deterministic generator.
fn samples(count: usize, make: impl Fn(f64) -> f64) -> Vec<f64> {
    let mut random = fastrand::Rng::with_seed(7);
    (0..count).map(|_| make(random.f64())).collect()
}

#[test]
fn spreading_centroids_comes_closer_to_the_samples_than_their_means_do() {
    type Shape = (&'static str, fn(f64) -> f64);
    let shapes: [Shape; 3] = [
        ("uniform", |u| 1.0 + 999.0 * u),
        ("exponential", |u| -100.0 * (1.0 - u).ln() + 1e-3),
        ("pareto", |u| (1.0 - u).powf(-1.0 / 1.5)),
    ];
    for (name, shape) in shapes {
        let mut values = samples(20_000, shape);
        let distribution = distribution(&mut digest(&values));
        values.sort_by(f64::total_cmp);
        let spread = pieces(&distribution);
        let means = distribution.centroids.iter().map(|centroid| Piece {
            lower: centroid.mean(),
            upper: centroid.mean(),
            weight: centroid.weight(),
        });
        let means: Vec<_> = means.collect();
        let errors = |pieces: &[Piece]| -> (f64, f64) {
            let found = Exponential::from_pieces(pieces, distribution.count, BUCKETS);
            let errors = (1..1000).map(|step| {
                let q = f64::from(step) / 1000.0;
                let truth = values[(q * values.len() as f64) as usize];
                (found.quantile(q) / truth - 1.0).abs()
            });
            let errors: Vec<f64> = errors.collect();
            let mean = errors.iter().sum::<f64>() / errors.len() as f64;
            (mean, errors.into_iter().fold(0.0, f64::max))
        };
        let (spread, means) = (errors(&spread), errors(&means));
        println!("{name}: mean and worst error {spread:?} spread, {means:?} at the means");
        assert!(spread.0 < means.0, "{name}: {spread:?} {means:?}");
    }
}

fn values() -> impl Strategy<Value = Vec<f64>> {
    let value = prop_oneof![
        4 => 0.001..1000.0_f64,
        2 => (0.0..20.0_f64).prop_map(f64::exp),
        1 => -1000.0..-0.001_f64,
        1 => Just(0.0),
        1 => Just(5.0),
    ];
    let positive = prop_oneof![0.001..1000.0_f64, (0.0..20.0_f64).prop_map(f64::exp)];
    prop_oneof![
        prop::collection::vec(value, 1..2000),
        prop::collection::vec(positive, 1..2000)
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn quantiles_are_the_digests_within_the_stated_error(values in values(), most in prop_oneof![Just(BUCKETS), 20_usize..400]) {
        let mut digest = digest(&values);
        let distribution = distribution(&mut digest);
        let found = Exponential::of(&distribution, most);
        prop_assert_eq!(found.total(), values.len() as u64);
        prop_assert!(found.positive.counts.len() <= most && found.negative.counts.len() <= most);
        // What is kept together around zero.
        let mut lower = distribution.min;
        let mut together = 0.0;
        for (centroid, upper) in Centroid::spans(&distribution.centroids, distribution.max) {
            if lower <= 0.0 && upper >= 0.0 && centroid.weight() > 1.0 {
                together += centroid.weight();
            }
            lower = upper;
        }
        // One and a half, and up to one more for how a quantile is read from whole counts.
        let ranks = (2.5 + together) / distribution.count;
        let base = base(found.scale) * (1.0 + 1e-9);
        for step in 0..=200 {
            let q = f64::from(step) / 200.0;
            let read = found.quantile(q);
            let (low, high) = (digest.quantile(q - ranks), digest.quantile(q + ranks));
            let low = if low > 0.0 { low / base } else { low * base };
            let high = if high > 0.0 { high * base } else { high / base };
            prop_assert!(low <= read && read <= high, "q {}: {} is not from {} to {}", q, read, low, high);
        }
    }

    #[test]
    fn sampled_and_merged_weights_add_up_to_the_rounded_count(weights in prop::collection::vec((0.001..1e6_f64, 0.1..50.0_f64), 1..300)) {
        let mut digest = TDigest::default();
        for (value, weight) in weights {
            digest.add(value, weight).unwrap();
        }
        let distribution = distribution(&mut digest);
        let found = Exponential::of(&distribution, BUCKETS);
        prop_assert_eq!(found.total(), (distribution.count.round() as u64).max(1));
        let first = index(distribution.min, found.scale);
        let last = index(distribution.max, found.scale);
        let end = found.positive.offset + found.positive.counts.len() as i32 - 1;
        prop_assert!(found.positive.offset >= first && end <= last);
    }
}
