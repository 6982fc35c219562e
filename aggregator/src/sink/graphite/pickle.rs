//! Frames of Python's pickle, protocol 2, byte for byte as carbon-relay 1.1 on Python 3 writes them.
//!
//! A frame is its length (4 bytes, big-endian) and a list of `(path, (timestamp, value))`, both numbers doubles. No receiver needs the memo that
//! Python keeps; it is written all the same, so that ours cannot be told from the original.

use super::chunk::Entry;

/// Python appends to a list in batches of so many.
const BATCH: usize = 1000;

/// Appends a frame with these points.
pub(super) fn write_frame(entries: &[Entry<'_>], out: &mut Vec<u8>) {
    let start = out.len();
    // The length is known at the end.
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(b"\x80\x02]");
    let mut memo = 0;
    put(&mut memo, out);
    if let [entry] = entries {
        write_entry(*entry, &mut memo, out);
        out.push(b'a');
    } else {
        for batch in entries.chunks(BATCH) {
            out.push(b'(');
            for entry in batch {
                write_entry(*entry, &mut memo, out);
            }
            out.push(b'e');
        }
    }
    out.push(b'.');
    // A chunk is well under 4 GiB.
    let length = u32::try_from(out.len() - start - 4).unwrap_or(u32::MAX);
    if let Some(field) = out.get_mut(start..start + 4) {
        field.copy_from_slice(&length.to_be_bytes());
    }
}

fn write_entry(entry: Entry<'_>, memo: &mut u32, out: &mut Vec<u8>) {
    out.push(b'X');
    // A path is short, see LONGEST_PATH.
    let length = u32::try_from(entry.path.len()).unwrap_or_default();
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(entry.path.as_bytes());
    put(memo, out);
    for number in [entry.timestamp, entry.value] {
        out.push(b'G');
        out.extend_from_slice(&number.to_be_bytes());
    }
    for _ in 0..2 {
        out.push(0x86);
        put(memo, out);
    }
}

/// `BINPUT`, or `LONG_BINPUT` from 256 on.
fn put(memo: &mut u32, out: &mut Vec<u8>) {
    match u8::try_from(*memo) {
        Ok(short) => out.extend_from_slice(&[b'q', short]),
        Err(_) => {
            out.push(b'r');
            out.extend_from_slice(&memo.to_le_bytes());
        }
    }
    *memo += 1;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::graphite::receiver::decode_pickle;

    macro_rules! recorded {
        ($name:literal) => {
            include_bytes!(concat!(
                env!("CARGO_MANIFEST_DIR"),
                "/tests/fixtures/carbon-relay/",
                $name
            ))
            .as_slice()
        };
    }

    /// Each frame's payload.
    fn frames(mut bytes: &[u8]) -> Vec<&[u8]> {
        let mut frames = Vec::new();
        while let Some((length, rest)) = bytes.split_first_chunk() {
            let (frame, rest) = rest.split_at(u32::from_be_bytes(*length) as usize);
            frames.push(frame);
            bytes = rest;
        }
        assert_eq!(bytes, b"");
        frames
    }

    #[test]
    fn every_recorded_frame_of_carbons_relay_is_written_alike() {
        for (recorded, sizes) in [
            (recorded!("relay_pickle_basic.bin"), &[2, 5, 1, 2, 1][..]),
            (recorded!("relay_pickle_bulk1200.bin"), &[]),
        ] {
            let mut written = Vec::new();
            let mut found = Vec::new();
            for frame in frames(recorded) {
                let points = decode_pickle(frame).unwrap();
                let entries: Vec<_> = points
                    .iter()
                    .map(|point| Entry {
                        path: &point.path,
                        timestamp: point.timestamp,
                        value: point.value,
                    })
                    .collect();
                found.push(entries.len());
                write_frame(&entries, &mut written);
            }
            assert!(written == recorded, "frames of {found:?} points differ");
            if sizes.is_empty() {
                assert_eq!(found.iter().sum::<usize>(), 1200);
            } else {
                assert_eq!(found, sizes);
            }
        }
    }

    #[test]
    fn long_lists_are_appended_a_thousand_at_a_time() {
        let entry = Entry {
            path: "a",
            timestamp: 1.0,
            value: 2.0,
        };
        let mut written = Vec::new();
        write_frame(&vec![entry; 2001], &mut written);
        let frame = frames(&written)[0];
        assert_eq!(decode_pickle(frame).unwrap().len(), 2001);
        // Three marks and three times APPENDS: PROTO, EMPTY_LIST, BINPUT and STOP take 6 bytes; a point takes 28 and three puts.
        let puts: usize = (1..=3 * 2001)
            .map(|index| if index < 256 { 2 } else { 5 })
            .sum();
        assert_eq!(frame.len(), 6 + 3 * 2 + 2001 * (6 + 18 + 2) + puts);
    }
}
