//! Names, contents and failures.

use std::io::Read as _;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::*;
use crate::key::Tags;
use crate::point::{CheckText, Point, PointKind, Timestamp};
use crate::sink::registry;

fn point(name: &str, kind: PointKind, value: f64, tags: &[&str]) -> Point {
    Point {
        base: name.into(),
        suffix: None,
        tags: Tags::new(tags),
        kind,
        value,
        // 2023-11-14 22:13:20: a time that a clock of twelve hours would write as another.
        timestamp: Timestamp::from_seconds(1_700_000_000),
        check: None,
    }
}

fn batch(points: Vec<Point>) -> Batch {
    Batch {
        points: points.into(),
        hostname: "web/1".into(),
        interval: Duration::from_secs(10),
        ..Batch::default()
    }
}

fn config(config: Value) -> S3Config {
    serde_json::from_value(config).unwrap()
}

fn unpacked(body: &[u8]) -> String {
    let mut text = String::new();
    flate2::read::GzDecoder::new(body)
        .read_to_string(&mut text)
        .unwrap();
    text
}

async fn content(format: &str, batch: &Batch) -> (String, Amount) {
    let encoder = config(json!({"bucket": "b", "format": format})).encoder();
    let object = encoder.object(batch, Amount::default()).await.unwrap();
    assert_eq!(object.done, Amount::of(batch));
    (unpacked(&object.body), object.written)
}

#[tokio::test]
async fn veneurs_columns_have_rates_and_hours_up_to_24() {
    let mut batch = batch(vec![
        point("hits", PointKind::Counter, 25.0, &["a:1", "b"]),
        point("lo\tad", PointKind::Gauge, 0.1, &[]),
        point("up", PointKind::Status, 1.0, &[]),
    ]);
    let (text, written) = content("tsv", &batch).await;
    assert_eq!(
        text,
        "hits\t{a:1,b}\trate\tweb/1\t10\t2023-11-14 22:13:20\t2.5\t20231114\n\
         \"lo\tad\"\t{}\tgauge\tweb/1\t10\t2023-11-14 22:13:20\t0.1\t20231114\n"
    );
    assert_eq!(written.points, 2, "there is no column for a check");
    batch.interval = Duration::ZERO;
    let (text, _) = content("tsv", &batch).await;
    assert!(
        text.starts_with("hits\t{a:1,b}\tcount\tweb/1\t0\t2023-11-14 22:13:20\t25\t"),
        "{text}"
    );
}

#[tokio::test]
async fn csv_keeps_totals_and_checks() {
    let mut check = point("up", PointKind::Status, 1.0, &["a:1", "b"]);
    check.check = Some(Arc::new(CheckText {
        message: "slow, \"very\"\nindeed".to_owned(),
        hostname: Some("db9".to_owned()),
    }));
    let batch = batch(vec![point("hits", PointKind::Counter, 25.0, &[]), check]);
    let (text, written) = content("csv", &batch).await;
    assert_eq!(
        text,
        "name,type,value,timestamp,tags,hostname,interval,message\nhits,counter,25,1700000000,,web/1,10,\n\
         up,status,1,1700000000,\"a:1,b\",db9,10,\"slow, \"\"very\"\"\nindeed\"\n"
    );
    assert_eq!(written.points, 2);
}

#[tokio::test]
async fn a_long_batch_becomes_several_objects_and_the_same_ones_each_time() {
    let name = || {
        (0..60)
            .map(|_| fastrand::alphanumeric())
            .collect::<String>()
    };
    let points = (0..5000).map(|_| point(&name(), PointKind::Gauge, 1.0, &[]));
    let batch = batch(points.collect());
    for compression in ["gzip", "none"] {
        let config = config(
            json!({"bucket": "b", "format": "csv", "compression": compression, "max_object_bytes": "64KiB"}),
        );
        let encoder = config.encoder();
        let (mut done, mut rows, mut objects) = (Amount::default(), 0, 0);
        while done != Amount::of(&batch) {
            let object = encoder.object(&batch, done).await.unwrap();
            let again = encoder.object(&batch, done).await.unwrap();
            assert_eq!(object.body, again.body);
            assert!(object.body.len() < 200 << 10, "{}", object.body.len());
            let text = match compression {
                "gzip" => unpacked(&object.body),
                _ => String::from_utf8(object.body).unwrap(),
            };
            assert!(text.starts_with("name,type,"));
            rows += text.lines().count() - 1;
            objects += 1;
            done = object.done;
        }
        assert_eq!(rows, 5000);
        assert!(objects > 2, "{objects}");
    }
}

