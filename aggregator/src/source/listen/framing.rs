//! Lines and packets out of a stream of bytes.
//!
//! TCP brings lines. On Unix streams clients speak one of two ways, and say so by how they begin: DogStatsD's own framing puts the length of
//! each packet in front (32 bits, little endian), others send lines. A sensible length has a zero in its fourth byte; four bytes of text have
//! no control characters. A connection stays with what its first four bytes were.
//!
//! What always holds: at most [`LONGEST`] bytes and a length are kept, whatever a peer sends or claims.

use memchr::memchr;

/// The longest line without its break, and the longest packet, in bytes.
pub(super) const LONGEST: usize = 64 * 1024;

/// What a length takes.
const HEADER: usize = 4;

/// Room to begin with: most peers never need more.
const FIRST_ROOM: usize = 8 * 1024;

/// How a stream is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::source) enum Framing {
    /// Breaks between lines.
    Lines,
    /// A length before each packet.
    Lengths,
    /// Whichever its first bytes show.
    Either,
}

/// What came out of the stream.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::source) enum Piece<'a> {
    /// One line without its break; may be empty.
    Line(&'a [u8]),
    /// One packet: lines with breaks between.
    Packet(&'a [u8]),
    /// The beginning of a line that is over [`LONGEST`]; the rest of it is skipped.
    TooLong(&'a [u8]),
    /// What a stream that broke off had begun.
    CutShort(&'a [u8]),
}

/// A length that no sender means: the stream's framing is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a packet of {0} bytes is announced, and the most is {LONGEST}")]
pub(in crate::source) struct BadLength(pub(super) u32);

/// Bytes of one stream that are not cut yet.
#[derive(Debug)]
pub(in crate::source) struct StreamBuffer {
    framing: Framing,
    /// All of it initialised; `..filled` is what the peer sent.
    bytes: Vec<u8>,
    filled: usize,
    /// The longest line, without its break, or packet.
    longest: usize,
    /// Within a line that was given up.
    skipping: bool,
}

impl StreamBuffer {
    pub(super) fn new(framing: Framing) -> Self {
        Self::bounded(framing, LONGEST)
    }

    /// With another bound than [`LONGEST`].
    pub(in crate::source) fn bounded(framing: Framing, longest: usize) -> Self {
        Self {
            framing,
            bytes: vec![0; FIRST_ROOM],
            filled: 0,
            longest,
            skipping: false,
        }
    }

    /// Where the next bytes go: never empty after [`StreamBuffer::advance`] said so far, so good.
    pub(in crate::source) fn space(&mut self) -> &mut [u8] {
        self.bytes.get_mut(self.filled..).unwrap_or_default()
    }

    /// Takes `count` bytes that were written to [`StreamBuffer::space`], and gives away what they complete.
    ///
    /// # Errors
    /// [`BadLength`]: nothing that follows on this stream can be read.
    pub(in crate::source) fn advance(
        &mut self,
        count: usize,
        mut take: impl FnMut(Piece<'_>),
    ) -> Result<(), BadLength> {
        self.filled = (self.filled + count).min(self.bytes.len());
        if self.framing == Framing::Either {
            match self.bytes.first_chunk::<HEADER>() {
                Some(start) if self.filled >= HEADER => self.framing = shown_by(*start),
                _ => return Ok(()),
            }
        }
        let filled = self.bytes.get(..self.filled).unwrap_or_default();
        let used = match self.framing {
            Framing::Lengths => cut_packets(filled, self.longest, &mut take)?,
            _ => cut_lines(filled, self.longest, &mut self.skipping, &mut take),
        };
        self.bytes.copy_within(used..self.filled, 0);
        self.filled -= used;
        self.make_room(take);
        Ok(())
    }

    /// The stream ended. `clean`: its peer closed it, so that a last line needs no break.
    pub(in crate::source) fn finish(mut self, clean: bool, mut take: impl FnMut(Piece<'_>)) {
        let rest = self.bytes.get(..self.filled).unwrap_or_default();
        if self.framing == Framing::Either {
            self.framing = Framing::Lines;
        }
        if rest.is_empty() || self.skipping {
            return;
        }
        if clean && self.framing == Framing::Lines {
            if rest.len() <= self.longest {
                take(Piece::Line(rest));
            } else {
                take(Piece::TooLong(rest));
            }
        } else {
            take(Piece::CutShort(rest));
        }
    }

    /// Grows until the longest line with its break, or the longest packet with its length, fits; gives a longer line up.
    fn make_room(&mut self, mut take: impl FnMut(Piece<'_>)) {
        if self.skipping {
            self.filled = 0;
        }
        if self.filled < self.bytes.len() {
            return;
        }
        let most = self.longest + HEADER;
        if self.bytes.len() < most {
            let room = (self.bytes.len() * 2).min(most);
            self.bytes.resize(room, 0);
        } else {
            // Only lines: a packet that fills all of it was complete.
            take(Piece::TooLong(&self.bytes));
            self.skipping = true;
            self.filled = 0;
        }
    }
}

fn shown_by(start: [u8; HEADER]) -> Framing {
    // 0xf8 and above stand nowhere in UTF-8.
    let is_text = |byte: &u8| matches!(byte, b'\t' | b'\n' | b'\r' | 0x20..=0x7e | 0x80..=0xf7);
    if start.iter().all(is_text) {
        Framing::Lines
    } else {
        Framing::Lengths
    }
}

/// How many bytes were used up.
fn cut_lines(
    bytes: &[u8],
    longest: usize,
    skipping: &mut bool,
    take: &mut impl FnMut(Piece<'_>),
) -> usize {
    let mut rest = bytes;
    while let Some((line, from_break)) =
        memchr(b'\n', rest).and_then(|end| rest.split_at_checked(end))
    {
        if std::mem::take(skipping) {
            // The end of what was given up.
        } else if line.len() > longest {
            take(Piece::TooLong(line));
        } else {
            take(Piece::Line(line));
        }
        rest = from_break.get(1..).unwrap_or_default();
    }
    bytes.len() - rest.len()
}

/// How many bytes were used up.
fn cut_packets(
    bytes: &[u8],
    longest: usize,
    take: &mut impl FnMut(Piece<'_>),
) -> Result<usize, BadLength> {
    let mut rest = bytes;
    while let Some((header, body)) = rest.split_first_chunk::<HEADER>() {
        let announced = u32::from_le_bytes(*header);
        let length = usize::try_from(announced)
            .ok()
            .filter(|length| *length <= longest)
            .ok_or(BadLength(announced))?;
        let Some((packet, after)) = body.split_at_checked(length) else {
            break;
        };
        take(Piece::Packet(packet));
        rest = after;
    }
    Ok(bytes.len() - rest.len())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Feeds `bytes` in chunks of the given sizes, over and over; each piece with its kind as a letter, shortened when long.
    fn pieces(
        framing: Framing,
        bytes: &[u8],
        sizes: &[usize],
        clean: bool,
    ) -> (Vec<String>, Result<(), BadLength>) {
        let mut out = Vec::new();
        let mut take = |piece: Piece<'_>| {
            let (letter, bytes) = match piece {
                Piece::Line(bytes) => ('L', bytes),
                Piece::Packet(bytes) => ('P', bytes),
                Piece::TooLong(_) => ('T', [].as_slice()),
                Piece::CutShort(bytes) => ('C', bytes),
            };
            out.push(match bytes.len() {
                0..100 => format!("{letter}{}", bytes.escape_ascii()),
                length => format!("{letter}[{length}]"),
            });
        };
        let mut buffer = StreamBuffer::new(framing);
        let mut rest = bytes;
        let mut sizes = sizes.iter().cycle();
        while !rest.is_empty() {
            let space = buffer.space();
            let count = (*sizes.next().unwrap())
                .clamp(1, space.len())
                .min(rest.len());
            let (now, later) = rest.split_at(count);
            space[..count].copy_from_slice(now);
            rest = later;
            if let Err(error) = buffer.advance(count, &mut take) {
                return (out, Err(error));
            }
        }
        buffer.finish(clean, take);
        (out, Ok(()))
    }

    fn framed(packets: &[&[u8]]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for packet in packets {
            bytes.extend((packet.len() as u32).to_le_bytes());
            bytes.extend(*packet);
        }
        bytes
    }

    #[test]
    fn a_last_line_without_a_break_counts_after_a_clean_close_only() {
        assert_eq!(
            pieces(Framing::Lines, b"a\n\nb", &[2], true).0,
            ["La", "L", "Lb"]
        );
        assert_eq!(pieces(Framing::Lines, b"a\nb", &[2], false).0, ["La", "Cb"]);
        assert_eq!(pieces(Framing::Either, b"a:1", &[1], true).0, ["La:1"]);
        assert_eq!(pieces(Framing::Either, b"a:1", &[1], false).0, ["Ca:1"]);
        assert_eq!(pieces(Framing::Either, b"", &[1], true).0, [""; 0]);
    }

    #[test]
    fn a_line_over_the_bound_is_skipped_and_the_next_one_read() {
        let mut bytes = vec![b'x'; 1 << 20];
        bytes.extend(b"\na:1|c\n");
        assert_eq!(
            pieces(Framing::Lines, &bytes, &[10_000], true).0,
            ["T", "La:1|c"]
        );
    }

    #[test]
    fn the_bound_is_exact() {
        let mut bytes = vec![b'x'; LONGEST];
        for (clean, ending) in [(true, ""), (false, "\n")] {
            bytes.truncate(LONGEST);
            bytes.extend(ending.bytes());
            let expected = [format!("L[{LONGEST}]")];
            assert_eq!(
                pieces(Framing::Lines, &bytes, &[usize::MAX], clean).0,
                expected
            );
            bytes.insert(0, b'x');
            assert_eq!(
                pieces(Framing::Lines, &bytes, &[usize::MAX], clean).0,
                ["T"]
            );
        }
    }

    #[test]
    fn the_first_four_bytes_show_how_a_unix_stream_is_cut() {
        let packets = framed(&[b"a:1|c\nb:2|c", b"", b"c:3|c"]);
        let expected = ["Pa:1|c\\nb:2|c", "P", "Pc:3|c"];
        assert_eq!(
            pieces(Framing::Either, &packets, &[3], true),
            (expected.map(String::from).to_vec(), Ok(()))
        );
        let expected = ["La:1|c", "Lb:2|c"];
        assert_eq!(
            pieces(Framing::Either, b"a:1|c\nb:2|c", &[3], true),
            (expected.map(String::from).to_vec(), Ok(()))
        );
        // A packet whose length reads as the letter a and zeros.
        let packets = framed(&[&[b'x'; 97]]);
        assert_eq!(
            pieces(Framing::Either, &packets, &[1], true).0,
            [format!("P{}", "x".repeat(97))]
        );
    }

    #[test]
    fn a_length_that_nobody_means_ends_the_stream() {
        let (out, error) = pieces(Framing::Either, b"\xff\xff\xff\xffa:1|c\n", &[7], true);
        assert_eq!((out, error), (vec![], Err(BadLength(u32::MAX))));
        let mut bytes = framed(&[b"a:1|c"]);
        bytes.extend((LONGEST as u32 + 1).to_le_bytes());
        let (out, error) = pieces(Framing::Either, &bytes, &[7], true);
        assert_eq!(
            (out, error),
            (
                vec!["Pa:1|c".to_owned()],
                Err(BadLength(LONGEST as u32 + 1))
            )
        );
    }

    #[test]
    fn the_longest_packet_fits_and_half_a_packet_is_cut_short() {
        let mut bytes = framed(&[&[b'x'; LONGEST], b"a:1|c"]);
        let expected = [format!("P[{LONGEST}]"), "Pa:1|c".to_owned()];
        assert_eq!(
            pieces(Framing::Either, &bytes, &[50_000], true),
            (expected.to_vec(), Ok(()))
        );
        bytes.pop();
        assert_eq!(
            pieces(Framing::Either, &bytes, &[50_000], true).0[1],
            "C\\x05\\x00\\x00\\x00a:1|"
        );
    }

    proptest! {
        #[test]
        fn how_bytes_arrive_changes_nothing(
            bytes in prop::collection::vec(prop_oneof![Just(b'\n'), Just(0), Just(3), b'a'..b'f', any::<u8>()], 0..200),
            sizes in prop::collection::vec(1..20_usize, 1..5),
            framing in prop_oneof![Just(Framing::Lines), Just(Framing::Lengths), Just(Framing::Either)],
            clean: bool,
        ) {
            let at_once = pieces(framing, &bytes, &[usize::MAX], clean);
            prop_assert_eq!(pieces(framing, &bytes, &sizes, clean), at_once);
        }

        #[test]
        fn lines_come_out_as_they_went_in(
            lines in prop::collection::vec((b'a'..=b'z', 0..20_000_usize), 1..8),
            sizes in prop::collection::vec(1000..30_000_usize, 1..4),
        ) {
            let lines: Vec<String> = lines.iter().map(|(letter, count)| char::from(*letter).to_string().repeat(*count)).collect();
            let bytes = lines.join("\n").into_bytes();
            let mut expected: Vec<&str> = lines.iter().map(String::as_str).collect();
            if expected.last() == Some(&"") {
                expected.pop();
            }
            let expected: Vec<String> = expected.iter().map(|line| match line.len() {
                0..100 => format!("L{line}"),
                length => format!("L[{length}]"),
            }).collect();
            prop_assert_eq!(pieces(Framing::Lines, &bytes, &sizes, true).0, expected);
        }
    }
}
