//! OpenTelemetry's protocol between the real programs, and with OpenTelemetry's own SDK and messages, which `integration/test` brings.

#![allow(clippy::panic, reason = "a test ends at the first surprise")]

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use tributary_integration::consul::fetched;
use tributary_integration::tier::{Binaries, Emitted, Tier, free_address, read_points};

type Outcome = Result<(), Box<dyn std::error::Error>>;

const ALL: [&str; 4] = ["min", "max", "sum", "count"];

fn tier() -> Result<Tier, Box<dyn std::error::Error>> {
    Ok(Tier::new(Binaries::of(env!("CARGO_BIN_EXE_tributary")))?)
}

fn source(address: &str) -> Value {
    json!([{"kind": "otlp", "config": {"listen": [address]}}])
}

/// The value of the only point of that name.
fn only(points: &[Emitted], name: &str) -> f64 {
    let found: Vec<_> = points.iter().filter(|point| point.name == name).collect();
    match found[..] {
        [point] => point.value,
        _ => panic!("{name}: {found:?} among {points:?}"),
    }
}

fn assert_near(found: f64, expected: f64, share: f64, what: &str) {
    let error = (found / expected - 1.0).abs();
    assert!(error <= share, "{what}: {found} is {error} from {expected}");
}

#[tokio::test]
async fn what_one_aggregator_sends_another_aggregates() -> Outcome {
    for protocol in ["grpc", "http"] {
        let tier = tier()?;
        let address = free_address()?;
        let mut receiver = tier
            .global("receiver")
            .with("interval", json!("1h"))
            .with("aggregates", json!(ALL))
            .with("sources", source(&address))
            .start()
            .await?;
        let sink = json!([{"kind": "otlp", "config": {"url": format!("http://{address}"), "protocol": protocol}}]);
        let mut sender = tier
            .agent("sender")
            .with("interval", json!("1h"))
            .with("metric_sinks", sink)
            .start()
            .await?;
        // A curve with a long tail from 1 to 1000.
        let value = |n: i32| (f64::from(n) / 2000.0 * 1000_f64.ln()).exp();
        for lines in (0..=2000).collect::<Vec<_>>().chunks(20) {
            let lines: Vec<_> = lines
                .iter()
                .map(|n| format!("latency:{}|ms|#env:prod,canary", value(*n)))
                .collect();
            sender.send(&lines.join("\n"))?;
        }
        sender.send(
            "orders:3|c|#env:prod\norders:-1|c|#env:prod\nload:0.5|g\nload:0.25|g\nsmall:3|h",
        )?;
        tributary_integration::tier::wait_for("all samples", async || {
            let metrics = tributary_integration::tier::get(&sender.http, "/metrics")
                .await
                .ok()?
                .text();
            let received: f64 = metrics
                .lines()
                .filter(|line| line.starts_with("veneur_listen_received_per_protocol_total"))
                .filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok())
                .sum();
            (received >= 2006.0).then_some(())
        })
        .await?;
        assert!(sender.program.stop().await?.success());
        assert!(receiver.program.stop().await?.success());
        let points = read_points(&receiver.points)?;
        assert_eq!(only(&points, "orders"), 2.0);
        assert_eq!(only(&points, "load"), 0.25);
        assert_eq!(only(&points, "small.count"), 1.0);
        assert_eq!(only(&points, "small.max"), 3.0);
        assert_eq!(only(&points, "latency.count"), 2001.0);
        assert_eq!(
            (only(&points, "latency.min"), only(&points, "latency.max")),
            (value(0), value(2000))
        );
        let sum: f64 = (0..=2000).map(value).sum();
        assert_near(only(&points, "latency.sum"), sum, 1e-9, "sum");
        // Ten doublings in 160 buckets: 4.4 %, and a little for either digest.
        for (name, rank) in [
            ("50percentile", 1000),
            ("75percentile", 1500),
            ("99percentile", 1980),
        ] {
            let found = only(&points, &format!("latency.{name}"));
            println!(
                "{protocol} {name}: {:+.2} %",
                100.0 * (found / value(rank) - 1.0)
            );
            assert_near(found, value(rank), 0.05, name);
        }
        let latency = points
            .iter()
            .find(|point| point.name == "latency.count")
            .ok_or("no count")?;
        assert_eq!(
            latency.tags,
            ["canary", "env:prod", "service.name:tributary"]
        );
    }
    Ok(())
}

