//! Values read straight from their encoded bytes: nothing is allocated, nothing decoded twice.
//!
//! Only the forms that senders write are read here. Of any other, a field twice, unknown fields, raw samples in a centroid, the answer is `None`:
//! that says nothing about the message but that a decoder has to look at it.

use super::wire::{DELIMITED, FIXED64, Reader, VARINT};

/// A centroid as every known sender writes it: keys, lengths and two numbers.
const CENTROID: usize = 20;
/// The key of `MergingDigestData.main_centroids`, the length of a whole centroid, and the key of its mean.
const CENTROID_START: [u8; 3] = [0x0a, 18, 0x09];
/// The key of `Centroid.weight`.
const WEIGHT_KEY: u8 = 0x11;

/// What a `tdigest.MergingDigestData` says beside its centroids.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct DigestNumbers {
    /// The accuracy parameter.
    pub compression: f64,
    /// The smallest sample.
    pub min: f64,
    /// The largest sample.
    pub max: f64,
    /// The sum of weight ÷ value.
    pub reciprocal_sum: f64,
}

/// Reads a `metricpb.CounterValue`.
#[inline]
pub fn counter(value: &[u8]) -> Option<i64> {
    let mut reader = Reader(value);
    if value.is_empty() {
        return Some(0);
    }
    let field = reader.field().ok()?;
    if (field.number, field.wire_type) != (1, VARINT) {
        return None;
    }
    let value = reader.varint().ok()?;
    // Two's complement, as int64 is written.
    reader.0.is_empty().then_some(value as i64)
}

/// Reads a `metricpb.GaugeValue`.
#[inline]
pub fn gauge(value: &[u8]) -> Option<f64> {
    let mut reader = Reader(value);
    if value.is_empty() {
        return Some(0.0);
    }
    let field = reader.field().ok()?;
    if (field.number, field.wire_type) != (1, FIXED64) {
        return None;
    }
    let value = double(&mut reader)?;
    reader.0.is_empty().then_some(value)
}

/// The content of the one field of a `metricpb.SetValue` or a `metricpb.HistogramValue`; `None` if there is not exactly this.
#[inline]
pub fn inner(value: &[u8]) -> Option<&[u8]> {
    let mut reader = Reader(value);
    let field = reader.field().ok()?;
    if (field.number, field.wire_type) != (1, DELIMITED) {
        return None;
    }
    let inner = reader.delimited().ok()?;
    reader.0.is_empty().then_some(inner)
}

/// Reads a `tdigest.MergingDigestData`, and hands mean and weight of each of its centroids to `centroid`, in their order, until that says false.
#[inline]
pub fn digest(data: &[u8], mut centroid: impl FnMut(f64, f64) -> bool) -> Option<DigestNumbers> {
    let mut numbers = DigestNumbers::default();
    let mut reader = Reader(data);
    loop {
        while let Some((mean, weight, rest)) = whole_centroid(reader.0) {
            reader.0 = rest;
            if !centroid(mean, weight) {
                return None;
            }
        }
        if reader.0.is_empty() {
            return Some(numbers);
        }
        let field = reader.field().ok()?;
        match (field.number, field.wire_type) {
            (1, DELIMITED) => {
                let (mean, weight) = any_centroid(reader.delimited().ok()?)?;
                if !centroid(mean, weight) {
                    return None;
                }
            }
            (2, FIXED64) => numbers.compression = double(&mut reader)?,
            (3, FIXED64) => numbers.min = double(&mut reader)?,
            (4, FIXED64) => numbers.max = double(&mut reader)?,
            (5, FIXED64) => numbers.reciprocal_sum = double(&mut reader)?,
            _ => return None,
        }
    }
}

/// A centroid with both its numbers at the start of `data`, and what follows it.
#[inline]
fn whole_centroid(data: &[u8]) -> Option<(f64, f64, &[u8])> {
    let (field, rest) = data.split_first_chunk::<{ CENTROID }>()?;
    let (start, field) = field.split_first_chunk()?;
    let (mean, field) = field.split_first_chunk()?;
    let (&key, field) = field.split_first()?;
    let weight = field.first_chunk()?;
    (*start == CENTROID_START && key == WEIGHT_KEY)
        .then(|| (f64::from_le_bytes(*mean), f64::from_le_bytes(*weight), rest))
}

/// Mean and weight of a `tdigest.Centroid`: a number that is 0 is not written.
fn any_centroid(content: &[u8]) -> Option<(f64, f64)> {
    let (mut mean, mut weight) = (0.0, 0.0);
    let mut reader = Reader(content);
    while !reader.0.is_empty() {
        let field = reader.field().ok()?;
        match (field.number, field.wire_type) {
            (1, FIXED64) => mean = double(&mut reader)?,
            (2, FIXED64) => weight = double(&mut reader)?,
            _ => return None,
        }
    }
    Some((mean, weight))
}

