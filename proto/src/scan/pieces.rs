//! A `forwardrpc.MetricList` that lies in several pieces of memory, as it came through the network.
//!
//! Lists written one after the other are a list. So each piece that ends where a field ends is a list by itself, and only what lies across the
//! seam of two pieces has to be copied.

use bytes::{Bytes, BytesMut};

use super::frame::{Entries, FrameError, next_field};
use super::wire::{DELIMITED, Reader, WireError};

/// A list in pieces, whose framing is right.
#[derive(Debug, Default)]
pub struct Pieces {
    /// Each a list, with the number of its metrics.
    lists: Vec<(Bytes, usize)>,
    metrics: usize,
    bytes: usize,
}

impl Pieces {
    /// Checks the framing of a list that these are, put together.
    ///
    /// # Errors
    /// As [`super::entries`] of the whole.
    pub fn new(pieces: Vec<Bytes>) -> Result<Self, FrameError> {
        let mut all = Self::default();
        let mut pieces = pieces.into_iter();
        let mut next = pieces.next();
        while let Some(piece) = next {
            next = all.add(piece, &mut pieces)?;
        }
        Ok(all)
    }

    /// How many metrics there are.
    pub fn len(&self) -> usize {
        self.metrics
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.metrics == 0
    }

    /// How many bytes the list has.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The metrics, in the list's order.
    pub fn entries(&self) -> PieceEntries<'_> {
        PieceEntries {
            current: Entries::of(&[], 0),
            lists: self.lists.iter(),
            left: self.metrics,
        }
    }

    /// Adds a piece, and what lies across its end. Returns the next piece, or what is left of it.
    fn add(
        &mut self,
        piece: Bytes,
        following: &mut impl Iterator<Item = Bytes>,
    ) -> Result<Option<Bytes>, FrameError> {
        let rest = self.add_whole(piece);
        if rest.is_empty() {
            return Ok(following.next());
        }
        let mut seam = BytesMut::from(&*rest);
        let mut after = Bytes::new();
        loop {
            let more = match missing(&seam) {
                Ok(0) => break,
                Ok(more) => more,
                Err(error) => return Err(self.wrong(error)),
            };
            if after.is_empty() {
                let Some(next) = following.next() else {
                    return Err(self.wrong(WireError::Truncated));
                };
                after = next;
            }
            seam.extend_from_slice(&after.split_to(more.min(after.len())));
        }
        match self.add_whole(seam.freeze()) {
            rest if rest.is_empty() => Ok(Some(after)),
            _ => Err(self.wrong(WireError::Truncated)),
        }
    }

    fn wrong(&self, error: WireError) -> FrameError {
        let offset = self.bytes;
        FrameError { offset, error }
    }

    /// Adds the fields of a piece up to the first that cannot be read, and returns what is left.
    fn add_whole(&mut self, mut piece: Bytes) -> Bytes {
        let mut reader = Reader(&piece);
        let (mut metrics, mut read) = (0, 0);
        while let Ok(entry) = next_field(&mut reader) {
            metrics += usize::from(entry.is_some());
            read = piece.len() - reader.0.len();
        }
        let rest = piece.split_off(read);
        self.bytes += piece.len();
        self.metrics += metrics;
        if metrics > 0 {
            self.lists.push((piece, metrics));
        }
        rest
    }
}

/// How many bytes more are known to be needed until this, the begin of a field, is a whole one. Never more than there would be if all is right.
fn missing(begin: &[u8]) -> Result<usize, WireError> {
    match next_field(&mut Reader(begin)) {
        Ok(_) => return Ok(0),
        Err(WireError::Truncated) => {}
        Err(error) => return Err(error),
    }
    let mut reader = Reader(begin);
    let length = match reader.field() {
        Ok(field) if field.wire_type == DELIMITED => reader.varint().ok(),
        _ => None,
    };
    let more = length.and_then(|length| usize::try_from(length).ok()?.checked_sub(reader.0.len()));
    // Where no length can be read yet, it is as long as its next byte at least.
    Ok(more.unwrap_or(1))
}

/// See [`Pieces::entries`]. Its length is exact.
#[derive(Debug, Clone)]
pub struct PieceEntries<'a> {
    current: Entries<'a>,
    lists: std::slice::Iter<'a, (Bytes, usize)>,
    left: usize,
}

impl<'a> Iterator for PieceEntries<'a> {
    type Item = &'a [u8];

    #[inline]
    fn next(&mut self) -> Option<&'a [u8]> {
        loop {
            if let Some(entry) = self.current.next() {
                self.left -= 1;
                return Some(entry);
            }
            let (list, metrics) = self.lists.next()?;
            self.current = Entries::of(list, *metrics);
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for PieceEntries<'_> {}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::scan::{entries, frame_into};

    fn cut(list: &[u8], mut cuts: Vec<usize>) -> Vec<Bytes> {
        cuts.iter_mut().for_each(|cut| *cut %= list.len() + 1);
        cuts.extend([0, list.len()]);
        cuts.sort_unstable();
        cuts.windows(2)
            .map(|ends| Bytes::copy_from_slice(&list[ends[0]..ends[1]]))
            .collect()
    }

    /// Metrics of all lengths, with other fields between them.
    fn list(lengths: &[usize]) -> Vec<u8> {
        let mut list = Vec::new();
        for (number, length) in lengths.iter().enumerate() {
            frame_into(&mut list, &vec![number as u8; *length]);
            match number % 4 {
                0 => list.extend([0x10, 0x80, 0x80, 0x01]),
                1 => list.extend([0x19, 1, 2, 3, 4, 5, 6, 7, 8]),
                2 => list.extend([0x22, 3, 1, 2, 3]),
                _ => {}
            }
        }
        list
    }

    /// Both readings, to be the same.
    fn read(list: &[u8], cuts: Vec<usize>) {
        let whole = entries(list);
        let pieces = Pieces::new(cut(list, cuts));
        match (whole, pieces) {
            (Ok(whole), Ok(pieces)) => {
                assert_eq!(pieces.bytes(), list.len());
                assert_eq!(pieces.len(), whole.len());
                assert_eq!(pieces.entries().len(), whole.len());
                assert!(pieces.entries().eq(whole));
            }
            (whole, pieces) => assert_eq!(whole.map(|_| ()), pieces.map(|_| ())),
        }
    }

    proptest! {
        #[test]
        fn however_it_is_cut_the_same_metrics_are_read(
            lengths in proptest::collection::vec(0_usize..400, 0..30),
            cuts in proptest::collection::vec(any::<usize>(), 0..40),
        ) {
            read(&list(&lengths), cuts);
        }

        #[test]
        fn however_it_is_cut_the_same_is_found_wrong(
            lengths in proptest::collection::vec(0_usize..400, 1..10),
            cuts in proptest::collection::vec(any::<usize>(), 0..20),
            place in any::<usize>(),
            byte in any::<u8>(),
            end in any::<usize>(),
        ) {
            let mut list = list(&lengths);
            let place = place % list.len();
            list[place] = byte;
            read(&list, cuts.clone());
            list.truncate(end % list.len());
            read(&list, cuts);
        }
    }

    #[test]
    fn every_single_cut_is_right() {
        let list = list(&[5, 0, 200, 127, 128, 3, 300]);
        for cut in 0..=list.len() {
            read(&list, vec![cut]);
            read(&list[..cut], vec![cut / 2]);
        }
        read(&list, (0..list.len()).collect());
        // A length far beyond what is there.
        read(
            &[0x0a, 1, 7, 0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f, 1, 2],
            vec![3, 5, 8, 9],
        );
    }
}
