//! Points on their way to one destination: no more than go into one frame.

use std::fmt;

/// Whatever the settings say, a frame stays well under the 1 MiB above which carbon closes the connection without reading it.
const MOST_BYTES: usize = 1_000_000;

/// What a point takes in a frame of pickle besides its path, at most.
const OVERHEAD: usize = 48;

/// A path that is longer is written nowhere: carbon closes the connection at a line of 16384 bytes.
pub(super) const LONGEST_PATH: usize = 16_000;

/// Paths, timestamps and values.
#[derive(Clone, Default, PartialEq)]
pub(super) struct Chunk {
    paths: String,
    rows: Vec<Row>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Row {
    /// Where its path ends in `paths`.
    end: usize,
    timestamp: f64,
    value: f64,
}

/// One point of a [`Chunk`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Entry<'a> {
    pub(super) path: &'a str,
    /// Seconds since 1970, with a fraction.
    pub(super) timestamp: f64,
    pub(super) value: f64,
}

impl Chunk {
    /// Whether another point may be added when there may be so many.
    pub(super) fn has_room(&self, path: &str, most: usize) -> bool {
        let bytes = self.paths.len() + path.len() + (self.rows.len() + 1) * OVERHEAD;
        self.rows.is_empty() || (self.rows.len() < most && bytes <= MOST_BYTES)
    }

    pub(super) fn push(&mut self, entry: Entry<'_>) {
        self.paths.push_str(entry.path);
        self.rows.push(Row {
            end: self.paths.len(),
            timestamp: entry.timestamp,
            value: entry.value,
        });
    }

    /// How many points.
    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The points in the order in which they were added.
    pub(super) fn iter(&self) -> impl ExactSizeIterator<Item = Entry<'_>> {
        let mut start = 0;
        self.rows.iter().map(move |row| {
            let path = self.paths.get(start..row.end).unwrap_or_default();
            start = row.end;
            Entry {
                path,
                timestamp: row.timestamp,
                value: row.value,
            }
        })
    }

    /// Appends the points as a spool keeps them: for each the path's length (4 bytes, little-endian), the path, timestamp and value as doubles.
    pub(super) fn write_record(&self, record: &mut Vec<u8>) {
        for entry in self.iter() {
            // A path is short, see LONGEST_PATH.
            let length = u32::try_from(entry.path.len()).unwrap_or_default();
            record.extend_from_slice(&length.to_le_bytes());
            record.extend_from_slice(entry.path.as_bytes());
            record.extend_from_slice(&entry.timestamp.to_le_bytes());
            record.extend_from_slice(&entry.value.to_le_bytes());
        }
    }

    /// The opposite; `None` for what was not written like that.
    pub(super) fn read_record(mut record: &[u8]) -> Option<Self> {
        let mut chunk = Self::default();
        while !record.is_empty() {
            let (length, rest) = record.split_first_chunk()?;
            let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
            let (path, rest) = rest.split_at_checked(length)?;
            let (timestamp, rest) = rest.split_first_chunk()?;
            let (value, rest) = rest.split_first_chunk()?;
            record = rest;
            chunk.push(Entry {
                path: std::str::from_utf8(path).ok()?,
                timestamp: f64::from_le_bytes(*timestamp),
                value: f64::from_le_bytes(*value),
            });
        }
        Some(chunk)
    }
}

impl fmt::Debug for Chunk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl<'a> FromIterator<Entry<'a>> for Chunk {
    fn from_iter<I: IntoIterator<Item = Entry<'a>>>(entries: I) -> Self {
        let mut chunk = Self::default();
        entries.into_iter().for_each(|entry| chunk.push(entry));
        chunk
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn it_takes_so_many_points_or_bytes() {
        let mut chunk = Chunk::default();
        let entry = |path| Entry {
            path,
            timestamp: 1.0,
            value: 2.0,
        };
        chunk.push(entry("a"));
        assert!(chunk.has_room("b", 2));
        assert!(!chunk.has_room("b", 1));
        let long = "x".repeat(LONGEST_PATH);
        while chunk.has_room(&long, usize::MAX) {
            chunk.push(entry(&long));
        }
        assert_eq!(chunk.len(), 1 + 62);
    }

    proptest! {
        #[test]
        fn a_record_gives_back_the_points(points in prop::collection::vec((".{0,20}", -1e12..1e12, any::<f64>()), 0..20)) {
            let chunk: Chunk = points
                .iter()
                .map(|(path, timestamp, value)| Entry { path, timestamp: *timestamp, value: if value.is_nan() { 0.0 } else { *value } })
                .collect();
            let mut record = Vec::new();
            chunk.write_record(&mut record);
            prop_assert_eq!(Chunk::read_record(&record), Some(chunk));
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(record in prop::collection::vec(any::<u8>(), 0..100)) {
            let _ = Chunk::read_record(&record);
        }
    }
}
