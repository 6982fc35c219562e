//! The recorded messages, and what no message should be.

use serde_json::{Value, json};

use super::*;
use crate::enrich::cloudfoundry::{App, Named};
use crate::point::{Point, PointKind};

const RECORDED: &str = include_str!("../../tests/fixtures/cf/events.json");
const APPS: &str = include_str!("../../tests/fixtures/cf/cf_api_synthetic.json");

/// The applications of the recorded API.
fn app(guid: Guid) -> Option<App> {
    let api: Value = serde_json::from_str(APPS).unwrap();
    let (first, second) = (&api["GET /v3/apps page 1"], &api["GET /v3/apps page 2"]);
    let listed = |page: &Value, list: &str, guid: &str| -> Option<Value> {
        let list = page.pointer(list)?.as_array()?;
        list.iter().find(|entry| entry["guid"] == guid).cloned()
    };
    let named = |value: &Value| Named {
        guid: value["guid"].as_str().unwrap().to_owned(),
        name: value["name"].as_str().unwrap().to_owned(),
    };
    for page in [first, second] {
        let Some(found) = listed(page, "/resources", &guid.to_string()) else {
            continue;
        };
        let space = found["relationships"]["space"]["data"]["guid"].as_str()?;
        let space = listed(page, "/included/spaces", space)?;
        let org = space["relationships"]["organization"]["data"]["guid"].as_str()?;
        let org = listed(page, "/included/organizations", org)?;
        let name = found["name"].as_str()?;
        return Some(App::new(guid, name, &named(&space), &named(&org)));
    }
    None
}

/// One line of InfluxDB's protocol from points that belong together.
fn line(points: &[Point]) -> String {
    let first = &points[0];
    let escaped = |text: &str| {
        text.replace(',', "\\,")
            .replace('=', "\\=")
            .replace(' ', "\\ ")
    };
    let mut line = first.base.to_string();
    for tag in first.tags.iter() {
        let (key, value) = tag.split_once(':').unwrap();
        line += &format!(",{}={}", escaped(key), escaped(value));
    }
    for (index, point) in points.iter().enumerate() {
        assert_eq!(point.base, first.base);
        assert_eq!(point.tags, first.tags);
        assert_eq!(point.timestamp, first.timestamp);
        let field = point.suffix.as_deref().unwrap().strip_prefix('.').unwrap();
        let separator = if index == 0 { ' ' } else { ',' };
        line += &format!("{separator}{field}=");
        if point.kind == PointKind::Integer {
            line += &format!("{}i", point.value);
        } else {
            // Not `{}`: of two shortest numbers that are equally near it takes the larger one.
            let mut buffer = ryu::Buffer::new();
            let text = buffer.format_finite(point.value);
            line += text.strip_suffix(".0").unwrap_or(text);
        }
    }
    format!("{line} {}", first.timestamp.nanos())
}

fn points(event: &Event, app: &App) -> Vec<Point> {
    let mut points = Vec::new();
    event.points(app, &mut points);
    points
}

#[test]
fn each_recorded_message_makes_the_recorded_line() {
    let recorded: Vec<Value> = serde_json::from_str(RECORDED).unwrap();
    assert!(recorded.len() > 15);
    for case in recorded {
        let name = case["name"].as_str().unwrap();
        let parsed = parse(case["message"].as_str().unwrap().as_bytes());
        let poison = ["container_metric_no_quota", "not_json", "bad_base64"];
        assert_eq!(
            parsed.is_err(),
            poison.contains(&name),
            "{name}: {parsed:?}"
        );
        let event = parsed.ok().flatten();
        let app = event.as_ref().and_then(|event| app(event.app?));
        let made = app.map(|app| line(&points(&event.unwrap(), &app)));
        assert_eq!(made.as_deref(), case["influx_line"].as_str(), "{name}");
    }
}

fn envelope(change: impl FnOnce(&mut Value)) -> Vec<u8> {
    let mut envelope = json!({"eventType": 9, "timestamp": 5, "containerMetric": {
        "applicationId": "be268fe2-00cc-41c6-8b7f-0fdb65e25060", "instanceIndex": 1, "cpuPercentage": 1.5,
        "memoryBytes": 1, "diskBytes": 2, "memoryBytesQuota": 4, "diskBytesQuota": 8}});
    change(&mut envelope);
    envelope.to_string().into_bytes()
}

