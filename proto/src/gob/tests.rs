//! Streams put together by hand. The captured ones are in `tests/json.rs`.

use super::*;
use crate::tdigest::{Centroid, MergingDigestData};

fn digest() -> MergingDigestData {
    let centroid = |mean, weight, samples: &[f64]| Centroid {
        mean,
        weight,
        samples: samples.to_vec(),
    };
    MergingDigestData {
        main_centroids: vec![
            centroid(-1.5, 1.0, &[]),
            centroid(0.0, 2.0, &[0.0, 1.0]),
            centroid(3.25, 0.0, &[]),
            centroid(0.0, 0.0, &[7.0]),
            centroid(0.0, 0.0, &[]),
        ],
        compression: 100.0,
        min: f64::INFINITY,
        max: f64::NEG_INFINITY,
        reciprocal_sum: 0.0,
    }
}

/// The length of [`encode`]'s type definitions.
const DEFINED: usize = 94;

#[test]
fn what_is_written_is_read_back() {
    for digest in [digest(), MergingDigestData::default()] {
        assert_eq!(decode(&encode(&digest)), Ok(digest));
    }
}

#[test]
fn an_empty_digest_is_written_as_go_writes_it() {
    let bytes = encode(&MergingDigestData::default());
    let values = b"\x04\xff\x86\0\0\x03\x08\0\0\x03\x08\0\0\x03\x08\0\0\x03\x08\0\0";
    assert_eq!(bytes.get(DEFINED..), Some(&values[..]));
}

#[test]
fn numbers_of_types_are_taken_from_the_stream() {
    // The types 65, 66 and 67 as 100, 110 and 120, the struct's fields in another order, the definitions too.
    let stream = b"\
        \x17\xff\xdb\x02\x01\x01\x09[]float64\x01\xff\xdc\x00\x01\x08\x00\x00\
        \x2d\xff\xc7\x03\x01\x02\xff\xc8\x00\x01\x03\
        \x01\x07Samples\x01\xff\xdc\x00\x01\x06Weight\x01\x08\x00\x01\x04Mean\x01\x08\x00\x00\x00\
        \x0d\xff\xef\x02\x01\x02\xff\xf0\x00\x01\xff\xc8\x00\x00\
        \x11\xff\xf0\x00\x02\x01\x01\xfe\xf0\x3f\x01\x40\x00\x03\xfe\xf0\x3f\x00\
        \x05\x08\x00\xfe\x59\x40\x04\x08\x00\xff\x40\x03\x08\x00\x40";
    let read = decode(stream).expect("a digest");
    let first = Centroid {
        mean: 0.0,
        weight: 2.0,
        samples: vec![1.0],
    };
    assert_eq!(read.main_centroids.first(), Some(&first));
    assert_eq!(
        read.main_centroids.get(1).map(|second| second.mean),
        Some(1.0)
    );
    assert_eq!((read.max, read.reciprocal_sum), (2.0, 0.0));
}

#[test]
fn every_cut_is_an_error_but_that_before_the_reciprocal_sum() {
    let bytes = encode(&digest());
    for length in 0..bytes.len() {
        let cut = decode(&bytes[..length]);
        // The reciprocal sum is the last four bytes.
        assert_eq!(cut.is_ok(), length == bytes.len() - 4, "{length}");
    }
}

/// A stream of the usual definitions and one message for the centroids.
fn with_centroids(message: &[u8]) -> Vec<u8> {
    let mut bytes = encode(&MergingDigestData::default());
    bytes.truncate(DEFINED);
    bytes.push(u8::try_from(message.len()).expect("short"));
    bytes.extend_from_slice(message);
    bytes
}

#[test]
fn each_kind_of_bad_stream_is_named() {
    let error = |message: &[u8]| decode(&with_centroids(message)).expect_err("no digest");
    assert_eq!(error(b"\xff\x86\0\x05\0\0"), GobError::Count(5));
    assert_eq!(
        error(b"\xff\x86\0\xf8\xff\xff\xff\xff\xff\xff\xff\xff"),
        GobError::Count(u64::MAX)
    );
    assert_eq!(error(b"\xff\x86\0\x01\x04\0\0"), GobError::Field(4));
    assert_eq!(
        error(b"\xff\x86\0\x01\x01\0\xf8\xff\xff\xff\xff\xff\xff\xff\xff\0"),
        GobError::Integer
    );
    assert_eq!(error(b"\xff\x86\0\x01\x03\x09\0"), GobError::Count(9));
    assert_eq!(error(b"\xff\x86\0\0\0"), GobError::Trailing);
    assert_eq!(error(b"\xff\x86\x01\0"), GobError::Type(67));
    assert_eq!(error(b"\xff\x82\0\0"), GobError::Type(65));
    assert_eq!(error(b"\xff\x84\0\0"), GobError::Type(66));
    assert_eq!(error(b"\x08\0\0"), GobError::Type(4));
    assert_eq!(error(b"\xf7\0\0\0\0\0\0\0\0\0"), GobError::Integer);
    assert_eq!(error(b"\xff\x86"), GobError::Truncated);
    assert_eq!(error(b""), GobError::Truncated);
    // A map, a type defined twice, a type number without a positive counterpart.
    assert_eq!(error(b"\xff\x87\x04\0\0"), GobError::Definition);
    assert_eq!(error(b"\xff\x85\x02\x01\x08\0\0"), GobError::Definition);
    assert_eq!(
        error(b"\xf8\xff\xff\xff\xff\xff\xff\xff\xff\x02\0\0"),
        GobError::Integer
    );
    assert_eq!(decode(&[]), Err(GobError::Truncated));
}

#[test]
fn a_digest_of_too_many_centroids_is_refused() {
    let mut big = MergingDigestData::default();
    big.main_centroids
        .resize(MAX_CENTROIDS, Centroid::default());
    assert_eq!(decode(&encode(&big)), Ok(big.clone()));
    big.main_centroids.push(Centroid::default());
    let count = big.main_centroids.len() as u64;
    assert_eq!(decode(&encode(&big)), Err(GobError::Count(count)));
}

#[test]
fn definitions_without_end_are_refused() {
    let mut bytes = Vec::new();
    for id in 0..20_u8 {
        bytes.extend_from_slice(&[7, 0xff, 0x81 + 2 * id, 2, 2, 8, 0, 0]);
    }
    assert_eq!(decode(&bytes), Err(GobError::Definition));
}
