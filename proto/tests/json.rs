//! The legacy import on bad bodies and random ones.

#![allow(clippy::expect_used, reason = "a test without its data must fail")]

use proptest::collection::vec;
use proptest::prelude::*;
use tributary_proto::gob;
use tributary_proto::json::{Import, JsonMetric, Refusal, deflate, encode, inflate, parse_import};
use tributary_proto::tdigest::{Centroid, MergingDigestData};

const CAP: usize = 1 << 20;

#[test]
fn what_the_original_takes_wrongly_is_skipped_and_counted() {
    let body = br#"[{"name":"n","type":"counter","value":"AAA="},{"name":"n","type":"status"}]"#;
    let Import { metrics, skipped } = parse_import(Some(""), body, CAP).expect("an import");
    assert_eq!(metrics, []);
    let causes: Vec<_> = skipped
        .iter()
        .map(|skip| (skip.cause, skip.count))
        .collect();
    assert_eq!(causes, [("length", 1), ("type", 1)]);
}

#[test]
fn a_bad_element_costs_only_itself() {
    let body = br#"[
        {"name":"a","type":"set","tags":null,"tagstring":null,"value":"AQ4="},
        {"name":5,"type":"set"},
        {"name":"b","type":"set","tags":["x",7,{"y":[]}]},
        {"name":"b","type":"set","tags":"x"},
        {"name":"b","type":"set","value":{"deep":[1,[2.5,{"er":null}]]}},
        {"name":"b","type":"counter","value":"A"},
        7, "text", true, [1, 2], {}, null,
        {"name":"b","type":"timer","value":"AAAA"},
        {"other":{"a":1},"type":"gauge","name":"z","value":"AAAAAAAA+D8=","tagstring":"t:1"}
    ]"#;
    let import = parse_import(None, body, CAP).expect("an import");
    let names: Vec<_> = import.metrics.iter().map(|metric| &metric.name).collect();
    assert_eq!(names, ["a", "z"]);
    let skipped: Vec<_> = import
        .skipped
        .iter()
        .map(|skipped| (skipped.cause, skipped.count, skipped.first.to_string()))
        .collect();
    let digest = "metric \"b\" has a digest that cannot be read: gob value is cut off";
    assert_eq!(
        skipped,
        [
            ("json", 8, "name is not a string".to_owned()),
            (
                "base64",
                1,
                "illegal base64 data at input byte 1".to_owned()
            ),
            ("name", 2, "metric has no name".to_owned()),
            ("gob", 1, digest.to_owned()),
        ]
    );
}

#[test]
fn a_request_is_refused_as_a_whole_for_what_it_is() {
    let refused = |encoding, body: &[u8]| {
        let Refusal {
            status,
            body,
            cause,
        } = parse_import(encoding, body, 100).expect_err("refused");
        (status, cause, body)
    };
    let text = |status, cause, body: &str| (status, cause, body.to_owned());
    assert_eq!(refused(None, b""), text(400, "json", "EOF\n"));
    assert_eq!(
        refused(None, b" '"),
        text(
            400,
            "json",
            "invalid character '\\'' looking for beginning of value\n"
        )
    );
    assert_eq!(
        refused(None, b"null"),
        text(400, "empty", "Received empty /import request\n")
    );
    assert_eq!(
        refused(None, b"[null, {}]"),
        text(
            400,
            "empty",
            "Received empty or improperly-formed metrics\n"
        )
    );
    assert_eq!(refused(None, b"{}").1, "json");
    assert_eq!(refused(None, b"[{}").1, "json");
    assert_eq!(refused(None, b"[\"\xff\"]").1, "json");
    let good = br#"[{"name":"n","type":"set","value":"AQ4="}]"#;
    assert!(parse_import(None, good, 100).is_ok());
    // Elements before a syntax error are not taken either; nor is anything after the array.
    assert_eq!(refused(None, &[&good[..], b"x"].concat()).1, "json");
    assert_eq!(
        refused(None, b"[{\"name\":5}, {}]"),
        text(400, "json", "name is not a string\n")
    );
    assert_eq!(
        refused(None, &[b' '; 101]),
        text(413, "too_large", "body has more than 100 bytes\n")
    );
    assert_eq!(
        refused(Some("deflate"), &deflate(&[b' '; 101])),
        text(413, "too_large", "body inflates to more than 100 bytes\n")
    );
    assert_eq!(
        refused(Some("deflate"), b""),
        text(400, "deflate", "unexpected EOF\n")
    );
    assert_eq!(
        refused(Some("Deflate"), good),
        text(415, "unknown_content_encoding", "Deflate\n")
    );
}

