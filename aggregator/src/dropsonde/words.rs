//! The names of dropsonde's enums.

use std::borrow::Cow;

use super::json::Word;

/// The kinds of envelopes that are told apart; the number is `eventType`.
const EVENT_TYPES: &[(i32, &str)] = &[
    (HTTP_START_STOP, "HttpStartStop"),
    (LOG_MESSAGE, "LogMessage"),
    (6, "ValueMetric"),
    (7, "CounterEvent"),
    (8, "Error"),
    (CONTAINER_METRIC, "ContainerMetric"),
];

pub(super) const HTTP_START_STOP: i32 = 4;
pub(super) const LOG_MESSAGE: i32 = 5;
pub(super) const CONTAINER_METRIC: i32 = 9;

const MESSAGE_TYPES: &[(i32, &str)] = &[(1, "OUT"), (2, "ERR")];

#[rustfmt::skip]
const METHODS: &[(i32, &str)] = &[
    (1, "GET"), (2, "POST"), (3, "PUT"), (4, "DELETE"), (5, "HEAD"), (6, "ACL"), (7, "BASELINE_CONTROL"), (8, "BIND"), (9, "CHECKIN"),
    (10, "CHECKOUT"), (11, "CONNECT"), (12, "COPY"), (13, "DEBUG"), (14, "LABEL"), (15, "LINK"), (16, "LOCK"), (17, "MERGE"), (18, "MKACTIVITY"),
    (19, "MKCALENDAR"), (20, "MKCOL"), (21, "MKREDIRECTREF"), (22, "MKWORKSPACE"), (23, "MOVE"), (24, "OPTIONS"), (25, "ORDERPATCH"),
    (26, "PATCH"), (27, "PRI"), (28, "PROPFIND"), (29, "PROPPATCH"), (30, "REBIND"), (31, "REPORT"), (32, "SEARCH"), (33, "SHOWMETHOD"),
    (34, "SPACEJUMP"), (35, "TEXTSEARCH"), (36, "TRACE"), (37, "TRACK"), (38, "UNBIND"), (39, "UNCHECKOUT"), (40, "UNLINK"), (41, "UNLOCK"),
    (42, "UPDATE"), (43, "UPDATEREDIRECTREF"), (44, "VERSION_CONTROL"),
];

/// The number of an event's kind; absent, it is an HTTP request's. A name that there is not is given back.
pub(super) fn event_type(word: Option<Word<'_>>) -> Result<i32, Cow<'_, str>> {
    number(word.unwrap_or(Word::Number(HTTP_START_STOP)), EVENT_TYPES)
}

/// The name of a method; absent, it is the enum's first.
pub(super) fn method(word: Option<Word<'_>>) -> Result<Cow<'static, str>, Cow<'_, str>> {
    number(word.unwrap_or(Word::Number(1)), METHODS).map(|number| name(number, METHODS))
}

/// The name of a log's stream; absent, it is the enum's first.
pub(super) fn message_type(word: Option<Word<'_>>) -> Result<Cow<'static, str>, Cow<'_, str>> {
    number(word.unwrap_or(Word::Number(1)), MESSAGE_TYPES).map(|number| name(number, MESSAGE_TYPES))
}

fn number<'a>(word: Word<'a>, names: &[(i32, &str)]) -> Result<i32, Cow<'a, str>> {
    match word {
        Word::Number(number) => Ok(number),
        Word::Name(text) => match names.iter().find(|(_, name)| *name == text) {
            Some((number, _)) => Ok(*number),
            None => Err(text),
        },
    }
}

/// A number that has no name stands for itself, as in Go.
fn name(number: i32, names: &[(i32, &'static str)]) -> Cow<'static, str> {
    match names.iter().find(|(known, _)| *known == number) {
        Some((_, name)) => Cow::Borrowed(name),
        None => Cow::Owned(number.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods_are_numbered_without_gaps() {
        assert!(METHODS.iter().map(|(number, _)| *number).eq(1..=44));
    }

    #[test]
    fn numbers_and_names_say_the_same_and_a_number_without_a_name_is_kept() {
        let of = |word| method(word).ok();
        assert_eq!(of(Some(Word::Number(26))).unwrap(), "PATCH");
        assert_eq!(of(Some(Word::Name("PATCH".into()))).unwrap(), "PATCH");
        assert_eq!(of(Some(Word::Number(99))).unwrap(), "99");
        assert_eq!(of(None).unwrap(), "GET");
        assert_eq!(of(Some(Word::Name("patch".into()))), None);
        assert_eq!(message_type(Some(Word::Number(2))).unwrap(), "ERR");
        assert_eq!(event_type(None).unwrap(), HTTP_START_STOP);
    }
}
