//! Sinks and sources by mutual TLS. Each trusts the wrong CA first: nothing goes out, nothing is lost, and it is told and counted. With the right CA in
//! the file, what waited goes on.

use std::path::PathBuf;

use serde_json::{Value, json};
use tributary_integration::tier::{Aggregator, Tier, free_address, get, wait_for};

use super::authority::{Authority, with};
use super::receiver::Receiver;
use super::{Outcome, tier, until_counted, until_logged, until_total};

/// A server's CA, and a client that does not trust it yet.
struct Trust {
    ca: Authority,
    other: Authority,
    /// The client's `ca_file`.
    file: PathBuf,
}

impl Trust {
    fn new(tier: &Tier) -> std::io::Result<Self> {
        let ca = Authority::new(tier.directory(), "fleet")?;
        let other = Authority::new(tier.directory(), "other")?;
        let file = tier.directory().join("trusted.pem");
        std::fs::copy(&other.file, &file)?;
        Ok(Self { ca, other, file })
    }

    /// Settings of a server that asks for a certificate.
    fn server(&self) -> std::io::Result<Value> {
        Ok(self.ca.server(&self.ca.issue("server")?))
    }

    /// Settings of a client that the server lets in.
    fn client(&self) -> std::io::Result<Value> {
        Ok(with(&self.ca.issue("client")?, "ca_file", json!(self.file)))
    }

    /// Settings of a client that trusts the server, and has a certificate that the server does not know.
    fn stranger(&self) -> std::io::Result<Value> {
        Ok(self.ca.client(&self.other.issue("stranger")?))
    }

    /// Puts the right CA into the client's file.
    async fn set_right(&self, client: &Aggregator, hops: &[&str]) -> Outcome {
        std::fs::copy(&self.ca.file, &self.file)?;
        for hop in hops {
            until_logged(&client.program, &[hop, "TLS files read again"]).await?;
        }
        Ok(())
    }
}

/// The sum of a self-metric's lines that have all of these texts.
async fn counted(agent: &Aggregator, texts: &[&str]) -> Option<f64> {
    let page = get(&agent.http, "/metrics").await.ok()?.text();
    let lines = page
        .lines()
        .filter(|line| texts.iter().all(|text| line.contains(text)));
    Some(
        lines
            .filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok())
            .sum(),
    )
}

async fn assert_nothing_is_lost(agent: &Aggregator) -> Outcome {
    let dropped = counted(agent, &["sink_metrics_dropped_total{"]).await;
    assert_eq!(dropped, Some(0.0), "{}", agent.program.log());
    Ok(())
}

/// A sink, and the path that it posts to.
struct HttpSink {
    kind: &'static str,
    path: &'static str,
    config: Value,
}

/// Each HTTP sink with settings that send at once, uncompressed, to one server.
fn sinks(url: &str, tls: &Value) -> Vec<HttpSink> {
    let sink = |kind, path, config: Value| {
        let own = [
            ("tls", tls.clone()),
            ("backoff", json!("50ms")),
            ("max_backoff", json!("100ms")),
        ];
        let config = own
            .into_iter()
            .fold(config, |config, (key, value)| with(&config, key, value));
        HttpSink { kind, path, config }
    };
    let remote_write = json!({"url": format!("{url}/api/v1/write"), "protocol": "v2", "interval": "0s", "hostname_label": ""});
    let datadog = json!({"api_hostname": url, "api_key": "k", "compression": "none"});
    let influxdb = json!({"url": url, "flush_interval": "0s", "gzip": false, "ping_timeout": "0s"});
    let s3 = json!({
        "endpoint": url, "bucket": "points", "region": "us-east-1", "access_key_id": "a", "secret_access_key": "b",
        "flush_interval": "0s", "compression": "none",
    });
    vec![
        sink("remote_write", "/api/v1/write", remote_write),
        sink("datadog", "/api/v2/series", datadog),
        sink("influxdb", "/write", influxdb),
        sink("s3", "/points/", s3),
    ]
}

async fn agent_with(tier: &Tier, sinks: &[HttpSink]) -> std::io::Result<Aggregator> {
    let sinks = sinks.iter();
    let sinks = sinks.map(|sink| json!({"kind": sink.kind, "config": sink.config}));
    let sinks: Vec<_> = sinks.collect();
    let agent = tier.agent("a1").with("metric_sinks", json!(sinks));
    agent.start().await
}

/// Waits until a sink has tried again what it could not send, and checks that it counts as neither sent nor lost.
async fn until_tried_again(agent: &Aggregator, kind: &str) -> Outcome {
    let of_kind = format!("sink_name=\"{kind}\"");
    let failed = ["sink_write_errors_total{", &of_kind];
    wait_for(&format!("{kind} to try again"), async || {
        (counted(agent, &failed).await? >= 2.0).then_some(())
    })
    .await?;
    for name in ["sink_metrics_flushed_total{", "sink_metrics_dropped_total{"] {
        let number = counted(agent, &[name, &of_kind]).await;
        assert_eq!(number, Some(0.0), "{kind} {name}: {}", agent.program.log());
    }
    let for_good = counted(agent, &[failed[0], &of_kind, "retriable=\"false\""]).await;
    assert_eq!(for_good, Some(0.0), "{kind}");
    Ok(())
}

