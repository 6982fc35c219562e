//! Forwarded digests, framed like the entries of a list: each on its own, and all merged into one.

#![no_main]

use libfuzzer_sys::fuzz_target;
use prost::Message;
use tributary_aggregator::sketch::{DigestError, TDigest};
use tributary_fuzz::{ROUNDING, assert_ascends};
use tributary_proto::scan::entries;
use tributary_proto::tdigest::MergingDigestData;

fuzz_target!(|data: &[u8]| {
    let Ok(digests) = entries(data) else { return };
    let mut merged = TDigest::default();
    for bytes in digests {
        let Ok(data) = MergingDigestData::decode(bytes) else {
            continue;
        };
        match TDigest::from_proto(&data) {
            Ok(digest) => {
                let expected = data.main_centroids.is_empty();
                assert_eq!(digest.is_empty(), expected);
                check(digest.clone());
                merge(&mut merged, &data, &digest);
            }
            Err(error) => {
                let before = merged.clone().to_proto().encode_to_vec();
                let refusal = merged.merge_proto(&data).expect_err("refused before");
                // By its word: it may carry a NaN.
                assert_eq!(refusal.cause(), error.cause());
                assert_eq!(
                    merged.clone().to_proto().encode_to_vec(),
                    before,
                    "a refused digest leaves nothing"
                );
            }
        }
    }
    check(merged);
});

/// Merges a digest that was taken, in both ways that there are.
fn merge(merged: &mut TDigest, data: &MergingDigestData, digest: &TDigest) {
    let before = merged.clone();
    let mut by_object = merged.clone();
    let outcome = merged.merge_proto(data);
    assert_eq!(by_object.merge(digest), outcome);
    if let Err(error) = outcome {
        assert_eq!(error, DigestError::WeightOverflow);
        assert_eq!(merged.count(), before.count());
        assert_eq!((merged.min(), merged.max()), (before.min(), before.max()));
        return;
    }
    assert_eq!(merged.min(), before.min().min(digest.min()));
    assert_eq!(merged.max(), before.max().max(digest.max()));
    assert_near(merged.count(), before.count() + digest.count());
    assert_eq!(
        (by_object.min(), by_object.max()),
        (merged.min(), merged.max())
    );
    assert_near(by_object.count(), merged.count());
}

/// What holds for every digest.
fn check(mut digest: TDigest) {
    if digest.is_empty() {
        assert_eq!(digest.count(), 0.0);
        assert!(digest.quantile(0.5).is_nan());
        return;
    }
    let (min, max) = (digest.min(), digest.max());
    assert!(min.is_finite() && max.is_finite() && min <= max);
    assert!(digest.count().is_finite() && digest.count() > 0.0);

    let mut values = vec![min];
    values.extend((0..=20).map(|step| digest.quantile(f64::from(step) / 20.0)));
    values.push(max);
    assert!(values.iter().all(|value| value.is_finite()), "{values:?}");
    assert_ascends(&values);

    // Sorted, since a rounding that is nothing between values may be much between shares.
    values.sort_by(f64::total_cmp);
    let shares: Vec<f64> = values.iter().map(|value| digest.cdf(*value)).collect();
    assert!(
        shares.iter().all(|share| (0.0..=1.0).contains(share)),
        "{shares:?}"
    );
    assert_ascends(&shares);

    let written = digest.to_proto();
    let means = written.main_centroids.iter().map(|centroid| centroid.mean);
    let means: Vec<f64> = [min].into_iter().chain(means).chain([max]).collect();
    assert_ascends(&means);
    let mut read = TDigest::from_proto(&written).expect("a digest of ours can be read");
    assert_eq!(in_order(read.to_proto()), in_order(written));
}

/// The message's bytes, with the centroids in order: a mean that was rounded past its neighbour comes back in its place.
fn in_order(mut data: MergingDigestData) -> Vec<u8> {
    data.main_centroids
        .sort_by(|one, other| one.mean.total_cmp(&other.mean));
    data.encode_to_vec()
}

fn assert_near(value: f64, expected: f64) {
    assert!(
        (value - expected).abs() <= expected.abs() * ROUNDING,
        "{value} instead of {expected}"
    );
}
