//! The self-metrics, the dashboards and the alert rules with a real Prometheus, which `integration/test` brings.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "files of ours that are not as the tests take them to be fail the tests"
)]

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use tempfile::TempDir;
use tributary_integration::consul::fetched;
use tributary_integration::tier::{Binaries, Tier, free_address, get, wait_for};

/// Whoever has it may send to the agent's flux.
const FLUX_KEY: &str = "0123456789abcdefghijklmnopqrstuv";

type Outcome = Result<(), Box<dyn std::error::Error>>;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// A Prometheus that scrapes each second, for one test.
struct Prometheus {
    http: String,
    child: Child,
    directory: TempDir,
}

impl Prometheus {
    async fn start(jobs: &[(&str, &[&str])]) -> Result<Self, Box<dyn std::error::Error>> {
        let directory = TempDir::new()?;
        let jobs: Vec<Value> = jobs
            .iter()
            .map(
                |(job, targets)| json!({"job_name": job, "static_configs": [{"targets": targets}]}),
            )
            .collect();
        let config = json!({
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
            "scrape_configs": jobs,
            "rule_files": [fs::canonicalize(root().join("alerts/tributary.yaml"))?],
        });
        let file = directory.path().join("prometheus.yml");
        fs::write(&file, config.to_string())?;
        let http = free_address()?;
        let log = fs::File::create(directory.path().join("log"))?;
        let child = Command::new(fetched("TEST_PROMETHEUS")?)
            .arg(format!("--config.file={}", file.display()))
            .arg(format!(
                "--storage.tsdb.path={}",
                directory.path().join("data").display()
            ))
            .arg(format!("--web.listen-address={http}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()?;
        let prometheus = Self {
            http,
            child,
            directory,
        };
        wait_for("Prometheus", async || {
            let answer = get(&prometheus.http, "/-/ready").await.ok()?;
            answer.status.is_success().then_some(())
        })
        .await
        .map_err(|error| format!("{error}\n{}", prometheus.log()))?;
        Ok(prometheus)
    }

    fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }

    /// The series that an expression gives now.
    async fn query(&self, expression: &str) -> Result<Vec<Value>, String> {
        let encoded: String = expression
            .bytes()
            .map(|byte| format!("%{byte:02X}"))
            .collect();
        let answer = get(&self.http, &format!("/api/v1/query?query={encoded}"))
            .await
            .map_err(|error| error.to_string())?;
        let answer: Value =
            serde_json::from_slice(&answer.body).map_err(|error| error.to_string())?;
        match answer["status"].as_str() {
            Some("success") => Ok(answer["data"]["result"]
                .as_array()
                .cloned()
                .unwrap_or_default()),
            _ => Err(format!("{expression}: {answer}")),
        }
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn promtool(arguments: &[&str], input: &str) -> std::io::Result<Output> {
    let mut child = Command::new(fetched("TEST_PROMTOOL")?)
        .args(arguments)
        .current_dir(root().join("alerts"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    child.stdin.take().unwrap().write_all(input.as_bytes())?;
    child.wait_with_output()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[output.stdout.as_slice(), &output.stderr].concat()).into_owned()
}

/// What promtool finds in names that are Veneur's, or that follow them: everything else is a finding.
fn is_the_price_of_veneurs_names(finding: &str) -> bool {
    [
        r#"counter metrics should have "_total" suffix"#,
        r#"non-counter metrics should not have "_total" suffix"#,
        "metric names should not contain abbreviated units",
        "use base unit",
    ]
    .iter()
    .any(|known| finding.contains(known))
}

/// An expression of a dashboard as Grafana would send it.
fn expressions(path: &Path) -> Vec<String> {
    let dashboard: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    panels
        .iter()
        .filter_map(|panel| panel["targets"].as_array())
        .flatten()
        .map(|target| {
            let expression = target["expr"].as_str().unwrap();
            expression
                .replace("$__rate_interval", "10s")
                .replace("$__range", "1m")
                .replace("$job", ".*")
                .replace("$instance", ".*")
        })
        .collect()
}

#[tokio::test]
#[cfg_attr(
    not(feature = "servers"),
    ignore = "needs Prometheus: run integration/test"
)]
async fn prometheus_scrapes_a_tier_and_fills_the_dashboards() -> Outcome {
    let tier = Tier::new(Binaries::of(env!("CARGO_BIN_EXE_tributary")))?;
    // What the agent writes to Graphite the global takes as carbon, so that panels of both have something to show.
    let (carbon, flux) = (free_address()?, free_address()?);
    let global = tier
        .global("g")
        .with(
            "sources",
            json!([{"kind": "carbon", "config": {"pickle": carbon}}]),
        )
        .start()
        .await?;
    let proxy = tier
        .proxy("p")
        .destination(&global.grpc)
        .with("stats_interval", json!("1s"))
        .start()
        .await?;
    let agent = tier
        .agent("a")
        .forward_to(&proxy.grpc)
        .with("history", json!({}))
        .with(
            "metric_sinks",
            json!([{"kind": "graphite", "config": {"destinations": [carbon]}}]),
        )
        .with(
            "sources",
            json!([{"kind": "flux", "config": {"address": flux, "self_api_key": FLUX_KEY}}]),
        )
        .start()
        .await?;
    let prometheus = Prometheus::start(&[
        ("proxy", &[&proxy.http]),
        ("aggregator", &[&global.http, &agent.http]),
    ])
    .await?;

    // As long as nobody has seen all of it, there is something to see.
    let counted = format!(
        r#"veneur_proxy_proxy_proxied_metrics_total{{job="proxy", instance="{}", destination="{}"}}"#,
        proxy.http, global.grpc
    );
    wait_for("Prometheus to have seen a rate", async || {
        agent.send("t:1|ms\nc:1|c|#veneurglobalonly\nl:1|c").ok()?;
        let seconds = SystemTime::now().duration_since(UNIX_EPOCH).ok()?.as_secs();
        let point = format!("metric=f&value=1&timestamp={seconds}&key={FLUX_KEY}");
        for (address, path) in [
            (&flux, format!("/flux/metric_data?{point}")),
            (&agent.http, "/render?target=*".to_owned()),
        ] {
            get(address, &path).await.ok()?;
        }
        // Each of these has a rate once it was scraped twice.
        for counter in [
            counted.as_str(),
            "veneur_listen_received_per_protocol_total",
            "veneur_forward_post_metrics_total",
            "veneur_worker_metrics_imported_total",
            "veneur_sink_metrics_flushed_total",
            "veneur_carbon_points_total",
            "veneur_flux_points_total",
            "veneur_history_queries_total",
        ] {
            let rate = format!("sum(rate({counter}[10s])) > 0");
            if prometheus.query(&rate).await.unwrap().is_empty() {
                return None;
            }
        }
        Some(())
    })
    .await
    .map_err(|error| format!("{error}\n{}", prometheus.log()))?;
    let up = prometheus.query("up == 1").await?;
    assert_eq!(up.len(), 3, "{up:?}");
    let types = get(
        &prometheus.http,
        "/api/v1/metadata?metric=veneur_proxy_forward_duration_ns",
    )
    .await?
    .text();
    assert!(
        types.contains(r#""type":"summary""#) && types.contains("From sending a batch"),
        "{types}"
    );

    // Each panel's expression is one, and those that tell of what goes well have something to show.
    let mut empty = Vec::new();
    for entry in fs::read_dir(root().join("dashboards"))? {
        let path = entry?.path();
        if path.ends_with("cloudfoundry.json") {
            // It asks an InfluxDB.
            continue;
        }
        let all = expressions(&path);
        assert!(all.len() > 10, "{}", path.display());
        for expression in all {
            if prometheus.query(&expression).await?.is_empty() {
                empty.push(expression);
            }
        }
    }
    let tells_of_trouble = |expression: &String| {
        [
            "error",
            "dropped",
            "folded",
            "lost",
            "failed",
            "returned",
            "retried",
            "refused",
            "handoff",
            "repeated",
            "acknowledged",
            "available",
            "flushed_metrics{",
            "discoverer_update",
            "backlog",
            "evicted",
            "spooled",
        ]
        .iter()
        .any(|word| expression.contains(word))
    };
    empty.retain(|expression| !tells_of_trouble(expression));
    assert!(empty.is_empty(), "nothing to show for {empty:#?}");

    // The rules are loaded, and none fires where all is well.
    let rules = get(&prometheus.http, "/api/v1/rules").await?.text();
    assert!(
        rules.contains("TributaryNoDestinations") && !rules.contains(r#""health":"err""#),
        "{rules}"
    );
    let firing = prometheus.query(r#"ALERTS{alertstate="firing"}"#).await?;
    assert!(firing.is_empty(), "{firing:?}");

    for address in [&proxy.http, &global.http, &agent.http] {
        let page = get(address, "/metrics").await?.text();
        let checked = promtool(&["check", "metrics"], &page)?;
        // 0: nothing to say; 3: remarks on style; anything else: no Prometheus would read it.
        assert!(
            matches!(checked.status.code(), Some(0 | 3)),
            "{}",
            said(&checked)
        );
        let findings = said(&checked);
        let findings: Vec<&str> = findings
            .lines()
            .filter(|line| !is_the_price_of_veneurs_names(line))
            .collect();
        assert!(findings.is_empty(), "{findings:#?}");
    }
    Ok(())
}

#[test]
#[cfg_attr(
    not(feature = "servers"),
    ignore = "needs promtool: run integration/test"
)]
fn promtool_takes_the_alert_rules_and_they_fire_when_they_should() -> Outcome {
    for arguments in [
        ["check", "rules", "tributary.yaml"],
        ["test", "rules", "tests.yaml"],
    ] {
        let output = promtool(&arguments, "")?;
        assert!(output.status.success(), "{}", said(&output));
    }
    Ok(())
}
