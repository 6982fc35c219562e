//! A digest as Go's gob writes it, which legacy JSON carries as base64, out of the fuzzer's reach.

#![no_main]

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use libfuzzer_sys::fuzz_target;
use tributary_proto::gob::{decode, encode};
use tributary_proto::json::parse_import;
use tributary_proto::tdigest::MergingDigestData;

fuzz_target!(|data: &[u8]| {
    let decoded = decode(data);
    let element = format!(
        r#"[{{"name":"n","type":"timer","tagstring":"","tags":[],"value":"{}"}}]"#,
        STANDARD.encode(data)
    );
    let import = parse_import(None, element.as_bytes(), usize::MAX).expect("it is well formed");
    assert_eq!(import.metrics.len(), usize::from(decoded.is_ok()));

    let Ok(digest) = decoded else { return };
    // A value takes a byte at least, so a short stream makes no large digest.
    let samples = digest
        .main_centroids
        .iter()
        .map(|centroid| centroid.samples.len());
    assert!(digest.main_centroids.len() + samples.sum::<usize>() <= data.len());

    let encoded = encode(&digest);
    let again = decode(&encoded).expect("what was written can be read");
    assert_eq!(bits(&digest), bits(&again));
    assert_eq!(encoded, encode(&again));
});

/// All numbers by their bits, since NaN is not equal to itself; −0 counts as 0, for gob leaves both out of a struct.
fn bits(digest: &MergingDigestData) -> Vec<u64> {
    let MergingDigestData {
        main_centroids,
        compression,
        min,
        max,
        reciprocal_sum,
    } = digest;
    let mut numbers = vec![*compression, *min, *max, *reciprocal_sum];
    for centroid in main_centroids {
        numbers.extend([
            centroid.mean,
            centroid.weight,
            centroid.samples.len() as f64,
        ]);
        numbers.extend(&centroid.samples);
    }
    let positive_zero = |number: f64| if number == 0.0 { 0.0 } else { number };
    numbers
        .into_iter()
        .map(|number| positive_zero(number).to_bits())
        .collect()
}
