//! A real Prometheus scrapes our page, takes our remote writes, and is scraped by us; its published handler reads our remote write 2.0.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test ends at the first surprise"
)]

use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tempfile::TempDir;
use tributary_integration::consul::fetched;
use tributary_integration::tier::{Aggregator, Binaries, Tier, free_address, get, wait_for};

type Outcome = Result<(), Box<dyn std::error::Error>>;

fn tier() -> std::io::Result<Tier> {
    Tier::new(Binaries::of(env!("CARGO_BIN_EXE_tributary")))
}

/// A Prometheus that takes remote writes, and scrapes each second.
struct Prometheus {
    http: String,
    child: Child,
    _directory: TempDir,
}

impl Prometheus {
    async fn start(target: Option<&str>) -> Result<Self, Box<dyn std::error::Error>> {
        let directory = TempDir::new()?;
        let targets: Vec<&str> = target.into_iter().collect();
        let config = json!({
            "global": {"scrape_interval": "1s"},
            "scrape_configs": [{
                "job_name": "ours",
                "static_configs": [{"targets": targets}],
                "basic_auth": {"username": "al", "password": "pw"},
            }],
        });
        let file = directory.path().join("prometheus.yml");
        std::fs::write(&file, config.to_string())?;
        let http = free_address()?;
        let data = directory.path().join("data");
        let child = Command::new(fetched("TEST_PROMETHEUS")?)
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.tsdb.path={}", data.display()))
            .arg(format!("--web.listen-address={http}"))
            .arg("--web.enable-remote-write-receiver")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(directory.path().join("log"))?)
            .spawn()?;
        let prometheus = Self {
            http,
            child,
            _directory: directory,
        };
        wait_for("Prometheus", async || {
            let answer = get(&prometheus.http, "/-/ready").await.ok()?;
            answer.status.is_success().then_some(())
        })
        .await?;
        Ok(prometheus)
    }

    /// The labels and values that an expression gives now.
    async fn query(&self, expression: &str) -> Vec<(Value, f64)> {
        let bytes = expression.bytes();
        let encoded: String = bytes.map(|byte| format!("%{byte:02X}")).collect();
        let path = format!("/api/v1/query?query={encoded}");
        let answer = get(&self.http, &path).await.unwrap();
        let answer: Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!(answer["status"], "success", "{expression}: {answer}");
        let result = answer["data"]["result"].as_array().unwrap().iter();
        result
            .map(|series| {
                let value = series["value"][1].as_str().unwrap().parse().unwrap();
                (series["metric"].clone(), value)
            })
            .collect()
    }

    /// Waits until an expression gives one series with that value, and gives its labels.
    async fn until(&self, expression: &str, value: f64) -> std::io::Result<Value> {
        let what = format!("{expression} to be {value}");
        wait_for(&what, async || match &self.query(expression).await[..] {
            [(labels, found)] if *found == value => Some(labels.clone()),
            _ => None,
        })
        .await
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The value of a self-metric whose line has all of these texts.
async fn counted(agent: &Aggregator, texts: &[&str]) -> f64 {
    let page = get(&agent.http, "/metrics").await.unwrap().text();
    let lines = page.lines().filter(|line| !line.starts_with('#'));
    let found = lines.filter(|line| texts.iter().all(|text| line.contains(text)));
    found
        .filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok())
        .sum()
}