#[tokio::test]
#[cfg_attr(
    not(feature = "servers"),
    ignore = "needs OpenTelemetry's Python SDK: run integration/test"
)]
async fn an_application_with_opentelemetrys_sdk_is_understood() -> Outcome {
    let tier = tier()?;
    let address = free_address()?;
    let mut aggregator = tier
        .global("g")
        .with("interval", json!("1h"))
        .with("aggregates", json!(ALL))
        .with("sources", source(&address))
        .start()
        .await?;
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/otlp/application.py");
    let (otel, to) = (fetched("TEST_OTEL")?, address.clone());
    let application = tokio::task::spawn_blocking(move || {
        Command::new("python3")
            .env("PYTHONPATH", otel)
            .args([script, &to])
            .output()
    });
    let application = application.await??;
    let said = String::from_utf8_lossy(&application.stderr);
    assert!(
        application.status.success() && !said.contains("rejected") && !said.contains("Failed"),
        "{said}"
    );
    let metrics = tributary_integration::tier::get(&aggregator.http, "/metrics")
        .await?
        .text();
    assert!(
        !metrics.contains("veneur_otlp_data_points_refused_total{"),
        "{metrics}"
    );
    assert!(aggregator.program.stop().await?.success());
    let points = read_points(&aggregator.points)?;
    for prefix in [
        "grpc.cumulative",
        "grpc.delta",
        "http.cumulative",
        "http.delta",
    ] {
        let value = |name: &str| only(&points, &format!("{prefix}.{name}"));
        assert_eq!(value("orders"), 11.0, "{prefix}");
        assert_eq!(value("stock"), 7.0, "{prefix}: an up-down counter's level");
        assert_eq!(value("load"), 1.25, "{prefix}");
        assert_eq!(value("latency.count"), 12.0, "{prefix}");
        assert_near(value("latency.sum"), 2.0 * 3426.0, 1e-9, prefix);
        assert_eq!(value("exponential.count"), 2000.0, "{prefix}");
        assert_near(value("exponential.sum"), 1_001_000.0, 1e-9, prefix);
        if prefix.ends_with("delta") {
            assert_eq!(
                (value("latency.min"), value("latency.max")),
                (1.0, 3000.0),
                "{prefix}"
            );
            assert_eq!(
                (value("exponential.min"), value("exponential.max")),
                (1.0, 1000.0),
                "{prefix}"
            );
        }
        for (name, expected) in [
            ("50percentile", 500.0),
            ("75percentile", 750.0),
            ("99percentile", 990.0),
        ] {
            let found = value(&format!("exponential.{name}"));
            println!(
                "{prefix} {name}: {:+.2} %",
                100.0 * (found / expected - 1.0)
            );
            assert_near(found, expected, 0.05, prefix);
        }
        let orders = format!("{prefix}.orders");
        let orders = points
            .iter()
            .find(|point| point.name == orders)
            .ok_or("no orders")?;
        assert_eq!(
            (&*orders.kind, &*orders.tags),
            (
                "counter",
                &["env:prod".to_owned(), "service.name:shop".to_owned()][..]
            )
        );
    }
    Ok(())
}