#[tokio::test]
async fn what_http_sinks_could_not_send_to_a_stranger_comes_once_he_is_known() -> Outcome {
    let tier = tier()?;
    let trust = Trust::new(&tier)?;
    let receiver = Receiver::start(trust.server()?).await?;
    let sinks = sinks(&receiver.url, &trust.client()?);
    let agent = agent_with(&tier, &sinks).await?;
    agent.send("e2e_once:1|g")?;
    let hops: Vec<_> = sinks
        .iter()
        .map(|sink| format!("{}_tls", sink.kind))
        .collect();
    let hops: Vec<_> = hops.iter().map(String::as_str).collect();
    for (sink, hop) in sinks.iter().zip(&hops) {
        until_counted(&agent.http, hop, "unknown_ca").await?;
        until_tried_again(&agent, sink.kind).await?;
    }
    assert_eq!(receiver.total(), 0);
    trust.set_right(&agent, &hops).await?;
    for HttpSink { kind, path, .. } in &sinks {
        wait_for(kind, async || {
            (receiver.count(path, "e2e_once") > 0).then_some(())
        })
        .await
        .map_err(|error| format!("{error}:\n{}", agent.program.log()))?;
        let sink = format!("sink_name=\"{kind}\"");
        let flushed = ["sink_metrics_flushed_total{", &sink];
        wait_for(kind, async || {
            (counted(&agent, &flushed).await? >= 1.0).then_some(())
        })
        .await?;
        assert_eq!(receiver.count(path, "e2e_once"), 1, "{kind}");
    }
    assert_nothing_is_lost(&agent).await
}

#[tokio::test]
async fn http_sinks_with_a_certificate_of_another_ca_are_not_let_in_and_keep_their_points()
-> Outcome {
    let tier = tier()?;
    let trust = Trust::new(&tier)?;
    let receiver = Receiver::start(trust.server()?).await?;
    let sinks = sinks(&receiver.url, &trust.stranger()?);
    let agent = agent_with(&tier, &sinks).await?;
    agent.send("e2e_never:1|g")?;
    for HttpSink { kind, .. } in &sinks {
        until_counted(&agent.http, &format!("{kind}_tls"), "unknown_ca").await?;
        until_tried_again(&agent, kind).await?;
    }
    assert_eq!(receiver.total(), 0);
    Ok(())
}

#[tokio::test]
async fn otlp_goes_by_mutual_tls_over_grpc_and_http_to_a_source() -> Outcome {
    for protocol in ["grpc", "http"] {
        let tier = tier()?;
        let trust = Trust::new(&tier)?;
        let address = free_address()?;
        let source =
            json!([{"kind": "otlp", "config": {"listen": [address], "tls": trust.server()?}}]);
        let global = tier.global("g1").with("sources", source).start().await?;
        let sink = |tls: Value| {
            let url = format!("https://{address}");
            let config = json!({"url": url, "protocol": protocol, "backoff": "50ms", "max_backoff": "100ms", "tls": tls});
            json!([{"kind": "otlp", "config": config}])
        };
        let stranger = tier
            .agent("stranger")
            .with("metric_sinks", sink(trust.stranger()?))
            .start()
            .await?;
        stranger.send("e2e.stranger:1|c")?;
        until_counted(&stranger.http, "otlp_tls", "unknown_ca").await?;
        until_counted(&global.http, "otlp", "unknown_ca").await?;
        until_tried_again(&stranger, "otlp").await?;

        let agent = tier
            .agent("a1")
            .with("metric_sinks", sink(trust.client()?))
            .start()
            .await?;
        agent.send("e2e.otlp:41|c")?;
        until_counted(&agent.http, "otlp_tls", "unknown_ca").await?;
        until_tried_again(&agent, "otlp").await?;
        trust.set_right(&agent, &["otlp_tls"]).await?;
        agent.send("e2e.otlp:1|c")?;
        until_total(&global, "e2e.otlp", 42.0).await?;
        assert_nothing_is_lost(&agent).await?;
        let came = global.emitted()?;
        assert!(
            !came.iter().any(|point| point.name == "e2e.stranger"),
            "{came:?}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn a_page_behind_mutual_tls_is_scraped_once_its_server_is_trusted() -> Outcome {
    let tier = tier()?;
    let trust = Trust::new(&tier)?;
    let receiver = Receiver::start(trust.server()?).await?;
    let config = json!({
        "scrape_target": format!("{}/metrics", receiver.url), "scrape_interval": "100ms", "tls": trust.client()?,
    });
    let source = json!([{"kind": "openmetrics", "config": config}]);
    let agent = tier.agent("a1").with("sources", source).start().await?;
    let up = |value: f64| {
        move |point: &tributary_integration::tier::Emitted| {
            point.name == "up" && point.value == value
        }
    };
    agent.wait_for_point("that it is down", up(0.0)).await?;
    until_counted(&agent.http, "openmetrics_tls", "unknown_ca").await?;
    assert_eq!(receiver.total(), 0);
    trust.set_right(&agent, &["openmetrics_tls"]).await?;
    agent.wait_for_point("that it is up", up(1.0)).await?;
    agent
        .wait_for_point("what is on it", |point| {
            point.name == "seen" && point.value == 7.0
        })
        .await?;
    let scrapes = counted(&agent, &["openmetrics_scrapes_total{", "unreachable"]).await;
    assert!(scrapes.is_some_and(|scrapes| scrapes >= 1.0), "{scrapes:?}");
    Ok(())
}