#[tokio::test]
#[cfg_attr(
    not(feature = "servers"),
    ignore = "needs Prometheus: run integration/test"
)]
async fn prometheus_scrapes_the_page_and_its_totals_grow() -> Outcome {
    let tier = tier()?;
    let listen = free_address()?;
    let password = tier.directory().join("password");
    std::fs::write(&password, "pw\n")?;
    let agent = tier
        .agent("a")
        .with("aggregates", json!(["count", "sum", "max"]))
        .with(
            "metric_sinks",
            json!([{"kind": "prometheus", "config": {
                "listen": listen, "basic_auth": {"username": "al", "password_file": password}, "hostname_label": "host",
            }}]),
        )
        .start()
        .await?;
    let prometheus = Prometheus::start(Some(&listen)).await?;
    agent.send(
        "orders.placed:3|c|#env:prod\nload:0.5|g\nt:3|ms|#veneurlocalonly\nt:3|ms|#veneurlocalonly",
    )?;
    let labels = prometheus.until("orders_placed_total", 3.0).await?;
    assert_eq!(
        (&labels["env"], &labels["host"]),
        (&json!("prod"), &json!("a"))
    );
    agent.send("orders.placed:4|c|#env:prod")?;
    prometheus.until("orders_placed_total", 7.0).await?;
    prometheus.until("load", 0.5).await?;
    prometheus.until("t{quantile=\"0.99\"}", 3.0).await?;
    prometheus.until("t_count", 2.0).await?;
    prometheus.until("t_sum", 6.0).await?;
    prometheus.until("t_max", 3.0).await?;
    let path = "/api/v1/metadata?metric=t";
    let types = get(&prometheus.http, path).await?.text();
    assert!(types.contains("summary"), "{types}");
    assert_eq!(
        get(&listen, "/metrics").await?.status,
        StatusCode::UNAUTHORIZED
    );
    assert!(counted(&agent, &["prometheus_scrapes_total", "answered"]).await >= 1.0);
    Ok(())
}

#[tokio::test]
#[cfg_attr(
    not(feature = "servers"),
    ignore = "needs Prometheus: run integration/test"
)]
async fn a_prometheus_without_2_0_has_every_value_of_a_remote_write() -> Outcome {
    let prometheus = Prometheus::start(None).await?;
    let tier = tier()?;
    let url = format!("http://{}/api/v1/write", prometheus.http);
    let agent = tier
        .agent("a")
        .with("aggregates", json!(["count", "sum"]))
        .with(
            "metric_sinks",
            json!([{"kind": "remote_write", "config": {"url": url, "external_labels": {"dc": "x"}}}]),
        )
        .start()
        .await?;
    agent.send("orders.placed:3|c|#env:prod\nload:0.5|g|#canary\nt:5|ms|#veneurlocalonly")?;
    let labels = prometheus.until("orders_placed_total", 3.0).await?;
    let expected =
        json!({"__name__": "orders_placed_total", "dc": "x", "env": "prod", "host": "a"});
    assert_eq!(labels, expected);
    agent.send("orders.placed:4|c|#env:prod")?;
    prometheus.until("orders_placed_total", 7.0).await?;
    prometheus
        .until("max_over_time(load{canary=\"true\"}[5m])", 0.5)
        .await?;
    prometheus
        .until("max_over_time(t{quantile=\"0.99\"}[5m])", 5.0)
        .await?;
    prometheus.until("t_sum", 5.0).await?;
    // One request showed that 2.0 is not known; nothing was refused.
    let name = "remote_write_requests_total";
    assert_eq!(counted(&agent, &[name, "\"fallback\""]).await, 1.0);
    assert_eq!(counted(&agent, &[name, "\"refused\""]).await, 0.0);
    assert_eq!(counted(&agent, &["sink_metrics_dropped_total"]).await, 0.0);
    Ok(())
}

