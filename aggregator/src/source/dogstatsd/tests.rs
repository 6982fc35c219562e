//! The parser against what the real Veneur did with the same packets.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde::Deserialize;

use super::*;
use crate::key::Kind;
use crate::sample::Value;

const RECORDED: &str = include_str!("../../../tests/fixtures/veneur/dogstatsd.json");

/// Recorded packets that we read otherwise on purpose: why, the packet, and what we make of it (`name type value` of each sample).
const DIFFERENCES: &[(&str, &str, &[&str])] = &[
    (
        "sections we do not know are skipped",
        "a.b.c:1|ms|foo",
        &["a.b.c timer 1"],
    ),
    (
        "the timestamp field is accepted",
        "a.b.c:1|c|T1656581400",
        &["a.b.c counter 1"],
    ),
    (
        "the container field is accepted",
        "a.b.c:1|c|#a:1|c:ci-abc|T1656581400",
        &["a.b.c counter 1"],
    ),
    (
        "sets are never packed: their members may hold colons",
        "a.b.c:a:b|s",
        &["a.b.c set a:b"],
    ),
];

#[derive(Deserialize)]
struct Recorded {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    packet: String,
    ok: bool,
    kind: String,
    #[serde(default)]
    metrics: Vec<RecordedMetric>,
    event: Option<RecordedEvent>,
    /// Tags that the table adds: not the parser's business.
    extend_tags: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct RecordedMetric {
    name: String,
    r#type: String,
    value: serde_json::Value,
    sample_rate: f64,
    scope: u8,
    tags: Vec<String>,
    message: Option<String>,
    hostname: Option<String>,
    timestamp: Option<i64>,
}

#[derive(Deserialize)]
struct RecordedEvent {
    title: String,
    text: String,
    tags: BTreeMap<String, String>,
}

/// A sample, owned.
#[derive(Debug, Clone, PartialEq)]
struct Taken {
    name: String,
    kind: &'static str,
    value: Owned,
    rate: f64,
    tags: Option<String>,
}

#[derive(Debug, Clone, PartialEq)]
enum Owned {
    Number(f64),
    Member(String),
    Status {
        status: u8,
        message: String,
        hostname: Option<String>,
        timestamp: Option<i64>,
    },
}

impl Taken {
    fn from(sample: &Sample<'_>) -> Self {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        Self {
            name: text(sample.name),
            kind: sample.kind.as_str(),
            value: match sample.value {
                Value::Number(number) => Owned::Number(number),
                Value::Member(member) => Owned::Member(text(member)),
                Value::Status(check) => Owned::Status {
                    status: check.status,
                    message: check.message.to_owned(),
                    hostname: check.hostname.map(str::to_owned),
                    timestamp: check.timestamp,
                },
            },
            rate: sample.rate,
            tags: sample.tags.map(text),
        }
    }

    fn short(&self) -> String {
        let value = match &self.value {
            Owned::Number(number) => number.to_string(),
            Owned::Member(member) => member.clone(),
            Owned::Status { status, .. } => status.to_string(),
        };
        format!("{} {} {value}", self.name, self.kind)
    }

    /// The scope and the sorted tags that Veneur makes of the raw tags; of a check's tags only whole words count.
    fn scope_and_tags(&self) -> (u8, Vec<String>) {
        let raw = self.tags.as_deref();
        let mut tags: Vec<String> = raw
            .map(|tags| tags.split(',').map(str::to_owned).collect())
            .unwrap_or_default();
        tags.sort_unstable();
        let magic = |tag: &str| {
            [("veneurlocalonly", 1), ("veneurglobalonly", 2)]
                .into_iter()
                .find(|(word, _)| tag == *word || (self.kind != "status" && tag.starts_with(word)))
                .map(|(_, scope)| scope)
        };
        // Veneur stops at the first in the order of the wire.
        let first = raw.and_then(|tags| tags.split(',').find(|tag| magic(tag).is_some()));
        let Some(first) = first else {
            return (0, tags);
        };
        let place = tags.iter().position(|tag| tag == first).unwrap();
        tags.remove(place);
        (magic(first).unwrap(), tags)
    }
}

