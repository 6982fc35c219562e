//! The sink `datadog` in front of an intake that reads bodies with the models of Datadog's own client, which `integration/test` brings.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use bytes::Bytes;
use serde_json::{Value, json};
use tributary_integration::consul::fetched;
use tributary_integration::tier::{Aggregator, Binaries, Tier, free_address, get, post, wait_for};

type Outcome = Result<(), Box<dyn std::error::Error>>;

const KEY: &str = "0123456789abcdef0123456789abcdef";

/// `integration/peers/datadog/intake.py`.
struct Intake {
    address: String,
    child: Child,
}

impl Intake {
    async fn start() -> io::Result<Self> {
        let address = free_address()?;
        let port = address.rsplit(':').next().unwrap_or_default();
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers/datadog/intake.py");
        let child = Command::new("python3")
            .arg(script)
            .args([&fetched("TEST_DATADOG_API")?, port, KEY])
            .stdin(Stdio::null())
            .spawn()?;
        let intake = Self { address, child };
        wait_for("the intake", async || {
            get(&intake.address, "/seen").await.ok().map(drop)
        })
        .await?;
        Ok(intake)
    }

    /// What came to a path and was answered so.
    async fn seen(&self, path: &str, status: u16) -> Vec<Value> {
        let Ok(answer) = get(&self.address, "/seen").await else {
            return Vec::new();
        };
        let seen: Vec<Value> = serde_json::from_str(&answer.text()).unwrap_or_default();
        let fits = |one: &Value| one["path"] == path && one["status"] == status;
        seen.into_iter().filter(fits).collect()
    }

    /// All series that were taken.
    async fn series(&self) -> Vec<Value> {
        let bodies = self.seen("/api/v2/series", 202).await;
        let lists = bodies
            .iter()
            .filter_map(|one| one["body"]["series"].as_array());
        lists.flatten().cloned().collect()
    }

    async fn wait_for_series(&self, count: usize) -> io::Result<Vec<Value>> {
        wait_for(&format!("{count} series"), async || {
            let series = self.series().await;
            (series.len() >= count).then_some(series)
        })
        .await
    }

    async fn control(&self, what: Value) -> io::Result<()> {
        let body = Bytes::from(what.to_string());
        post(&self.address, "/do", &[], body).await.map(drop)
    }
}

impl Drop for Intake {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

async fn agent(tier: &Tier, intake: &Intake, config: Value) -> io::Result<Aggregator> {
    let mut own = json!({
        "api_hostname": format!("http://{}", intake.address), "api_key": KEY,
        "backoff": "100ms", "max_backoff": "500ms",
    });
    if let (Some(own), Some(config)) = (own.as_object_mut(), config.as_object()) {
        own.extend(config.clone());
        own.retain(|_, value| !value.is_null());
    }
    tier.agent("web-1")
        .with(
            "metric_sinks",
            json!([{"kind": "datadog", "name": "dd", "config": own}]),
        )
        .start()
        .await
}

/// A self-metric's line that has all these texts in it, as a number.
async fn metric(agent: &Aggregator, texts: &[&str]) -> Option<f64> {
    let text = get(&agent.http, "/metrics").await.ok()?.text();
    let line = text
        .lines()
        .find(|line| texts.iter().all(|text| line.contains(text)))?;
    line.rsplit(' ').next()?.parse().ok()
}

#[tokio::test]
#[cfg_attr(
    not(feature = "servers"),
    ignore = "needs Datadog's client: run integration/test"
)]
async fn points_checks_and_events_are_what_datadogs_own_client_reads() -> Outcome {
    let intake = Intake::start().await?;
    let tier = Tier::new(Binaries::of(env!("CARGO_BIN_EXE_tributary")))?;
    let config = json!({
        "metric_name_prefix_drops": ["noise."],
        "exclude_tags_prefix_by_prefix_metric": [{"metric_prefix": "api.", "tags": ["secret_"]}],
    });
    let agent = agent(&tier, &intake, config).await?;
    agent.send(
        "api.hits:5|c|#env:prod,secret_a:1\napi.load:0.1|g|#host:db1,device:sda,env:prod\nnoise.x:1|c\nlat:7|ms|#env:prod\n\
         _sc|db.up|2|h:db9|#env:prod|m:it is down\n_e{6,7}:deploy|v5\\nnow|k:grp|s:ci|t:warning|#env:prod",
    )?;
    let series = intake.wait_for_series(5).await?;
    let named: BTreeMap<_, _> = series
        .iter()
        .filter_map(|one| Some((one["metric"].as_str()?, one)))
        .collect();
    let hits = named["api.hits"];
    assert_eq!(
        (&hits["type"], &hits["points"][0]["value"]),
        (&json!(1), &json!(5.0))
    );
    assert_eq!(hits["tags"], json!(["env:prod"]), "another tag is excluded");
    assert_eq!(
        hits["resources"],
        json!([{"type": "host", "name": "web-1"}])
    );
    let load = named["api.load"];
    assert_eq!(
        (&load["type"], &load["points"][0]["value"]),
        (&json!(3), &json!(0.1))
    );
    assert_eq!(
        load["resources"],
        json!([{"type": "host", "name": "db1"}, {"type": "device", "name": "sda"}])
    );
    assert_eq!(load["tags"], json!(["env:prod"]));
    assert_eq!(named["lat.count"]["type"], 1);
    assert_eq!(named["lat.max"]["points"][0]["value"], 7.0);
    assert!(!named.contains_key("noise.x"));
    assert_eq!(
        intake.seen("/api/v2/series", 202).await[0]["encoding"],
        "gzip"
    );

    let events = wait_for("the event and the check", async || {
        let events = intake.seen("/api/v1/events", 202).await;
        let checks = intake.seen("/api/v1/check_run", 202).await;
        (!events.is_empty() && !checks.is_empty()).then_some((events, checks))
    })
    .await?;
    let (event, check) = (&events.0[0]["body"], &events.1[0]["body"][0]);
    assert_eq!(
        (&event["title"], &event["text"]),
        (&json!("deploy"), &json!("v5\nnow"))
    );
    assert_eq!(
        (&event["aggregation_key"], &event["alert_type"]),
        (&json!("grp"), &json!("warning"))
    );
    assert_eq!(
        (&event["host"], &event["source_type_name"]),
        (&json!("web-1"), &json!("ci"))
    );
    assert_eq!(
        (&check["check"], &check["status"]),
        (&json!("db.up"), &json!(2))
    );
    assert_eq!(
        (&check["host_name"], &check["message"]),
        (&json!("db9"), &json!("it is down"))
    );
    assert!(intake.seen("/api/v2/series", 400).await.is_empty());
    Ok(())
}

