use std::collections::HashMap;
use std::io::Cursor;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream;
use parking_lot::Mutex;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::form::{Form, FormError, Limits};
use super::queue::{MAX_WAITING, Queue, Work};
use super::request::{Request, Variables, info, with_info};
use super::status::Status;
use super::store::Posted;

const EXAMPLE: &str = "Device ID,012383\nSerial Number,1234579853\nLocation,Warehouse 2\nFrom,16/05/2020\nTo,16/05/2020\n\
    Date,Roof Temperature,Floor Temperature\n16-05-2020 11:00,45.72,22.78\n16-05-2020 11:15,45.94,22.92\n";

const NOW: i64 = 1_700_000_000;

fn variables(more: &[(&str, &str)]) -> Variables {
    let all = [
        ("key", "484166bf-df66-4f7d-ad4a-9336da9ef620"),
        ("parent_metric_namespace", "temp.w"),
        ("timezone", "GMT"),
        ("format", "csv"),
        ("archive", "none"),
        ("date_orientation", "rows"),
        ("header_row", "0"),
        ("skip_rows", "5"),
        ("columns_to_metrics", "date,roof,floor"),
    ];
    let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    all.iter().chain(more).map(own).collect()
}

fn refusal(more: &[(&str, &str)]) -> String {
    Request::new(&variables(more)).unwrap_err().to_string()
}

#[test]
fn what_a_form_lacks_or_has_wrong_is_said_in_fluxs_words() {
    for name in ["format", "archive", "timezone", "columns_to_metrics"] {
        assert_eq!(
            refusal(&[(name, "")]),
            format!("no {name} in the POST variables")
        );
    }
    assert_eq!(
        refusal(&[("format", "pdf")]),
        "pdf is not an accepted format"
    );
    assert_eq!(
        refusal(&[("archive", "rar")]),
        "rar is not an accepted archive type"
    );
    assert_eq!(
        refusal(&[("archive", "tar_gz")]),
        "error - tar.gz archives are not accepted"
    );
    assert_eq!(
        refusal(&[("timezone", "Mars/Base")]),
        "Mars/Base is not an accepted timezone"
    );
    assert_eq!(
        refusal(&[("date_orientation", "up")]),
        "up is not a valid date_orientation"
    );
    assert_eq!(
        refusal(&[("header_row", "x")]),
        "x is not a valid header_row"
    );
    assert_eq!(
        refusal(&[("skip_rows", "x")]),
        "skip_row must be none or int"
    );
    refusal(&[("parent_metric_namespace", "a/b")]);
    refusal(&[("columns_to_metrics", "when,roof")]);
    assert_eq!(
        Request::new(&variables(&[("skip_rows", "none")]))
            .unwrap()
            .skip_rows,
        0
    );
}

#[test]
fn an_info_file_says_what_the_form_does_not_but_not_whose_it_is() {
    let file = info(
        br#"{"skip_rows": 7, "dryrun": "true", "parent_metric_namespace": "other", "key": "k"}"#,
    )
    .unwrap();
    let request = Request::new(&with_info(variables(&[]), file)).unwrap();
    assert_eq!(
        (request.skip_rows, request.dryrun, &*request.parent),
        (7, true, "temp.w")
    );
    info(b"{'skip_rows': 5}").unwrap_err();
    info(br#"{"columns_to_metrics": ["date"]}"#).unwrap_err();
}

#[tokio::test]
async fn a_form_is_read_within_its_limits() {
    let body = "--b\r\nContent-Disposition: form-data; name=\"key\"\r\n\r\nsecret\r\n--b\r\nContent-Disposition: form-data; name=\"data_file\"; \
        filename=\"a.csv\"\r\nContent-Type: text/csv\r\n\r\n1,2\r\n--b--\r\n";
    let read = |body: &'static str, limit| {
        let body = stream::iter([Ok::<_, std::io::Error>(Bytes::from_static(body.as_bytes()))]);
        Form::read(
            Some("multipart/form-data; boundary=b"),
            body,
            Limits { body: limit },
        )
    };
    let form = read(body, 1_000).await.unwrap();
    assert_eq!(form.variables["key"], "secret");
    let data = form.data.unwrap();
    assert_eq!((&*data.name, &*data.bytes), ("a.csv", &b"1,2"[..]));
    assert!(matches!(read(body, 100).await, Err(FormError::TooLarge)));
    let cut = body.get(..150).unwrap();
    assert!(matches!(read(cut, 1_000).await, Err(FormError::Broken(_))));
    let empty = stream::iter([Ok::<_, std::io::Error>(Bytes::new())]);
    let not = Form::read(Some("text/plain"), empty, Limits { body: 10 }).await;
    assert!(matches!(not, Err(FormError::NotAForm)));
}