#[test]
fn nesting_without_end_is_an_error() {
    let body = "[".repeat(CAP);
    let refusal = parse_import(None, body.as_bytes(), CAP).expect_err("refused");
    assert_eq!((refusal.status, refusal.cause), (400, "json"));
}

fn any_digest() -> impl Strategy<Value = MergingDigestData> {
    let number = || prop_oneof![Just(0.0), any::<f64>(), Just(f64::INFINITY), -9.0..9.0];
    let centroid = (number(), number(), vec(number(), 0..3));
    (vec(centroid, 0..30), any::<[f64; 4]>()).prop_map(|(centroids, rest)| MergingDigestData {
        main_centroids: centroids
            .into_iter()
            .map(|(mean, weight, samples)| Centroid {
                // Neither gob nor protobuf's zero value tells the two zeros apart.
                mean: mean + 0.0,
                weight: weight + 0.0,
                samples,
            })
            .collect(),
        compression: rest[0],
        min: rest[1],
        max: rest[2],
        reciprocal_sum: rest[3],
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn any_digest_passes_through_gob(digest in any_digest()) {
        let bytes = gob::encode(&digest);
        prop_assert_eq!(gob::decode(&bytes), Ok(digest));
    }

    #[test]
    fn a_gob_stream_with_changed_bytes_is_read_or_refused(
        digest in any_digest(),
        changes in vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut bytes = gob::encode(&digest);
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Ok(read) = gob::decode(&bytes) {
            prop_assert!(read.main_centroids.len() < bytes.len());
        }
    }

    #[test]
    fn any_bytes_are_a_gob_stream_or_refused(bytes in vec(any::<u8>(), 0..200)) {
        prop_assert!(gob::decode(&bytes).is_err());
    }

    #[test]
    fn any_bytes_inflate_within_the_cap_or_are_refused(bytes in vec(any::<u8>(), 0..100)) {
        let stream = [&[0x78, 0x9c][..], &bytes].concat();
        for body in [&bytes, &stream] {
            if let Ok(inflated) = inflate(body, 64) {
                prop_assert!(inflated.len() <= 64);
            }
            if let Err(refusal) = parse_import(Some("deflate"), body, 64) {
                prop_assert!([400, 413].contains(&refusal.status));
            }
        }
    }

    #[test]
    fn any_text_is_an_import_or_refused(
        pieces in vec(prop_oneof![
            Just("["), Just("]"), Just("{"), Just("}"), Just(","), Just(":"), Just("null"), Just("1e9"), Just("\"name\""),
            Just("\"type\""), Just("\"set\""), Just("\"tags\""), Just("\"value\""), Just("\"AQ4=\""), Just("{\"name\":"),
            Just("\\"), Just("\""), Just("\u{e9}"),
        ], 0..24),
    ) {
        let body = format!("[{}]", pieces.concat());
        for body in [body.as_bytes(), &body.as_bytes()[1..]] {
            match parse_import(None, body, CAP) {
                Ok(import) => prop_assert!(import.metrics.len() + import.skipped.len() > 0),
                Err(refusal) => prop_assert_eq!(refusal.status, 400),
            }
        }
    }

    #[test]
    fn any_metric_passes_through_json(
        name in ".{1,20}",
        tags in vec("[^,]{1,10}", 0..4),
        kind in 0..4_i32,
        counter in any::<i64>(),
        gauge in any::<f64>(),
        sketch in vec(any::<u8>(), 0..40),
        digest in any_digest(),
    ) {
        let (kind, value) = match kind {
            0 => ("counter", counter.to_le_bytes().to_vec()),
            1 => ("gauge", gauge.to_le_bytes().to_vec()),
            2 => ("set", sketch),
            _ => ("timer", gob::encode(&digest)),
        };
        let element = JsonMetric { name, kind: kind.to_owned(), tagstring: tags.join(","), tags, value };
        let body = encode(std::slice::from_ref(&element));
        let import = parse_import(Some("deflate"), &deflate(&body), CAP).expect("an import");
        prop_assert_eq!(import.skipped, []);
        let back: Vec<_> = import.metrics.iter().map(JsonMetric::from_metric).collect();
        prop_assert_eq!(back, [Ok(element)]);
    }
}
