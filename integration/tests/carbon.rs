//! The sink `graphite` with Graphite's own daemons, which `integration/test` brings: what an agent flushes stands in whisper's files.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;
use tributary_integration::consul::fetched;
use tributary_integration::tier::{
    Aggregator, Binaries, Emitted, PATIENCE, Tier, free_address, get, post, wait_for,
};

type Outcome = Result<(), Box<dyn std::error::Error>>;

/// Prints every point of every file below a directory: `{"path": {"timestamp": value}}`.
const READ_WHISPER: &str = r#"
import json, os, sys, time, whisper
found = {}
for folder, _, files in os.walk(sys.argv[1]):
    for name in files:
        if not name.endswith(".wsp"):
            continue
        path = os.path.join(folder, name)
        try:
            (start, end, step), values = whisper.fetch(path, int(time.time()) - 3000, int(time.time()) + 60)
        except whisper.CorruptWhisperFile:
            continue  # It is just being made.
        key = os.path.relpath(path, sys.argv[1])[:-4].replace("/", ".")
        found[key] = {start + i * step: v for i, v in enumerate(values) if v is not None}
print(json.dumps(found))
"#;

/// carbon-cache or carbon-relay.
struct Carbon {
    /// `host:port` for lines.
    lines: String,
    /// `host:port` for pickle.
    pickle: String,
    script: String,
    child: Child,
    directory: TempDir,
}

impl Carbon {
    /// Keeps each second's value for an hour, and writes at once.
    async fn cache() -> io::Result<Self> {
        Self::start("carbon-cache.py", "cache", |ports| {
            format!(
                "MAX_CREATES_PER_MINUTE = inf\nMAX_UPDATES_PER_SECOND = inf\nENABLE_TAGS = False\nTAG_HASH_FILENAMES = False\nCARBON_METRIC_INTERVAL = 0\n\
                 CACHE_QUERY_INTERFACE = 127.0.0.1\nCACHE_QUERY_PORT = {}\n",
                port(ports)
            )
        })
        .await
    }

    /// Hashes to caches, which are instances `a`, `b`, ….
    async fn relay(caches: &[Self]) -> io::Result<Self> {
        let destinations = destinations(caches).join(", ");
        Self::start("carbon-relay.py", "relay", |_| {
            format!(
                "RELAY_METHOD = consistent-hashing\nDESTINATION_PROTOCOL = pickle\nDESTINATIONS = {destinations}\nCARBON_METRIC_INTERVAL = 0\n"
            )
        })
        .await
    }

    async fn start(script: &str, section: &str, more: impl Fn(&str) -> String) -> io::Result<Self> {
        let (lines, pickle, other) = (free_address()?, free_address()?, free_address()?);
        let directory = TempDir::new()?;
        let path = directory.path();
        fs::create_dir_all(path.join("conf"))?;
        fs::create_dir_all(path.join("storage/whisper"))?;
        fs::create_dir_all(path.join("storage/log"))?;
        let config = format!(
            "[{section}]\nLINE_RECEIVER_INTERFACE = 127.0.0.1\nLINE_RECEIVER_PORT = {}\nPICKLE_RECEIVER_INTERFACE = 127.0.0.1\n\
             PICKLE_RECEIVER_PORT = {}\n{}",
            port(&lines),
            port(&pickle),
            more(&other)
        );
        fs::write(path.join("conf/carbon.conf"), config)?;
        fs::write(
            path.join("conf/storage-schemas.conf"),
            "[all]\npattern = .*\nretentions = 1s:1h\n",
        )?;
        let child = spawn(script, path)?;
        let carbon = Self {
            lines,
            pickle,
            script: script.to_owned(),
            child,
            directory,
        };
        carbon.until_up().await?;
        Ok(carbon)
    }