#[tokio::test]
#[cfg_attr(
    not(feature = "servers"),
    ignore = "needs Prometheus: run integration/test"
)]
async fn a_real_prometheus_and_an_aggregator_are_scraped() -> Outcome {
    let prometheus = Prometheus::start(None).await?;
    let tier = tier()?;
    let other = tier.agent("other").start().await?;
    let down = free_address()?;
    let targets: Vec<_> = [&prometheus.http, &other.http, &down]
        .map(|address| format!("http://{address}/metrics"))
        .to_vec();
    let agent = tier
        .agent("a")
        .with(
            "sources",
            json!([{"kind": "openmetrics", "config": {"scrape_target": targets, "scrape_interval": "1s", "prefix": "seen."}}]),
        )
        .start()
        .await?;
    other.send("x:1|c")?;
    let instance = |address: &str| format!("instance:{address}");
    for (what, name, address) in [
        ("a gauge", "seen.go_goroutines", &prometheus.http),
        (
            "a counter",
            "seen.prometheus_http_requests_total",
            &prometheus.http,
        ),
        (
            "a bucket",
            "seen.prometheus_http_response_size_bytes.bucket",
            &prometheus.http,
        ),
        (
            "a quantile",
            "seen.go_gc_duration_seconds",
            &prometheus.http,
        ),
        (
            "our own",
            "seen.veneur_flush_flush_timestamp_ns",
            &other.http,
        ),
    ] {
        let tag = instance(address);
        agent
            .wait_for_point(what, |point| point.name == name && point.has_tag(&tag))
            .await?;
    }
    for (address, up) in [(&prometheus.http, 1.0), (&other.http, 1.0), (&down, 0.0)] {
        let tag = instance(address);
        let is_up = |point: &tributary_integration::tier::Emitted| {
            point.name == "seen.up" && point.has_tag(&tag) && point.value == up
        };
        agent.wait_for_point("whether it is up", is_up).await?;
    }
    assert_eq!(counted(&agent, &["openmetrics_targets_up"]).await, 2.0);
    assert!(counted(&agent, &["openmetrics_scrapes_total", "unreachable"]).await >= 1.0);
    let malformed = ["openmetrics_samples_dropped_total", "malformed"];
    assert_eq!(counted(&agent, &malformed).await, 0.0);
    Ok(())
}

/// Decodes a request by its schema in another language.
fn decoded(body: &[u8]) -> Vec<Value> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/prometheus_wire/decode.py");
    let mut python = Command::new("python3")
        .arg(script)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    python.stdin.take().unwrap().write_all(body).unwrap();
    let output = python.wait_with_output().unwrap();
    assert!(output.status.success(), "it is no request of 2.0");
    serde_json::from_slice(&output.stdout).unwrap()
}

type Got = Arc<Mutex<Vec<(HeaderMap, Bytes)>>>;

/// A server that counts what it gets as 2.0 wants it.
async fn receiver() -> std::io::Result<(String, Got)> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?.to_string();
    let got = Got::default();
    let kept = Arc::clone(&got);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let kept = Arc::clone(&kept);
            let service = service_fn(move |request: Request<Incoming>| {
                let kept = Arc::clone(&kept);
                async move {
                    let (head, body) = request.into_parts();
                    let body = body.collect().await?.to_bytes();
                    let samples = decoded(&body).len();
                    kept.lock().unwrap().push((head.headers, body));
                    let answer = Response::builder()
                        .status(204)
                        .header("X-Prometheus-Remote-Write-Samples-Written", samples);
                    Ok::<_, hyper::Error>(answer.body(Full::<Bytes>::default()).unwrap())
                }
            });
            let connection = hyper::server::conn::http1::Builder::new();
            tokio::spawn(connection.serve_connection(TokioIo::new(stream), service));
        }
    });
    Ok((address, got))
}

#[tokio::test]
async fn a_request_of_2_0_is_what_its_schema_says() -> Outcome {
    let (address, got) = receiver().await?;
    let tier = tier()?;
    let mut agent = tier
        .agent("a")
        .with(
            "metric_sinks",
            json!([{"kind": "remote_write", "config": {"url": format!("http://{address}/w"), "tenant": "t1"}}]),
        )
        .start()
        .await?;
    agent.send("orders.placed:3|c|#env:prod,zone:z\nload:-0.25|g")?;
    let find = |name: &str| {
        let got = got.lock().unwrap();
        let series = got.iter().flat_map(|(_, body)| decoded(body));
        series
            .collect::<Vec<_>>()
            .into_iter()
            .find(|series| series["labels"]["__name__"] == name)
    };
    let total = wait_for("the total", async || find("orders_placed_total")).await?;
    let labels =
        json!({"__name__": "orders_placed_total", "env": "prod", "host": "a", "zone": "z"});
    assert_eq!(total["labels"], labels);
    let (value, at) = (&total["samples"][0][0], &total["samples"][0][1]);
    assert_eq!((value, &total["kind"]), (&json!(3.0), &json!(1)));
    assert!(total["created"].as_i64().unwrap() < at.as_i64().unwrap());
    assert_eq!(total["start"], total["created"]);
    let load = wait_for("the gauge", async || find("load")).await?;
    assert_eq!(
        (&load["samples"][0][0], &load["kind"]),
        (&json!(-0.25), &json!(2))
    );
    assert!(agent.stop().await?.success());
    let got = got.lock().unwrap();
    let headers = &got[0].0;
    for (name, value) in [
        (
            "content-type",
            "application/x-protobuf;proto=io.prometheus.write.v2.Request",
        ),
        ("content-encoding", "snappy"),
        ("x-prometheus-remote-write-version", "2.0.0"),
        ("x-scope-orgid", "t1"),
    ] {
        assert_eq!(headers[name], value, "{name}");
    }
    Ok(())
}

