//! What InfluxDB's answers mean.

use std::collections::HashMap;

use serde::Deserialize;

use crate::sink::http::{NoReply, Reply};

/// What became of a request's lines.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// InfluxDB has them.
    Stored,
    /// It has all but some.
    Partial(Words),
    /// It has none of them, because of something in them.
    Refused(Words),
    /// The request is longer than somebody on the way takes.
    TooLarge,
    /// It does not let us write there: until somebody changes something, it stays so.
    Denied,
    /// It says nothing about the lines: they may be taken later.
    Later,
}

/// The server's words, out of the JSON around them.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Words(pub(super) String);

/// Reads an answer; the text is the label `outcome`.
pub(super) fn read(reply: &Reply) -> (Answer, &'static str) {
    match reply.status.as_u16() {
        200 | 204 => (Answer::Stored, "stored"),
        // Version 2 has 422 for what it could store in part.
        400 | 422 => {
            let words = Words::of(&reply.body);
            match words.0.contains("partial write") {
                true => (Answer::Partial(words), "partial"),
                false => (Answer::Refused(words), "refused"),
            }
        }
        413 => (Answer::TooLarge, "too_large"),
        401 | 403 | 404 => (Answer::Denied, "denied"),
        429 => (Answer::Later, "throttled"),
        500.. => (Answer::Later, "unavailable"),
        _ => (Answer::Later, "unexpected"),
    }
}

/// The label `outcome` where there is no answer.
pub(super) fn outcome(error: &NoReply) -> &'static str {
    match error {
        NoReply::Timeout(_) => "timeout",
        NoReply::Unreachable(_) => "unreachable",
        NoReply::Request(_) => "invalid",
    }
}

#[derive(Deserialize)]
struct Body {
    /// Version 1.
    error: Option<String>,
    /// Version 2.
    message: Option<String>,
}

/// Stands before each line that InfluxDB cannot read, and behind it.
const UNREADABLE: &str = "unable to parse '";
const REASON: &str = "': ";

impl Words {
    fn of(body: &[u8]) -> Self {
        let said = serde_json::from_slice::<Body>(body).ok();
        let said = said.and_then(|body| body.error.or(body.message));
        Self(said.unwrap_or_else(|| String::from_utf8_lossy(body).into_owned()))
    }

    /// How many lines were left out by the number at the end. Of lines that it could not read version 1 says 0.
    pub(super) fn dropped(&self) -> usize {
        let (_, text) = self.0.rsplit_once("dropped=").unwrap_or_default();
        let digits = text
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(text.len());
        text.get(..digits)
            .and_then(|digits| digits.parse().ok())
            .unwrap_or(0)
    }

    /// Each line that it could not read, with what it says of it.
    fn unreadable(&self) -> impl Iterator<Item = &str> {
        self.0.split(UNREADABLE).skip(1)
    }

    /// How many lines it could not read.
    pub(super) fn unread(&self) -> usize {
        self.unreadable().count()
    }

    /// The lines that it could not read, where they are known, and how many it names that are not.
    pub(super) fn find<T: Copy>(&self, known: &HashMap<&str, T>) -> (Vec<T>, usize) {
        let mut found = Vec::new();
        let mut strange = 0;
        for named in self.unreadable() {
            let mut ends = named.match_indices(REASON).map(|(at, _)| at);
            let line = ends.find_map(|end| known.get(named.get(..end)?));
            match line {
                Some(line) => found.push(*line),
                None => strange += 1,
            }
        }
        (found, strange)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Words {
        Words::of(format!("{{\"error\": {}}}", serde_json::Value::from(text)).as_bytes())
    }

    #[test]
    fn the_words_of_both_versions_and_of_others_are_found() {
        assert_eq!(words("no").0, "no");
        assert_eq!(Words::of(br#"{"code":"invalid","message":"no"}"#).0, "no");
        assert_eq!(Words::of(b"<html>no</html>").0, "<html>no</html>");
    }

    #[test]
    fn dropped_lines_are_counted_by_the_number_at_the_end() {
        for (text, dropped) in [
            (
                "partial write: field type conflict: input field \"a\" dropped=12",
                12,
            ),
            ("partial write: unable to parse 'a': no dropped=0", 0),
            (
                "partial write: points beyond retention policy dropped=3 for database: x",
                3,
            ),
            ("partial write", 0),
            ("partial write: dropped=999999999999999999999999", 0),
        ] {
            assert_eq!(words(text).dropped(), dropped, "{text}");
        }
    }

    #[test]
    fn lines_that_cannot_be_read_are_found_among_those_that_were_sent() {
        let text = "partial write: unable to parse 'b,x 2': missing tag value\nunable to parse 'c': d v=x 3': invalid boolean\n\
                    unable to parse 'somebody else's': no dropped=0";
        let known = HashMap::from([("b,x 2", 1), ("c': d v=x 3", 2), ("a v=1 1", 3)]);
        assert_eq!(words(text).find(&known), (vec![1, 2], 1));
        assert_eq!(words(text).unread(), 3);
    }
}
