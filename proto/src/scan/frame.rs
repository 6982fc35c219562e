//! `forwardrpc.MetricList` as a row of frames: each metric a slice of the body it came in.
//!
//! The framing of a whole list is checked before the first metric is handed out, so a list is taken whole or not at all.

use bytes::{BufMut, Bytes};
use thiserror::Error;

use super::wire::{DELIMITED, Reader, WireError};

/// The number of `MetricList.metrics`.
const METRICS: u32 = 1;
/// The key of `MetricList.metrics` as one byte.
const METRICS_KEY: u8 = 0x0a;

/// Why a body is not a `MetricList`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("metric list is not framed right at byte {offset}: {error}")]
pub struct FrameError {
    /// Where in the body the field begins that cannot be read.
    pub offset: usize,
    /// What is wrong there.
    pub error: WireError,
}

impl FrameError {
    /// The cause to count it by.
    pub const fn cause(&self) -> &'static str {
        self.error.cause()
    }
}

/// The metrics of a list, still encoded, in the list's order. Its length is exact.
#[derive(Debug, Clone)]
pub struct Entries<'a> {
    reader: Reader<'a>,
    left: usize,
}

/// Checks a `MetricList`'s framing and gives its metrics as slices. Unknown fields of the list are passed over.
///
/// # Errors
/// Names the first field that cannot be read; nothing of the list is handed out then.
pub fn entries(body: &[u8]) -> Result<Entries<'_>, FrameError> {
    let mut reader = Reader(body);
    let mut left = 0;
    while !reader.0.is_empty() {
        let offset = body.len() - reader.0.len();
        let entry = next_field(&mut reader).map_err(|error| FrameError { offset, error })?;
        left += usize::from(entry.is_some());
    }
    Ok(Entries {
        reader: Reader(body),
        left,
    })
}

impl<'a> Entries<'a> {
    /// Of a list whose framing is right, with as many metrics.
    pub(super) fn of(list: &'a [u8], metrics: usize) -> Self {
        Self {
            reader: Reader(list),
            left: metrics,
        }
    }
}

/// Reads one field: `Some` if it is a metric.
#[inline]
pub(super) fn next_field<'a>(reader: &mut Reader<'a>) -> Result<Option<&'a [u8]>, WireError> {
    let field = reader.field()?;
    if field.number == METRICS {
        field.must_be(DELIMITED)?;
        return reader.delimited().map(Some);
    }
    reader.skip(field)?;
    Ok(None)
}

impl<'a> Iterator for Entries<'a> {
    type Item = &'a [u8];

    #[inline]
    fn next(&mut self) -> Option<&'a [u8]> {
        if self.left == 0 {
            return None;
        }
        loop {
            // `entries` has read all of it once: an error cannot come up here.
            if let Some(entry) = next_field(&mut self.reader).ok()? {
                self.left -= 1;
                return Some(entry);
            }
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for Entries<'_> {}

/// The metrics of a list as [`Bytes`] that share its body. Its length is exact.
#[derive(Debug, Clone)]
pub struct Frames<'a> {
    body: &'a Bytes,
    entries: Entries<'a>,
}

/// [`entries`], each one sharing ownership of the body.
///
/// # Errors
/// As [`entries`].
pub fn frames(body: &Bytes) -> Result<Frames<'_>, FrameError> {
    let entries = entries(body)?;
    Ok(Frames { body, entries })
}

impl Iterator for Frames<'_> {
    type Item = Bytes;

    #[inline]
    fn next(&mut self) -> Option<Bytes> {
        self.entries.next().map(|entry| self.body.slice_ref(entry))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.entries.size_hint()
    }
}

impl ExactSizeIterator for Frames<'_> {}

/// Writes one entry of a `MetricList`; entries written one after the other are a list.
#[inline]
pub fn frame_into(out: &mut impl BufMut, metric: &[u8]) {
    out.put_u8(METRICS_KEY);
    let mut length = metric.len() as u64;
    while length >= 0x80 {
        out.put_u8(length as u8 | 0x80);
        length >>= 7;
    }
    out.put_u8(length as u8);
    out.put_slice(metric);
}

/// How many bytes [`frame_into`] writes for a metric of this many.
#[inline]
pub const fn framed_len(metric: usize) -> usize {
    let bits = usize::BITS - (metric | 1).leading_zeros();
    1 + bits.div_ceil(7) as usize + metric
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;
    use crate::forwardrpc::MetricList;
    use crate::metricpb::Metric;

    fn list(names: &[&str]) -> MetricList {
        let metric = |name: &&str| Metric {
            name: (*name).to_owned(),
            ..Metric::default()
        };
        MetricList {
            metrics: names.iter().map(metric).collect(),
        }
    }

    #[test]
    fn frames_share_the_body_and_come_in_order() {
        let list = list(&["a", "", "c"]);
        let body = Bytes::from(list.encode_to_vec());
        let frames = frames(&body).expect("a list");
        assert_eq!(frames.len(), 3);
        let mut decoded = Vec::new();
        for frame in frames {
            let inside = body.as_ptr_range();
            assert!(frame.is_empty() || inside.contains(&frame.as_ptr()));
            decoded.push(Metric::decode(frame).expect("a metric"));
        }
        assert_eq!(decoded, list.metrics);
    }

    #[test]
    fn unknown_fields_of_the_list_are_passed_over() {
        let mut body = vec![0x10, 0x96, 0x01, 0x1a, 0x02, 0x0a, 0x00];
        frame_into(&mut body, b"one");
        body.extend_from_slice(&[0x25, 1, 2, 3, 4]);
        frame_into(&mut body, b"two");
        body.extend_from_slice(&[0x29, 1, 2, 3, 4, 5, 6, 7, 8]);
        let entries: Vec<_> = entries(&body).expect("a list").collect();
        assert_eq!(entries, [b"one", b"two"]);
    }

    #[test]
    fn an_empty_body_is_an_empty_list() {
        assert_eq!(entries(&[]).expect("a list").len(), 0);
    }

    #[test]
    fn a_list_that_breaks_off_gives_nothing() {
        let mut body = Vec::new();
        frame_into(&mut body, b"one");
        frame_into(&mut body, b"two");
        body.pop();
        let error = entries(&body).expect_err("cut off");
        assert_eq!((error.offset, error.cause()), (5, "truncated"));
        assert_eq!(
            error.to_string(),
            "metric list is not framed right at byte 5: protobuf field is cut off"
        );
    }

    #[test]
    fn each_kind_of_bad_framing_has_its_cause() {
        let cause = |body: &[u8]| entries(body).expect_err("not a list").cause();
        assert_eq!(cause(&[0x08, 0x01]), "wire_type");
        assert_eq!(cause(&[0x0b, 0x0c]), "group");
        assert_eq!(cause(&[0x13, 0x14]), "group");
        assert_eq!(cause(&[0x16]), "wire_type");
        assert_eq!(cause(&[0x02, 0x00]), "field_number");
        assert_eq!(cause(&[0xff; 11]), "varint");
    }

    #[test]
    fn a_frame_takes_as_many_bytes_as_foretold() {
        for length in [0, 1, 127, 128, 16_383, 16_384, 2_097_151, 2_097_152] {
            let metric = vec![7; length];
            let mut framed = Vec::new();
            frame_into(&mut framed, &metric);
            assert_eq!(framed.len(), framed_len(length));
            let mut entries = entries(&framed).expect("a list");
            assert_eq!(entries.next(), Some(&metric[..]));
            assert_eq!(entries.next(), None);
        }
    }
}