#[inline]
fn double(reader: &mut Reader<'_>) -> Option<f64> {
    reader.fixed64().ok().map(f64::from_bits)
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;
    use crate::metricpb::{CounterValue, GaugeValue, SetValue};
    use crate::tdigest::{Centroid, MergingDigestData};

    fn data(centroids: &[(f64, f64)]) -> MergingDigestData {
        MergingDigestData {
            main_centroids: centroids
                .iter()
                .map(|&(mean, weight)| Centroid {
                    mean,
                    weight,
                    samples: Vec::new(),
                })
                .collect(),
            compression: 100.0,
            min: -1.5,
            max: 7.0,
            reciprocal_sum: 0.25,
        }
    }

    fn read(bytes: &[u8]) -> Option<(DigestNumbers, Vec<(f64, f64)>)> {
        let mut centroids = Vec::new();
        let numbers = digest(bytes, |mean, weight| {
            centroids.push((mean, weight));
            true
        })?;
        Some((numbers, centroids))
    }

    #[test]
    fn a_digest_is_read_as_a_decoder_reads_it() {
        let lists: [&[(f64, f64)]; 4] = [
            &[],
            &[(1.0, 2.0)],
            &[(0.0, 1.0), (3.5, 0.0), (0.0, 0.0), (f64::NAN, -1.0)],
            &[(-1.0, 1.0), (0.0, 4.0), (7.0, 2.0)],
        ];
        for list in lists {
            let data = data(list);
            let (numbers, centroids) = read(&data.encode_to_vec()).expect("what a sender writes");
            let expected = DigestNumbers {
                compression: 100.0,
                min: -1.5,
                max: 7.0,
                reciprocal_sum: 0.25,
            };
            assert_eq!(numbers, expected);
            let bits = |list: &[(f64, f64)]| -> Vec<_> {
                let bits = list.iter().map(|(m, w)| (m.to_bits(), w.to_bits()));
                bits.collect()
            };
            assert_eq!(bits(&centroids), bits(list));
        }
    }

    #[test]
    fn every_cut_is_left_to_a_decoder_or_read_as_it_would() {
        let bytes = data(&[(1.0, 2.0), (0.0, 3.0), (4.0, 1.0)]).encode_to_vec();
        for end in 0..bytes.len() {
            let cut = &bytes[..end];
            if let Some((numbers, centroids)) = read(cut) {
                let decoded = MergingDigestData::decode(cut).expect("cut between fields");
                assert_eq!(numbers.compression, decoded.compression);
                assert_eq!(centroids.len(), decoded.main_centroids.len());
            }
        }
    }

    #[test]
    fn raw_samples_and_unknown_fields_are_left_to_a_decoder() {
        let mut with_samples = data(&[(1.0, 2.0)]);
        with_samples.main_centroids[0].samples.push(1.0);
        assert_eq!(read(&with_samples.encode_to_vec()), None);
        let mut unknown = data(&[(1.0, 2.0)]).encode_to_vec();
        unknown.extend([0x30, 1]);
        assert_eq!(read(&unknown), None);
    }

    #[test]
    fn reading_ends_when_no_more_centroids_are_wanted() {
        let bytes = data(&[(1.0, 2.0); 5]).encode_to_vec();
        let mut left = 3;
        let read = digest(&bytes, |_, _| {
            left -= 1;
            left > 0
        });
        assert_eq!((read, left), (None, 0));
    }

    #[test]
    fn counters_gauges_and_sets_are_read_as_a_decoder_reads_them() {
        for value in [0, 1, 300, -1, i64::MIN, i64::MAX] {
            let bytes = CounterValue { value }.encode_to_vec();
            assert_eq!(counter(&bytes), Some(value));
        }
        assert_eq!((counter(&[]), gauge(&[])), (Some(0), Some(0.0)));
        for value in [0.0, -0.0, 1.5, f64::INFINITY] {
            let mut bytes = GaugeValue { value }.encode_to_vec();
            if bytes.is_empty() {
                // As Go writes -0: only the bits of +0 are left out there.
                bytes.push(0x09);
                bytes.extend(value.to_le_bytes());
            }
            assert_eq!(gauge(&bytes).map(f64::to_bits), Some(value.to_bits()));
        }
        let set = SetValue {
            hyper_log_log: vec![1, 2, 3].into(),
        };
        assert_eq!(inner(&set.encode_to_vec()), Some(&[1, 2, 3][..]));
        for other in [
            &[0x08][..],
            &[0x08, 1, 0x08, 2],
            &[0x10, 1],
            &[0x0a, 1, 0x61],
        ] {
            assert_eq!(counter(other), None);
            assert_eq!(gauge(other), None);
        }
        for other in [&[][..], &[0x08, 1], &[0x0a, 1], &[0x0a, 0, 0x0a, 0]] {
            assert_eq!(inner(other), None);
        }
    }
}
