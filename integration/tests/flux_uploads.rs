//! Uploads and populating with real programs: curl as Skyline's documentation calls it, a crash, a spreadsheet, a browser, and a Graphite API to fetch
//! from.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "files of ours that are not as the tests take them to be fail the tests"
)]

use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Command;
use tributary_integration::consul::fetched;
use tributary_integration::tier::{
    Aggregator, AggregatorBuilder, Binaries, Tier, free_address, get, post, wait_for,
};

type Outcome = Result<(), Box<dyn std::error::Error>>;

const KEY: &str = "0123456789abcdefghijklmnopqrstuv";
const UPLOAD_KEY: &str = "484166bf-df66-4f7d-ad4a-9336da9ef620";
const OTHER_KEY: &str = "5b0c2f51-upload-key-of-somebody-else";
const PARENT: &str = "temp.warehouse.2.012383";

/// The example of Skyline's documentation.
const EXAMPLE: &str = "Device ID,012383\nSerial Number,1234579853\nLocation,Warehouse 2\nFrom,16/05/2020\nTo,16/05/2020\n\
    Date,Roof Temperature,Floor Temperature\n16-05-2020 11:00,45.72,22.78\n16-05-2020 11:15,45.94,22.92\n16-05-2020 11:30,46.13,22.98\n\
    16-05-2020 11:45,46.34,23.06\n";
const FIRST: i64 = 1_589_626_800;

fn tier() -> std::io::Result<Tier> {
    Tier::new(Binaries::of(env!("CARGO_BIN_EXE_tributary")))
}

fn flux(tier: &Tier, name: &str, address: &str, more: Value) -> AggregatorBuilder {
    let mut config = json!({
        "address": address,
        "self_api_key": KEY,
        "state_dir": tier.directory().join(format!("{name}-state")),
        "self_metrics_prefix": "",
        "uploads": {"enabled": true, "keys": {UPLOAD_KEY: "temp.warehouse", "else": OTHER_KEY}},
    });
    config
        .as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    tier.agent(name)
        .with("sources", json!([{"kind": "flux", "config": config}]))
}

/// Uploads as the documentation of Skyline does it, and gives the answer.
async fn upload(address: &str, data: &Path, changes: &[(&str, &str)]) -> std::io::Result<Value> {
    let folder = data.parent().unwrap();
    let mut fields = vec![
        ("key", UPLOAD_KEY),
        ("timezone", "GMT"),
        ("parent_metric_namespace", PARENT),
        ("archive", "none"),
        ("format", "csv"),
        ("skip_rows", "5"),
        ("header_row", "0"),
        ("date_orientation", "rows"),
        ("columns_to_metrics", "date,roof,floor"),
        ("json_response", "true"),
    ];
    for (name, value) in changes {
        fields.retain(|field| field.0 != *name);
        fields.push((name, value));
    }
    let mut info: serde_json::Map<String, Value> = fields
        .iter()
        .filter(|(name, _)| *name != "key" && *name != "json_response")
        .map(|(name, value)| ((*name).to_owned(), json!(value)))
        .collect();
    info.insert("debug".to_owned(), json!("false"));
    info.insert("dryrun".to_owned(), json!("false"));
    let info_file = folder.join("info.json");
    fs::write(&info_file, Value::Object(info).to_string())?;
    let mut curl = Command::new("curl");
    curl.args(["-s", "-m", "60"]);
    for (name, value) in &fields {
        curl.args(["-F", &format!("{name}={value}")]);
    }
    let output = curl
        .args(["-F", &format!("data_file=@{}", data.display())])
        .args(["-F", &format!("info_file=@{}", info_file.display())])
        .arg(format!("http://{address}/upload_data"))
        .output()
        .await?;
    let answer: Value = serde_json::from_slice(&output.stdout)?;
    assert_eq!(answer["data"]["upload"], "successful", "{answer:#}");
    Ok(answer["data"].clone())
}

/// What became of an upload.
async fn done(address: &str, key: &Value) -> std::io::Result<Value> {
    let path = format!(
        "/api?upload_status=true&upload_id_key={}",
        key.as_str().unwrap()
    );
    wait_for("the upload's end", async || {
        let answer = get(address, &path).await.ok()?;
        let answer: Value = serde_json::from_slice(&answer.body).ok()?;
        let upload = answer["data"]["upload"].clone();
        (upload["status"] != "pending").then_some(upload)
    })
    .await
}

/// Name, time and value (as text) of what a sink has below a namespace.
fn stored(agent: &Aggregator, namespace: &str) -> std::io::Result<BTreeSet<(String, i64, String)>> {
    let points = agent.emitted()?.into_iter();
    Ok(points
        .filter(|point| point.name.starts_with(namespace))
        .map(|point| (point.name, point.timestamp, point.value.to_string()))
        .collect())
}

