//! How a receiver tells a sender what it has merged, and what the two need to know of each other for that.
//!
//! A sender that stamps its metrics may repeat them until it knows that they are merged. Four metadata entries make that work, all of
//! them beside the messages, so that programs which do not know them are not disturbed:
//! - [`FLUSHED_AT`], in a request: when the flush took place that its metrics are of. A repeat carries the same value, so that a
//!   proxy sends it the way the first went.
//! - [`DEDUP`], in every answer: the receiver recognises repeats.
//! - [`UNACKNOWLEDGED`], in an answer other than OK: which metrics of the request are not known to be merged. All others are.
//! - [`TURNED_AWAY`], beside it: those are known not to be merged.
//!
//! What always holds: a metric is acknowledged only if the receiver said so. An [`Unacknowledged`] that is too long to be told is told
//! coarser, with more in it than is true; one that cannot be read counts as none, and says nothing about any metric.

use std::ops::Range;

use thiserror::Error;
use tonic::metadata::{MetadataMap, MetadataValue};

/// Request metadata: the wall-clock time of the flush, in milliseconds since the Unix epoch.
pub const FLUSHED_AT: &str = "tributary-flushed-at";

/// Binary trailer of a status other than OK: the positions in the request's list that are not known to be merged.
pub const UNACKNOWLEDGED: &str = "tributary-unacknowledged-bin";

/// Trailer, `1` on a status other than OK: whoever could have merged the positions that are not acknowledged vouches that it has not and will not.
/// The sender may do with them as if it had never sent them.
pub const TURNED_AWAY: &str = "tributary-turned-away";

/// Response metadata, `1` on every answer of a receiver that merges each stamp at most once.
pub const DEDUP: &str = "tributary-dedup";

/// The longest encoded [`Unacknowledged`], in bytes. Trailers have to pass through everything that lies between, and the usual limit is 8 KiB
/// for all of them together, after base64.
pub const MAX_ENCODED: usize = 4 << 10;

/// The longest range in bytes: two varints of 32 bits each.
const MAX_RANGE: usize = 10;

/// Positions in a request's list, counted from 0, as ascending ranges.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Unacknowledged {
    /// None is empty, and none touches the next.
    ranges: Vec<Range<u32>>,
}

/// Why bytes are no [`Unacknowledged`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum AckError {
    /// The metadata is not base64.
    #[error("unacknowledged positions are not base64")]
    Base64,
    /// Where nothing is unacknowledged the answer is OK.
    #[error("no position is unacknowledged, but the status is not ok")]
    Empty,
    /// More than [`MAX_ENCODED`].
    #[error("unacknowledged positions take {0} bytes")]
    TooLong(usize),
    /// A range is cut off, or a number has more than 32 bits.
    #[error("a range of unacknowledged positions cannot be read")]
    Varint,
    /// A range without positions.
    #[error("a range of unacknowledged positions is empty")]
    EmptyRange,
    /// A range goes beyond the end of the request.
    #[error("a range of unacknowledged positions ends beyond the request's {0} metrics")]
    Beyond(u32),
}

// === impl Unacknowledged ===

impl Unacknowledged {
    /// All positions of a request of `total` metrics.
    pub fn all(total: u32) -> Self {
        let mut all = Self::default();
        all.push(0..total);
        all
    }

    /// Adds a range that begins where the last one ends, or later. What lies before is left out.
    pub fn push(&mut self, range: Range<u32>) {
        let start = match self.ranges.last_mut() {
            Some(last) if range.start <= last.end => {
                last.end = last.end.max(range.end);
                return;
            }
            _ => range.start,
        };
        if start < range.end {
            self.ranges.push(range);
        }
    }

