//! The bytes of a frame, from front to back.

use super::FrameError;

/// Where text stands: in the frame, or among what was unescaped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) start: u32,
    pub(super) length: u32,
}

impl Span {
    /// `None` where it does not fit, which no frame's length allows.
    pub(super) fn new(start: usize, length: usize) -> Option<Self> {
        Some(Self {
            start: start.try_into().ok()?,
            length: length.try_into().ok()?,
        })
    }

    pub(super) fn of(self, bytes: &[u8]) -> Option<&[u8]> {
        let start = usize::try_from(self.start).ok()?;
        bytes
            .get(start..)?
            .get(..usize::try_from(self.length).ok()?)
    }
}

/// What is left to read.
#[derive(Debug)]
pub(super) struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// How many bytes were read.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    /// How many are left.
    pub(super) fn left(&self) -> usize {
        self.bytes.len() - self.at
    }

    #[inline]
    pub(super) fn byte(&mut self) -> Result<u8, FrameError> {
        let byte = self.bytes.get(self.at).ok_or(FrameError::CutShort)?;
        self.at += 1;
        Ok(*byte)
    }

    #[inline]
    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], FrameError> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let array = rest.first_chunk::<N>().ok_or(FrameError::CutShort)?;
        self.at += N;
        Ok(*array)
    }

    /// So many bytes, and where they stand.
    #[inline]
    pub(super) fn take(&mut self, length: u64) -> Result<(Span, &'a [u8]), FrameError> {
        let length = usize::try_from(length).map_err(|_| FrameError::CutShort)?;
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let taken = rest.get(..length).ok_or(FrameError::CutShort)?;
        let span = Span::new(self.at, length).ok_or(FrameError::TooComplex)?;
        self.at += length;
        Ok((span, taken))
    }

    /// Up to a line feed, which is read and left out.
    pub(super) fn line(&mut self) -> Result<(Span, &'a [u8]), FrameError> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let length = memchr::memchr(b'\n', rest).ok_or(FrameError::CutShort)?;
        let line = self.take(length as u64)?;
        self.at += 1;
        Ok(line)
    }
}
