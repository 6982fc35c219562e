//! Points on disk for a destination that is away: a first-in first-out queue of records in append-only files.
//!
//! A directory belongs to one destination of one sink, and one process at a time (a lock on the file `lock`). Segments `00000000000000000001.seg`,
//! … are appended to, read from the oldest on, and removed once all of them was sent. See [`segment`] for what they hold.
//!
//! What always holds:
//! - [`append`](Spool::append) returns once the records are on the disk (`fdatasync` of the file, `fsync` of the directory when a file was made).
//! - All segments together take `limit` bytes at most; over it the oldest is removed whole, and its unsent points are counted.
//! - After a crash the records appended before it are read again in order. How far reading had come is not kept: what was sent of the oldest segment
//!   (an eighth of the limit, 8 MiB at most) is sent again. A record that was cut off in the middle was never acknowledged, and goes.
//! - A damaged record costs the rest of its segment and no other.
//!
//! The crates there are do not fit. `queue-file` keeps one ring file that doubles and never shrinks, syncs each removal, and is stopped by one damaged
//! element; `yaque` has no checksums of records and no bound; `commitlog` cannot remove the old end; `okaywal` is a log for checkpoints and no queue;
//! `disk_backed_queue` brings SQLite.

mod segment;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use nix::fcntl::{Flock, FlockArg};
use parking_lot::Mutex;

use self::segment::{HEADER, Reader};
use super::chunk::Chunk;

/// The smallest bound in bytes: each of eight segments still holds a record of any size.
pub(super) const SMALLEST: u64 = 8 << 20;
const LARGEST_SEGMENT: u64 = 8 << 20;
/// So much is gathered before it is written.
const BLOCK: usize = 1 << 20;

/// See the module. All calls block.
#[derive(Debug)]
pub(super) struct Spool {
    files: Mutex<Files>,
    /// Bytes that are not sent yet.
    bytes: AtomicU64,
    /// Points that are not sent yet.
    points: AtomicU64,
}

#[derive(Debug)]
struct Files {
    directory: PathBuf,
    limit: u64,
    segments: VecDeque<Segment>,
    /// Of the last segment, if this process made it and nothing went wrong with it.
    writer: Option<File>,
    /// Of the first segment.
    reader: Option<Reader>,
    next: u64,
    _lock: Flock<File>,
}

#[derive(Debug)]
struct Segment {
    number: u64,
    /// Up to here there are whole records.
    end: u64,
    /// Up to here they were sent.
    sent: u64,
    /// That are not sent.
    points: u64,
}

/// What was found at the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Found {
    /// Points to send.
    pub(super) points: u64,
    /// Bytes of a record that was not written to its end.
    pub(super) torn: u64,
    /// Bytes that are damaged or come after damage.
    pub(super) damaged: u64,
}

/// The oldest record that is not sent.
#[derive(Debug)]
pub(super) struct Oldest {
    pub(super) chunk: Chunk,
    place: Place,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    segment: u64,
    start: u64,
    end: u64,
}

impl Spool {
    /// Opens a directory, which is made if it is not there, and looks through all that it holds.
    ///
    /// # Errors
    /// `WouldBlock` if another process, or an earlier sink of this one, has it.
    pub(super) fn open(directory: &Path, limit: u64) -> io::Result<(Self, Found)> {
        fs::create_dir_all(directory)?;
        // Those that were made just now: spool_dir, the sink's, the destination's.
        for parent in directory.ancestors().skip(1).take(3) {
            // One that cannot be opened or synced was not made by us.
            let _ = File::open(parent).and_then(|parent| parent.sync_all());
        }
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(directory.join("lock"))?;
        let lock = Flock::lock(lock, FlockArg::LockExclusiveNonblock)
            .map_err(|(_, errno)| io::Error::from(errno))?;
        let mut files = Files {
            directory: directory.to_owned(),
            limit,
            segments: VecDeque::new(),
            writer: None,
            reader: None,
            next: 1,
            _lock: lock,
        };
        let found = files.look_through()?;
        let spool = Self {
            files: Mutex::new(files),
            bytes: AtomicU64::new(0),
            points: AtomicU64::new(0),
        };
        spool.tally(&spool.files.lock());
        Ok((spool, found))
    }

    /// Adds chunks at the end; returns how many points had to go for them. After an error none of them count as added, and yet some may be read.
    pub(super) fn append(&self, chunks: &[Arc<Chunk>]) -> io::Result<u64> {
        let mut files = self.files.lock();
        let result = files.append(chunks);
        if result.is_err() {
            files.cut_off();
        }
        let dropped = files.make_room();
        self.tally(&files);
        result.map(|()| dropped)
    }

    /// The oldest record, and how many damaged bytes were left out on the way to it.
    pub(super) fn oldest(&self) -> io::Result<(Option<Oldest>, u64)> {
        let mut files = self.files.lock();
        let oldest = files.oldest();
        self.tally(&files);
        oldest
    }

    /// The record was sent.
    pub(super) fn sent(&self, oldest: &Oldest) {
        let mut files = self.files.lock();
        files.sent(oldest);
        self.tally(&files);
    }

    /// Bytes that wait.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Points that wait.
    pub(super) fn points(&self) -> u64 {
        self.points.load(Ordering::Relaxed)
    }