fn read(line: &[u8]) -> (Vec<Taken>, Vec<Event>, Result<(), ParseError>) {
    let mut samples = Vec::new();
    let mut events = Vec::new();
    let outcome = parse(line, |item| match item {
        Item::Sample(sample) => samples.push(Taken::from(&sample)),
        Item::Event(event) => events.push(*event),
    });
    (samples, events, outcome)
}

fn event(line: &str) -> Event {
    let (_, mut events, outcome) = read(line.as_bytes());
    outcome.unwrap();
    events.pop().unwrap()
}

fn error(line: &str) -> ParseError {
    read(line.as_bytes()).2.unwrap_err()
}

#[test]
fn every_recorded_packet_is_read_as_veneur_reads_it_but_for_the_listed_differences() {
    let recorded: Recorded = serde_json::from_str(RECORDED).unwrap();
    assert_eq!(recorded.cases.len(), 110);
    let mut differences_seen = 0;
    for case in recorded.cases {
        let (samples, events, outcome) = read(case.packet.as_bytes());
        if let Some((why, _, expected)) = DIFFERENCES
            .iter()
            .find(|(_, packet, _)| *packet == case.packet)
        {
            let short: Vec<String> = samples.iter().map(Taken::short).collect();
            assert_eq!(short, *expected, "{why}: {}", case.packet);
            assert_eq!(outcome, Ok(()), "{why}: {}", case.packet);
            differences_seen += 1;
            continue;
        }
        assert_eq!(outcome.is_ok(), case.ok, "{}: {outcome:?}", case.packet);
        if let Err(error) = outcome {
            assert_eq!(error.packet_type(), case.kind, "{}", case.packet);
        }
        assert_eq!(samples.len(), case.metrics.len(), "{}", case.packet);
        for (sample, expected) in samples.iter().zip(&case.metrics) {
            compare_sample(&case, sample, expected);
        }
        assert_eq!(
            events.len(),
            usize::from(case.event.is_some()),
            "{}",
            case.packet
        );
        for (event, expected) in events.iter().zip(&case.event) {
            compare_event(&case, event, expected);
        }
    }
    assert_eq!(differences_seen, DIFFERENCES.len());
}

