//! Uploads at the door: what is answered, and what comes out.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use super::{KEY_A, KEY_B, NOW, PATIENCE, Served, whole};

const KEY: &str = "484166bf-df66-4f7d-ad4a-9336da9ef620";
const OTHER_KEY: &str = "a key of another namespace";
const PARENT: &str = "temp.warehouse.2.012383";

/// The example of Skyline's documentation.
const EXAMPLE: &str = "Device ID,012383\nSerial Number,1234579853\nLocation,Warehouse 2\nFrom,16/05/2020\nTo,16/05/2020\n\
    Date,Roof Temperature,Floor Temperature\n16-05-2020 11:00,45.72,22.78\n16-05-2020 11:15,45.94,22.92\n16-05-2020 11:30,46.13,22.98\n\
    16-05-2020 11:45,46.34,23.06\n";

const DOCUMENTED: [(&str, &str); 11] = [
    ("key", KEY),
    ("timezone", "GMT"),
    ("parent_metric_namespace", PARENT),
    ("archive", "none"),
    ("format", "csv"),
    ("skip_rows", "5"),
    ("header_row", "0"),
    ("date_orientation", "rows"),
    ("columns_to_metrics", "date,roof,floor"),
    ("json_response", "true"),
    ("info_file_in_archive", "false"),
];

/// Part of a form, with the name of a file or none.
type Part<'a> = (&'a str, Option<&'a str>, &'a [u8]);