fn expected(parent: &str, roof: &[&str], floor: &[&str]) -> BTreeSet<(String, i64, String)> {
    let column = |name: &str, values: &[&str]| {
        let name = format!("{parent}.{name}");
        let points = (FIRST..).step_by(900).zip(values);
        points
            .map(|(time, value)| (name.clone(), time, (*value).to_owned()))
            .collect::<Vec<_>>()
    };
    let mut all = column("roof", roof);
    all.extend(column("floor", floor));
    all.into_iter().collect()
}

const ROOF: [&str; 4] = ["45.72", "45.94", "46.13", "46.34"];
const FLOOR: [&str; 4] = ["22.78", "22.92", "22.98", "23.06"];

#[tokio::test]
async fn an_upload_that_was_answered_outlives_a_crash_right_after() -> Outcome {
    let tier = tier()?;
    let address = free_address()?;
    let mut agent = flux(&tier, "a", &address, json!({})).start().await?;
    let data = tier.directory().join("data.csv");
    fs::write(&data, EXAMPLE)?;
    let mut uploads = Vec::new();
    for number in 0..3 {
        let parent = format!("{PARENT}.n{number}");
        let answer = upload(&address, &data, &[("parent_metric_namespace", &parent)]).await?;
        agent.program.kill().await?;
        agent.start_again().await?;
        uploads.push((parent, answer));
    }
    for (parent, answer) in &uploads {
        let status = done(&address, &answer["upload_id_key"]).await?;
        assert_eq!(status["status"], "complete", "{status:#}");
        assert_eq!(
            status["data.csv"],
            "completed - processed all 2 data columns OK"
        );
        let points = stored(&agent, parent)?;
        assert_eq!(points, expected(parent, &ROOF, &FLOOR));
    }
    let (parent, _) = &uploads[0];
    let again = upload(&address, &data, &[("parent_metric_namespace", parent)]).await?;
    let status = done(&address, &again["upload_id_key"]).await?;
    assert_eq!(
        status["roof (data.csv)"],
        "processed - no new timestamps, all already known"
    );
    let shown = get(&agent.http, "/config").await?.text();
    assert!(shown.contains("uploads"), "{shown}");
    let log = agent.program.log();
    assert!(log.contains("an upload was taken"), "{log}");
    for secret in [UPLOAD_KEY, OTHER_KEY, KEY] {
        assert!(!shown.contains(secret), "{shown}");
        assert!(!log.contains(secret), "{log}");
    }
    // Nor on the disk: whoever asked is not needed any more.
    for file in fs::read_dir(tier.directory().join("a-state/flux.uploads"))? {
        let text = fs::read(file?.path())?;
        assert!(!String::from_utf8_lossy(&text).contains(UPLOAD_KEY));
    }
    Ok(())
}

#[tokio::test]
async fn a_spreadsheet_in_a_zip_is_read() -> Outcome {
    let tier = tier()?;
    let address = free_address()?;
    let agent = flux(&tier, "a", &address, json!({})).start().await?;
    let sheet = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../aggregator/tests/fixtures/upload/warehouse.xlsx");
    let data = tier.directory().join("data.zip");
    let mut packer = zip::ZipWriter::new(fs::File::create(&data)?);
    packer.start_file(
        "june/warehouse.xlsx",
        zip::write::SimpleFileOptions::default(),
    )?;
    packer.write_all(&fs::read(sheet)?)?;
    packer.finish()?;
    let changes = [("format", "xlsx"), ("archive", "zip"), ("skip_rows", "4")];
    let answer = upload(&address, &data, &changes).await?;
    let status = done(&address, &answer["upload_id_key"]).await?;
    assert_eq!(status["status"], "complete", "{status:#}");
    assert_eq!(
        status["warehouse.xlsx"],
        "completed - processed all 2 data columns OK"
    );
    // The last cell of the floor is empty.
    let points = stored(&agent, PARENT)?;
    assert_eq!(points, expected(PARENT, &ROOF, &FLOOR[..3]));
    Ok(())
}

