//! The proxy's scan against a full decoder: as a metric, as a list, and as pieces that are framed.

#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use prost::Message;
use tributary_proto::forwardrpc::MetricList;
use tributary_proto::metricpb::Metric;
use tributary_proto::metricpb::metric::Value;
use tributary_proto::scan::{
    ScanError, Scanned, Stamp, ValueField, WireError, frame_into, framed_len, frames,
};

fuzz_target!(|data: &[u8]| {
    metric(data);
    stamp(data);
    list(data);
    pieces(data);
});

/// Scan and decoder agree on a metric, or the difference is one of those that are meant.
fn metric(bytes: &[u8]) {
    match (Metric::decode(bytes), Scanned::scan(bytes)) {
        (Ok(decoded), Ok(scanned)) => {
            agree(&decoded, &scanned);
            // The same in the canonical form, which takes the scan's quick way.
            let canonical = decoded.encode_to_vec();
            agree(
                &decoded,
                &Scanned::scan(&canonical).expect("it was scanned before"),
            );
        }
        (Ok(decoded), Err(error)) => match error {
            ScanError::Name => assert!(decoded.name.is_empty()),
            ScanError::Type(number) => assert_eq!(decoded.r#type, number),
            ScanError::Wire(WireError::Group { .. }) => {}
            error => panic!("{error}: {decoded:?}"),
        },
        // The value is nobody's business but the importing global's.
        (Err(error), Ok(scanned)) => assert!(
            scanned.value.is_some() && error.to_string().contains("Metric.value"),
            "{error}: {scanned:?}"
        ),
        (Err(_), Err(error)) => assert!(!error.cause().is_empty()),
    }
}

/// A stamp is found wherever a scan finds one, and in metrics that are of no other use.
fn stamp(bytes: &[u8]) {
    let stamp = Stamp::of(bytes);
    if let Ok(scanned) = Scanned::scan(bytes) {
        assert_eq!(stamp, scanned.stamp);
    }
    if let (Some(stamp), Ok(decoded)) = (stamp, Metric::decode(bytes)) {
        assert_eq!(
            (stamp.origin, stamp.flush, stamp.index),
            (decoded.origin, decoded.flush, decoded.index)
        );
    }
}

fn agree(decoded: &Metric, scanned: &Scanned<'_>) {
    assert_eq!(scanned.name, decoded.name);
    assert_eq!(scanned.kind as i32, decoded.r#type);
    assert_eq!(scanned.scope, decoded.scope);
    assert!(scanned.tags().eq(decoded.tags.iter().map(String::as_str)));
    let stamp = (decoded.origin != 0).then_some(Stamp {
        origin: decoded.origin,
        flush: decoded.flush,
        index: decoded.index,
    });
    assert_eq!(scanned.stamp, stamp);
    assert_eq!(scanned.interval, decoded.interval);
    let value = decoded.value.as_ref().map(|value| match value {
        Value::Counter(_) => ValueField::Counter,
        Value::Gauge(_) => ValueField::Gauge,
        Value::Histogram(_) => ValueField::Histogram,
        Value::Set(_) => ValueField::Set,
    });
    assert_eq!(scanned.value, value);

    let mut key = Vec::new();
    scanned.routing_key(|_| false, |piece| key.extend_from_slice(piece));
    let tags = decoded.tags.join(",");
    let kind = decoded.r#type().lower_name();
    assert_eq!(key, format!("{}{kind}{tags}", decoded.name).into_bytes());
}

/// Framing and decoder agree on what the entries of a list are, and the entries make the same list again.
fn list(body: &[u8]) {
    let body = Bytes::copy_from_slice(body);
    let decoded = MetricList::decode(&body[..]);
    let framed = match frames(&body) {
        Ok(framed) => framed,
        Err(error) => {
            assert!(error.offset < body.len());
            let group = matches!(error.error, WireError::Group { .. });
            assert!(group || decoded.is_err(), "{error}: {decoded:?}");
            return;
        }
    };
    let announced = framed.len();
    let entries: Vec<Bytes> = framed.collect();
    assert_eq!(entries.len(), announced);
    let each: Result<Vec<Metric>, _> = entries.iter().cloned().map(Metric::decode).collect();
    match (decoded, each) {
        // By their bytes: NaN is not equal to itself.
        (Ok(decoded), Ok(metrics)) => assert_eq!(
            decoded.encode_to_vec(),
            MetricList { metrics }.encode_to_vec()
        ),
        (Err(_), Err(_)) => {}
        (decoded, each) => panic!("the list: {decoded:?}; its entries: {each:?}"),
    }

    let again = framed_again(&entries);
    assert!(again.len() <= body.len(), "frames are as short as can be");
    if again.len() == body.len() {
        assert_eq!(again, body);
    }
}

/// Any bytes at all can be framed and come out again.
fn pieces(data: &[u8]) {
    let Some((&size, rest)) = data.split_first() else {
        return;
    };
    let pieces: Vec<Bytes> = rest
        .chunks(usize::from(size) + 1)
        .map(Bytes::copy_from_slice)
        .collect();
    framed_again(&pieces);
}

/// Frames `entries`, checks that they come out again, and gives the list.
fn framed_again(entries: &[Bytes]) -> Bytes {
    let mut list = Vec::new();
    for entry in entries {
        let before = list.len();
        frame_into(&mut list, entry);
        assert_eq!(list.len() - before, framed_len(entry.len()));
    }
    let list = Bytes::from(list);
    assert!(
        frames(&list)
            .expect("it was framed right")
            .eq(entries.iter().cloned())
    );
    list
}