    async fn until_up(&self) -> io::Result<()> {
        wait_for(&self.script, async || {
            let lines = tokio::net::TcpStream::connect(&self.lines).await;
            let pickle = tokio::net::TcpStream::connect(&self.pickle).await;
            (lines.is_ok() && pickle.is_ok()).then_some(())
        })
        .await
        .map_err(|error| io::Error::other(format!("{error}\n{}", self.log())))
    }

    /// Ends it at once, with its connections.
    fn stop(&mut self) -> io::Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Starts it on the same ports and files.
    async fn start_again(&mut self) -> io::Result<()> {
        // A killed one leaves it behind.
        let _ = fs::remove_file(self.directory.path().join("storage/carbon-cache-a.pid"));
        self.child = spawn(&self.script, self.directory.path())?;
        self.until_up().await
    }

    fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }

    /// All that is in its files, by path and second.
    fn stored(&self) -> io::Result<BTreeMap<String, BTreeMap<i64, f64>>> {
        let output = python()?
            .args(["-c", READ_WHISPER])
            .arg(self.directory.path().join("storage/whisper"))
            .stderr(Stdio::inherit())
            .output()?;
        let value: Value = serde_json::from_slice(&output.stdout)?;
        serde_json::from_value(value).map_err(io::Error::other)
    }
}

impl Drop for Carbon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Starts one of Graphite's daemons in its directory.
fn spawn(script: &str, path: &Path) -> io::Result<Child> {
    let log = fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(path.join("log"))?;
    python()?
        .arg(
            PathBuf::from(fetched("TEST_CARBON")?)
                .join("bin")
                .join(script),
        )
        .arg(format!(
            "--config={}",
            path.join("conf/carbon.conf").display()
        ))
        .args(["--nodaemon", "start"])
        .env("GRAPHITE_ROOT", path)
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
}

fn python() -> io::Result<Command> {
    let carbon = PathBuf::from(fetched("TEST_CARBON")?);
    let path = std::env::join_paths([carbon.clone(), carbon.join("opt/graphite/lib")]);
    let mut python = Command::new("python3");
    python
        .env("PYTHONPATH", path.map_err(io::Error::other)?)
        .stdin(Stdio::null());
    Ok(python)
}

fn port(address: &str) -> &str {
    address.rsplit(':').next().unwrap_or_default()
}

/// As carbon's configuration and ours name them.
fn destinations(caches: &[Carbon]) -> Vec<String> {
    let instances = caches.iter().zip('a'..);
    instances
        .map(|(cache, instance)| format!("{}:{instance}", cache.pickle))
        .collect()
}

/// An agent that writes to a file and to Graphite.
async fn agent(tier: &Tier, name: &str, config: Value) -> io::Result<Aggregator> {
    let path = tier.directory().join(format!("{name}.jsonl"));
    let sinks = json!([
        {"kind": "localfile", "name": "file", "config": {"path": path}},
        {"kind": "graphite", "name": "g", "config": config},
    ]);
    tier.agent(name).with("metric_sinks", sinks).start().await
}

/// Sends gauges for some seconds, and gives what was flushed of them in the end.
async fn send(agents: &[&Aggregator], series: usize, tags: &str) -> io::Result<Vec<Emitted>> {
    for round in 0..3 {
        for agent in agents {
            let before = agent.emitted()?.len();
            for number in 0..series {
                let value = round as f64 * 1000.0 + number as f64 + 0.125;
                agent.send(&format!("e2e.web{number}.cpu:{value}|g{tags}"))?;
            }
            wait_for("a flush", async || {
                (agent.emitted().ok()?.len() >= before + series).then_some(())
            })
            .await?;
        }
    }
    let emitted = agents.iter().map(|agent| agent.emitted());
    let emitted: Vec<_> = emitted.collect::<io::Result<_>>()?;
    let emitted = emitted.into_iter().flatten();
    Ok(emitted
        .filter(|point| point.name.starts_with("e2e."))
        .collect())
}

