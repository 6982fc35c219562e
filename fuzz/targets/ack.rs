//! The positions that a receiver does not acknowledge: four bytes say how many metrics the request had, the rest is the trailer.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tributary_proto::ack::{MAX_ENCODED, Unacknowledged};

fuzz_target!(|data: &[u8]| {
    let Some((total, bytes)) = data.split_first_chunk() else {
        return;
    };
    let total = u32::from_be_bytes(*total);
    let read = match Unacknowledged::decode(bytes, total) {
        Ok(read) => read,
        Err(error) => {
            assert!(!error.to_string().is_empty());
            return;
        }
    };
    assert!(!read.is_empty() && read.positions() <= total);
    let mut after = None;
    for range in read.ranges() {
        assert!(range.start < range.end && range.end <= total);
        assert!(
            after.is_none_or(|after| after < range.start),
            "ranges ascend and do not touch"
        );
        after = Some(range.end);
    }

    let written = read.encode();
    assert!(written.len() <= bytes.len().min(MAX_ENCODED));
    let again = Unacknowledged::decode(&written, total).expect("what was written can be read");
    let mut told = again.ranges();
    let mut wider = told.next();
    for range in read.ranges() {
        while wider.as_ref().is_some_and(|wider| wider.end < range.end) {
            wider = told.next();
        }
        assert!(
            wider
                .as_ref()
                .is_some_and(|wider| wider.start <= range.start),
            "no metric counts as merged that is not"
        );
    }
    // Short of the longest form nothing is told coarser.
    if bytes.len() < MAX_ENCODED / 2 {
        assert_eq!(again, read);
    }
});