fn http(change: impl FnOnce(&mut Value)) -> Vec<u8> {
    let mut envelope = json!({"timestamp": 5, "httpStartStop": {
        "startTimestamp": 7, "stopTimestamp": 1_500_000_007, "applicationId": {"low": 1, "high": u64::MAX}}});
    change(&mut envelope["httpStartStop"]);
    envelope.to_string().into_bytes()
}

fn log_of(change: impl FnOnce(&mut Value)) -> Vec<u8> {
    let mut envelope = json!({"eventType": "LogMessage", "logMessage": {
        "message": "aGVsbG8=", "message_type": "ERR", "timestamp": 9, "app_id": "", "source_type": "APP"}});
    change(&mut envelope["logMessage"]);
    envelope.to_string().into_bytes()
}

fn read(payload: &[u8]) -> Event {
    parse(payload).unwrap().unwrap()
}

fn cause(payload: &[u8]) -> &'static str {
    let poison = parse(payload).unwrap_err();
    assert!(!poison.to_string().is_empty());
    poison.cause()
}

#[test]
fn keys_match_in_any_letter_case_and_the_last_of_two_counts() {
    let text = String::from_utf8(envelope(|_| ())).unwrap();
    assert_eq!(read(text.to_uppercase().as_bytes()), read(text.as_bytes()));
    let twice = text.replacen("\"timestamp\":5", "\"timestamp\":4,\"TimeStamp\":6", 1);
    assert_eq!(read(twice.as_bytes()).timestamp.nanos(), 6);
}

#[test]
fn names_stand_for_the_numbers_of_enums() {
    let event = read(&log_of(|_| ()));
    let stream = "ERR".into();
    assert_eq!(event.kind, Kind::Log { stream, size: 5 });
    let event = read(&http(|http| http["method"] = json!("PATCH")));
    assert!(matches!(event.kind, Kind::HttpRequest { method, .. } if method == "PATCH"));
    assert_eq!(
        cause(&envelope(|e| e["eventType"] = json!("Nonsense"))),
        "unknown_name"
    );
    assert_eq!(
        cause(&http(|http| http["method"] = json!("Get"))),
        "unknown_name"
    );
}

#[test]
fn an_absent_kind_is_a_request_and_absent_numbers_are_zero() {
    let event = read(&http(|_| ()));
    let method = "GET".into();
    assert_eq!(
        event.kind,
        Kind::HttpRequest {
            method,
            status_code: 0,
            duration: 1.5,
            response_size: 0
        }
    );
    assert_eq!(event.instance, Instance::Index(0));
    assert_eq!(event.app, Some(Guid::from_halves(1, u64::MAX)));
    assert_eq!(event.timestamp.nanos(), 7);
}

#[test]
fn kinds_and_sources_that_are_not_stored_are_no_events() {
    for number in [1, 6, 7, 8, 10, -1] {
        assert_eq!(
            parse(&envelope(|e| e["eventType"] = json!(number))),
            Ok(None),
            "{number}"
        );
    }
    for source in ["API", "CELL", "STG", "SSH", "LGR", "app", "", "xAPP"] {
        let payload = log_of(|log| log["source_type"] = json!(source));
        assert_eq!(parse(&payload), Ok(None), "{source}");
    }
}

#[test]
fn a_router_s_log_is_of_the_router_whatever_stream_it_names() {
    let event = read(&log_of(|log| log["source_type"] = json!("RTR/1")));
    assert!(matches!(event.kind, Kind::Log { stream, .. } if stream == "RTR"));
}

