//! Writing a digest as Veneur does.

use super::FLOAT;
use crate::tdigest::{Centroid, MergingDigestData};

/// The type definitions that come first: slice 67 of struct 65 "Centroid", struct 65, slice 66 of floats.
const DEFINITIONS: &[u8; 94] = b"\
    \x0d\xff\x85\x02\x01\x02\xff\x86\x00\x01\xff\x82\x00\x00\
    \x37\xff\x81\x03\x01\x01\x08Centroid\x01\xff\x82\x00\x01\x03\
    \x01\x04Mean\x01\x08\x00\x01\x06Weight\x01\x08\x00\x01\x07Samples\x01\xff\x84\x00\x00\x00\
    \x17\xff\x83\x02\x01\x01\x09[]float64\x01\xff\x84\x00\x01\x08\x00\x00";
/// The type number of the centroids in [`DEFINITIONS`].
const CENTROIDS: i64 = 67;

/// Writes a digest: the type definitions, the centroids, compression, minimum, maximum and reciprocal sum.
///
/// Versions of Veneur before 9 do not look for the last one and leave it.
pub fn encode(digest: &MergingDigestData) -> Vec<u8> {
    let mut out = DEFINITIONS.to_vec();
    let mut content = Vec::new();
    uint(&mut content, digest.main_centroids.len() as u64);
    for centroid in &digest.main_centroids {
        write_centroid(&mut content, centroid);
    }
    message(&mut out, CENTROIDS, &content);
    for value in [
        digest.compression,
        digest.min,
        digest.max,
        digest.reciprocal_sum,
    ] {
        content.clear();
        float(&mut content, value);
        message(&mut out, FLOAT, &content);
    }
    out
}

/// Fields are numbered by their distance from the last one written; those that are zero are left out.
fn write_centroid(out: &mut Vec<u8>, centroid: &Centroid) {
    let mut distance = 1;
    for value in [centroid.mean, centroid.weight] {
        if value == 0.0 {
            distance += 1;
            continue;
        }
        uint(out, distance);
        float(out, value);
        distance = 1;
    }
    if !centroid.samples.is_empty() {
        uint(out, distance);
        uint(out, centroid.samples.len() as u64);
        for sample in &centroid.samples {
            float(out, *sample);
        }
    }
    uint(out, 0);
}

/// A value that is no struct at its top: length, type, a zero, content.
fn message(out: &mut Vec<u8>, type_id: i64, content: &[u8]) {
    let mut head = Vec::with_capacity(4);
    int(&mut head, type_id);
    head.push(0);
    uint(out, (head.len() + content.len()) as u64);
    out.extend_from_slice(&head);
    out.extend_from_slice(content);
}

fn uint(out: &mut Vec<u8>, value: u64) {
    if value < 0x80 {
        out.push(value as u8);
        return;
    }
    let skipped = value.leading_zeros() as usize / 8;
    // The count of bytes that follow, negated.
    out.push((skipped as u8).wrapping_sub(8));
    out.extend(value.to_be_bytes().iter().skip(skipped));
}

fn int(out: &mut Vec<u8>, value: i64) {
    let shifted = (value as u64) << 1;
    uint(out, if value < 0 { !shifted } else { shifted });
}

/// The bits back to front: most numbers have zeros at the low end.
fn float(out: &mut Vec<u8>, value: f64) {
    uint(out, value.to_bits().swap_bytes());
}