fn compare_sample(case: &Case, sample: &Taken, expected: &RecordedMetric) {
    let packet = &case.packet;
    assert_eq!(sample.name, expected.name, "{packet}");
    assert_eq!(sample.kind, expected.r#type, "{packet}");
    assert_eq!(
        f64::from(sample.rate as f32),
        expected.sample_rate,
        "{packet}"
    );
    match &sample.value {
        Owned::Number(number) => assert_eq!(Some(*number), expected.value.as_f64(), "{packet}"),
        Owned::Member(member) => {
            assert_eq!(Some(member.as_str()), expected.value.as_str(), "{packet}");
        }
        Owned::Status {
            status,
            message,
            hostname,
            timestamp,
        } => {
            assert_eq!(
                Some(f64::from(*status)),
                expected.value.as_f64(),
                "{packet}"
            );
            assert_eq!(Some(message), expected.message.as_ref(), "{packet}");
            let hostname = hostname.clone().unwrap_or_default();
            assert_eq!(Some(hostname), expected.hostname, "{packet}");
            assert_eq!(*timestamp, expected.timestamp, "{packet}");
        }
    }
    if case.extend_tags.is_none() {
        let expected = (expected.scope, expected.tags.clone());
        assert_eq!(sample.scope_and_tags(), expected, "{packet}");
    }
}

fn compare_event(case: &Case, event: &Event, expected: &RecordedEvent) {
    let packet = &case.packet;
    assert_eq!(event.title, expected.title, "{packet}");
    assert_eq!(event.text, expected.text, "{packet}");
    let word = |key: &str| expected.tags.get(key).map(String::as_str);
    assert_eq!(
        event.priority,
        word("vdogstatsd_pri").unwrap_or("normal"),
        "{packet}"
    );
    assert_eq!(
        event.alert_type,
        word("vdogstatsd_at").unwrap_or("info"),
        "{packet}"
    );
    if case.extend_tags.is_none() {
        let tags: BTreeMap<String, String> = event
            .tags
            .iter()
            .map(|tag| tag.split_once(':').unwrap_or((tag, "")))
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect();
        let mut recorded = expected.tags.clone();
        recorded.retain(|key, _| !key.starts_with("vdogstatsd_"));
        assert_eq!(tags, recorded, "{packet}");
    }
}

#[test]
fn a_rate_that_is_no_number_is_refused() {
    for line in [
        "a:1|c|@NaN",
        "a:1|c|@nan",
        "a:1|c|@Inf",
        "a:1|c|@1.1",
        "a:1|c|@-0",
    ] {
        assert_eq!(
            error(line),
            ParseError::Metric(MetricError::BadRate),
            "{line}"
        );
    }
}

#[test]
fn a_rate_keeps_double_precision() {
    assert_eq!(read(b"a:1|c|@0.1").0[0].rate, 0.1);
    assert_eq!(read(b"a:1|c|@1.00000001").0[0].rate, 1.0);
}

#[test]
fn fields_come_in_any_order() {
    let fields = [
        "@0.5",
        "#a:1,b",
        "c:ci-abc,in-12",
        "T1656581400",
        "e:it-false,cn-x",
        "card:low",
        "future",
    ];
    for first in 0..fields.len() {
        let mut order = fields.to_vec();
        order.rotate_left(first);
        let line = format!("a.b:1:2|d|{}", order.join("|"));
        let (samples, _, outcome) = read(line.as_bytes());
        assert_eq!(outcome, Ok(()), "{line}");
        assert_eq!(samples.len(), 2, "{line}");
        for sample in samples {
            assert_eq!((sample.kind, sample.rate), ("histogram", 0.5), "{line}");
            assert_eq!(sample.tags.as_deref(), Some("a:1,b"), "{line}");
        }
    }
}

#[test]
fn a_timestamp_must_be_a_positive_number_of_seconds() {
    for line in [
        "a:1|c|T0",
        "a:1|c|T-5",
        "a:1|c|T",
        "a:1|c|Tnow",
        "a:1|c|T1.5",
    ] {
        assert_eq!(
            error(line),
            ParseError::Metric(MetricError::BadTimestamp),
            "{line}"
        );
    }
}

#[test]
fn each_way_a_metric_can_be_wrong_has_its_own_error() {
    let wrong = [
        ("a", MetricError::NoPipe),
        ("a|c", MetricError::NoColon),
        (":1|c", MetricError::EmptyName),
        ("a:1|", MetricError::EmptyType),
        ("a:1||@1", MetricError::EmptyType),
        ("a:1|q", MetricError::UnknownType),
        ("a:1|c|", MetricError::EmptySection),
        ("a:1|c||#a", MetricError::EmptySection),
        ("a:x|c", MetricError::BadValue),
        ("a:1|c|@", MetricError::BadRate),
        ("a:1|c|@1|@1", MetricError::RateTwice),
        ("a:1|c|#|#", MetricError::TagsTwice),
    ];
    for (line, expected) in wrong {
        assert_eq!(error(line), ParseError::Metric(expected), "{line}");
    }
}

#[test]
fn an_empty_value_is_nothing_and_a_trailing_colon_is_ignored() {
    assert_eq!(read(b"a:|c"), (vec![], vec![], Ok(())));
    let (samples, _, outcome) = read(b"a:1:|c");
    assert_eq!((samples.len(), outcome), (1, Ok(())));
}

#[test]
fn a_member_of_a_set_is_taken_whole() {
    for member in ["::1", "http://x:80/", ":", "a:", "1e5"] {
        let (samples, _, outcome) = read(format!("ips:{member}|s|#x").as_bytes());
        assert_eq!(outcome, Ok(()));
        assert_eq!(samples[0].value, Owned::Member(member.to_owned()));
    }
}

#[test]
fn names_and_tags_need_not_be_text() {
    let mut taken = Vec::new();
    parse(b"\xff\xfe:1|c|#\x80:\x81", |item| match item {
        Item::Sample(sample) => taken.push((sample.name.to_vec(), sample.tags.map(<[u8]>::to_vec))),
        Item::Event(_) => unreachable!(),
    })
    .unwrap();
    assert_eq!(taken, [(b"\xff\xfe".to_vec(), Some(b"\x80:\x81".to_vec()))]);
}

#[test]
fn an_event_carries_all_of_its_sections() {
    let event = event(
        "_e{5,8}:title|one\\ntwo|k:key|d:1136239445|s:nagios|h:db1|t:error|p:low|#b,a:1|c:ci-x|e:it-y|card:none",
    );
    let expected = Event {
        title: "title".to_owned(),
        text: "one\ntwo".to_owned(),
        timestamp: 1_136_239_445,
        hostname: Some("db1".to_owned()),
        aggregation_key: Some("key".to_owned()),
        priority: "low",
        source_type: Some("nagios".to_owned()),
        alert_type: "error",
        tags: vec!["a:1".to_owned(), "b".to_owned()],
    };
    assert_eq!(event, expected);
}

#[test]
fn an_event_without_a_date_happens_now() {
    let before = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_secs();
    let event = event("_e{1,1}:a|b");
    assert!(u64::try_from(event.timestamp).unwrap() >= before);
    assert_eq!((event.priority, event.alert_type), ("normal", "info"));
}

#[test]
fn lengths_let_title_and_text_hold_pipes_and_letters_of_several_bytes() {
    let event = event("_e{3,4}:a|b|c|ü|p:low");
    assert_eq!(
        (event.title.as_str(), event.text.as_str(), event.priority),
        ("a|b", "c|ü", "low")
    );
}

#[test]
fn each_way_an_event_can_be_wrong_has_its_own_error() {
    let wrong = [
        ("_e{", EventError::NoWrapper),
        ("_e{1,1}", EventError::NoWrapper),
        ("_e{1,1:a|b", EventError::NoWrapper),
        ("_e{1}:a|b", EventError::NoComma),
        ("_e{0,1}:|b", EventError::BadLength),
        ("_e{1,x}:a|b", EventError::BadLength),
        ("_e{99999999999999999999,1}:a|b", EventError::BadLength),
        ("_e{18446744073709551615,1}:a|b", EventError::LengthMismatch),
        ("_e{1,1}:a", EventError::LengthMismatch),
        ("_e{1,1}:a|bc", EventError::LengthMismatch),
        ("_e{1,1}:a|b|", EventError::EmptySection),
        ("_e{1,1}:a|b|h:x|h:x", EventError::SectionTwice),
        ("_e{1,1}:a|b|x:1", EventError::UnknownSection),
        ("_e{1,1}:a|b|d:x", EventError::BadDate),
        ("_e{1,1}:a|b|p:high", EventError::BadPriority),
        ("_e{1,1}:a|b|t:fatal", EventError::BadAlertType),
        // Half of a two-byte letter.
        ("_e{1,1}:a|ü", EventError::LengthMismatch),
    ];
    for (line, expected) in wrong {
        assert_eq!(error(line), ParseError::Event(expected), "{line}");
    }
    let not_text = read(b"_e{1,1}:a|\xff").2;
    assert_eq!(not_text, Err(ParseError::Event(EventError::NotUtf8)));
}

#[test]
fn a_check_may_name_its_sender_behind_the_message() {
    let (samples, _, outcome) =
        read(b"_sc|disk.ok|2|h:db1|#a|m:full\\nvery|c:ci-x|e:it-y|card:low");
    assert_eq!(outcome, Ok(()));
    let expected = Owned::Status {
        status: 2,
        message: "full\nvery".to_owned(),
        hostname: Some("db1".to_owned()),
        timestamp: None,
    };
    assert_eq!(samples[0].value, expected);
    assert_eq!(
        (samples[0].name.as_str(), samples[0].tags.as_deref()),
        ("disk.ok", Some("a"))
    );
}

#[test]
fn each_way_a_check_can_be_wrong_has_its_own_error() {
    let wrong = [
        ("_scx|a|0", CheckError::NoPrefix),
        ("_sc", CheckError::NoName),
        ("_sc||0", CheckError::EmptyName),
        ("_sc|a", CheckError::BadStatus),
        ("_sc|a|00", CheckError::BadStatus),
        ("_sc|a|0||#x", CheckError::EmptySection),
        ("_sc|a|0|#x|#x", CheckError::SectionTwice),
        ("_sc|a|0|x", CheckError::UnknownSection),
        ("_sc|a|0|d:", CheckError::BadDate),
        ("_sc|a|0|m:x|h:y", CheckError::MessageNotLast),
        ("_sc|a|0|m:x|m:y", CheckError::MessageNotLast),
    ];
    for (line, expected) in wrong {
        assert_eq!(error(line), ParseError::Check(expected), "{line}");
    }
    let not_text = read(b"_sc|a|0|m:\xff").2;
    assert_eq!(not_text, Err(ParseError::Check(CheckError::NotUtf8)));
}

#[test]
fn an_error_says_where_and_what() {
    assert_eq!(
        error("a:1|c|@2").to_string(),
        "metric: the sample rate is not a number above 0 and at most 1"
    );
    assert_eq!(
        error("_e{1").to_string(),
        "event: no _e{} around the lengths"
    );
    assert_eq!(
        (error("_sc||0").packet_type(), error("_sc||0").cause()),
        ("service_check", "empty_name")
    );
}

fn check_what_was_taken(item: &Item<'_>) -> Result<(), TestCaseError> {
    match item {
        Item::Sample(sample) => {
            prop_assert!(!sample.name.is_empty());
            prop_assert!(sample.rate > 0.0 && sample.rate <= 1.0);
            match sample.value {
                Value::Number(number) => prop_assert!(number.is_finite()),
                Value::Member(member) => {
                    prop_assert!(sample.kind == Kind::Set && !member.is_empty())
                }
                Value::Status(check) => {
                    prop_assert!(sample.kind == Kind::Status && check.status <= 3)
                }
            }
        }
        Item::Event(event) => prop_assert!(!event.title.is_empty() && !event.text.is_empty()),
    }
    Ok(())
}

proptest! {
    #[test]
    fn no_bytes_panic(line: Vec<u8>) {
        let mut outcome = Ok(());
        let _ = parse(&line, |item| outcome = outcome.clone().and(check_what_was_taken(&item)));
        outcome?;
    }

    #[test]
    fn no_line_of_the_protocols_own_letters_panics(
        line in "(_e\\{[0-9]{1,2},[0-9]{1,2}\\}:|_sc\\||)[a-c:|#@.,{}\\\\0-9Tdhkpstme_-]{0,60}",
    ) {
        let mut outcome = Ok(());
        let _ = parse(line.as_bytes(), |item| outcome = outcome.clone().and(check_what_was_taken(&item)));
        outcome?;
    }

    #[test]
    fn what_was_written_is_read(
        name in "[^_:|\\n][^:|\\n]{0,20}",
        values in prop::collection::vec(-1e9..1e9_f64, 1..6),
        tags in prop::option::of("[^|\\n]{0,40}"),
        rate in 0.001..1.0_f64,
    ) {
        let packed: Vec<String> = values.iter().map(f64::to_string).collect();
        let tag_section = tags.as_ref().map(|tags| format!("|#{tags}")).unwrap_or_default();
        let line = format!("{name}:{}|h{tag_section}|@{rate}", packed.join(":"));
        let (samples, _, outcome) = read(line.as_bytes());
        prop_assert_eq!(outcome, Ok(()));
        let expected: Vec<Taken> = values
            .iter()
            .map(|value| Taken { name: name.clone(), kind: "histogram", value: Owned::Number(*value), rate, tags: tags.clone() })
            .collect();
        prop_assert_eq!(samples, expected);
    }
}
