//! The tier beside real servers and clients, which `integration/test` brings.

use std::io;
use std::process::Command;

use serde_json::{Value, json};
use tributary_integration::consul::{Consul, fetched};
use tributary_integration::tier::{Binaries, Proxy, Tier, get, wait_for};

type Outcome = Result<(), Box<dyn std::error::Error>>;

fn binaries() -> Binaries {
    Binaries::of(env!("CARGO_BIN_EXE_tributary"))
}

async fn members(proxy: &Proxy) -> Option<Vec<String>> {
    let ring: Value =
        serde_json::from_slice(&get(&proxy.http, "/api/ring").await.ok()?.body).ok()?;
    let mut members: Vec<String> = ring["members"]
        .as_array()?
        .iter()
        .filter_map(|member| Some(member.get("address").unwrap_or(member).as_str()?.to_owned()))
        .collect();
    members.sort();
    Some(members)
}

async fn wait_for_members(proxy: &Proxy, mut wanted: Vec<String>) -> io::Result<()> {
    wanted.sort();
    wait_for(&format!("the ring {wanted:?}"), async || {
        (members(proxy).await? == wanted).then_some(())
    })
    .await
}

#[tokio::test]
#[cfg_attr(
    not(feature = "servers"),
    ignore = "needs a Consul server: run integration/test"
)]
async fn the_ring_follows_consul_and_outlives_it() -> Outcome {
    let consul = Consul::start().await?;
    let tier = Tier::new(binaries())?;
    let mut globals = Vec::new();
    for number in 1..=3 {
        let global = tier.global(&format!("g{number}")).start().await?;
        consul.register(&format!("g{number}"), &global.grpc).await?;
        globals.push(global);
    }
    let proxy = tier
        .proxy("p")
        .with("consul_forward_service_name", json!("veneur-global"))
        .with("consul_address", json!(consul.http()))
        .with("consul_refresh_interval", json!("10s"))
        .start()
        .await?;
    let all: Vec<_> = globals.iter().map(|global| global.grpc.clone()).collect();
    wait_for_members(&proxy, all.clone()).await?;

    consul.deregister("g2").await?;
    let two = vec![all[0].clone(), all[2].clone()];
    wait_for_members(&proxy, two.clone()).await?;

    // An empty answer, then no answer at all: the last good ring stays.
    consul.deregister("g1").await?;
    wait_for_members(&proxy, vec![all[2].clone()]).await?;
    consul.deregister("g3").await?;
    wait_for("an empty answer to be counted", async || {
        let metrics = get(&proxy.http, "/metrics").await.ok()?.text();
        metrics
            .lines()
            .any(|line| {
                line.contains("discoverer_errors")
                    && !line.starts_with('#')
                    && !line.ends_with(" 0")
            })
            .then_some(())
    })
    .await?;
    assert_eq!(members(&proxy).await, Some(vec![all[2].clone()]));
    drop(consul);
    let agent = tier.agent("a").forward_to(&proxy.grpc).start().await?;
    agent.send("consul.gone:4|c|#veneurglobalonly")?;
    globals[2]
        .wait_for_point("the counter without Consul", |point| {
            point.name == "consul.gone" && point.value == 4.0
        })
        .await?;
    Ok(())
}

/// What an application does with Datadog's own client: counts, timings, sets, gauges, an event, a service check.
const APPLICATION: &str = r#"
import sys
from datadog.dogstatsd import DogStatsd
host, port = sys.argv[1].split(":")
client = DogStatsd(host=host, port=int(port), constant_tags=["env:test"], disable_telemetry=True)
for i in range(500):
    client.increment("dd.count", tags=["veneurglobalonly"])
    client.timing("dd.timing", i)
    client.histogram("dd.histogram", i)
    client.distribution("dd.distribution", i)
    client.set("dd.set", "user-%d" % (i % 50))
client.gauge("dd.gauge", 2.5)
client.gauge_with_timestamp("dd.stamped", 7, 1700000000) if hasattr(client, "gauge_with_timestamp") else client.gauge("dd.stamped", 7)
client.event("a title", "a text\nof two lines", tags=["a:b"])
client.service_check("dd.check", 1, message="not well")
client.flush() if hasattr(client, "flush") else None
"#;

#[tokio::test]
#[cfg_attr(
    not(feature = "servers"),
    ignore = "needs the datadog Python client: run integration/test"
)]
async fn datadogs_python_client_is_understood() -> Outcome {
    let tier = Tier::new(binaries())?;
    let global = tier.global("g").start().await?;
    let proxy = tier.proxy("p").destination(&global.grpc).start().await?;
    let agent = tier.agent("a").forward_to(&proxy.grpc).start().await?;
    let application = Command::new("python3")
        .env("PYTHONPATH", fetched("TEST_DATADOG")?)
        .args(["-c", APPLICATION, &agent.statsd])
        .status()?;
    assert!(application.success());

    let mut counted = 0.0;
    wait_for("500 counts", async || {
        counted = global
            .emitted()
            .ok()?
            .iter()
            .filter(|point| point.name == "dd.count")
            .map(|point| point.value)
            .sum();
        (counted >= 500.0).then_some(())
    })
    .await?;
    assert_eq!(counted, 500.0);
    for name in [
        "dd.timing.99percentile",
        "dd.histogram.99percentile",
        "dd.distribution.99percentile",
        "dd.set",
    ] {
        global
            .wait_for_point(name, |point| {
                point.name == name && point.has_tag("env:test")
            })
            .await?;
    }
    agent
        .wait_for_point("the gauge", |point| {
            point.name == "dd.gauge" && point.value == 2.5
        })
        .await?;
    agent
        .wait_for_point("the stamped gauge", |point| {
            point.name == "dd.stamped" && point.value == 7.0
        })
        .await?;
    let check = agent
        .wait_for_point("the check", |point| point.name == "dd.check")
        .await?;
    assert_eq!(
        (check.kind.as_str(), check.value, check.message.as_deref()),
        ("status", 1.0, Some("not well"))
    );
    let metrics = get(&agent.http, "/metrics").await?.text();
    assert!(
        !metrics
            .lines()
            .any(|line| line.contains("packet_error_total{")),
        "something was not understood:\n{metrics}"
    );
    Ok(())
}