/// A server made of Prometheus' own published handler and messages. It keeps what it takes, and what it finds wrong.
struct Published {
    address: String,
    child: Child,
}

impl Published {
    fn start() -> Result<Self, Box<dyn std::error::Error>> {
        let mut child = Command::new(fetched("TEST_REMOTE_WRITE")?)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut address = String::new();
        BufReader::new(child.stdout.take().ok_or("no output")?).read_line(&mut address)?;
        let address = address.trim().to_owned();
        Ok(Self { address, child })
    }

    fn sink(&self, config: Value) -> Value {
        let mut whole =
            json!({"url": format!("http://{}/api/v1/write", self.address), "protocol": "v2"});
        let (Value::Object(all), Value::Object(own)) = (&mut whole, config) else {
            panic!("a map")
        };
        all.extend(own);
        json!([{"kind": "remote_write", "config": whole}])
    }

    async fn kept(&self) -> Value {
        let answer = get(&self.address, "/").await.unwrap();
        serde_json::from_slice(&answer.body).unwrap()
    }
}

impl Drop for Published {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits until an aggregator has read so many samples off its sockets.
async fn until_received(agent: &Aggregator, samples: f64) -> std::io::Result<()> {
    wait_for("all samples", async || {
        let name = "veneur_listen_received_per_protocol_total";
        (counted(agent, &[name]).await >= samples).then_some(())
    })
    .await
}

#[tokio::test]
#[cfg_attr(
    not(feature = "servers"),
    ignore = "needs Prometheus' published handler: run integration/test"
)]
async fn prometheus_published_handler_reads_what_was_sent() -> Outcome {
    let server = Published::start()?;
    let tier = tier()?;
    let mut agent = tier
        .agent("a")
        .with("interval", json!("1h"))
        .with("aggregates", json!(["min", "max", "sum", "count"]))
        .with("percentiles", json!([0.5, 1.0]))
        .with(
            "metric_sinks",
            server.sink(json!({"external_labels": {"dc": "x"}, "batch_write_size": 3})),
        )
        .start()
        .await?;
    agent.send("orders.placed:3|c|#env:prod,zone:Zürich\norders.placed:4|c|#env:prod,zone:Zürich\nload:-0.25|g|#canary,none:")?;
    agent.send("visitors:ann|s\nvisitors:bob|s\nvisitors:ann|s\n_sc|db|1|m:slow")?;
    let timings = ["t:2|ms", "t:2|ms", "t:2|ms", "t:8|ms"]
        .map(|line| format!("{line}|#quantile:q,veneurlocalonly"));
    agent.send(&timings.join("\n"))?;
    until_received(&agent, 11.0).await?;
    assert!(agent.stop().await?.success());
    let kept = server.kept().await;
    assert_eq!((&kept["wrong"], &kept["refused"]), (&json!([]), &json!(0)));
    let taken = kept["taken"].as_array().unwrap();
    let series = |name: &str, own: Value, value: f64, kind: &str, is_total: bool| {
        let mut labels = json!({"__name__": name, "dc": "x", "host": "a"});
        let (Value::Object(all), Value::Object(own)) = (&mut labels, own) else {
            panic!("a map")
        };
        all.extend(own);
        let found: Vec<_> = taken
            .iter()
            .filter(|found| found["labels"] == labels)
            .collect();
        let [found] = found[..] else {
            panic!("{labels}: {found:?} among {taken:#?}")
        };
        assert_eq!(found["type"], format!("METRIC_TYPE_{kind}"), "{found}");
        for (key, nothing) in [
            ("histograms", json!(0)),
            ("exemplars", json!(0)),
            ("help", json!("")),
            ("unit", json!("")),
        ] {
            assert_eq!(found[key], nothing, "{found}");
        }
        let [sample] = &found["samples"].as_array().unwrap()[..] else {
            panic!("{found}")
        };
        assert_eq!(sample["value"], value, "{found}");
        let number = |key: &str| sample[key].as_i64().unwrap();
        let start = if is_total { number("at") - 1 } else { 0 };
        assert_eq!(
            (number("start_of_series"), number("start_of_sample")),
            (start, start),
            "{found}"
        );
    };
    series(
        "orders_placed_total",
        json!({"env": "prod", "zone": "Zürich"}),
        7.0,
        "COUNTER",
        true,
    );
    series("load", json!({"canary": "true"}), -0.25, "GAUGE", false);
    series("visitors", json!({}), 2.0, "GAUGE", false);
    series("db", json!({}), 1.0, "GAUGE", false);
    let of_timer = |quantile: &str| match quantile {
        "" => json!({"exported_quantile": "q"}),
        quantile => json!({"exported_quantile": "q", "quantile": quantile}),
    };
    series("t", of_timer("0.5"), 2.0, "SUMMARY", false);
    series("t", of_timer("1"), 8.0, "SUMMARY", false);
    series("t_sum", of_timer(""), 14.0, "SUMMARY", true);
    series("t_count", of_timer(""), 4.0, "SUMMARY", true);
    series("t_min", json!({"quantile": "q"}), 2.0, "GAUGE", false);
    series("t_max", json!({"quantile": "q"}), 8.0, "GAUGE", false);
    assert_eq!(taken.len(), 10, "{taken:#?}");
    Ok(())
}

