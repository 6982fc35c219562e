//! Lines are what InfluxDB reads back as it was meant: by a small parser that knows nothing of the writer.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::point::{CheckText, Timestamp};

/// A line as InfluxDB understands it.
#[derive(Debug, PartialEq)]
struct Parsed {
    measurement: String,
    /// In the order in which they came.
    tags: Vec<(String, String)>,
    fields: Vec<(String, Field)>,
    timestamp: i64,
}

#[derive(Debug, Clone, PartialEq)]
enum Field {
    Float(f64),
    Integer(i64),
    Text(String),
}

/// Up to the first unescaped character of `ends`, with what those characters escape taken back; a backslash before anything else is one.
fn until(text: &mut &str, ends: &[char], escaped: &[char]) -> String {
    let mut found = String::new();
    let mut chars = text.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' if chars.peek().is_some_and(|(_, next)| escaped.contains(next)) => {
                found.extend(chars.next().map(|(_, next)| next));
            }
            c if ends.contains(&c) => {
                *text = &text[at..];
                return found;
            }
            c => found.push(c),
        }
    }
    *text = "";
    found
}

fn parse_line(mut text: &str) -> Parsed {
    let measurement = until(&mut text, &[',', ' '], &[',', ' ']);
    let mut tags = Vec::new();
    while let Some(rest) = text.strip_prefix(',') {
        text = rest;
        let key = until(&mut text, &['='], &[',', '=', ' ']);
        text = &text[1..];
        tags.push((key, until(&mut text, &[',', ' '], &[',', '=', ' '])));
    }
    let mut fields = Vec::new();
    while fields.is_empty() || text.starts_with(',') {
        text = &text[1..];
        let key = until(&mut text, &['='], &[',', '=', ' ']);
        text = &text[1..];
        let value = if let Some(rest) = text.strip_prefix('"') {
            text = rest;
            let value = until(&mut text, &['"'], &['"', '\\']);
            text = &text[1..];
            Field::Text(value)
        } else {
            let value = until(&mut text, &[',', ' '], &[]);
            match value.strip_suffix('i') {
                Some(integer) => Field::Integer(integer.parse().unwrap()),
                None => {
                    assert!(!value.contains(['e', 'E']), "{value}");
                    Field::Float(value.parse().unwrap())
                }
            }
        };
        fields.push((key, value));
    }
    Parsed {
        measurement,
        tags,
        fields,
        timestamp: text.trim_start().parse().unwrap(),
    }
}

fn point(base: &str, suffix: &str, tags: &[&str], value: f64) -> Point {
    Point {
        base: base.into(),
        suffix: (!suffix.is_empty()).then(|| suffix.into()),
        tags: Tags::sorted(tags.to_vec()),
        kind: PointKind::Gauge,
        value,
        timestamp: Timestamp::from_nanos(1_700_000_000_000_000_042),
        check: None,
    }
}

fn batch(points: Vec<Point>) -> Batch {
    Batch {
        points: points.into(),
        ..Batch::default()
    }
}

fn write_all(batch: &Batch) -> (String, Changed) {
    let mut writer = LineWriter::new(LineFormat::default());
    let (mut out, mut at) = (Vec::new(), 0);
    let end = batch.points.len() + batch.events.len();
    while at < end {
        at += writer.write(batch, at..end, &mut out);
    }
    assert_eq!(at, end);
    (String::from_utf8(out).unwrap(), writer.changed())
}

fn lines(points: Vec<Point>) -> String {
    write_all(&batch(points)).0
}

const TIME: &str = "1700000000000000042";

#[test]
fn what_was_measured_together_is_one_line_with_sorted_fields() {
    let tags = ["env:prod", "az:1"];
    let text = lines(vec![
        point("api.latency", ".max", &tags, 9.5),
        point("api.latency", ".99percentile", &tags, 9.0),
        Point {
            kind: PointKind::Counter,
            ..point("api.latency", ".count", &tags, 3.0)
        },
        point("api.latency", ".max", &["env:dev"], 1.0),
        point("api.orders", "", &[], 1.0),
        point("api.orders", "", &[], 2.0),
    ]);
    let expected = [
        "api.latency,az=1,env=prod 99percentile=9,count=3,max=9.5",
        "api.latency,env=dev max=1",
        "api.orders value=1",
        "api.orders value=2",
    ];
    assert_eq!(
        text,
        expected.map(|line| format!("{line} {TIME}\n")).concat()
    );
}

#[test]
fn another_time_is_another_line_and_so_is_a_65th_field() {
    let later = Point {
        timestamp: Timestamp::from_nanos(7),
        ..point("a", ".x", &[], 1.0)
    };
    assert_eq!(
        lines(vec![point("a", ".y", &[], 1.0), later]),
        format!("a y=1 {TIME}\na x=1 7\n")
    );
    let many = (0..65)
        .map(|n| point("a", &format!(".f{n:02}"), &[], 1.0))
        .collect();
    assert_eq!(lines(many).lines().count(), 2);
}

