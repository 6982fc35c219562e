//! The legacy import on what Veneur's versions 2, 8 and 14 sent, and the answers they gave.

#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "a test without its data must fail"
)]

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use tributary_proto::json::{JsonMetric, decode, deflate, encode, parse_import};
use tributary_proto::metricpb::{Metric, Scope, Type, metric::Value};
use tributary_proto::tdigest::MergingDigestData;

const CAP: usize = 1 << 20;

#[derive(Deserialize)]
struct Fixture {
    cases: BTreeMap<String, Vec<Case>>,
    captured: BTreeMap<String, Vec<Captured>>,
    responses: Vec<Response>,
}

#[derive(Deserialize)]
struct Case {
    case: String,
    body: String,
    expect: Expect,
    value_len: usize,
    value_hex_prefix: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Expect {
    counter_le_hex: Option<String>,
    gauge: Option<f64>,
    hll_b64: Option<String>,
    compression: Option<f64>,
    count: Option<f64>,
    min: Option<f64>,
    max: Option<f64>,
    reciprocal_sum: Option<f64>,
    // What the sketches make of it is not this crate's.
    #[serde(rename = "estimate")]
    _estimate: Option<u64>,
    #[serde(rename = "q50")]
    _q50: Option<f64>,
    #[serde(rename = "q99")]
    _q99: Option<f64>,
}

#[derive(Deserialize)]
struct Captured {
    headers: BTreeMap<String, String>,
    raw_b64: String,
    body: Vec<CapturedMetric>,
}

#[derive(Deserialize)]
struct CapturedMetric {
    name: String,
    r#type: String,
    tagstring: String,
    tags: Option<Vec<String>>,
    value: String,
}

#[derive(Deserialize)]
struct Response {
    request: String,
    status: u16,
    body: String,
}

fn fixture() -> Fixture {
    let text = include_str!("fixtures/veneur/import_json.json");
    serde_json::from_str(text).expect("the fixture")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn elements(json: &[u8]) -> Vec<JsonMetric> {
    let mut elements = Vec::new();
    decode(json, |element| elements.push(element.expect("an element"))).expect("an array");
    elements
}

fn digest_of(metric: &Metric) -> &MergingDigestData {
    match &metric.value {
        Some(Value::Histogram(histogram)) => histogram.t_digest.as_ref().expect("a digest"),
        other => panic!("no histogram: {other:?}"),
    }
}

fn check_value(metric: &Metric, expect: &Expect) {
    if let Some(bytes) = &expect.counter_le_hex {
        let Some(Value::Counter(counter)) = &metric.value else {
            panic!("no counter: {metric:?}");
        };
        assert_eq!(&hex(&counter.value.to_le_bytes()), bytes);
    } else if let Some(value) = expect.gauge {
        let Some(Value::Gauge(gauge)) = &metric.value else {
            panic!("no gauge: {metric:?}");
        };
        assert_eq!(gauge.value, value);
    } else if let Some(sketch) = &expect.hll_b64 {
        let Some(Value::Set(set)) = &metric.value else {
            panic!("no set: {metric:?}");
        };
        // The fixture has the first bytes of long ones.
        let sketch = STANDARD.decode(sketch).expect("base64");
        assert!(set.hyper_log_log.starts_with(&sketch));
    } else {
        let digest = digest_of(metric);
        let weights = digest.main_centroids.iter().map(|centroid| centroid.weight);
        assert!((weights.sum::<f64>() - expect.count.expect("a count")).abs() < 1e-9);
        assert_eq!(Some(digest.compression), expect.compression);
        assert_eq!(
            (Some(digest.min), Some(digest.max)),
            (expect.min, expect.max)
        );
        assert_eq!(digest.reciprocal_sum, expect.reciprocal_sum.unwrap_or(0.0));
    }
}

#[test]
fn every_recorded_body_reads_to_its_value_and_writes_back_the_same() {
    let fixture = fixture();
    let mut seen = 0;
    for (version, cases) in &fixture.cases {
        for case in cases {
            let body = case.body.as_bytes();
            let mut import = parse_import(None, body, CAP).expect("an import");
            assert_eq!(import.skipped, []);
            let metric = import.metrics.pop().expect("a metric");
            assert_eq!(import.metrics, []);
            assert!(metric.name.starts_with("imp."), "{}", metric.name);
            let global = matches!(metric.r#type(), Type::Counter | Type::Gauge);
            let scope = if global { Scope::Global } else { Scope::Mixed };
            assert_eq!(metric.scope(), scope);
            check_value(&metric, &case.expect);

            let elements = elements(body);
            let element = elements.first().expect("an element");
            assert_eq!(metric.tags, element.tags);
            assert_eq!(metric.tags.join(","), element.tagstring);
            assert_eq!(element.value.len(), case.value_len, "{}", case.case);
            assert!(hex(&element.value).starts_with(&case.value_hex_prefix));
            // We write no tags as an empty list, as the last versions do; the others wrote null.
            let text = case.body.replace(r#""tags":null"#, r#""tags":[]"#);
            assert_eq!(encode(&elements), text.as_bytes());
            let written = JsonMetric::from_metric(&metric).expect("an element");
            if metric.r#type() == Type::Histogram && version == "v2.0.0" {
                // Ours has the reciprocal sum after what that version writes.
                let own = written.value.strip_prefix(&element.value[..]);
                assert_eq!(own, Some(&b"\x03\x08\0\0"[..]), "{}", case.case);
            } else {
                assert_eq!(&written, element, "{}", case.case);
            }
            seen += 1;
        }
    }
    assert_eq!(seen, 24);
}

#[test]
fn every_captured_request_is_accepted_whole() {
    let fixture = fixture();
    assert_eq!(fixture.captured.len(), 3);
    for captured in fixture.captured.values().flatten() {
        let raw = STANDARD.decode(&captured.raw_b64).expect("base64");
        let encoding = captured.headers.get("Content-Encoding").map(String::as_str);
        assert_eq!(encoding, Some("deflate"));
        let import = parse_import(encoding, &raw, CAP).expect("an import");
        assert_eq!(import.skipped, []);
        assert_eq!(import.metrics.len(), captured.body.len());
        for (metric, sent) in import.metrics.iter().zip(&captured.body) {
            assert_eq!(metric.name, sent.name);
            assert_eq!(metric.r#type().lower_name(), sent.r#type);
            assert_eq!(metric.tags, sent.tags.clone().unwrap_or_default());
            let written = JsonMetric::from_metric(metric).expect("an element");
            assert_eq!(written.tagstring, sent.tagstring);
            let value = STANDARD.decode(&sent.value).expect("base64");
            assert!(written.value.starts_with(&value), "{}", sent.name);
        }
        // What we send in its place holds the same metrics.
        let elements: Result<Vec<_>, _> =
            import.metrics.iter().map(JsonMetric::from_metric).collect();
        let ours = deflate(&encode(&elements.expect("elements")));
        assert_eq!(parse_import(encoding, &ours, CAP), Ok(import));
    }
}

/// The request that a line of the response table describes.
fn request(described: &str) -> Option<(Option<&'static str>, Vec<u8>)> {
    let one = |kind: &str, value: &str| {
        format!(r#"[{{"name":"n","type":"{kind}","value":"{value}"}}]"#).into_bytes()
    };
    let good = one("counter", "AAAAAAAAAAA=");
    Some(match described {
        "valid non-empty array, no Content-Encoding or deflate(zlib)" => (None, good),
        "[]" | "[{}]" | "xx" => (None, described.as_bytes().to_vec()),
        "Content-Encoding: gzip" => (Some("gzip"), good),
        "Content-Encoding: deflate with a non-zlib body" => (Some("deflate"), good),
        "value is not base64" => (None, one("counter", "!!!")),
        "counter value shorter than 8 bytes (global)" => (None, one("counter", "AAA=")),
        "unknown type (global)" => (None, one("status", "AAAAAAAAAAA=")),
        // Routing answers that one.
        "GET /import" => return None,
        other => panic!("unknown line: {other}"),
    })
}

#[test]
fn answers_are_those_of_the_response_table() {
    let responses = fixture().responses;
    assert_eq!(responses.len(), 10);
    for response in responses {
        let Some((encoding, body)) = request(&response.request) else {
            continue;
        };
        let answer = match parse_import(encoding, &body, CAP) {
            Ok(_) => (202, String::new()),
            Err(refusal) => (refusal.status, refusal.body),
        };
        let wanted = (response.status, response.body);
        assert_eq!(answer, wanted, "{}", response.request);
    }
}