/// Keeps what it is given, and is away as often as it is told.
#[derive(Default)]
struct Kept {
    points: Mutex<HashMap<String, Vec<(i64, f64)>>>,
    away: Mutex<u32>,
}

#[async_trait]
impl Work for Kept {
    async fn last(&self, metric: &str) -> Result<Option<i64>, String> {
        let points = self.points.lock();
        Ok(points
            .get(metric)
            .and_then(|points| points.last())
            .map(|(time, _)| *time))
    }

    async fn store(&self, metric: &str, points: &[(i64, f64)]) -> Result<(), String> {
        let mut away = self.away.lock();
        if *away > 0 {
            *away -= 1;
            return Err("the sink lost them".to_owned());
        }
        self.points
            .lock()
            .entry(metric.to_owned())
            .or_default()
            .extend_from_slice(points);
        Ok(())
    }
}

impl Kept {
    fn of(&self, metric: &str) -> Vec<(i64, f64)> {
        self.points.lock().get(metric).cloned().unwrap_or_default()
    }
}

async fn post(queue: &Queue, more: &[(&str, &str)], name: &str, bytes: &[u8]) -> String {
    let variables = variables(more);
    let request = Request::new(&variables).unwrap();
    let data = Posted {
        name: name.to_owned(),
        bytes: bytes.to_vec(),
    };
    let id = queue
        .add(&request, variables, data, None, NOW)
        .await
        .unwrap()
        .expect("there is room");
    id.replace('/', ".")
}