#[tokio::test]
#[cfg_attr(
    not(feature = "servers"),
    ignore = "needs Prometheus' published handler: run integration/test"
)]
async fn what_prometheus_published_handler_says_it_has_written_is_counted() -> Outcome {
    let server = Published::start()?;
    let tier = tier()?;
    let agent = tier
        .agent("a")
        .with("metric_sinks", server.sink(json!({})))
        .start()
        .await?;
    agent.send("good:1|g\nbad:2|g|#refuse:yes\nfair:3|g")?;
    let refused = ["remote_write_samples_refused_total", "\"out_of_order\""];
    wait_for("a refusal", async || {
        (counted(&agent, &refused).await > 0.0).then_some(())
    })
    .await?;
    wait_for("the others", async || {
        let kept = server.kept().await;
        (kept["taken"].as_array()?.len() >= 2).then_some(())
    })
    .await?;
    let kept = server.kept().await;
    assert_eq!(
        (&kept["wrong"], &kept["refused"]),
        (&json!([]), &json!(1)),
        "it is not sent again"
    );
    assert_eq!(kept["taken"].as_array().unwrap().len(), 2, "{kept}");
    assert_eq!(counted(&agent, &refused).await, 1.0);
    let name = "remote_write_requests_total";
    assert_eq!(counted(&agent, &[name, "\"partial\""]).await, 1.0);
    assert_eq!(counted(&agent, &["sink_metrics_dropped_total"]).await, 1.0);
    Ok(())
}

#[test]
fn the_documentations_examples_are_configurations() -> Outcome {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs");
    let page = std::fs::read_to_string(docs.join("prometheus.md"))?;
    let directory = TempDir::new()?;
    let token = directory.path().join("token");
    std::fs::write(&token, "tok")?;
    let examples: Vec<&str> = page.split("```yaml\n").skip(1).collect();
    assert_eq!(examples.len(), 2);
    for example in examples {
        let example = example.split("```").next().unwrap();
        let token = token.to_str().unwrap();
        let example = example.replace("/etc/tributary/mimir.token", token);
        let file = directory.path().join("config.yaml");
        std::fs::write(&file, &example)?;
        let checked = Command::new(env!("CARGO_BIN_EXE_tributary"))
            .args(["aggregator", "--check", "-f"])
            .arg(&file)
            .output()?;
        let said = String::from_utf8_lossy(&checked.stderr).into_owned();
        assert!(checked.status.success(), "{example}\n{said}");
    }
    Ok(())
}