fn form(parts: &[Part<'_>]) -> Vec<u8> {
    let mut form = Vec::new();
    for (name, file, bytes) in parts {
        let file = file.map_or(String::new(), |file| format!("; filename=\"{file}\""));
        let head =
            format!("--limit\r\nContent-Disposition: form-data; name=\"{name}\"{file}\r\n\r\n");
        form.extend(head.bytes());
        form.extend(*bytes);
        form.extend(b"\r\n");
    }
    form.extend(b"--limit--\r\n");
    form
}

/// The documented form with other values; an empty one is left out.
fn changed(changes: &[(&str, &str)]) -> Vec<u8> {
    let changed = |name: &str| changes.iter().find(|change| change.0 == name);
    let mut parts: Vec<Part<'_>> = Vec::new();
    for (name, value) in &DOCUMENTED {
        let value = changed(name).map_or(*value, |change| change.1);
        if !value.is_empty() {
            parts.push((name, None, value.as_bytes()));
        }
    }
    for (name, value) in changes {
        if !DOCUMENTED.iter().any(|known| known.0 == *name) {
            parts.push((name, None, value.as_bytes()));
        }
    }
    parts.push(("data_file", Some("data.csv"), EXAMPLE.as_bytes()));
    form(&parts)
}

struct Uploads {
    flux: Served,
    _state: TempDir,
}

impl Uploads {
    async fn with(more: Value) -> Self {
        let state = TempDir::new().unwrap();
        let mut uploads =
            json!({"enabled": true, "keys": {KEY: "temp.warehouse", "else": OTHER_KEY}});
        uploads
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        let config = json!({"state_dir": state.path(), "uploads": uploads});
        Self {
            flux: Served::with(config).await,
            _state: state,
        }
    }

    async fn post(&self, form: &[u8]) -> (u16, Value) {
        let kind = [("Content-Type", "multipart/form-data; boundary=limit")];
        self.flux.ask("POST", "/upload_data", &kind, form).await
    }

    /// Waits until an upload is done with.
    async fn done(&self, key: &str) -> Value {
        let since = Instant::now();
        loop {
            let target = format!("/api?upload_status=true&upload_id_key={key}");
            let (status, answer) = self.flux.ask("GET", &target, &[], b"").await;
            assert_eq!((status, &answer["status"]), (200, &json!({})), "{answer}");
            let upload = answer["data"]["upload"].clone();
            if upload["status"] != "pending" {
                return upload;
            }
            assert!(since.elapsed() < PATIENCE, "{upload}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

fn failed(error: &str) -> Value {
    json!({"status": {"error": error}, "data": {"upload": "failed"}})
}

#[tokio::test]
async fn the_documented_upload_becomes_its_points_and_its_status() {
    let uploads = Uploads::with(json!({})).await;
    let info = json!({"timezone": "Europe/London", "skip_rows": 5, "key": "none"}).to_string();
    let mut parts: Vec<Part<'_>> = DOCUMENTED
        .iter()
        .map(|(name, value)| (*name, None, value.as_bytes()))
        .collect();
    parts.push(("info_file", Some("info.json"), info.as_bytes()));
    parts.push(("data_file", Some("data.csv"), EXAMPLE.as_bytes()));
    let key = format!("{PARENT}.{NOW}");
    let expected = json!({"status": {}, "data": {
        "feature maturity": "EXPERIMENTAL", "upload": "successful", "upload_id": format!("{PARENT}/{NOW}"), "upload_id_key": key,
        "key": KEY, "parent_metric_namespace": PARENT, "data file": "data.csv", "info file": "info.json"}});
    assert_eq!(uploads.post(&form(&parts)).await, (200, expected));
    let upload = uploads.done(&key).await;
    for (name, value) in [
        ("status", json!("complete")),
        ("error", Value::Null),
        ("timezone", json!("Europe/London")),
        ("info_filename", json!("info.json")),
        (
            "data.csv",
            json!("completed - processed all 2 data columns OK"),
        ),
        (
            "roof (data.csv)",
            json!("processed - 4 data points submitted"),
        ),
        (
            "floor (data.csv)",
            json!("processed - 4 data points submitted"),
        ),
    ] {
        assert_eq!(upload[name], value, "{name}: {upload:#}");
    }
    assert!(!upload.to_string().contains(KEY), "{upload:#}");
    // British summer time: an hour before GMT's.
    let first = 1_589_626_800 - 3_600;
    let mut expected = Vec::new();
    for (column, values) in [
        ("roof", [45.72, 45.94, 46.13, 46.34]),
        ("floor", [22.78, 22.92, 22.98, 23.06]),
    ] {
        for (value, time) in values.into_iter().zip((first..).step_by(900)) {
            expected.push((format!("{PARENT}.{column}"), value, time));
        }
    }
    assert_eq!(uploads.flux.points(), expected);
}

#[tokio::test]
async fn uploads_of_one_second_have_keys_of_their_own_also_after_a_restart() {
    let state = TempDir::new().unwrap();
    let config = json!({"state_dir": state.path(), "uploads": {"enabled": true}});
    let namespaces = ["a", "b", "a", "b", "a"];
    let mut keys = std::collections::BTreeSet::new();
    for _ in 0..2 {
        let uploads = Uploads {
            flux: Served::with(config.clone()).await,
            _state: TempDir::new().unwrap(),
        };
        for namespace in namespaces {
            let form = changed(&[("key", KEY_A), ("parent_metric_namespace", namespace)]);
            let (status, answer) = uploads.post(&form).await;
            assert_eq!(status, 200, "{answer}");
            let key = answer["data"]["upload_id_key"].as_str().unwrap().to_owned();
            assert_eq!(uploads.done(&key).await["status"], "complete");
            keys.insert(key);
        }
        uploads.flux.stop().await;
    }
    assert_eq!(keys.len(), 2 * namespaces.len(), "{keys:?}");
}

#[tokio::test]
async fn whose_key_it_is_decides_where_it_may_upload() {
    let uploads = Uploads::with(json!({})).await;
    let unauthorized = (401, json!("Unauthorized"));
    for (key, parent) in [
        ("", PARENT),
        ("unknown", PARENT),
        (OTHER_KEY, PARENT),
        (KEY, "temp.warehouse2"),
        (KEY, "temp"),
        // The name of a namespace is no key, and that of `api_keys` has its own.
        (KEY_B, PARENT),
        ("temp.warehouse", PARENT),
    ] {
        let form = changed(&[("key", key), ("parent_metric_namespace", parent)]);
        assert_eq!(uploads.post(&form).await, unauthorized, "{key} {parent}");
    }
    for (key, parent) in [
        (KEY, PARENT),
        (OTHER_KEY, "else.a"),
        (KEY_A, "anywhere"),
        (KEY_B, "warehouse-1.a"),
    ] {
        let form = changed(&[("key", key), ("parent_metric_namespace", parent)]);
        assert_eq!(uploads.post(&form).await.0, 200, "{key} {parent}");
    }
    let without = changed(&[("json_response", "")]);
    assert_eq!(uploads.post(&without).await, (400, json!("Bad Request")));
}

#[tokio::test]
async fn each_refusal_says_what_is_wrong() {
    let uploads = Uploads::with(json!({})).await;
    for name in [
        "parent_metric_namespace",
        "timezone",
        "format",
        "archive",
        "header_row",
        "date_orientation",
        "columns_to_metrics",
    ] {
        let expected = failed(&format!("no {name} in the POST variables"));
        assert_eq!(uploads.post(&changed(&[(name, "")])).await, (400, expected));
    }
    for (name, value, error) in [
        ("format", "pdf", "pdf is not an accepted format"),
        ("archive", "rar", "rar is not an accepted archive type"),
        (
            "archive",
            "tar_gz",
            "error - tar.gz archives are not accepted",
        ),
        (
            "timezone",
            "Mars/Base",
            "Mars/Base is not an accepted timezone",
        ),
        (
            "date_orientation",
            "up",
            "up is not a valid date_orientation",
        ),
        ("header_row", "x", "x is not a valid header_row"),
        ("skip_rows", "x", "skip_row must be none or int"),
        (
            "resample_method",
            "max",
            "max is not a valid resample_method",
        ),
    ] {
        let given = uploads.post(&changed(&[(name, value)])).await;
        assert_eq!(given, (400, failed(error)));
    }
    let long = format!("temp.warehouse.{}", "x".repeat(200));
    let (status, _) = uploads
        .post(&changed(&[("parent_metric_namespace", &long)]))
        .await;
    assert_eq!(status, 400);
    let parts = DOCUMENTED.map(|(name, value)| (name, None, value.as_bytes()));
    let expected = failed("error :: no data_file in the POST");
    assert_eq!(uploads.post(&form(&parts)).await, (400, expected));
    let (status, answer) = uploads.post(b"no form").await;
    assert_eq!((status, &answer["code"]), (400, &json!(400)));
    let flux = &uploads.flux;
    let (status, answer) = flux.ask("POST", "/upload_data", &[], b"x=1").await;
    assert_eq!(status, 400);
    assert_eq!(answer["message"], "not multipart/form-data");
    let none = json!({"error": "no upload_id_key was passed"});
    let asked = flux.ask("GET", "/api?upload_status=true", &[], b"").await;
    assert_eq!(asked, (400, none));
    for key in ["unknown.1", "..%2F..%2Fetc", "%00"] {
        let target = format!("/flux/api?upload_status=true&upload_id_key={key}");
        assert_eq!(flux.ask("GET", &target, &[], b"").await.0, 404, "{key}");
    }
    assert_eq!(flux.ask("GET", "/api", &[], b"").await.0, 400);
    assert_eq!(flux.ask("PUT", "/upload_data", &[], b"").await.0, 405);
    assert_eq!(flux.points(), []);
}

#[tokio::test]
async fn an_upload_that_is_too_long_is_heard_out_and_told_so() {
    let uploads = Uploads::with(json!({"max_body": "64KiB"})).await;
    let data = "1,2\n".repeat(1 << 20);
    let mut parts: Vec<Part<'_>> = DOCUMENTED
        .iter()
        .map(|(name, value)| (*name, None, value.as_bytes()))
        .collect();
    parts.push(("data_file", Some("data.csv"), data.as_bytes()));
    let form = form(&parts);
    let expected = json!({"code": 413, "message": "the upload is too large"});
    assert_eq!(uploads.post(&form).await, (413, expected.clone()));
    let mut chunked = b"POST /flux/upload_data HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\
        Content-Type: multipart/form-data; boundary=limit\r\n\r\n"
        .to_vec();
    for chunk in form.chunks(10_000) {
        chunked.extend(format!("{:x}\r\n", chunk.len()).bytes());
        chunked.extend(chunk);
        chunked.extend(b"\r\n");
    }
    chunked.extend(b"0\r\n\r\n");
    assert_eq!(uploads.flux.raw(&chunked).await, (413, expected));
    assert_eq!(uploads.post(&changed(&[])).await.0, 200, "it goes on");
}

#[tokio::test]
async fn an_upload_that_does_not_come_is_not_waited_for() {
    let uploads = Uploads::with(json!({"timeout": "200ms"})).await;
    let head =
        b"POST /upload_data HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 100\r\n\
        Content-Type: multipart/form-data; boundary=limit\r\n\r\n--lim";
    let expected = json!({"code": 408, "message": "the upload took too long"});
    assert_eq!(uploads.flux.raw(head).await, (408, expected));
}

#[tokio::test]
async fn a_file_may_be_called_as_a_word_of_the_status() {
    let uploads = Uploads::with(json!({})).await;
    let mut parts: Vec<Part<'_>> = DOCUMENTED
        .iter()
        .map(|(name, value)| (*name, None, value.as_bytes()))
        .collect();
    parts.push(("data_file", Some("status"), EXAMPLE.as_bytes()));
    let (_, answer) = uploads.post(&form(&parts)).await;
    let key = answer["data"]["upload_id_key"].as_str().unwrap();
    let upload = uploads.done(key).await;
    assert_eq!(upload["status"], "complete", "{upload:#}");
    assert_eq!(
        upload["status (file)"],
        "completed - processed all 2 data columns OK"
    );
}

#[tokio::test]
async fn the_forms_files_are_served_and_nothing_where_there_are_no_uploads() {
    let uploads = Uploads::with(json!({})).await;
    for prefix in ["", "/flux"] {
        for (file, kind, inside) in [
            ("", "text/html; charset=utf-8", "<form"),
            (".js", "text/javascript; charset=utf-8", "upload_id_key"),
            (".css", "text/css; charset=utf-8", "color-scheme"),
        ] {
            let mut stream = TcpStream::connect(uploads.flux.address).await.unwrap();
            let request = format!(
                "GET {prefix}/upload_data{file} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
            );
            stream.write_all(request.as_bytes()).await.unwrap();
            let (head, body) = whole(&mut stream).await;
            assert!(head.starts_with("http/1.1 200"), "{head}");
            assert!(
                head.contains(&format!("\r\ncontent-type: {kind}\r\n")),
                "{head}"
            );
            let policy = "\r\ncontent-security-policy: default-src 'none'; script-src 'self';";
            assert!(head.contains(policy), "{head}");
            assert!(
                head.contains("\r\nx-content-type-options: nosniff"),
                "{head}"
            );
            assert!(body.contains(inside), "{body}");
        }
    }
    let none = Served::with(json!({})).await;
    for (method, target) in [
        ("GET", "/upload_data"),
        ("GET", "/upload_data.js"),
        ("POST", "/upload_data"),
        ("GET", "/api?upload_status=true&upload_id_key=a.1"),
        ("GET", "/api?populate_status=true&metric=a"),
        ("POST", "/populate_metric"),
    ] {
        let (status, answer) = none.ask(method, target, &[], b"").await;
        assert_eq!((status, &answer["code"]), (404, &json!(404)), "{target}");
    }
}