#[test]
fn a_range_ends_a_line() {
    let batch = batch(vec![point("a", ".x", &[], 1.0), point("a", ".y", &[], 1.0)]);
    let mut writer = LineWriter::new(LineFormat::default());
    let mut out = Vec::new();
    assert_eq!(writer.write(&batch, 0..1, &mut out), 1);
    assert_eq!(out, format!("a x=1 {TIME}\n").into_bytes());
}

#[test]
fn tags_are_sorted_by_key_and_odd_ones_have_a_rule() {
    let tags = [
        "a-b:1",
        "a:2",
        "bare",
        "empty:",
        ":no_key",
        "colons:x:y",
        "a:3",
        "time:noon",
    ];
    let (text, changed) = write_all(&batch(vec![point("m", "", &tags, 1.0)]));
    assert_eq!(
        text,
        format!("m,a=2,a-b=1,bare=true,colons=x:y,time_=noon value=1 {TIME}\n")
    );
    assert_eq!(
        changed,
        Changed {
            character: 0,
            reserved: 1,
            no_key: 1,
            repeated: 1
        }
    );
}

#[test]
fn whole_numbers_by_nature_are_integers_and_others_plain_decimals() {
    let of = |kind, value| {
        let text = lines(vec![Point {
            kind,
            ..point("m", "", &[], value)
        }]);
        text.split([' ', '=']).nth(2).unwrap().to_owned()
    };
    for (value, text) in [
        (1.0, "1"),
        (-3.0, "-3"),
        (0.0, "0"),
        (-0.0, "-0"),
        (0.1, "0.1"),
        (1.212661987393707, "1.212661987393707"),
        (1e21, "1000000000000000000000"),
        (-2.5e-7, "-0.00000025"),
        (9_007_199_254_740_993.0, "9007199254740992"),
        (1e300, &format!("1{}", "0".repeat(300))),
    ] {
        assert_eq!(of(PointKind::Gauge, value), text);
        assert_eq!(of(PointKind::Counter, value), text);
    }
    for (value, text) in [
        (512.0, "512i"),
        (0.0, "0i"),
        (2.6, "3i"),
        (1e300, "9223372036854775807i"),
    ] {
        assert_eq!(of(PointKind::Integer, value), text);
    }
}

#[test]
fn a_check_has_its_state_its_words_and_its_host() {
    let check = |message: &str, hostname: Option<&str>| Point {
        kind: PointKind::Status,
        check: Some(Arc::new(CheckText {
            message: message.to_owned(),
            hostname: hostname.map(str::to_owned),
        })),
        ..point("db.up", "", &["env:prod"], 2.0)
    };
    let text = lines(vec![
        check("not \"well\" \\\nat all", Some("db1")),
        check("", None),
    ]);
    let expected = format!(
        "db.up,env=prod,host=db1 value=2i,message=\"not \\\"well\\\" \\\\\nat all\" {TIME}\ndb.up,env=prod value=2i {TIME}\n"
    );
    assert_eq!(text, expected);
}

#[test]
fn the_host_is_a_tag_of_what_was_measured_here() {
    let own = |points: Vec<Point>, interval| Batch {
        hostname: "web 1".into(),
        interval: Duration::from_secs(interval),
        ..batch(points)
    };
    let points = vec![
        point("m", "", &["a:1", "z:1"], 1.0),
        point("m", "", &["host:x"], 1.0),
    ];
    let (text, changed) = write_all(&own(points.clone(), 10));
    assert_eq!(
        text,
        format!("m,a=1,host=web\\ 1,z=1 value=1 {TIME}\nm,host=x value=1 {TIME}\n")
    );
    assert_eq!(changed, Changed::default());
    let (text, _) = write_all(&own(points, 0));
    assert_eq!(
        text,
        format!("m,a=1,z=1 value=1 {TIME}\nm,host=x value=1 {TIME}\n")
    );
}

#[test]
fn what_a_line_cannot_carry_becomes_an_underscore_and_is_counted() {
    for (base, tag, text) in [
        ("a\nb", "k:v\r\n", "a_b,k=v__"),
        ("#a", "k:v", "_a,k=v"),
        ("a\\", "k:C:\\", "a_,k=C:_"),
        ("\ta", "k:a\\ b", "_a,k=a_\\ b"),
    ] {
        let (line, changed) = write_all(&batch(vec![point(base, "", &[tag], 1.0)]));
        assert_eq!(line, format!("{text} value=1 {TIME}\n"));
        assert!(changed.character > 0);
    }
    let (line, _) = write_all(&batch(vec![point("m", ".a\\b c,d=e", &[], 1.0)]));
    assert_eq!(line, format!("m a_b\\ c\\,d\\=e=1 {TIME}\n"));
    assert_eq!(lines(vec![point("", "", &[], 1.0)]), "", "it has no name");
}

