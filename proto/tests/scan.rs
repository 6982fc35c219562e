//! The scan against the full decoder, on what the real agents forward and on random messages.

#![allow(clippy::expect_used, reason = "a test without its data must fail")]

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;
use prost::Message;
use serde::Deserialize;
use tributary_proto::metricpb::{
    CounterValue, GaugeValue, HistogramValue, Metric, SetValue, Type, metric::Value,
};
use tributary_proto::scan::{Scanned, ValueField, entries, frame_into, framed_len, frames};
use tributary_proto::tdigest::{Centroid, MergingDigestData};

#[derive(Deserialize)]
struct Fixture {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    case: String,
    forwarded: Vec<Forwarded>,
}

#[derive(Deserialize)]
struct Forwarded {
    name: String,
    tags: Vec<String>,
    r#type: String,
    scope: String,
    ring_key: String,
    pb_b64: String,
}

fn routing_key(scanned: &Scanned<'_>) -> String {
    let mut key = Vec::new();
    scanned.routing_key(|_| false, |piece| key.extend_from_slice(piece));
    String::from_utf8(key).expect("text")
}

/// Whether a scan tells of a message what decoding tells.
fn agree(scanned: &Scanned<'_>, decoded: &Metric) {
    assert_eq!(scanned.name, decoded.name);
    assert_eq!(scanned.tags().collect::<Vec<_>>(), decoded.tags);
    assert_eq!(scanned.kind as i32, decoded.r#type);
    assert_eq!(scanned.scope, decoded.scope);
    let value = decoded.value.as_ref().map(|value| match value {
        Value::Counter(_) => ValueField::Counter,
        Value::Gauge(_) => ValueField::Gauge,
        Value::Histogram(_) => ValueField::Histogram,
        Value::Set(_) => ValueField::Set,
    });
    assert_eq!(scanned.value, value);
    assert_eq!(scanned.interval, decoded.interval);
    match scanned.stamp {
        None => assert_eq!(decoded.origin, 0),
        Some(stamp) => assert_eq!(
            (stamp.origin, stamp.flush, stamp.index),
            (decoded.origin, decoded.flush, decoded.index)
        ),
    }
}

#[test]
fn every_metric_of_a_real_agent_scans_as_it_decodes() {
    let text = include_str!("fixtures/veneur/metrics.json");
    let fixture: Fixture = serde_json::from_str(text).expect("the fixture");
    let mut seen = 0;
    for case in &fixture.cases {
        for forwarded in &case.forwarded {
            let bytes = STANDARD.decode(&forwarded.pb_b64).expect("base64");
            let decoded = Metric::decode(&bytes[..]).expect("a metric");
            let scanned = Scanned::scan(&bytes).expect("a metric");
            agree(&scanned, &decoded);
            assert_eq!(scanned.name, forwarded.name, "{}", case.case);
            assert_eq!(decoded.tags, forwarded.tags, "{}", case.case);
            assert_eq!(scanned.kind.as_str_name(), forwarded.r#type);
            assert_eq!(decoded.scope().as_str_name(), forwarded.scope);
            assert_eq!(routing_key(&scanned), forwarded.ring_key);
            assert_eq!(scanned.stamp, None);
            // Our encoder writes what the original's does.
            assert_eq!(decoded.encode_to_vec(), bytes, "{}", case.case);
            seen += 1;
        }
    }
    assert_eq!(seen, 16);
}

#[test]
fn routing_keys_are_those_of_the_rings_worked_examples() {
    #[derive(Deserialize)]
    struct Rings {
        examples_5_nodes: Examples,
    }
    #[derive(Deserialize)]
    struct Examples {
        examples: Vec<Example>,
    }
    #[derive(Deserialize)]
    struct Example {
        key: String,
        name: String,
        tags: String,
        r#type: String,
    }
    let text = include_str!("fixtures/veneur/ring.json");
    let rings: Rings = serde_json::from_str(text).expect("the fixture");
    assert_eq!(rings.examples_5_nodes.examples.len(), 20);
    for example in rings.examples_5_nodes.examples {
        let kind = Type::from_lower_name(&example.r#type).expect("a type");
        let tags = example.tags.split(',').filter(|tag| !tag.is_empty());
        let metric = Metric {
            name: example.name,
            tags: tags.map(str::to_owned).collect(),
            r#type: kind as i32,
            ..Metric::default()
        };
        let bytes = metric.encode_to_vec();
        let scanned = Scanned::scan(&bytes).expect("a metric");
        assert_eq!(routing_key(&scanned), example.key);
    }
}

fn any_value() -> impl Strategy<Value = Option<Value>> {
    let digest = (vec(any::<(f64, f64)>(), 0..8), any::<f64>()).prop_map(|(centroids, sum)| {
        let centroid = |(mean, weight)| Centroid {
            mean,
            weight,
            samples: Vec::new(),
        };
        MergingDigestData {
            main_centroids: centroids.into_iter().map(centroid).collect(),
            compression: 100.0,
            min: -1.0,
            max: 1.0,
            reciprocal_sum: sum,
        }
    });
    prop_oneof![
        Just(None),
        any::<i64>().prop_map(|value| Some(Value::Counter(CounterValue { value }))),
        any::<f64>().prop_map(|value| Some(Value::Gauge(GaugeValue { value }))),
        proptest::option::of(digest)
            .prop_map(|t_digest| Some(Value::Histogram(HistogramValue { t_digest }))),
        vec(any::<u8>(), 0..40).prop_map(|sketch| Some(Value::Set(SetValue {
            hyper_log_log: sketch.into()
        }))),
    ]
}

fn any_metric() -> impl Strategy<Value = Metric> {
    let text = prop_oneof!["[a-z.:_]{0,20}", ".{0,20}", "[a-z]{100,200}"];
    let stamp = prop_oneof![Just((0, 0, 0, 0)), any::<(u64, u64, u32, u64)>()];
    (
        prop_oneof!["[a-z.]{1,30}", ".{1,10}"],
        vec(text, 0..20),
        0..5_i32,
        any_value(),
        any::<i32>(),
        stamp,
    )
        .prop_map(|(name, tags, kind, value, scope, stamp)| Metric {
            name,
            tags,
            r#type: kind,
            scope,
            origin: stamp.0,
            flush: stamp.1,
            index: stamp.2,
            interval: stamp.3,
            value,
        })
}

/// A field that `Metric` does not have, encoded.
fn unknown_field() -> impl Strategy<Value = Vec<u8>> {
    let number = prop_oneof![Just(4_u32), 10..1001_u32, 1005..(1_u32 << 29)];
    let content = prop_oneof![
        any::<u64>().prop_map(|value| {
            let mut out = Vec::new();
            prost::encoding::encode_varint(value, &mut out);
            (0, out)
        }),
        any::<[u8; 8]>().prop_map(|value| (1, value.to_vec())),
        vec(any::<u8>(), 0..200).prop_map(|value| {
            let mut out = Vec::new();
            prost::encoding::encode_varint(value.len() as u64, &mut out);
            out.extend(value);
            (2, out)
        }),
        any::<[u8; 4]>().prop_map(|value| (5, value.to_vec())),
    ];
    (number, content).prop_map(|(number, (wire_type, content))| {
        let mut out = Vec::new();
        prost::encoding::encode_varint(u64::from(number << 3 | wire_type), &mut out);
        out.extend(content);
        out
    })
}

/// Where a message's top-level fields begin, and its end.
fn field_starts(message: &[u8]) -> Vec<usize> {
    let mut starts = vec![0];
    let mut rest = message;
    while !rest.is_empty() {
        let (number, wire_type) = prost::encoding::decode_key(&mut rest).expect("a key");
        let context = prost::encoding::DecodeContext::default();
        prost::encoding::skip_field(wire_type, number, &mut rest, context).expect("a field");
        starts.push(message.len() - rest.len());
    }
    starts
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn a_scan_agrees_with_decoding_whatever_unknown_fields_lie_between(
        metric in any_metric(),
        unknown in vec((any::<prop::sample::Index>(), unknown_field()), 0..4),
        order in any::<u64>(),
    ) {
        let bytes = metric.encode_to_vec();
        let starts = field_starts(&bytes);
        let mut fields: Vec<_> = starts.windows(2).map(|ends| bytes[ends[0]..ends[1]].to_vec()).collect();
        for (at, field) in unknown {
            fields.insert(at.index(fields.len() + 1), field);
        }
        // Half of the messages come with their fields in another order.
        if order % 2 == 0 {
            let turn = (order / 2) as usize % fields.len();
            fields.rotate_left(turn);
        }
        let message = fields.concat();
        let decoded = Metric::decode(&message[..]).expect("a metric");
        let scanned = Scanned::scan(&message).expect("a metric");
        agree(&scanned, &decoded);
    }

    #[test]
    fn a_metric_changed_in_one_byte_scans_if_it_decodes(
        metric in any_metric(),
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let mut message = metric.encode_to_vec();
        let at = at.index(message.len());
        message[at] = byte;
        let scanned = Scanned::scan(&message);
        if let Ok(decoded) = Metric::decode(&message[..]) {
            match scanned {
                Ok(scanned) => agree(&scanned, &decoded),
                Err(error) => match error.cause() {
                    "name" => prop_assert!(decoded.name.is_empty()),
                    "type" => prop_assert!(Type::try_from(decoded.r#type).is_err()),
                    // A decoder passes over groups; the scan wants none.
                    cause => prop_assert_eq!(cause, "group"),
                },
            }
        }
    }

    #[test]
    fn any_bytes_scan_or_are_refused(message in vec(any::<u8>(), 0..200)) {
        if let Ok(scanned) = Scanned::scan(&message) {
            prop_assert!(!scanned.name.is_empty());
            prop_assert!(scanned.tags().count() <= message.len() / 2);
        }
    }

    #[test]
    fn any_bytes_are_a_list_or_are_refused(body in vec(prop_oneof![Just(0x0a), 0..20_u8, any::<u8>()], 0..100)) {
        let body = Bytes::from(body);
        if let Ok(frames) = frames(&body) {
            let told = frames.len();
            let total: usize = frames.clone().map(|frame| framed_len(frame.len())).sum();
            prop_assert!(total <= body.len());
            prop_assert_eq!(frames.count(), told);
        }
    }

    #[test]
    fn what_is_framed_comes_out_again(metrics in vec(vec(any::<u8>(), 0..300), 0..20)) {
        let mut body = Vec::new();
        for metric in &metrics {
            frame_into(&mut body, metric);
        }
        prop_assert_eq!(body.len(), metrics.iter().map(|metric| framed_len(metric.len())).sum::<usize>());
        let entries: Vec<_> = entries(&body).expect("a list").collect();
        prop_assert_eq!(entries, metrics);
    }
}
