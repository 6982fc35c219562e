//! The sink through the registry and the runner, on real files.

use std::fs;
use std::os::unix::fs::symlink;
use std::time::Duration;

use serde_json::json;

use super::*;
use crate::key::Tags;
use crate::point::{Point, PointKind, Timestamp};
use crate::sample::Event;
use crate::sink::{SinkConfig, Sinks, registry};

fn batch(name: &str) -> Batch {
    let point = Point {
        base: name.into(),
        suffix: None,
        tags: Tags::new(["env:prod"]),
        kind: PointKind::Counter,
        value: 5.0,
        timestamp: Timestamp::from_seconds(1_700_000_000),
        check: None,
    };
    let event = Event {
        title: "deploy".to_owned(),
        text: String::new(),
        timestamp: 7,
        hostname: None,
        aggregation_key: None,
        priority: "normal",
        source_type: None,
        alert_type: "info",
        tags: Vec::new(),
    };
    Batch {
        points: vec![point].into(),
        distributions: Vec::new(),
        events: vec![event],
        hostname: "g1".into(),
        interval: Duration::from_secs(10),
        receipts: Vec::new(),
    }
}

fn sink(config: serde_json::Value) -> Box<dyn Sink> {
    registry::build("localfile", "file", &config).unwrap_or_else(|problems| panic!("{problems}"))
}

fn names(path: &Path) -> Vec<String> {
    let text = fs::read_to_string(path).unwrap();
    let name = |line: &str| {
        serde_json::from_str::<serde_json::Value>(line).unwrap()["name"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    text.lines().map(name).collect()
}

#[tokio::test]
async fn points_are_appended_as_json_lines_and_events_skipped() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("points.jsonl");
    fs::write(&path, "{\"name\":\"before\"}\n").unwrap();
    let mut sink = sink(json!({"path": path}));
    for name in ["a", "b"] {
        assert_eq!(
            sink.write(&batch(name)).await,
            Ok(Amount {
                points: 1,
                events: 0
            })
        );
    }
    assert_eq!(names(&path), ["before", "a", "b"]);
}

#[tokio::test]
async fn events_are_written_where_asked_for() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("points.jsonl");
    let mut sink = sink(json!({"path": path, "events": true}));
    assert_eq!(
        sink.write(&batch("a")).await,
        Ok(Amount {
            points: 1,
            events: 1
        })
    );
    assert_eq!(names(&path), ["a", "deploy"]);
}

#[tokio::test]
async fn tsv_and_veneurs_key_for_the_path_work() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("points.tsv");
    let mut sink = sink(json!({"flush_file": path, "format": "tsv"}));
    sink.write(&batch("a")).await.unwrap();
    assert_eq!(
        fs::read_to_string(&path).unwrap(),
        "a\tcounter\tenv:prod\tg1\t10\t1700000000\t5\n"
    );
}

#[tokio::test]
async fn a_batch_of_many_chunks_arrives_whole() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("points.jsonl");
    let mut big = batch("a");
    big.points = (0..2 * CHUNK + 3)
        .map(|index| Point {
            base: format!("n{index}").as_str().into(),
            ..big.points[0].clone()
        })
        .collect();
    sink(json!({"path": path})).write(&big).await.unwrap();
    let expected: Vec<_> = (0..2 * CHUNK + 3)
        .map(|index| format!("n{index}"))
        .collect();
    assert_eq!(names(&path), expected);
}

#[test]
fn what_cannot_be_written_to_is_a_problem_before_anything_is_opened() {
    let directory = tempfile::tempdir().unwrap();
    let inside = directory.path().join("missing/points.jsonl");
    let check = |config| registry::check("localfile", &config);
    assert_eq!(
        check(json!({"path": inside})),
        [format!(
            "path: there is no directory `{}`",
            directory.path().join("missing").display()
        )]
    );
    assert_eq!(
        check(json!({"path": directory.path()})),
        [format!(
            "path: `{}` is a directory",
            directory.path().display()
        )]
    );
    assert_eq!(check(json!({"path": ""})), ["path: is empty"]);
    assert_eq!(check(json!({})), ["missing field `path`"]);
    assert_eq!(
        check(json!({"path": "a.tsv", "format": "tsv", "events": true})),
        ["events: needs the format jsonl"]
    );
    let fine = directory.path().join("points.jsonl");
    assert_eq!(check(json!({"path": fine})), Vec::<String>::new());
    assert!(!fine.exists());
}

#[tokio::test]
async fn a_full_disk_keeps_the_batch_and_the_next_flush_writes_both() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("points.jsonl");
    symlink("/dev/full", &path).unwrap();
    let mut direct = sink(json!({"path": path}));
    let error = direct.write(&batch("a")).await.unwrap_err();
    assert!(
        matches!(&error, SinkError::Retriable { after: None, reason } if reason.contains("No space left")),
        "{error:?}"
    );

    let config = SinkConfig {
        config: json!({"path": path}),
        ..SinkConfig::new("localfile")
    };
    let sinks = Sinks::start(&[config], &[]).unwrap();
    sinks.send(Arc::new(batch("a")));
    fs::remove_file(&path).unwrap();
    sinks.send(Arc::new(batch("b")));
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    assert_eq!(sinks.close(deadline).await, []);
    assert_eq!(names(&path), ["a", "b"]);
}
