//! The real program in front of a Blueflood and a Keystone: the last flush, and a key that nobody gets to see.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test ends at the first surprise"
)]

#[path = "../../aggregator/tests/blueflood/mock.rs"]
#[allow(
    dead_code,
    unreachable_pub,
    missing_docs,
    reason = "others use it as well"
)]
mod mock;

use std::path::Path;

use mock::{Blueflood, Fault, Keystone, Server, start};
use serde_json::{Value, json};
use tributary_integration::tier::{Aggregator, Binaries, Tier, get, wait_for};

type Outcome = Result<(), Box<dyn std::error::Error>>;

const KEY: &str = "k3y0f4lice";

async fn cloud() -> (Server<Blueflood>, Server<Keystone>) {
    let (blueflood, keystone) = (start::<Blueflood>().await, start::<Keystone>().await);
    blueflood.state().tokens = Some((1..10).map(|n| format!("tok{n}")).collect());
    {
        let mut state = keystone.state();
        state.secret = KEY.to_owned();
        state.lifetime = 86_400;
    }
    (blueflood, keystone)
}

fn sinks(
    blueflood: &Server<Blueflood>,
    keystone: &Server<Keystone>,
    key: &Path,
    interval: &str,
) -> Value {
    json!([{"kind": "blueflood", "name": "bf", "config": {
        "url": blueflood.url(), "tenant": "123", "prefix": "shop.web", "ttl": "24h", "interval": interval, "body_limit": "1MiB",
        "overwrite_collection_timestamp": false, "backoff": "100ms", "max_backoff": "1s",
        "keystone": {"url": format!("{}/v2.0/tokens", keystone.url()), "user": "alice", "key_file": key},
    }}])
}

/// Fails if the key is anywhere that somebody might look.
async fn assert_key_is_nowhere(agent: &Aggregator) -> Outcome {
    let pid = agent.program.pid().ok_or("it has ended")?;
    for file in ["cmdline", "environ"] {
        let text = std::fs::read(format!("/proc/{pid}/{file}"))?;
        assert!(!String::from_utf8_lossy(&text).contains(KEY), "{file}");
    }
    for path in [
        "/config",
        "/metrics",
        "/ready",
        "/",
        "/api/status",
        "/api/top",
    ] {
        let text = get(&agent.http, path).await?.text();
        assert!(!text.contains(KEY), "{path}");
    }
    let config = get(&agent.http, "/config").await?.text();
    assert!(
        config.contains("key_file") && config.contains("alice"),
        "{config}"
    );
    assert!(!agent.program.log().contains(KEY));
    Ok(())
}

#[tokio::test]
async fn what_waits_is_sent_at_sigterm_and_each_point_once() -> Outcome {
    let (blueflood, keystone) = cloud().await;
    let tier = Tier::new(Binaries::of(env!("CARGO_BIN_EXE_tributary")))?;
    let key = tier.directory().join("key");
    std::fs::write(&key, KEY)?;
    let mut agent = tier
        .agent("a")
        .with("metric_sinks", sinks(&blueflood, &keystone, &key, "1h"))
        .start()
        .await?;
    agent.send("orders:3|c|#env:prod\nload:0.5|g\norders:4|c|#env:prod")?;
    wait_for("the points to wait for the sink", async || {
        let metrics = get(&agent.http, "/metrics").await.ok()?.text();
        let selected = metrics.lines().find(|line| {
            line.starts_with("veneur_flushed_metrics") && line.contains("status=\"flushed\"")
        })?;
        selected.ends_with(" 2").then_some(())
    })
    .await?;
    assert!(blueflood.state().seen.is_empty(), "an hour is not over");
    assert!(agent.program.stop().await?.success());
    let state = blueflood.state();
    assert_eq!(state.counts(), (2, 0));
    assert_eq!(state.values["shop.web.orders.env.prod"], 7.0);
    assert_eq!(state.values["shop.web.load"], 0.5);
    assert_eq!(keystone.state().made, 1);
    assert!(!agent.program.log().contains(KEY));
    Ok(())
}

#[tokio::test]
async fn nothing_is_lost_while_either_is_away_and_the_key_is_nowhere_to_be_seen() -> Outcome {
    let (blueflood, keystone) = cloud().await;
    // One that repeats the key in its words, then one that is away.
    let careless = Fault::Answer(401, "", format!("no such key: {KEY}"));
    keystone
        .state()
        .faults
        .extend([careless, Fault::status(503)]);
    let faults = [
        Fault::status(503),
        Fault::Answer(429, "1", String::new()),
        Fault::status(401),
    ];
    blueflood.state().faults.extend(faults);
    let tier = Tier::new(Binaries::of(env!("CARGO_BIN_EXE_tributary")))?;
    let key = tier.directory().join("key");
    std::fs::write(&key, KEY)?;
    let mut agent = tier
        .agent("a")
        .with("metric_sinks", sinks(&blueflood, &keystone, &key, "0s"))
        .with("log_level", json!("trace"))
        .start()
        .await?;
    agent.send("orders:7|c")?;
    // Nothing else comes: it goes out by the sink's own clock.
    wait_for("the point", async || {
        (blueflood.state().stored.len() == 1).then_some(())
    })
    .await?;
    assert_eq!(blueflood.state().statuses(), [503, 429, 401, 200]);
    wait_for("it to be counted", async || {
        let metrics = get(&agent.http, "/metrics").await.ok()?.text();
        let wanted = [
            ("logins_total", "refused", 1),
            ("logins_total", "unavailable", 1),
            ("logins_total", "ok", 2),
            ("requests_total", "unavailable", 1),
            ("requests_total", "throttled", 1),
            ("requests_total", "unauthorized", 1),
            ("requests_total", "stored", 1),
        ];
        let counted = wanted.iter().all(|(name, outcome, count)| {
            metrics.lines().any(|line| {
                line.starts_with(&format!("veneur_sink_blueflood_{name}"))
                    && line.contains(&format!("outcome=\"{outcome}\""))
                    && line.ends_with(&format!(" {count}"))
            })
        });
        counted.then_some(())
    })
    .await?;
    assert_key_is_nowhere(&agent).await?;
    assert!(
        agent.program.log().contains("REDACTED"),
        "{}",
        agent.program.log()
    );
    assert!(agent.program.stop().await?.success());
    assert!(!agent.program.log().contains(KEY));
    assert_eq!(blueflood.state().counts(), (1, 0));
    assert_eq!(blueflood.state().values["shop.web.orders"], 7.0);
    Ok(())
}
