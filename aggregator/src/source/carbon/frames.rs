//! Pickles out of a stream of bytes: four bytes of length, the highest first, and then that many.
//!
//! What always holds: memory grows with the bytes that have arrived, not with the length that is announced, and at most to the bound.

/// What a length takes.
const HEADER: usize = 4;

/// Room to begin with.
const FIRST_ROOM: usize = 16 * 1024;

/// What is kept when the next frame is small.
const KEPT: usize = 256 * 1024;

/// A longer frame than allowed was announced: nothing that follows can be found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a pickle of {0} bytes is announced")]
pub(super) struct TooLong(pub(super) u32);

/// Bytes of one stream that are no whole frame yet.
#[derive(Debug)]
pub(super) struct FrameBuffer {
    /// All of it initialised; `..filled` is what the peer sent.
    bytes: Vec<u8>,
    filled: usize,
    longest: usize,
}

impl FrameBuffer {
    /// For frames of so many bytes at most.
    pub(super) fn new(longest: usize) -> Self {
        Self {
            bytes: vec![0; FIRST_ROOM],
            filled: 0,
            longest,
        }
    }

    /// Where the next bytes go: never empty while frames are right.
    pub(super) fn space(&mut self) -> &mut [u8] {
        self.bytes.get_mut(self.filled..).unwrap_or_default()
    }

    /// Takes `count` bytes that were written to [`FrameBuffer::space`], and gives away the frames that they complete.
    ///
    /// # Errors
    /// [`TooLong`], after the frames before it.
    pub(super) fn advance(
        &mut self,
        count: usize,
        mut take: impl FnMut(&[u8]),
    ) -> Result<(), TooLong> {
        self.filled = (self.filled + count).min(self.bytes.len());
        let mut rest = self.bytes.get(..self.filled).unwrap_or_default();
        let mut wanted = FIRST_ROOM;
        while let Some((header, body)) = rest.split_first_chunk::<HEADER>() {
            let announced = u32::from_be_bytes(*header);
            let length = usize::try_from(announced).unwrap_or(usize::MAX);
            if length > self.longest {
                self.filled = 0;
                return Err(TooLong(announced));
            }
            let Some((frame, after)) = body.split_at_checked(length) else {
                wanted = HEADER + length;
                break;
            };
            take(frame);
            rest = after;
        }
        let left = rest.len();
        self.bytes.copy_within(self.filled - left..self.filled, 0);
        self.filled = left;
        self.make_room(wanted);
        Ok(())
    }

    /// What a stream that ended had begun.
    pub(super) fn rest(&self) -> &[u8] {
        self.bytes.get(..self.filled).unwrap_or_default()
    }

    fn make_room(&mut self, wanted: usize) {
        let room = self.bytes.len();
        if self.filled == room {
            self.bytes.resize(wanted.min(room * 2).max(room + 1), 0);
        } else if room > KEPT && wanted.max(self.filled) <= KEPT {
            self.bytes.truncate(KEPT);
            self.bytes.shrink_to_fit();
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LONGEST: usize = 100_000;

    fn framed(frames: &[Vec<u8>]) -> Vec<u8> {
        let mut stream = Vec::new();
        for frame in frames {
            stream.extend((frame.len() as u32).to_be_bytes());
            stream.extend(frame);
        }
        stream
    }

    /// What comes out when bytes come in pieces of that size.
    fn read(stream: &[u8], piece: usize) -> (Vec<Vec<u8>>, Result<Vec<u8>, TooLong>, usize) {
        let mut buffer = FrameBuffer::new(LONGEST);
        let mut frames = Vec::new();
        let mut rest = stream;
        let mut most = 0;
        while !rest.is_empty() {
            let space = buffer.space();
            let count = space.len().min(piece).min(rest.len());
            assert!(count > 0, "there is always room");
            space[..count].copy_from_slice(&rest[..count]);
            rest = &rest[count..];
            if let Err(error) = buffer.advance(count, |frame| frames.push(frame.to_vec())) {
                return (frames, Err(error), most);
            }
            most = most.max(buffer.bytes.len());
        }
        let rest = buffer.rest().to_vec();
        (frames, Ok(rest), most)
    }

    #[test]
    fn a_length_over_the_bound_ends_the_stream_after_what_came_before() {
        let mut stream = framed(&[b"abc".to_vec(), vec![]]);
        stream.extend((LONGEST as u32 + 1).to_be_bytes());
        let (frames, end, _) = read(&stream, 5);
        assert_eq!(frames, [b"abc".to_vec(), vec![]]);
        assert_eq!(end, Err(TooLong(LONGEST as u32 + 1)));
        let exactly = framed(&[vec![7; LONGEST]]);
        assert_eq!(read(&exactly, 9999).0, [vec![7; LONGEST]]);
    }

    #[test]
    fn room_follows_what_has_arrived() {
        let mut stream = (LONGEST as u32).to_be_bytes().to_vec();
        stream.extend(b"little");
        let (frames, rest, most) = read(&stream, 3);
        assert!(frames.is_empty());
        assert_eq!((rest, most), (Ok(stream), FIRST_ROOM));
    }

    proptest! {
        #[test]
        fn frames_come_out_as_they_went_in(
            frames in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300).prop_map(|frame| frame.repeat(97)), 0..6),
            piece in 1..50_000_usize,
            cut in 0..4_usize,
        ) {
            let mut stream = framed(&frames);
            stream.extend(&framed(&[vec![1, 2, 3]])[..cut]);
            let (read, rest, _) = read(&stream, piece);
            prop_assert_eq!(read, frames);
            prop_assert_eq!(rest.unwrap().len(), cut);
        }
    }
}
