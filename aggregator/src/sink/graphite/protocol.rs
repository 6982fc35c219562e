//! How points look on the wire.

use std::io::Write as _;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::chunk::{Chunk, Entry};
use super::pickle;

/// What is spoken.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// Frames of Python's pickle, as carbon-relay writes them.
    #[default]
    Pickle,
    /// A line for each point.
    Line,
}

impl Protocol {
    /// Appends the points to what is to be written, in frames of `most` at most.
    pub(super) fn write(self, chunk: &Chunk, most: usize, out: &mut Vec<u8>) {
        match self {
            Self::Line => chunk.iter().for_each(|entry| write_line(entry, out)),
            Self::Pickle => {
                let entries: Vec<_> = chunk.iter().collect();
                for frame in entries.chunks(most.max(1)) {
                    pickle::write_frame(frame, out);
                }
            }
        }
    }
}

/// `path value timestamp`: the value with as few digits as give it back exactly and without an exponent (carbon's own client cuts it after ten
/// decimals), the timestamp in whole seconds, rounded down.
fn write_line(entry: Entry<'_>, out: &mut Vec<u8>) {
    let Entry {
        path,
        timestamp,
        value,
    } = entry;
    // A vector takes everything.
    let _ = writeln!(out, "{path} {value} {}", timestamp.floor());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_hold_the_exact_value_and_whole_seconds() {
        for (value, timestamp, expected) in [
            (12.5, 1_700_000_000.0, "a 12.5 1700000000\n"),
            (-7.25, 1_700_000_004.75, "a -7.25 1700000004\n"),
            (3.0, 1.0, "a 3 1\n"),
            (1e-7, 1.0, "a 0.0000001 1\n"),
            (1e-12, 1.0, "a 0.000000000001 1\n"),
            (1e21, 1.0, "a 1000000000000000000000 1\n"),
            (0.1 + 0.2, 1.0, "a 0.30000000000000004 1\n"),
        ] {
            let mut line = Vec::new();
            let path = "a";
            write_line(
                Entry {
                    path,
                    timestamp,
                    value,
                },
                &mut line,
            );
            assert_eq!(String::from_utf8(line).unwrap(), expected);
        }
    }

    #[test]
    fn the_lines_of_carbons_relay_say_the_same() {
        let recorded = include_str!(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/fixtures/carbon-relay/relay_line_basic.bin"
        ));
        let fields = |line: &str| {
            let mut fields = line.split_ascii_whitespace().map(str::to_owned);
            let mut next = || fields.next().unwrap();
            (
                next(),
                next().parse::<f64>().unwrap(),
                next().parse::<f64>().unwrap(),
            )
        };
        let expected: Vec<_> = recorded.lines().map(fields).collect();
        let chunk: Chunk = expected
            .iter()
            .map(|(path, value, timestamp)| Entry {
                path,
                timestamp: *timestamp,
                value: *value,
            })
            .collect();
        let mut written = Vec::new();
        Protocol::Line.write(&chunk, 2, &mut written);
        let written = String::from_utf8(written).unwrap();
        let ours: Vec<_> = written.lines().map(fields).collect();
        assert_eq!(ours, expected);
        // Where carbon rounds nothing away, the text is the same, too, but for the end of the line.
        for (ours, theirs) in written.lines().zip(recorded.lines()) {
            if !theirs.starts_with("big.val ") {
                assert_eq!(ours, theirs);
            }
        }
    }
}