#[test]
fn a_name_is_by_the_newest_points_time_and_never_the_same_twice() {
    let mut template = Template::new(
        "p/{year}-{month}-{day}T{hour}{minute}/{hostname}/{sink}/",
        "st/ore",
    )
    .unwrap();
    let mut late = point("b", PointKind::Gauge, 1.0, &[]);
    late.timestamp = Timestamp::from_seconds(1_700_000_100);
    let batch = batch(vec![late, point("a", PointKind::Gauge, 1.0, &[])]);
    let (first, second) = (template.stem(&batch), template.stem(&batch));
    assert!(
        first.starts_with("p/2023-11-14T2215/web_1/st_ore/1700000100-"),
        "{first}"
    );
    assert!(
        first.ends_with("-000001") && second.ends_with("-000002"),
        "{first} {second}"
    );
    assert_eq!(Template::part("a", 0, "tsv.gz"), "a.tsv.gz");
    assert_eq!(Template::part("a", 2, "tsv.gz"), "a-2.tsv.gz");
    let mut empty = Template::new("{hostname}/", "s").unwrap();
    assert!(empty.stem(&Batch::default()).starts_with("none/0-"));
    assert!(Template::new("{host}/", "s").is_err());
    assert!(Template::new("{/", "s").is_err());
}

#[test]
fn a_servers_words_become_a_cause_that_helps() {
    let failure = |status: &str, body: &str| {
        let text = format!("Server returned non-2xx status code: {status}: {body}");
        Failure::of(&object_store::Error::Generic {
            store: "S3",
            source: text.into(),
        })
    };
    let xml =
        |code: &str| format!("<Error><Code>{code}</Code><Message>words\nhere</Message></Error>");
    for (status, code, outcome, human) in [
        (
            "403 Forbidden",
            "SignatureDoesNotMatch",
            "unauthorized",
            true,
        ),
        ("403 Forbidden", "InvalidAccessKeyId", "unauthorized", true),
        ("403 Forbidden", "AccessDenied", "unauthorized", true),
        ("403 Forbidden", "RequestTimeTooSkewed", "clock", true),
        ("404 Not Found", "NoSuchBucket", "no_bucket", true),
        (
            "400 Bad Request",
            "AuthorizationHeaderMalformed",
            "region",
            true,
        ),
        ("301 Moved", "PermanentRedirect", "region", true),
        ("503 Unavailable", "SlowDown", "throttled", false),
        ("500 Oops", "InternalError", "unavailable", false),
        ("400 Bad Request", "EntityTooLarge", "too_large", true),
    ] {
        let failure = failure(status, &xml(code));
        assert_eq!(
            (failure.outcome(), failure.needs_a_human()),
            (outcome, human),
            "{code}"
        );
        assert!(
            failure
                .to_string()
                .ends_with(&format!("{code}: words here")),
            "{failure}"
        );
    }
    assert_eq!(failure("502 Bad Gateway", "").outcome(), "unavailable");
    let nowhere =
        "Error performing PUT http://169.254.169.254/latest/api/token in 1s - HTTP error: no route";
    let nowhere = Failure::of(&object_store::Error::Generic {
        store: "S3",
        source: nowhere.into(),
    });
    assert_eq!(
        (nowhere.outcome(), nowhere.needs_a_human()),
        ("credentials", true)
    );
}

#[test]
fn each_wrong_setting_is_named() {
    let check = |config: Value| registry::check("s3", &config);
    for fine in [
        json!({"bucket": "b"}),
        json!({"s3_bucket": "b", "region": "eu-west-1", "access_key_id": "i", "secret_access_key": "s"}),
        json!({"bucket": "b", "access_key_id_file": "/i", "secret_access_key_file": "/s", "session_token_file": "/t"}),
    ] {
        assert_eq!(check(fine.clone()), Vec::<String>::new(), "{fine}");
    }
    for (key, config) in [
        ("bucket: ", json!({})),
        ("bucket: ", json!({"bucket": "a/b"})),
        (
            "endpoint: ",
            json!({"bucket": "b", "endpoint": "minio:9000"}),
        ),
        (
            "secret_access_key: ",
            json!({"bucket": "b", "access_key_id": "i"}),
        ),
        (
            "access_key_id: ",
            json!({"bucket": "b", "secret_access_key": "s"}),
        ),
        (
            "access_key_id: ",
            json!({"bucket": "b", "access_key_id": "i", "access_key_id_file": "/i", "secret_access_key": "s"}),
        ),
        (
            "session_token_file: ",
            json!({"bucket": "b", "session_token_file": "/t"}),
        ),
        ("prefix: ", json!({"bucket": "b", "prefix": "{host}/"})),
        ("prefix: ", json!({"bucket": "b", "prefix": "/a"})),
        (
            "max_object_bytes: ",
            json!({"bucket": "b", "max_object_bytes": 5}),
        ),
        ("flush_points: ", json!({"bucket": "b", "flush_points": 0})),
    ] {
        let found = check(config.clone());
        assert!(
            found.len() == 1 && found[0].starts_with(key),
            "{config}: {found:?}"
        );
    }
}