#[tokio::test]
async fn a_metrics_past_comes_from_a_graphite_api() -> Outcome {
    let tier = tier()?;
    let (near, far) = (free_address()?, free_address()?);
    let other = flux(&tier, "other", &far, json!({}));
    let history = json!({"step": "60s"});
    let other = other.with("history", history).start().await?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let minute = i64::try_from(now)? / 60 * 60;
    let times: Vec<_> = (3..15).rev().map(|back| minute - back * 60).collect();
    let metrics: Vec<_> = times
        .iter()
        .map(|time| json!({"metric": "shop.orders", "timestamp": time, "value": time % 7000}))
        .collect();
    let body = json!({"key": KEY, "metrics": metrics}).to_string();
    let answer = post(&far, "/metric_data_post", &[], body.into()).await?;
    assert_eq!(answer.status.as_u16(), 204, "{}", answer.text());
    wait_for("the history", async || {
        let path = "/render?format=json&from=-1h&target=shop.orders&noNullPoints=true";
        let answer = get(&other.http, path).await.ok()?;
        let answer: Value = serde_json::from_slice(&answer.body).ok()?;
        (answer[0]["datapoints"].as_array()?.len() == 12).then_some(())
    })
    .await?;

    let config = json!({"populate_hosts": [other.http]});
    let agent = flux(&tier, "a", &near, config).start().await?;
    let url = |from: &str, until: &str| {
        format!(
            "http://{}/render/?from={from}&until={until}&target=shop.orders&format=json",
            other.http
        )
    };
    let urls = format!(
        "\"['{}', '{}']\"",
        url("-1hours", "-10mins"),
        url("-10mins", "now")
    );
    let wanted = json!({
        "remote_host_type": "graphite", "remote_target": "shop.orders", "metric": "vista.shop.orders", "namespace_prefix": "vista",
        "key": KEY, "token": "None", "user": "None", "password": "None", "fetch_resolution_urls": urls,
    });
    let answer = post(
        &near,
        "/flux/populate_metric",
        &[],
        wanted.to_string().into(),
    )
    .await?;
    assert_eq!(answer.status.as_u16(), 204, "{}", answer.text());
    let mut last = Value::Null;
    let path = "/api?populate_status=true&metric=vista.shop.orders";
    let done = wait_for("the metric", async || {
        let answer = get(&near, path).await.ok()?;
        last = serde_json::from_slice(&answer.body).ok()?;
        (last["data"]["populate"]["status"] == "complete").then_some(())
    });
    done.await.map_err(|error| format!("{error}: {last}"))?;
    assert_eq!(last["data"]["populate"]["error"], Value::Null, "{last}");
    let expected: BTreeSet<_> = times
        .iter()
        .map(|time| {
            let value = (time % 7000).to_string();
            ("vista.shop.orders".to_owned(), *time, value)
        })
        .collect();
    assert_eq!(stored(&agent, "vista.")?, expected, "{last}");
    Ok(())
}

#[tokio::test]
#[cfg_attr(
    not(feature = "servers"),
    ignore = "needs Chromium and playwright-core: run integration/test"
)]
async fn the_form_uploads_in_a_real_browser() -> Outcome {
    let tier = tier()?;
    let address = free_address()?;
    let agent = flux(&tier, "a", &address, json!({})).start().await?;
    let data = tier.directory().join("data.csv");
    fs::write(&data, EXAMPLE)?;
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/flux_uploads/drive.mjs");
    let mut browser = Command::new("node")
        .arg(script)
        .args([fetched("TEST_PLAYWRIGHT")?, fetched("TEST_CHROMIUM")?])
        .args([&address, UPLOAD_KEY, PARENT])
        .arg(&data)
        .args(std::env::var_os("TEST_SCREENSHOTS"))
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let output = browser.stdout.take().ok_or("not piped")?;
    let mut output = BufReader::new(output).lines();
    let line = tokio::time::timeout(Duration::from_secs(300), output.next_line()).await??;
    let found: Value = serde_json::from_str(&line.ok_or("the browser's script ended early")?)?;
    let shown = format!("{found:#}");
    assert_eq!(found["complaints"], json!([]), "{shown}");
    assert_eq!(found["foreign"], json!([]), "{shown}");
    assert_eq!(found["refused"], "It was not taken: Unauthorized");
    let state = found["state"].as_str().unwrap_or_default();
    assert!(state.starts_with(PARENT), "{shown}");
    assert!(state.ends_with(": complete"), "{shown}");
    // What became of the file stands first.
    let first = [
        ["data.csv", "completed - processed all 2 data columns OK"],
        ["floor (data.csv)", "processed - 4 data points submitted"],
        ["roof (data.csv)", "processed - 4 data points submitted"],
    ];
    let rows = found["rows"].as_array().ok_or("rows")?;
    assert_eq!(
        rows.get(..3),
        Some(&first.map(|row| json!(row))[..]),
        "{shown}"
    );
    assert_eq!(
        found["wide"],
        json!({"light": 0, "dark": 0, "narrow": 0}),
        "{shown}"
    );
    assert!(browser.wait().await?.success());
    let points = stored(&agent, PARENT)?;
    assert_eq!(points, expected(PARENT, &ROOF, &FLOOR));
    Ok(())
}