#[test]
fn what_is_wrong_has_a_cause() {
    for (payload, expected) in [
        ("", "not_json"),
        ("This is not", "not_json"),
        ("{\"eventType\":9", "not_json"),
        ("{} {}", "not_json"),
        ("[]", "not_envelope"),
        ("null", "not_envelope"),
        ("{\"timestamp\":\"5\"}", "not_envelope"),
        ("{\"timestamp\":1.5}", "not_envelope"),
        ("{\"eventType\":99999999999}", "not_envelope"),
        ("{\"timestamp\":99999999999999999999}", "not_envelope"),
        ("{}", "no_body"),
        ("{\"eventType\":5,\"logMessage\":null}", "no_body"),
        ("{\"eventType\":9,\"httpStartStop\":{}}", "no_body"),
        ("{\"httpStartStop\":{}}", "no_timestamp"),
        (
            "{\"eventType\":9,\"containerMetric\":{\"cpuPercentage\":1e999}}",
            "not_json",
        ),
    ] {
        assert_eq!(cause(payload.as_bytes()), expected, "{payload}");
    }
    let container = |key: &str, value: Value| envelope(|e| e["containerMetric"][key] = value);
    assert_eq!(cause(&container("memoryBytesQuota", json!(0))), "no_quota");
    assert_eq!(cause(&container("diskBytesQuota", json!(null))), "no_quota");
    assert_eq!(
        cause(&container("memoryBytes", json!(EXACT + 1))),
        "out_of_range"
    );
    assert_eq!(
        cause(&container("diskBytesQuota", json!(u64::MAX))),
        "out_of_range"
    );
    assert_eq!(cause(&container("diskBytes", json!(-1))), "not_envelope");
    assert_eq!(
        cause(&envelope(|e| e["timestamp"] = json!(null))),
        "no_timestamp"
    );
    assert_eq!(
        cause(&http(|http| http["contentLength"] = json!(i64::MIN))),
        "out_of_range"
    );
    assert_eq!(
        cause(&http(|http| http["startTimestamp"] = json!(i64::MIN))),
        "out_of_range"
    );
    assert_eq!(
        cause(&log_of(|log| log["message"] = json!("aGVsbG8"))),
        "not_base64"
    );
    assert_eq!(
        cause(&log_of(|log| log["timestamp"] = json!(null))),
        "no_timestamp"
    );
    let deep = format!("{{\"x\":{}1{}}}", "[".repeat(100_000), "]".repeat(100_000));
    let _ = parse(deep.as_bytes());
}

#[test]
fn every_cut_and_every_changed_byte_of_a_message_is_read_without_harm() {
    let recorded: Vec<Value> = serde_json::from_str(RECORDED).unwrap();
    for case in recorded {
        let message = case["message"].as_str().unwrap().as_bytes();
        for end in 0..message.len() {
            let _ = parse(&message[..end]);
            for byte in [0, b'"', b'9', 0xff] {
                let mut changed = message.to_vec();
                changed[end] = byte;
                let _ = parse(&changed);
            }
        }
    }
}

#[test]
fn an_instance_is_an_index_where_it_is_written_as_one() {
    for index in [0, 1, 10, i32::MAX] {
        assert_eq!(Instance::of(&index.to_string()), Instance::Index(index));
    }
    for text in ["", "00", "01", "+1", "-0", "-1", "a", "99999999999"] {
        assert_eq!(Instance::of(text), Instance::Other(text.into()));
    }
}

#[test]
fn tags_carry_any_name_and_leave_out_what_is_empty() {
    let guid = Guid::parse("be268fe2-00cc-41c6-8b7f-0fdb65e25060").unwrap();
    let named = |guid: &str, name: &str| Named {
        guid: guid.to_owned(),
        name: name.to_owned(),
    };
    let space = named("s1", "a:b=c, d");
    let app = App::new(guid, "we\u{1f}b:1", &space, &named("", "über"));
    let event = read(&log_of(|log| log["source_instance"] = json!("x\u{1f}y")));
    let points = points(&event, &app);
    let tags: Vec<&str> = points[0].tags.iter().collect();
    assert_eq!(
        tags,
        [
            "app:we b:1",
            "app_guid:be268fe2-00cc-41c6-8b7f-0fdb65e25060",
            "instance:x y",
            "org:über",
            "space:a:b=c, d",
            "space_guid:s1",
            "type:ERR"
        ]
    );
    assert!(tags.is_sorted());
}