/// Waits until files hold each point, and returns what they hold.
async fn until_stored(
    caches: &[Carbon],
    points: &[Emitted],
) -> io::Result<Vec<BTreeMap<String, BTreeMap<i64, f64>>>> {
    let mut missing = None;
    let stored = wait_for("the points in whisper's files", async || {
        let stored: Vec<_> = caches
            .iter()
            .map(Carbon::stored)
            .collect::<io::Result<_>>()
            .ok()?;
        missing = points.iter().find(|point| {
            let value = |files: &BTreeMap<String, BTreeMap<i64, f64>>| {
                files.get(&point.name)?.get(&point.timestamp).copied()
            };
            !stored.iter().any(|files| value(files) == Some(point.value))
        });
        missing.is_none().then_some(stored)
    });
    let result = stored.await;
    result.map_err(|error| {
        let logs: Vec<_> = caches.iter().map(Carbon::log).collect();
        io::Error::other(format!(
            "{error}: {missing:?} is missing after {PATIENCE:?}\n{}",
            logs.join("\n")
        ))
    })
}

fn binaries() -> Binaries {
    Binaries::of(env!("CARGO_BIN_EXE_tributary"))
}

#[tokio::test]
#[cfg_attr(
    not(feature = "servers"),
    ignore = "needs carbon: run integration/test"
)]
async fn carbon_cache_stores_each_point_from_pickle_and_from_lines() -> Outcome {
    let tier = Tier::new(binaries())?;
    for protocol in ["pickle", "line"] {
        let cache = [Carbon::cache().await?];
        let address = match protocol {
            "line" => &cache[0].lines,
            _ => &cache[0].pickle,
        };
        let config =
            json!({"protocol": protocol, "destinations": [address], "max_frame_points": 7});
        let agent = agent(&tier, protocol, config).await?;
        let points = send(&[&agent], 40, "").await?;
        assert!(points.len() >= 120, "{}", points.len());
        until_stored(&cache, &points).await?;
    }
    Ok(())
}

#[tokio::test]
#[cfg_attr(
    not(feature = "servers"),
    ignore = "needs carbon: run integration/test"
)]
async fn each_series_goes_to_the_same_cache_by_carbons_relay_and_by_ours() -> Outcome {
    let tier = Tier::new(binaries())?;
    let caches = [
        Carbon::cache().await?,
        Carbon::cache().await?,
        Carbon::cache().await?,
    ];
    let relay = Carbon::relay(&caches).await?;
    let by_relay = agent(&tier, "relayed", json!({"destinations": [relay.pickle]})).await?;
    let ours = json!({"destinations": destinations(&caches)});
    let by_us = agent(&tier, "ours", ours).await?;
    let points = send(&[&by_relay, &by_us], 60, "").await?;
    let stored = until_stored(&caches, &points).await?;
    let names: BTreeSet<_> = points.iter().map(|point| point.name.as_str()).collect();
    assert_eq!(names.len(), 60);
    for name in names {
        let owners = stored.iter().filter(|files| files.contains_key(name));
        assert_eq!(
            owners.count(),
            1,
            "{name} is in the files of several caches"
        );
    }
    for files in stored {
        let own = files.keys().filter(|name| name.starts_with("e2e."));
        assert!(own.count() >= 5, "a cache has next to nothing");
    }
    Ok(())
}

#[tokio::test]
#[cfg_attr(
    not(feature = "servers"),
    ignore = "needs carbon: run integration/test"
)]
async fn carbon_takes_tags_for_tags() -> Outcome {
    let tier = Tier::new(binaries())?;
    let cache = Carbon::cache().await?;
    let agent = agent(&tier, "tagged", json!({"destinations": [cache.pickle]})).await?;
    send(&[&agent], 2, "|#env:prod,az:b").await?;
    // Carbon spreads tagged series over folders by a hash, and writes dots of the name as _DOT_.
    let expected = "e2e_DOT_web1_DOT_cpu;az=b;env=prod";
    wait_for("a tagged series", async || {
        let stored = cache.stored().ok()?;
        let mut names = stored.keys();
        names
            .any(|name| name.starts_with("_tagged.") && name.ends_with(expected))
            .then_some(())
    })
    .await
    .map_err(|error| {
        format!(
            "{error}: {:?}",
            cache
                .stored()
                .map(|files| files.into_keys().collect::<Vec<_>>())
        )
    })?;
    Ok(())
}