#[tokio::test]
#[cfg_attr(
    not(feature = "servers"),
    ignore = "needs OpenTelemetry's Python messages: run integration/test"
)]
async fn a_receiver_with_the_published_messages_understands_the_sink() -> Outcome {
    let tier = tier()?;
    let mut receiver = Command::new("python3")
        .env("PYTHONPATH", fetched("TEST_OTEL")?)
        .arg(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/otlp/receiver.py"
        ))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut lines = BufReader::new(receiver.stdout.take().ok_or("no output")?).lines();
    let addresses: [String; 2] = serde_json::from_str(&lines.next().ok_or("it has ended")??)?;
    let sinks: Vec<_> = ["grpc", "http"]
        .iter()
        .zip(&addresses)
        .map(|(protocol, address)| {
            let config = json!({"url": format!("http://{address}"), "protocol": protocol, "headers": {"tenant": "blue"}});
            json!({"kind": "otlp", "name": protocol, "config": config})
        })
        .collect();
    let mut agent = tier
        .agent("web1")
        .with("interval", json!("1h"))
        .with("metric_sinks", json!(sinks))
        .start()
        .await?;
    let timings: Vec<_> = (1..=100)
        .map(|value| format!("latency:{value}|ms|#env:prod"))
        .collect();
    agent.send(&timings.join("\n"))?;
    agent.send("orders:3|c|#env:prod,canary\nload:0.5|g\nvisitors:ann|s\n_sc|db|1|m:slow")?;
    tributary_integration::tier::wait_for("all samples", async || {
        let metrics = tributary_integration::tier::get(&agent.http, "/metrics")
            .await
            .ok()?
            .text();
        let received: f64 = metrics
            .lines()
            .filter(|line| line.starts_with("veneur_listen_received_per_protocol_total"))
            .filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok())
            .sum();
        (received >= 104.0).then_some(())
    })
    .await?;
    assert!(agent.program.stop().await?.success());
    drop(receiver.stdin.take());
    let mut found: Vec<Value> = Vec::new();
    for line in lines {
        found.push(serde_json::from_str(&line?)?);
    }
    receiver.wait()?;
    for way in ["grpc", "http"] {
        let of = |name: &str| -> &Value {
            let of_way = found.iter().filter(|found| found["way"] == way);
            let named: Vec<_> = of_way
                .filter(|found| found["metric"]["name"] == name)
                .collect();
            match named[..] {
                [one] => one,
                _ => panic!("{way} {name}: {found:?}"),
            }
        };
        let orders = of("orders");
        assert_eq!(
            orders["resource"],
            json!({"service.name": "tributary", "host.name": "web1"})
        );
        assert_eq!(orders["scope"], "tributary");
        let sum = &orders["metric"]["sum"];
        assert_eq!(
            sum["aggregationTemporality"],
            "AGGREGATION_TEMPORALITY_DELTA"
        );
        let point = &sum["dataPoints"][0];
        assert_eq!(point["asDouble"], 3.0);
        assert_eq!(
            point["attributes"],
            json!([{"key": "canary", "value": {"stringValue": ""}}, {"key": "env", "value": {"stringValue": "prod"}}])
        );
        let nanos = |key: &str| {
            point[key]
                .as_str()
                .and_then(|text| text.parse::<u64>().ok())
        };
        let took = nanos("timeUnixNano")
            .zip(nanos("startTimeUnixNano"))
            .map(|(end, start)| end - start);
        assert_eq!(took, Some(3_600_000_000_000));
        assert_eq!(
            of("load")["metric"]["gauge"]["dataPoints"][0]["asDouble"],
            0.5
        );
        assert_eq!(
            of("visitors")["metric"]["gauge"]["dataPoints"][0]["asDouble"],
            1.0
        );
        assert_eq!(of("db")["metric"]["gauge"]["dataPoints"][0]["asInt"], "1");
        let latency = &of("latency")["metric"];
        assert_eq!(latency["unit"], "ms");
        let point = &latency["exponentialHistogram"]["dataPoints"][0];
        assert_eq!(
            (&point["count"], &point["sum"]),
            (&json!("100"), &json!(5050.0))
        );
        assert_eq!((&point["min"], &point["max"]), (&json!(1.0), &json!(100.0)));
        let counts = point["positive"]["bucketCounts"]
            .as_array()
            .ok_or("no buckets")?;
        let counts = counts
            .iter()
            .filter_map(|count| count.as_str()?.parse::<u64>().ok());
        assert_eq!(counts.sum::<u64>(), 100);
        assert_eq!(point["scale"], 4, "seven doublings in 160 buckets");
    }
    Ok(())
}

#[test]
fn the_manuals_example_is_a_configuration() -> Outcome {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/otlp.md"))?;
    let example = page
        .split("```yaml\n")
        .nth(1)
        .and_then(|rest| rest.split("```").next());
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("aggregator.yaml");
    std::fs::write(&file, example.ok_or("no example")?)?;
    let checked = Command::new(env!("CARGO_BIN_EXE_tributary"))
        .args(["aggregator", "--check", "--file"])
        .arg(&file)
        .output()?;
    let said = String::from_utf8_lossy(&checked.stderr);
    assert!(checked.status.success(), "{said}");
    Ok(())
}
