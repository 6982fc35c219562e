//! The body of a legacy `POST /import`: plain and as a zlib stream, and what was taken of it on its way through a global.

#![no_main]

use libfuzzer_sys::fuzz_target;
use prost::Message;
use tributary_aggregator::flush::Role;
use tributary_fuzz::Tier;
use tributary_proto::json::{
    Import, InflateError, JsonMetric, Refusal, deflate, encode, inflate, parse_import,
};
use tributary_proto::metricpb::Metric;

/// Above what the fuzzer makes, so that only a zlib stream that grows reaches it.
const CAP: usize = 1 << 20;

fuzz_target!(|data: &[u8]| {
    let plain = parse_import(None, data, CAP);
    check(&plain);
    check(&parse_import(Some("deflate"), data, CAP));

    let deflated = deflate(data);
    assert_eq!(
        comparable(&plain),
        comparable(&parse_import(Some("deflate"), &deflated, CAP)),
        "a body means the same in a zlib stream"
    );
    if let Some(less) = data.len().checked_sub(1) {
        assert_eq!(inflate(&deflated, less), Err(InflateError::TooLong(less)));
        assert_eq!(
            parse_import(None, data, less).map_err(|refusal| refusal.status),
            Err(413)
        );
    }
});

/// What was taken, by its bytes since NaN is not equal to itself, and how many were skipped for which cause.
type Taken = (Vec<Vec<u8>>, Vec<(&'static str, u64)>);

fn comparable(answer: &Result<Import, Refusal>) -> Result<Taken, Refusal> {
    let import = answer.as_ref().map_err(Clone::clone)?;
    let metrics = import.metrics.iter().map(Message::encode_to_vec);
    let skipped = import.skipped.iter();
    let skipped = skipped.map(|skipped| (skipped.cause, skipped.count));
    Ok((metrics.collect(), skipped.collect()))
}

fn check(answer: &Result<Import, Refusal>) {
    let import = match answer {
        Ok(import) => import,
        Err(refusal) => {
            assert!([400, 413].contains(&refusal.status), "{refusal:?}");
            assert!(refusal.body.ends_with('\n'));
            return;
        }
    };
    for skipped in &import.skipped {
        assert!(skipped.count > 0);
        assert_eq!(skipped.first.cause(), skipped.cause);
    }
    // Of these, the answer would have been a refusal.
    assert!(import.metrics.len() + import.skipped.len() > 0);

    let mut global = Tier::new(Role::Global);
    for metric in &import.metrics {
        assert!(!metric.name.is_empty() && metric.value.is_some());
        if let Err(error) = global.writer.import(metric.clone()) {
            assert!(!error.cause().is_empty());
        }
    }
    global.flush();
    if !import.metrics.is_empty() {
        comes_back(&import.metrics);
    }
}

/// What was taken can be sent on in the same form, and is the same there.
fn comes_back(metrics: &[Metric]) {
    let elements: Vec<JsonMetric> = metrics
        .iter()
        .map(|metric| JsonMetric::from_metric(metric).expect("it came as an element"))
        .collect();
    let again = parse_import(None, &encode(&elements), usize::MAX).expect("a body of ours");
    assert_eq!(again.skipped, []);
    let elements_again: Vec<JsonMetric> = again
        .metrics
        .iter()
        .map(|metric| JsonMetric::from_metric(metric).expect("it came as an element"))
        .collect();
    assert_eq!(elements, elements_again);
}
