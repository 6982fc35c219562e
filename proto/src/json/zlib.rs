//! `Content-Encoding: deflate`, which means a zlib stream (RFC 1950).

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};
use thiserror::Error;

/// Why a body cannot be inflated. The first three texts are those of Veneur's answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum InflateError {
    /// It does not begin as a zlib stream.
    #[error("zlib: invalid header")]
    Header,
    /// It ends before the stream does.
    #[error("unexpected EOF")]
    Truncated,
    /// It is damaged.
    #[error("flate: corrupt input")]
    Corrupt,
    /// It inflates to more than it may.
    #[error("body inflates to more than {0} bytes")]
    TooLong(usize),
}

/// Inflates a zlib stream to at most `cap` bytes; memory is taken as output appears. Bytes after the stream's end are left.
///
/// # Errors
/// See [`InflateError`].
pub fn inflate(body: &[u8], cap: usize) -> Result<Vec<u8>, InflateError> {
    check_header(body)?;
    let mut inflater = Decompress::new(true);
    let mut rest = body;
    let mut out = Vec::new();
    loop {
        if out.len() == out.capacity() {
            // One byte beyond the cap tells a body that reaches it from one that goes on.
            let room = (cap - out.len()).saturating_add(1);
            out.reserve_exact(out.len().max(body.len()).max(1024).min(room));
        }
        let (read, written) = (inflater.total_in(), inflater.total_out());
        let status = inflater
            .decompress_vec(rest, &mut out, FlushDecompress::None)
            .map_err(|_| InflateError::Corrupt)?;
        if out.len() > cap {
            return Err(InflateError::TooLong(cap));
        }
        if status == Status::StreamEnd {
            return Ok(out);
        }
        let taken = (inflater.total_in() - read) as usize;
        rest = rest.get(taken..).unwrap_or_default();
        if taken == 0 && inflater.total_out() == written {
            return Err(InflateError::Truncated);
        }
    }
}

/// The two bytes at a zlib stream's start: method 8, a window of at most 32 KiB, no preset dictionary, a check sum modulo 31.
fn check_header(body: &[u8]) -> Result<(), InflateError> {
    let Some(header) = body.first_chunk() else {
        return Err(InflateError::Truncated);
    };
    let number = u16::from_be_bytes(*header);
    let [method, flags] = *header;
    if method & 0x0f == 8 && method >> 4 <= 7 && flags & 0x20 == 0 && number.is_multiple_of(31) {
        return Ok(());
    }
    Err(InflateError::Header)
}

/// Deflates into a zlib stream, at the usual level.
pub fn deflate(body: &[u8]) -> Vec<u8> {
    let mut deflater = Compress::new(Compression::default(), true);
    let mut rest = body;
    let mut out = Vec::new();
    loop {
        if out.len() == out.capacity() {
            out.reserve(body.len() / 4 + 64);
        }
        let read = deflater.total_in();
        let status = deflater.compress_vec(rest, &mut out, FlushCompress::Finish);
        match status {
            Ok(Status::StreamEnd) => return out,
            Ok(_) => {
                let taken = (deflater.total_in() - read) as usize;
                rest = rest.get(taken..).unwrap_or_default();
            }
            #[allow(
                clippy::panic,
                reason = "a compressor used once, with no dictionary, has no error to report"
            )]
            Err(error) => panic!("deflate: {error}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_deflated_inflates_up_to_its_own_length() {
        for length in [0, 1, 1023, 1024, 1025, 100_000] {
            let body: Vec<u8> = (0..length).map(|at: u64| ((at * at) >> 7) as u8).collect();
            let deflated = deflate(&body);
            assert_eq!(inflate(&deflated, body.len()), Ok(body.clone()));
            assert_eq!(inflate(&deflated, usize::MAX), Ok(body.clone()));
            if let Some(less) = body.len().checked_sub(1) {
                let refused = inflate(&deflated, less);
                assert_eq!(refused, Err(InflateError::TooLong(less)));
            }
        }
    }

    #[test]
    fn a_bomb_is_refused_at_the_cap() {
        let bomb = deflate(&vec![0; 64 << 20]);
        assert!(bomb.len() < 100_000);
        let refused = inflate(&bomb, 1 << 20);
        assert_eq!(refused, Err(InflateError::TooLong(1 << 20)));
    }

    #[test]
    fn every_cut_and_every_flaw_is_an_error() {
        let body: Vec<u8> = (0..2000_u32).map(|at| (at % 251) as u8).collect();
        let deflated = deflate(&body);
        for length in 0..deflated.len() {
            let refused = inflate(&deflated[..length], 1 << 20);
            assert_eq!(refused, Err(InflateError::Truncated), "{length}");
        }
        let mut flawed = deflated.clone();
        if let Some(sum) = flawed.last_mut() {
            *sum ^= 1;
        }
        assert_eq!(inflate(&flawed, 1 << 20), Err(InflateError::Corrupt));
        assert_eq!(inflate(b"{}", 10), Err(InflateError::Header));
        // Raw deflate and gzip are not zlib.
        assert_eq!(inflate(&deflated[2..], 10), Err(InflateError::Header));
        assert_eq!(inflate(&[0x1f, 0x8b, 8, 0], 10), Err(InflateError::Header));
        assert_eq!(inflate(&[0x78, 0xbb], 10), Err(InflateError::Header));
    }
}