#[tokio::test]
#[cfg_attr(
    not(feature = "servers"),
    ignore = "needs Datadog's client: run integration/test"
)]
async fn a_bad_key_and_an_intake_that_is_away_lose_nothing_and_bad_points_only_themselves()
-> Outcome {
    let intake = Intake::start().await?;
    let tier = Tier::new(Binaries::of(env!("CARGO_BIN_EXE_tributary")))?;
    let file = tier.directory().join("key");
    std::fs::write(&file, "not-the-key\n")?;
    let config = json!({"api_key": null, "api_key_file": file, "flush_max_per_body": 100, "compression": "deflate", "counters": "rate"});
    let mut agent = agent(&tier, &intake, config).await?;
    agent.send("first:3|c")?;
    wait_for("a refusal", async || {
        let seen = intake.seen("/api/v2/series", 403).await;
        (!seen.is_empty()).then_some(())
    })
    .await?;
    wait_for("a loud line", async || {
        agent
            .program
            .log()
            .contains("refuses the API key")
            .then_some(())
    })
    .await?;
    assert!(!agent.program.log().contains("not-the-key"));
    // The right key, and an intake that is away at first, and takes little.
    let answers = json!([[503, {}, ""], [429, {"x-ratelimit-reset": "1"}, ""], [202, {}, "{\"errors\": [\"too old\"]}"]]);
    intake
        .control(json!({"answers": answers, "refuse": "bad.name"}))
        .await?;
    std::fs::write(&file, KEY)?;
    wait_for("the complaint to be counted", async || {
        let counted = metric(&agent, &["accepted_errors_total", "series"]).await?;
        (counted >= 1.0).then_some(())
    })
    .await?;
    intake.control(json!({"limit": 600})).await?;
    let lines: Vec<_> = (0..250).map(|n| format!("many.{n}:{n}|g")).collect();
    for lines in lines.chunks(50) {
        agent.send(&lines.join("\n"))?;
    }
    agent.send("bad.name:1|g")?;
    let mut last = 0;
    wait_for("all good ones", async || {
        let series = intake.series().await;
        let many = series.iter().filter(|one| {
            one["metric"]
                .as_str()
                .is_some_and(|name| name.starts_with("many."))
        });
        last = many.count();
        (last == 250).then_some(())
    })
    .await
    .map_err(|error| format!("{error}: {last}"))?;
    wait_for("the bad one to be counted", async || {
        let refused = metric(&agent, &["sink_datadog_refused_total", "cause=\"refused\""]).await?;
        (refused == 1.0).then_some(())
    })
    .await?;
    assert!(!intake.seen("/api/v2/series", 413).await.is_empty());
    assert_eq!(
        intake
            .seen("/api/v2/series", 400)
            .await
            .iter()
            .filter(|one| {
                one["body"]["series"]
                    .as_array()
                    .is_some_and(|series| series.len() == 1)
            })
            .count(),
        1,
        "it was found and not tried again"
    );
    let config = get(&agent.http, "/config").await?.text();
    assert!(!config.contains(KEY) && !agent.program.log().contains(KEY));
    assert!(agent.program.stop().await?.success());
    Ok(())
}