    /// The ranges, ascending; none is empty, and none touches the next.
    pub fn ranges(&self) -> impl ExactSizeIterator<Item = Range<u32>> + '_ {
        self.ranges.iter().cloned()
    }

    /// How many positions there are.
    pub fn positions(&self) -> u32 {
        self.ranges
            .iter()
            .map(|range| range.end - range.start)
            .sum()
    }

    /// Whether everything is acknowledged.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// For each range the gap before it and its length, both as unsigned LEB128. Where that would take more than [`MAX_ENCODED`] bytes the
    /// last range that has room goes on to the very last position.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(MAX_ENCODED.min(self.ranges.len() * 4));
        let end = self.ranges.last().map_or(0, |range| range.end);
        let mut after = 0;
        for range in &self.ranges {
            let last_with_room = out.len() + 2 * MAX_RANGE > MAX_ENCODED;
            let stop = if last_with_room { end } else { range.end };
            put_varint(&mut out, range.start - after);
            put_varint(&mut out, stop - range.start);
            if last_with_room {
                break;
            }
            after = stop;
        }
        out
    }

    /// Reads what [`Unacknowledged::encode`] wrote for a request of `total` metrics.
    ///
    /// # Errors
    /// See [`AckError`]; then nothing is known of any metric.
    pub fn decode(mut bytes: &[u8], total: u32) -> Result<Self, AckError> {
        if bytes.is_empty() {
            return Err(AckError::Empty);
        }
        if bytes.len() > MAX_ENCODED {
            return Err(AckError::TooLong(bytes.len()));
        }
        let mut read = Self::default();
        let mut after = 0_u32;
        while !bytes.is_empty() {
            let gap = take_varint(&mut bytes).ok_or(AckError::Varint)?;
            let length = take_varint(&mut bytes).ok_or(AckError::Varint)?;
            if length == 0 {
                return Err(AckError::EmptyRange);
            }
            let beyond = AckError::Beyond(total);
            let start = after.checked_add(gap).ok_or(beyond)?;
            let end = start.checked_add(length).ok_or(beyond)?;
            if end > total {
                return Err(beyond);
            }
            read.push(start..end);
            after = end;
        }
        Ok(read)
    }

    /// Puts the positions into a status' metadata; nothing if there are none.
    pub fn write(&self, metadata: &mut MetadataMap) {
        if !self.is_empty() {
            metadata.insert_bin(UNACKNOWLEDGED, MetadataValue::from_bytes(&self.encode()));
        }
    }

    /// Reads the positions from the metadata of the answer to a request of `total` metrics; `None` if it says nothing of them.
    ///
    /// # Errors
    /// As [`Unacknowledged::decode`].
    pub fn read(metadata: &MetadataMap, total: u32) -> Result<Option<Self>, AckError> {
        let Some(value) = metadata.get_bin(UNACKNOWLEDGED) else {
            return Ok(None);
        };
        let bytes = value.to_bytes().map_err(|_| AckError::Base64)?;
        Self::decode(&bytes, total).map(Some)
    }
}

/// From positions in any order.
impl FromIterator<u32> for Unacknowledged {
    fn from_iter<I: IntoIterator<Item = u32>>(positions: I) -> Self {
        let mut positions: Vec<u32> = positions.into_iter().collect();
        if !positions.is_sorted() {
            positions.sort_unstable();
        }
        let mut gathered = Self::default();
        for position in positions {
            // No request has 2^32 metrics.
            gathered.push(position..position.saturating_add(1));
        }
        gathered
    }
}

fn put_varint(out: &mut Vec<u8>, mut value: u32) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn take_varint(bytes: &mut &[u8]) -> Option<u32> {
    let mut value = 0_u64;
    for place in 0..5 {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << (7 * place);
        if *byte < 0x80 {
            return u32::try_from(value).ok();
        }
    }
    None
}

// === The other entries ===

/// Says in a request when the flush took place, in milliseconds since the Unix epoch.
pub fn write_flushed_at(metadata: &mut MetadataMap, milliseconds: u64) {
    metadata.insert(FLUSHED_AT, MetadataValue::from(milliseconds));
}

/// When the flush took place that a request is of; `None` if it does not say so, or not as a number.
pub fn read_flushed_at(metadata: &MetadataMap) -> Option<u64> {
    metadata.get(FLUSHED_AT)?.to_str().ok()?.parse().ok()
}

/// Says in an answer that none of the positions in `left` was merged, nor will be. Where there are so many ranges that they have to be told coarser,
/// it says only that they are not acknowledged.
pub fn write_turned_away(metadata: &mut MetadataMap, left: &Unacknowledged) {
    left.write(metadata);
    let total = left.ranges().last().map_or(0, |range| range.end);
    if Unacknowledged::read(metadata, total).is_ok_and(|told| told.as_ref() == Some(left)) {
        metadata.insert(TURNED_AWAY, MetadataValue::from_static("1"));
    }
}

/// Whether an answer vouches that nothing it does not acknowledge was merged.
pub fn read_turned_away(metadata: &MetadataMap) -> bool {
    metadata.get(TURNED_AWAY).is_some_and(|value| value == "1")
}

/// Says in an answer that repeats are recognised here.
pub fn write_dedup(metadata: &mut MetadataMap) {
    metadata.insert(DEDUP, MetadataValue::from_static("1"));
}

