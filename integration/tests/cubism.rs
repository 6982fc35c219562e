//! Recent history through a real aggregator: Graphite's API over HTTP, and its page drawn by the real Cubism in a real browser.

use std::io;
use std::process::Stdio;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Command;
use tributary_integration::consul::fetched;
use tributary_integration::tier::{Aggregator, Binaries, Tier, get, post, wait_for};

type Outcome = Result<(), Box<dyn std::error::Error>>;

/// A name that means much in a target, and in a page.
const ODD: &str = "odd(<script>window.executed=1</script>){a*b}'\"=";

fn tier() -> io::Result<Tier> {
    Tier::new(Binaries::of(env!("CARGO_BIN_EXE_tributary")))
}

/// Sends gauges every 100 ms until it is dropped: constant ones, the time in seconds, and how many rounds there were.
fn keep_sending(aggregator: &Aggregator) -> tokio::task::JoinSet<()> {
    let statsd = aggregator.statsd.clone();
    let mut sending = tokio::task::JoinSet::new();
    sending.spawn(async move {
        let Ok(socket) = std::net::UdpSocket::bind("127.0.0.1:0") else {
            return;
        };
        for round in 0_u64.. {
            let now = SystemTime::now().duration_since(UNIX_EPOCH);
            let now = now.unwrap_or_default().as_secs();
            let lines = [
                "cpu.load:10|g|#host:web1".to_owned(),
                "cpu.load:20|g|#host:web2".to_owned(),
                "cpu.load:-30|g|#host:db.1".to_owned(),
                format!("clock:{now}|g"),
                format!("jobs:{round}|g"),
                format!("morejobs:{round}|g"),
                format!("{ODD}:7|g"),
            ];
            for line in lines {
                let _ = socket.send_to(line.as_bytes(), &statsd);
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    });
    sending
}

async fn ask(address: &str, path: &str) -> io::Result<Value> {
    let answer = get(address, path).await?;
    assert!(answer.status.is_success(), "{path}: {}", answer.text());
    Ok(serde_json::from_slice(&answer.body)?)
}

#[tokio::test]
async fn what_was_emitted_is_found_and_rendered() -> Outcome {
    let tier = tier()?;
    let history = json!({"retention": "10m", "prefix": "fleet", "template": "{host}.{name}"});
    let aggregator = tier.agent("a").with("history", history).start().await?;
    let _sending = keep_sending(&aggregator);
    let form = "target=alias(fleet.web?.cpu.load%7CsumSeries(),'load')&format=json&from=-2min&noNullPoints=true";
    let kind = [("Content-Type", "application/x-www-form-urlencoded")];
    let load = wait_for("three sums", async || {
        let answer = post(
            &aggregator.http,
            "/graphite/render",
            &kind,
            Bytes::from(form),
        )
        .await
        .ok()?;
        let answer: Value = serde_json::from_slice(&answer.body).ok()?;
        let points = answer[0]["datapoints"].as_array()?.clone();
        (points.len() >= 3).then_some(points)
    })
    .await?;
    assert!(load.iter().all(|point| point[0] == 30.0), "{load:?}");
    // They are the points that went to the sink, at the same times.
    let emitted = tributary_integration::tier::read_points(&aggregator.points)?;
    for point in &load {
        let time = point[1].as_i64().unwrap_or_default();
        assert!(
            emitted
                .iter()
                .any(|point| point.name == "cpu.load" && point.timestamp == time),
            "{time}"
        );
    }
    let hosts = ask(
        &aggregator.http,
        "/metrics/find?format=completer&query=fleet.",
    )
    .await?;
    let hosts: Vec<_> = hosts["metrics"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|node| node["name"].clone())
        .collect();
    assert_eq!(hosts, ["db_1", "none", "web1", "web2"]);
    let raw = get(
        &aggregator.http,
        "/render?format=raw&target=fleet.web1.cpu.load&from=-30s",
    )
    .await?;
    assert!(
        raw.text().starts_with("fleet.web1.cpu.load,") && raw.text().contains(",1|"),
        "{}",
        raw.text()
    );
    let about = ask(&aggregator.http, "/api/history").await?;
    assert_eq!(
        (&about["retention"], &about["step"]),
        (&json!(600), &json!(1))
    );
    let metrics = get(&aggregator.http, "/metrics").await?.text();
    for name in [
        "history_series 7",
        "history_points_total",
        "history_queries_total{outcome=\"answered\"}",
    ] {
        assert!(
            metrics.contains(&format!("veneur_{name}")),
            "{name}: {metrics}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn without_a_history_its_paths_say_so() -> Outcome {
    let tier = tier()?;
    let aggregator = tier.agent("a").start().await?;
    for path in [
        "/render?target=a",
        "/metrics/find?query=a",
        "/graphite/render",
        "/cubism",
        "/api/history",
    ] {
        let answer = get(&aggregator.http, path).await?;
        assert_eq!(answer.status.as_u16(), 404, "{path}");
        assert!(answer.text().contains("set `history`"), "{path}");
    }
    Ok(())
}

#[tokio::test]
#[cfg_attr(
    not(feature = "servers"),
    ignore = "needs Chromium and playwright-core: run integration/test"
)]
async fn cubism_draws_what_was_sent() -> Outcome {
    let tier = tier()?;
    let aggregator = tier.agent("a").with("history", json!({})).start().await?;
    let _sending = keep_sending(&aggregator);
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/cubism/drive.mjs");
    let mut browser = Command::new("node")
        .arg(script)
        .args([fetched("TEST_PLAYWRIGHT")?, fetched("TEST_CHROMIUM")?])
        .arg(&aggregator.http)
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
    assert!(
        found["renders"].as_u64() >= Some(5),
        "Cubism's own source asks: {shown}"
    );
    assert_eq!(found["none"], "No series matches nothing.*.here as yet.");

    for (chart, (title, value)) in [("db_1", -30.0), ("web1", 10.0), ("web2", 20.0)]
        .into_iter()
        .enumerate()
    {
        let chart = &found["single"][chart];
        assert_eq!(chart["title"], format!("cpu.load.host.{title}"), "{shown}");
        assert!(
            chart["values"]
                .as_array()
                .is_some_and(|all| all.iter().all(|one| *one == value)),
            "{shown}"
        );
    }
    // Each value is drawn at its own time.
    for chart in ["single", "clock", "total"]
        .iter()
        .filter_map(|key| found[key].as_array())
        .flatten()
    {
        assert!(chart["settled"].as_u64() >= Some(2), "{shown}");
        assert_eq!(chart["same"], chart["settled"], "{shown}");
        assert!(chart["painted"].as_u64() > Some(0), "{shown}");
    }
    assert_eq!(found["total"][0]["title"], "sum of *jobs*");
    assert_eq!(
        found["odd"]
            .as_str()
            .map(|title| title.contains("<script>")),
        Some(true),
        "{shown}"
    );
    assert_eq!(found["executed"], Value::Null);
    assert_eq!(
        found["wide"],
        json!({"light": 0, "dark": 0, "narrow": 0, "long": 0, "newest": 0}),
        "{shown}"
    );
    assert!(browser.wait().await?.success());
    Ok(())
}
