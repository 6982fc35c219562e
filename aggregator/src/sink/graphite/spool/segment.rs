//! One file of a spool: 8 bytes of magic, then records.
//!
//! A record is the length of what follows the checksum and the CRC-32 (IEEE) of that (4 bytes each, little-endian), then the points as
//! [`Chunk::write_record`] writes them.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use crate::sink::graphite::chunk::Chunk;

/// What each segment begins with; the digit is the format's version.
pub(super) const MAGIC: [u8; 8] = *b"TRIBSPL1";
pub(super) const HEADER: u64 = MAGIC.len() as u64;

/// Length and checksum.
const FRAME: u64 = 8;
/// No chunk is as long as this: what says so is damaged.
const LONGEST: u32 = 8 << 20;

/// What a segment holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Scan {
    /// Where its whole records end.
    pub(super) end: u64,
    pub(super) points: u64,
    /// Bytes after them.
    pub(super) left: u64,
    /// Whether those are the beginning of a record that ends with the file.
    pub(super) torn: bool,
}

/// Reads records.
#[derive(Debug)]
pub(super) struct Reader {
    file: BufReader<File>,
    at: u64,
}

/// Why there is no record.
enum Bad {
    /// It is longer than what is left.
    Torn,
    Damaged,
}

/// Appends a record to what is to be written.
pub(super) fn push_record(chunk: &Chunk, block: &mut Vec<u8>) {
    let start = block.len();
    block.extend_from_slice(&[0; FRAME as usize]);
    chunk.write_record(block);
    let (frame, record) = block.split_at_mut(start + FRAME as usize);
    // A chunk is well under 4 GiB.
    let length = u32::try_from(record.len()).unwrap_or(u32::MAX);
    let [.., a, b, c, d, e, f, g, h] = frame else {
        return;
    };
    let [l0, l1, l2, l3] = length.to_le_bytes();
    let [c0, c1, c2, c3] = crc32fast::hash(record).to_le_bytes();
    (*a, *b, *c, *d, *e, *f, *g, *h) = (l0, l1, l2, l3, c0, c1, c2, c3);
}

/// Reads a segment through.
///
/// # Errors
/// A file that cannot be read, and one that is no segment.
pub(super) fn scan(path: &Path) -> io::Result<Scan> {
    let size = std::fs::metadata(path)?.len();
    if size < HEADER {
        return Ok(Scan {
            end: 0,
            points: 0,
            left: size,
            torn: true,
        });
    }
    let mut reader = Reader::open(path)?;
    let mut scan = Scan {
        end: HEADER,
        points: 0,
        left: 0,
        torn: false,
    };
    while scan.end < size {
        match reader.next(scan.end, size)? {
            Ok((chunk, end)) => {
                scan.points += chunk.len() as u64;
                scan.end = end;
            }
            Err(bad) => {
                scan.left = size - scan.end;
                scan.torn = matches!(bad, Bad::Torn);
                break;
            }
        }
    }
    Ok(scan)
}

impl Reader {
    /// Opens a segment.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let mut file = BufReader::new(File::open(path)?);
        let mut magic = [0; MAGIC.len()];
        file.read_exact(&mut magic)?;
        if magic != MAGIC {
            let problem = format!("`{}` is no segment of a spool", path.display());
            return Err(io::Error::new(io::ErrorKind::InvalidData, problem));
        }
        Ok(Self { file, at: HEADER })
    }

    /// The record at a place, where `end` is the end of the whole records, and where the next one is. `None` if it is damaged.
    pub(super) fn read(&mut self, start: u64, end: u64) -> io::Result<Option<(Chunk, u64)>> {
        self.next(start, end).map(Result::ok)
    }

    fn next(&mut self, start: u64, end: u64) -> io::Result<Result<(Chunk, u64), Bad>> {
        if self.at != start {
            self.file.seek(SeekFrom::Start(start))?;
            self.at = start;
        }
        let left = end.saturating_sub(start);
        if left < FRAME {
            return Ok(Err(Bad::Torn));
        }
        let (length, sum) = (self.number()?, self.number()?);
        if length > LONGEST || length == 0 {
            return Ok(Err(Bad::Damaged));
        }
        if u64::from(length) > left - FRAME {
            return Ok(Err(Bad::Torn));
        }
        // Bounded by what the file has.
        let mut record = vec![0; length as usize];
        self.file.read_exact(&mut record)?;
        self.at = start + FRAME + u64::from(length);
        if crc32fast::hash(&record) != sum {
            return Ok(Err(Bad::Damaged));
        }
        let chunk = Chunk::read_record(&record).ok_or(Bad::Damaged);
        Ok(chunk.map(|chunk| (chunk, self.at)))
    }

    fn number(&mut self) -> io::Result<u32> {
        let mut bytes = [0; 4];
        self.file.read_exact(&mut bytes)?;
        self.at += 4;
        Ok(u32::from_le_bytes(bytes))
    }
}