    fn tally(&self, files: &Files) {
        let segments = || files.segments.iter();
        let bytes = segments().map(|segment| segment.end - segment.sent).sum();
        let points = segments().map(|segment| segment.points).sum();
        self.bytes.store(bytes, Ordering::Relaxed);
        self.points.store(points, Ordering::Relaxed);
    }
}

impl Files {
    fn path(&self, number: u64) -> PathBuf {
        self.directory.join(format!("{number:020}.seg"))
    }

    fn look_through(&mut self) -> io::Result<Found> {
        let mut found = Found::default();
        let mut numbers = Vec::new();
        for entry in fs::read_dir(&self.directory)? {
            let name = entry?.file_name();
            let number = name.to_str().and_then(|name| name.strip_suffix(".seg"));
            numbers.extend(number.and_then(|number| number.parse::<u64>().ok()));
        }
        numbers.sort_unstable();
        self.next = numbers.last().map_or(1, |last| last + 1);
        for number in &numbers {
            let path = self.path(*number);
            let scan = segment::scan(&path)?;
            match scan.torn {
                true => found.torn += scan.left,
                false => found.damaged += scan.left,
            }
            if scan.points == 0 {
                fs::remove_file(&path)?;
                continue;
            }
            found.points += scan.points;
            self.segments.push_back(Segment {
                number: *number,
                end: scan.end,
                sent: HEADER,
                points: scan.points,
            });
        }
        Ok(found)
    }

    fn append(&mut self, chunks: &[Arc<Chunk>]) -> io::Result<()> {
        let largest = (self.limit / 8).min(LARGEST_SEGMENT);
        let mut block = Vec::new();
        let mut points = 0;
        for chunk in chunks {
            let full = |segment: &Segment| segment.end + block.len() as u64 >= largest;
            if self.writer.is_some() && self.segments.back().is_some_and(full) {
                self.write(&mut block, &mut points)?;
                self.end_segment()?;
            }
            if self.writer.is_none() {
                self.begin_segment()?;
            }
            segment::push_record(chunk, &mut block);
            points += chunk.len() as u64;
            if block.len() >= BLOCK {
                self.write(&mut block, &mut points)?;
            }
        }
        self.write(&mut block, &mut points)?;
        match &self.writer {
            Some(file) => file.sync_data(),
            None => Ok(()),
        }
    }

    fn begin_segment(&mut self) -> io::Result<()> {
        let number = self.next;
        self.next += 1;
        let mut file = OpenOptions::new()
            .create_new(true)
            .append(true)
            .open(self.path(number))?;
        self.segments.push_back(Segment {
            number,
            end: HEADER,
            sent: HEADER,
            points: 0,
        });
        file.write_all(&segment::MAGIC)?;
        self.writer = Some(file);
        File::open(&self.directory)?.sync_all()
    }

    fn end_segment(&mut self) -> io::Result<()> {
        match self.writer.take() {
            Some(file) => file.sync_data(),
            None => Ok(()),
        }
    }

    fn write(&mut self, block: &mut Vec<u8>, points: &mut u64) -> io::Result<()> {
        let (Some(file), Some(segment)) = (&mut self.writer, self.segments.back_mut()) else {
            return Ok(());
        };
        file.write_all(block)?;
        segment.end += block.len() as u64;
        segment.points += *points;
        block.clear();
        *points = 0;
        Ok(())
    }

    /// Takes the last segment back to its whole records after an error; the next append begins another.
    fn cut_off(&mut self) {
        if let (Some(file), Some(segment)) = (self.writer.take(), self.segments.back()) {
            // Where this fails, too, the rest is told by its checksum.
            let _ = file.set_len(segment.end);
        }
    }

    fn make_room(&mut self) -> u64 {
        let mut dropped = 0;
        while self.segments.len() > 1
            && self.segments.iter().map(|segment| segment.end).sum::<u64>() > self.limit
        {
            dropped += self.remove_first();
        }
        dropped
    }

    /// Returns how many of its points were not sent.
    fn remove_first(&mut self) -> u64 {
        self.reader = None;
        let Some(first) = self.segments.pop_front() else {
            return 0;
        };
        if self.segments.is_empty() {
            self.writer = None;
        }
        // One that stays is sent again after the next start.
        let _ = fs::remove_file(self.path(first.number));
        first.points
    }

    fn oldest(&mut self) -> io::Result<(Option<Oldest>, u64)> {
        let mut damaged = 0;
        while let Some(first) = self.segments.front() {
            let (segment, start, end) = (first.number, first.sent, first.end);
            if start < end {
                let reader = match self.reader.take() {
                    Some(reader) => self.reader.insert(reader),
                    None => self.reader.insert(Reader::open(&self.path(segment))?),
                };
                if let Some((chunk, next)) = reader.read(start, end)? {
                    let end = next;
                    let place = Place {
                        segment,
                        start,
                        end,
                    };
                    return Ok((Some(Oldest { chunk, place }), damaged));
                }
                damaged += end - start;
            }
            self.remove_first();
        }
        Ok((None, damaged))
    }

    fn sent(&mut self, oldest: &Oldest) {
        let Place {
            segment,
            start,
            end,
        } = oldest.place;
        // It may have been dropped for newer ones meanwhile.
        let Some(first) = self.segments.front_mut() else {
            return;
        };
        if (first.number, first.sent) != (segment, start) {
            return;
        }
        first.sent = end;
        first.points = first.points.saturating_sub(oldest.chunk.len() as u64);
        if first.sent >= first.end {
            self.remove_first();
        }
    }
}