#[test]
fn events_are_texts_and_those_of_one_second_stay_apart() {
    let event = |title: &str| Event {
        title: title.to_owned(),
        text: "of \"two\"\nlines".to_owned(),
        timestamp: 1_700_000_000,
        hostname: None,
        aggregation_key: None,
        priority: "normal",
        source_type: Some("ci".to_owned()),
        alert_type: "info",
        tags: vec!["app:web".to_owned(), "env:prod".to_owned()],
    };
    let batch = Batch {
        events: vec![event("deploy"), event("rollback"), event("deploy")],
        hostname: "h".into(),
        ..Batch::default()
    };
    let (text, _) = write_all(&batch);
    let first = text.strip_prefix("events,app=web,env=prod,host=h alert_type=\"info\",priority=\"normal\",source_type=\"ci\",text=\"of \\\"two\\\"\nlines\",title=\"deploy\" 1700000000000");
    assert!(first.is_some(), "{text}");
    let times: Vec<&str> = text
        .lines()
        .filter_map(|line| line.rsplit_once(' '))
        .map(|(_, time)| time)
        .filter(|time| time.starts_with('1'))
        .collect();
    assert_eq!(times.len(), 3, "{text}");
    assert_ne!(times[0], times[1]);
    assert_eq!(times[0], times[2], "the same event twice is one");
}

/// Each line that the program which wrote to InfluxDB before made of Cloud Foundry's events, read and written again, is the same bytes.
#[test]
fn lines_of_cloud_foundry_are_written_byte_for_byte() {
    let cases: Vec<serde_json::Value> =
        serde_json::from_str(include_str!("../../../../tests/fixtures/cf/events.json")).unwrap();
    let wanted: Vec<&str> = cases
        .iter()
        .filter_map(|case| case["influx_line"].as_str())
        .collect();
    assert_eq!(wanted.len(), 7);
    let mut points = Vec::new();
    for line in &wanted {
        let parsed = parse_line(line);
        let tags: Vec<String> = parsed
            .tags
            .iter()
            .map(|(key, value)| format!("{key}:{value}"))
            .collect();
        for (key, field) in &parsed.fields {
            let (kind, value) = match field {
                Field::Integer(value) => (PointKind::Integer, *value as f64),
                Field::Float(value) => (PointKind::Gauge, *value),
                Field::Text(text) => panic!("{text}"),
            };
            points.push(Point {
                kind,
                timestamp: Timestamp::from_nanos(parsed.timestamp),
                tags: Tags::sorted(tags.clone()),
                ..point(&parsed.measurement, &format!(".{key}"), &[], value)
            });
        }
    }
    let text = lines(points);
    assert_eq!(text.lines().collect::<Vec<_>>(), wanted);
}

/// Text of the characters that matter.
fn text() -> impl Strategy<Value = String> {
    "[ab\\\\,= \"#:é\n\t]{0,6}"
}

/// What a line carries in place of a text.
fn carried(text: &str, field: bool) -> String {
    let bytes: Vec<char> = text.chars().collect();
    let one = |(at, c): (usize, &char)| match c {
        '\\' if field || matches!(bytes.get(at + 1), None | Some(' ')) => '_',
        c if c.is_control() => '_',
        c => *c,
    };
    bytes.iter().enumerate().map(one).collect()
}

proptest! {
    #[test]
    fn every_text_comes_back(
        base in text().prop_filter("a name", |base| !base.is_empty()),
        suffix in text(),
        tags in prop::collection::btree_map("[ab\\\\,= \"#é\n]{1,5}", text(), 0..4),
        message in text(),
        value in any::<f64>().prop_filter("finite", |value| value.is_finite()),
        time in any::<i64>(),
    ) {
        let joined: Vec<String> = tags.iter().map(|(key, value)| format!("{key}:{value}")).collect();
        let check = CheckText { message: message.clone(), hostname: None };
        let point = Point {
            base: base.as_str().into(),
            suffix: Some(format!(".{suffix}").into()),
            tags: Tags::sorted(joined),
            timestamp: Timestamp::from_nanos(time),
            check: Some(Arc::new(check)),
            ..point("", "", &[], value)
        };
        let line = lines(vec![point]);
        let parsed = parse_line(line.strip_suffix('\n').unwrap());
        let mut measurement = carried(&base, false);
        if measurement.starts_with('#') {
            measurement.replace_range(..1, "_");
        }
        prop_assert_eq!(parsed.measurement, measurement);
        let expected: Vec<(String, String)> = (tags.iter())
            .filter(|(_, value)| !value.is_empty())
            .map(|(key, value)| (carried(key, false), carried(value, false)))
            .collect();
        prop_assert_eq!(parsed.tags, expected);
        let field = match carried(&suffix, true) {
            suffix if suffix.is_empty() => "value".to_owned(),
            suffix => suffix,
        };
        let fields: BTreeMap<_, _> = parsed.fields.into_iter().collect();
        prop_assert_eq!(fields.get(&field), Some(&Field::Float(value)));
        if !message.is_empty() {
            prop_assert_eq!(fields.get("message"), Some(&Field::Text(message)));
        }
        prop_assert_eq!(parsed.timestamp, time);
    }
}