/// Works until an upload is not pending any more.
async fn until_done(queue: &Queue, kept: &Kept, key: &str) -> Status {
    let stop = CancellationToken::new();
    let done = async {
        loop {
            let status = queue.status(key).await.unwrap().unwrap();
            if !status.is_pending() {
                return status;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::select! {
        () = queue.run(kept, || NOW, &stop) => panic!("it runs until it is stopped"),
        status = done => status,
    }
}

fn text<'a>(status: &'a Status, name: &str) -> &'a str {
    status.get(name).and_then(Value::as_str).unwrap_or_default()
}

#[tokio::test]
async fn an_upload_becomes_points_once_and_survives_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let key = {
        let before = Queue::open(directory.path().into()).unwrap();
        post(&before, &[], "a.csv", EXAMPLE.as_bytes()).await
    };
    assert_eq!(key, format!("temp.w.{NOW}"));
    let (queue, kept) = (
        Queue::open(directory.path().into()).unwrap(),
        Kept::default(),
    );
    let status = until_done(&queue, &kept, &key).await;
    assert_eq!(text(&status, "status"), "complete", "{status:?}");
    assert_eq!(
        text(&status, "a.csv"),
        "completed - processed all 2 data columns OK"
    );
    assert_eq!(
        text(&status, "roof (a.csv)"),
        "processed - 2 data points submitted"
    );
    assert_eq!(
        kept.of("temp.w.roof"),
        [(1_589_626_800, 45.72), (1_589_627_700, 45.94)]
    );
    // The same again is known, unless that is not to matter.
    let key = post(&queue, &[], "a.csv", EXAMPLE.as_bytes()).await;
    let status = until_done(&queue, &kept, &key).await;
    assert_eq!(
        text(&status, "floor (a.csv)"),
        "processed - no new timestamps, all already known"
    );
    assert_eq!(kept.of("temp.w.floor").len(), 2);
    let key = post(
        &queue,
        &[("ignore_submitted_timestamps", "true")],
        "a.csv",
        EXAMPLE.as_bytes(),
    )
    .await;
    until_done(&queue, &kept, &key).await;
    assert_eq!(kept.of("temp.w.floor").len(), 4);
    assert!(queue.status("none.1").await.unwrap().is_none());
    assert!(queue.status("../../etc/passwd").await.unwrap().is_none());
    // The data is not needed any more, and goes.
    let is_data = |path: &std::path::Path| {
        path.extension()
            .is_some_and(|extension| extension == "data")
    };
    let stop = CancellationToken::new();
    let gone = async {
        while std::fs::read_dir(directory.path())
            .unwrap()
            .flatten()
            .any(|entry| is_data(&entry.path()))
        {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::select! {
        () = queue.run(&kept, || NOW, &stop) => panic!("it runs until it is stopped"),
        () = gone => {}
    }
}

#[tokio::test(start_paused = true)]
async fn what_the_sinks_lost_is_sent_again() {
    let directory = tempfile::tempdir().unwrap();
    let (queue, kept) = (
        Queue::open(directory.path().into()).unwrap(),
        Kept::default(),
    );
    *kept.away.lock() = 2;
    let key = post(&queue, &[], "a.csv", EXAMPLE.as_bytes()).await;
    let status = until_done(&queue, &kept, &key).await;
    assert_eq!(text(&status, "status"), "complete", "{status:?}");
    assert_eq!(kept.of("temp.w.roof").len(), 2);
    *kept.away.lock() = 1_000;
    let key = post(
        &queue,
        &[("ignore_submitted_timestamps", "true")],
        "a.csv",
        EXAMPLE.as_bytes(),
    )
    .await;
    let status = until_done(&queue, &kept, &key).await;
    assert_eq!(text(&status, "status"), "failed");
    assert_eq!(text(&status, "error"), "the sink lost them");
}

#[tokio::test]
async fn what_cannot_be_read_fails_and_what_can_goes_on() {
    let directory = tempfile::tempdir().unwrap();
    let (queue, kept) = (
        Queue::open(directory.path().into()).unwrap(),
        Kept::default(),
    );
    let key = post(&queue, &[("format", "xlsx")], "a.xlsx", b"no workbook").await;
    let status = until_done(&queue, &kept, &key).await;
    assert_eq!(text(&status, "status"), "failed");
    assert!(
        text(&status, "a.xlsx").starts_with("failed - not xlsx"),
        "{status:?}"
    );
    let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes) in [
        ("bad.csv", "1,2,3,4\n"),
        ("good.csv", EXAMPLE),
        ("readme.txt", ""),
    ] {
        zip.start_file(name, zip::write::SimpleFileOptions::default())
            .unwrap();
        std::io::Write::write_all(&mut zip, bytes.as_bytes()).unwrap();
    }
    let zip = zip.finish().unwrap().into_inner();
    let key = post(&queue, &[("archive", "zip")], "a.zip", &zip).await;
    let status = until_done(&queue, &kept, &key).await;
    assert_eq!(text(&status, "status"), "complete", "{status:?}");
    assert_eq!(text(&status, "bad.csv"), "failed - there is no header row");
    assert_eq!(kept.of("temp.w.roof").len(), 2);
}

#[tokio::test]
async fn a_dry_run_sends_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let (queue, kept) = (
        Queue::open(directory.path().into()).unwrap(),
        Kept::default(),
    );
    let key = post(&queue, &[("dryrun", "true")], "a.csv", EXAMPLE.as_bytes()).await;
    let status = until_done(&queue, &kept, &key).await;
    assert_eq!(
        text(&status, "roof (a.csv)"),
        "processed - 2 data points not submitted, dryrun"
    );
    assert!(kept.points.lock().is_empty());
}

#[tokio::test]
async fn what_an_end_in_the_middle_leaves_is_removed_and_what_waits_is_not() {
    let directory = tempfile::tempdir().unwrap();
    let queue = Queue::open(directory.path().to_owned()).unwrap();
    let key = post(&queue, &[], "a.csv", b"x").await;
    for left in ["upload.a.1.data", "upload.a.2.new"] {
        std::fs::write(directory.path().join(left), "half").unwrap();
    }
    std::fs::write(directory.path().join("somebody.new"), "else's").unwrap();
    let queue = Queue::open(directory.path().to_owned()).unwrap();
    let names = std::fs::read_dir(directory.path()).unwrap();
    let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.collect();
    names.sort();
    let expected = [
        "somebody.new".to_owned(),
        format!("upload.{key}.data"),
        format!("upload.{key}.json"),
    ];
    assert_eq!(names, expected);
    assert!(queue.status(&key).await.unwrap().is_some());
}

#[tokio::test]
async fn uploads_wait_up_to_a_number_of_them() {
    let directory = tempfile::tempdir().unwrap();
    let queue = Queue::open(directory.path().to_owned()).unwrap();
    for number in 1..MAX_WAITING {
        std::fs::write(directory.path().join(format!("upload.a.{number}.data")), "").unwrap();
    }
    post(&queue, &[], "a.csv", b"x").await;
    let variables = variables(&[]);
    let request = Request::new(&variables).unwrap();
    let data = Posted {
        name: "a.csv".to_owned(),
        bytes: Vec::new(),
    };
    let added = queue.add(&request, variables, data, None, NOW).await;
    assert_eq!(added.unwrap(), None);
}