#[tokio::test]
#[cfg_attr(
    not(feature = "servers"),
    ignore = "needs carbon: run integration/test"
)]
async fn what_flux_takes_while_carbon_is_away_is_stored_when_it_is_back() -> Outcome {
    const KEY: &str = "0123456789abcdefghijklmnopqrstuv";
    const SERIES: usize = 1_500;
    let tier = Tier::new(binaries())?;
    let mut cache = [Carbon::cache().await?];
    let address = free_address()?;
    let flux = json!({
        "address": address, "self_api_key": KEY, "self_metrics_prefix": "", "state_dir": tier.directory().join("state"),
    });
    let graphite =
        json!({"protocol": "pickle", "destinations": [cache[0].pickle], "max_frame_points": 480});
    let sinks =
        json!([{"kind": "graphite", "name": "g", "config": graphite, "queue_points": 100_000}]);
    let agent = tier
        .agent("a")
        .with("sources", json!([{"kind": "flux", "config": flux}]))
        .with("metric_sinks", sinks)
        .start()
        .await?;
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?;
    let first = i64::try_from(now.as_secs())? - 100;
    let mut points = Vec::new();
    for round in 0..6 {
        match round {
            2 => {
                cache[0].stop()?;
            }
            4 => cache[0].start_again().await?,
            _ => {}
        }
        let seconds = first + round;
        let metric = |number: usize| {
            let (name, value) = (
                format!("e2e.flux.s{number}"),
                round as f64 + number as f64 / 8.0,
            );
            (name, value)
        };
        let metrics: Vec<_> = (0..SERIES).map(metric).collect();
        let posted: Vec<_> = metrics
            .iter()
            .map(|(name, value)| json!({"metric": name, "timestamp": seconds, "value": value}))
            .collect();
        let body = json!({"key": KEY, "metrics": posted}).to_string();
        let answer = post(&address, "/metric_data_post", &[], body.into()).await?;
        assert_eq!(answer.status.as_u16(), 204, "{}", answer.text());
        for (name, value) in metrics {
            points.push((name, seconds, value));
        }
        if round == 1 {
            // What carbon has taken and not written when it ends is its own to lose.
            until_all(&cache[0], &points).await?;
        }
    }
    until_all(&cache[0], &points).await?;
    let metrics = get(&agent.http, "/metrics").await?.text();
    let dropped = |line: &&str| {
        line.starts_with("veneur_sink_metrics_dropped_total")
            || line.starts_with("veneur_sink_destination_points_dropped_total")
    };
    let dropped: Vec<_> = metrics
        .lines()
        .filter(dropped)
        .filter(|line| !line.ends_with(" 0"))
        .collect();
    assert!(dropped.is_empty(), "{dropped:?}");
    Ok(())
}

/// Waits until each point stands in a cache's files.
async fn until_all(cache: &Carbon, points: &[(String, i64, f64)]) -> io::Result<()> {
    let mut missing = Vec::new();
    let all = wait_for("all points in whisper's files", async || {
        let stored = cache.stored().ok()?;
        let is_there = |(name, seconds, value): &&(String, i64, f64)| {
            stored.get(name).and_then(|values| values.get(seconds)) == Some(value)
        };
        missing = points.iter().filter(|point| !is_there(point)).collect();
        missing.is_empty().then_some(())
    });
    all.await.map_err(|error| {
        io::Error::other(format!(
            "{error}: {} of {} are missing, such as {:?}\n{}",
            missing.len(),
            points.len(),
            missing.first(),
            cache.log()
        ))
    })
}