/// Whether an answer is of a receiver that recognises repeats.
pub fn read_dedup(metadata: &MetadataMap) -> bool {
    metadata.get(DEDUP).is_some_and(|value| value == "1")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From pairs of start and end.
    fn of(ranges: &[(u32, u32)]) -> Unacknowledged {
        let mut all = Unacknowledged::default();
        for &(start, end) in ranges {
            all.push(start..end);
        }
        all
    }

    fn decode(bytes: &[u8]) -> Result<Unacknowledged, AckError> {
        Unacknowledged::decode(bytes, 1000)
    }

    #[test]
    fn the_bytes_are_gaps_and_lengths() {
        assert_eq!(of(&[(0, 3), (5, 6)]).encode(), [0, 3, 2, 1]);
        assert_eq!(of(&[(200, 500)]).encode(), [0xc8, 0x01, 0xac, 0x02]);
        assert_eq!(Unacknowledged::all(7).encode(), [0, 7]);
        assert_eq!(Unacknowledged::all(0).encode(), [0; 0]);
        let far = of(&[(0, 1), (u32::MAX - 1, u32::MAX)]);
        assert_eq!(Unacknowledged::decode(&far.encode(), u32::MAX), Ok(far));
    }

    #[test]
    fn positions_in_any_order_make_ranges() {
        let gathered: Unacknowledged = [9, 3, 1, 2, 3, 7].into_iter().collect();
        assert_eq!(gathered, of(&[(1, 4), (7, 8), (9, 10)]));
        assert_eq!(gathered.positions(), 5);
        // Neither empty ranges nor seams.
        assert_eq!(of(&[(1, 1), (1, 3), (3, 5), (4, 4)]), of(&[(1, 5)]));
    }

    #[test]
    fn what_cannot_be_is_refused() {
        assert_eq!(decode(&[]), Err(AckError::Empty));
        assert_eq!(decode(&[1]), Err(AckError::Varint));
        assert_eq!(decode(&[0x80, 0x80]), Err(AckError::Varint));
        assert_eq!(
            decode(&[0xff, 0xff, 0xff, 0xff, 0x1f, 1]),
            Err(AckError::Varint)
        );
        assert_eq!(decode(&[0xff; 6]), Err(AckError::Varint));
        assert_eq!(decode(&[3, 0]), Err(AckError::EmptyRange));
        assert_eq!(decode(&[0xe7, 0x07, 2]), Err(AckError::Beyond(1000)));
        let most = [0xff, 0xff, 0xff, 0xff, 0x0f];
        assert_eq!(
            decode(&[&most[..], &most].concat()),
            Err(AckError::Beyond(1000))
        );
        assert_eq!(decode(&[1, 1].repeat(501)), Err(AckError::Beyond(1000)));
        assert_eq!(decode(&[0, 1].repeat(4000)), Err(AckError::TooLong(8000)));
    }

    #[test]
    fn ranges_that_touch_are_read_as_one() {
        assert_eq!(decode(&[5, 2, 0, 3]), Ok(of(&[(5, 10)])));
    }

    #[test]
    fn what_is_too_long_to_be_told_is_told_coarser() {
        let every_third: Unacknowledged = (0..100_000).step_by(3).collect();
        let bytes = every_third.encode();
        assert!(bytes.len() <= MAX_ENCODED && bytes.len() > MAX_ENCODED - 2 * MAX_RANGE);
        let told = Unacknowledged::decode(&bytes, 100_000).expect("readable");
        let exact = told.ranges().len() - 1;
        assert!(exact > 2000);
        assert!(
            told.ranges()
                .take(exact)
                .eq(every_third.ranges().take(exact))
        );
        assert_eq!(told.ranges().last(), Some(exact as u32 * 3..100_000));
    }

    #[test]
    fn metadata_carries_all_three() {
        let mut metadata = MetadataMap::new();
        assert_eq!(Unacknowledged::read(&metadata, 9), Ok(None));
        assert_eq!(
            (read_flushed_at(&metadata), read_dedup(&metadata)),
            (None, false)
        );
        Unacknowledged::default().write(&mut metadata);
        assert!(metadata.is_empty());
        let some = of(&[(2, 4)]);
        some.write(&mut metadata);
        write_flushed_at(&mut metadata, 1_700_000_000_123);
        write_dedup(&mut metadata);
        assert_eq!(Unacknowledged::read(&metadata, 9), Ok(Some(some)));
        assert_eq!(Unacknowledged::read(&metadata, 3), Err(AckError::Beyond(3)));
        assert_eq!(read_flushed_at(&metadata), Some(1_700_000_000_123));
        assert!(read_dedup(&metadata));
        metadata.insert(FLUSHED_AT, MetadataValue::from_static("now"));
        assert_eq!(read_flushed_at(&metadata), None);
        let mut headers = metadata.into_headers();
        headers.insert(UNACKNOWLEDGED, http_value("?!"));
        let metadata = MetadataMap::from_headers(headers);
        assert_eq!(Unacknowledged::read(&metadata, 9), Err(AckError::Base64));
    }

    #[test]
    fn only_what_is_told_exactly_is_vouched_for() {
        let mut metadata = MetadataMap::new();
        let few = of(&[(3, 5), (9, 10)]);
        write_turned_away(&mut metadata, &few);
        assert!(read_turned_away(&metadata));
        assert_eq!(Unacknowledged::read(&metadata, 10), Ok(Some(few)));
        let mut metadata = MetadataMap::new();
        let many: Unacknowledged = (0..100_000).step_by(2).collect();
        write_turned_away(&mut metadata, &many);
        assert!(!read_turned_away(&metadata));
        let told = Unacknowledged::read(&metadata, 100_000).unwrap().unwrap();
        assert!(told.positions() > many.positions());
    }

    fn http_value(text: &'static str) -> tonic::codegen::http::HeaderValue {
        tonic::codegen::http::HeaderValue::from_static(text)
    }
}
